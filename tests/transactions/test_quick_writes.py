"""Changes of single rows and ends of blocks by the shortest way, beside the same planned in full.

The first node answers as it does; on the second one every statement goes the long way. Each has a
table of its own of the same rows, and both must tell every client the same: descriptions, rows,
tags, notices and errors, and have the same rows in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from wire_messages import answers, bind, message
from worlds import World, in_world

from executor.point_writes import PointWrites
from executor.quick_statements import BlockPlan, QuickStatements

pytestmark = pytest.mark.slow

Answer = tuple[Any, ...]
Connection = psycopg.AsyncConnection[Any]

LONG_WAY = 2


class Quick:
    """Counts what goes the quick way, of which there is none on the second node."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.writes = 0
        self.blocks = 0
        plan_of, plan_of_text = QuickStatements.plan_of, QuickStatements.plan_of_text
        run, answer = QuickStatements.run, PointWrites.answer
        run_now = QuickStatements.run_now

        def some_plan(way: Any, prepared: Any) -> Any:
            long = way._session.services.node_id == LONG_WAY
            return None if long else plan_of(way, prepared)

        def some_text(way: Any, sql: str) -> Any:
            long = way._session.services.node_id == LONG_WAY
            return None if long else plan_of_text(way, sql)

        async def some_answer(writes: Any, *given: Any) -> Any:
            long = writes._services.node_id == LONG_WAY
            return None if long else await answer(writes, *given)

        async def counted(way: Any, plan: Any, values: Any) -> Any:
            found = await run(way, plan, values)
            self.blocks += found is not None and isinstance(plan, BlockPlan)
            self.writes += found is not None and hasattr(plan, "returning")
            return found

        def counted_now(way: Any, plan: Any, values: Any, then: Any) -> Any:
            found = run_now(way, plan, values, then)
            self.blocks += not isinstance(found, bool) and isinstance(plan, BlockPlan)
            return found

        patch.setattr(QuickStatements, "plan_of", some_plan)
        patch.setattr(QuickStatements, "plan_of_text", some_text)
        patch.setattr(QuickStatements, "run", counted)
        patch.setattr(QuickStatements, "run_now", counted_now)
        patch.setattr(PointWrites, "answer", some_answer)


async def answer(connection: Connection, sql: str, how: dict[str, Any]) -> Answer:
    notices: list[tuple[str | None, str | None]] = []
    connection.add_notice_handler(lambda n: notices.append((n.sqlstate, n.message_primary)))
    status: Any
    try:
        async with connection.cursor() as cursor:
            await cursor.execute(sql.encode(), **how)
            result = cursor.pgresult
            assert result is not None
            described = [
                (result.fname(i), result.ftype(i), result.fmod(i)) for i in range(result.nfields)
            ]
            rows = [
                [result.get_value(r, c) for c in range(result.nfields)]
                for r in range(result.ntuples)
            ]
            found: Answer = (described, rows, result.command_status)
    except psycopg.Error as error:
        diag = error.diag
        # The long way does not say by how much a number is too large.
        detail = None if error.sqlstate == "22003" else diag.message_detail
        found = (error.sqlstate, diag.message_primary, detail, diag.statement_position)
    finally:
        status = connection.info.transaction_status
        connection._notice_handlers.clear()
    return *found, status, notices


class Two:
    """A quick and a slow connection, each with a table of its own for `{t}`."""

    def __init__(self, quick: Connection, slow: Connection) -> None:
        self.quick, self.slow = quick, slow

    async def same(self, sql: str, **how: Any) -> Answer:
        """Runs it on both; the answer, which must be the same."""
        found = [
            await answer(connection, sql.replace("{t}", table), how)
            for connection, table in ((self.quick, "ta"), (self.slow, "tb"))
        ]
        told = [repr(one).replace("tb", "ta") for one in found]
        assert told[0] == told[1], (sql, how)
        return found[0]

    async def tables_are_equal(self) -> None:
        await self.same("SELECT * FROM {t} ORDER BY k")


