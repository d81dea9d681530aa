"""Reads of one row by key by the shortest way, beside the same statements planned in full.

The first node answers as it does; on the second one no statement is taken for a read by key.
Both must give every client the same: rows, columns, tags and errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import ExecStatus
from wire_messages import answers, bind, message, opened, until_ready
from worlds import World, in_world

from catalog.point_reads import PointReads
from executor.quick_reads import QuickReads
from storage.tablet import Tablet

pytestmark = pytest.mark.slow

Answer = tuple[Any, ...]


class Counted:
    """How many statements went the quick way."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        rows, rows_now = QuickReads.rows, QuickReads.rows_now

        def counted_now(reads: QuickReads, plan: Any, values: Any, catalog: Any, then: Any) -> Any:
            def counted_then(found: Any) -> None:
                self.count += isinstance(found, list)
                then(found)

            found = rows_now(reads, plan, values, catalog, counted_then)
            self.count += isinstance(found, list)
            return found

        async def counted(reads: QuickReads, plan: Any, values: Any, catalog: Any) -> Any:
            found = await rows(reads, plan, values, catalog)
            self.count += found is not None
            return found

        patch.setattr(QuickReads, "rows", counted)
        patch.setattr(QuickReads, "rows_now", counted_now)


class Two:
    """A quick and a slow connection."""

    def __init__(self, quick: psycopg.AsyncConnection[Any], slow: Any) -> None:
        self.quick, self.slow = quick, slow

    async def same(self, sql: str, values: Sequence[Any] | None = None, **how: Any) -> Answer:
        """Runs it on both; the answer, which must be the same."""
        found = [await answer(c, sql, values, **how) for c in (self.quick, self.slow)]
        assert found[0] == found[1], (sql, values, how)
        return found[0]

    async def both(self, sql: str) -> None:
        for connection in (self.quick, self.slow):
            await connection.execute(sql.encode())


async def answer(
    connection: psycopg.AsyncConnection[Any],
    sql: str,
    values: Sequence[Any] | None = None,
    *,
    prepare: bool | None = None,
    binary: bool = False,
) -> Answer:
    try:
        async with connection.cursor(binary=binary) as cursor:
            await cursor.execute(sql.encode(), values, prepare=prepare, binary=binary)
            result = cursor.pgresult
            assert result is not None
            assert result.status == ExecStatus.TUPLES_OK
            described = [
                (result.fname(i), result.ftype(i), result.fmod(i), result.fformat(i))
                for i in range(result.nfields)
            ]
            rows = [
                [result.get_value(r, c) for c in range(result.nfields)]
                for r in range(result.ntuples)
            ]
            if " IN (" in sql:  # in no order
                rows.sort(key=repr)
            return described, rows, result.command_status
    except psycopg.Error as error:
        return (error.sqlstate, str(error))


@contextlib.asynccontextmanager
async def two(world: World) -> AsyncIterator[Two]:
    slow = world.nodes[1].parts.coordinator.points

    async def never(*_: Any) -> None:
        return None

    slow.answer = never  # type: ignore[method-assign]
    slow.described = lambda *_: None  # type: ignore[method-assign]
    slow.plans.of_tree = lambda *_: None  # type: ignore[method-assign]
    slow.plans.of_shape = lambda *_: None  # type: ignore[method-assign]
    urls = [f"postgresql://dqe@{node.pg_address}/dqe" for node in world.nodes]
    async with (
        await psycopg.AsyncConnection.connect(urls[0], autocommit=True) as quick_one,
        await psycopg.AsyncConnection.connect(urls[1], autocommit=True) as slow_one,
    ):
        yield Two(quick_one, slow_one)


def in_two(path: Path, test: Callable[[World, Two], Awaitable[None]]) -> None:
    async def run(world: World) -> None:
        async with two(world) as clients:
            await test(world, clients)

    in_world(path, run, count=2)


