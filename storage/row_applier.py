"""The queue before a row store: small changes are taken in on the loop, in an open transaction.

A commit of SQLite writes every page that was touched, and a row of a hundred bytes touches some:
its own, one of history, how far the store is. So entries are taken in by a transaction that stays
open until it holds `OPEN_BYTES` of log, for `OPEN_AGE_S` at most, and is ended before any other
connection is to see what was applied (`settle`): before a thread comes to the store, or a reader
opens a snapshot. The loop reads by the connection that writes. Nothing is promised of what is not
settled: the store is a cache of the log, and durable is what a checkpoint made so.

Invariants, beside those of `applier`:
- while a thread is at the store no transaction is open;
- where the end of one fails (a full disk, say), all that was in it is queued again, and nobody
  reads until the store is where it has been (`RowStore`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import apsw

from cluster.errors import DataCorrupted, DqeError
from cluster.runtime import Runtime
from storage.applier import RETRY_S, StoreApplier
from storage.apply_queue import Queued
from storage.row_files import store_error
from storage.row_store import RowStore

logger = logging.getLogger(__name__)

# More than this waits for a thread rather than on the loop: a millisecond's work or so.
INLINE_BYTES = 64 * 1024
# Of log whose pages the end of a transaction writes, on the loop.
OPEN_BYTES = 32 * 1024
OPEN_AGE_S = 1.0


class RowApplier(StoreApplier[RowStore]):
    """See the module."""

    def __init__(self, runtime: Runtime, store: RowStore, group_bytes: int) -> None:
        super().__init__(runtime, store, group_bytes)
        # Applied in the transaction that is open.
        self._open: list[Queued] = []
        self._open_bytes = 0
        self._open_timer: asyncio.TimerHandle | None = None

    @property
    def unsaved_bytes(self) -> int:
        return super().unsaved_bytes + self._open_bytes

    def apply_now(self) -> None:
        """Applies what is queued on the loop, if that is quick and nobody is at the store; else
        sees to it that a thread does it at once."""
        queue = self._queue
        if not queue or self._closed:
            return
        if queue.size_bytes > INLINE_BYTES or queue.is_slow or self._turn.locked():
            self._start_background(0.0)
            return
        taken = queue.entries()
        try:
            self._store.take_in([queued.make() for queued in taken], self._seen_index)
        except apsw.Error as error:
            self._take_back(error)
            return
        self._queue.take(len(taken))
        self._cancel_timer()
        self._keep_open(taken)

    def _keep_open(self, taken: Sequence[Queued]) -> None:
        self._open += taken
        self._open_bytes += sum(queued.size_bytes for queued in taken)
        if self._open_bytes > OPEN_BYTES:
            self._settle_in_background()
        elif self._open_timer is None:
            self._open_timer = self._runtime.call_later(OPEN_AGE_S, self._settle_in_background)

    def settle(self) -> None:
        """Ends the transaction that is open, so that every connection sees what was applied.

        Raises what is said of a store that cannot go on; all that was in it is queued again.
        """
        if not self._open:
            return
        try:
            self._store.settle()
        except apsw.Error as error:
            raise self._take_back(error) from error
        applied, self._open, self._open_bytes = self._open, [], 0
        self._cancel_open_timer()
        self._count_applied(applied)

    def _settle_in_background(self) -> None:
        with suppress(DqeError):  # it was said, and is tried again
            self.settle()

    def _take_back(self, error: apsw.Error) -> DqeError:
        """The transaction that was open has left nothing behind; what that means for callers."""
        failure = store_error(error)
        logger.error("tablet %s: %s", self._store.tablet_id, failure.message)
        if isinstance(failure, DataCorrupted):
            self.on_damage()
        self._queue.put_back(self._open)
        self._open, self._open_bytes = [], 0
        self._cancel_open_timer()
        self._start_background(RETRY_S)
        return failure

    def _cancel_open_timer(self) -> None:
        if self._open_timer is not None:
            self._open_timer.cancel()
            self._open_timer = None

    async def close(self) -> None:
        """Stops the background; the store's own `close` ends what is open."""
        self._cancel_open_timer()
        await super().close()
