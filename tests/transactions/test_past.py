"""AS OF SYSTEM TIME: what it reads, what it refuses, and in whole transactions."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import (
    ActiveSqlTransaction,
    DqeError,
    FeatureNotSupported,
    InvalidParameterValue,
    ReadOnlySqlTransaction,
    SnapshotTooOld,
    SyntaxError_,
    UndefinedTable,
)


async def _now(client: Client) -> str:
    """The timestamp of a query now, as AS OF SYSTEM TIME takes it."""
    await client.ask("SELECT count(*) FROM t")
    return str((await client.ask("SHOW dqe.last_read_timestamp"))[0][0])


async def _table(client: Client) -> None:
    await client.ask("CREATE TABLE t (k int PRIMARY KEY, v text)")
    await client.ask("INSERT INTO t VALUES (1, 'one'), (2, 'two')")


def test_a_timestamp_shows_the_rows_as_they_were(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await _table(client)
        await client.ask("CREATE VIEW w AS SELECT k, upper(v) AS v FROM t")
        before = await _now(client)
        await client.ask("UPDATE t SET v = 'ONE' WHERE k = 1")
        between = await _now(client)
        await client.ask("DELETE FROM t WHERE k = 2")
        await client.ask("INSERT INTO t VALUES (3, 'three')")
        for sql, at_before, at_between in (
            (
                "SELECT k, v FROM t {} ORDER BY k",
                [("1", "one"), ("2", "two")],
                [("1", "ONE"), ("2", "two")],
            ),
            ("SELECT v FROM t {} WHERE k = 1", [("one",)], [("ONE",)]),
            ("SELECT v FROM w {} WHERE k = 1", [("ONE",)], [("ONE",)]),
            ("SELECT count(*) FROM t a JOIN t b USING (k) {}", [("2",)], [("2",)]),
            ("SELECT (SELECT min(v) FROM t {})", [("one",)], [("ONE",)]),
            ("WITH x AS (SELECT * FROM t) SELECT v FROM x {} WHERE k = 1", [("one",)], [("ONE",)]),
            (
                "SELECT v FROM t {} WHERE k=1 UNION SELECT v FROM t {} WHERE k=1",
                [("one",)],
                [("ONE",)],
            ),
        ):
            for at, expected in ((before, at_before), (between, at_between)):
                asked = sql.replace("{}", f"AS OF SYSTEM TIME {at}")
                assert await client.ask(asked) == expected, asked
        await client.ask("TRUNCATE t")
        assert await client.ask(f"SELECT count(*) FROM t AS OF SYSTEM TIME {before}") == [("2",)]
        assert await client.ask("SELECT count(*) FROM t") == [("0",)]

    in_world(tmp_path, test)


def test_times_are_written_in_many_ways(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await _table(client)
        at = await _now(client)
        for time in (
            "'-1ms'",
            "'-0.001s'",
            "'-1 milliseconds'",
            "now() - interval '1 ms'",
            "current_timestamp",
            "interval '-1 ms'",
            "'-1 ms'::interval",
            at,
            f"'{at}'",
            at.split(".", maxsplit=1)[0].replace("000000", "999999"),
        ):
            await world.runtime.sleep(0.003)
            asked = f"SELECT count(*) FROM t AS OF SYSTEM TIME {time}"
            assert await client.ask(asked) == [("2",)], asked
        # Parameters, with and without a type.
        sql = "SELECT count(*) FROM t AS OF SYSTEM TIME $1 WHERE k = $2"
        assert await client.ask(sql, ["-1ms", "2"]) == [("1",)]
        await client.ask("PREPARE p AS " + sql)
        assert await client.ask("EXECUTE p('-1ms', 2)") == [("1",)]
        # A time without a zone is the session's.
        await client.ask("SET timezone = 'America/New_York'")
        shown = await client.ask("SELECT (now() - interval '2 ms')::timestamp::text")
        assert await client.ask(f"SELECT count(*) FROM t AS OF SYSTEM TIME '{shown[0][0]}'")

    in_world(tmp_path, test)


def test_what_cannot_be_read_is_refused_with_a_word(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await _table(client)
        before = await _now(client)
        refused: list[tuple[str, type[DqeError], str]] = [
            ("'1h'", InvalidParameterValue, "neither timestamp, decimal, nor interval"),
            ("'soon'", InvalidParameterValue, "neither timestamp, decimal, nor interval"),
            ("NULL", InvalidParameterValue, "neither"),
            ("true", InvalidParameterValue, "neither"),
            ("interval '1 s'", InvalidParameterValue, "neither"),
            ("now() + interval '1 h'", InvalidParameterValue, "timestamp in the future"),
            ("'2999-01-01'", InvalidParameterValue, "timestamp in the future"),
            ("k", SyntaxError_, "only constant expressions"),
            ("(SELECT now())", SyntaxError_, "only constant expressions"),
            ("'-1min'", UndefinedTable, '"t" did not exist at'),
        ]
        for time, error, words in refused:
            found = await client.refused(f"SELECT * FROM t AS OF SYSTEM TIME {time}", error)
            assert words in found.message, (time, found.message)
        await client.ask("ALTER TABLE t ADD COLUMN w int")
        found = await client.refused(f"SELECT * FROM t AS OF SYSTEM TIME {before}", SnapshotTooOld)
        assert "was rewritten" in found.message
        now = await _now(client)
        await client.ask("DROP TABLE t")
        found = await client.refused(f"SELECT * FROM t AS OF SYSTEM TIME {now}", UndefinedTable)
        assert found.hint is not None
        assert "dropped" in found.hint
        await client.ask("CREATE TABLE t (k int)")
        found = await client.refused(f"SELECT * FROM t AS OF SYSTEM TIME {now}", UndefinedTable)
        assert "did not exist" in found.message

    in_world(tmp_path, test)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t SELECT k + 10, v FROM t AS OF SYSTEM TIME '-1s'",
        "UPDATE t SET v = 'x' FROM t u AS OF SYSTEM TIME '-1s'",
        "DELETE FROM t AS OF SYSTEM TIME '-1s'",
        "CREATE TABLE u AS SELECT * FROM t AS OF SYSTEM TIME '-1s'",
        "CREATE VIEW u AS SELECT * FROM t AS OF SYSTEM TIME '-1s'",
        "SELECT * FROM t EXCEPT SELECT * FROM t AS OF SYSTEM TIME '-1s'",
        "SELECT * FROM (SELECT * FROM t AS OF SYSTEM TIME '-1s') u",
        "SELECT k FROM t AS OF SYSTEM TIME '-1s' UNION SELECT k FROM t AS OF SYSTEM TIME '-2s'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION AS OF SYSTEM TIME '-1s'",
    ],
)
def test_only_queries_as_a_whole_have_a_time(tmp_path: Path, sql: str) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        found = await client.refused(sql, FeatureNotSupported)
        assert found.hint is not None

    in_world(tmp_path, test)


def test_a_transaction_reads_at_one_time(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await _table(client)
        at = await _now(client)
        await client.ask("UPDATE t SET v = 'new'")
        await client.ask(f"BEGIN AS OF SYSTEM TIME {at}")
        assert await client.ask("SELECT v FROM t WHERE k = 1") == [("one",)]
        assert await client.ask("SELECT v FROM t ORDER BY k") == [("one",), ("two",)]
        assert await client.ask("SHOW dqe.last_read_timestamp") == [(at,)]
        assert await client.ask("SHOW transaction_read_only") == [("on",)]
        await client.refused("UPDATE t SET v = 'x'", ReadOnlySqlTransaction)
        await client.ask("ROLLBACK")
        await client.ask("BEGIN")
        await client.ask(f"SET TRANSACTION AS OF SYSTEM TIME {at}")
        assert await client.ask("SELECT v FROM t WHERE k = 1") == [("one",)]
        await client.refused("SET TRANSACTION READ WRITE", ActiveSqlTransaction)
        await client.ask("ROLLBACK")
        await client.ask("BEGIN")
        assert await client.ask("SELECT v FROM t WHERE k = 1") == [("new",)]
        await client.refused(f"SET TRANSACTION AS OF SYSTEM TIME {at}", ActiveSqlTransaction)
        await client.ask("ROLLBACK")
        await client.refused("BEGIN READ WRITE AS OF SYSTEM TIME '-1s'", SyntaxError_)
        assert client.status == "I"

    in_world(tmp_path, test)


def test_a_statement_of_a_block_may_look_back(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await _table(client)
        at = await _now(client)
        for level in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"):
            await client.ask(f"BEGIN ISOLATION LEVEL {level}")
            await client.ask("UPDATE t SET v = 'mine' WHERE k = 1")
            asked = f"SELECT v FROM t AS OF SYSTEM TIME {at} WHERE k = 1"
            assert await client.ask(asked) == [("one",)]
            assert await client.ask("SELECT v FROM t WHERE k = 1") == [("mine",)]
            await client.refused(asked + " FOR UPDATE", ReadOnlySqlTransaction)
            await client.ask("ROLLBACK")

    in_world(tmp_path, test)


def test_cursors_copies_and_explain_look_back(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await _table(client)
        at = await _now(client)
        await client.ask("DELETE FROM t WHERE k = 2")
        await client.ask("BEGIN")
        await client.ask(f"DECLARE c CURSOR FOR SELECT k FROM t AS OF SYSTEM TIME {at} ORDER BY k")
        assert await client.ask("FETCH ALL FROM c") == [("1",), ("2",)]
        await client.ask("COMMIT")
        path = tmp_path / "out.csv"
        await client.ask(f"COPY (SELECT k FROM t AS OF SYSTEM TIME {at}) TO '{path}'")
        assert sorted(path.read_text().split()) == ["1", "2"]
        plan = await client.ask(f"EXPLAIN ANALYZE SELECT k FROM t AS OF SYSTEM TIME {at}")
        assert any("actual rows=2" in str(line) for (line,) in plan), plan
        await client.ask(f"EXPLAIN SELECT k FROM t AS OF SYSTEM TIME {at}")

    in_world(tmp_path, test)