def in_two(path: Path, test: Callable[[World, Two], Awaitable[None]]) -> None:
    @contextlib.asynccontextmanager
    async def two(world: World) -> AsyncIterator[Two]:
        urls = [f"postgresql://dqe@{node.pg_address}/dqe" for node in world.nodes]
        async with (
            await psycopg.AsyncConnection.connect(urls[0], autocommit=True) as quick,
            await psycopg.AsyncConnection.connect(urls[1], autocommit=True) as slow,
        ):
            yield Two(quick, slow)

    async def run(world: World) -> None:
        async with two(world) as clients:
            await test(world, clients)

    in_world(path, run, count=2)


COLUMNS = {
    "s": "int2",
    "i": "int4 DEFAULT 7 CHECK (i <> 13)",
    "b": "int8",
    "t": "text",
    "v": "varchar(5)",
    "c": "char(4)",
    "n": "numeric(10,2)",
    "m": "numeric",
    "f": "float8",
    "o": "bool NOT NULL DEFAULT true",
    "d": "date",
    "z": "timestamptz",
    "u": "uuid",
}
LITERALS = (
    *("5", "-5", "- 5", "+5", "007", "13", "0", "32768", "2147483647", "-2147483648"),
    *("2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775808"),
    *("1.5", "-1.50", "0.005", "99999999.99", "999999999.99", "1e3", ".5", "2.", "1.0"),
    *("'5'", "' 5 '", "'-5'", "'abc'", "'abcdef'", "'abcde  '", "''", "'it''s'", "''''"),
    *("'1.005'", "'1e2'", "'NaN'", "'x5'", "E'a\\nb'", "E'it\\'s'", "$$5$$", "U&'\\0031'"),
    *("NULL", "DEFAULT", "true", "'t'", "'yes'", "'2024-02-29'", "'2024-02-30'", "'ä'"),
    *("date '2024-02-29'", "'2020-01-01 12:00+02'", "'2020-01-01'", "'infinity'"),
    "'0e984725-c51c-4bf4-9960-e1c80e27aba0'",
    *("5::text", "'5'::int", "'abc'::varchar(2)", "cast('7' as int2)", "'1.25'::numeric(5,1)"),
    *("-(5)", "5 - -5", "2 * 3 + 1", "32767 + 1", "1/0", "5 / 2", "5.0 * 2.50", "5 % 3"),
    *("upper('x')", "length('abc')", "coalesce(NULL, 3)", "'a' || 'b'", "'a' || 5", "5 -- x"),
    *("(5)", "nullif(5, 5)", "'5' = 5", "1 < 2", "'a' < 'b'", "/* 5 */ 6", "greatest(1, 2.5)"),
)
OF_THE_ROW = {
    "s": ("s + 1", "-s", "s * 2", "s + 32767"),
    "i": ("i + -5", "i - 2147483647", "i * 2.5", "i + '1'", "i % 4", "i / 0", "k + 3000000000"),
    "b": ("b + 1", "b - 5000000000", "b * 1.5", "i", "abs(b)"),
    "t": ("t || 'x'", "'x' || t", "t || 5", "lower(t)", "v", "5"),
    "v": ("v || 'abcde'", "t", "coalesce(v, 'y')"),
    "c": ("c || 'x'", "'ab'", "c"),
    "n": ("n + 1.005", "n * 3", "n - '2.5'", "n + 12345678.9", "-n", "i", "n * 1.25"),
    "m": ("m + 1", "m * 2.5", "n"),
    "f": ("f * 2", "f + 0.1", "f / 3", "n"),
    "o": (
        "now() > z",
        "i > 5",
        "t = 'x'",
        "n < 1.5",
        "i IN (1, 2)",
        "i BETWEEN 1 AND 9",
        "t LIKE 'a%'",
    ),
    "d": ("d", "NULL"),
    "z": ("z", "NULL"),
    "u": ("u",),
}
KEYS = ("k = 1", "k = 2", "k='3'", "2 = k", "(k = 1)", "k = -4", "{t}.k = 1", "k = 1.0", "k = 99")
MORE = (
    *("", "", " AND i > 5", " AND t = 'x'", " AND n < 100.5", " AND c = 'ab'", " AND o"),
    *(" AND d > '2020-01-01'", " AND i IN (7, 8)", " OR k = 2", " AND nothing = 5"),
)


