"""Arrow columns as PostgreSQL's binary format (the `*_send` functions), one type a function.

Fixed-width types are byte-swapped by numpy; numeric and nested values are built one by one.
A column that arrives as text under a type with a binary form of its own (an exact numeric
quotient) is parsed first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import FeatureNotSupported
from executor.formatting.text import text_column
from executor.formatting.times import interval_parts
from storage.types import ANY, Kind, SqlType, type_oid

_DAYS_1970_TO_2000 = 10_957
_MICROS_1970_TO_2000 = _DAYS_1970_TO_2000 * 86_400_000_000
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
_NUMERIC_NEGATIVE = 0x4000
_NUMERIC_NAN = 0xC000


def binary_column(column: pa.Array, sql_type: SqlType) -> pa.BinaryArray:
    """One column in the binary format of `sql_type`, NULLs kept."""
    encode = _ENCODERS.get(sql_type.kind)
    if encode is not None:
        return encode(column, sql_type)
    return _text(column, sql_type)


def _text(column: pa.Array, sql_type: SqlType) -> pa.BinaryArray:
    return pc.cast(text_column(column, sql_type), pa.binary())


def _boolean(column: pa.Array, _: SqlType) -> pa.BinaryArray:
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    values = pc.cast(storage, pa.uint8())
    return _fixed(values, np.dtype("u1"))


def _number(dtype: str, arrow: pa.DataType) -> Callable[[pa.Array, SqlType], pa.BinaryArray]:
    def encode(column: pa.Array, _: SqlType) -> pa.BinaryArray:
        return _fixed(pc.cast(column, arrow), np.dtype(dtype))

    return encode


def _date(column: pa.Array, _: SqlType) -> pa.BinaryArray:
    days = _int_values(column.cast(pa.int32()), np.int64)
    shifted = days - _DAYS_1970_TO_2000
    shifted = np.where(days >= _INT32_MAX, _INT32_MAX, shifted)
    shifted = np.where(days <= -_INT32_MAX, -_INT32_MAX - 1, shifted)
    return _from_numpy(shifted.astype(">i4"), column)


def _timestamp(column: pa.Array, _: SqlType) -> pa.BinaryArray:
    micros = _int_values(column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()), np.int64)
    finite = (micros < _INT64_MAX) & (micros > -_INT64_MAX)
    shifted = np.where(finite, micros - np.where(finite, _MICROS_1970_TO_2000, 0), micros)
    shifted = np.where(micros == -_INT64_MAX, -_INT64_MAX - 1, shifted)
    return _from_numpy(shifted.astype(">i8"), column)


def _time(column: pa.Array, _: SqlType) -> pa.BinaryArray:
    micros = _int_values(column.cast(pa.time64("us")).cast(pa.int64()), np.int64)
    return _from_numpy(micros.astype(">i8"), column)


def _interval(column: pa.Array, _: SqlType) -> pa.BinaryArray:
    months, days, micros = interval_parts(column)
    shape = np.dtype([("micros", ">i8"), ("days", ">i4"), ("months", ">i4")])
    records = np.empty(len(column), shape)
    records["micros"], records["days"], records["months"] = micros, days, months
    return _from_numpy(records, column)


def _uuid(column: pa.Array, _: SqlType) -> pa.BinaryArray:
    if pa.types.is_string(column.type):
        hexes = [
            None if v is None else bytes.fromhex(v.replace("-", "")) for v in column.to_pylist()
        ]
        return pa.array(hexes, pa.binary())
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    return pc.cast(storage, pa.binary())


def _bytea(column: pa.Array, sql_type: SqlType) -> pa.BinaryArray:
    if pa.types.is_string(column.type):
        return _text(column, sql_type)
    return pc.cast(column, pa.binary())


def _jsonb(column: pa.Array, sql_type: SqlType) -> pa.BinaryArray:
    versioned = pc.binary_join_element_wise(b"\x01", _text(column, sql_type), b"")
    return pc.if_else(pc.is_valid(column), versioned, pa.scalar(None, pa.binary()))


def _numeric(column: pa.Array, sql_type: SqlType) -> pa.BinaryArray:
    texts = text_column(column, sql_type).to_pylist()
    return pa.array([None if t is None else numeric_binary(t) for t in texts], pa.binary())


def numeric_binary(text: str) -> bytes:
    """A numeric's text as `numeric_send` writes it: base-10,000 digits around the point."""
    value = Decimal(text)
    if value.is_nan():
        return struct.pack("!hhHh", 0, 0, _NUMERIC_NAN, 0)
    whole, _, fraction = format(value.copy_abs(), "f").partition(".")
    scale = len(fraction)
    whole = whole.lstrip("0")
    whole = whole.rjust(-(-len(whole) // 4) * 4, "0")
    fraction = fraction.ljust(-(-scale // 4) * 4, "0")
    digits = [int(d) for d in _fours(whole + fraction)]
    weight = len(whole) // 4 - 1
    while digits and digits[0] == 0:
        digits.pop(0)
        weight -= 1
    while digits and digits[-1] == 0:
        digits.pop()
    sign = _NUMERIC_NEGATIVE if value < 0 else 0
    head = struct.pack("!hhHh", len(digits), weight if digits else 0, sign, scale)
    return head + struct.pack(f"!{len(digits)}h", *digits)


def _fours(digits: str) -> list[str]:
    return [digits[i : i + 4] for i in range(0, len(digits), 4)]


def _array(column: pa.Array, sql_type: SqlType) -> pa.BinaryArray:
    """`array_send`: dimensions, then every element with its length."""
    element = sql_type.element or ANY
    flat, depth = column, 0
    while pa.types.is_list(flat.type) or pa.types.is_large_list(flat.type):
        flat, depth = flat.flatten(), depth + 1
    values = binary_column(flat, element).to_pylist()
    shapes = _ArrayShapes(iter(values), type_oid(element))
    return pa.array([shapes.encode(v, depth) for v in column.to_pylist()], pa.binary())


class _ArrayShapes:
    """Walks nested Python lists for their shape while taking elements in order."""

    def __init__(self, values: object, element_oid: int) -> None:
        self._values = values
        self._element_oid = element_oid

    def encode(self, value: list[object] | None, depth: int) -> bytes | None:
        if value is None:
            return None
        lengths = _dimensions(value, depth)
        count = int(np.prod(lengths)) if lengths else 0
        taken = [next(self._values) for _ in range(count)]  # type: ignore[call-overload]
        if count == 0:
            return struct.pack("!iiI", 0, 0, self._element_oid)
        has_null = int(any(v is None for v in taken))
        head = struct.pack("!iiI", len(lengths), has_null, self._element_oid)
        dimensions = b"".join(struct.pack("!ii", n, 1) for n in lengths)
        return head + dimensions + b"".join(_sized(v) for v in taken)


def _dimensions(value: list[object], depth: int) -> list[int]:
    lengths: list[int] = []
    level: object = value
    for _ in range(depth):
        assert isinstance(level, list)
        lengths.append(len(level))
        if not level:
            return []
        level = level[0]
    return lengths


def _sized(value: bytes | None) -> bytes:
    return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


def _record(column: pa.Array, sql_type: SqlType) -> pa.BinaryArray:
    raise FeatureNotSupported(
        "rows have no binary output here", hint="Ask for the text format, or select the fields."
    )


def _fixed(column: pa.Array, dtype: np.dtype[np.generic]) -> pa.BinaryArray:
    filled = pc.fill_null(column, 0) if column.null_count else column
    return _from_numpy(filled.to_numpy(zero_copy_only=False).astype(dtype), column)


def _from_numpy(values: npt.NDArray[np.generic], like: pa.Array) -> pa.BinaryArray:
    """Fixed-width values as a binary array with the NULLs of `like`."""
    width, count = values.dtype.itemsize, len(values)
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    data = pa.py_buffer(np.ascontiguousarray(values))
    fixed = pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), data])
    if like.null_count == 0:
        return fixed
    return pc.if_else(pc.is_valid(like), fixed, pa.scalar(None, pa.binary()))


def _int_values(column: pa.Array, dtype: type[np.signedinteger]) -> npt.NDArray[np.int64]:
    filled = pc.fill_null(column, 0) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False)).astype(dtype)


_OID = _number(">u4", pa.uint32())

_ENCODERS: dict[Kind, Callable[[pa.Array, SqlType], pa.BinaryArray]] = {
    Kind.BOOL: _boolean,
    Kind.INT2: _number(">i2", pa.int16()),
    Kind.INT4: _number(">i4", pa.int32()),
    Kind.INT8: _number(">i8", pa.int64()),
    Kind.FLOAT4: _number(">f4", pa.float32()),
    Kind.FLOAT8: _number(">f8", pa.float64()),
    Kind.OID: _OID,
    Kind.REGCLASS: _OID,
    Kind.REGTYPE: _OID,
    Kind.REGPROC: _OID,
    Kind.NUMERIC: _numeric,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMPTZ: _timestamp,
    Kind.INTERVAL: _interval,
    Kind.UUID: _uuid,
    Kind.BYTEA: _bytea,
    Kind.JSONB: _jsonb,
    Kind.ARRAY: _array,
    Kind.RECORD: _record,
}
