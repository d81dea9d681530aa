"""Whole fragments of the row store as Arrow batches, from one read transaction.

For stages over tables that are in no columnar store, for a store that is built from this one,
and for another replica. Position, horizon and rows come from the same transaction (rule R1),
on a connection of its own, so a scan runs on any thread beside reads and changes. The log file
grows while one is open: close it.

Only the columns asked for are read and turned into Arrow, about a microsecond a row of a few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from storage.fragments import FragmentId, Timestamp
from storage.operations import Batches, StorePosition
from storage.row_tables import BEGIN, END, RowTables, quoted

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
        tables = self._tables[fragment_id]
        if self.position.max_commit_ts <= timestamp:
            batches = self.rows(fragment_id, names)
        else:
            listed, at = _listed(names), int(timestamp)
            sql = (
                f"SELECT {listed} FROM {tables.current} WHERE {BEGIN} <= {at} UNION ALL"
                f" SELECT {listed} FROM {tables.history} WHERE {BEGIN} <= {at} AND {END} > {at}"
            )
            batches = self._batches(tables, sql, names)
        return pa.Table.from_batches(list(batches), _shape(tables, names))

    def _batches(self, tables: RowTables, sql: str, names: Sequence[str]) -> Batches:
        cursor = self._connection.execute(sql)
        while rows := [row for row, _ in zip(cursor, range(SCAN_BATCH_ROWS), strict=False)]:
            yield tables.to_batch(rows, names)

    def close(self) -> None:
        """Ends the transaction; may be called again."""
        self._connection.close()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(quoted, names))


def _shape(tables: RowTables, names: Sequence[str]) -> pa.Schema:
    whole = tables.schema.arrow_schema()
    return pa.schema([whole.field(name) for name in names])
