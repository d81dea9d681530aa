"""Plans over several nodes, from scans to the client's rows, and how they end when they fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mini_cluster import MiniCluster, in_cluster, plan, reads, result, scan, stage

from catalog.commands import CreateSchema
from cluster.errors import (
    CannotConnectNow,
    ConfigurationLimitExceeded,
    DivisionByZero,
    DqeError,
    InternalError,
    QueryCanceled,
)
from executor import stage_task
from executor.messages import OPEN_EXCHANGE, OpenExchange
from executor.outbox import SCHEMA_HEADER
from executor.stage_threads import StageThreads
from planner.plan import Exchange, ExchangeKind, HostOperation, QueryPlan, ResultColumn, SortKey
from storage.types import INT8, NUMERIC, Kind

COLUMNS = {"k": INT8, "v": INT8}


def load(cluster: MiniCluster, first_fragment: int, rows_a_node: int, columns: str) -> None:
    """One fragment a node, whose numbers `i` go on from node to node."""
    for index, node in enumerate(cluster.nodes):
        low = index * rows_a_node
        node.load(
            first_fragment + index,
            f"SELECT {columns} FROM range({low}, {low + rows_a_node}) r(i)",
        )


def gathered_sum(cluster: MiniCluster, condition: str = "true") -> QueryPlan:
    partial = 'SELECT count(*) AS n, sum(a.v) AS s FROM "@scan:0" a WHERE ' + condition
    return plan(
        stage(
            0,
            partial,
            cluster.ids,
            Exchange(1, ExchangeKind.GATHER),
            ["n", "s"],
            scans=[scan(0, COLUMNS, [[i] for i in range(len(cluster.ids))])],
        ),
        stage(
            1,
            'SELECT sum(n)::BIGINT AS n, sum(s)::BIGINT AS s FROM "@input:1"',
            [cluster.ids[0]],
            result(),
            ["n", "s"],
            inputs=[reads(1, "n", "s")],
        ),
    )


def repartitioned_join(cluster: MiniCluster, **options: Any) -> QueryPlan:
    """Both sides hashed to every node, joined there, counted at one."""
    return plan(
        stage(
            0,
            'SELECT a.k, a.v FROM "@scan:0" a',
            cluster.ids,
            Exchange(1, ExchangeKind.HASH, keys=("k",)),
            ["k", "v"],
            scans=[scan(0, COLUMNS, [[0], [1], [2]])],
        ),
        stage(
            1,
            'SELECT b.k, b.v FROM "@scan:1" b',
            cluster.ids,
            Exchange(2, ExchangeKind.HASH, keys=("k",)),
            ["k", "v"],
            scans=[scan(1, COLUMNS, [[10], [11], [12]])],
        ),
        stage(
            2,
            'SELECT count(*) AS n, sum(x.v + y.v) AS s FROM "@input:1" x '
            'JOIN "@input:2" y ON x.k = y.k',
            cluster.ids,
            Exchange(3, ExchangeKind.GATHER),
            ["n", "s"],
            inputs=[reads(1, "k", "v", **options), reads(2, "k", "v", **options)],
        ),
        stage(
            3,
            'SELECT sum(n)::BIGINT AS n, sum(s)::BIGINT AS s FROM "@input:3"',
            [cluster.ids[1]],
            result(),
            ["n", "s"],
            inputs=[reads(3, "n", "s")],
        ),
    )


@pytest.mark.parametrize("at", [0, 1, 2])
def test_any_node_answers(tmp_path: Path, at: int) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 1000, "i AS k, i * 10 AS v")
        total = sum(i * 10 for i in range(3000))
        assert await cluster.rows(gathered_sum(cluster), at=at) == [(3000, total)]

    in_cluster(tmp_path, test)


def test_a_stage_on_the_coordinator_alone(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        only = plan(stage(0, "SELECT 1 AS a, true AS b", [cluster.ids[0]], result(), ["a", "b"]))
        run = await cluster.nodes[0].coordinator.run_query(only, 1, {})
        assert [column.type.kind for column in run.columns] == [Kind.INT4, Kind.BOOL]
        batches = [batch async for batch in run.batches()]
        assert pa.Table.from_batches(batches).to_pylist() == [{"a": 1, "b": True}]

    in_cluster(tmp_path, test, count=1)


def test_literals_that_look_like_scans_stay(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 1, "i AS k, i AS v")
        sql = """SELECT '"@scan:0" it''s' AS a, a.k AS "odd'""name" FROM "@scan:0" a"""
        scanned = scan(0, COLUMNS, [[0]])
        only = plan(stage(0, sql, [cluster.ids[0]], result(), ["a", "odd'\"name"], scans=[scanned]))
        assert await cluster.rows(only) == [('"@scan:0" it\'s', 0)]

    in_cluster(tmp_path, test, count=1)


def test_scans_of_many_fragments_of_none_and_of_no_columns(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        cluster.nodes[0].load(7, "SELECT 70 AS k, 70 AS v")
        for columns, sql in (
            (COLUMNS, 'SELECT count(a.k) AS n FROM "@scan:0" a'),
            ({}, 'SELECT count(*) AS n FROM "@scan:0" a'),
        ):
            counted = plan(
                stage(
                    0,
                    sql,
                    cluster.ids,
                    Exchange(1, ExchangeKind.GATHER),
                    ["n"],
                    scans=[scan(0, columns, [[0, 7], [1], []])],
                ),
                stage(
                    1,
                    'SELECT sum(n)::BIGINT AS n FROM "@input:1"',
                    [cluster.ids[0]],
                    result(),
                    ["n"],
                    inputs=[reads(1, "n")],
                ),
            )
            assert await cluster.rows(counted) == [(21,)]

    in_cluster(tmp_path, test)


@pytest.mark.parametrize(
    ("rescannable", "kept_bytes"), [(False, 0), (True, stage_task.KEPT_BYTES), (True, 1000)]
)
def test_repartitioned_join(
    tmp_path: Path, rescannable: bool, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_task, "KEPT_BYTES", kept_bytes)

    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 20_000, "i AS k, i AS v")
        # The same keys, lying on other nodes.
        for index, node in enumerate(cluster.nodes):
            node.load(
                10 + index, f"SELECT i AS k, 1 AS v FROM range(60000) r(i) WHERE i % 3 = {index}"
            )
        rows = await cluster.rows(repartitioned_join(cluster, rescannable=rescannable))
        assert rows == [(60_000, sum(range(60_000)) + 60_000)]

    in_cluster(tmp_path, test)


def test_spilling_changes_nothing(tmp_path: Path) -> None:
    """Tiny credit: whatever a task does not read at once goes to disk."""
    spilled: list[int] = []

    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 50_000, "i AS k, i AS v")
        load(cluster, 10, 50_000, "i AS k, 2 AS v")
        run = await cluster.nodes[0].coordinator.run_query(repartitioned_join(cluster), 1, {})
        rows = [batch.to_pylist() async for batch in run.batches()]
        assert rows == [[{"n": 150_000, "s": sum(range(150_000)) + 300_000}]]
        spilled.append(sum(task.spilled_bytes for task in run.statistics.tasks))

    in_cluster(tmp_path, test, credit_bytes=1)
    assert spilled[0] > 0


def test_consumers_that_read_shared_producers_in_opposite_order(tmp_path: Path) -> None:
    """The case that hangs with bounded queues: each join drains the other side first."""

    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 50_000, "i AS k, i AS v")
        load(cluster, 10, 50_000, "i AS k, i AS v")

        def join(stage_id: int, node: int, first: int, second: int, out: int) -> Any:
            # The right side of an outer join is the one DuckDB reads first.
            sql = (
                f'SELECT count(*) AS n FROM "@input:{first}" x '
                f'LEFT JOIN "@input:{second}" y ON x.k = y.k'
            )
            return stage(
                stage_id,
                sql,
                [cluster.ids[node]],
                Exchange(out, ExchangeKind.GATHER),
                ["n"],
                inputs=[reads(first, "k", "v"), reads(second, "k", "v")],
            )

        sources = [
            stage(
                number,
                'SELECT a.k, a.v FROM "@scan:0" a',
                cluster.ids,
                Exchange(number + 1, ExchangeKind.GATHER),
                ["k", "v"],
                scans=[scan(0, COLUMNS, [[base], [base + 1], [base + 2]])],
            )
            for number, base in ((0, 0), (1, 10))
        ]
        both = plan(
            *sources,
            join(2, 1, 1, 2, 3),
            join(3, 2, 2, 1, 4),
            stage(
                4,
                'SELECT a.n + b.n AS n FROM "@input:3" a, "@input:4" b',
                [cluster.ids[0]],
                result(),
                ["n"],
                inputs=[reads(3, "n"), reads(4, "n")],
            ),
        )
        assert await cluster.rows(both) == [(300_000,)]

    in_cluster(tmp_path, test, credit_bytes=1000)


def test_broadcast(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 100, "i AS k, i AS v")
        cluster.nodes[2].load(10, "SELECT i AS k, 5 AS v FROM range(10) r(i)")
        joined = plan(
            stage(
                0,
                'SELECT b.k, b.v FROM "@scan:1" b',
                [cluster.ids[2]],
                Exchange(1, ExchangeKind.BROADCAST),
                ["k", "v"],
                scans=[scan(1, COLUMNS, [[10]])],
            ),
            stage(
                1,
                'SELECT a.k AS k FROM "@scan:0" a JOIN "@input:1" b ON a.k % 10 = b.k',
                cluster.ids,
                Exchange(2, ExchangeKind.GATHER),
                ["k"],
                scans=[scan(0, COLUMNS, [[0], [1], [2]])],
                inputs=[reads(1, "k", "v")],
            ),
            stage(
                2,
                'SELECT count(*) AS n FROM "@input:2"',
                [cluster.ids[0]],
                result(),
                ["n"],
                inputs=[reads(2, "k")],
            ),
        )
        assert await cluster.rows(joined) == [(300,)]

    in_cluster(tmp_path, test)


def test_sorted_streams_are_merged(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 1000, "CASE WHEN i % 100 = 0 THEN NULL ELSE -i END AS k, i AS v")
        order = (SortKey("k", descending=True, nulls_first=False), SortKey("v", False, False))
        merged = plan(
            stage(
                0,
                'SELECT a.k, a.v FROM "@scan:0" a ORDER BY k DESC NULLS LAST, v',
                cluster.ids,
                Exchange(1, ExchangeKind.MERGE, sort=order),
                ["k", "v"],
                scans=[scan(0, COLUMNS, [[0], [1], [2]])],
            ),
            stage(
                1,
                'SELECT k, v FROM "@input:1" LIMIT 2980',
                [cluster.ids[0]],
                result(),
                ["k", "v"],
                inputs=[reads(1, "k", "v")],
            ),
        )
        keyed = [(-i, i) for i in range(3000) if i % 100]
        unkeyed = [(None, i) for i in range(0, 3000, 100)]
        assert await cluster.rows(merged) == (keyed + unkeyed)[:2980]

    in_cluster(tmp_path, test)


def test_exchanges_without_rows_still_have_columns(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        assert await cluster.rows(gathered_sum(cluster, "a.k > 1000000")) == [(0, None)]
        empty = plan(
            stage(
                0,
                'SELECT a.k FROM "@scan:0" a WHERE a.k < 0',
                cluster.ids,
                result(),
                ["k"],
                scans=[scan(0, COLUMNS, [[0], [1], [2]])],
            )
        )
        run = await cluster.nodes[1].coordinator.run_query(empty, 1, {})
        assert [column.name for column in run.columns] == ["k"]
        assert [batch async for batch in run.batches()] == []

    in_cluster(tmp_path, test)


def test_limit_stops_producers(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 1, "i AS k, i AS v")
        endless = plan(
            stage(
                0,
                'SELECT r.i AS k FROM range(1000000000000) r(i), "@scan:0" a',
                cluster.ids,
                Exchange(1, ExchangeKind.GATHER),
                ["k"],
                scans=[scan(0, COLUMNS, [[0], [1], [2]])],
            ),
            stage(
                1,
                'SELECT k FROM "@input:1" LIMIT 5',
                [cluster.ids[1]],
                result(),
                ["k"],
                inputs=[reads(1, "k")],
            ),
        )
        assert len(await cluster.rows(endless)) == 5

    in_cluster(tmp_path, test, credit_bytes=100_000)


def test_session_time_zone_reaches_every_node(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 1, "i AS k, i AS v")
        hours = plan(
            stage(
                0,
                "SELECT extract(hour FROM TIMESTAMPTZ '2024-01-01 00:00:00+00')::INTEGER AS h "
                'FROM "@scan:0"',
                cluster.ids,
                result(),
                ["h"],
                scans=[scan(0, COLUMNS, [[0], [1], [2]])],
            )
        )
        run = await cluster.nodes[0].coordinator.run_query(hours, 1, {"timezone": "Asia/Tokyo"})
        rows = [row["h"] async for batch in run.batches() for row in batch.to_pylist()]
        assert rows == [9, 9, 9]

    in_cluster(tmp_path, test)


def test_quotients_are_postgresqls(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        only = plan(
            stage(0, "SELECT 10::HUGEINT AS s, 3::BIGINT AS n", [cluster.ids[0]], result(), ["s"]),
            columns=[ResultColumn("avg", NUMERIC, ("s", "n"), HostOperation.NUMERIC_DIVIDE)],
        )
        assert await cluster.rows(only) == [("3.3333333333333333",)]

    in_cluster(tmp_path, test, count=1)


def test_an_error_on_one_node_is_the_querys(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 50_000, "i AS k, i AS v")
        failing = gathered_sum(cluster, "a.k // (a.k - 120000) < a.k")
        for at in range(3):
            with pytest.raises(DivisionByZero):
                await cluster.rows(failing, at=at)
            await cluster.settled()

    in_cluster(tmp_path, test)


def test_an_error_behind_the_first_rows(tmp_path: Path) -> None:
    """DuckDB raises it through Arrow, as text, while the rows before it are on their way."""

    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 200_000, "i AS k, i AS v")
        failing = plan(
            stage(
                0,
                "SELECT CASE WHEN a.k = 590000 THEN error('[22012] division by zero') "
                'ELSE a.k::VARCHAR END AS k FROM "@scan:0" a',
                cluster.ids,
                result(),
                ["k"],
                scans=[scan(0, COLUMNS, [[0], [1], [2]])],
            )
        )
        with pytest.raises(DivisionByZero):
            await cluster.rows(failing)

    in_cluster(tmp_path, test)


def test_an_abort_close_behind_rows_is_what_ends_the_query(tmp_path: Path) -> None:
    """The reader is not waiting any more when the abort comes, and not reading yet."""

    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        running = asyncio.ensure_future(cluster.rows(slow(cluster)))
        await cluster.running_everywhere(running)
        first, second = cluster.nodes[:2]
        request = OpenExchange(first.runner.running[0], 1, 1, second.id)
        started, find = asyncio.Event(), first.runner._find

        async def find_and_tell(query_id: str) -> Any:
            started.set()
            return await find(query_id)

        first.runner._find = find_and_tell  # type: ignore[method-assign]
        stream = await second.rpc.open_stream(first.address, OPEN_EXCHANGE, request)
        await started.wait()
        schema = pa.schema([("n", pa.int64()), ("s", pa.int64())])
        await stream.send(bytes(schema.serialize()), SCHEMA_HEADER)
        stream.abort(DivisionByZero("division by zero"))
        with pytest.raises(DivisionByZero):
            await running
        await cluster.settled()

    in_cluster(tmp_path, test)


def test_a_peer_that_sends_nonsense_ends_the_query(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        running = asyncio.ensure_future(cluster.rows(slow(cluster)))
        await cluster.running_everywhere(running)
        first, second = cluster.nodes[:2]
        request = OpenExchange(first.runner.running[0], 1, 1, second.id)
        stream = await second.rpc.open_stream(first.address, OPEN_EXCHANGE, request)
        async with stream:
            await stream.send(b"this is no schema", SCHEMA_HEADER)
            with pytest.raises(DqeError):
                await stream.receive()
        with pytest.raises(InternalError):
            await running
        await cluster.settled()

    in_cluster(tmp_path, test)


@pytest.mark.parametrize("broken", [0, 2])
def test_a_fault_of_our_own_ends_the_query(tmp_path: Path, broken: int) -> None:
    """Whatever is raised where nobody expects it, the client hears of it."""

    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")

        def fail(*arguments: Any) -> None:
            raise RuntimeError("a bug")

        node = cluster.nodes[broken]
        node.storage.open_snapshot = fail  # type: ignore[assignment,method-assign]
        with pytest.raises(InternalError, match="RuntimeError: a bug"):
            await cluster.rows(gathered_sum(cluster))
        node.runner.threads.admit = fail  # type: ignore[assignment,method-assign]
        with pytest.raises(InternalError, match="RuntimeError: a bug"):
            await cluster.rows(gathered_sum(cluster))

    in_cluster(tmp_path, test)


def slow(cluster: MiniCluster) -> QueryPlan:
    """Works for hours on every node before its first row."""
    return gathered_sum(cluster, "(SELECT sum(i) FROM range(100000000000) r(i)) > a.k")


def test_cancelling_frees_everything(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        running = asyncio.ensure_future(cluster.rows(slow(cluster)))
        await cluster.running_everywhere(running)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await cluster.settled()

    in_cluster(tmp_path, test)


def test_cancelling_a_reader_gives_57014(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        endless = plan(
            stage(
                0,
                'SELECT r.i AS k FROM range(1000000000000) r(i), "@scan:0" a',
                cluster.ids,
                result(),
                ["k"],
                scans=[scan(0, COLUMNS, [[0], [1], [2]])],
            )
        )
        run = await cluster.nodes[0].coordinator.run_query(endless, 1, {})

        async def read() -> None:
            async for _ in run.batches():
                await run.cancel()

        with pytest.raises(QueryCanceled):
            await read()
        await cluster.settled()

    in_cluster(tmp_path, test, credit_bytes=100_000)


def test_closing_a_query_that_is_half_read(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 100_000, "i AS k, i AS v")
        whole = plan(
            stage(
                0,
                'SELECT a.k, a.v FROM "@scan:0" a',
                cluster.ids,
                result(),
                ["k", "v"],
                scans=[scan(0, COLUMNS, [[0], [1], [2]])],
            )
        )
        run = await cluster.nodes[0].coordinator.run_query(whole, 1, {})
        batches = run.batches()
        assert (await anext(batches)).num_rows > 0
        await batches.aclose()
        await run.close()
        assert cluster.leftovers() == {} or await cluster.settled() is None

    in_cluster(tmp_path, test, credit_bytes=1000)


def test_a_node_that_is_down_is_named(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        await cluster.nodes[2].rpc.close()
        with pytest.raises(CannotConnectNow, match=r"node 3 at 127\.0\.0\.1"):
            await cluster.rows(gathered_sum(cluster))

    in_cluster(tmp_path, test)


def test_a_node_that_dies_in_the_middle_is_named(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        running = asyncio.ensure_future(cluster.rows(slow(cluster)))
        await cluster.running_everywhere(running)
        cut_off(cluster.nodes[1].rpc)
        with pytest.raises(CannotConnectNow, match=r"node 2 at 127\.0\.0\.1"):
            await running
        await cluster.settled()

    in_cluster(tmp_path, test)


def cut_off(rpc: Any) -> None:
    """Ends the node's connections as the death of its process does: without a word."""
    for connection in list(rpc._incoming):
        connection._connection.abort()


