"""A tablet's row store beside its columnar one: there once a fragment needs it, up to the log.

A tablet whose fragments are all columnar has no row store and pays nothing for it. The first
`alter` that names another access method makes the file; from then on each entry with an effect
on such fragments is applied before the log's driver goes on, on the loop where that is quick.
What is not quick (a COPY, a fragment being filled from the columnar store) is applied by a thread
from the queue, at most `GROUP_BYTES` of log a transaction; reads by key of the fragments it
touches wait for it, others do not.

A file that holds no checkpoint yet is worth nothing after a restart: the columnar store is
checkpointed only behind this one, so the log still has all that made it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from cluster.errors import DataCorrupted, DqeError
from cluster.runtime import Runtime
from storage.apply_queue import Queued
from storage.columnar_apply import FragmentTables
from storage.fragments import END_OF_TIME, FragmentId, FragmentSchema, Timestamp
from storage.row_applier import RowApplier
from storage.row_checks import Finder
from storage.row_files import WAL_BYTES, remove_files, store_error
from storage.row_store import RowStore

logger = logging.getLogger(__name__)

# Of log entries applied in one transaction of the file.
GROUP_BYTES = 32 * 1024 * 1024
# Looked up on the loop: a millisecond's work or so.
INLINE_ROWS = 100

T = TypeVar("T")


class RowSide:
    """See the module. `path` is the file's; `store` one that was opened before."""

    def __init__(
        self, runtime: Runtime, tablet_id: int, path: Path, store: RowStore | None = None
    ) -> None:
        self._runtime = runtime
        self._tablet_id = tablet_id
        self._path = path
        self._relieving = False
        self.on_damage: Callable[[], None] = lambda: None
        self._applier: RowApplier | None = None
        if store is not None:
            self._adopt(store)

    @property
    def store(self) -> RowStore | None:
        """The store, None while no fragment needs one."""
        return self._applier.store if self._applier is not None else None

    @property
    def applier(self) -> RowApplier:
        """The store's queue; `open` before."""
        assert self._applier is not None
        return self._applier

    async def open(self, seen_index: int) -> None:
        """Makes the store where there is none; what it is to take in comes behind that index."""
        if self._applier is None:
            remove_files(self._path)
            make = partial(RowStore, self._tablet_id, self._path)
            self._adopt(await self._runtime.run_blocking(make))
            self.seen(seen_index)

    def _adopt(self, store: RowStore) -> None:
        applier = self._applier = RowApplier(self._runtime, store, GROUP_BYTES)
        store.is_idle = lambda: applier.is_idle
        self._applier.on_damage = lambda: self.on_damage()

    # Following the log.

    def push(self, queued: Queued) -> None:
        """Takes the effect of the next entry that has one here."""
        if self._applier is not None:
            self._applier.push(queued, now=True)

    def seen(self, index: int) -> None:
        """Every entry up to here was pushed, or has no effect."""
        if self._applier is not None:
            self._applier.seen(index)

    def apply_now(self) -> None:
        """Brings the store up to what was pushed, on the loop where that is quick."""
        if self._applier is None:
            return
        self._applier.apply_now()
        if self._applier.store.wal_bytes > WAL_BYTES and not self._relieving:
            self._relieving = True
            self._runtime.spawn(self._relieve(), f"row store of {self._tablet_id}")

    async def _relieve(self) -> None:
        # Most of it beside changes, the rest while there are none: only a log file that is
        # copied back whole begins anew.
        applier = self.applier
        try:
            await self._runtime.run_blocking(applier.store.copy_back)
            await applier.alone(applier.store.copy_back)
        except (DqeError, apsw.Error) as error:
            # The log file stays long; the next change has it tried again.
            logger.error("row store of tablet %s: %s", self._tablet_id, error)
        finally:
            self._relieving = False

    @property
    def has_room(self) -> bool:
        """Whether `wait_room` would not wait."""
        return self._applier is None or self._applier.has_room

    async def wait_room(self) -> None:
        """Holds the log's driver back while too much is queued."""
        if self._applier is not None:
            await self._applier.wait_room()

    def is_current(self, fragment_ids: Iterable[FragmentId], timestamp: Timestamp) -> bool:
        """Whether a read of these fragments at the timestamp finds all it needs."""
        return self._applier is not None and not self._applier.needed_by(fragment_ids, timestamp)

    async def bring_up(self, fragment_ids: Iterable[FragmentId], timestamp: Timestamp) -> None:
        """Returns when `is_current`."""
        if self.applier.needed_by(fragment_ids, timestamp):
            await self.applier.flush()

    # Looking up.

    def looks_up(self, schema: FragmentSchema) -> bool:
        """Whether checks of this fragment's rows are made here: no other store has them, or
        this one has all of them now."""
        if not schema.method.in_row_store:
            return False
        if not schema.method.in_columnar_store:
            return True
        return self.is_current([schema.fragment_id], END_OF_TIME)

    async def look_up(
        self,
        fragment_ids: Sequence[FragmentId],
        row_count: int,
        function: Callable[[Finder], T],
    ) -> T:
        """Calls a function with the store as of every outcome so far: on the loop for few rows,
        else on a thread."""
        await self.bring_up(fragment_ids, END_OF_TIME)
        store = self.applier.store
        try:
            if row_count <= INLINE_ROWS:
                return function(store)
            self.applier.settle()
            return await self._runtime.run_blocking(_on_snapshot, store, function)
        except apsw.Error as error:
            raise self.failed(error) from error

    def failed(self, error: apsw.Error) -> DqeError:
        """What a failure of the store is to callers; damage is told to who rebuilds it."""
        failure = store_error(error)
        if isinstance(failure, DataCorrupted):
            self.on_damage()
        return failure

    def tables(self, fragment_ids: Iterable[FragmentId]) -> dict[FragmentId, FragmentTables]:
        """Where the rows of these fragments lie, of those that are here, for any connection."""
        self.applier.settle()
        store = self.applier.store
        schemas = store.fragments
        return {
            f: FragmentTables(f"t{self._tablet_id}", schemas[f], store)
            for f in fragment_ids
            if f in schemas
        }

    # Keeping.

    @property
    def unsaved_bytes(self) -> int:
        """Log bytes whose effects the next checkpoint would make durable."""
        if self._applier is None:
            return 0
        return self._applier.unsaved_bytes

    async def checkpoint(self, image: Callable[[], tuple[bytes, int]]) -> None:
        """Makes everything seen so far durable, with the image of that moment and its index."""
        if self._applier is not None:
            await self._applier.checkpoint(image)
            await self._runtime.run_blocking(self._applier.store.copy_back)

    async def close(self) -> None:
        """Stops following the log."""
        if self._applier is not None:
            await self._applier.close()
            self._applier.store.close()

    async def drop(self) -> None:
        """Removes the files."""
        if self._applier is not None:
            await self._applier.close()
            self._applier.store.drop()


def _on_snapshot(store: RowStore, function: Callable[[Finder], T]) -> T:
    scan = store.snapshot()
    try:
        return function(scan)
    finally:
        scan.close()
