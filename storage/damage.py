"""Damage that DuckDB finds in a tablet's file, told to whoever rebuilds the replica.

Every block of a store file carries a checksum, which DuckDB verifies when it reads the block
from disk; so a flipped byte never becomes a wrong answer, but an error of a read, an apply or a
checkpoint, in whatever thread that runs. The error names no file. So the tablets that were being
read are noted as suspects, from any thread, and the node's keeper looks at each: `scan` reads all
of its blocks that are not in memory. What is found damaged is reported once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import duckdb

from cluster.errors import DataCorrupted
from storage.fragments import TabletId
from storage.row_files import PAGE_DAMAGED

# DuckDB's words for a block whose checksum is wrong, and for a file that cannot be one; and what a
# row store says that it reads.
_WORDS = (
    "Corrupt database file",
    "does not match stored checksum",
    "not a valid DuckDB",
    PAGE_DAMAGED,
)


def is_damage(error: BaseException) -> bool:
    """Whether DuckDB says that a file is damaged."""
    text = str(error)
    return any(word in text for word in _WORDS)


def damaged_store(tablet_id: TabletId | str, error: BaseException) -> DataCorrupted:
    """The error for whoever met the damage."""
    return DataCorrupted(
        f"the store of tablet {tablet_id} is damaged on this node",
        detail=str(error).splitlines()[0],
        hint="The replica is rebuilt from the log or from another replica; try again.",
    )


class Suspects:
    """Tablets whose files may be damaged, in the order in which that was noticed."""

    def __init__(self) -> None:
        self._noted: deque[TabletId] = deque()

    def note(self, tablets: Iterable[TabletId]) -> None:
        """From any thread."""
        self._noted.extend(tablets)

    def take(self) -> list[TabletId]:
        """All that were noted since, each once."""
        taken = []
        while self._noted:
            taken.append(self._noted.popleft())
        return list(dict.fromkeys(taken))


def scan(cursor: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> None:
    """Reads every column of the tables; raises what DuckDB finds. Blocks."""
    for name in tables:
        columns = [row[0] for row in cursor.execute(f"DESCRIBE {name}").fetchall()]
        names = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
        cursor.execute(f"SELECT sum(hash({names})) FROM {name}").fetchall()