async def make(world: World, clients: Two) -> None:
    (owner,) = await world.clients(1)
    for table in ("ta", "tb"):
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        await owner.ask(f"CREATE TABLE {table} (k int PRIMARY KEY, {columns})")
        for k in (1, 2, 3, -4):
            await owner.ask(
                f"INSERT INTO {table} VALUES ({k}, {k}, {k * 7}, {k * 5}, 'x', 'vier', 'ab',"
                f" {k}.25, {k}.5, 1.5, true, '2024-02-29', '2020-01-01 12:00+02', NULL)"
            )


def test_literals_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World, clients: Two) -> None:
        await make(world, clients)
        quick, dice = Quick(monkeypatch), random.Random(5)

        async def update(column: str, value: str, where: str) -> None:
            await clients.same(f"UPDATE {{t}} SET {column} = {value} WHERE {where}")

        for literal in LITERALS:
            for column in dice.sample(list(COLUMNS), 2):
                await update(column, literal, dice.choice(KEYS[:3]))
        for column, values in OF_THE_ROW.items():
            for value in values:
                await update(column, value, dice.choice(KEYS) + dice.choice(MORE))
        await clients.tables_are_equal()
        assert quick.writes > 60

    in_two(tmp_path, test)


def test_rows_that_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World, clients: Two) -> None:
        await make(world, clients)
        quick, dice = Quick(monkeypatch), random.Random(6)
        for number in range(70):
            columns = dice.sample(list(COLUMNS), 2)
            values = [dice.choice(LITERALS) for _ in columns]
            insert = f"INSERT INTO {{t}} (k, {', '.join(columns)}) VALUES"
            row = f"({number % 9 - 4}, {', '.join(values)})"
            conflict = dice.choice(
                (
                    *("", "", " ON CONFLICT DO NOTHING"),
                    f" ON CONFLICT (k) DO UPDATE SET i = {number}, t = excluded.t || '!'",
                )
            )
            shown = dice.choice(("", "", " RETURNING k, i + 1 AS j", " RETURNING k, 5 AS five"))
            await clients.same(f"{insert} {row}{conflict}{shown}")
            await clients.same(f"DELETE FROM {{t}} WHERE k = {dice.randrange(-4, 5)}{shown};")
        await clients.tables_are_equal()
        assert quick.writes > 30

    in_two(tmp_path, test)


