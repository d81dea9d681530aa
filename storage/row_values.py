"""How SQLite holds one value of each SQL type, so that its order is the type's order.

SQLite compares integers, text (byte by byte, which for UTF-8 is PostgreSQL's C order) and blobs
(byte by byte). Everything else is brought to one of these:

    bool, int2 .. int8, oid, reg*     INTEGER
    float4, float8                    INTEGER, its bits turned so that they sort: SQLite's own
                                      REAL loses the sign of zero and makes NULL of NaN
    numeric up to 18 digits           INTEGER, scaled
    numeric beyond                    BLOB, 16 bytes, big end first, sign turned
    date, time, timestamp(tz)         INTEGER: days, microseconds
    interval                          BLOB: its length (a month is 30 days), then its fields
    uuid                              BLOB
    text kinds, json, jsonb           TEXT
    bytea                             BLOB
    arrays                            BLOB, msgpack of the elements; equality only, no order

Three forms of a value meet here. **Stored** is SQLite's. **Arrow** is what rows travel in; both
directions go a column at a time. The **plain** Python value is for callers that read by key:
bool, int, float, Decimal with the column's scale, str, bytes, days or microseconds as int (they
have infinities that Python's dates lack), uuid as an int of 128 bits, `pa.MonthDayNano`, list.
These are the datums of `catalog.datums` where that has one.

Invariants (tests/storage/test_row_values.py): stored values order as PostgreSQL orders the type,
NaN above all; every value comes back as it was, NaNs as one NaN.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from storage.decimals import shifted
from storage.types import Kind, SqlType, arrow_type, numeric_shape

Stored: TypeAlias = int | str | bytes | None
Column: TypeAlias = list[Any]

INTEGER_DIGITS = 18
# Shorter columns take longer to look at as numpy's than to walk through.
SMALL_LENGTH = 64
_LOW_63 = 0x7FFF_FFFF_FFFF_FFFF
_NANOSECONDS_A_DAY = 86_400 * 10**9
_DAYS_A_MONTH = 30


@dataclass(frozen=True, slots=True)
class Encoding:
    """One type's way into SQLite and back. `encode` and `decode` never see NULL.

    `same` says that the plain value is the stored one. `encode` raises ValueError for a value
    that the type cannot hold, so that no row can have it.
    """

    column_type: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    from_arrow: Callable[[pa.Array], Column]
    to_arrow: Callable[[Sequence[Any]], pa.Array]
    same: bool = False


def encoding_of(sql_type: SqlType) -> Encoding:
    """How values of the type are stored."""
    kind = sql_type.kind
    if kind in _INTEGERS:
        return _integers(sql_type, _INTEGERS[kind])
    if kind is Kind.BOOL:
        return Encoding("INTEGER", int, bool, _from_bools, _to_bools)
    if kind in (Kind.FLOAT4, Kind.FLOAT8):
        return _floats(sql_type)
    if kind is Kind.NUMERIC:
        return _numerics(sql_type)
    if kind is Kind.BYTEA:
        return _same("BLOB", pa.binary())
    if kind is Kind.UUID:
        return Encoding("BLOB", _uuid_bytes, _uuid_int, _from_uuids, _to_uuids)
    if kind is Kind.INTERVAL:
        return Encoding("BLOB", _encode_interval, _decode_interval, _from_intervals, _to_intervals)
    if kind is Kind.ARRAY:
        assert sql_type.element is not None
        return _arrays(sql_type, encoding_of(sql_type.element))
    return _same("TEXT", pa.string())


# Kinds that are integers in Arrow as well, with the width of Arrow's.
_INTEGERS: dict[Kind, type[np.signedinteger[Any]]] = {
    Kind.INT2: np.int16,
    Kind.INT4: np.int32,
    Kind.INT8: np.int64,
    Kind.OID: np.int64,
    Kind.REGCLASS: np.int64,
    Kind.REGTYPE: np.int64,
    Kind.REGPROC: np.int64,
    Kind.DATE: np.int32,
    Kind.TIME: np.int64,
    Kind.TIMESTAMP: np.int64,
    Kind.TIMESTAMPTZ: np.int64,
}


def _unchanged(value: Any) -> Any:
    return value


def _same(column_type: str, target: pa.DataType) -> Encoding:
    def to_arrow(values: Sequence[Any]) -> pa.Array:
        return pa.array(values, target)

    return Encoding(column_type, _unchanged, _unchanged, pa.Array.to_pylist, to_arrow, same=True)


# Columns as numpy sees them. A slot that is NULL holds anything; `_with_nulls` says which are.


def _slots(array: pa.Array, dtype: Any, width: int = 1) -> np.ndarray[Any, Any]:
    data = array.buffers()[1]
    if data is None or len(array) == 0:
        return np.empty((0, width) if width > 1 else 0, dtype)
    slots = np.frombuffer(data, dtype)
    if width > 1:
        slots = slots[: len(slots) // width * width].reshape(-1, width)
    return slots[array.offset : array.offset + len(array)]


def _with_nulls(values: Column, array: pa.Array) -> Column:
    if array.null_count:
        missing = array.is_null().to_numpy(zero_copy_only=False)
        for position in np.flatnonzero(missing).tolist():
            values[position] = None
    return values


def _arrow_of(target: pa.DataType, like: pa.Array, data: np.ndarray[Any, Any]) -> pa.Array:
    """An array with these fixed-width slots, NULL where `like` is."""
    buffers = [like.buffers()[0], pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(target, len(like), buffers)


def _blobs(data: np.ndarray[Any, Any], width: int) -> list[bytes]:
    whole = data.tobytes()
    return [whole[start : start + width] for start in range(0, len(whole), width)]


# Integers, and times as integers.


def _integers(sql_type: SqlType, dtype: type[np.signedinteger[Any]]) -> Encoding:
    target = arrow_type(sql_type)
    plain = pa.int32() if dtype is np.int32 else pa.int16() if dtype is np.int16 else pa.int64()
    is_plain = target == plain

    def from_arrow(array: pa.Array) -> Column:
        if is_plain and len(array) < SMALL_LENGTH:
            values: Column = array.to_pylist()
            return values
        return _with_nulls(_slots(array, dtype).tolist(), array)

    def to_arrow(values: Sequence[Any]) -> pa.Array:
        array = pa.array(values, plain)
        return array if is_plain else array.view(target)

    return Encoding("INTEGER", _unchanged, _unchanged, from_arrow, to_arrow, same=True)


def _from_bools(array: pa.Array) -> Column:
    return _with_nulls(_slots(array.cast(pa.int8()), np.int8).tolist(), array)


def _to_bools(values: Sequence[Any]) -> pa.Array:
    return pa.array(values, pa.int8()).cast(pa.bool_())


# Floating point.


def _floats(sql_type: SqlType) -> Encoding:
    target = arrow_type(sql_type)
    dtype = np.float32 if target == pa.float32() else np.float64

    def from_arrow(array: pa.Array) -> Column:
        values = _slots(array, dtype).astype(np.float64)
        values[np.isnan(values)] = np.nan
        bits = values.view(np.int64)
        return _with_nulls(np.where(bits < 0, bits ^ _LOW_63, bits).tolist(), array)

    def to_arrow(values: Sequence[Any]) -> pa.Array:
        array = pa.array(values, pa.int64())
        if not len(array):
            return pa.array([], target)
        bits = _slots(array, np.int64)
        floats = np.where(bits < 0, bits ^ _LOW_63, bits).view(np.float64)
        return _arrow_of(target, array, floats.astype(dtype))

    return Encoding("INTEGER", _encode_float, _decode_float, from_arrow, to_arrow)


def _encode_float(value: float) -> int:
    if value != value:
        value = float("nan")
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits ^ _LOW_63 if bits < 0 else bits


def _decode_float(stored: int) -> float:
    bits = stored ^ _LOW_63 if stored < 0 else stored
    value: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return value


# -0.0 in a key column: it is equal to 0.0, and SQLite must find it so.
NEGATIVE_ZERO = _encode_float(-0.0)
ZERO = _encode_float(0.0)


# Numerics.


def _numerics(sql_type: SqlType) -> Encoding:
    precision, scale = numeric_shape(sql_type)
    target = arrow_type(sql_type)

    def unscaled(value: Decimal | int) -> int:
        scaled = shifted(Decimal(value), scale)
        whole = int(scaled)
        if whole != scaled or len(str(abs(whole))) > precision:
            raise ValueError(f"{value} is no {sql_type}")
        return whole

    def plain(whole: int) -> Decimal:
        return shifted(Decimal(whole), -scale)

    if precision <= INTEGER_DIGITS:

        def to_arrow(values: Sequence[Any]) -> pa.Array:
            return _to_small_decimals(target, values)

        return Encoding("INTEGER", unscaled, plain, _from_small_decimals, to_arrow)

    def to_large(values: Sequence[Any]) -> pa.Array:
        return _to_large_decimals(target, values)

    return Encoding(
        "BLOB",
        lambda value: (unscaled(value) + 2**127).to_bytes(16, "big"),
        lambda stored: plain(int.from_bytes(stored, "big") - 2**127),
        _from_large_decimals,
        to_large,
    )


def _from_small_decimals(array: pa.Array) -> Column:
    return _with_nulls(_slots(array, np.int64, 2)[:, 0].tolist(), array)


def _to_small_decimals(target: pa.DataType, values: Sequence[Any]) -> pa.Array:
    array = pa.array(values, pa.int64())
    low = _slots(array, np.int64)
    return _arrow_of(target, array, np.stack([low, low >> 63], axis=1))


def _from_large_decimals(array: pa.Array) -> Column:
    words = _slots(array, np.uint64, 2)
    turned = np.empty(words.shape, ">u8")
    turned[:, 0] = words[:, 1] ^ np.uint64(1 << 63)
    turned[:, 1] = words[:, 0]
    return _with_nulls(_blobs(turned, 16), array)


def _to_large_decimals(target: pa.DataType, values: Sequence[Any]) -> pa.Array:
    array = pa.array(values, pa.binary(16))
    words = _slots(array, ">u8", 2)
    turned = np.empty(words.shape, np.uint64)
    turned[:, 0] = words[:, 1]
    turned[:, 1] = words[:, 0] ^ np.uint64(1 << 63)
    return _arrow_of(target, array, turned)


# UUIDs.


def _uuid_bytes(value: int) -> bytes:
    return value.to_bytes(16, "big")


def _uuid_int(stored: bytes) -> int:
    return int.from_bytes(stored, "big")


def _from_uuids(array: pa.Array) -> Column:
    values: Column = array.storage.to_pylist()
    return values


def _to_uuids(values: Sequence[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))


# Intervals: whole days and the rest, as PostgreSQL compares them, then months and days.

_INTERVAL = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
_ORDERED_INTERVAL = np.dtype(
    [("whole", ">u8"), ("rest", ">i8"), ("months", ">u4"), ("days", ">u4")]
)
_INTERVAL_BYTES = _ORDERED_INTERVAL.itemsize
INTERVAL_ORDER_BYTES = 16


def _encode_interval(value: pa.MonthDayNano) -> bytes:
    months, days, nanoseconds = value
    more, rest = divmod(nanoseconds, _NANOSECONDS_A_DAY)
    whole = months * _DAYS_A_MONTH + days + more
    return struct.pack(">QqII", whole + 2**63, rest, months + 2**31, days + 2**31)


def _decode_interval(stored: bytes) -> pa.MonthDayNano:
    whole, rest, months, days = struct.unpack(">QqII", stored)
    months, days = months - 2**31, days - 2**31
    more = whole - 2**63 - months * _DAYS_A_MONTH - days
    return pa.MonthDayNano([months, days, more * _NANOSECONDS_A_DAY + rest])


def _from_intervals(array: pa.Array) -> Column:
    slots = _slots(array, _INTERVAL)
    more, rest = np.divmod(slots["nanoseconds"], _NANOSECONDS_A_DAY)
    months, days = slots["months"].astype(np.int64), slots["days"].astype(np.int64)
    ordered = np.empty(len(slots), _ORDERED_INTERVAL)
    ordered["whole"] = (months * _DAYS_A_MONTH + days + more).view(np.uint64) ^ np.uint64(1 << 63)
    ordered["rest"] = rest
    ordered["months"] = months + 2**31
    ordered["days"] = days + 2**31
    return _with_nulls(_blobs(ordered, _INTERVAL_BYTES), array)


def _to_intervals(values: Sequence[Any]) -> pa.Array:
    decoded = [None if value is None else _decode_interval(value) for value in values]
    return pa.array(decoded, pa.month_day_nano_interval())


# Arrays.


def _arrays(sql_type: SqlType, element: Encoding) -> Encoding:
    target = arrow_type(sql_type)

    def encode(value: Sequence[Any]) -> bytes:
        return msgspec.msgpack.encode([None if v is None else element.encode(v) for v in value])

    def decode(stored: bytes) -> list[Any]:
        values = msgspec.msgpack.decode(stored)
        return [None if v is None else element.decode(v) for v in values]

    def from_arrow(array: pa.Array) -> Column:
        inner = element.from_arrow(array.values)
        offsets = array.offsets.to_pylist()
        encoded: Column = [
            msgspec.msgpack.encode(inner[low:high]) for low, high in pairwise(offsets)
        ]
        return _with_nulls(encoded, array)

    def to_arrow(values: Sequence[Any]) -> pa.Array:
        lists = [None if v is None else msgspec.msgpack.decode(v) for v in values]
        inner = element.to_arrow([item for items in lists if items is not None for item in items])
        offsets: list[int | None] = []
        length = 0
        for items in lists:
            offsets.append(None if items is None else length)
            length += 0 if items is None else len(items)
        ends = pa.array([*offsets, length], pa.int32())
        return pa.ListArray.from_arrays(ends, inner, type=target)

    return Encoding("BLOB", encode, decode, from_arrow, to_arrow)
