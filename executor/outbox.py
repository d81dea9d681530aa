"""Where a task's rows go: one sink a consumer, and the rule by which rows are dealt to them.

The task's thread calls `TaskOutput.send` for each batch. A sink on this node puts the batch
into the consumer's inbox as it is; a sink on another node encodes it, queues it, and a
coroutine on the event loop (`RemoteSink.pump`) sends it over a stream. Both block the thread
while the consumer holds its producers back (`executor.exchange`).

Invariants:
- A remote sink queues at most `QUEUE_BYTES` and one batch.
- A message never passes `MESSAGE_BYTES` by more than one row's worth: larger batches are cut.
- Whoever waits here wakes when the query is cancelled, and raises its error.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from cluster.rpc_stream import Stream, StreamClosed
from executor.cancellation import Cancellation
from executor.inbox import Chunk, Offer, TaskInputs
from executor.partition import split, with_place_field, without_place_field
from planner.plan import ExchangeKind

QUEUE_BYTES = 4 * 1024 * 1024
# A first batch below this waits for the next one, or for the end: what is sent together costs
# one message and wakes the other node once.
EAGER_BYTES = 64 * 1024
MESSAGE_BYTES = 8 * 1024 * 1024

# The header of a stream message says what its body is.
SCHEMA_HEADER = b"s"
BATCH_HEADER = b"b"


class Sink(Protocol):
    """One consumer of a task. Called by the task's thread only."""

    def announce(self, schema: pa.Schema) -> None:
        """Tells the consumer the schema; called once, before the first `send`."""
        ...

    def send(self, batch: pa.RecordBatch, encoded: _Encoding) -> bool:
        """Delivers rows, waiting while the consumer holds back; False when it wants none."""
        ...

    def finish(self) -> None:
        """No more rows."""
        ...


