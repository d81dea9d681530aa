"""A small state that is saved whole, on a disk that is full for a while."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence

from cluster.raft.log import Entry, EntryKind
from cluster.raft.state_machine import SAVED_EVERY_ENTRIES, DurableSnapshots


class Count:
    """Counts entries."""

    applied_index = 0
    durable_index = 0

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        self.applied_index = entries[-1].index
        return [entry.index for entry in entries]

    async def snapshot(self) -> tuple[int, bytes]:
        return self.applied_index, b"state"

    async def restore(self, index: int, data: bytes) -> None:
        self.applied_index = index


class Disk:
    """Holds one snapshot, while it is not full."""

    full = True
    held: tuple[int, bytes] | None = None

    def load(self) -> tuple[int, bytes] | None:
        return self.held

    async def save(self, index: int, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.held = index, data


def entries_upto(first: int, last: int) -> list[Entry]:
    return [Entry(1, index, EntryKind.COMMAND, b"") for index in range(first, last + 1)]


def test_entries_are_applied_while_the_disk_is_full_and_saved_once_it_is_not() -> None:
    async def scenario() -> None:
        disk = Disk()
        durable = DurableSnapshots(Count(), disk)
        await durable.open()
        many = SAVED_EVERY_ENTRIES
        assert await durable.apply(entries_upto(1, many)) == list(range(1, many + 1))
        assert (durable.applied_index, durable.durable_index) == (many, 0)
        disk.full = False
        await durable.apply(entries_upto(many + 1, many + 1))
        assert durable.durable_index == many + 1
        assert disk.load() == (many + 1, b"state")

    asyncio.run(scenario())
