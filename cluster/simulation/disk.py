"""A disk that keeps its promises and no others.

`sync` makes a file's contents durable, `sync_directory` the names in it. At a `crash` each
write since the last sync is kept, lost or torn by chance, in any combination (a disk writes
its cache in any order), and names made or removed since the last directory sync are kept or
undone. Faults to order: a failing sync, a full disk, a crash in the middle of a sync.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _File:
    """Contents as read, contents as durable, and the changes that lie between."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    # (offset, bytes) of a write, or (size, None) of a truncation, since the last sync.
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)


class SimulatedDisk:
    """Implements `cluster.disk.Disk` in memory. Paths are plain strings."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._files: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._epoch = 0
        self.fail_next_sync = False
        # Called once when the next sync begins: a crash in it finds the writes of before
        # neither lost nor durable yet.
        self.at_next_sync: Callable[[], object] | None = None
        self.capacity_bytes: int | None = None
        self.syncs = 0

    # What `Disk` asks for.

    def make_directory(self, path: str) -> None:
        """Directories are implied by names."""

    def names(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return sorted(
            name[len(prefix) :]
            for name in self._files
            if name.startswith(prefix) and "/" not in name[len(prefix) :]
        )

    def open(self, path: str, *, create: bool = False) -> SimulatedFile:
        if create:
            if path in self._files:
                raise FileExistsError(path)
            self._files[path] = _File()
        elif path not in self._files:
            raise FileNotFoundError(path)
        return SimulatedFile(self, self._files[path])

    def remove(self, path: str) -> None:
        if self._files.pop(path, None) is None:
            raise FileNotFoundError(path)

    def sync_directory(self, path: str) -> None:
        prefix = path.rstrip("/") + "/"
        for name in [n for n in self._durable_names if n.startswith(prefix)]:
            if name not in self._files:
                del self._durable_names[name]
        for name, file in self._files.items():
            if name.startswith(prefix):
                self._durable_names[name] = file

    # What a simulation asks for.

    def close_all(self) -> None:
        """The process is gone, the machine is not: what it wrote stays in the page cache."""
        self._epoch += 1

    def crash(self) -> None:
        """Power is cut; files opened before cannot be used any more."""
        self._epoch += 1
        names = dict(self._durable_names)
        for name in [*self._files, *self._durable_names]:
            was, now = self._durable_names.get(name), self._files.get(name)
            if was is not now and self._chance.random() < 0.5:
                if now is None:
                    names.pop(name, None)
                else:
                    names[name] = now
        for file in names.values():
            self._crash_file(file)
        self._files = dict(names)
        self._durable_names = dict(names)

    def _crash_file(self, file: _File) -> None:
        data = file.durable
        # A file system keeps the end of a file in order with truncations, not with writes.
        for offset, written in file.pending:
            if written is None:
                if self._chance.random() < 0.5:
                    del data[offset:]
                continue
            fate = self._chance.random()
            if fate < 0.4:
                continue
            if fate < 0.7 and written:
                written = self._tear(written)
            _write(data, offset, written)
        file.data = bytearray(data)
        file.durable = data
        file.pending = []

    def _tear(self, written: bytes) -> bytes:
        """A prefix, or all with a hole: pages reach the disk in any order."""
        cut = self._chance.randrange(len(written))
        if self._chance.random() < 0.5:
            return written[:cut]
        hole = self._chance.randrange(1, len(written) - cut + 1)
        return written[:cut] + bytes(hole) + written[cut + hole :]

    def contents(self, path: str) -> bytes:
        """The file as a reader sees it."""
        return bytes(self._files[path].data)

    def replace(self, path: str, data: bytes) -> None:
        """Puts durable contents in place of a file's, as damage would."""
        self._files[path] = self._durable_names[path] = _File(bytearray(data), bytearray(data))

    def used_bytes(self) -> int:
        """What all files take."""
        return sum(len(file.data) for file in self._files.values())

    @property
    def epoch(self) -> int:
        """Counts crashes; a file opened before the last one is dead."""
        return self._epoch


class SimulatedFile:
    """An open file; dead after a crash."""

    def __init__(self, disk: SimulatedDisk, file: _File) -> None:
        self._disk = disk
        self._file = file
        self._epoch = disk.epoch

    def _check(self) -> None:
        if self._epoch != self._disk.epoch:
            raise OSError("the node that opened this file has crashed")

    def size(self) -> int:
        self._check()
        return len(self._file.data)

    def read(self, offset: int, size: int) -> bytes:
        self._check()
        return bytes(self._file.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self._check()
        capacity = self._disk.capacity_bytes
        if capacity is not None and self._disk.used_bytes() + len(data) > capacity:
            raise OSError(28, "no space left on device")
        _write(self._file.data, offset, data)
        self._file.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        self._check()
        del self._file.data[size:]
        self._file.pending.append((size, None))

    def sync(self) -> None:
        self._check()
        if self._disk.at_next_sync is not None:
            hook, self._disk.at_next_sync = self._disk.at_next_sync, None
            hook()
            self._check()
        if self._disk.fail_next_sync:
            self._disk.fail_next_sync = False
            # As on Linux: the dirty pages are gone and the next sync would report success.
            self._file.data = bytearray(self._file.durable)
            self._file.pending = []
            raise OSError(5, "input/output error")
        self._disk.syncs += 1
        for offset, written in self._file.pending:
            if written is None:
                del self._file.durable[offset:]
            else:
                _write(self._file.durable, offset, written)
        self._file.pending = []

    def close(self) -> None:
        return


def _write(data: bytearray, offset: int, written: bytes) -> None:
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written
