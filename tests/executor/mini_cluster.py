"""A few nodes in one process for the executor's tests: real RPC over loopback, real DuckDB,
and in place of the lower floors' catalog and stores the least that stage tasks need.

A table is a DuckDB table per node; a scan's fragment names it by number: `t<fragment id>`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from catalog.bounds import route
from catalog.commands import (
    AddNode,
    AnyCommand,
    CommandResult,
    CreateCluster,
    CreateTable,
    Envelope,
)
from catalog.liveness import NodeLoad, ReplicaTroubles
from catalog.model import (
    AccessMethod,
    Catalog,
    Fragment,
    FragmentId,
    NodeId,
    Part,
    Table,
    TableId,
    TabletId,
)
from catalog.state import CatalogState
from cluster.errors import DqeError, ObjectNotInPrerequisiteState
from cluster.raft.log import Configuration
from cluster.rpc import RpcNode
from cluster.runtime import ProductionRuntime, run_production
from cluster.transport import TcpTransport
from executor.coordinator import Coordinator
from executor.exchange import DEFAULT_CREDIT_BYTES
from executor.services import ExecutorServices
from executor.session import Session
from executor.spill import SpillSpace
from executor.stage_runner import StageRunner
from executor.stage_threads import StageThreads
from executor.writes_ids import UniqueIds
from planner import macros, udfs
from planner.context import PlannerContext
from planner.ddl import plan_ddl
from planner.ddl_plan import ChangeCatalog
from planner.parser import parse
from planner.plan import (
    Exchange,
    ExchangeKind,
    PlanNote,
    QueryPlan,
    ResultColumn,
    Scan,
    ScanColumn,
    ScanFragment,
    Stage,
    StageColumn,
    StageInput,
)
from storage.duckdb_node import SETTINGS
from storage.types import ANY, INT8, SqlType, duckdb_type

CLUSTER_ID = "test-cluster"


class FakeSnapshot:
    """A cursor over the node's DuckDB; counts itself so that tests see what is left open."""

    def __init__(self, storage: FakeStorage) -> None:
        self._storage = storage
        self.answered: Sequence[str] = ()
        self.cursor = storage.database.cursor()
        self.cursor.execute("BEGIN")
        self._closed = False

    def relation_sql(
        self, tablet_id: TabletId, fragment_id: FragmentId, columns: Sequence[str]
    ) -> str:
        names = ", ".join(f'"{column}"' for column in columns) or "1 AS one"
        return f"(SELECT {names} FROM t{fragment_id})"

    def check_alive(self) -> None:
        return

    def check_damage(self, error: BaseException) -> None:
        return

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.cursor.close()
            with self._storage.lock:
                self._storage.open_snapshots -= 1


class FakeStorage:
    def __init__(self, *, functions: bool) -> None:
        self.database = duckdb.connect(config={"threads": 2})
        for name, value in SETTINGS:
            self.database.execute(f"SET GLOBAL {name} = {value}")
        if functions:
            for statement in macros.SETUP_SQL:
                self.database.execute(statement)
            udfs.register(self.database)
        self.open_snapshots = 0
        self.refuse_next = 0
        self.on_refusal: Callable[[], Awaitable[None]] | None = None
        self.lock = threading.Lock()

    async def open_snapshot(
        self, reads: Sequence[tuple[int, int]], timestamp: int, deadline_s: float, *more: Any
    ) -> FakeSnapshot:
        if self.refuse_next:
            self.refuse_next -= 1
            if self.on_refusal is not None:
                await self.on_refusal()
            raise ObjectNotInPrerequisiteState("a fragment is not on this node")
        with self.lock:
            self.open_snapshots += 1
        return FakeSnapshot(self)


class FakeLiveness:
    def __init__(self, catalog: FakeCatalog) -> None:
        self._catalog = catalog

    def live_nodes(self) -> tuple[NodeId, ...]:
        return tuple(self._catalog.current.nodes)

    def is_live(self, node_id: NodeId) -> bool:
        return node_id in self._catalog.current.nodes

    def tablet_bytes(self, node_id: NodeId) -> dict[TabletId, int]:
        return {}

    def leader_of(self, tablet_id: int) -> NodeId | None:
        return None

    def troubles_of(self, node_id: int) -> ReplicaTroubles:
        return ReplicaTroubles()

    def silent_s(self, node_id: int) -> float:
        return 0.0

    def load_of(self, node_id: int) -> NodeLoad:
        return NodeLoad()


class FakeGroup:
    """The catalog always has a leader."""

    leader_id = 1
    configuration = Configuration((1,))


