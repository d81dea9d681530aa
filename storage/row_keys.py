"""Keys of rows as Python values, for what is kept by key in memory: locks and versions.

Two keys are the same value exactly if SQL calls them equal; key types for which that cannot be
had cheaply (floats, json, arrays, ...) have no such values, and whoever needs them falls back
to the whole tablet. Values are whole numbers, texts, bytes and truth values only, so that a log
entry can carry them.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from storage.fragments import FragmentSchema
from storage.key_overlay import Key
from storage.types import Kind

_PLAIN = frozenset(
    {
        Kind.INT2,
        Kind.INT4,
        Kind.INT8,
        Kind.OID,
        Kind.TEXT,
        Kind.VARCHAR,
        Kind.BPCHAR,
        Kind.BOOL,
        Kind.BYTEA,
    }
)
_COUNTED = frozenset({Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
_KINDS = _PLAIN | _COUNTED | {Kind.UUID, Kind.NUMERIC}


def has_keys(schema: FragmentSchema, columns: Sequence[str]) -> bool:
    """Whether the columns' values can be told apart in memory."""
    return all(schema.column(name).type.kind in _KINDS for name in columns)


def row_keys(schema: FragmentSchema, batch: pa.RecordBatch, columns: Sequence[str]) -> list[Key]:
    """One key a row of the batch, which holds these columns; None where a column is NULL."""
    values = [_values(batch.column(name), schema.column(name).type.kind) for name in columns]
    return list(zip(*values, strict=True))


def _values(array: pa.Array, kind: Kind) -> list[object]:
    if kind in _COUNTED:
        # As Python dates some values would not fit.
        return list(array.cast(pa.int32() if kind is Kind.DATE else pa.int64()).to_pylist())
    if kind is Kind.UUID and isinstance(array, pa.ExtensionArray):
        return list(array.storage.to_pylist())
    if kind is Kind.NUMERIC:
        # All numbers of a column have one scale, so that equal ones have one text.
        return list(pc.cast(array, pa.string()).to_pylist())
    if kind is Kind.BPCHAR:
        return list(pc.utf8_rtrim(array, " ").to_pylist())
    return list(array.to_pylist())
