"""Where a transaction's own changes left rows of one fragment (rule R5), by key.

A statement over one row sees what earlier statements of its transaction did to it. The changes
wait in the leader's draft; looking through all of them each time would make a block of many
statements quadratic, so this follows them and keeps the outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from storage.fragments import FragmentChange
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.stored_changes import deleted_keys, inserted_rows


class OwnRows:
    """Of one fragment, as far as the draft's changes were followed."""

    def __init__(self, tables: RowTables) -> None:
        self._tables = tables
        self._followed = 0
        self._rows: dict[StoredKey, StoredRow | None] = {}
        self._truncated = False

    def follow(self, changes: Sequence[FragmentChange]) -> None:
        """Takes in the draft's changes behind those of the last call."""
        for place in range(self._followed, len(changes)):
            change = changes[place]
            if change.fragment_id == self._tables.schema.fragment_id:
                self._take(change)
        self._followed = len(changes)

    def _take(self, change: FragmentChange) -> None:
        if change.truncate:
            self._rows.clear()
            self._truncated = True
        for key in deleted_keys(self._tables, change):
            self._rows[key] = None
        for row in inserted_rows(self._tables, change):
            self._rows[self._tables.key_of(row)] = row

    def changes(self, key: StoredKey) -> bool:
        """Whether the store's row of that key is not what the transaction sees."""
        return self._truncated or key in self._rows

    def row(self, key: StoredKey) -> StoredRow | None:
        """The row that it sees instead."""
        return self._rows.get(key)

    @property
    def truncated(self) -> bool:
        """Whether no row of the store counts."""
        return self._truncated

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> Iterable[tuple[StoredKey, StoredRow | None]]:
        """The keys that were changed, each with what is there now."""
        return self._rows.items()