COLUMNS = (
    "s int2, i int4, b int8, t text, v varchar(5), c char(4), n numeric(10,2), f float8, o bool,"
    " d date, ts timestamptz, u uuid, j json, y bytea"
)
VALUES = (
    "-7, 2147483647, -9223372036854775808, 'it''s', 'vier', 'ab', -0.50, 'NaN', true,"
    " '2024-02-29', '2020-01-01 12:00+02', '0e984725-c51c-4bf4-9960-e1c80e27aba0', '[1]', '\\x00ff'"
)
NULLS = ", ".join(["NULL"] * 14)
TABLES = {
    "whole": ("k int PRIMARY KEY", "USING row", ["1", "2", "-3"]),
    "small": ("k int2 PRIMARY KEY", "USING hybrid", ["1", "2", "-3"]),
    "large": ("k int8 PRIMARY KEY", "USING row", ["1", "2", "9223372036854775807"]),
    "word": ("k text PRIMARY KEY", "USING row", ["'1'", "'2'", "'it''s'", "''", "'ä'"]),
    "short": ("k varchar(3) PRIMARY KEY", "USING hybrid", ["'1'", "'2'", "'abc'"]),
    "unique_id": (
        "k uuid PRIMARY KEY",
        "USING row",
        ["'0e984725-c51c-4bf4-9960-e1c80e27aba0'"],
    ),
    "ranged": (
        "k int PRIMARY KEY",
        "PARTITION BY RANGE (k) (PARTITION a VALUES FROM (MINVALUE) TO (2),"
        " PARTITION b VALUES FROM (2) TO (10)) USING row",
        ["1", "2", "-3"],
    ),
    "padded": ("k char(3) PRIMARY KEY", "USING row", ["'1'", "'2'", "'abc'"]),
}
LITERALS = (
    "1 2 -3 - 3 +1 007 1.0 1. 1e0 32768 2147483648 9223372036854775807 9223372036854775808 '1' '2'"
    " ' 1 ' '1.0' 'abc' 'abcd' 'abc ' '' 'it''s' E'1' E'it\\'s' $$1$$ NULL true 'ä' U&'\\0031'"
    " '0e984725-c51c-4bf4-9960-e1c80e27aba0' '0E984725C51C4BF49960E1C80E27ABA0' 1::int2 '1'::text"
    " (1) 1+1 date'2024-02-29' '1'\n'' "
).replace("- 3", "-\u00a03")
PARAMETERS: tuple[Any, ...] = (
    1,
    2,
    -3,
    40_000,
    2**31,
    2**63 - 1,
    2**63,
    Decimal("1.0"),
    Decimal("1.5"),
    1.0,
    "1",
    " 1 ",
    "abc",
    "abcd",
    "it's",
    "",
    "ä",
    None,
    True,
    UUID("0e984725-c51c-4bf4-9960-e1c80e27aba0"),
    "0e984725-c51c-4bf4-9960-e1c80e27aba0",
    b"1",
)
SHAPES = (
    "SELECT i FROM {t} WHERE k = {v}",
    "select k,I , b from {t} where k={v};",
    "SELECT t AS nm, n, c, o, f FROM public.{t} AS x WHERE x.k = {v}",
    "SELECT s, k, v, u FROM {t} WHERE\n ({v} = k) ",
)
COMPUTED = (
    "SELECT i - 1, n * 2, t || 'x', -s FROM {t} WHERE k = {v} AND i > 0",
    "SELECT i FROM {t} x WHERE k = {v} AND x.o AND NOT (x.s = 5)",
    "SELECT coalesce(i, 0) AS z, s / 0 FROM {t} WHERE k = {v}",
    "SELECT i + 1 FROM {t} WHERE k = {v}",
    "SELECT n, i FROM {t} WHERE k = {v} AND f > 1 AND n + 1 < 5.5",
    "SELECT CASE WHEN b > 0 THEN 'a' ELSE v END, i IS NULL, t IS NOT NULL FROM {t} WHERE k = {v}",
    "SELECT k, c, u FROM {t} WHERE k = {v} AND s IN (1, -7) AND v BETWEEN 'a' AND 'z'",
    "SELECT k FROM {t} WHERE k = {v} AND (i IS NULL OR n < 0) AND t <> 'else'",
    "SELECT i FROM {t} WHERE k = {v} AND d > '2020-01-01' AND ts < now()",
    "SELECT now() IS NULL, n::int, i::text, b::int4 FROM {t} WHERE k = {v}",
    "SELECT c || '|', v || c, upper(t), length(c) FROM {t} WHERE k = {v}",
    "SELECT n + f, n / 3, i / 2, i % 4, s * s, i * i FROM {t} WHERE k = {v}",
    "SELECT i FROM {t} WHERE k = {v} AND nothing > 1",
    "SELECT i FROM {t} WHERE k = {v} AND t",
    "SELECT i, j FROM {t} WHERE k = {v} AND i = '2147483647' AND k = {v}",
)
LISTS = (
    "SELECT i, k FROM {t} WHERE k IN ({v}, {w})",
    "SELECT k, i + 1 FROM {t} WHERE k IN ({v}, {w}, {w}) AND s < 0",
    "SELECT k FROM {t} WHERE k IN ({v})",
    "SELECT k FROM {t} WHERE k IN ({v}, NULL)",
    "SELECT k FROM {t} WHERE k NOT IN ({v}, {w})",
    "SELECT k FROM {t} WHERE k IN (SELECT k FROM {t}) AND k = {v}",
)
OTHER_SHAPES = (
    "select * from {t} where k={v};",
    'SELECT t AS "Nm 1" FROM {t} WHERE k = {v}',
    "SELECT d, ts, j, y, u FROM {t} WHERE ({v} = k)",
    "SELECT k, s, b, v FROM {t} WHERE k = {v} -- and k = 5",
    "SELECT i FROM {t} WHERE k = {v} AND k = 1",
    "SELECT i FROM {t} WHERE k = {v} LIMIT 1",
    "SELECT 5, i FROM {t} WHERE k = {v}",
    "SELECT {v} FROM {t} WHERE k = 1",
    "SELECT nothing FROM {t} WHERE k = {v}",
    "SELECT i FROM {t} WHERE k = {v} FOR UPDATE",
    "SELECT count(*) FROM {t} WHERE k = {v}",
)


