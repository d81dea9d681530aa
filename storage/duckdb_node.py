"""The node's one DuckDB instance: memory, threads and temporary files are bounded once.

Every stage of every query and every columnar store of the node runs inside it, so that its
memory limit and its threads are the node's. The main database is in memory and holds no user
data; each tablet's file is attached under the name `t<tablet id>`.

Why attached the way they are (rule L4, docs/storage.md): `RECOVERY_MODE no_wal_writes`, since
our own log is the only log; then a file holds, after a crash, exactly what its last CHECKPOINT
wrote. `BLOCK_SIZE 65536`, since a node holds many small tablets (70 KB a small table, not 265).
Checkpoints by size are off: one that DuckDB starts by itself would stall the applier.

Threads: a connection may be used by one thread at a time, and `cursor()` gives another
connection for 9 µs. Statements block, so they belong into `Runtime.run_blocking`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

DEFAULT_MEMORY_FRACTION = 0.5
BLOCK_SIZE_BYTES = 65536

# PostgreSQL's meaning where DuckDB has a switch for it (facts.md), and Arrow types that lose
# nothing between nodes.
SETTINGS: tuple[tuple[str, str], ...] = (
    ("integer_division", "true"),
    ("default_null_order", "'nulls_last_on_asc_first_on_desc'"),
    ("arrow_lossless_conversion", "true"),
    ("TimeZone", "'UTC'"),
    ("checkpoint_threshold", "'1TB'"),
    ("autoinstall_known_extensions", "false"),
    ("autoload_known_extensions", "false"),
)

Setup = Callable[[duckdb.DuckDBPyConnection], None]


@dataclass(frozen=True, slots=True)
class DuckDbLimits:
    """What the instance may use; None leaves a bound at half the memory, all processors."""

    memory_bytes: int | None = None
    threads: int | None = None


def _no_setup(_: duckdb.DuckDBPyConnection) -> None:
    return None


class DuckDbNode:
    """Opens, configures and closes the instance; attaches the files of tablets.

    `setup` runs once on the main connection: the upper floors install macros and UDFs there,
    which every cursor then sees.
    """

    def __init__(
        self, temp_directory: Path, limits: DuckDbLimits | None = None, setup: Setup = _no_setup
    ) -> None:
        limits = limits or DuckDbLimits()
        temp_directory.mkdir(parents=True, exist_ok=True)
        _empty_directory(temp_directory)
        memory_bytes = limits.memory_bytes or int(_machine_memory_bytes() * DEFAULT_MEMORY_FRACTION)
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "temp_directory": str(temp_directory),
                "memory_limit": f"{max(memory_bytes, 1)}B",
                "threads": limits.threads or os.cpu_count() or 1,
            },
        )
        for name, value in SETTINGS:
            self._connection.execute(f"SET GLOBAL {name} = {value}")
        setup(self._connection)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the same instance. Close it after use."""
        return self._connection.cursor()

    def store_cursor(self) -> duckdb.DuckDBPyConnection:
        """The connection by which a store changes its database; no other does."""
        return self.cursor()

    def attach(self, name: str, path: Path) -> None:
        """Opens the file (created if absent) as database `name`.

        Raises duckdb.Error, of several classes, for a file that is none or is damaged.
        """
        with self.cursor() as cursor:
            cursor.execute(
                f"ATTACH {quote_text(str(path))} AS {quote_name(name)}"
                f" (BLOCK_SIZE {BLOCK_SIZE_BYTES}, RECOVERY_MODE no_wal_writes)"
            )

    def detach(self, name: str) -> None:
        """Closes the file of database `name`."""
        with self.cursor() as cursor:
            cursor.execute(f"DETACH {quote_name(name)}")

    def close(self) -> None:
        """Ends all connections; open statements fail."""
        self._connection.close()


def quote_name(name: str) -> str:
    """An identifier for DuckDB SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text literal for DuckDB SQL."""
    return "'" + text.replace("'", "''") + "'"


def _machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _empty_directory(directory: Path) -> None:
    # What an earlier process spilled is of no use to this one.
    for path in directory.iterdir():
        if path.is_file():
            path.unlink()