def test_a_node_waits_for_its_catalog(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        version = cluster.nodes[0].catalog.current.version
        ahead = replace(gathered_sum(cluster), catalog_version=version + 1)
        running = asyncio.ensure_future(cluster.rows(ahead))
        await asyncio.sleep(0.05)
        assert not running.done()
        await cluster.nodes[0].catalog.execute(CreateSchema("one_more"))
        assert await running == [(30, sum(range(30)))]

    in_cluster(tmp_path, test)


def test_when_the_coordinator_dies_the_others_stop(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        running = asyncio.ensure_future(cluster.rows(slow(cluster)))
        await cluster.running_everywhere(running)
        for other in cluster.nodes[1:]:
            cut_off(other.rpc)
        with pytest.raises(CannotConnectNow):
            await running
        await cluster.settled()

    in_cluster(tmp_path, test)


def test_many_queries_at_once_with_tiny_credit(tmp_path: Path) -> None:
    """Every task has its thread, so no query waits for another's to end."""

    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 3000, "i AS k, i AS v")
        load(cluster, 10, 3000, "i AS k, 2 AS v")
        queries = [cluster.rows(repartitioned_join(cluster), at=n % 3) for n in range(12)]
        for rows in await asyncio.gather(*queries):
            assert rows == [(9000, sum(range(9000)) + 18_000)]

    in_cluster(tmp_path, test, credit_bytes=1)


def test_more_tasks_than_a_node_takes_are_refused(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 10, "i AS k, i AS v")
        load(cluster, 10, 10, "i AS k, i AS v")
        cluster.nodes[2].runner.threads = StageThreads(max_tasks=2)
        with pytest.raises(ConfigurationLimitExceeded):
            await cluster.rows(repartitioned_join(cluster))

    in_cluster(tmp_path, test)


def test_a_slow_client_holds_its_producers_back(tmp_path: Path) -> None:
    """What waits for the client is bounded by the credit, not by the answer's size."""
    credit_bytes = 200_000

    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 400_000, "i AS k, i AS v")
        whole = plan(
            stage(
                0,
                'SELECT a.k, a.v FROM "@scan:0" a',
                cluster.ids,
                result(),
                ["k", "v"],
                scans=[scan(0, COLUMNS, [[0], [1], [2]])],
            )
        )
        run = await cluster.nodes[0].coordinator.run_query(whole, 1, {})
        batches = run.batches()
        first = await anext(batches)
        await asyncio.sleep(0.3)
        waiting = run.waiting_bytes
        assert waiting < credit_bytes + 4 * first.nbytes
        rows = first.num_rows + sum([batch.num_rows async for batch in batches])
        assert rows == 1_200_000

    in_cluster(tmp_path, test, credit_bytes=credit_bytes)


def test_a_plan_that_ran_before_runs_the_same_with_its_schemas(tmp_path: Path) -> None:
    async def test(cluster: MiniCluster) -> None:
        load(cluster, 0, 1000, "i AS k, i AS v")
        load(cluster, 10, 1000, "i AS k, 2 AS v")
        plan = repartitioned_join(cluster)
        schemas: dict[int, bytes] = {}
        answers = []
        for _ in range(2):
            run = await cluster.nodes[0].coordinator.run_query(plan, 1, {}, schemas=schemas)
            answers.append([batch.to_pylist() async for batch in run.batches()])
            await run.close()
            assert sorted(schemas) == sorted(stage.exchange.id for stage in plan.stages)
        assert answers[0] == answers[1]

    in_cluster(tmp_path, test)