async def fill(world: World) -> None:
    (client,) = await world.clients(1)
    for name, (key, clauses, keys) in TABLES.items():
        await client.ask(f"CREATE TABLE {name} ({key}, {COLUMNS}) {clauses}")
        rows = [f"({k}, {VALUES if i % 2 == 0 else NULLS})" for i, k in enumerate(keys)]
        await client.ask(f"INSERT INTO {name} VALUES {', '.join(rows)}")


def test_texts_with_literals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World, clients: Two) -> None:
        await fill(world)
        counted = Counted(monkeypatch)
        dice = random.Random(7)
        literals = LITERALS.split(" ")
        shapes = SHAPES * 3 + OTHER_SHAPES
        for table in TABLES:
            for literal in literals:
                await clients.same(dice.choice(shapes).format(t=table, v=literal))
            keys = TABLES[table][2]
            for shape in COMPUTED + LISTS:
                some = {"v": dice.choice(keys), "w": dice.choice(keys)}
                await clients.same(shape.format(t=table, **some))
        assert counted.count > 30

    in_two(tmp_path, test)


def test_parameters_of_any_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World, clients: Two) -> None:
        await fill(world)
        counted = Counted(monkeypatch)
        dice = random.Random(8)
        for table in TABLES:
            for value in PARAMETERS:
                shape = dice.choice(SHAPES + OTHER_SHAPES[:2])
                sql = shape.format(t=table, v="%s")
                prepare = dice.random() < 0.5
                await clients.same(sql, [value], prepare=prepare)
            for shape in COMPUTED[:-1]:
                value = dice.choice(PARAMETERS)
                await clients.same(shape.format(t=table, v="%s").replace("% 4", "%% 4"), [value])
        for keys in ([1, 2], [1, 1], ["2", -3], [9, 1], [None, 1]):
            await clients.same("SELECT * FROM whole WHERE k IN (%s, %s)", keys)
            await clients.same("SELECT i FROM ranged WHERE k IN (%s, %s)", keys)
        both = "SELECT i + %s, %s FROM whole WHERE k = %s AND i > %s"
        for values in ([1, "x", 1, 0], [None, None, 1, None], ["1", 2, 1, "0"], [2**40, 1.5, 1, 1]):
            await clients.same(both, values)
        # Of no given type: each by the place that has it.
        await clients.same(both, ["5", "6", "1", "7"])
        await clients.same("SELECT n * %s FROM whole WHERE k = %s", [Decimal("1.25"), "1"])
        assert counted.count > 20
        before = counted.count
        for table in ("whole", "word", "unique_id"):
            for columns in ("s, i, b, t, v, c, o, u", "o, n"):
                sql = f"SELECT {columns} FROM {table} WHERE k = %s"
                await clients.same(sql, [PARAMETERS[0]], binary=True)
        assert counted.count > before

    in_two(tmp_path, test)


