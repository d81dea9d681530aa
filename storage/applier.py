"""Brings a tablet's store up to its log, in the background and on demand (rule L5).

The tablet pushes what each log entry means for the store; pushing is cheap. The queue goes to
DuckDB as one transaction, when it holds `APPLY_BYTES` or is `APPLY_AGE_S` old, and earlier when
a reader needs it. What the row store has, too, may wait: `PATIENT_AGE_S` after a reader came for
it, twice as long each time that nobody did, up to `LONGEST_AGE_S`; then a checkpoint is what
takes it in. A batch of a minute costs what one of a second does, and each replica pays for it.

The row store's small changes are applied on the loop (`row_applier`). Everything else that changes
a store runs here, one call at a time, on a thread.

Invariants:
- operations reach the store in log order, whole entries only;
- an entry the store already holds (index <= its applied index, met again while the log is
  replayed) is not given to it twice;
- after a failed call (a full disk, say) the queue is as before, the next reader gets the error,
  and the background tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, TypeVar, TypeVarTuple

import apsw
import duckdb

from cluster.errors import DataCorrupted, DqeError, InternalError, IoError
from cluster.runtime import Runtime
from storage.apply_queue import ApplyQueue, QueueBudget, Queued
from storage.damage import damaged_store, is_damage
from storage.fragments import FragmentId, Timestamp
from storage.operations import Store
from storage.row_files import store_error
from storage.staging import DEFAULT_MEMORY_BYTES
from storage.tasks import run_to_end

T = TypeVar("T")
S = TypeVar("S", bound=Store)
Ts = TypeVarTuple("Ts")

logger = logging.getLogger(__name__)

APPLY_BYTES = 4 * 1024 * 1024
APPLY_AGE_S = 0.5
# Of rows that the row store has, too. The longest is past a checkpoint's age, which has it done.
PATIENT_AGE_S = 5.0
LONGEST_AGE_S = 90.0
# Past this much in memory, beside what may be staged there, the log's driver waits.
QUEUE_LIMIT_BYTES = DEFAULT_MEMORY_BYTES + 64 * 1024 * 1024
RETRY_S = 2.0


def _nothing() -> None:
    return None


class StoreApplier(Generic[S]):
    """The queue before one store, and the only one who changes it.

    `group_bytes` bounds what goes into one transaction of the store, whole entries at least;
    `budget` what it and others have in memory.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: S,
        group_bytes: int | None = None,
        budget: QueueBudget | None = None,
    ) -> None:
        self._runtime = runtime
        self._store = store
        self._group_bytes = group_bytes
        self._budget = budget
        self._queue = ApplyQueue()
        self._patience_s = PATIENT_AGE_S
        self._seen_index = store.position.applied_index
        self._turn = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self._closed = False
        # Calls of the store on threads that have not ended.
        self._on_threads = 0
        # Called, on the loop, when DuckDB says that the file is damaged.
        self.on_damage: Callable[[], None] = _nothing
        # Log bytes that have gone into the store since its last checkpoint.
        self._applied_bytes = 0
        if budget is not None:
            budget.join(self._queue, lambda: self._start_background(0.0))

    @property
    def store(self) -> S:
        return self._store

    @property
    def has_queued(self) -> bool:
        """Whether anything waits to be applied or is being applied."""
        return bool(self._queue)

    @property
    def unsaved_bytes(self) -> int:
        """Log bytes whose effects the next checkpoint would make durable."""
        return self._applied_bytes + self._queue.size_bytes

    def push(self, queued: Queued, *, now: bool = False) -> None:
        """Takes the effect of the next entry that has one; `now`: `apply_now` follows."""
        if queued.index <= self._store.position.applied_index:
            if queued.done is not None:
                queued.done()
            return
        self._queue.push(queued)
        if self._budget is not None:
            self._budget.pushed(queued.memory_bytes)
        if not now:
            self._schedule(self._patience_s if queued.is_patient else APPLY_AGE_S)

    def seen(self, index: int) -> None:
        """Every entry up to `index` has been pushed, or has no effect on the store."""
        self._seen_index = max(self._seen_index, index)

    @property
    def has_room(self) -> bool:
        """Whether the queue is not over its limit."""
        return self._queue.memory_bytes <= QUEUE_LIMIT_BYTES

    async def wait_room(self) -> None:
        """Holds the log's driver back while the queue is over its limit."""
        if not self.has_room:
            await self.flush()

    def needed_by(self, fragments: Iterable[FragmentId], timestamp: Timestamp) -> bool:
        """Whether a read of these fragments at the timestamp must see the queue applied."""
        return self._queue.needed_by(fragments, timestamp)

    async def flush(self) -> None:
        """Applies what is queued now; an error leaves it queued. Any connection sees it then."""
        self._patience_s = PATIENT_AGE_S
        await self._flush_queue()
        self.settle()

    async def _flush_queue(self) -> None:
        if self._queue:
            await self._finish(self._flush(self._queue.last_index))

    async def run(self, function: Callable[[], T], first: Callable[[], None] = _nothing) -> T:
        """Brings the store up to date and calls a function on a thread before it moves on.

        `first` is called, on the loop, at the moment whose state the function will meet.
        """
        return await self._finish(self._run(function, first))

    async def alone(self, function: Callable[[], T]) -> T:
        """Calls a function on a thread while nothing else changes the store."""
        return await self._finish(self._alone(function))

    async def replace(self, function: Callable[[], None]) -> None:
        """Calls a function that gives the store other contents; what was queued is void."""
        await self._finish(self._replace(function))

    async def checkpoint(self, image: Callable[[], tuple[bytes, int]]) -> None:
        """Makes everything seen so far durable, with the image of that moment and the index that
        it stands for: after a restart the store may be ahead of it."""
        await self._finish(self._checkpoint(image))

    async def _finish(self, coroutine: Coroutine[Any, Any, T]) -> T:
        # A caller may be cancelled; a call on the thread runs to its end, and holds the turn.
        return await run_to_end(self._runtime, coroutine, f"store of {self._store.tablet_id}")

    async def _flush(self, last: int) -> None:
        async with self._turn:
            # Whoever had the turn before may have applied it all.
            if self._queue and self._queue.first_index <= last:
                await self._apply_queue()

    async def _run(self, function: Callable[[], T], first: Callable[[], None]) -> T:
        async with self._turn:
            first()
            await self._apply_queue()
            return await self._blocking(function)

    async def _alone(self, function: Callable[[], T]) -> T:
        async with self._turn:
            return await self._blocking(function)

    async def _replace(self, function: Callable[[], None]) -> None:
        async with self._turn:
            before = self._store.position
            try:
                await self._blocking(function)
            finally:
                # Also where what failed came behind the new contents, as on a full disk.
                if self._store.position is not before:
                    self._begin_anew()

    def _begin_anew(self) -> None:
        self._queue.clear()
        self._applied_bytes = 0
        self._seen_index = self._store.position.applied_index

    async def _checkpoint(self, image: Callable[[], tuple[bytes, int]]) -> None:
        async with self._turn:
            unsaved = self.unsaved_bytes
            # One step: the image, and the queue up to there.
            data, index = image()
            await self._apply_queue()
            if index < self._store.image_index:
                return  # it has a newer image: after a crash the older of two stores' counts
            await self._blocking(self._store.checkpoint, data, index)
            self._applied_bytes = max(0, self._applied_bytes - unsaved)

    async def close(self) -> None:
        """Stops the background; waits for a call under way. The queue is not applied."""
        self._closed = True
        self._cancel_timer()
        if self._budget is not None:
            self._budget.leave(self._queue)
        async with self._turn:
            return

    async def _apply_queue(self) -> None:
        taken, index = self._queue.entries(), self._seen_index
        if not taken and index == self._store.position.applied_index:
            return
        while group := self._next_group(taken):
            del taken[: len(group)]
            last = group[-1].index if taken else index
            await self._blocking(_apply_group, self._store, group, last)
            self._applied(group)
            if not taken:
                return
        await self._blocking(_apply, self._store, [], index)

    def _next_group(self, queue: Sequence[Queued]) -> list[Queued]:
        if self._group_bytes is None:
            return list(queue)
        group: list[Queued] = []
        size_bytes = 0
        for queued in queue:
            size_bytes += queued.size_bytes
            if group and size_bytes > self._group_bytes:
                break
            group.append(queued)
        return group

    def settle(self) -> None:
        """Has every connection see what was applied, as it does where nothing is kept back."""

    def _applied(self, taken: Sequence[Queued]) -> None:
        self._queue.take(len(taken))
        if not self._queue:
            self._cancel_timer()
        self._count_applied(taken)

    def _count_applied(self, taken: Sequence[Queued]) -> None:
        self._applied_bytes += sum(queued.size_bytes for queued in taken)
        for queued in taken:
            if queued.done is not None:
                queued.done()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def is_idle(self) -> bool:
        """Whether no thread is at the store, and none will be before the loop turns."""
        return not self._on_threads

    async def _blocking(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        self.settle()
        self._on_threads += 1
        try:
            return await self._runtime.run_blocking(function, *args)
        except duckdb.Error as error:
            if not is_damage(error):
                raise _failure(error) from error
            self.on_damage()
            raise damaged_store(self._store.tablet_id, error) from error
        except apsw.Error as error:
            failure = store_error(error)
            if isinstance(failure, DataCorrupted):
                self.on_damage()
            raise failure from error
        finally:
            self._on_threads -= 1

    def _schedule(self, age_s: float) -> None:
        if self._closed:
            return
        if self._queue.size_bytes >= APPLY_BYTES:
            self._start_background(0.0)
        else:
            self._start_background(age_s)

    def _start_background(self, delay_s: float) -> None:
        # The handle itself may not know: uvloop's has no `when` where the delay is 0.
        due_s = asyncio.get_running_loop().time() + delay_s
        if self._timer is not None:
            if self._timer_due_s <= due_s:
                return
            self._timer.cancel()
        self._timer_due_s = due_s
        self._timer = self._runtime.call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        name = f"apply tablet {self._store.tablet_id}"
        self._runtime.spawn(self._apply_in_background(), name)

    async def _apply_in_background(self) -> None:
        if self._closed:
            return
        if self._queue:
            self._patience_s = min(2 * self._patience_s, LONGEST_AGE_S)
        try:
            await self._flush_queue()
        except DqeError as error:
            logger.error("tablet %s: %s", self._store.tablet_id, error.message)
            if not self._closed and self._timer is None:
                self._start_background(RETRY_S)


def _failure(error: duckdb.Error) -> DqeError:
    if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
        return IoError(f"the columnar store cannot go on: {error}")
    return InternalError(f"the columnar store failed: {error}")


def _apply(store: Store, queue: Sequence[Queued], index: int) -> None:
    store.apply([queued.make() for queued in queue], index)


def _apply_group(store: Store, queue: Sequence[Queued], index: int) -> None:
    _apply(store, queue, index)
    store.relieve()
