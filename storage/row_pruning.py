"""Deletes history that ended by the horizon from a row store, a piece at a time.

History lies in the order of its keys, and an index by end would cost every update. So all of it is
walked once a horizon, `most_rows` at a step, each step a transaction of its own that begins where
the last one stopped; SQLite walks without Python. Rows that come in behind the walk ended after
its horizon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from storage.fragments import FragmentId, Timestamp
from storage.row_tables import END, RowTables, quoted

Connection: TypeAlias = Any
_Place: TypeAlias = tuple[Any, ...]


class RowPruning:
    """How far the walk over one store's history is; `done` is the horizon of the last whole one."""

    def __init__(self) -> None:
        self.done: Timestamp = 0
        self._horizon: Timestamp = 0  # of the walk under way
        self._left: list[FragmentId] = []
        self._behind: _Place | None = None

    def step(
        self,
        connection: Connection,
        tables: Mapping[FragmentId, RowTables],
        horizon: Timestamp,
        most_rows: int,
    ) -> None:
        """Goes on, in the caller's transaction, or begins the walk for `horizon`."""
        if not self._left:
            self._left, self._horizon = sorted(tables), horizon
        found = tables.get(self._left[0]) if self._left else None
        if found is not None and self._prune(connection, found, most_rows):
            return
        del self._left[:1]
        self._behind = None
        if not self._left:
            self.done = self._horizon

    def _prune(self, connection: Connection, tables: RowTables, most_rows: int) -> bool:
        """Whether there is more of the fragment."""
        place = ", ".join([*map(quoted, tables.schema.key), END])
        marks = ", ".join("?" * (len(tables.schema.key) + 1))
        behind = [] if self._behind is None else list(self._behind)
        after = f"({place}) > ({marks})" if behind else "true"
        last = connection.execute(
            f"SELECT {place} FROM {tables.history} WHERE {after} ORDER BY {place}"
            f" LIMIT 1 OFFSET {most_rows - 1}",
            behind,
        ).fetchall()
        until = f"({place}) <= ({marks})" if last else "true"
        connection.execute(
            f"DELETE FROM {tables.history} WHERE {END} <= ? AND {after} AND {until}",
            [self._horizon, *behind, *(last[0] if last else ())],
        )
        self._behind = last[0] if last else None
        return bool(last)