class FakeCatalog:
    """One state machine that all nodes share; a test may set a node's `current` apart."""

    def __init__(self, state: CatalogState) -> None:
        self._state = state
        self._commands = 0
        self._own: Catalog | None = None
        self.liveness = FakeLiveness(self)
        self.group = FakeGroup()

    @property
    def current(self) -> Catalog:
        return self._own or self._state.catalog

    @current.setter
    def current(self, catalog: Catalog) -> None:
        self._own = catalog

    async def wait_version(self, version: int, deadline_s: float = 10.0) -> Catalog:
        while self.current.version < version:
            await asyncio.sleep(0.001)
        return self.current

    async def execute(self, command: AnyCommand, deadline_s: float = 10.0) -> CommandResult:
        self._commands += 1
        envelope = Envelope(f"{id(self)}.{self._commands}", command)
        outcome = self._state.apply_envelope(envelope)
        if isinstance(outcome, DqeError):
            raise outcome
        return outcome


class FakeTimestamps:
    def __init__(self, catalog: FakeCatalog) -> None:
        self._catalog = catalog
        self.held_now: list[int] = []
        self._next = 100

    async def snapshot(self, deadline_s: float = 10.0) -> tuple[int, int]:
        self._next += 1
        return self._next, self._catalog.current.version

    @contextmanager
    def held(self, timestamp: int) -> Iterator[None]:
        self.held_now.append(timestamp)
        try:
            yield
        finally:
            self.held_now.remove(timestamp)


@dataclass
class MiniNode:
    id: NodeId
    rpc: RpcNode
    storage: FakeStorage
    catalog: FakeCatalog
    timestamps: FakeTimestamps
    services: ExecutorServices
    runner: StageRunner
    coordinator: Coordinator
    address: str

    def load(self, fragment_id: int, sql: str) -> None:
        self.storage.database.execute(f"CREATE TABLE t{fragment_id} AS {sql}")


def _columnar(command: CreateTable) -> CreateTable:
    """The same for the only kind of store that there is here."""
    definition = replace(command.definition, access_method=AccessMethod.COLUMNAR)
    return msgspec.structs.replace(command, definition=definition)


class MiniCluster:
    def __init__(self, runtime: ProductionRuntime, nodes: list[MiniNode]) -> None:
        self.runtime = runtime
        self.nodes = nodes

    def session(self, at: int = 0, **startup: str) -> Session:
        node = self.nodes[at]
        return Session(node.services, node.coordinator, user="alice", startup=startup)

    async def define(self, sql: str) -> None:
        """Runs definitions, and makes empty stores for the fragments of new tables."""
        node = self.nodes[0]
        for statement in parse(sql):
            now = self.runtime.now()
            context = PlannerContext(node.catalog.current, node.id, now, now)
            planned = plan_ddl(statement, context)
            assert isinstance(planned, ChangeCatalog)
            for command in planned.commands:
                made = _columnar(command) if isinstance(command, CreateTable) else command
                await node.catalog.execute(made)
        for table in node.catalog.current.tables.values():
            for _, fragment, holder in self._fragments(table):
                columns = ", ".join(
                    f"c{column.id} {duckdb_type(column.type)}"
                    for column in table.group_columns(fragment.group_id)
                )
                holder.storage.database.execute(
                    f"CREATE TABLE IF NOT EXISTS t{fragment.id} ({columns})"
                )

    def _fragments(self, table: Table) -> Iterator[tuple[Part, Fragment, MiniNode]]:
        tablets = self.nodes[0].catalog.current.tablets
        for part in table.parts:
            for fragment in part.fragments:
                for node_id in tablets[fragment.tablet_id].replicas:
                    yield part, fragment, self.nodes[node_id - 1]

    def insert(self, name: str, rows: pa.Table) -> None:
        """Puts rows where they belong; their columns are named as the table's."""
        table = self.nodes[0].catalog.current.find_table(name)
        assert table is not None
        partition_names = [table.column(c).name for c in table.partition_columns]
        columns = [rows.column(each) for each in partition_names]
        ordinals = route(table, columns, rows.num_rows)
        for part, fragment, holder in self._fragments(table):
            chosen = rows.filter(pa.array(ordinals == part.ordinal))
            columns = table.group_columns(fragment.group_id)
            holder.storage.database.register("incoming", chosen)
            names = ", ".join(f'"{column.name}"' for column in columns)
            holder.storage.database.execute(
                f"INSERT INTO t{fragment.id} SELECT {names} FROM incoming"
            )
            holder.storage.database.unregister("incoming")

    @property
    def ids(self) -> tuple[NodeId, ...]:
        return tuple(node.id for node in self.nodes)

    async def rows(self, plan: QueryPlan, at: int = 0, **options: Any) -> list[tuple[Any, ...]]:
        """The plan's whole answer."""
        run = await self.nodes[at].coordinator.run_query(plan, 1, {}, **options)
        batches = [batch async for batch in run.batches()]
        return [row for batch in batches for row in zip(*batch.to_pydict().values(), strict=True)]

    async def running_everywhere(self, work: asyncio.Future[Any]) -> None:
        """Waits until each node has tasks, or `work` has ended without."""
        while any(not node.runner.threads.admitted for node in self.nodes) and not work.done():
            await asyncio.sleep(0.001)

    def leftovers(self) -> dict[str, Any]:
        """What a finished query must not leave behind, where it is not zero."""
        found: dict[str, Any] = {}
        for node in self.nodes:
            counts = {
                "snapshots": node.storage.open_snapshots,
                "queries": node.runner.running,
                "tasks": node.runner.threads.admitted,
                "spilled": node.runner.spill_space.used_bytes,
                "held timestamps": len(node.timestamps.held_now),
            }
            found.update({f"{node.id} {k}": v for k, v in counts.items() if v})
        return found

    async def settled(self) -> None:
        """Waits until nothing is left; fails the test when something stays."""
        for _ in range(3000):
            if not self.leftovers():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"left behind: {self.leftovers()}")


