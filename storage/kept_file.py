"""One value that a small state machine keeps whole on disk (`raft.state_machine.SnapshotStore`).

The file is replaced atomically and durably; a checksum tells damage from contents.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from cluster.errors import DataCorrupted
from cluster.runtime import Runtime
from storage.identity import write_durably

_INDEX_BYTES = 8
_CHECKSUM_BYTES = 4
_HEADER_BYTES = _INDEX_BYTES + _CHECKSUM_BYTES


class KeptFile:
    """Loads and saves the value with the log index it stands for."""

    def __init__(self, runtime: Runtime, path: Path) -> None:
        self._runtime = runtime
        self._path = path

    def load(self) -> tuple[int, bytes] | None:
        """What was saved last, None before the first time. XX001 for a damaged file."""
        if not self._path.exists():
            return None
        content = self._path.read_bytes()
        index, checksum = content[:_INDEX_BYTES], content[_INDEX_BYTES:_HEADER_BYTES]
        data = content[_HEADER_BYTES:]
        if int.from_bytes(checksum, "little") != zlib.crc32(index + data):
            raise DataCorrupted(
                f'"{self._path}" is damaged: its checksum does not match',
                hint="Restore that file, or start this node with an empty directory and --join:"
                " it joins as a new one.",
            )
        return int.from_bytes(index, "little"), data

    async def save(self, index: int, data: bytes) -> None:
        """Replaces the value; it is durable when this returns."""
        prefix = index.to_bytes(_INDEX_BYTES, "little")
        checksum = zlib.crc32(prefix + data).to_bytes(_CHECKSUM_BYTES, "little")
        await self._runtime.run_blocking(write_durably, self._path, prefix + checksum + data)
