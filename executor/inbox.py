"""The inboxes of one task: rows that came from other tasks, until DuckDB pulls them.

`executor.exchange.TaskFlow` decides; this module is its driver between threads. Producers on
other nodes deliver from the event loop (`executor.stage_service`), producers on this node
from their own thread (`executor.outbox`), and DuckDB pulls from whichever thread it likes.
All producers of an exchange share one inbox: one reader an exchange, never one a producer.

A chunk is a batch with its schema, either as Arrow made it or encoded as an IPC message.
Chunks of one producer are read in the order it sent them.

Invariants: after `fail` or `close` nobody waits here, nothing is kept in memory or on disk,
and every later call says so.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

import pyarrow as pa

from cluster.errors import DqeError, QueryCanceled
from executor.exchange import DEFAULT_CREDIT_BYTES, Place, TaskFlow
from executor.spill import SpillFile, SpillReference, SpillSpace

# What an entry costs beside its bytes, so that very small ones are bounded, too.
CHUNK_COST_BYTES = 256


class Offer(Enum):
    """What became of an offered chunk."""

    TAKEN = auto()
    HELD = auto()  # not taken: offer it again when released
    CLOSED = auto()  # nobody reads here any more


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows on their way: a batch, or the same encoded (`pa.RecordBatch.serialize`)."""

    schema: pa.Schema
    payload: pa.RecordBatch | bytes | memoryview

    @property
    def cost_bytes(self) -> int:
        """What keeping it costs; an encoded chunk keeps its encoding alive."""
        payload = self.payload
        size = payload.nbytes if isinstance(payload, pa.RecordBatch) else len(payload)
        return int(size) + CHUNK_COST_BYTES

    def encoded(self) -> bytes | memoryview:
        if isinstance(self.payload, pa.RecordBatch):
            return memoryview(self.payload.serialize())
        return self.payload

    def batch(self) -> pa.RecordBatch:
        if isinstance(self.payload, pa.RecordBatch):
            return self.payload
        return pa.ipc.read_record_batch(pa.py_buffer(self.payload), self.schema)


@dataclass(frozen=True, slots=True)
class _Entry:
    schema: pa.Schema
    content: Chunk | SpillReference
    cost_bytes: int


@dataclass(slots=True)
class _Inbox:
    schema: pa.Schema | None = None
    entries: deque[_Entry] = field(default_factory=deque)
    # Called once each: producers that were told HELD, readers that found nothing.
    release_callbacks: list[Callable[[], object]] = field(default_factory=list)
    arrival_callbacks: list[Callable[[], object]] = field(default_factory=list)
    # Called when the last producer has finished, or nothing more will come.
    end_callbacks: list[Callable[[], object]] = field(default_factory=list)