def test_what_a_name_means_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, prepared = "SELECT * FROM t WHERE k = 1", "SELECT * FROM t WHERE k = %s"

    async def test(world: World, clients: Two) -> None:
        counted = Counted(monkeypatch)

        async def look() -> None:
            await clients.same(read)
            await clients.same(prepared, [1], prepare=True)

        (owner,) = await world.clients(1)
        await owner.ask("CREATE TABLE t (k int PRIMARY KEY, v int) USING row")
        await owner.ask("INSERT INTO t VALUES (1, 10)")
        await look()
        assert counted.count == 2
        await owner.ask("ALTER TABLE t ADD COLUMN w text DEFAULT 'new'")
        await clients.same(read)
        await owner.ask("ALTER TABLE t RENAME COLUMN v TO renamed")
        await clients.same(read)
        await clients.same("SELECT v FROM t WHERE k = 1")
        await owner.ask("CREATE SCHEMA other")
        await owner.ask("CREATE TABLE other.t (k int PRIMARY KEY, o int) USING row")
        await owner.ask("INSERT INTO other.t VALUES (1, 20)")
        await clients.both("SET search_path = other, public")
        await clients.same(read)
        await clients.both("SET search_path = public")
        await clients.same(read)
        await clients.both("CREATE TEMPORARY TABLE t (k int PRIMARY KEY, temporary int)")
        await clients.both("INSERT INTO t VALUES (1, 30)")
        assert (await clients.same(read))[1] == [[b"1", b"30"]]
        await clients.both("DROP TABLE pg_temp.t")
        await clients.same(read)
        await owner.ask("DROP TABLE t")
        await look()
        await owner.ask("CREATE VIEW t AS SELECT 1 AS k, 40 AS v")
        await clients.same(read)

    in_two(tmp_path, test)


