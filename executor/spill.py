"""Where exchange chunks wait on disk when memory must not hold them.

One anonymous file a task: it is unlinked from its directory as soon as it is open, so that
nothing is left behind however the process ends. Space is given back when the task ends, not
before: a task's inputs are read once, and the file lives as long as its query.

`SpillSpace` counts the bytes of all files of a node, and refuses (53100) above its bound.
Chunks may be written and read from several threads at once.
"""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cluster.errors import DiskFull, IoError

DEFAULT_SPILL_LIMIT_BYTES = 64 * 1024**3


@dataclass(frozen=True, slots=True)
class SpillReference:
    """A chunk in a spill file."""

    offset: int
    size_bytes: int


class SpillSpace:
    """A directory for spill files, and how much may lie in it."""

    def __init__(self, directory: Path, limit_bytes: int = DEFAULT_SPILL_LIMIT_BYTES) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._used_bytes = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def reserve(self, size_bytes: int) -> None:
        """Counts bytes about to be written; DiskFull when the bound would be passed."""
        with self._lock:
            if self._used_bytes + size_bytes > self.limit_bytes:
                raise DiskFull(
                    "exchanges would take more than their space on disk",
                    detail=f"The limit is {self.limit_bytes} bytes on this node.",
                )
            self._used_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        with self._lock:
            self._used_bytes -= size_bytes
            assert self._used_bytes >= 0


class SpillFile:
    """An append-only file of chunks; made when the first one is written."""

    def __init__(self, space: SpillSpace) -> None:
        self._space = space
        self._file: IO[bytes] | None = None
        self._size_bytes = 0
        self._closed = False
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def append(self, chunk: bytes | memoryview) -> SpillReference:
        """Writes a chunk; DiskFull or IoError when it cannot."""
        size_bytes = len(chunk)
        self._space.reserve(size_bytes)
        with self._lock:
            if self._closed:
                self._space.give_back(size_bytes)
                raise IoError("the spill file is closed")
            descriptor = self._open()
            offset = self._size_bytes
            self._size_bytes += size_bytes
            _write_at(descriptor, chunk, offset)
        return SpillReference(offset, size_bytes)

    def read(self, reference: SpillReference) -> bytes:
        """The chunk; IoError when the file is closed or short."""
        with self._lock:
            if self._file is None:
                raise IoError("the spill file is closed")
            chunk = os.pread(self._file.fileno(), reference.size_bytes, reference.offset)
        if len(chunk) != reference.size_bytes:
            raise IoError("a spill file is shorter than what was written to it")
        return chunk

    def close(self) -> None:
        """Frees the space; may be called more than once."""
        with self._lock:
            self._closed = True
            if self._file is None:
                return
            self._file.close()
            self._file = None
            self._space.give_back(self._size_bytes)

    def _open(self) -> int:
        if self._file is None:
            self._space.directory.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(  # noqa: SIM115  closed by close()
                dir=self._space.directory, prefix="exchange-", buffering=0
            )
        return self._file.fileno()


def _write_at(descriptor: int, chunk: bytes | memoryview, offset: int) -> None:
    """All of the chunk: one `pwrite` may write less than it was given."""
    rest = memoryview(chunk)
    try:
        while rest:
            written = os.pwrite(descriptor, rest, offset)
            rest = rest[written:]
            offset += written
    except OSError as error:
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise DiskFull(f"could not write an exchange to disk: {error.strerror}") from error
        raise IoError(f"could not write an exchange to disk: {error.strerror}") from error
