"""A row store's files: how each connection to them is made, and what their failures are.

In WAL mode with `synchronous=NORMAL` a commit is a write to the operating system and nothing
more; what is durable is what was synced by name. Checkpoints of SQLite's log file are asked for,
never made by a commit on its way (`wal_autocheckpoint=0`).

Pages are 4 KiB. Of 2 KiB a changed row writes two thirds (measured: 5.7 instead of 9.1 KB a row
with its history), but rows over 490 bytes that are kept by another key than one integer, as
TPC-C's customers are, would each take a page more.

Each page ends with a checksum of eight bytes, by SQLite's own `cksumvfs`, which comes with apsw: a
page that was changed behind its back is an error when it is read, and never an answer. It costs
nothing that could be measured. Where apsw comes without it, row stores have no checksums, and the
log says so; nor have files that were made there.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from pathlib import Path
from typing import Any, TypeAlias

import apsw
from apsw import sqlite_extra

from cluster.errors import DataCorrupted, DqeError, InternalError, IoError

logger = logging.getLogger(__name__)

PAGE_BYTES = 4096
CHECKSUM_BYTES = 8
PAGE_DAMAGED = "a page does not match its checksum"
CACHE_BYTES = 8 * 1024 * 1024
STATEMENTS_CACHED = 500
# Past this length the log file is copied into the main one while a large ingest goes on, and
# cut to it when it starts anew.
WAL_BYTES = 64 * 1024 * 1024
BUSY_TIMEOUT_MS = 10_000

Connection: TypeAlias = Any  # apsw's module has no type for a connection that mypy finds


def connect(path: Path, *, read_only: bool = False) -> Connection:
    """A connection as every one to a row store is. Raises apsw.Error."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    if read_only:
        flags = apsw.SQLITE_OPEN_READONLY
    vfs = _checking_vfs()
    connection = apsw.Connection(
        str(path), flags=flags, vfs=vfs, statementcachesize=STATEMENTS_CACHED
    )
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    if vfs is not None:
        # Heeded by a file that has no page yet.
        reserved = ctypes.c_int(CHECKSUM_BYTES)
        wanted = apsw.SQLITE_FCNTL_RESERVE_BYTES
        connection.file_control("main", wanted, ctypes.addressof(reserved))
    pragmas = [f"cache_size = -{CACHE_BYTES // 1024}"]
    if not read_only:
        pragmas = [
            f"page_size = {PAGE_BYTES}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "wal_autocheckpoint = 0",
            f"journal_size_limit = {WAL_BYTES}",
            *pragmas,
        ]
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


class _CheckingVfs:
    """Loaded once a process: loaded again it would find itself below."""

    lock = threading.Lock()
    name: str | None = None
    tried = False


def _checking_vfs() -> str | None:
    """The name of the file system of SQLite's that checks pages; None where there is none."""
    with _CheckingVfs.lock:
        if not _CheckingVfs.tried:
            _CheckingVfs.tried = True
            if sqlite_extra.has("cksumvfs"):
                loader = apsw.Connection(":memory:")
                sqlite_extra.load(loader, "cksumvfs")
                loader.close()
                _CheckingVfs.name = "cksmvfs"
            else:
                logger.warning("row stores have no checksums: apsw comes without cksumvfs here")
        return _CheckingVfs.name


def wal_path(path: Path) -> Path:
    """SQLite's log file of a store."""
    return path.with_name(f"{path.name}-wal")


def remove_files(path: Path) -> None:
    """Removes a store's files, the log first: alone it says nothing."""
    for name in (wal_path(path), path.with_name(f"{path.name}-shm"), path):
        name.unlink(missing_ok=True)


def store_error(error: apsw.Error) -> DqeError:
    """What a failure of SQLite is to callers."""
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
        return DataCorrupted(f"the row store is damaged: {PAGE_DAMAGED}")
    if isinstance(error, apsw.FullError | apsw.IOError | apsw.NoMemError):
        return IoError(f"the row store cannot go on: {error}")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return DataCorrupted(f"the row store is damaged: {error}")
    return InternalError(f"the row store failed: {error}")


def sync_path(path: Path) -> None:
    """Has the system write out what it holds of a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