def test_transactions_see_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World, clients: Two) -> None:
        counted = Counted(monkeypatch)
        (owner,) = await world.clients(1)
        await owner.ask("CREATE TABLE t (k int PRIMARY KEY, v int) USING row")
        await owner.ask("INSERT INTO t SELECT i, 0 FROM generate_series(1, 20) i")

        async def look(key: int) -> list[Any]:
            found = await clients.same(f"SELECT v FROM t WHERE k = {key}")
            assert found == await clients.same("SELECT v FROM t WHERE k = %s", [key])
            return list(found[1])

        await clients.both("BEGIN")
        assert await look(1) == [[b"0"]]
        assert counted.count == 2
        await owner.ask("UPDATE t SET v = 1 WHERE k = 1")
        assert await look(1) == [[b"1"]]
        # Each its own change of a row of its own.
        await clients.quick.execute(b"UPDATE t SET v = 5 WHERE k = 2")
        found = await answer(clients.quick, "SELECT v FROM t WHERE k = 2")
        assert found[1] == [[b"5"]]
        await clients.quick.execute(b"DELETE FROM t WHERE k = 2")
        assert (await answer(clients.quick, "SELECT v FROM t WHERE k = 2"))[1] == []
        await clients.both("ROLLBACK")
        assert await look(2) == [[b"0"]]
        for level, now in (("REPEATABLE READ", 3), ("SERIALIZABLE", 4)):
            await clients.both(f"BEGIN ISOLATION LEVEL {level}")
            before, was = counted.count, await look(3)
            assert counted.count == before + 2
            await owner.ask(f"UPDATE t SET v = {now} WHERE k = 3")
            assert await look(3) == was
            assert counted.count == before + 4
            await clients.quick.execute(b"UPDATE t SET v = v + 7 WHERE k = 4")
            found = await answer(clients.quick, "SELECT v FROM t WHERE k = 4")
            assert found[1] == [[b"7"]]
            await clients.both("ROLLBACK")
            assert await look(3) == [[b"%d" % now]]
        await clients.both("BEGIN")
        assert (await clients.same("SELECT 1/0 FROM t WHERE k = 1"))[0] == "22012"
        assert (await clients.same("SELECT v FROM t WHERE k = 1"))[0] == "25P02"
        assert (await clients.same("SELECT v FROM t WHERE k = %s", [1]))[0] == "25P02"
        await clients.both("ROLLBACK")
        await clients.both("SET statement_timeout = '1h'")
        before = counted.count
        await look(3)
        assert counted.count == before
        await clients.both("RESET statement_timeout")
        await look(3)
        assert counted.count == before + 2

    in_two(tmp_path, test)


def test_serializable_minds_the_keys_that_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write skew: each changes the row that the other has read, one of them a row that is not."""

    async def test(world: World, clients: Two) -> None:
        counted = Counted(monkeypatch)
        (owner,) = await world.clients(1)
        await owner.ask("CREATE TABLE t (k int PRIMARY KEY, v int) USING row")
        for change in ("UPDATE t SET v = 1 WHERE k = 1", "INSERT INTO t VALUES (3, 1)"):
            await owner.ask("DELETE FROM t")
            await owner.ask("INSERT INTO t VALUES (1, 0), (2, 0)")
            for key in (1, 2, 3):  # waits for what is still being committed behind the answer
                await clients.slow.execute(b"SELECT v FROM t WHERE k = %d" % key)
            await clients.both("BEGIN ISOLATION LEVEL SERIALIZABLE")
            before = counted.count
            for key in (2, 1, 3):  # the first settles the snapshot, the others need no task
                await clients.quick.execute(b"SELECT v FROM t WHERE k = %d" % key)
            assert counted.count == before + 3
            await clients.slow.execute(b"SELECT v FROM t WHERE k = 2")
            await clients.quick.execute(b"UPDATE t SET v = 1 WHERE k = 2")
            await clients.slow.execute(change.encode())
            await clients.slow.execute(b"COMMIT")
            assert (await answer(clients.quick, "COMMIT"))[0] == "40001"
            await clients.quick.execute(b"ROLLBACK")

    in_two(tmp_path, test)


def test_a_transaction_sees_its_own_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a dictionary, savepoints included; the rows lie on both nodes."""

    async def test(world: World, clients: Two) -> None:
        counted = Counted(monkeypatch)
        (owner,) = await world.clients(1)
        await owner.ask(
            "CREATE TABLE t (k int PRIMARY KEY, v int) PARTITION BY HASH (k) PARTITIONS 4 USING row"
        )
        dice = random.Random(11)
        model: dict[int, int] = {}

        async def change() -> None:
            key, value = dice.randrange(6), dice.randrange(1000)
            if key not in model:
                await clients.quick.execute(b"INSERT INTO t VALUES (%d, %d)" % (key, value))
                model[key] = value
            elif dice.random() < 0.6:
                await clients.quick.execute(b"UPDATE t SET v = %d WHERE k = %d" % (value, key))
                model[key] = value
            else:
                await clients.quick.execute(b"DELETE FROM t WHERE k = %d" % key)
                del model[key]

        async def look() -> None:
            for key in range(6):
                found = await answer(clients.quick, "SELECT v FROM t WHERE k = %s", [key])
                wanted = [[b"%d" % model[key]]] if key in model else []
                assert found[1] == wanted, (key, model)

        for _ in range(6):
            before = dict(model)
            await clients.quick.execute(b"BEGIN")
            await change()
            await look()
            await clients.quick.execute(b"SAVEPOINT s")
            saved = dict(model)
            await change()
            await change()
            await look()
            if dice.random() < 0.5:
                await clients.quick.execute(b"ROLLBACK TO s")
                model.clear()
                model.update(saved)
                await look()
            if dice.random() < 0.7:
                await clients.quick.execute(b"COMMIT")
            else:
                await clients.quick.execute(b"ROLLBACK")
                model.clear()
                model.update(before)
            await look()
        assert counted.count > 100

    in_two(tmp_path, test)


