"""Whose data directory this is, and that only one process uses it (rules G3, S3).

`identity.json` holds the format version from the first start on, and the cluster and node ids
from the moment the node belongs to a cluster. `lock` is held by `flock` as long as the process
lives; the kernel gives it back however the process ends. Refusals are 55000 and name the
directory, what was found and what was expected. A directory that holds data but does not say
whose is refused, too: taken for a new one it would found another cluster over that data.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from cluster.errors import DataCorrupted, IoError, ObjectNotInPrerequisiteState

# Raised by any change of what is on disk that an older program would misread.
FORMAT_VERSION = 1

_LOCK = "lock"
_IDENTITY = "identity.json"
_PUT_BACK = "Restore that file, or start this node with an empty directory to join anew."


class Identity(msgspec.Struct, frozen=True):
    """Which node of which cluster; both unset until the node has joined one."""

    format: int = FORMAT_VERSION
    cluster_id: str = ""
    node_id: int = 0
    # The write-ahead log that belongs to it; 0 in directories from before this was kept.
    log_id: int = 0

    def checksum(self) -> int:
        """Tells a node's number from one that a flipped bit made: it would vote in its name."""
        told = f"{self.format} {self.cluster_id} {self.node_id} {self.log_id}"
        return zlib.crc32(told.encode())


class _Format(msgspec.Struct, frozen=True):
    """What every version's identity says, read before the rest is."""

    format: int


class _Stored(msgspec.Struct, frozen=True):
    """`Identity` as it is on disk: nothing may be left out."""

    format: int
    cluster_id: str
    node_id: int
    log_id: int = 0
    # None in directories from before it was kept.
    checksum: int | None = None


@dataclass(slots=True)
class DataDirectory:
    """A data directory that this process holds the lock of."""

    path: Path
    identity: Identity
    _lock: BinaryIO

    @classmethod
    def open(cls, path: Path) -> DataDirectory:
        """Takes the directory, made if it is missing. Refuses one in use or not ours."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            _refuse_strange(path)
            lock = _take_lock(path)
        except OSError as error:
            raise IoError(f'could not open data directory "{path}": {error.strerror}') from error
        try:
            identity = _read_identity(path)
        except BaseException:
            lock.close()
            raise
        return cls(path, identity, lock)

    @property
    def is_new(self) -> bool:
        """Whether the node has never belonged to a cluster."""
        return not self.identity.cluster_id

    def expect_cluster(self, cluster_id: str) -> None:
        """Refuses a directory of another cluster."""
        own = self.identity.cluster_id
        if own and own != cluster_id:
            raise ObjectNotInPrerequisiteState(
                f'data directory "{self.path}" belongs to another cluster',
                detail=f"It is of cluster {own}, not {cluster_id}.",
                hint="Start this node with another data directory.",
            )

    def expect_log(self, log_id: int) -> None:
        """Refuses a log that is not the one this node wrote: emptied, or another node's."""
        own = self.identity
        if not own.cluster_id or own.log_id == log_id:
            return
        if own.log_id:
            raise DataCorrupted(
                f'data directory "{self.path}" has lost its write-ahead log',
                detail="What is there is another log, or an empty one: what this node has"
                " promised and voted is not known any more.",
                hint="Start this node with an empty directory: it joins as a new node.",
            )
        self._write(own.cluster_id, own.node_id, log_id)

    def set_identity(self, cluster_id: str, node_id: int, log_id: int = 0) -> None:
        """Writes down, durably, which node of which cluster this is. It never changes."""
        assert cluster_id
        assert node_id > 0
        self.expect_cluster(cluster_id)
        if self.identity.node_id not in (0, node_id):
            raise ObjectNotInPrerequisiteState(
                f'data directory "{self.path}" belongs to node {self.identity.node_id},'
                f" not to node {node_id}"
            )
        self._write(cluster_id, node_id, log_id)

    def _write(self, cluster_id: str, node_id: int, log_id: int) -> None:
        identity = Identity(FORMAT_VERSION, cluster_id, node_id, log_id)
        _write_identity(self.path / _IDENTITY, identity)
        self.identity = identity

    def close(self) -> None:
        """Lets another process have the directory."""
        self._lock.close()


def write_durably(path: Path, data: bytes) -> None:
    """Replaces a file's contents: after a crash it holds all of the old or all of the new."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _refuse_strange(path: Path) -> None:
    names = sorted(entry.name for entry in path.iterdir())
    if names and _LOCK not in names:
        raise ObjectNotInPrerequisiteState(
            f'directory "{path}" is not empty and is no data directory of dqe',
            detail=f'It holds "{names[0]}".',
            hint="Give --data a new or empty directory.",
        )


def _take_lock(path: Path) -> BinaryIO:
    lock = (path / _LOCK).open("a+b")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = lock.read().decode(errors="replace") or "unknown"
        lock.close()
        raise ObjectNotInPrerequisiteState(
            f'data directory "{path}" is in use by another process',
            detail=f"The process is {holder}.",
            hint="Stop that node first, or give --data another directory.",
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()).encode())
    lock.flush()
    return lock


def _read_identity(path: Path) -> Identity:
    file = path / _IDENTITY
    if not file.exists():
        _refuse_ownerless(path)
        identity = Identity()
        _write_identity(file, identity)
        return identity
    try:
        data = file.read_bytes()
        found = msgspec.json.decode(data, type=_Format).format
        if found != FORMAT_VERSION:
            raise ObjectNotInPrerequisiteState(
                f'data directory "{path}" was written by another version of dqe',
                detail=f"Its format is {found}; this program reads {FORMAT_VERSION}.",
                hint="Run the version that wrote it.",
            )
        stored = msgspec.json.decode(data, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(file, str(error)) from error
    identity = Identity(stored.format, stored.cluster_id, stored.node_id, stored.log_id)
    if stored.checksum not in (None, identity.checksum()):
        raise _damaged(file, "Its checksum does not match.")
    return identity


def _write_identity(file: Path, identity: Identity) -> None:
    whole = msgspec.to_builtins(identity) | {"checksum": identity.checksum()}
    write_durably(file, msgspec.json.encode(whole))


def _damaged(file: Path, why: str) -> DataCorrupted:
    return DataCorrupted(f'"{file}" is damaged', detail=why, hint=_PUT_BACK)


def _refuse_ownerless(path: Path) -> None:
    names = {entry.name for entry in path.iterdir()} - {_LOCK, f"{_IDENTITY}.new"}
    if names:
        raise DataCorrupted(
            f'data directory "{path}" holds data, but its {_IDENTITY} is missing',
            hint=_PUT_BACK,
        )
