"""Where a tablet keeps log entries of transactions that have no outcome yet (rule L6).

A COPY may stage more than memory holds before it commits. So the tablets of a node share a
`MemoryBudget`; an entry that does not fit goes to a file of its transaction, one behind the
other at 64-byte boundaries. The file is read through a memory map when the transaction
commits: its pages are never copied by Python.

The files hold nothing that the log does not: they are not synced, and a restart empties the
directory and reads the entries from the log again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from storage.apply_queue import QueueBudget
from storage.fragments import FragmentId, TransactionId

DEFAULT_MEMORY_BYTES = 256 * 1024 * 1024
# Entries up to this size stay in memory whatever the budget says: a file costs more.
SMALL_ENTRY_BYTES = 4096
_ALIGNMENT = 64


class MemoryBudget:
    """How much the staged entries of all tablets may hold in memory."""

    def __init__(self, limit_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        # Of those that have their outcome and wait for a store.
        self.queues = QueueBudget()

    def fits(self, length: int) -> bool:
        """Whether an entry of that length may stay in memory."""
        return length <= SMALL_ENTRY_BYTES or self.used_bytes + length <= self.limit_bytes


@dataclass(frozen=True, slots=True)
class StagedEntry:
    """A log entry kept for later: its bytes, or where in the transaction's file they are.

    `sequence` is its place among the transaction's entries, `fragments` what it changes,
    `truncates` whether it empties one, `moves` whether rows leave one that live on elsewhere.
    """

    transaction_id: TransactionId
    term: int
    index: int
    sequence: int
    fragments: frozenset[FragmentId]
    length: int
    data: bytes | None = None
    offset: int = 0
    truncates: bool = False
    moves: bool = False


class Staging:
    """The staged entries of one tablet. Calls for one transaction come one at a time."""

    def __init__(self, directory: Path, budget: MemoryBudget | None = None) -> None:
        self._directory = directory
        self._budget = budget or MemoryBudget()
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            path.unlink()
        self._snapshots = 0
        self._memory_bytes: dict[TransactionId, int] = {}
        self._files: dict[TransactionId, BinaryIO] = {}

    @property
    def queues(self) -> QueueBudget:
        """What the node's tablets share that wait for their columnar stores."""
        return self._budget.queues

    def new_snapshot(self, word: str) -> Path:
        """Where a snapshot on its way in or out may lie; a restart removes it."""
        self._snapshots += 1
        return self._directory / f"{self._snapshots}.{word}"

    def fits_in_memory(self, length: int) -> bool:
        """Whether `keep` will not have to write to a file, which blocks."""
        return self._budget.fits(length)

    def keep(self, entry: StagedEntry) -> StagedEntry:
        """Keeps an entry given with its data until its transaction is dropped."""
        transaction_id, data = entry.transaction_id, entry.data
        assert data is not None
        if self.fits_in_memory(len(data)):
            self._budget.used_bytes += len(data)
            held = self._memory_bytes.get(transaction_id, 0)
            self._memory_bytes[transaction_id] = held + len(data)
            return entry
        file = self._files.get(transaction_id)
        if file is None:
            file = self._files[transaction_id] = self._path(transaction_id).open("wb")
        offset = file.tell()
        file.write(data)
        file.write(bytes(-len(data) % _ALIGNMENT))
        return replace(entry, data=None, offset=offset)

    def load(self, entries: Sequence[StagedEntry]) -> list[pa.Buffer]:
        """The bytes of entries, by memory map for those in a file."""
        buffers = []
        maps: dict[TransactionId, pa.MemoryMappedFile] = {}
        for entry in entries:
            if entry.data is not None:
                buffers.append(pa.py_buffer(entry.data))
                continue
            if entry.transaction_id not in maps:
                self._files[entry.transaction_id].flush()
                path = str(self._path(entry.transaction_id))
                maps[entry.transaction_id] = pa.memory_map(path)
            mapped = maps[entry.transaction_id]
            mapped.seek(entry.offset)
            buffers.append(mapped.read_buffer(entry.length))
        return buffers

    def drop(self, transaction_id: TransactionId) -> None:
        """Forgets the transaction's entries; buffers from `load` stay valid."""
        self._budget.used_bytes -= self._memory_bytes.pop(transaction_id, 0)
        file = self._files.pop(transaction_id, None)
        if file is not None:
            file.close()
            self._path(transaction_id).unlink()

    def close(self) -> None:
        """Removes everything."""
        for transaction_id in [*self._files, *self._memory_bytes]:
            self.drop(transaction_id)

    def _path(self, transaction_id: TransactionId) -> Path:
        return self._directory / f"{transaction_id}.staged"