def test_a_read_that_waits_for_another_node_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World, clients: Two) -> None:
        (owner,) = await world.clients(1)
        await owner.ask("CREATE TABLE t (k int PRIMARY KEY, v int) USING row WITH (replicas = 1)")
        await owner.ask("INSERT INTO t SELECT i, i FROM generate_series(1, 50) i")
        asked = asyncio.Event()
        read_here = PointReads.read_here

        def nobody_here(reads: PointReads, *given: Any) -> Any:
            asked.set()
            return None if waits else read_here(reads, *given)

        async def never(*_: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(PointReads, "read_here", nobody_here)
        monkeypatch.setattr(Tablet, "read_stored_now", lambda *_: None)
        for sql in (b"SELECT v FROM t WHERE k = %d", b"SELECT v FROM t WHERE k = %%s AND %d > 0"):
            waits, stopped = True, 0
            with monkeypatch.context() as patch:
                patch.setattr(Tablet, "read_stored", never)
                for key in range(1, 9):
                    asked.clear()
                    values = [key] if b"%%s" in sql else None
                    task = asyncio.ensure_future(clients.quick.execute(sql % key, values))
                    await asked.wait()
                    await clients.quick.cancel_safe()
                    with pytest.raises(psycopg.errors.QueryCanceled):
                        await task
                    stopped += 1
            waits = False
            assert stopped == 8
        assert await answer(clients.quick, "SELECT v FROM t WHERE k = 3")

    in_two(tmp_path, test)


def test_messages_in_any_company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of both nodes are the same however the messages of a statement come."""

    async def test(world: World, clients: Two) -> None:
        counted = Counted(monkeypatch)
        (owner,) = await world.clients(1)
        await owner.ask("CREATE TABLE t (k int PRIMARY KEY, v int) USING row")
        await owner.ask("INSERT INTO t SELECT i, i * 10 FROM generate_series(1, 9) i")
        read = b"SELECT v FROM t WHERE k = $1"
        named, unnamed = (
            message("P", b"s\0" + read + b"\0\0\0"),
            message("P", b"\0" + read + b"\0\0\0"),
        )
        execute, sync = message("E", b"\0\0\0\0\0"), message("S", b"")
        describe, one_row = message("D", b"P\0"), message("E", b"\0\0\0\0\1")
        streams = [
            unnamed + bind("", "3") + describe + execute + sync,
            (unnamed + bind("", "3") + describe + execute + sync) * 3,
            named
            + sync
            + bind("s", "4")
            + execute
            + sync
            + bind("s", "5")
            + describe
            + execute
            + sync,
            bind("s", "4") + execute + execute + sync,
            bind("s", "4") + execute + bind("s", "6") + execute + sync,
            bind("s", "4") + one_row + execute + sync,
            bind("s", "44") + describe + execute + sync,
            bind("s", None) + describe + execute + sync,
            bind("s", "four") + describe + execute + sync + bind("s", "4") + execute + sync,
            bind("s", "4\xff") + describe + execute + sync,
            bind("s", "4", "5") + execute + sync,
            bind("gone", "4") + execute + sync,
            bind("s", "4", results=b"\0\1\0\1") + describe + execute + sync,
            bind("s", "4", results=b"\0\2\0\1\0\1") + describe + execute + sync,
            bind("s", "4", results=b"\0\1\0\2") + describe + execute + sync,
            bind("s", "4") + message("D", b"P") + execute + sync,
            message("Q", b"BEGIN\0") + (bind("s", "4") + describe + execute + sync) * 2,
            message("Q", b"SELECT 1/0\0") + bind("s", "4") + execute + sync,
            message("Q", b"ROLLBACK\0") + bind("s", "4") + execute + sync,
            message("C", b"Ss\0") + bind("s", "4") + execute + sync,
        ]
        for size in (1 << 20, 7):
            found = [await answers(node.pg_address, streams, size) for node in world.nodes]
            for stream, quick, slow in zip(streams, *found, strict=True):
                assert quick == slow, stream
        assert counted.count >= 20

    in_two(tmp_path, test)


def test_what_is_to_be_skipped_is_not_answered(tmp_path: Path) -> None:
    async def test(world: World, clients: Two) -> None:
        (owner,) = await world.clients(1)
        await owner.ask("CREATE TABLE t (k int PRIMARY KEY, v int) USING row")
        await owner.ask("INSERT INTO t SELECT i, i FROM generate_series(1, 9) i")
        reader, writer = await opened(world.nodes[0].pg_address)
        execute, sync = message("E", b"\0\0\0\0\0"), message("S", b"")
        writer.write(message("P", b"s\0SELECT v FROM t WHERE k = $1\0\0\0") + sync)
        await until_ready(reader, 1)
        for key in range(1, 10):  # some of them are led here
            read = bind("s", str(key)) + execute + sync
            # It comes at once, while the connection waits for the end of what has failed.
            writer.write(bind("gone", "1"))
            await until_ready(reader, 1, b"E")
            writer.write(read)
            assert await until_ready(reader, 1) == b"ZI"
            writer.write(read)
            assert (await until_ready(reader, 1)).endswith(b"C" + b"SELECT 1\0" + b"ZI")
        writer.close()

    in_two(tmp_path, test)


def test_reads_of_other_nodes_need_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many of them in one packet are answered in order, each held until its row has come; in a
    block, too, and behind what goes the usual way."""

    async def test(world: World, clients: Two) -> None:
        (owner,) = await world.clients(1)
        await owner.ask("CREATE TABLE t (k int PRIMARY KEY, v int) USING row WITH (replicas = 1)")
        await owner.ask("INSERT INTO t SELECT i, i * 10 FROM generate_series(1, 20) i")
        with_task, asked = QuickReads.rows, PointReads.ask
        tasks, questions = 0, 0

        async def counted(*given: Any) -> Any:
            nonlocal tasks
            tasks += 1
            return await with_task(*given)

        def counted_ask(*given: Any) -> Any:
            nonlocal questions
            questions += 1
            return asked(*given)

        monkeypatch.setattr(QuickReads, "rows", counted)
        monkeypatch.setattr(PointReads, "ask", counted_ask)
        reader, writer = await opened(world.nodes[0].pg_address)
        read = b"".join(message("Q", b"SELECT v FROM t WHERE k = %d\0" % k) for k in range(1, 21))
        for before, after in ((b"", b""), (message("Q", b"BEGIN\0"), message("Q", b"COMMIT\0"))):
            writer.write(before + read + message("Q", b"SELECT 1/0\0") + after)
            found = await until_ready(reader, 21 + 2 * bool(before))
            values = [part[4:].split(b"C")[0] for part in found.split(b"D\0\1")[1:]]
            assert values == [b"%d" % (k * 10) for k in range(1, 21)]
            assert b"C22012\0" in found
        writer.close()
        assert questions
        assert not tasks

    in_two(tmp_path, test)


def test_a_block_knows_the_rows_that_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked for them; everything else that changes or takes back is seen."""

    async def test(world: World, clients: Two) -> None:
        (owner,) = await world.clients(1)
        await owner.ask("CREATE TABLE t (k int PRIMARY KEY, v int) USING row WITH (replicas = 1)")
        await owner.ask("INSERT INTO t SELECT i, i * 10 FROM generate_series(1, 20) i")
        read_here, questions = PointReads.read_here, 0

        def counted(*given: Any) -> Any:
            nonlocal questions
            questions += 1
            return read_here(*given)

        monkeypatch.setattr(PointReads, "read_here", counted)

        async def is_known(known: bool, expected: list[list[bytes]], key: int) -> None:
            before = questions
            found = await answer(clients.quick, f"SELECT v FROM t WHERE k = {key}")
            assert found[1] == expected, key
            assert (questions == before) is known, key

        for level in ("READ COMMITTED", "REPEATABLE READ"):
            for key in (1, 2, 3, 4):  # some of them are led here
                run = clients.quick.execute
                await run(f"BEGIN ISOLATION LEVEL {level}".encode())
                await is_known(False, [[b"%d" % (key * 10)]], key)
                await run(b"UPDATE t SET v = v + 1 WHERE k = %d" % key)
                await is_known(True, [[b"%d" % (key * 10 + 1)]], key)
                await run(b"SAVEPOINT s")
                await run(b"UPDATE t SET v = 7 WHERE k = %d" % key)
                await is_known(True, [[b"7"]], key)
                await run(b"INSERT INTO t VALUES (%d, 5)" % (key + 100))
                await is_known(True, [[b"5"]], key + 100)
                await run(b"DELETE FROM t WHERE k = %d" % key)
                await is_known(True, [], key)
                await run(b"ROLLBACK TO s")
                await is_known(False, [[b"%d" % (key * 10 + 1)]], key)
                await run(b"UPDATE t SET v = v + 1 WHERE k = %d" % key)
                await run(b"UPDATE t SET v = v + length(md5(v::text)) WHERE v > 0")
                await is_known(False, [[b"%d" % (key * 10 + 34)]], key)
                await run(b"ROLLBACK")
                await is_known(False, [[b"%d" % (key * 10)]], key)

    in_two(tmp_path, test)


def test_a_block_begun_without_a_task_is_not_idle_for_ever(tmp_path: Path) -> None:
    async def test(world: World, clients: Two) -> None:
        reader, writer = await opened(world.nodes[0].pg_address)
        setting = b"SET idle_in_transaction_session_timeout = '20ms'\0"
        writer.write(message("Q", setting))
        await until_ready(reader, 1)
        writer.write(message("Q", b"BEGIN\0"))
        assert (await until_ready(reader, 1)).endswith(b"ZT")
        assert b"C25P03\0" in await reader.read()
        writer.close()

    in_two(tmp_path, test)


def test_who_leaves_while_a_row_is_on_its_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World, clients: Two) -> None:
        (owner,) = await world.clients(1)
        await owner.ask("CREATE TABLE t (k int PRIMARY KEY, v int) USING row WITH (replicas = 1)")
        await owner.ask("INSERT INTO t SELECT i, i FROM generate_series(1, 20) i")
        server = world.nodes[0]._server
        asked, ask = asyncio.Event(), PointReads.ask
        with monkeypatch.context() as patch:
            patch.setattr(PointReads, "ask", lambda *given: (asked.set(), ask(*given))[1])
            patch.setattr(Tablet, "read_stored_now", lambda *_: None)
            patch.setattr(Tablet, "read_stored", _never)
            open_before = server.connection_count
            reader, writer = await opened(world.nodes[0].pg_address)
            for key in range(1, 21):
                writer.write(message("Q", b"SELECT v FROM t WHERE k = %d\0" % key))
            await asked.wait()
            writer.close()
            while server.connection_count > open_before:
                await asyncio.sleep(0)
        reader, writer = await opened(world.nodes[0].pg_address)
        writer.write(message("Q", b"SELECT v FROM t WHERE k = 3\0"))
        assert b"SELECT 1\0" in await until_ready(reader, 1)
        writer.close()

    in_two(tmp_path, test)


async def _never(*_: Any) -> Any:
    await asyncio.Event().wait()
