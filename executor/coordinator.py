"""Runs a distributed plan from the node the client is connected to.

All tasks start together: this node's here, each other node's with one call. The root's rows
come into an inbox like those of any exchange, and are read from there as fast as the client
takes them; there nothing is spilled, because a client that waits holds its producers back.

A plan of one stage on this node takes no message at all: its task fills the inbox directly.

Invariants:
- A `QueryRun` ends by `finish`, `close` or an error, and then no task of it runs here, and
  every other node has been told.
- `batches` gives every row of the root exactly once and in its order, or raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from catalog.model import NodeId
from cluster.errors import CannotConnectNow, DqeError, InternalError, QueryCanceled
from executor.index_queries import IndexQueries
from executor.joined_queries import JoinedQueries
from executor.load_watch import LoadWatch
from executor.messages import (
    RESULT_READER,
    RUN_TASKS,
    Producers,
    RefreshedRows,
    RunTasks,
    Task,
    TasksDone,
    TaskStatistics,
    readers_of,
    task_of,
)
from executor.plan_cache import PlanCache
from executor.point_queries import PointQueries
from executor.point_writes import PointWrites
from executor.results import ResultShape
from executor.stage_runner import (
    NodeQuery,
    StageRunner,
    as_query_error,
    call_in_loop,
    node_lost,
    resolve,
)
from planner.plan import ExchangeKind, QueryPlan, ResultColumn, SortKey, Stage
from storage.fragments import OwnChanges

# A call without a statement timeout still has a deadline: RPC wants one.
NO_TIMEOUT_S = 7 * 24 * 3600.0
# How long waiting for data that is not there yet may take on a node.
DATA_DEADLINE_S = 15.0
# After the last row, tasks whose rows nobody needed get this long to notice.
GRACE_S = 0.1


@dataclass(frozen=True, slots=True)
class QueryStatistics:
    """What every task did, by stage and then node."""

    tasks: tuple[TaskStatistics, ...]
    elapsed_ms: float


class QueryRun:
    """A query that runs. Close it, or read it to its end."""

    def __init__(
        self,
        runner: StageRunner,
        plan: QueryPlan,
        timestamp: int,
        settings: Mapping[str, str],
        timeout_s: float | None,
        own: OwnChanges | None = None,
        refreshed: tuple[RefreshedRows, ...] = (),
        schemas: dict[int, bytes] | None = None,
    ) -> None:
        self._runner = runner
        self._services = runner.services
        self._plan = plan
        self._timeout_s = timeout_s
        self._exchange_id = plan.root.exchange.id
        self._started_s = self._services.runtime.monotonic()
        self._finished_s: float | None = None
        self._remote_statistics: list[TaskStatistics] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = ExitStack()
        self._shape: ResultShape | None = None
        self._ended = False
        # Filled when the query ends well, for the plan's next run.
        self._schemas = {} if schemas is None else schemas
        requests = self._requests(timestamp, settings, own, refreshed)
        local = requests.pop(self._services.node_id)
        self._remote_requests = requests
        self._query = NodeQuery(runner, local, {self._exchange_id: len(plan.root.nodes)})
        self._results = self._query.inputs[RESULT_READER]

    def _requests(
        self,
        timestamp: int,
        settings: Mapping[str, str],
        own: OwnChanges | None,
        refreshed: tuple[RefreshedRows, ...],
    ) -> dict[NodeId, RunTasks]:
        """Every node's request; the coordinator always has one, if only to read the result."""
        query_id = self._services.runtime.uuid().hex
        return {
            node_id: RunTasks(
                query_id=query_id,
                coordinator=self._services.node_id,
                timestamp=timestamp,
                catalog_version=self._plan.catalog_version,
                settings=dict(settings),
                deadline_s=DATA_DEADLINE_S,
                tasks=tuple(tasks),
                own=own,
                refreshed=refreshed,
                schemas=dict(self._schemas),
            )
            for node_id, tasks in _tasks(self._services.node_id, self._plan).items()
        }

    # -- starting -----------------------------------------------------------------------

    async def start(self) -> None:
        """Starts all tasks and waits until the columns are known; raises what went wrong."""
        loop = asyncio.get_running_loop()
        cancellation = self._query.cancellation
        self._runner.add(self._query)
        self._stack.callback(self._runner.remove, self._query)
        self._stack.callback(self._results.close)
        self._stack.enter_context(cancellation.waking(self._fail_results))
        self._stack.enter_context(
            cancellation.waking(partial(call_in_loop, loop, self._give_up_calls))
        )
        spawn = self._services.runtime.spawn
        self._local_task = spawn(self._run_local(), "local tasks of a query")
        self._tasks = [
            spawn(self._run_remote(node_id, request), f"tasks of a query on node {node_id}")
            for node_id, request in self._remote_requests.items()
        ]
        try:
            while (schema := self._results.peek_schema(self._exchange_id)) is None:
                await self._arrival()
            self._shape = ResultShape(self._plan.columns, schema)
        except BaseException as error:
            await self._fail(error)
            raise

    async def _run_local(self) -> None:
        try:
            await self._query.run()
        except Exception as error:  # noqa: BLE001 - the driver: whoever reads has to hear of it
            self._query.cancellation.fail(as_query_error(error))

    async def _run_remote(self, node_id: NodeId, request: RunTasks) -> None:
        timeout_s = NO_TIMEOUT_S if self._timeout_s is None else self._timeout_s + GRACE_S
        try:
            address = self._runner.address_of(node_id)
            reply = await self._services.rpc.call(
                address, RUN_TASKS, request, TasksDone, deadline_s=timeout_s
            )
            self._remote_statistics.extend(reply.header.statistics)
            self._schemas.update(reply.header.schemas)
        except CannotConnectNow as error:
            self._query.cancellation.fail(self._named(node_id, error))
        except Exception as error:  # noqa: BLE001 - the driver: whoever reads has to hear of it
            self._query.cancellation.fail(as_query_error(error))

    def _named(self, node_id: NodeId, error: CannotConnectNow) -> DqeError:
        """Errors of the connection name an address; the user knows nodes by number."""
        node = self._services.catalog.current.nodes.get(node_id)
        if node is not None and node.rpc_address in error.message:
            return node_lost(node_id, node.rpc_address, error)
        return error

    def _fail_results(self) -> None:
        assert self._query.cancellation.error is not None
        self._results.fail(self._query.cancellation.error)

    def _give_up_calls(self) -> None:
        for task in self._tasks:
            task.cancel()

    # -- reading ------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[ResultColumn, ...]:
        """The client's columns, with the types that only DuckDB knew filled in."""
        assert self._shape is not None, "the query has not started"
        return self._shape.columns

    @property
    def waiting_bytes(self) -> int:
        """What has arrived for the client and was not read yet."""
        return self._results.backlog_bytes(self._exchange_id)

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """The rows, in batches whose columns are those of `columns`."""
        assert self._shape is not None, "the query has not started"
        try:
            while True:
                ready, batch = self._results.poll(self._exchange_id)
                if batch is not None:
                    yield self._shape.apply(batch)
                elif ready:
                    break
                else:
                    await self._arrival()
        except GeneratorExit:
            raise  # the reader stopped early; `close` ends the query
        except BaseException as error:
            await self._fail(error)
            raise
        await self.finish()

    async def _arrival(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._results.when_arrived(
            self._exchange_id, partial(call_in_loop, loop, partial(resolve, future))
        )
        await future

    # -- ending -------------------------------------------------------------------------

    async def finish(self) -> None:
        """Waits until every task has ended, when all rows have come; raises the error of one
        that failed. Tasks that work on although their rows are not needed are stopped after a
        moment."""
        if self._ended:
            return
        everything = asyncio.gather(self._local_task, *self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(GRACE_S):
                await asyncio.shield(everything)
        except TimeoutError:
            self._query.cancellation.fail(_Complete("the query is complete"))
        error = self._query.cancellation.error
        if error is None and not self._query.request.schemas:
            self._schemas.update(self._query.schemas)
        await self._end()
        # A node that died after its last row had come took nothing with it.
        if error is not None and not isinstance(error, _Complete | CannotConnectNow):
            raise error

    async def cancel(self, message: str = "canceling statement due to user request") -> None:
        """Stops the query everywhere; whoever reads it gets 57014."""
        self._query.cancellation.fail(QueryCanceled(message))

    async def close(self) -> None:
        """Ends the query, read to its end or not, and waits until nothing of it runs here."""
        if not self._ended:
            self._query.cancellation.fail(QueryCanceled("the query was closed"))
            await self._end()

    async def _fail(self, error: BaseException) -> None:
        if isinstance(error, DqeError):
            self._query.cancellation.fail(error)
        else:
            await self.cancel()
        await self._end()

    async def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            await asyncio.gather(self._local_task, *self._tasks, return_exceptions=True)
        finally:
            self._finished_s = self._services.runtime.monotonic()
            self._stack.close()

    @property
    def statistics(self) -> QueryStatistics:
        """What the tasks did, of those that have ended so far."""
        tasks = [*self._query.statistics, *self._remote_statistics]
        tasks.sort(key=lambda task: (task.stage_id, task.node_id))
        until_s = self._finished_s or self._services.runtime.monotonic()
        return QueryStatistics(tuple(tasks), (until_s - self._started_s) * 1000)


class _Complete(QueryCanceled):
    """Stops what still runs after the last row; no error to anybody."""


def _tasks(coordinator: NodeId, plan: QueryPlan) -> dict[NodeId, list[Task]]:
    """Every node's tasks; the coordinator is there even if it has none."""
    producers = {
        stage.exchange.id: Producers(stage.exchange.id, len(stage.nodes), _read_order(stage))
        for stage in plan.stages
    }
    tasks: dict[NodeId, list[Task]] = {coordinator: []}
    for stage in plan.stages:
        readers = readers_of(stage, plan.stages, coordinator)
        sizes = {len(reader.nodes) for reader in readers}
        if stage.exchange.kind is ExchangeKind.HASH and len(sizes) > 1:
            raise InternalError("the readers of a hash exchange run on different node counts")
        for node_id in stage.nodes:
            tasks.setdefault(node_id, []).append(task_of(stage, node_id, producers, readers))
    return tasks


def _read_order(stage: Stage) -> tuple[SortKey, ...]:
    return stage.exchange.sort if stage.exchange.kind is ExchangeKind.MERGE else ()


class Coordinator:
    """Starts plans on behalf of the sessions of this node."""

    def __init__(self, runner: StageRunner) -> None:
        self._runner = runner
        self.load_watch = LoadWatch(runner.services, self)
        self.plans = PlanCache()
        self.points = PointQueries(runner.services)
        self.indexes = IndexQueries(runner.services)
        self.joins = JoinedQueries(runner.services)
        self.point_writes = PointWrites(runner.services)

    async def run_query(
        self,
        plan: QueryPlan,
        timestamp: int,
        settings: Mapping[str, str],
        timeout_s: float | None = None,
        own: OwnChanges | None = None,
        refreshed: tuple[RefreshedRows, ...] = (),
        schemas: dict[int, bytes] | None = None,
    ) -> QueryRun:
        """Starts the plan at a snapshot, over which a transaction's `own` uncommitted changes
        are seen, and `refreshed` rows in later versions; returns when its columns are known.

        `settings` are those of the session that change what SQL means on a node. `schemas`
        are what earlier runs of the plan told of its exchanges; an empty one is filled. Raises
        the first error of any task. The caller reads the run to its end or closes it.
        """
        run = QueryRun(self._runner, plan, timestamp, settings, timeout_s, own, refreshed, schemas)
        await run.start()
        return run
