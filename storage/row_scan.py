"""Whole fragments of the row store as Arrow batches, from one read transaction.

For stages over tables that are in no columnar store, for a store that is built from this one,
and for another replica. Position, horizon and rows come from the same transaction (rule R1),
on a connection of its own, so a scan runs on any thread beside reads and changes. The log file
grows while one is open: close it.

Only the columns asked for are read and turned into Arrow, about a microsecond a row of a few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import apsw
import pyarrow as pa

from storage.fragments import FragmentId, Timestamp
from storage.operations import Batches, StorePosition
from storage.row_files import store_error
from storage.row_tables import BEGIN, END, RowTables, StoredKey, quoted

Connection: TypeAlias = Any

SCAN_BATCH_ROWS = 16_384


class RowScan:
    """An open read transaction over one row store. One caller at a time."""

    def __init__(self, connection: Connection, tables: Mapping[FragmentId, RowTables]) -> None:
        self._connection = connection
        self._tables = tables
        connection.execute("BEGIN")
        found = connection.execute(
            "SELECT applied_index, max_commit_ts, schema_version, horizon FROM tablet"
        ).fetchall()
        self.position = StorePosition(*found[0])

    def __contains__(self, fragment_id: FragmentId) -> bool:
        return fragment_id in self._tables

    def tables(self, fragment_id: FragmentId) -> RowTables:
        """A fragment's tables."""
        return self._tables[fragment_id]

    def find(
        self, fragment_id: FragmentId, columns: Sequence[str], values: Sequence[Any]
    ) -> list[StoredKey]:
        """Keys of current rows with these stored values in these columns, none of them NULL."""
        return find(self._connection, self._tables[fragment_id], columns, values)

    def begin_of(self, fragment_id: FragmentId, key: StoredKey) -> Timestamp | None:
        """When the current row with that key began; None where there is none."""
        return begin_of(self._connection, self._tables[fragment_id], key)

    def is_empty(self, fragment_id: FragmentId) -> bool:
        """Whether the fragment has no current row."""
        return is_empty(self._connection, self._tables[fragment_id])

    def rows(self, fragment_id: FragmentId, names: Sequence[str] | None = None) -> Batches:
        """Current rows; without `names` all columns and `begin_ts`."""
        tables = self._tables[fragment_id]
        wanted = [*tables.names, BEGIN] if names is None else list(names)
        return self._batches(tables, f"SELECT {_listed(wanted)} FROM {tables.current}", wanted)

    def past_rows(self, fragment_id: FragmentId) -> Batches:
        """History: all columns, `begin_ts` and `end_ts`."""
        tables = self._tables[fragment_id]
        wanted = [*tables.names, BEGIN, END]
        return self._batches(tables, f"SELECT {_listed(wanted)} FROM {tables.history}", wanted)

    def rows_at(
        self, fragment_id: FragmentId, names: Sequence[str], timestamp: Timestamp
    ) -> pa.Table:
        """The rows at the timestamp, these columns alone; the caller has seen to the horizon."""
        batches = self.batches_at(fragment_id, names, timestamp)
        return pa.Table.from_batches(list(batches), _shape(self._tables[fragment_id], names))

    def batches_at(
        self, fragment_id: FragmentId, names: Sequence[str], timestamp: Timestamp
    ) -> Batches:
        """The same a batch at a time."""
        tables = self._tables[fragment_id]
        if self.position.max_commit_ts <= timestamp:
            return self.rows(fragment_id, names)
        listed, at = _listed(names), int(timestamp)
        sql = (
            f"SELECT {listed} FROM {tables.current} WHERE {BEGIN} <= {at} UNION ALL"
            f" SELECT {listed} FROM {tables.history} WHERE {BEGIN} <= {at} AND {END} > {at}"
        )
        return self._batches(tables, sql, names)

    def versions_at(
        self, fragment_id: FragmentId, timestamp: Timestamp, horizon: Timestamp
    ) -> Batches:
        """Rows that began by the timestamp, all columns with begin and end: 0 for an end behind
        the timestamp, and none of those that ended by the horizon."""
        tables = self._tables[fragment_id]
        names = [*tables.names, BEGIN, END]
        listed, at = _listed([*tables.names, BEGIN]), int(timestamp)
        sql = (
            f"SELECT {listed}, 0 FROM {tables.current} WHERE {BEGIN} <= {at} UNION ALL"
            f" SELECT {listed}, CASE WHEN {END} > {at} THEN 0 ELSE {END} END FROM {tables.history}"
            f" WHERE {BEGIN} <= {at} AND {END} > {int(horizon)}"
        )
        return self._batches(tables, sql, names)

    def _batches(self, tables: RowTables, sql: str, names: Sequence[str]) -> Batches:
        try:
            cursor = self._connection.execute(sql)
            while rows := list(islice(cursor, SCAN_BATCH_ROWS)):
                yield tables.to_batch(rows, names)
        except apsw.Error as error:
            raise store_error(error) from error

    def close(self) -> None:
        """Ends the transaction; may be called again."""
        self._connection.close()


def find(
    connection: Connection, tables: RowTables, columns: Sequence[str], values: Sequence[Any]
) -> list[StoredKey]:
    """Keys of current rows with these stored values in these columns, none of them NULL."""
    compared = [tables.lookup_value(n, v) for n, v in zip(columns, values, strict=True)]
    found: list[StoredKey] = connection.execute(tables.lookup_sql(columns), compared).fetchall()
    return found


def begin_of(connection: Connection, tables: RowTables, key: StoredKey) -> Timestamp | None:
    """When the current row with that key began; None where there is none."""
    found = connection.execute(tables.begin_sql, key).fetchall()
    return found[0][0] if found else None


def is_empty(connection: Connection, tables: RowTables) -> bool:
    """Whether there is no current row."""
    return not connection.execute(f"SELECT 1 FROM {tables.current} LIMIT 1").fetchall()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(quoted, names))


def _shape(tables: RowTables, names: Sequence[str]) -> pa.Schema:
    whole = tables.schema.arrow_schema()
    return pa.schema([whole.field(name) for name in names])
