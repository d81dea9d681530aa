"""The fields of COPY's binary format as columns.

Numbers, dates and times are decoded whole columns at a time; numeric, interval and arrays value by
value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import (
    DqeError,
    FeatureNotSupported,
    InvalidBinaryRepresentation,
)
from executor.copy_values import checked_utf8
from storage.decimals import at_scale, shifted
from storage.types import Kind, SqlType, arrow_type, numeric_shape

EPOCH_DAYS = 10_957  # 2000-01-01
EPOCH_MICROSECONDS = 946_684_800_000_000
BASE = 10_000  # of numeric's digits

# numpy's type of the kinds that are numbers on the wire, and where they count from.
NUMBERS: dict[Kind, tuple[str, int]] = {
    Kind.INT2: (">i2", 0),
    Kind.INT4: (">i4", 0),
    Kind.INT8: (">i8", 0),
    Kind.OID: (">u4", 0),
    Kind.FLOAT4: (">f4", 0),
    Kind.FLOAT8: (">f8", 0),
    Kind.DATE: (">i4", EPOCH_DAYS),
    Kind.TIME: (">i8", 0),
    Kind.TIMESTAMP: (">i8", EPOCH_MICROSECONDS),
    Kind.TIMESTAMPTZ: (">i8", EPOCH_MICROSECONDS),
}
TEXTS = frozenset(
    {Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME, Kind.CHAR, Kind.JSON, Kind.JSONB}
)

Lengths = npt.NDArray[np.int64]


@dataclass(slots=True)
class Field:
    """One column's fields in the data; a length of -1 is NULL."""

    data: bytes
    starts: Lengths
    lengths: Lengths
    bad_row: int = 0

    @property
    def nulls(self) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self.lengths < 0
        return found

    def fixed(self, width: int) -> npt.NDArray[np.uint8]:
        """Rows of `width` bytes; 22P03 for a field of another length."""
        wrong = (self.lengths != width) & (self.lengths >= 0)
        if wrong.any():
            self.bad_row = int(np.argmax(wrong))
            raise InvalidBinaryRepresentation("incorrect binary data format")
        array = np.frombuffer(self.data, np.uint8)
        starts = np.where(self.nulls, 0, self.starts)
        places = np.minimum(starts[:, None] + np.arange(width), max(len(array) - 1, 0))
        return np.ascontiguousarray(array[places])

    def values(self) -> list[bytes | None]:
        return [
            None if length < 0 else self.data[start : start + length]
            for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        ]

    def binary(self, skip: int = 0) -> pa.BinaryArray:
        """The bytes as they are, without the first `skip` of each."""
        rows = len(self.starts)
        ends = self.starts + np.maximum(self.lengths, 0)
        starts = np.minimum(self.starts + skip, ends)  # a NULL has nothing to skip
        offsets = np.empty(2 * rows + 1, dtype=np.int32)
        offsets[0:-1:2] = starts
        offsets[1::2] = ends
        offsets[-1] = ends[-1] if rows else 0
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.data)]
        alternating = pa.BinaryArray.from_buffers(pa.binary(), 2 * rows, buffers)
        taken = alternating.take(pa.array(np.arange(0, 2 * rows, 2, dtype=np.int64)))
        return pc.if_else(pa.array(self.nulls), pa.scalar(None, pa.binary()), taken)


def read_column(sql_type: SqlType, field: Field) -> pa.Array:
    """The column's values in the Arrow type of its SQL type."""
    kind = sql_type.kind
    if kind in NUMBERS:
        dtype, offset = NUMBERS[kind]
        values = field.fixed(np.dtype(dtype).itemsize).view(dtype).reshape(-1)
        native = values.astype(np.dtype(dtype).newbyteorder("=")) + offset
        return pa.array(native, mask=field.nulls).cast(arrow_type(sql_type))
    if kind is Kind.BOOL:
        return pa.array(field.fixed(1).reshape(-1) != 0, mask=field.nulls)
    if kind is Kind.UUID:
        return _uuids(field)
    if kind is Kind.BYTEA:
        return field.binary()
    if kind in TEXTS:
        raw = field.binary(skip=1 if kind is Kind.JSONB else 0)
        texts = [_text(field, row, value) for row, value in enumerate(raw.to_pylist())]
        return pa.array(texts, arrow_type(sql_type))
    return _one_by_one(sql_type, field)


def _text(field: Field, row: int, value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return checked_utf8(value, "utf8").decode()
    except DqeError:
        field.bad_row = row
        raise


def _uuids(field: Field) -> pa.Array:
    raw = field.fixed(16)
    validity = pc.is_valid(pa.array(np.zeros(len(raw)), mask=field.nulls)).buffers()[1]
    buffers = [validity if field.nulls.any() else None, pa.py_buffer(raw)]
    storage = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(raw), buffers)
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _one_by_one(sql_type: SqlType, field: Field) -> pa.Array:
    read = _value_reader(sql_type)
    values: list[Any] = []
    for row, value in enumerate(field.values()):
        field.bad_row = row
        try:
            values.append(None if value is None else read(value))
        except (struct.error, IndexError, ValueError):
            raise InvalidBinaryRepresentation("incorrect binary data format") from None
    return pa.array(values, arrow_type(sql_type))


def _value_reader(sql_type: SqlType) -> Callable[[bytes], Any]:
    if sql_type.kind is Kind.NUMERIC:
        _, scale = numeric_shape(sql_type)
        return lambda data: at_scale(read_numeric(data), scale)
    if sql_type.kind is Kind.INTERVAL:
        return _read_interval
    if sql_type.kind is Kind.ARRAY:
        assert sql_type.element is not None
        return _array_reader(sql_type.element)
    raise FeatureNotSupported(f"type {sql_type} has no binary COPY format")


def read_numeric(data: bytes) -> Decimal:
    """A numeric: digits to the base of 10,000, weight of the first, sign, display scale."""
    count, weight, sign, scale = struct.unpack_from(">hhHh", data)
    if sign not in (0x0000, 0x4000):
        raise InvalidBinaryRepresentation("numeric NaN and infinity are not supported")
    digits = struct.unpack_from(f">{count}h", data, 8)
    whole = 0
    for digit in digits:
        whole = whole * BASE + digit
    value = shifted(Decimal(whole), 4 * (weight - count + 1)) if count else Decimal(0)
    value = at_scale(value, scale)
    return value.copy_negate() if sign else value


def _read_interval(data: bytes) -> pa.MonthDayNano:
    microseconds, days, months = struct.unpack(">qii", data)
    return pa.MonthDayNano([months, days, microseconds * 1000])


def _array_reader(element: SqlType) -> Callable[[bytes], list[Any] | None]:
    def read(data: bytes) -> list[Any]:
        dimensions, _, _ = struct.unpack_from(">iiI", data)
        if dimensions == 0:
            return []
        if dimensions > 1:
            raise FeatureNotSupported("binary COPY of arrays of several dimensions")
        (count,) = struct.unpack_from(">i", data, 12)
        place, starts, lengths = 20, [], []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", data, place)
            starts.append(place + 4)
            lengths.append(length)
            place += 4 + max(length, 0)
        field = Field(data, np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64))
        values: list[Any] = read_column(element, field).to_pylist()
        return values

    return read
