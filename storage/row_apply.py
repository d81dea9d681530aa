"""Applies committed changes to the tables of one fragment in SQLite, in the caller's transaction.

A row that ends goes to history with its begin and end; one that began in the same transaction
was never visible and is dropped. A row put back under its key, as updates do, is replaced where
it lies. Small changes and large ones take the same way: columns are encoded by Arrow's buffers,
and SQLite takes the rows in one `executemany`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, TypeAlias

import pyarrow as pa

from storage.fragments import FragmentChange, Timestamp
from storage.operations import Batches
from storage.row_tables import BEGIN, END, RowTables, StoredKey, StoredRow
from storage.stored_changes import StoredChange

Connection: TypeAlias = Any

# Rows that are Python objects at one time.
PIECE_ROWS = 16_384


def apply_change(
    connection: Connection, tables: RowTables, change: FragmentChange, timestamp: Timestamp
) -> None:
    """Truncates, deletes and inserts, in this order."""
    if isinstance(change, StoredChange):
        _apply_stored(connection, tables, change, timestamp)
        return
    if change.truncate:
        connection.execute(tables.end_all_sql, (timestamp,))
        connection.execute(tables.clear_sql)
    if change.delete_keys is not None:
        replaced = _put_back(tables, change)
        for piece in pieces(change.delete_keys):
            _end(connection, tables, piece, timestamp, replaced)
    if change.insert_rows is not None:
        for piece in pieces(change.insert_rows):
            columns = tables.stored_columns(piece, tables.names)
            rows = zip(*columns, repeat(timestamp), strict=False)
            connection.executemany(tables.insert_sql, rows)


def _apply_stored(
    connection: Connection, tables: RowTables, change: StoredChange, timestamp: Timestamp
) -> None:
    back = set(map(tables.key_of, change.rows)) if change.keys else ()
    for key in change.keys:
        connection.execute(tables.end_sql, (*key, timestamp))
        if key not in back:
            connection.execute(tables.delete_sql, key)
    for row in change.rows:
        connection.execute(tables.insert_sql, (*row, timestamp))


def _put_back(tables: RowTables, change: FragmentChange) -> frozenset[StoredKey]:
    """Keys that the change gives a new row, where there are few of them."""
    rows = change.insert_rows
    if rows is None or rows.num_rows > PIECE_ROWS:
        return frozenset()
    return frozenset(tables.stored_keys(rows))


def _end(
    connection: Connection,
    tables: RowTables,
    keys: pa.RecordBatch,
    timestamp: Timestamp,
    replaced: frozenset[StoredKey],
) -> None:
    stored = list(tables.stored_keys(keys))
    connection.executemany(tables.end_sql, [(*key, timestamp) for key in stored])
    gone = [key for key in stored if key not in replaced]
    connection.executemany(tables.delete_sql, gone)


def pieces(batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
    """The batch in slices that are worth having in Python at once."""
    if batch.num_rows <= PIECE_ROWS:
        return [batch] if batch.num_rows else []
    starts = range(0, batch.num_rows, PIECE_ROWS)
    return (batch.slice(start, PIECE_ROWS) for start in starts)


def fill(connection: Connection, tables: RowTables, batches: Batches) -> None:
    """Puts current rows in, with their begin."""
    _fill(connection, tables, tables.insert_sql, batches, [BEGIN])


def fill_past(connection: Connection, tables: RowTables, batches: Batches) -> None:
    """Puts history in."""
    _fill(connection, tables, tables.insert_past_sql, batches, [BEGIN, END])


def _fill(
    connection: Connection,
    tables: RowTables,
    sql: str,
    batches: Batches,
    times: Sequence[str],
) -> None:
    for batch in batches:
        for piece in pieces(batch):
            columns = tables.stored_columns(piece, tables.names)
            columns += [piece.column(name).to_pylist() for name in times]
            rows: Iterable[StoredRow] = zip(*columns, strict=True)
            connection.executemany(sql, rows)
