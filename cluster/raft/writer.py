"""Group commit: one append, and so one fsync, for whatever all groups wrote meanwhile.

While an append is on its way to the disk, the writes of all groups gather; the next append
takes them together. So the log is never idle while there is work, and a sync is shared by as
many groups and entries as came in during the one before.

A failed append is final (rule L1): what the disk holds is then unknown, so the writer stops,
nothing that waits for it is ever confirmed, and `on_failure` is to end the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from cluster.errors import IoError
from cluster.raft.log import GroupId, GroupWrite, LogStorage
from cluster.raft.log_view import entry_bytes

# Of entries in one append, so that a small write never waits behind more than one large batch.
MAX_BATCH_BYTES = 16 * 1024 * 1024

Pending = tuple[GroupWrite, Callable[[], None]]


class LogWriter:
    """The only one who appends to the log. `after_batch` is called when a batch is durable and
    whoever wrote it has been told."""

    def __init__(
        self,
        log: LogStorage,
        on_failure: Callable[[BaseException], None],
        after_batch: Callable[[], None],
    ) -> None:
        self._log = log
        self._on_failure = on_failure
        self._after_batch = after_batch
        self._queue: list[Pending] = []
        self._is_writing = False
        self._rested = asyncio.Event()
        self._rested.set()
        self._callers: list[asyncio.Future[None]] = []  # in `write`
        self.failed = False
        self.appends = 0  # for the metrics: writes a second over this is the sharing of syncs

    def submit(self, write: GroupWrite, done: Callable[[], None]) -> None:
        """Write in order, from the next `begin` on; `done` is called once the write is durable,
        or never."""
        self._queue.append((write, done))
        self._rested.clear()

    def begin(self) -> None:
        """Append what is queued, unless an append is under way: that is followed by the next."""
        if self._is_writing or self.failed or not self._queue:
            return
        self._is_writing = True
        batch = self._take()
        try:
            self._log.begin_append([write for write, _ in batch], partial(self._written, batch))
        except Exception as error:
            self._fail(error)
            raise

    async def write(self, write: GroupWrite) -> None:
        """Write in order and wait until that is durable; raises IoError if the log fails."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._callers = [*(known for known in self._callers if not known.done()), future]
        self.submit(write, lambda: None if future.done() else future.set_result(None))
        self.begin()
        await future

    def forget(self, group_id: GroupId) -> None:
        """Drop what a group that is no more has in the queue."""
        self._queue = [item for item in self._queue if item[0].group_id != group_id]
        self._rest_if_idle()

    async def rest(self) -> None:
        """Wait until nothing is queued or being written."""
        self.begin()
        await self._rested.wait()

    async def close(self) -> None:
        """Write what is queued."""
        if not self.failed:
            await self.rest()

    def _written(self, batch: list[Pending], error: Exception | None) -> None:
        self._is_writing = False
        if error is not None:
            self._fail(error)
            return
        self.appends += 1
        for _, done in batch:
            done()
        self.begin()
        self._rest_if_idle()
        self._after_batch()

    def _rest_if_idle(self) -> None:
        if not self._queue and not self._is_writing:
            self._rested.set()

    def _fail(self, error: Exception) -> None:
        self.failed = True
        for future in self._callers:
            if not future.done():
                future.set_exception(log_failure(error))
        self._on_failure(error)
        self._rested.set()

    def _take(self) -> list[Pending]:
        size = 0
        for count, (write, _) in enumerate(self._queue):
            size += sum(map(entry_bytes, write.entries))
            if size > MAX_BATCH_BYTES and count > 0:
                batch, self._queue = self._queue[:count], self._queue[count:]
                return batch
        batch, self._queue = self._queue, []
        return batch


def log_failure(error: BaseException) -> IoError:
    """The error for whoever waits for a log that has failed."""
    return IoError("the write-ahead log has failed", detail=str(error))
