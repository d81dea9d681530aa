"""Sessions: statements of every kind, transaction blocks, limits, and what stays after errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mini_cluster import MiniCluster, in_cluster

from catalog.commands import CreateSchema
from cluster.errors import (
    ActiveSqlTransaction,
    CannotConnectNow,
    DivisionByZero,
    DqeError,
    DuplicateCursor,
    DuplicatePreparedStatement,
    FeatureNotSupported,
    InFailedSqlTransaction,
    InvalidCursorName,
    InvalidSavepointSpecification,
    InvalidSqlStatementName,
    NoActiveSqlTransaction,
    ObjectNotInPrerequisiteState,
    QueryCanceled,
    ReadOnlySqlTransaction,
    SyntaxError_,
    UndefinedColumn,
    UndefinedObject,
    UndefinedTable,
)
from executor.formatting.text import TextSettings, text_columns
from executor.session import Session
from storage.types import INT4, TEXT

Rows = list[tuple[str | None, ...]]


class Client:
    """What a psql user sees: rows as text, the tag, notices."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tag = ""

    async def ask(self, sql: str, parameters: Sequence[str | None] | None = None) -> Rows:
        rows: Rows = []
        for statement in await self.session.parse(sql):
            runnable: Any = statement
            if parameters is not None:
                runnable = await self.session.prepare(statement)
            result = await self.session.execute(runnable, parameters or ())
            try:
                rows = []
                async for batch in result.batches():
                    assert result.columns is not None
                    types = [column.type for column in result.columns]
                    zone = TextSettings(time_zone=self.session.setting("TimeZone"))
                    texts = text_columns(batch, types, zone)
                    rows += zip(*(text.to_pylist() for text in texts), strict=True)
                self.tag = result.tag
            finally:
                await result.close()
        return rows

    async def refused(self, sql: str, error: type[DqeError]) -> DqeError:
        with pytest.raises(error) as found:
            await self.ask(sql)
        return found.value

    @property
    def notices(self) -> list[str]:
        return [
            f"{severity}: {fields['message']}" for severity, fields in self.session.take_notices()
        ]

    @property
    def status(self) -> str:
        return self.session.transaction_status


def with_client(
    directory: Path, test: Callable[[Client], Awaitable[None]], count: int = 1, **startup: str
) -> None:
    async def run(cluster: MiniCluster) -> None:
        client = Client(cluster.session(**startup))
        await test(client)
        await client.session.close()

    in_cluster(directory, run, count=count, functions=True)


# -- queries ----------------------------------------------------------------------------------


