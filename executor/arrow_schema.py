"""The Arrow schema of a DuckDB statement before it runs.

DuckDB tells the Arrow schema only once the first rows are there, which for a grouping or a
sort is at its very end; but the task that reads them cannot even bind its SQL before it knows
the schema, and would meanwhile leave its other inputs to pile up. DuckDB does know its own
types from the binding, so the common ones are mapped here. Where one is not common the answer
is None, and the schema comes with the first rows. A wrong mapping would cost a cast, not a
wrong answer (`executor.stage_task`).

The mapping is that of `SET arrow_lossless_conversion = true`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import duckdb
import pyarrow as pa

_TYPES: dict[str, Callable[[], pa.DataType]] = {
    "BOOLEAN": pa.bool8,
    "TINYINT": pa.int8,
    "SMALLINT": pa.int16,
    "INTEGER": pa.int32,
    "BIGINT": pa.int64,
    "UTINYINT": pa.uint8,
    "USMALLINT": pa.uint16,
    "UINTEGER": pa.uint32,
    "UBIGINT": pa.uint64,
    "HUGEINT": lambda: pa.opaque(pa.binary(16), "hugeint", "DuckDB"),
    "FLOAT": pa.float32,
    "DOUBLE": pa.float64,
    "VARCHAR": pa.string,
    "BLOB": pa.binary,
    "DATE": pa.date32,
    "TIME": lambda: pa.time64("us"),
    "TIMESTAMP": lambda: pa.timestamp("us"),
    # DuckDB names the session's zone; the instants are the same, so the cast costs nothing.
    "TIMESTAMP WITH TIME ZONE": lambda: pa.timestamp("us", "UTC"),
    "INTERVAL": pa.month_day_nano_interval,
    "UUID": pa.uuid,
    "JSON": lambda: pa.json_(pa.string()),
}
# Not `DECIMAL(10,2)[]`.
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def early_schema(relation: duckdb.DuckDBPyRelation) -> pa.Schema | None:
    """The schema the relation's rows will have, or None where that is not known yet."""
    fields = []
    for name, duckdb_type in zip(relation.columns, relation.types, strict=True):
        arrow_type = _arrow_type(duckdb_type)
        if arrow_type is None:
            return None
        fields.append(pa.field(name, arrow_type))
    return pa.schema(fields)


def _arrow_type(duckdb_type: object) -> pa.DataType | None:
    text = str(duckdb_type)
    decimal = _DECIMAL.fullmatch(text)
    if decimal is not None:
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    make = _TYPES.get(text)
    return None if make is None else make()
