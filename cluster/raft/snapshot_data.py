"""The bytes of a snapshot on their way: in memory for small states, in a file for large ones.

A leader reads its snapshot piece by piece (`SnapshotData`), a follower gathers the pieces
(`SnapshotSink`), so neither ever holds more than a piece of what lies in a file. A group's
state machine chooses: one that takes `bytes` (`StateMachine`) has them in memory, one that
streams (`StreamedStateMachine`) makes and receives files.

`SnapshotPace` bounds what one node sends of all its snapshots together, so that a repair does
not crowd out everything else.

Left out: going on with a half-received file after a restart; it begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias, runtime_checkable

from cluster.raft.log import Entry
from cluster.raft.state_machine import StateMachine


class SnapshotData(Protocol):
    """A whole snapshot, to be read in pieces."""

    @property
    def size_bytes(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, at most `size` of them. Blocks for as long as a page
        of the file takes that was written a moment ago."""
        ...

    def close(self) -> None:
        """Nobody needs it any more."""
        ...


class SnapshotSink(Protocol):
    """A snapshot being received."""

    @property
    def received_bytes(self) -> int: ...

    def add(self, data: bytes) -> None:
        """Takes the next piece."""
        ...

    def finish(self) -> SnapshotData:
        """The whole of it, once all is here."""
        ...

    def discard(self) -> None:
        """It will not be completed."""
        ...


class MemorySnapshot:
    """Both ends, in memory."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data)

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    received_bytes = size_bytes

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._data[offset : offset + size])

    def read_all(self) -> bytes:
        """All of it."""
        return bytes(self._data)

    def add(self, data: bytes) -> None:
        self._data += data

    def finish(self) -> MemorySnapshot:
        return self

    def close(self) -> None:
        return None

    discard = close


class FileSnapshot:
    """A snapshot in a file of its own, which goes with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self.size_bytes = path.stat().st_size

    def read(self, offset: int, size: int) -> bytes:
        if self._file is None:
            self._file = self.path.open("rb")
        self._file.seek(offset)
        return self._file.read(size)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self.path.unlink(missing_ok=True)


class FileSink:
    """A snapshot being received into a file. Not synced: until it is installed it may be lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self.received_bytes = 0

    def add(self, data: bytes) -> None:
        self._file.write(data)
        self.received_bytes += len(data)

    def finish(self) -> FileSnapshot:
        self._file.close()
        return FileSnapshot(self._path)

    def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


@runtime_checkable
class StreamedStateMachine(Protocol):
    """A `StateMachine` whose snapshots do not fit into memory; the same rules hold."""

    @property
    def applied_index(self) -> int: ...

    @property
    def durable_index(self) -> int: ...

    async def apply(self, entries: Sequence[Entry]) -> list[object]: ...

    async def open_snapshot(self) -> tuple[int, SnapshotData]:
        """The state as of the index given with it."""
        ...

    def receive_snapshot(self) -> SnapshotSink:
        """Where a snapshot from the leader is to be gathered."""
        ...

    async def install_snapshot(self, index: int, data: SnapshotData) -> None:
        """Replaces the state by that of a snapshot that was received, durably. Closes `data`."""
        ...


class WholeSnapshots:
    """The snapshots of a state machine that takes and gives bytes."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine

    async def open_snapshot(self) -> tuple[int, SnapshotData]:
        index, data = await self._machine.snapshot()
        return index, MemorySnapshot(data)

    def receive_snapshot(self) -> SnapshotSink:
        return MemorySnapshot()

    async def install_snapshot(self, index: int, data: SnapshotData) -> None:
        await self._machine.restore(index, data.read(0, data.size_bytes))


Machine: TypeAlias = StateMachine | StreamedStateMachine


def snapshots_of(machine: Machine) -> StreamedStateMachine | WholeSnapshots:
    """How a machine's snapshots are made, gathered and installed."""
    return machine if isinstance(machine, StreamedStateMachine) else WholeSnapshots(machine)


class SnapshotPace:
    """How fast snapshots may leave a node: so many bytes a second, and a little ahead."""

    def __init__(self, bytes_per_s: float, ahead_s: float = 0.25) -> None:
        self._bytes_per_s = bytes_per_s
        self._ahead_s = ahead_s
        self._paid_until_s = float("-inf")

    def due_s(self, now_s: float) -> float:
        """When the next piece may go; now, unless too much has gone lately."""
        return max(now_s, self._paid_until_s - self._ahead_s)

    def spend(self, size_bytes: int, now_s: float) -> None:
        """A piece goes out."""
        self._paid_until_s = max(self._paid_until_s, now_s) + size_bytes / self._bytes_per_s
