"""The calls of DuckDB's client that lie below its relations: a stage's statement costs half.

`cursor.sql(text).to_arrow_reader()` makes a relation, which binds the statement to know its
columns and then has it bound again to run it; `cursor.register(name, rows)` makes a view, which
every statement that names it binds in turn. Processor time, measured on 2.0.0 with a statement
of 860 characters over two empty tables, and with one input:

    a relation's reader 4.1 ms, its own 2.1 ms; a registered view 1.3 ms, a source 0.6 ms

What is called here is what DuckDB's own relations are built of (`duckdb._seam`). Nobody promises
that it stays, so the version is pinned, and this module is the only one that knows of it.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa
from duckdb import _seam


class Source:
    """Rows that statements of one cursor read under `name`, for as long as this is kept; a
    reader's once, a table's as often as wanted."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, rows: pa.RecordBatchReader | pa.Table
    ) -> None:
        self._handle = _seam.register_source(cursor, rows)

    @property
    def name(self) -> str:
        return self._handle.name


def open_reader(
    cursor: duckdb.DuckDBPyConnection, sql: str, batch_rows: int
) -> pa.RecordBatchReader:
    """Starts a query; its rows come as they are asked for. The cursor is taken until the
    reader is closed."""
    reader: pa.RecordBatchReader = _seam.submit(
        cursor, sql, None, "stream", batch_rows
    ).arrow_reader()
    return reader


def schema_of(cursor: duckdb.DuckDBPyConnection, sql: str) -> pa.Schema:
    """What the rows of a query will look like, without running it."""
    signature = _seam.bind(cursor, sql)
    schema: pa.Schema = _seam.arrow_schema(cursor, signature.names, signature.types)
    return schema