def test_a_query_has_rows_and_a_tag(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        assert await client.ask("select 1 as a, 'x' as b, null as c") == [("1", "x", None)]
        assert client.tag == "SELECT 1"
        assert await client.ask("values (1), (2), (3)") == [("1",), ("2",), ("3",)]
        assert client.tag == "SELECT 3"

    with_client(tmp_path, test)


def test_an_error_leaves_the_session_usable(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.refused("select 1 / 0", DivisionByZero)
        await client.refused("select no_such_column", UndefinedColumn)
        await client.refused("select * from no_such_table", UndefinedTable)
        await client.refused("select 1 +", SyntaxError_)
        assert await client.ask("select 1") == [("1",)]
        assert client.status == "I"

    with_client(tmp_path, test)


def test_tables_over_three_nodes(tmp_path: Path) -> None:
    async def run(cluster: MiniCluster) -> None:
        await cluster.define(
            "create table t (k bigint primary key, v numeric(10,2), s text) "
            "partition by hash (k) partitions 6 column groups (a (v), b (s))"
        )
        rows = range(1000)
        cluster.insert(
            "t",
            pa.table(
                {
                    "k": pa.array(rows, pa.int64()),
                    "v": pa.array([n / 4 for n in rows], pa.float64()).cast(pa.decimal128(10, 2)),
                    "s": [f"s{n % 10}" for n in rows],
                }
            ),
        )
        for at in range(3):
            client = Client(cluster.session(at))
            assert await client.ask("select count(*), sum(v), min(s), avg(v) from t") == [
                ("1000", "124875.00", "s0", "124.8750000000000000")
            ]
            assert await client.ask("select k, s from t where k = 777") == [("777", "s7")]
            assert await client.ask("select s, count(*) from t group by s order by s limit 2") == [
                ("s0", "100"),
                ("s1", "100"),
            ]

    in_cluster(tmp_path, run, functions=True)


def test_parameters(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        assert await client.ask("select $1::int + 1, $2::text", ["41", None]) == [("42", None)]
        statement = (await client.session.parse("select $1 || 'x'"))[0]
        prepared = await client.session.prepare(statement, [TEXT])
        assert prepared.parameters == (TEXT,)
        assert prepared.columns is not None

    with_client(tmp_path, test)


def test_describing_session_statements(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        for sql, names in (
            ("show timezone", ["TimeZone"]),
            ("show all", ["name", "setting", "description"]),
            ("begin", None),
            ("explain select 1", ["QUERY PLAN"]),
        ):
            prepared = await client.session.prepare((await client.session.parse(sql))[0])
            columns = prepared.columns
            assert (None if columns is None else [c.name for c in columns]) == names

    with_client(tmp_path, test)


# -- settings ---------------------------------------------------------------------------------


def test_set_show_and_reset(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.ask("set time zone 'Asia/Tokyo'")
        assert client.tag == "SET"
        assert await client.ask("show timezone") == [("Asia/Tokyo",)]
        assert client.session.take_parameter_changes() == [("TimeZone", "Asia/Tokyo")]
        assert await client.ask("select timestamptz '2024-01-01 00:00:00+00'") == [
            ("2024-01-01 09:00:00+09",)
        ]
        await client.ask("reset all")
        assert await client.ask("show TimeZone") == [("UTC",)]
        await client.refused("set nonsense = 1", UndefinedObject)
        await client.refused("show nonsense", UndefinedObject)
        assert ("server_version", "18.0") in [row[:2] for row in await client.ask("show all")]

    with_client(tmp_path, test)


def test_set_config_and_current_setting(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        rows = await client.ask("select pg_catalog.set_config('search_path', '', false)")
        assert rows == [("",)]
        assert await client.ask("show search_path") == [("",)]
        asked = "select current_setting('jit') as cur, set_config('jit', 'off', false) as new"
        assert await client.ask(asked) == [("off", "off")]
        assert await client.ask("select set_config('a.b', $1, false)", ["x"]) == [("x",)]
        assert await client.ask("select current_setting('a.b')") == [("x",)]
        await client.refused(
            "select set_config('a.b', i::text, false) from generate_series(1, 2) t(i)",
            FeatureNotSupported,
        )

    with_client(tmp_path, test)


def test_notices_below_client_min_messages_are_kept_back(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.ask("set client_min_messages = error")
        await client.ask("commit")
        assert client.notices == []
        await client.ask("set client_min_messages = notice")
        await client.ask("commit")
        assert client.notices == ["WARNING: there is no transaction in progress"]

    with_client(tmp_path, test)


# -- transaction blocks -----------------------------------------------------------------------


def test_a_block_is_begun_once(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.ask("begin")
        assert client.tag == "BEGIN"
        assert client.status == "T"
        assert client.notices == []
        await client.ask("begin")
        assert client.notices == ["WARNING: there is already a transaction in progress"]
        await client.ask("commit")
        assert (client.tag, client.status) == ("COMMIT", "I")

    with_client(tmp_path, test)


def test_a_failed_block_takes_only_its_end(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.ask("begin")
        await client.refused("select 1/0", DivisionByZero)
        assert client.status == "E"
        await client.refused("select 1", InFailedSqlTransaction)
        await client.refused("show timezone", InFailedSqlTransaction)
        await client.ask("commit")
        assert (client.tag, client.status) == ("ROLLBACK", "I")
        assert await client.ask("select 1") == [("1",)]

    with_client(tmp_path, test)


def test_savepoints_bring_a_failed_block_back(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.refused("savepoint a", NoActiveSqlTransaction)
        await client.ask("begin; savepoint a")
        await client.refused("select 1/0", DivisionByZero)
        await client.ask("rollback to savepoint a")
        assert client.status == "T"
        assert await client.ask("select 1") == [("1",)]
        await client.ask("release savepoint a")
        await client.refused("rollback to savepoint a", InvalidSavepointSpecification)
        await client.ask("rollback")
        assert client.status == "I"

    with_client(tmp_path, test)


def test_now_stands_still_in_a_block(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.ask("begin")
        first = await client.ask("select now()")
        assert await client.ask("select now()") == first
        await client.ask("commit")
        assert await client.ask("select now()") != first

    with_client(tmp_path, test)


def test_read_only_blocks_refuse_changes(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.ask("begin read only")
        error = await client.refused("create table t (a int)", ReadOnlySqlTransaction)
        assert error.message == "cannot execute CREATE TABLE in a read-only transaction"
        await client.ask("rollback")
        await client.ask("set default_transaction_read_only = on")
        await client.refused("create table t (a int)", ReadOnlySqlTransaction)

    with_client(tmp_path, test)


# -- prepared statements and cursors ----------------------------------------------------------


def test_prepare_execute_deallocate(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.ask("prepare p (int, text) as select $1 + 1, $2")
        assert client.tag == "PREPARE"
        assert await client.ask("execute p (1 + 1, 'x')") == [("3", "x")]
        assert await client.ask("execute p (null, null)") == [(None, None)]
        await client.refused("execute p (1)", SyntaxError_)
        await client.refused("prepare p as select 1", DuplicatePreparedStatement)
        assert (await client.ask("explain execute p (1, 'x')")) != []
        await client.ask("deallocate p")
        await client.refused("execute p (1, 'x')", InvalidSqlStatementName)
        await client.refused("deallocate p", InvalidSqlStatementName)

    with_client(tmp_path, test)


def test_cursors(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        query = "select i from generate_series(1, 5) t(i) order by i"
        await client.refused(f"declare c cursor for {query}", NoActiveSqlTransaction)
        await client.ask(f"begin; declare c cursor for {query}")
        assert await client.ask("fetch 2 from c") == [("1",), ("2",)]
        assert client.tag == "FETCH 2"
        await client.ask("move 1 in c")
        assert client.tag == "MOVE 1"
        assert await client.ask("fetch all from c") == [("4",), ("5",)]
        assert await client.ask("fetch next from c") == []
        await client.ask("commit")
        await client.refused("fetch 1 from c", InvalidCursorName)
        await client.ask(f"declare h cursor with hold for {query}")
        await client.refused(f"declare h cursor with hold for {query}", DuplicateCursor)
        assert await client.ask("fetch 1 from h") == [("1",)]
        await client.ask("close h")

    with_client(tmp_path, test)


def test_discard_all(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.ask("prepare p as select 1; set timezone = 'Asia/Tokyo'")
        await client.ask("discard all")
        assert client.tag == "DISCARD ALL"
        assert await client.ask("show timezone") == [("UTC",)]
        await client.refused("execute p", InvalidSqlStatementName)
        await client.ask("begin")
        await client.refused("discard all", ActiveSqlTransaction)

    with_client(tmp_path, test)


# -- limits -----------------------------------------------------------------------------------

ENDLESS = (
    "with s as (select i from generate_series(1, 100000) t(i)) "
    "select count(*) from s a, s b, s c where (a.i * b.i + c.i) % 7 = 8"
)


def test_cancelling_a_statement(tmp_path: Path) -> None:
    async def run(cluster: MiniCluster) -> None:
        client = Client(cluster.session())
        running = asyncio.ensure_future(client.ask(ENDLESS))
        await cluster.running_everywhere(running)
        client.session.cancel()
        with pytest.raises(QueryCanceled, match="user request"):
            await running
        client.session.cancel()  # nothing runs: no later statement hears of it
        assert await client.ask("select 1") == [("1",)]
        await cluster.settled()

    in_cluster(tmp_path, run, functions=True, count=1)


def test_statement_timeout(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.ask("set statement_timeout = '50ms'")
        error = await client.refused(ENDLESS, QueryCanceled)
        assert error.message == "canceling statement due to statement timeout"
        await client.ask("set statement_timeout = 0")
        assert await client.ask("select 1") == [("1",)]

    with_client(tmp_path, test)


def test_a_query_whose_fragments_moved_is_planned_again(tmp_path: Path) -> None:
    async def run(cluster: MiniCluster) -> None:
        await cluster.define("create table t (k bigint primary key)")
        client = Client(cluster.session())
        first = cluster.nodes[0]
        first.storage.refuse_next = 1
        # The catalog has not moved: the error is the statement's.
        await client.refused("select count(*) from t", ObjectNotInPrerequisiteState)

        async def move() -> None:
            await first.catalog.execute(CreateSchema("moved"))

        first.storage.refuse_next = 1
        first.storage.on_refusal = move
        assert await client.ask("select count(*) from t") == [("0",)]

    in_cluster(tmp_path, run, functions=True)


# -- ANALYZE, EXPLAIN, system tables ----------------------------------------------------------


def test_changes_are_explained_with_their_durability(tmp_path: Path) -> None:
    async def run(cluster: MiniCluster) -> None:
        await cluster.define(
            "create table t (k bigint primary key, v text) with (durability = 'async')"
        )
        client = Client(cluster.session(1))
        for change, word in (
            ("insert into t values (1, 'one')", "Insert on t"),
            ("update t set v = 'x'", "Update on t"),
            ("delete from t", "Delete on t"),
        ):
            text = str(await client.ask(f"explain {change}"))
            assert word in text
            assert "Durability: async" in text
            assert '"Durability": "async"' in str(
                await client.ask(f"explain (format json) {change}")
            )

    in_cluster(tmp_path, run)


def test_analyze_measures_every_column(tmp_path: Path) -> None:
    async def run(cluster: MiniCluster) -> None:
        await cluster.define(
            "create table t (k bigint primary key, g int, s text, d date) "
            "partition by hash (k) partitions 4 column groups (a (g), b (s, d))"
        )
        rows = 20_000
        days = pa.array([n % 365 for n in range(rows)], pa.int32()).cast(pa.date32())
        cluster.insert(
            "t",
            pa.table(
                {
                    "k": pa.array(range(rows), pa.int64()),
                    "g": pa.array([n % 7 if n % 4 else None for n in range(rows)], pa.int32()),
                    "s": [f"{n % 1000:06d}" for n in range(rows)],
                    "d": days,
                }
            ),
        )
        client = Client(cluster.session(1))
        await client.ask("analyze t")
        assert client.tag == "ANALYZE"
        catalog = cluster.nodes[0].catalog.current
        table = catalog.find_table("t")
        assert table is not None
        statistics = catalog.statistics[table.id]
        assert statistics.rows == rows
        assert len(statistics.part_rows) == 4
        assert sum(statistics.part_rows) == rows
        k, g, s, d = (statistics.columns[column.id] for column in table.columns)
        assert (k.low, k.high, k.width_bytes) == ("0", str(rows - 1), 8.0)
        assert abs(k.distinct - rows) < rows * 0.1
        assert (g.low, g.high, g.distinct) == ("0", "6", 7)
        assert g.null_fraction == 0.25
        assert (s.low, s.high, s.width_bytes) == ("000000", "000999", 6.0)
        assert abs(s.distinct - 1000) < 100
        assert (d.low, d.high) == ("1970-01-01", "1970-12-31")
        await client.ask("analyze t (g); analyze; vacuum analyze t")
        await client.refused("analyze no_such_table", UndefinedTable)
        await client.refused("analyze t (no_such_column)", UndefinedColumn)

    in_cluster(tmp_path, run, functions=True)


def test_statistics_follow_loads(tmp_path: Path) -> None:
    async def run(cluster: MiniCluster) -> None:
        await cluster.define("create table t (k bigint primary key)")
        node = cluster.nodes[0]
        table = node.catalog.current.find_table("t")
        assert table is not None
        watch = node.coordinator.load_watch
        watch.changed(table.id, 499)
        await watch.settled()
        assert table.id not in node.catalog.current.statistics
        cluster.insert("t", pa.table({"k": pa.array(range(1000), pa.int64())}))
        watch.changed(table.id, 1)
        await watch.settled()
        assert node.catalog.current.statistics[table.id].rows == 1000
        cluster.insert("t", pa.table({"k": pa.array(range(1000, 1599), pa.int64())}))
        watch.changed(table.id, 599)
        await watch.settled()
        assert node.catalog.current.statistics[table.id].rows == 1000
        watch.changed(table.id, 1)
        await watch.settled()
        assert node.catalog.current.statistics[table.id].rows == 1599

    in_cluster(tmp_path, run, functions=True)


def test_explain(tmp_path: Path) -> None:
    async def run(cluster: MiniCluster) -> None:
        await cluster.define("create table t (k bigint primary key, v int)")
        cluster.insert(
            "t",
            pa.table({"k": pa.array(range(10), pa.int64()), "v": pa.array(range(10), pa.int32())}),
        )
        client = Client(cluster.session())
        lines = [line for (line,) in await client.ask("explain select count(*) from t")]
        assert any("t" in (line or "") for line in lines)
        assert client.tag == "EXPLAIN"
        analyzed = await client.ask("explain analyze select count(*) from t")
        text = "\n".join(line or "" for (line,) in analyzed)
        assert "Execution Time" in text
        assert "rows=1" in text
        [(document,)] = await client.ask("explain (format json, analyze) select * from t")
        assert document is not None
        assert '"Actual Rows"' in document
        [(document,)] = await client.ask("explain (format json) delete from t where k = 1")
        assert document is not None
        assert '"Operation": "Delete"' in document

    in_cluster(tmp_path, run, functions=True)


def test_system_tables(tmp_path: Path) -> None:
    async def run(cluster: MiniCluster) -> None:
        await cluster.define("create table t (k bigint primary key, v int)")
        client = Client(cluster.session(2))
        names = "select relname from pg_class where relkind = 'r' and relname = 't'"
        assert await client.ask(names) == [("t",)]
        assert await client.ask("select count(*) from dqe.nodes where live") == [("3",)]
        setting = "select setting from pg_settings where name = 'TimeZone'"
        await client.ask("set timezone = 'Asia/Tokyo'")
        assert await client.ask(setting) == [("Asia/Tokyo",)]

    in_cluster(tmp_path, run, functions=True)


def test_types_told_before_running_hold(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        statement = (await client.session.parse("select $1 + 1 as n"))[0]
        prepared = await client.session.prepare(statement, [INT4])
        assert prepared.columns is not None
        result = await client.session.execute(prepared, ["41"])
        assert result.columns is not None
        assert [c.type for c in result.columns] == [c.type for c in prepared.columns]
        await result.close()

    with_client(tmp_path, test)


def test_a_definition_in_force_is_not_called_refused(tmp_path: Path) -> None:
    """Although a node that answers does not take it over in time."""

    async def ensure_everywhere(version: int) -> None:
        raise CannotConnectNow(f"node 2 has not taken over catalog version {version} in time")

    async def run(cluster: MiniCluster) -> None:
        await cluster.define("create table people (id bigint primary key, name text)")
        catalog = cluster.nodes[0].catalog
        catalog.ensure_everywhere = ensure_everywhere  # type: ignore[attr-defined]
        client = Client(cluster.session())
        await client.ask("create schema s")
        assert client.tag == "CREATE SCHEMA"
        assert "s" in catalog.current.schemas
        table = next(t for t in catalog.current.tables.values() if t.name == "people")
        await client.ask("create index i on people (name)")
        assert client.tag == "CREATE INDEX"
        # Writers must be known to keep a unique one before its rows are looked through.
        with pytest.raises(CannotConnectNow):
            await client.ask("create unique index u on people (id, name)")
        table = catalog.current.tables[table.id]
        assert [index.name for index in table.indexes] == ["i"]

    in_cluster(tmp_path, run)
