"""Checks that a transaction's rows keep the unique constraints of a fragment.

The caller holds the tablet's lock and has brought the store up to every outcome before, so the
current table is what the transaction meets. The rows that will be there afterwards are its
inserts that no later delete of its own takes away; they must differ among themselves, and from
current rows that it does not delete. A key with a NULL in it conflicts with nothing.

Small changes take the quick way: `check_queued` settles what it can from the changes that are
not in the store yet, and only the keys left over are looked up there (`find_present`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from cluster.errors import UniqueViolation
from storage.columnar_apply import FragmentTables, registered
from storage.duckdb_node import quote_name
from storage.fragments import FragmentChange, FragmentSchema, UniqueKey
from storage.key_overlay import Key, KeyOverlay, batch_keys, is_exact, is_small
from storage.open_checks import Wanted, every_constraint
from storage.own_changes import last_segment
from storage.types import Kind, SqlType

# More keys than this make the filter slower than another statement.
_LOOKED_UP_AT_ONCE = 20


def find_violation(
    cursor: duckdb.DuckDBPyConnection,
    tables: FragmentTables,
    changes: Sequence[FragmentChange],
    wanted: Wanted = every_constraint,
) -> UniqueViolation | None:
    """The first conflict that these changes of one transaction would make, or None."""
    schema = tables.schema
    segment, truncated = last_segment(schema, changes)
    if not segment.inserts:
        return None
    new = segment.surviving_rows(cursor, schema)
    deleted = segment.deletes.table() if segment.deletes else _no_keys(schema)
    with registered(cursor, "new_rows", new), registered(cursor, "deleted_keys", deleted):
        for constraint, columns in schema.unique:
            if not wanted(schema.fragment_id, constraint):
                continue
            found = _duplicate_among(cursor, columns)
            if found is None and not truncated:
                found = _duplicate_with_current(cursor, tables, columns)
            if found is not None:
                return unique_violation(schema, constraint, columns, found)
    return None


@dataclass(frozen=True, slots=True)
class OpenKeys:
    """Keys of one constraint that must not be in the store's current table."""

    schema: FragmentSchema
    constraint: str
    columns: tuple[str, ...]
    keys: tuple[Key, ...]


def check_queued(
    overlay: KeyOverlay,
    schema: FragmentSchema,
    changes: Sequence[FragmentChange],
    applied: int,
    wanted: Wanted = every_constraint,
) -> list[OpenKeys] | None:
    """Checks a transaction's changes of a fragment against themselves and the queue.

    Returns what is left to look up in the store, or None where only `find_violation` can tell.
    Raises the violation it finds.
    """
    if not overlay.covers(schema.fragment_id, applied) or not is_exact(schema):
        return None
    if not all(is_small(change) for change in changes):
        return None
    left = []
    for constraint, columns in schema.unique:
        if not wanted(schema.fragment_id, constraint):
            continue
        own = _own_keys(schema, columns, changes)
        if own is None:
            return None
        if isinstance(own, tuple):
            raise _violation_of_key(schema, constraint, columns, own)
        unknown = []
        for key, replaced in own.items():
            present = overlay.find(schema.fragment_id, columns, key, applied)
            if present and not replaced:
                raise _violation_of_key(schema, constraint, columns, key)
            if present is None and not replaced:
                unknown.append(key)
        left.append(OpenKeys(schema, constraint, columns, tuple(unknown)))
    return [keys for keys in left if keys.keys]


def _own_keys(
    schema: FragmentSchema, columns: tuple[str, ...], changes: Sequence[FragmentChange]
) -> dict[Key, bool] | Key | None:
    """The keys that are there after the changes, with whether they replace a row of their own.

    The key itself where two rows have it; None where the changes do not tell.
    """
    own: dict[Key, bool] = {}
    deleted: dict[Key, None] = {}
    for change in changes:
        if change.delete_keys is not None and change.delete_keys.num_rows:
            if set(columns) != set(schema.key):
                return None
            for key in batch_keys(change.delete_keys, columns):
                deleted[key] = None
                own.pop(key, None)
        if change.insert_rows is not None:
            for key in batch_keys(change.insert_rows, columns):
                if key in own:
                    return key
                own[key] = key in deleted
    return own


def find_present(
    cursor: duckdb.DuckDBPyConnection, tables: FragmentTables, wanted: OpenKeys
) -> UniqueViolation | None:
    """The first of the keys that the store's current table has, as a violation, or None."""
    one = " AND ".join(f"{quote_name(name)} = ?" for name in wanted.columns)
    for start in range(0, len(wanted.keys), _LOOKED_UP_AT_ONCE):
        some = wanted.keys[start : start + _LOOKED_UP_AT_ONCE]
        found = cursor.execute(
            f"SELECT {_texts(wanted.columns)} FROM {tables.current}"
            f" WHERE {' OR '.join([f'({one})'] * len(some))} LIMIT 1",
            [value for key in some for value in key],
        ).fetchall()
        if found:
            return unique_violation(wanted.schema, wanted.constraint, wanted.columns, found[0])
    return None


def _violation_of_key(
    schema: FragmentSchema, constraint: str, columns: Sequence[str], key: Key
) -> UniqueViolation:
    texts = ["true" if v is True else "false" if v is False else str(v) for v in key]
    return unique_violation(schema, constraint, columns, texts)


def violation_of_batch(
    cursor: duckdb.DuckDBPyConnection,
    schema: FragmentSchema,
    unique: UniqueKey,
    batch: pa.RecordBatch,
) -> UniqueViolation:
    """The error for the key in the one row of the batch."""
    with registered(cursor, "key_values", pa.Table.from_batches([batch])):
        found = cursor.execute(f"SELECT {_texts(unique.columns)} FROM key_values").fetchall()
    return unique_violation(schema, unique.constraint, unique.columns, found[0])


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


def _no_keys(schema: FragmentSchema) -> pa.Table:
    return schema.key_arrow_schema().empty_table()


def _duplicate_among(
    cursor: duckdb.DuckDBPyConnection, columns: Sequence[str]
) -> tuple[str, ...] | None:
    listed = ", ".join(map(quote_name, columns))
    found = cursor.execute(
        f"SELECT {_texts(columns)} FROM (SELECT {listed} FROM new_rows"
        f" WHERE {_not_null(columns)} GROUP BY ALL HAVING count(*) > 1 LIMIT 1)"
    ).fetchall()
    return found[0] if found else None


def _duplicate_with_current(
    cursor: duckdb.DuckDBPyConnection, tables: FragmentTables, columns: Sequence[str]
) -> tuple[str, ...] | None:
    key = tables.schema.key
    new = "new_rows"
    if set(columns) == set(key):
        # A row put back under its own key meets nothing; mostly that leaves nothing to look up.
        new = f"(SELECT * FROM new_rows n ANTI JOIN deleted_keys d ON {_equal('n', 'd', key)})"
    found = cursor.execute(
        f"SELECT {_texts(columns, 'n.')} FROM {new} n JOIN {tables.current} f"
        f" ON {_equal('n', 'f', columns)} WHERE NOT EXISTS"
        f" (SELECT 1 FROM deleted_keys d WHERE {_equal('d', 'f', key)}) LIMIT 1"
    ).fetchall()
    return found[0] if found else None


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
