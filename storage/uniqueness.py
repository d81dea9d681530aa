"""Checks that a transaction's rows keep the unique constraints of a fragment.

The caller holds the tablet's lock and has brought the store up to every outcome before, so the
current table is what the transaction meets. The rows that will be there afterwards are its
inserts that no later delete of its own takes away; they must differ among themselves, and from
current rows that it does not delete. A key with a NULL in it conflicts with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from cluster.errors import UniqueViolation
from storage.columnar_apply import FragmentTables, Segment, Step, registered
from storage.duckdb_node import quote_name
from storage.fragments import FragmentChange, FragmentSchema
from storage.types import Kind, SqlType


def find_violation(
    cursor: duckdb.DuckDBPyConnection, tables: FragmentTables, changes: Sequence[FragmentChange]
) -> UniqueViolation | None:
    """The first conflict that these changes of one transaction would make, or None."""
    segment, truncated = _last_segment(changes)
    if not segment.inserts.batches:
        return None
    schema = tables.schema
    new = segment.surviving_rows(cursor, schema)
    deleted = segment.deletes.table() if segment.deletes.batches else _no_keys(schema)
    with registered(cursor, "new_rows", new), registered(cursor, "deleted_keys", deleted):
        for constraint, columns in schema.unique:
            found = _duplicate_among(cursor, columns)
            if found is None and not truncated:
                found = _duplicate_with_current(cursor, tables, columns)
            if found is not None:
                return unique_violation(schema, constraint, columns, found)
    return None


def unique_violation(
    schema: FragmentSchema, constraint: str, columns: Sequence[str], values: Sequence[str]
) -> UniqueViolation:
    """The error as PostgreSQL words it; `values` are DuckDB's texts."""
    labels = ", ".join(schema.column(name).label or name for name in columns)
    texts = ", ".join(
        _postgres_text(text, schema.column(name).type)
        for name, text in zip(columns, values, strict=True)
    )
    return UniqueViolation(
        f'duplicate key value violates unique constraint "{constraint}"',
        detail=f"Key ({labels})=({texts}) already exists.",
        table=schema.table_name,
        constraint=constraint,
    )


def _last_segment(changes: Sequence[FragmentChange]) -> tuple[Segment, bool]:
    segment, truncated = Segment(), False
    for position, change in enumerate(changes):
        if change.truncate:
            segment, truncated = Segment(), True
        segment.add(Step(0, False, change.delete_keys, change.insert_rows), position)
    return segment, truncated


def _no_keys(schema: FragmentSchema) -> pa.Table:
    return schema.key_arrow_schema().empty_table()


def _duplicate_among(
    cursor: duckdb.DuckDBPyConnection, columns: Sequence[str]
) -> tuple[str, ...] | None:
    listed = ", ".join(map(quote_name, columns))
    return cursor.execute(
        f"SELECT {_texts(columns)} FROM (SELECT {listed} FROM new_rows"
        f" WHERE {_not_null(columns)} GROUP BY ALL HAVING count(*) > 1 LIMIT 1)"
    ).fetchone()


def _duplicate_with_current(
    cursor: duckdb.DuckDBPyConnection, tables: FragmentTables, columns: Sequence[str]
) -> tuple[str, ...] | None:
    key = tables.schema.key
    new = "new_rows"
    if set(columns) == set(key):
        # A row put back under its own key meets nothing; mostly that leaves nothing to look up.
        new = f"(SELECT * FROM new_rows n ANTI JOIN deleted_keys d ON {_equal('n', 'd', key)})"
    return cursor.execute(
        f"SELECT {_texts(columns, 'n.')} FROM {new} n JOIN {tables.current} f"
        f" ON {_equal('n', 'f', columns)} WHERE NOT EXISTS"
        f" (SELECT 1 FROM deleted_keys d WHERE {_equal('d', 'f', key)}) LIMIT 1"
    ).fetchone()


def _texts(columns: Sequence[str], prefix: str = "") -> str:
    return ", ".join(f"CAST({prefix}{quote_name(name)} AS VARCHAR)" for name in columns)


def _not_null(columns: Sequence[str]) -> str:
    return " AND ".join(f"{quote_name(name)} IS NOT NULL" for name in columns)


def _equal(left: str, right: str, columns: Sequence[str]) -> str:
    return " AND ".join(f"{left}.{n} = {right}.{n}" for n in map(quote_name, columns))


def _postgres_text(text: str, sql_type: SqlType) -> str:
    if sql_type.kind is Kind.BOOL:
        return text[0]
    if sql_type.kind in (Kind.FLOAT4, Kind.FLOAT8):
        return text.removesuffix(".0")
    if sql_type.kind is Kind.NUMERIC and sql_type.precision is None and "." in text:
        return text.rstrip("0").rstrip(".")
    return text