class TaskInputs:
    """All inboxes of one task. Thread-safe; callbacks must not block."""

    def __init__(
        self,
        producers: Mapping[int, int],
        spill_space: SpillSpace,
        credit_bytes: int = DEFAULT_CREDIT_BYTES,
    ) -> None:
        """`producers` is the number of producing tasks an exchange id."""
        self._flow = TaskFlow(producers.items(), credit_bytes)
        self._inboxes = {exchange_id: _Inbox() for exchange_id in producers}
        self._spill = SpillFile(spill_space)
        self._error: DqeError | None = None
        self._changed = threading.Condition(threading.Lock())

    @property
    def exchange_ids(self) -> tuple[int, ...]:
        """The exchanges read here."""
        return tuple(self._inboxes)

    # -- producers ----------------------------------------------------------------------

    def announce(self, exchange_id: int, schema: pa.Schema) -> None:
        """Tells the reader what the rows will look like; only the first one counts."""
        with self._changed:
            inbox = self._inboxes[exchange_id]
            if inbox.schema is None:
                inbox.schema = schema
                self._arrived(inbox)

    def offer(self, exchange_id: int, chunk: Chunk) -> Offer:
        """Takes the chunk, unless its producer has to wait. May write to disk: callers on an
        event loop ask `would_spill` first. Raises what the task failed with."""
        cost_bytes = chunk.cost_bytes
        with self._changed:
            outcome = self._admission(exchange_id)
            if outcome is not Offer.TAKEN:
                return outcome
            place = self._flow.arrived(exchange_id, cost_bytes)
        content: Chunk | SpillReference = chunk
        if place is Place.DISK:
            try:
                content = self._spill.append(chunk.encoded())
            except DqeError:
                # A file closed underneath means that the task ended, which is no error here.
                if self.closed(exchange_id):
                    return Offer.CLOSED
                raise
        with self._changed:
            if self._flow.inboxes[exchange_id].closed:
                return Offer.CLOSED
            inbox = self._inboxes[exchange_id]
            inbox.entries.append(_Entry(chunk.schema, content, cost_bytes))
            if inbox.schema is None:
                inbox.schema = chunk.schema
            self._arrived(inbox)
        return Offer.TAKEN

    def _admission(self, exchange_id: int) -> Offer:
        if self._error is not None:
            raise self._error
        if self._flow.inboxes[exchange_id].closed:
            return Offer.CLOSED
        return Offer.HELD if self._flow.held(exchange_id) else Offer.TAKEN

    def would_spill(self, exchange_id: int) -> bool:
        """Whether a chunk offered now would be written to disk."""
        with self._changed:
            state = self._flow.inboxes[exchange_id]
            return state.memory_bytes >= self._flow.credit_bytes and not self._flow.held(
                exchange_id
            )

    def when_released(self, exchange_id: int, callback: Callable[[], object]) -> None:
        """Calls back once when a held producer may offer again, at once if it may now."""
        with self._changed:
            if self._error is None and self._flow.held(exchange_id):
                self._inboxes[exchange_id].release_callbacks.append(callback)
                return
        callback()

    def producer_finished(self, exchange_id: int) -> None:
        """One producer has nothing more."""
        with self._changed:
            if self._flow.producer_finished(exchange_id):
                self._arrived(self._inboxes[exchange_id])
                _call_all(self._inboxes[exchange_id].end_callbacks)

    def closed(self, exchange_id: int) -> bool:
        """Whether nobody reads this inbox any more."""
        return self._flow.inboxes[exchange_id].closed

    # -- the reader ---------------------------------------------------------------------

    def schema(self, exchange_id: int) -> pa.Schema:
        """What the rows look like; waits until a producer has said it."""
        inbox = self._inboxes[exchange_id]
        with self._changed:
            self._wait(exchange_id, lambda: inbox.schema is not None)
            if inbox.schema is None:
                raise QueryCanceled("the producers of an exchange ended without a schema")
            return inbox.schema

    def take(self, exchange_id: int) -> pa.RecordBatch | None:
        """The next batch, None after the last; waits for it. Raises what the task failed
        with."""
        inbox = self._inboxes[exchange_id]
        with self._changed:
            self._wait(exchange_id, lambda: bool(inbox.entries))
            entry = self._pop(exchange_id)
            schema = inbox.schema
        if entry is None:
            return None
        assert schema is not None
        return self._load(entry, schema)

    def read(self, exchange_id: int) -> Iterator[pa.RecordBatch]:
        """All batches, as `take` gives them."""
        while (batch := self.take(exchange_id)) is not None:
            yield batch

    def poll(self, exchange_id: int) -> tuple[bool, pa.RecordBatch | None]:
        """`take` without waiting: (False, None) when there is nothing yet."""
        with self._changed:
            if self._error is not None:
                raise self._error
            entry = self._pop(exchange_id)
            schema = self._inboxes[exchange_id].schema
            if entry is None:
                return self._ended(exchange_id), None
        assert schema is not None
        return True, self._load(entry, schema)

    def peek_schema(self, exchange_id: int) -> pa.Schema | None:
        """`schema` without waiting. Raises what the task failed with."""
        with self._changed:
            if self._error is not None:
                raise self._error
            return self._inboxes[exchange_id].schema

    def when_arrived(self, exchange_id: int, callback: Callable[[], object]) -> None:
        """Calls back once at the next arrival, end or failure; at once if something lies
        here already."""
        with self._changed:
            inbox = self._inboxes[exchange_id]
            if self._error is None and not inbox.entries and not self._ended(exchange_id):
                inbox.arrival_callbacks.append(callback)
                return
        callback()

    def when_complete(self, exchange_id: int, callback: Callable[[], object]) -> None:
        """Calls back once when every producer has finished, or the task has failed; at once
        if that has happened."""
        with self._changed:
            if self._error is None and not self._ended(exchange_id):
                self._inboxes[exchange_id].end_callbacks.append(callback)
                return
        callback()

    # -- both ---------------------------------------------------------------------------

    def fail(self, error: DqeError) -> None:
        """Ends everything here with this error, unless it ended before."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._end()

    def close(self) -> None:
        """The task is done: what is left is dropped, producers are told."""
        with self._changed:
            self._end()

    def _end(self) -> None:
        for exchange_id, inbox in self._inboxes.items():
            self._flow.close(exchange_id)
            inbox.entries.clear()
            _call_all(inbox.release_callbacks)
            _call_all(inbox.arrival_callbacks)
            _call_all(inbox.end_callbacks)
        self._spill.close()
        self._changed.notify_all()

    def backlog_bytes(self, exchange_id: int) -> int:
        """What lies in the inbox, in memory and on disk."""
        return self._flow.inboxes[exchange_id].backlog_bytes

    @property
    def spilled_bytes(self) -> int:
        return self._spill.size_bytes

    def _wait(self, exchange_id: int, ready: Callable[[], bool]) -> None:
        """Waits, holding the lock, until there is something, the end, or a failure."""

        def done() -> bool:
            return ready() or self._error is not None or self._ended(exchange_id)

        if not done():
            for freed in self._flow.wait_began(exchange_id):
                _call_all(self._inboxes[freed].release_callbacks)
            try:
                self._changed.wait_for(done)
            finally:
                self._flow.wait_ended(exchange_id)
        if self._error is not None:
            raise self._error

    def _ended(self, exchange_id: int) -> bool:
        state = self._flow.inboxes[exchange_id]
        return state.closed or state.open_producers == 0

    def _pop(self, exchange_id: int) -> _Entry | None:
        inbox = self._inboxes[exchange_id]
        if not inbox.entries:
            return None
        entry = inbox.entries.popleft()
        place = Place.DISK if isinstance(entry.content, SpillReference) else Place.MEMORY
        self._flow.taken(exchange_id, entry.cost_bytes, place)
        if inbox.release_callbacks and not self._flow.held(exchange_id):
            _call_all(inbox.release_callbacks)
        return entry

    def _load(self, entry: _Entry, schema: pa.Schema) -> pa.RecordBatch:
        if isinstance(entry.content, SpillReference):
            chunk = Chunk(entry.schema, self._spill.read(entry.content))
        else:
            chunk = entry.content
        batch = chunk.batch()
        # Producers run the same SQL, so this is for what only DuckDB could type.
        return batch if batch.schema.equals(schema) else batch.cast(schema)

    def _arrived(self, inbox: _Inbox) -> None:
        _call_all(inbox.arrival_callbacks)
        self._changed.notify_all()


def _call_all(callbacks: list[Callable[[], object]]) -> None:
    pending, callbacks[:] = callbacks[:], []
    for callback in pending:
        callback()
