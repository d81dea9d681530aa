"""Files as the write-ahead log uses them: a face small enough that a simulated disk keeps it.

What is written may be lost or torn at a crash until `sync` has returned; a new or removed
name may be until `sync_directory` has. `OsDisk` is the machine's disk;
`cluster.simulation.SimulatedDisk` loses exactly what it is allowed to.

Left out: everything stores do with their own files; DuckDB and SQLite are crash-tested on
real ones.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class DiskFile(Protocol):
    """An open file."""

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """The bytes there, fewer only at the end of the file."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Writes all of it, not yet durably."""
        ...

    def truncate(self, size: int) -> None:
        """Cuts the file, not yet durably."""
        ...

    def sync(self) -> None:
        """Makes contents and size durable. After an error the contents are unknown."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """Directories and names."""

    def make_directory(self, path: str) -> None:
        """Makes the directory and its parents where they are missing."""
        ...

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted."""
        ...

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        """Opens for reading and writing; `create` makes a new file and refuses an old one."""
        ...

    def remove(self, path: str) -> None: ...

    def sync_directory(self, path: str) -> None:
        """Makes names made and removed in the directory durable."""
        ...


class OsFile:
    """A file of the operating system."""

    def __init__(self, path: str, flags: int) -> None:
        self._descriptor = os.open(path, flags, 0o600)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        parts = []
        while size > 0 and (part := os.pread(self._descriptor, size, offset)):
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        written = os.pwrite(self._descriptor, data, offset)
        view = memoryview(data)
        while written < len(data):
            written += os.pwrite(self._descriptor, view[written:], offset + written)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class OsDisk:
    """The machine's own disk."""

    def make_directory(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)

    def names(self, path: str) -> list[str]:
        return sorted(entry.name for entry in Path(path).iterdir())

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        flags = os.O_RDWR | os.O_CLOEXEC
        return OsFile(path, flags | os.O_CREAT | os.O_EXCL if create else flags)

    def remove(self, path: str) -> None:
        Path(path).unlink()

    def sync_directory(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
