"""The node's side of every query: runs its tasks, and receives what other nodes' tasks send.

A query on a node is a `NodeQuery`: made from one `RunTasks`, it gives each task its inboxes
and sinks, a store snapshot and a thread, and ends when all have ended. `StageRunner` knows
the queries of the node and answers the two requests of `executor.messages`.

Streams may come before the `RunTasks` they belong to, and after the query has ended here; a
finished query's id is remembered for a while so that a late producer is told to stop.

Invariants:
- Whatever ends a query here (its end, an error in any task, the caller giving up, a producer
  that died) ends all of it: threads, cursors, snapshots, streams, spill files. `NodeQuery.run`
  returns only when they have.
- The first error is the one reported; those it caused are not.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from catalog.model import NodeId
from cluster.errors import CannotConnectNow, DqeError, InternalError, QueryCanceled
from cluster.rpc import CallContext, Stream
from executor.cancellation import Cancellation
from executor.inbox import Chunk, Offer, TaskInputs
from executor.messages import (
    OPEN_EXCHANGE,
    RESULT_READER,
    RUN_TASKS,
    OpenExchange,
    Reader,
    RefreshedRows,
    RunTasks,
    Task,
    TasksDone,
    TaskStatistics,
)
from executor.outbox import BATCH_HEADER, LocalSink, RemoteSink, Sink, TaskOutput
from executor.services import ExecutorServices
from executor.spill import SpillSpace
from executor.stage_task import StageTask
from executor.stage_threads import StageThreads
from executor.system_scan import NOTHING, ask_nodes, system_rows
from planner.plan import SystemScan

logger = logging.getLogger(__name__)

# A stream that arrives before its query's tasks waits this long for them.
ARRIVAL_TIMEOUT_S = 30.0
# Ids of finished queries kept to tell late producers.
FINISHED_KEPT = 10_000
# An interrupt that comes just before its statement starts is lost, so it is repeated.
INTERRUPT_EVERY_S = 0.02


@dataclass(slots=True)
class _Running:
    """A coroutine of a query; one whose thread runs must be waited for, others cancelled."""

    task: asyncio.Task[None] | None = None
    in_thread: bool = False


class NodeQuery:
    """One query's tasks on this node."""

    def __init__(
        self,
        runner: StageRunner,
        request: RunTasks,
        result_producers: Mapping[int, int] | None = None,
    ) -> None:
        """`result_producers` is given on the coordinator: the root's exchange and its tasks."""
        self._runner = runner
        self._services = runner.services
        self.request = request
        self.cancellation = Cancellation()
        self.inputs = {
            task.stage_id: TaskInputs(
                {item.exchange_id: item.count for item in task.producers},
                runner.spill_space,
                runner.credit_bytes,
            )
            for task in request.tasks
        }
        if result_producers is not None:
            self.inputs[RESULT_READER] = TaskInputs(
                result_producers, runner.spill_space, runner.credit_bytes
            )
        self.known_schemas = {
            exchange_id: pa.ipc.read_schema(pa.py_buffer(encoded))
            for exchange_id, encoded in request.schemas.items()
        }
        self._announce_known()
        self._running: list[_Running] = []
        self._stage_tasks: list[StageTask] = []
        self._everything: asyncio.Future[list[Any]] | None = None
        self.statistics: list[TaskStatistics] = []
        self._asked = NOTHING

    def _announce_known(self) -> None:
        """Tasks need not wait for the producers of what is known to bind their statements."""
        for inputs in self.inputs.values():
            for exchange_id in inputs.exchange_ids:
                if exchange_id in self.known_schemas:
                    inputs.announce(exchange_id, self.known_schemas[exchange_id])

    @property
    def schemas(self) -> dict[int, bytes]:
        """What the tasks that have run here sent, by exchange, encoded."""
        return {
            task.task.exchange.id: task.schema.serialize().to_pybytes()
            for task in self._stage_tasks
            if task.schema is not None
        }

    async def run(self) -> None:
        """Runs all tasks to their end; raises the error that stopped them, if one did."""
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            for inputs in self.inputs.values():
                stack.enter_context(self.cancellation.waking(partial(self._fail_inputs, inputs)))
            wake = partial(call_in_loop, loop, self._on_failure)
            stack.enter_context(self.cancellation.waking(wake))
            try:
                stack.enter_context(self._runner.threads.admit(len(self.request.tasks)))
                await self._run_tasks()
            except DqeError as error:
                self.cancellation.fail(error)
            finally:
                for stage_id, inputs in self.inputs.items():
                    if stage_id != RESULT_READER or self.cancellation.error is not None:
                        inputs.close()
        self.cancellation.check()

    def _fail_inputs(self, inputs: TaskInputs) -> None:
        assert self.cancellation.error is not None
        inputs.fail(self.cancellation.error)

    async def _run_tasks(self) -> None:
        await self._services.catalog.wait_version(
            self.request.catalog_version, self.request.deadline_s
        )
        try:
            scans = [scan for task in self.request.tasks for scan in task.system_scans]
            self._asked = await ask_nodes(self._services, scans)
            for task in self.request.tasks:
                self._start_task(task)
        except Exception as error:  # noqa: BLE001 - those that started must be waited for
            self.cancellation.fail(as_query_error(error))
        self._everything = asyncio.gather(
            *(running.task for running in self._running if running.task is not None),
            return_exceptions=True,
        )
        if self.cancellation.error is not None:
            self._on_failure()
        try:
            await asyncio.shield(self._everything)
        except asyncio.CancelledError:
            self.cancellation.fail(QueryCanceled("canceling statement due to user request"))
            while not self._everything.done():
                await self._services.runtime.sleep(INTERRUPT_EVERY_S)
            raise

    def _on_failure(self) -> None:
        """Cancels what waits on the event loop; threads are woken by their own wakers, and
        again until they have ended, because an interrupt may come too early."""
        if self._everything is None or self._everything.done():
            return
        for running in self._running:
            if running.task is not None and not running.in_thread:
                running.task.cancel()
        self._services.runtime.call_later(INTERRUPT_EVERY_S, self._wake_again)

    def _wake_again(self) -> None:
        if self._everything is not None and not self._everything.done():
            self.cancellation.wake()

    def _start_task(self, task: Task) -> None:
        sinks = [self._sinks(task, reader) for reader in task.readers]
        stage_task = StageTask(
            task,
            self.inputs[task.stage_id],
            TaskOutput(task.exchange.kind, sinks),
            self._system_rows(task.system_scans),
            self.request.settings,
            self.cancellation,
            self.request.refreshed,
            self.known_schemas.get(task.exchange.id),
        )
        self._stage_tasks.append(stage_task)
        remote = [sink for row in sinks for sink in row if isinstance(sink, RemoteSink)]
        for sink in remote:
            self._spawn(sink.pump(), f"exchange {task.exchange.id}", _Running())
        running = _Running()
        self._spawn(self._run_task(stage_task, remote, running), f"stage {task.stage_id}", running)

    def _system_rows(self, scans: Sequence[SystemScan]) -> dict[int, pa.Table]:
        settings = self.request.settings
        return {scan.id: system_rows(self._services, scan, settings, self._asked) for scan in scans}

    def _spawn(self, work: Any, name: str, running: _Running) -> None:
        running.task = self._services.runtime.spawn(self._guard(work), f"{name} of query")
        self._running.append(running)

    async def _guard(self, work: Any) -> None:
        """A failure of one is a failure of all, told once."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the driver loop: nothing may end a task unheard
            self.cancellation.fail(as_query_error(error))

    async def _run_task(
        self, stage_task: StageTask, remote: Sequence[RemoteSink], running: _Running
    ) -> None:
        runtime = self._services.runtime
        started_s = runtime.monotonic()
        task = stage_task.task
        snapshot = await self._services.storage.open_snapshot(
            [
                (fragment.tablet_id, fragment.fragment_id)
                for local in task.scans
                for fragment in local.fragments
            ],
            self.request.timestamp,
            self.request.deadline_s,
            self.request.own,
            _refreshed_at(self.request.refreshed),
        )
        answered = Counter(snapshot.answered)
        running.in_thread = True
        try:
            await self._runner.threads.run(stage_task, snapshot)
        finally:
            running.in_thread = False
            stage_task.inputs.close()
        self.statistics.append(
            TaskStatistics(
                stage_id=task.stage_id,
                node_id=self._services.node_id,
                rows=stage_task.output.rows,
                bytes=stage_task.output.bytes,
                sent_bytes=sum(sink.sent_bytes for sink in remote),
                spilled_bytes=stage_task.inputs.spilled_bytes,
                elapsed_ms=(runtime.monotonic() - started_s) * 1000,
                answered=dict(sorted(answered.items())),
            )
        )

    def _sinks(self, task: Task, reader: Reader) -> list[Sink]:
        return [self._sink(task, reader.stage_id, node_id) for node_id in reader.nodes]

    def _sink(self, task: Task, reader_stage_id: int, node_id: NodeId) -> Sink:
        exchange_id = task.exchange.id
        if node_id == self._services.node_id:
            return LocalSink(self.inputs[reader_stage_id], exchange_id, self.cancellation)
        request = OpenExchange(
            self.request.query_id, exchange_id, reader_stage_id, self._services.node_id
        )
        return RemoteSink(
            partial(self._open_stream, node_id, request),
            self.cancellation,
            schema_known=exchange_id in self.known_schemas,
        )

    async def _open_stream(self, node_id: NodeId, request: OpenExchange) -> Stream:
        address = self._runner.address_of(node_id)
        try:
            return await self._services.rpc.open_stream(address, OPEN_EXCHANGE, request)
        except CannotConnectNow as error:
            raise node_lost(node_id, address, error) from error


class StageRunner:
    """The queries of this node. Construct it once; it registers its requests."""

    def __init__(
        self,
        services: ExecutorServices,
        spill_space: SpillSpace,
        threads: StageThreads,
        credit_bytes: int,
    ) -> None:
        self.services = services
        self.spill_space = spill_space
        self.threads = threads
        self.credit_bytes = credit_bytes
        self._queries: dict[str, NodeQuery] = {}
        self._awaited: dict[str, list[asyncio.Future[None]]] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()
        services.rpc.handle(RUN_TASKS, RunTasks, self._run_tasks)
        services.rpc.handle_stream(OPEN_EXCHANGE, OpenExchange, self._receive)

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the queries that have tasks here now."""
        return tuple(self._queries)

    def address_of(self, node_id: NodeId) -> str:
        """Where that node listens for others; CannotConnectNow for one that is gone."""
        node = self.services.catalog.current.nodes.get(node_id)
        if node is None:
            raise CannotConnectNow(f"node {node_id} is not part of the cluster any more")
        return node.rpc_address

    def add(self, query: NodeQuery) -> None:
        """From here on streams find the query's inboxes."""
        query_id = query.request.query_id
        self._queries[query_id] = query
        for future in self._awaited.pop(query_id, []):
            if not future.done():
                future.set_result(None)

    def remove(self, query: NodeQuery) -> None:
        """The query has ended here; producers that come late are told so."""
        query_id = query.request.query_id
        del self._queries[query_id]
        self._finished[query_id] = None
        if len(self._finished) > FINISHED_KEPT:
            self._finished.popitem(last=False)

    async def _run_tasks(
        self, context: CallContext, request: RunTasks, body: bytes | memoryview
    ) -> TasksDone:
        query = NodeQuery(self, request)
        self.add(query)
        try:
            await query.run()
        finally:
            self.remove(query)
        schemas = {} if request.schemas else query.schemas
        return TasksDone(tuple(query.statistics), schemas)

    async def _receive(self, context: CallContext, request: OpenExchange, stream: Stream) -> None:
        """Puts what a producer sends into the inbox of its consumer; returning early tells it
        that no more is wanted."""
        query = await self._find(request.query_id)
        if query is None:
            return
        try:
            await self._fill(query, request, stream)
        except CannotConnectNow as error:
            lost = node_lost(request.producer, context.peer_address, error)
            query.cancellation.fail(lost)
            raise lost from error
        except DqeError as error:
            query.cancellation.fail(error)
            raise
        except asyncio.CancelledError:
            # The stream ended while this end was not reading: it had not begun to, or waited
            # for room in the inbox. The producer failed, or its node went away.
            ended = stream.error
            if ended is None or isinstance(ended, CannotConnectNow):
                ended = node_lost(request.producer, context.peer_address, ended)
            query.cancellation.fail(ended)
            raise
        except Exception as error:
            # What a peer sent made no sense (an unknown stage, one producer too many): the
            # query would wait for ever for what it did not send.
            query.cancellation.fail(
                InternalError(f"an exchange from node {request.producer} broke: {error!r}")
            )
            raise

    async def _find(self, query_id: str) -> NodeQuery | None:
        """The query, waiting for its tasks to arrive; None when it has ended here."""
        while query_id not in self._queries:
            if query_id in self._finished:
                return None
            future = asyncio.get_running_loop().create_future()
            self._awaited.setdefault(query_id, []).append(future)
            try:
                async with asyncio.timeout(ARRIVAL_TIMEOUT_S):
                    await future
            except TimeoutError:
                raise CannotConnectNow(
                    f"node {self.services.node_id} was sent rows of a query it does not run"
                ) from None
            finally:
                waiting = self._awaited.get(query_id, [])
                if future in waiting:
                    waiting.remove(future)
                if not waiting:
                    self._awaited.pop(query_id, None)
        return self._queries[query_id]

    async def _fill(self, query: NodeQuery, request: OpenExchange, stream: Stream) -> None:
        inputs, exchange_id = query.inputs[request.reader_stage_id], request.exchange_id
        schema = query.known_schemas.get(exchange_id)
        while (message := await stream.receive()) is not None:
            header, body = message
            if header == BATCH_HEADER:
                if schema is None:
                    raise InternalError("an exchange brought rows before their schema")
                if not await self._deliver(inputs, exchange_id, Chunk(schema, body)):
                    return
            else:
                schema = pa.ipc.read_schema(pa.py_buffer(body))
                inputs.announce(exchange_id, schema)
        inputs.producer_finished(exchange_id)

    async def _deliver(self, inputs: TaskInputs, exchange_id: int, chunk: Chunk) -> bool:
        """False when nobody reads there any more."""
        while True:
            if inputs.would_spill(exchange_id):
                offer = partial(inputs.offer, exchange_id, chunk)
                outcome = await self.services.runtime.run_blocking(offer)
            else:
                outcome = inputs.offer(exchange_id, chunk)
            if outcome is not Offer.HELD:
                return outcome is Offer.TAKEN
            await _released(inputs, exchange_id)


async def _released(inputs: TaskInputs, exchange_id: int) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    inputs.when_released(exchange_id, partial(call_in_loop, loop, partial(resolve, future)))
    await future


def _refreshed_at(refreshed: Sequence[RefreshedRows]) -> int | None:
    """The one later timestamp at which some relations are read, if any are."""
    return refreshed[0].timestamp if refreshed else None


def resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def call_in_loop(loop: asyncio.AbstractEventLoop, callback: Any) -> None:
    """From any thread; a loop that is closed has nobody waiting in it."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)


def node_lost(node_id: NodeId, address: str, error: DqeError | None) -> CannotConnectNow:
    """The error a client gets when a node that its statement needs is gone."""
    detail = None if error is None else error.detail or error.message
    return CannotConnectNow(f"node {node_id} at {address} cannot be reached", detail=detail)


def as_query_error(error: Exception) -> DqeError:
    """The error as the client gets it; one that is not ours is logged."""
    if isinstance(error, DqeError):
        return error
    logger.error("part of a query failed", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")