def test_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World, clients: Two) -> None:
        await make(world, clients)
        quick = Quick(monkeypatch)
        same = clients.same
        for begin, end in (
            *(("BEGIN", "COMMIT"), ("begin;", "END;"), ("START TRANSACTION", "ROLLBACK")),
            *(("Begin Work ;", "commit transaction"), ("begin", "ABORT"), ("BEGIN", "end work")),
        ):
            await same(begin)
            await same("UPDATE {t} SET i = i + 1, t = 'b' WHERE k = 1")
            await same("SELECT i, v, c FROM {t} WHERE k = 1 FOR UPDATE")
            await same("SELECT i, t, n FROM {t} WHERE k = 1")
            await same("SELECT i, t, n FROM {t} WHERE k = 3")
            await same("INSERT INTO {t} (k, t) VALUES (8, 'it''s') RETURNING *")
            await same("DELETE FROM {t} WHERE k = 8 AND t = 'it''s'")
            await same("UPDATE {t} SET n = %s, t = %s WHERE k = %s", params=["1.5", "p", 2])
            await same("SELECT i, c FROM {t} WHERE k = %s FOR UPDATE", params=[2], prepare=True)
            await same(end)
            await clients.tables_are_equal()
        assert quick.blocks == 12
        assert quick.writes >= 6 * 5
        # Words that mean more, or are told of by a notice.
        for text in ("COMMIT", "ROLLBACK", "BEGIN", "BEGIN", "COMMIT AND CHAIN", "ABORT", "END"):
            await same(text)
        await same("BEGIN READ ONLY")
        await same("UPDATE {t} SET i = 1 WHERE k = 1")
        await same("ROLLBACK")
        await same("BEGIN")
        await same("UPDATE {t} SET i = 13 WHERE k = 1")
        await same("UPDATE {t} SET i = 1 WHERE k = 1")
        await same("COMMIT")
        await same("BEGIN; UPDATE {t} SET i = 50 WHERE k = 1; COMMIT")
        await same("UPDATE {t} SET i = 60 WHERE k = 1; UPDATE {t} SET i = 13 WHERE k = 2")
        await same("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await same("UPDATE {t} SET i = 70 WHERE k = 1")
        await same("COMMIT")
        await same("SET default_transaction_read_only = on")
        await same("UPDATE {t} SET i = 1 WHERE k = 1")
        await same("SET default_transaction_read_only = off")
        await same("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        await same("UPDATE {t} SET i = 71 WHERE k = 1")
        await same("RESET default_transaction_isolation")
        await same("BEGIN")
        await same("SET LOCAL timezone = 'America/New_York'")
        await same("UPDATE {t} SET z = '2020-01-01 12:00' WHERE k = 1")
        await same("COMMIT")
        await same("UPDATE {t} SET z = '2020-01-01 12:00' WHERE k = 2")
        await clients.tables_are_equal()

    in_two(tmp_path, test)


def test_a_shape_whose_table_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World, clients: Two) -> None:
        await make(world, clients)
        quick = Quick(monkeypatch)
        (owner,) = await world.clients(1)
        change = "UPDATE {t} SET i = 5.5 WHERE k = 1"
        for alter in (
            *("ALTER TABLE {t} ADD COLUMN w int GENERATED ALWAYS AS (i * 2) STORED",),
            *("ALTER TABLE {t} DROP COLUMN w", "ALTER TABLE {t} ALTER COLUMN i TYPE numeric(8,1)"),
            *("ALTER TABLE {t} DROP COLUMN n", "DROP TABLE {t}"),
        ):
            await clients.same(change)
            for table in ("ta", "tb"):
                await owner.ask(alter.replace("{t}", table))
            await clients.same(change)
            if not alter.startswith("DROP"):
                await clients.tables_are_equal()
        assert quick.writes >= 4

    in_two(tmp_path, test)


def test_a_name_means_each_user_s_own_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World, _: Two) -> None:
        (owner,) = await world.clients(1)
        quick, users = Quick(monkeypatch), ("anna", "bert", "carl")
        for schema in (*users[:2], "public"):
            if schema != "public":
                await owner.ask(f"CREATE SCHEMA {schema}")
            await owner.ask(f"CREATE TABLE {schema}.own (k int PRIMARY KEY, v int)")
            await owner.ask(f"INSERT INTO {schema}.own VALUES (1, 0)")
        address = world.nodes[0].pg_address
        for turn in (1, 2):
            for place, user in enumerate(users, 1):
                url = f"postgresql://{user}@{address}/dqe"
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as client:
                    change = b"UPDATE own SET v = v + %d WHERE k = 1"
                    await client.execute(change % place)
                    await client.execute(b"UPDATE own SET v = v + %s WHERE k = 1", [place * 10])
                    shown = await client.execute(b"SELECT v FROM own WHERE k = 1")
                    assert await shown.fetchall() == [(turn * place * 11,)]
                    if turn == 2:
                        await client.execute(
                            b"CREATE TEMPORARY TABLE own (k int PRIMARY KEY, v int)"
                        )
                        await client.execute(b"INSERT INTO own VALUES (1, 5)")
                        await client.execute(change % place)
                        shown = await client.execute(b"SELECT v FROM own WHERE k = 1")
                        assert await shown.fetchall() == [(5 + place,)]
        assert quick.writes >= 12

    in_two(tmp_path, test)


