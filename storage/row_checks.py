"""Checks of a transaction's changes against the row store, by lookups.

Unique constraints: the rows that will be there afterwards are the transaction's inserts that no
later delete of its own takes away; they must differ among themselves, and from current rows that
it does not delete. A key with a NULL in it conflicts with nothing. The caller holds the locks
that keep what is found so, and has brought the store up to every outcome before
(`storage.uniqueness` does the same in bulk in the columnar store).

Changed rows (rules I2, I3): whether others changed a row after some timestamp is in its
`begin_ts`; a row that is gone was changed as well.

A lookup takes some microseconds; both `RowStore`, on the loop, and `RowScan`, on a thread, find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from storage.fragments import FragmentChange, FragmentId, Timestamp, UniqueKey
from storage.open_checks import Wanted, every_constraint
from storage.row_apply import pieces
from storage.row_tables import RowTables, StoredKey, StoredRow


class Finder(Protocol):
    """Who looks up current rows."""

    def __contains__(self, fragment_id: FragmentId) -> bool: ...

    def tables(self, fragment_id: FragmentId) -> RowTables: ...

    def is_empty(self, fragment_id: FragmentId) -> bool: ...

    def find(
        self, fragment_id: FragmentId, columns: Sequence[str], values: Sequence[Any]
    ) -> list[StoredKey]: ...

    def begin_of(self, fragment_id: FragmentId, key: StoredKey) -> Timestamp | None: ...


@dataclass(frozen=True, slots=True)
class Conflict:
    """A unique constraint that would be broken; `values` has one row, the key's columns.
    `held_by` are the keys of the current rows that have these values."""

    unique: UniqueKey
    values: pa.RecordBatch
    held_by: tuple[StoredKey, ...] = ()


def find_conflict(
    finder: Finder,
    fragment_id: FragmentId,
    changes: Sequence[FragmentChange],
    wanted: Wanted = every_constraint,
) -> Conflict | None:
    """The first conflict that these changes of one transaction would make, or None."""
    if fragment_id not in finder:
        return None  # dropped meanwhile
    tables = finder.tables(fragment_id)
    rows = _Rows(tables)
    for change in changes:
        rows.take(change)
    for row in rows.twice.values():
        return rows.conflict(tables.schema.unique[0], row)
    look_up = not rows.truncated and bool(rows.inserted) and not finder.is_empty(fragment_id)
    for unique in tables.schema.unique:
        if not wanted(fragment_id, unique.constraint):
            continue
        seen: set[tuple[Any, ...]] = set()
        places = [tables.names.index(name) for name in unique.columns]
        for row in rows.inserted.values():
            values = tuple(row[place] for place in places)
            if None in values:
                continue
            compared = tuple(map(tables.lookup_value, unique.columns, values))
            if compared in seen:
                return rows.conflict(unique, row)
            seen.add(compared)
            if look_up:
                found = finder.find(fragment_id, unique.columns, values)
                others = tuple(key for key in found if key not in rows.deleted)
                if others:
                    return rows.conflict(unique, row, others)
    return None


class _Rows:
    """The rows that changes, in their order, leave; `twice` has those put in beside another."""

    def __init__(self, tables: RowTables) -> None:
        self._tables = tables
        self._is_unique = any(
            set(unique.columns) == set(tables.schema.key) for unique in tables.schema.unique
        )
        self.inserted: dict[StoredKey, StoredRow] = {}
        self.deleted: set[StoredKey] = set()
        self.truncated = False
        self.twice: dict[StoredKey, StoredRow] = {}

    def take(self, change: FragmentChange) -> None:
        if change.truncate:
            self.inserted.clear()
            self.deleted.clear()
            self.twice.clear()
            self.truncated = True
        if change.delete_keys is not None:
            for piece in pieces(change.delete_keys):
                for key in self._tables.stored_keys(piece):
                    self.inserted.pop(key, None)
                    self.twice.pop(key, None)
                    self.deleted.add(key)
        if change.insert_rows is not None:
            for piece in pieces(change.insert_rows):
                for row in self._tables.stored_rows(piece):
                    key = self._tables.key_of(row)
                    if key in self.inserted and self._is_unique:
                        self.twice[key] = row
                    self.inserted[key] = row

    def conflict(
        self, unique: UniqueKey, row: StoredRow, held_by: tuple[StoredKey, ...] = ()
    ) -> Conflict:
        places = [self._tables.names.index(name) for name in unique.columns]
        values = tuple(row[place] for place in places)
        return Conflict(unique, self._tables.to_batch([values], unique.columns), held_by)


def changed_places(
    finder: Finder, fragment_id: FragmentId, keys: pa.RecordBatch, base: Timestamp
) -> list[int]:
    """The places of those keys whose rows were changed after `base`, or are gone."""
    if fragment_id not in finder:
        return []
    tables = finder.tables(fragment_id)
    begins = (finder.begin_of(fragment_id, key) for key in tables.stored_keys(keys))
    return [place for place, begin in enumerate(begins) if begin is None or begin > base]


def any_changed_after(
    finder: Finder, fragment_id: FragmentId, changes: Sequence[FragmentChange], base: Timestamp
) -> bool:
    """Whether others changed a row after `base` that these changes delete or update.

    Rows that the transaction itself made are no concern, nor is what it does behind a TRUNCATE.
    """
    made: set[StoredKey] = set()
    for change in changes:
        if change.truncate or fragment_id not in finder:
            return False
        tables = finder.tables(fragment_id)
        if change.delete_keys is not None:
            keys = [key for key in tables.stored_keys(change.delete_keys) if key not in made]
            begins = (finder.begin_of(fragment_id, key) for key in keys)
            if any(begin is None or begin > base for begin in begins):
                return True
        if change.insert_rows is not None:
            made.update(tables.stored_keys(change.insert_rows))
    return False