class _Encoding:
    """A batch's IPC encoding, made at most once however many remote sinks want it."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        self._encoded: memoryview | None = None

    def get(self) -> memoryview:
        if self._encoded is None:
            self._encoded = memoryview(self._batch.serialize())
        return self._encoded


class LocalSink:
    """A consumer on the same node."""

    def __init__(self, inputs: TaskInputs, exchange_id: int, cancellation: Cancellation) -> None:
        self._inputs = inputs
        self._exchange_id = exchange_id
        self._cancellation = cancellation

    def announce(self, schema: pa.Schema) -> None:
        self._inputs.announce(self._exchange_id, schema)

    def send(self, batch: pa.RecordBatch, encoded: _Encoding) -> bool:
        chunk = Chunk(batch.schema, batch)
        while True:
            self._cancellation.check()
            outcome = self._inputs.offer(self._exchange_id, chunk)
            if outcome is not Offer.HELD:
                return outcome is Offer.TAKEN
            released = threading.Event()
            with self._cancellation.waking(released.set):
                self._inputs.when_released(self._exchange_id, released.set)
                released.wait()

    def finish(self) -> None:
        self._inputs.producer_finished(self._exchange_id)


class RemoteSink:
    """A consumer on another node, reached over a stream that `pump` opens."""

    def __init__(
        self,
        open_stream: Callable[[], Awaitable[Stream]],
        cancellation: Cancellation,
        *,
        schema_known: bool = False,
    ) -> None:
        """`schema_known`: the consumer has the schema from an earlier run of the plan."""
        self._schema_known = schema_known
        self._open_stream = open_stream
        self._cancellation = cancellation
        self._loop = asyncio.get_running_loop()
        self._wake_pump = asyncio.Event()
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[tuple[bytes, memoryview]] = deque()
        self._queued_bytes = 0
        self._finished = False
        self._closed = False
        self.sent_bytes = 0

    def announce(self, schema: pa.Schema) -> None:
        if not self._schema_known:
            self._put(SCHEMA_HEADER, memoryview(schema.serialize()), eager=True)

    def send(self, batch: pa.RecordBatch, encoded: _Encoding) -> bool:
        return self._put(BATCH_HEADER, encoded.get())

    def _put(self, header: bytes, body: memoryview, *, eager: bool = False) -> bool:
        with self._cancellation.waking(self._notify), self._changed:
            self._changed.wait_for(self._may_put)
            self._cancellation.check()
            if self._closed:
                return False
            self._queue.append((header, body))
            self._queued_bytes += len(body)
            eager |= len(self._queue) > 1 or self._queued_bytes >= EAGER_BYTES
        if eager:
            self._signal()
        return True

    def _may_put(self) -> bool:
        return (
            self._queued_bytes < QUEUE_BYTES or self._closed or self._cancellation.error is not None
        )

    def finish(self) -> None:
        with self._changed:
            self._finished = True
        self._signal()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _signal(self) -> None:
        self._loop.call_soon_threadsafe(self._wake_pump.set)

    async def pump(self) -> None:
        """Sends what is queued until the task has finished and the consumer has it all, or
        wants no more. Raises what stopped the consumer."""
        try:
            await self._next()
            stream = await self._open_stream()
            async with stream:
                try:
                    await self._send_all(stream)
                except asyncio.CancelledError:
                    if self._cancellation.error is not None:
                        stream.abort(self._cancellation.error)
                    raise
        finally:
            with self._changed:
                self._closed = True
                self._queue.clear()
                self._changed.notify_all()

    async def _send_all(self, stream: Stream) -> None:
        try:
            while (message := await self._next()) is not None:
                header, body = message
                await stream.send(body, header)
                self._sent(len(body))
            await stream.finish()
            # The consumer's handler sends nothing; it ends when it has taken everything.
            while await stream.receive() is not None:
                pass
        except StreamClosed:
            return  # the consumer has what it wants, as under LIMIT

    async def _next(self) -> tuple[bytes, memoryview] | None:
        while True:
            with self._changed:
                if self._queue:
                    return self._queue[0]
                if self._finished:
                    return None
                self._wake_pump.clear()
            await self._wake_pump.wait()

    def _sent(self, size_bytes: int) -> None:
        self.sent_bytes += size_bytes
        with self._changed:
            self._queue.popleft()
            self._queued_bytes -= size_bytes
            self._changed.notify_all()


@dataclass(slots=True)
class _Outlet:
    """A sink, until its consumer wants no more."""

    sink: Sink
    open: bool = True


class TaskOutput:
    """Deals a task's rows to its sinks, which are in the order of the consumers' nodes."""

    def __init__(self, kind: ExchangeKind, readers: Sequence[Sequence[Sink]]) -> None:
        """`readers` holds, for each stage that reads the exchange, one sink a node of it."""
        self._kind = kind
        self._readers = [[_Outlet(sink) for sink in sinks] for sinks in readers]
        self._outlets = [outlet for outlets in self._readers for outlet in outlets]
        self.rows = 0
        self.bytes = 0

    def produced(self, delivered: pa.Schema) -> pa.Schema:
        """The schema of the batches to `send` for consumers to get this one."""
        return with_place_field(delivered) if self._kind is ExchangeKind.HASH else delivered

    def delivered(self, produced: pa.Schema) -> pa.Schema:
        """The schema that consumers get when batches of this one are sent."""
        return without_place_field(produced) if self._kind is ExchangeKind.HASH else produced

    def announce(self, delivered: pa.Schema) -> None:
        """Tells all consumers the schema of the rows as they will get them."""
        for outlet in self._outlets:
            outlet.sink.announce(delivered)

    def send(self, batch: pa.RecordBatch) -> bool:
        """Delivers a batch; False when no consumer wants any more."""
        self.rows += batch.num_rows
        self.bytes += batch.nbytes
        for piece in _pieces(batch):
            for outlets in self._readers:
                self._deal(piece, outlets)
        return any(outlet.open for outlet in self._outlets)

    def _deal(self, batch: pa.RecordBatch, outlets: Sequence[_Outlet]) -> None:
        if self._kind is ExchangeKind.HASH:
            for outlet, part in zip(outlets, split(batch, len(outlets)), strict=True):
                if part is not None:
                    _deliver(outlet, part, _Encoding(part))
            return
        encoding = _Encoding(batch)
        for outlet in outlets:
            _deliver(outlet, batch, encoding)

    def finish(self) -> None:
        """Tells all consumers that there is no more."""
        for outlet in self._outlets:
            outlet.sink.finish()


def _deliver(outlet: _Outlet, batch: pa.RecordBatch, encoding: _Encoding) -> None:
    if outlet.open:
        outlet.open = outlet.sink.send(batch, encoding)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch, cut by rows where it is too large for one message."""
    if batch.num_rows == 0:
        return
    size_bytes = batch.nbytes
    if size_bytes <= MESSAGE_BYTES:
        yield batch
        return
    rows = max(1, batch.num_rows * MESSAGE_BYTES // size_bytes)
    for offset in range(0, batch.num_rows, rows):
        yield batch.slice(offset, rows)