@pytest.mark.parametrize("prepare", [False, True], ids=["simple", "prepared"])
def test_one_that_waits_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: bool
) -> None:
    how: dict[str, Any] = {"params": [5], "prepare": True} if prepare else {}
    sql = "UPDATE ta SET i = " + ("%s" if prepare else "5") + " WHERE k = 1"

    async def test(world: World, clients: Two) -> None:
        await make(world, clients)
        quick = Quick(monkeypatch)
        (holder,) = await world.clients(1)
        connection = clients.quick
        for _ in range(3):
            await holder.ask("BEGIN")
            await holder.ask("UPDATE ta SET i = 1 WHERE k = 1")
            await connection.execute(b"BEGIN")
            waiting = asyncio.ensure_future(answer(connection, sql, how))
            while not await holder.ask("SELECT 1 FROM dqe.locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
            await connection.cancel_safe()
            found = await waiting
            assert found[:2] == ("57014", "canceling statement due to user request")
            assert found[-2] == TransactionStatus.INERROR
            await connection.execute(b"ROLLBACK")
            await holder.ask("COMMIT")
            assert (await answer(connection, sql, how))[2] == b"UPDATE 1"
        await connection.execute(b"SET lock_timeout = '10ms'")
        await holder.ask("BEGIN")
        await holder.ask("UPDATE ta SET i = 1 WHERE k = 1")
        assert (await answer(connection, sql, how))[0] == "55P03"
        await holder.ask("ROLLBACK")
        assert (await answer(connection, sql, how))[2] == b"UPDATE 1"
        assert quick.writes >= 4

    in_two(tmp_path, test)


def test_messages_in_any_company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of both nodes are the same however the messages of a statement come."""

    async def test(world: World, clients: Two) -> None:
        await make(world, clients)
        quick = Quick(monkeypatch)
        found = [
            await answers(node.pg_address, streams_for(table), size)
            for size in (1 << 20, 7)
            for node, table in zip(world.nodes, (b"ta", b"tb"), strict=True)
        ]
        for number, stream in enumerate(streams_for(b"ta")):
            told = [one[number].replace(b"tb", b"ta") for one in found]
            assert told[0] == told[1], stream
            assert told[2] == told[3], stream
        await clients.tables_are_equal()
        assert quick.writes >= 20
        assert quick.blocks >= 8

    in_two(tmp_path, test)


def streams_for(table: bytes) -> list[bytes]:
    change = b"UPDATE " + table + b" SET i = i + $1 WHERE k = $2"
    begin, commit = message("P", b"b\0BEGIN\0\0\0"), message("P", b"c\0COMMIT\0\0\0")
    named = [
        message("P", name + b"\0" + change + more + b"\0\0\0")
        for name, more in ((b"s", b""), (b"r", b" RETURNING i, t"))
    ]
    divide = b"UPDATE " + table + b" SET i = i * 9 / $1 WHERE k = $2"
    unnamed = message("P", b"\0" + divide + b"\0\0\0")
    execute, sync, describe = message("E", b"\0\0\0\0\0"), message("S", b""), message("D", b"P\0")
    once = bind("s", "1", "2") + describe + execute + sync
    fails = bind("", "0", "1") + describe + execute + sync
    return [
        named[0] + named[1] + begin + commit + sync,
        once,
        once * 3,
        bind("r", "1", "2") + describe + execute + sync,
        bind("r", "1", "2", results=b"\0\1\0\1") + describe + execute + sync,
        bind("r", "1", "99") + describe + execute + sync,
        bind("s", "1", "2", results=b"\0\1\0\1") + describe + execute + sync,
        bind("s", "1", "2", results=b"\0\2\0\1\0\1") + execute + sync,
        bind("s", "1", "2") + execute + execute + sync,
        bind("s", "1", "2") + execute + bind("s", "1", "3") + execute + sync,
        bind("s", "1", "2") + execute + bind("s", "x", "3") + execute + sync,
        bind("s", "1", "2") + execute + bind("gone", "1", "3") + execute + sync,
        bind("r", "1", "2") + message("E", b"\0\0\0\0\1") + execute + sync,
        bind("s", "1") + execute + sync + bind("s", None, "2") + execute + sync,
        bind("s", "3000000000", "2") + execute + sync + bind("s", " 1 ", "2") + execute + sync,
        unnamed + bind("", "9", "2") + describe + execute + sync,
        unnamed + bind("", "9", "2") + describe + execute + sync,
        message("P", b"\0SELECT 1\0\0\0") + sync,
        # Once it is known its failure leaves it the unnamed statement, as Parse had made it.
        unnamed + fails + bind("", "9", "2") + execute + sync,
        bind("b") + execute + sync + once + bind("r", "1", "3") + execute + sync,
        unnamed + fails + once + bind("c") + describe + execute + sync,
        bind("b") + execute + sync + once + bind("c") + execute + sync + bind("c") + execute + sync,
        bind("b") + execute + bind("s", "1", "2") + execute + bind("c") + execute + sync,
        bind("b") + execute + once + bind("c") + execute + sync,
        message("Q", b"begin;\0") + once + message("Q", b"END;\0") + message("Q", b"END\0") + once,
        message("Q", b"UPDATE " + table + b" SET i = 13, v = 'x' WHERE k = 1\0") + once,
        message("Q", b"UPDATE " + table + b" SET v = 'toolong' WHERE k = 1;\0") + once,
    ]
