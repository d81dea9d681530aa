"""Columns as rows of COPY's binary format: a length before each value, whole columns at a time."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import (
    FeatureNotSupported,
)
from executor.copy_binary_read import BASE, NUMBERS, TEXTS
from storage.decimals import EXACT
from storage.types import Kind, SqlType, arrow_type, type_oid


def write_rows(batch: pa.RecordBatch, types: Sequence[SqlType]) -> pa.BinaryArray:
    """The batch's rows without header and trailer, each by itself."""
    count = pa.scalar(struct.pack(">h", batch.num_columns), pa.binary())
    columns = [_with_lengths(write_column(t, c)) for t, c in zip(types, batch.columns, strict=True)]
    empty = pa.scalar(b"", pa.binary())
    if not columns:
        return pa.repeat(count, batch.num_rows)
    return pc.binary_join_element_wise(count, *columns, empty)


def joined(rows: pa.BinaryArray) -> bytes:
    """The rows' bytes behind each other."""
    if not len(rows):
        return b""
    _, offsets, data = rows.buffers()
    ends = np.frombuffer(offsets, np.int32)
    first, last = int(ends[rows.offset]), int(ends[rows.offset + len(rows)])
    return bytes(data.slice(first, last - first)) if last > first else b""


def _with_lengths(values: pa.BinaryArray) -> pa.BinaryArray:
    lengths = pc.fill_null(pc.binary_length(values), -1).to_numpy(zero_copy_only=False)
    packed = lengths.astype(">i4").tobytes()
    heads = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(4), len(lengths), [None, pa.py_buffer(packed)]
    ).cast(pa.binary())
    filled = pc.fill_null(values, b"")
    return pc.binary_join_element_wise(heads, filled, pa.scalar(b"", pa.binary()))


def write_column(sql_type: SqlType, column: pa.Array) -> pa.BinaryArray:
    """Each value's bytes, NULLs kept."""
    kind = sql_type.kind
    if kind in NUMBERS:
        dtype, offset = NUMBERS[kind]
        return _packed(_integers(column) - offset, dtype, column)
    if kind is Kind.BOOL:
        values = column if pa.types.is_boolean(column.type) else pc.not_equal(column.storage, 0)
        return _packed(pc.fill_null(values, False).to_numpy(zero_copy_only=False), "u1", column)
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if kind is Kind.JSONB:
        texts = column.cast(pa.binary())
        one = pa.scalar(b"\x01", pa.binary())
        return pc.binary_join_element_wise(one, texts, pa.scalar(b"", pa.binary()))
    if kind in TEXTS or kind in (Kind.BYTEA, Kind.UUID):
        return column.cast(pa.binary())
    write = _value_writer(sql_type)
    return pa.array([None if v is None else write(v) for v in column.to_pylist()], type=pa.binary())


def _integers(column: pa.Array) -> npt.NDArray[Any]:
    """The numbers behind a column; dates and times are what they count."""
    if pa.types.is_floating(column.type):
        floats: npt.NDArray[Any] = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
        return floats
    wide = pa.int32() if pa.types.is_date32(column.type) else pa.int64()
    plain = column.view(wide) if pa.types.is_temporal(column.type) else column.cast(pa.int64())
    values: npt.NDArray[Any] = pc.fill_null(plain, 0).to_numpy(zero_copy_only=False)
    return values


def _packed(values: npt.NDArray[Any], dtype: str, column: pa.Array) -> pa.BinaryArray:
    width = np.dtype(dtype).itemsize
    data = np.ascontiguousarray(values.astype(dtype)).tobytes()
    packed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(values), [None, pa.py_buffer(data)]
    ).cast(pa.binary())
    if not column.null_count:
        return packed
    return pc.if_else(pc.is_null(column), pa.scalar(None, pa.binary()), packed)


def _value_writer(sql_type: SqlType) -> Callable[[Any], bytes]:
    if sql_type.kind is Kind.NUMERIC:
        if sql_type.precision is None:  # held with more zeros than the user gave
            return lambda value: write_numeric(Decimal(value).normalize(EXACT))
        return lambda value: write_numeric(Decimal(value))
    if sql_type.kind is Kind.INTERVAL:
        return _write_interval
    if sql_type.kind is Kind.ARRAY:
        assert sql_type.element is not None
        return _array_writer(sql_type.element)
    raise FeatureNotSupported(f"type {sql_type} has no binary COPY format")


def write_numeric(value: Decimal) -> bytes:
    """A numeric in PostgreSQL's binary form."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scale = max(-exponent, 0)
    # Digits to the base of 10,000 begin and end at multiples of four from the point.
    fraction = -(-scale // 4) * 4
    whole = int("".join(map(str, digits)) or "0") * 10 ** (exponent + fraction)
    groups: list[int] = []
    while whole:
        whole, group = divmod(whole, BASE)
        groups.insert(0, group)
    weight = len(groups) - fraction // 4 - 1
    while groups and groups[-1] == 0:
        groups.pop()
    head = struct.pack(">hhHh", len(groups), weight if groups else 0, sign * 0x4000, scale)
    return head + struct.pack(f">{len(groups)}h", *groups)


def _write_interval(value: Any) -> bytes:
    if isinstance(value, timedelta):
        microseconds = value // timedelta(microseconds=1)
        return struct.pack(">qii", microseconds, 0, 0)
    return struct.pack(">qii", value.nanoseconds // 1000, value.days, value.months)


def _array_writer(element: SqlType) -> Callable[[list[Any]], bytes]:
    def write(values: list[Any]) -> bytes:
        oid = type_oid(element)
        if not values:
            return struct.pack(">iiI", 0, 0, oid)
        column = pa.array(values, arrow_type(element))
        head = struct.pack(">iiIii", 1, int(column.null_count > 0), oid, len(values), 1)
        return head + joined(_with_lengths(write_column(element, column)))

    return write
