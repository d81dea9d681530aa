"""A row store's files: how each connection to them is made, and what their failures are.

In WAL mode with `synchronous=NORMAL` a commit is a write to the operating system and nothing
more; what is durable is what was synced by name. Checkpoints of SQLite's log file are asked for,
never made by a commit on its way (`wal_autocheckpoint=0`).

Pages are 4 KiB. Of 2 KiB a changed row writes two thirds (measured: 5.7 instead of 9.1 KB a row
with its history), but rows over 490 bytes that are kept by another key than one integer, as
TPC-C's customers are, would each take a page more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

import apsw

from cluster.errors import DataCorrupted, DqeError, InternalError, IoError

PAGE_BYTES = 4096
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
    connection = apsw.Connection(str(path), flags=flags, statementcachesize=STATEMENTS_CACHED)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
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


def wal_path(path: Path) -> Path:
    """SQLite's log file of a store."""
    return path.with_name(f"{path.name}-wal")


def remove_files(path: Path) -> None:
    """Removes a store's files, the log first: alone it says nothing."""
    for name in (wal_path(path), path.with_name(f"{path.name}-shm"), path):
        name.unlink(missing_ok=True)


def store_error(error: apsw.Error) -> DqeError:
    """What a failure of SQLite is to callers."""
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