@asynccontextmanager
async def mini_cluster(
    runtime: ProductionRuntime,
    directory: Path,
    count: int = 3,
    credit_bytes: int = DEFAULT_CREDIT_BYTES,
    functions: bool = False,
) -> AsyncIterator[MiniCluster]:
    """`functions` gives DuckDB PostgreSQL's functions, which takes half a second a node."""
    state = CatalogState()
    nodes = [
        await _start(runtime, NodeId(i + 1), directory, credit_bytes, state, functions)
        for i in range(count)
    ]
    first, *others = nodes
    await first.catalog.execute(CreateCluster(CLUSTER_ID, first.address, ""))
    for node in others:
        await node.catalog.execute(AddNode(node.address, ""))
    try:
        yield MiniCluster(runtime, nodes)
    finally:
        for node in nodes:
            await node.rpc.close()
            node.runner.threads.close()
            node.storage.database.close()


async def _start(
    runtime: ProductionRuntime,
    node_id: NodeId,
    directory: Path,
    credit_bytes: int,
    state: CatalogState,
    functions: bool,
) -> MiniNode:
    rpc = RpcNode(runtime, TcpTransport(), cluster_id=lambda: CLUSTER_ID, node_id=lambda: node_id)
    storage, catalog = FakeStorage(functions=functions), FakeCatalog(state)
    timestamps = FakeTimestamps(catalog)
    fakes: dict[str, Any] = {
        "storage": storage,
        "catalog": catalog,
        "timestamps": timestamps,
        "tablets": None,
        "ids": UniqueIds(runtime, node_id),
    }
    services = ExecutorServices(runtime=runtime, rpc=rpc, node_id=node_id, **fakes)
    space = SpillSpace(directory / f"spill{node_id}")
    runner = StageRunner(services, space, StageThreads(), credit_bytes)
    address = await rpc.start("127.0.0.1:0")
    return MiniNode(
        node_id,
        rpc,
        storage,
        catalog,
        timestamps,
        services,
        runner,
        Coordinator(runner),
        address,
    )


def in_cluster(
    directory: Path,
    test: Callable[[MiniCluster], Awaitable[None]],
    **options: Any,
) -> None:
    """Runs the test in a fresh cluster and checks that it leaves nothing running."""

    async def main(runtime: ProductionRuntime) -> None:
        async with mini_cluster(runtime, directory, **options) as cluster:
            async with asyncio.timeout(60):
                await test(cluster)
                await cluster.settled()
        assert not runtime.failures, list(runtime.failures)

    run_production(main)


# -- plans by hand ------------------------------------------------------------------------


def scan(scan_id: int, columns: dict[str, SqlType], fragments: Sequence[Sequence[int]]) -> Scan:
    """`fragments` are those of each node of the stage."""
    return Scan(
        id=scan_id,
        table_id=TableId(1),
        columns=tuple(ScanColumn(n, n, t) for n, t in columns.items()),
        fragments=tuple(
            tuple(ScanFragment(FragmentId(f), TabletId(f)) for f in of_node)
            for of_node in fragments
        ),
    )


def stage(
    stage_id: int,
    sql: str,
    nodes: Sequence[NodeId],
    exchange: Exchange,
    output: Sequence[str],
    scans: Sequence[Scan] = (),
    inputs: Sequence[StageInput] = (),
) -> Stage:
    return Stage(
        id=stage_id,
        sql=sql,
        nodes=tuple(nodes),
        scans=tuple(scans),
        system_scans=(),
        inputs=tuple(inputs),
        output=tuple(StageColumn(name, INT8) for name in output),
        exchange=exchange,
    )


def plan(*stages: Stage, columns: Sequence[ResultColumn] | None = None) -> QueryPlan:
    root = stages[-1]
    assert root.exchange.kind is ExchangeKind.RESULT
    return QueryPlan(
        stages=stages,
        columns=tuple(columns)
        if columns is not None
        else tuple(ResultColumn(c.name, ANY, (c.name,)) for c in root.output),
        catalog_version=1,
        tables=(),
        explanation=PlanNote("Result", root.id),
    )


def result(exchange_id: int = 99) -> Exchange:
    return Exchange(exchange_id, ExchangeKind.RESULT)


def reads(exchange_id: int, *columns: str, rescannable: bool = False) -> StageInput:
    return StageInput(exchange_id, tuple(StageColumn(c, INT8) for c in columns), rescannable)


def table_of(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches)
