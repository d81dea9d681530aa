"""What a Raft group replicates, as the driver sees it.

`RaftHost` calls one state machine from one task only, one call at a time, so an
implementation needs no locks against itself.

Rules an implementation keeps:
1. `apply` is deterministic in the entries it is given; results go to whoever proposed them.
   An exception of class `DqeError` *inside the results list* is handed to the proposer as the
   outcome of its command; an exception *raised* by `apply` stops the replica, since it can no
   longer be known to be equal to the others.
2. Entries of kind NOOP and CONFIGURATION come too, so that `applied_index` counts every index;
   their results are ignored.
3. `durable_index` is what survives a crash in the machine's own files; the log is compacted
   only up to there (rule L3). After a restart `apply` starts again at `durable_index + 1`.
4. When `restore` returns, `durable_index` is the restored index or more. A machine that lives
   in memory gets that from `DurableSnapshots`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cluster.raft.log import Entry

logger = logging.getLogger(__name__)

# What of the log a small state holds up at most: as long as it is not saved, all entries of its
# node from there on stay.
SAVED_EVERY_ENTRIES = 256


class StateMachine(Protocol):
    """The replicated state of one group on one node."""

    @property
    def applied_index(self) -> int:
        """The last entry applied; at the start of the process, `durable_index`."""
        ...

    @property
    def durable_index(self) -> int:
        """The last entry whose effect survives a crash without the log."""
        ...

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        """Apply these entries, contiguous and next in order; one result each."""
        ...

    async def snapshot(self) -> tuple[int, bytes]:
        """The state as of `applied_index`, with that index."""
        ...

    async def restore(self, index: int, data: bytes) -> None:
        """Replace the state by that of a snapshot, durably."""
        ...


@runtime_checkable
class PromptStateMachine(Protocol):
    """One that can apply most entries without waiting: no task is made for these."""

    def apply_now(self, entries: Sequence[Entry]) -> list[object] | None:
        """`apply`, in place; None where something has to be waited for: then nothing is done, and
        `apply` is called with the same entries."""
        ...


class SnapshotStore(Protocol):
    """Where `DurableSnapshots` keeps the newest snapshot of one machine."""

    def load(self) -> tuple[int, bytes] | None:
        """The last snapshot whose `save` returned, if there is one."""
        ...

    async def save(self, index: int, data: bytes) -> None:
        """Replace the kept snapshot, atomically and durably."""
        ...


class DurableSnapshots:
    """Gives a state machine that lives in memory a durable index, by whole snapshots.

    For small states (the catalog's is a few hundred kilobytes): after every
    `SAVED_EVERY_ENTRIES` the state is saved whole, or as soon after as there is room for it.
    `open` puts the saved state back.
    """

    def __init__(self, machine: StateMachine, store: SnapshotStore) -> None:
        self._machine = machine
        self._store = store
        self._durable_index = 0
        self._failing = False

    async def open(self) -> None:
        """Restore the saved state; call once, before the group is opened."""
        saved = self._store.load()
        if saved is not None:
            index, data = saved
            await self._machine.restore(index, data)
            self._durable_index = index

    @property
    def applied_index(self) -> int:
        return self._machine.applied_index

    @property
    def durable_index(self) -> int:
        return self._durable_index

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        results = await self._machine.apply(entries)
        if entries[-1].index - self._durable_index >= SAVED_EVERY_ENTRIES:
            await self._save_if_possible()
        return results

    async def _save_if_possible(self) -> None:
        """What is applied is applied: on a full disk the log is kept longer, and the next
        entries have it tried again."""
        try:
            await self.save()
        except OSError as error:
            if not self._failing:
                logger.error("a snapshot cannot be saved: %s; trying again", error)
            self._failing = True
        else:
            self._failing = False

    async def save(self) -> None:
        """Makes all that is applied durable now."""
        await self._save(*await self._machine.snapshot())

    async def snapshot(self) -> tuple[int, bytes]:
        return await self._machine.snapshot()

    async def restore(self, index: int, data: bytes) -> None:
        await self._machine.restore(index, data)
        await self._save(index, data)

    async def _save(self, index: int, data: bytes) -> None:
        await self._store.save(index, data)
        self._durable_index = index
