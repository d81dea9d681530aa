"""What one statement did to values that tie rows to others: recorded while it writes.

Of new rows and of changed ones whose values differ, the values that each foreign key refers to;
of rows that are gone, or have another key now, the key that foreign keys may refer to. At the
end of the statement `executor.foreign_keys` looks whether it all holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import Column, ColumnId, ForeignKey, Table
from planner.foreign_keys import ROW, new_name, old_name
from storage.types import arrow_type

# More values than these are reduced to different ones before others are added.
KEPT_ROWS = 65_536


class KeyChanges:
    """One statement's, of one table. Batches carry the table's column names."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._referring = {key.name: _Values(len(key.columns)) for key in table.foreign_keys}
        self._old: list[pa.RecordBatch] = []
        self._new: list[pa.RecordBatch | None] = []

    def inserted(self, rows: pa.RecordBatch) -> None:
        """New rows, whole."""
        for key in self.table.foreign_keys:
            self._referring[key.name].add(self._columns(rows, key.columns))

    def deleted(self, old: pa.RecordBatch) -> None:
        """Rows that go, with all of the table's `tied_columns`."""
        if self.table.referenced_by and old.num_rows:
            self._old.append(old)
            self._new.append(None)

    def updated(self, old: pa.RecordBatch, new: pa.RecordBatch) -> None:
        """Rows that change: as they were, and the columns that get values."""
        for key in self.table.foreign_keys:
            places = self._changed(old, new, key.columns)
            if places is not None:
                both = self._columns(_laid_over(old, new), key.columns)
                self._referring[key.name].add([column.filter(places) for column in both])
        if self.table.referenced_by and old.num_rows:
            changed = self._changed(old, new, self.table.tied_columns)
            if changed is not None:
                self._old.append(old.filter(changed))
                self._new.append(_laid_over(old, new).filter(changed))

    def _changed(
        self, old: pa.RecordBatch, new: pa.RecordBatch, columns: Sequence[ColumnId]
    ) -> pa.BooleanArray | None:
        """Which rows have other values in these columns; None where none has."""
        names = [self.table.column(column).name for column in columns]
        found = pa.repeat(False, old.num_rows)
        for name in names:
            if name in new.schema.names:
                same = _same(old.column(name), new.column(name))
                found = pc.or_(found, pc.invert(same))
        return found if pc.any(found).as_py() else None

    def _columns(self, rows: pa.RecordBatch, columns: Sequence[ColumnId]) -> list[pa.Array]:
        return [rows.column(self.table.column(column).name) for column in columns]

    # -- what came of it

    def referring(self, key: ForeignKey) -> pa.Table:
        """The different values that new rows refer to by this key, those with NULLs, too."""
        columns = [self.table.column(column) for column in key.columns]
        return numbered(self._referring[key.name].table(columns))

    def gone(self, columns: Sequence[ColumnId]) -> list[tuple[pa.Table, bool]]:
        """The values of these columns of rows that go or get others, without NULLs in them; with
        the new ones beside them, and whether there are any: the rows are gone else."""
        found = []
        for is_update in (False, True):
            pieces = [
                self._pair(old, new, columns)
                for old, new in zip(self._old, self._new, strict=True)
                if (new is not None) == is_update
            ]
            pieces = [piece for piece in pieces if piece.num_rows]
            if pieces:
                found.append((numbered(pa.Table.from_batches(pieces)), is_update))
        return found

    def _pair(
        self, old: pa.RecordBatch, new: pa.RecordBatch | None, columns: Sequence[ColumnId]
    ) -> pa.RecordBatch:
        kept = self._present(old, columns)
        arrays = self._columns(old, columns)
        names = [old_name(place) for place in range(len(columns))]
        if new is not None:
            changed = self._changed(old, new, columns)
            kept = pc.and_(kept, changed) if changed is not None else pa.repeat(False, len(kept))
            arrays += self._columns(new, columns)
            names += [new_name(place) for place in range(len(columns))]
        return pa.RecordBatch.from_arrays(arrays, names=names).filter(kept)

    def _present(self, rows: pa.RecordBatch, columns: Sequence[ColumnId]) -> pa.BooleanArray:
        present = pa.repeat(True, rows.num_rows)
        for column in self._columns(rows, columns):
            present = pc.and_(present, pc.is_valid(column))
        return present


class _Values:
    """Rows of so many columns, of which each is wanted once."""

    def __init__(self, width: int) -> None:
        self._names = [old_name(place) for place in range(width)]
        self._pieces: list[pa.Table] = []
        self._rows = 0
        self._limit = KEPT_ROWS

    def add(self, columns: Sequence[pa.Array]) -> None:
        piece = pa.table([_storage(column) for column in columns], names=self._names)
        if not piece.num_rows:
            return
        self._pieces.append(piece)
        self._rows += piece.num_rows
        if self._rows > self._limit:
            self._reduce()
            # Where most differ, it is tried less and less often.
            self._limit = max(KEPT_ROWS, 2 * self._rows)

    def _reduce(self) -> None:
        table = pa.concat_tables(self._pieces)
        table = table.group_by(self._names, use_threads=False).aggregate([])
        self._pieces, self._rows = [table.select(self._names)], table.num_rows

    def table(self, columns: Sequence[Column]) -> pa.Table:
        """All of them, in the types of these columns."""
        types = [arrow_type(column.type) for column in columns]
        schema = pa.schema(list(zip(self._names, types, strict=True)))
        if not self._pieces:
            return schema.empty_table()
        self._reduce()
        (table,) = self._pieces
        typed = [_typed(c, t) for c, t in zip(table.columns, types, strict=True)]
        return pa.table(typed, schema=schema)


def numbered(rows: pa.Table) -> pa.Table:
    """The rows with their numbers."""
    return rows.append_column(ROW, pa.array(range(rows.num_rows), pa.int64()))


def _storage(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column.type, pa.BaseExtensionType) else column


def _typed(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    if isinstance(wanted, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(wanted, whole)
    return whole


def _same(left: pa.Array, right: pa.Array) -> pa.BooleanArray:
    left, right = _storage(left), _storage(right)
    both_null = pc.and_(pc.is_null(left), pc.is_null(right))
    return pc.or_(pc.fill_null(pc.equal(left, right), False), both_null)


def _laid_over(old: pa.RecordBatch, new: pa.RecordBatch) -> pa.RecordBatch:
    """The rows as they are afterwards, as far as either batch has their columns."""
    names = list(dict.fromkeys([*new.schema.names, *old.schema.names]))
    arrays = [(new if name in new.schema.names else old).column(name) for name in names]
    return pa.RecordBatch.from_arrays(arrays, names=names)
