"""The client's columns made from the root stage's: which, of what type, how computed.

DuckDB's lossless Arrow types are turned into those every reader of results knows: booleans,
json as text, HUGEINT as a decimal. A column whose type only DuckDB could tell gets the SQL
type of what came. Quotients of numerics are computed here (`executor.numeric_division`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import InternalError
from executor.numeric_division import divide_columns
from planner.plan import HostOperation, ResultColumn
from storage.types import (
    BOOL,
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    JSON,
    NUMERIC,
    RECORD,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    Kind,
    SqlType,
    array_of,
)

_INTEGERS = {Kind.INT2: pa.int16(), Kind.INT4: pa.int32(), Kind.INT8: pa.int64()}


class ResultShape:
    """How to make the client's batches from the root's, whose schema is known now."""

    def __init__(self, columns: tuple[ResultColumn, ...], schema: pa.Schema) -> None:
        self._operands = [_indexes(column, schema) for column in columns]
        self.columns = tuple(
            _typed(column, schema.field(operands[0]).type)
            for column, operands in zip(columns, self._operands, strict=True)
        )

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The client's columns of these rows."""
        arrays = [
            self._compute(column, [batch.column(index) for index in operands])
            for column, operands in zip(self.columns, self._operands, strict=True)
        ]
        if not arrays:
            # A select list may be empty; only the number of rows is left.
            rows = pa.array([None] * batch.num_rows, pa.null())
            return pa.record_batch([rows], names=[""]).select([])
        return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in self.columns])

    def _compute(self, column: ResultColumn, operands: list[pa.Array]) -> pa.Array:
        plain = [plain_array(operand) for operand in operands]
        match column.operation:
            case HostOperation.COLUMN:
                return _as_declared(plain[0], column.type)
            case HostOperation.NUMERIC_DIVIDE:
                return divide_columns(plain[0], plain[1])


def _indexes(column: ResultColumn, schema: pa.Schema) -> list[int]:
    indexes = [schema.get_field_index(name) for name in column.operands]
    if -1 in indexes:
        raise InternalError(f'the plan\'s root does not deliver the column "{column.name}"')
    return indexes


def _typed(column: ResultColumn, arrow_type: pa.DataType) -> ResultColumn:
    if column.type.kind is not Kind.ANY:
        return column
    if column.operation is HostOperation.NUMERIC_DIVIDE:
        return replace(column, type=NUMERIC)
    return replace(column, type=sql_type_of(arrow_type))


def _as_declared(array: pa.Array, sql_type: SqlType) -> pa.Array:
    """Integers in the declared width: clients were told its size."""
    wanted = _INTEGERS.get(sql_type.kind)
    if wanted is None or array.type == wanted:
        return array
    return pc.cast(array, wanted)


def plain_array(array: pa.Array) -> pa.Array:
    """The array without DuckDB's lossless extension types, uuid excepted; lists and rows
    inside and out."""
    arrow_type = array.type
    if isinstance(arrow_type, pa.BaseExtensionType):
        return _plain_extension(array)
    if pa.types.is_list(arrow_type):
        return _plain_list(array)
    if pa.types.is_struct(arrow_type):
        fields = [plain_array(field) for field in array.flatten()]
        if all(new.type == old.type for new, old in zip(fields, arrow_type, strict=True)):
            return array
        names = [field.name for field in arrow_type]
        return pa.StructArray.from_arrays(fields, names=names, mask=array.is_null())
    return array


def _plain_extension(array: pa.ExtensionArray) -> pa.Array:
    if isinstance(array.type, pa.UuidType):
        return array
    if isinstance(array.type, pa.Bool8Type):
        return pc.not_equal(array.storage, 0)
    if "hugeint" in str(array.type):
        return _decimal_of_hugeint(array.storage)
    return array.storage


def _plain_list(array: pa.ListArray) -> pa.Array:
    values = plain_array(array.values)
    if values.type == array.type.value_type:
        return array
    return pa.ListArray.from_arrays(array.offsets, values, mask=array.is_null())


def _decimal_of_hugeint(storage: pa.FixedSizeBinaryArray) -> pa.Array:
    """HUGEINT's 16 little-endian bytes are decimal128's, so nothing is copied."""
    return pa.Array.from_buffers(
        pa.decimal128(38, 0),
        len(storage),
        storage.buffers(),
        null_count=storage.null_count,
        offset=storage.offset,
    )


_SQL_TYPES: tuple[tuple[Callable[[pa.DataType], bool], SqlType], ...] = (
    (pa.types.is_boolean, BOOL),
    (pa.types.is_int8, INT2),
    (pa.types.is_int16, INT2),
    (pa.types.is_uint8, INT2),
    (pa.types.is_int32, INT4),
    (pa.types.is_uint16, INT4),
    (pa.types.is_int64, INT8),
    (pa.types.is_uint32, INT8),
    (pa.types.is_uint64, NUMERIC),
    (pa.types.is_float32, FLOAT4),
    (pa.types.is_float64, FLOAT8),
    (pa.types.is_decimal, NUMERIC),
    (pa.types.is_binary, BYTEA),
    (pa.types.is_large_binary, BYTEA),
    (pa.types.is_date, DATE),
    (pa.types.is_time, TIME),
    (pa.types.is_interval, INTERVAL),
    (pa.types.is_struct, RECORD),
)


def sql_type_of(arrow_type: pa.DataType) -> SqlType:
    """The SQL type of what DuckDB delivered; text where there is nothing closer."""
    if isinstance(arrow_type, pa.BaseExtensionType):
        return _sql_type_of_extension(arrow_type)
    if pa.types.is_timestamp(arrow_type):
        return TIMESTAMP if arrow_type.tz is None else TIMESTAMPTZ
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        element = sql_type_of(arrow_type.value_type)
        # Arrays of any number of dimensions have one type.
        return element if element.kind is Kind.ARRAY else array_of(element)
    for is_of, sql_type in _SQL_TYPES:
        if is_of(arrow_type):
            return sql_type
    return TEXT


def _sql_type_of_extension(arrow_type: pa.BaseExtensionType) -> SqlType:
    if isinstance(arrow_type, pa.UuidType):
        return UUID
    if isinstance(arrow_type, pa.Bool8Type):
        return BOOL
    if isinstance(arrow_type, pa.JsonType):
        return JSON
    return NUMERIC if "hugeint" in str(arrow_type) else TEXT
