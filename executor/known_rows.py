"""Rows that a transaction has just changed, as it left them: it may read them without asking.

A row that a statement over single rows has changed or made is locked until the transaction's end,
so what its leader answered is what any later statement of the transaction sees, whatever the
isolation level: nobody else's change can lie over it. Where the locks are lost with their leader,
the transaction takes them again and finds the same row, or does not commit (C9).

Whatever else the transaction changes at the tablet, or takes back, forgets all of them; who keeps
them bounds them (`executor.transaction_places`).
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.fragments import FragmentId
from storage.row_tables import RowTables, StoredKey, StoredRow


class KnownRows:
    """Those at one tablet, by fragment and key; None for a row that is gone."""

    def __init__(self) -> None:
        self._rows: dict[tuple[FragmentId, StoredKey], StoredRow | None] = {}

    def note(
        self,
        fragment_id: FragmentId,
        tables: RowTables,
        keys: Sequence[StoredKey],
        rows: Sequence[StoredRow],
    ) -> None:
        """A statement has changed what was there by these keys; now there are these rows."""
        for key in keys:
            self._rows[fragment_id, key] = None
        for row in rows:
            self._rows[fragment_id, tables.key_of(row)] = row

    def forget(self) -> None:
        """They may be others by now."""
        self._rows.clear()

    def find(
        self, fragment_id: FragmentId, keys: Sequence[StoredKey]
    ) -> Sequence[StoredRow | None] | None:
        """The rows by their keys; None where one of them is not known."""
        rows = self._rows
        if not rows or not all((fragment_id, key) in rows for key in keys):
            return None
        return [rows[fragment_id, key] for key in keys]
