"""COPY's binary format (PostgreSQL manual, COPY, "Binary Format"), both ways.

Reading: where all rows of a block have the same lengths (fixed types without NULLs), numpy looks
at them as records; else a loop finds the fields and each column is gathered from their places.
Numbers, dates and times are then decoded whole columns at a time; numeric, interval and arrays
value by value. Writing puts a length before each value, whole columns at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import (
    BadCopyFileFormat,
    DqeError,
    FeatureNotSupported,
    InvalidBinaryRepresentation,
    ProgramLimitExceeded,
)
from executor.copy_rows import MAX_ROW_BYTES, ReadBatch
from executor.copy_values import checked_utf8
from planner.write_plan import CopyFromPlan
from storage.types import Kind, SqlType, arrow_type, numeric_shape, type_oid

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = SIGNATURE + bytes(8)
TRAILER = struct.pack(">h", -1)

_EPOCH_DAYS = 10_957  # 2000-01-01
_EPOCH_MICROSECONDS = 946_684_800_000_000
_BASE = 10_000  # of numeric's digits

Lengths = npt.NDArray[np.int64]


class BinaryRows:
    """Reads one COPY FROM in binary format; the face of `copy_rows.TextRows`."""

    def __init__(self, plan: CopyFromPlan) -> None:
        self._table = plan.table.name
        self._columns = [plan.table.column(c) for c in plan.columns]
        self._left = b""
        self._header_due = True
        self._ended = False
        self._rows = 0

    def feed(self, data: bytes) -> Iterator[ReadBatch]:
        """The rows that are complete with this data."""
        data = self._left + data
        self._left = b""
        if self._ended:
            return
        if self._header_due:
            start = self._header(data)
            if start is None:
                self._left = data
                return
            self._header_due = False
            data = data[start:]
        starts, lengths, end, self._ended = self._find_fields(data)
        self._left = b"" if self._ended else data[end:]
        if len(self._left) > MAX_ROW_BYTES:
            raise ProgramLimitExceeded(f"a row takes more than {MAX_ROW_BYTES} bytes")
        if len(starts):
            yield self._read(data, starts, lengths)

    def finish(self) -> Iterator[ReadBatch]:
        """Nothing: the trailer ended the rows, or they are cut off."""
        if not self._ended:
            raise self._error("unexpected EOF in COPY data")
        return iter(())

    def _header(self, data: bytes) -> int | None:
        """Where the rows start; None when the header is not whole yet."""
        if not SIGNATURE.startswith(data[: len(SIGNATURE)]):
            raise BadCopyFileFormat("COPY file signature not recognized")
        if len(data) < len(HEADER):
            return None
        flags, extension = struct.unpack_from(">Ii", data, len(SIGNATURE))
        if flags >> 16:
            raise BadCopyFileFormat("unrecognized critical flags in COPY file header")
        if extension < 0:
            raise BadCopyFileFormat("invalid COPY file header (wrong length)")
        end = len(HEADER) + int(extension)
        return end if len(data) >= end else None

    def _error(self, message: str, row: int = 0) -> DqeError:
        where = f"COPY {self._table}, line {self._rows + row + 1}"
        return BadCopyFileFormat(message, where=where)

    # -- fields

    def _find_fields(self, data: bytes) -> tuple[Lengths, Lengths, int, bool]:
        """Starts and lengths of fields (rows by columns), where they end, if the trailer came."""
        alike = self._rows_alike(data)
        if alike is not None:
            return alike
        width = len(self._columns)
        starts: list[int] = []
        lengths: list[int] = []
        place, size = 0, len(data)
        count_of = struct.Struct(">h").unpack_from
        length_of = struct.Struct(">i").unpack_from
        while place + 2 <= size:
            (count,) = count_of(data, place)
            if count == -1:
                return (*_shaped(starts, lengths, width), place + 2, True)
            if count != width:
                raise self._error(
                    f"row field count is {count}, expected {width}", len(starts) // width
                )
            at = place + 2
            row_starts: list[int] = []
            row_lengths: list[int] = []
            for _ in range(width):
                if at + 4 > size:
                    break
                (length,) = length_of(data, at)
                if length < -1:
                    raise self._error("invalid field size", len(starts) // width)
                at += 4
                row_starts.append(at)
                row_lengths.append(length)
                at += max(length, 0)
            if len(row_starts) < width or at > size:
                break
            starts += row_starts
            lengths += row_lengths
            place = at
        return (*_shaped(starts, lengths, width), place, False)

    def _rows_alike(self, data: bytes) -> tuple[Lengths, Lengths, int, bool] | None:
        """All whole rows at once, if each has the lengths of the first."""
        layout = self._first_layout(data)
        if layout is None:
            return None
        places, row_lengths, stride = layout
        count = len(data) // stride
        if count < 2:
            return None
        rows = np.frombuffer(data, np.uint8, count * stride).reshape(count, stride)
        heads = [0, 1]
        for place in places:
            heads += range(place - 4, place)
        if not (rows[:, heads] == rows[0, heads]).all():
            return None
        starts = np.arange(count)[:, None] * stride + np.array(places)[None, :]
        lengths = np.broadcast_to(np.array(row_lengths), starts.shape)
        end = count * stride
        ended = data.startswith(TRAILER, end)
        return starts, lengths, end + len(TRAILER) * ended, ended

    def _first_layout(self, data: bytes) -> tuple[list[int], list[int], int] | None:
        width = len(self._columns)
        if len(data) < 2 or struct.unpack_from(">h", data)[0] != width:
            return None
        at, places, lengths = 2, [], []
        for _ in range(width):
            if at + 4 > len(data):
                return None
            (length,) = struct.unpack_from(">i", data, at)
            if length < 0:
                return None
            places.append(at + 4)
            lengths.append(int(length))
            at += 4 + int(length)
        return places, lengths, at

    # -- values

    def _read(self, data: bytes, starts: Lengths, lengths: Lengths) -> ReadBatch:
        arrays = []
        for place, column in enumerate(self._columns):
            field = _Field(data, starts[:, place], lengths[:, place])
            try:
                arrays.append(read_column(column.type, field))
            except DqeError as error:
                row = field.bad_row + self._rows + 1
                error.where = f"COPY {self._table}, line {row}, column {column.name}"
                raise
        batch = ReadBatch(arrays, len(starts), first_row=self._rows + 1)
        self._rows += len(starts)
        return batch


def _shaped(starts: list[int], lengths: list[int], width: int) -> tuple[Lengths, Lengths]:
    shape = (-1, width)
    return (
        np.array(starts, dtype=np.int64).reshape(shape),
        np.array(lengths, dtype=np.int64).reshape(shape),
    )


@dataclass(slots=True)
class _Field:
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
        starts = self.starts + skip
        ends = np.maximum(self.starts + np.maximum(self.lengths, 0), starts)
        starts = np.where(self.nulls, ends, starts)
        offsets = np.empty(2 * rows + 1, dtype=np.int32)
        offsets[0:-1:2] = starts
        offsets[1::2] = ends
        offsets[-1] = ends[-1] if rows else 0
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.data)]
        alternating = pa.BinaryArray.from_buffers(pa.binary(), 2 * rows, buffers)
        taken = alternating.take(pa.array(np.arange(0, 2 * rows, 2, dtype=np.int64)))
        return pc.if_else(pa.array(self.nulls), pa.scalar(None, pa.binary()), taken)


def read_column(sql_type: SqlType, field: _Field) -> pa.Array:
    """The column's values in the Arrow type of its SQL type."""
    kind = sql_type.kind
    if kind in _NUMBERS:
        dtype, offset = _NUMBERS[kind]
        values = field.fixed(np.dtype(dtype).itemsize).view(dtype).reshape(-1)
        native = values.astype(np.dtype(dtype).newbyteorder("=")) + offset
        return pa.array(native, mask=field.nulls).cast(arrow_type(sql_type))
    if kind is Kind.BOOL:
        return pa.array(field.fixed(1).reshape(-1) != 0, mask=field.nulls)
    if kind is Kind.UUID:
        return _uuids(field)
    if kind is Kind.BYTEA:
        return field.binary()
    if kind in _TEXTS:
        raw = field.binary(skip=1 if kind is Kind.JSONB else 0)
        return pa.array([_text(field, row, value) for row, value in enumerate(raw.to_pylist())])
    return _one_by_one(sql_type, field)


_NUMBERS: dict[Kind, tuple[str, int]] = {
    Kind.INT2: (">i2", 0),
    Kind.INT4: (">i4", 0),
    Kind.INT8: (">i8", 0),
    Kind.OID: (">u4", 0),
    Kind.FLOAT4: (">f4", 0),
    Kind.FLOAT8: (">f8", 0),
    Kind.DATE: (">i4", _EPOCH_DAYS),
    Kind.TIME: (">i8", 0),
    Kind.TIMESTAMP: (">i8", _EPOCH_MICROSECONDS),
    Kind.TIMESTAMPTZ: (">i8", _EPOCH_MICROSECONDS),
}
_TEXTS = frozenset(
    {Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME, Kind.CHAR, Kind.JSON, Kind.JSONB}
)


def _text(field: _Field, row: int, value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return checked_utf8(value, "utf8").decode()
    except DqeError:
        field.bad_row = row
        raise


def _uuids(field: _Field) -> pa.Array:
    raw = field.fixed(16)
    validity = pc.is_valid(pa.array(np.zeros(len(raw)), mask=field.nulls)).buffers()[1]
    buffers = [validity if field.nulls.any() else None, pa.py_buffer(raw)]
    storage = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(raw), buffers)
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _one_by_one(sql_type: SqlType, field: _Field) -> pa.Array:
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
        quantum = Decimal(1).scaleb(-scale)
        return lambda data: read_numeric(data).quantize(quantum)
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
        whole = whole * _BASE + digit
    value = Decimal(whole).scaleb(4 * (weight - count + 1)) if count else Decimal(0)
    value = value.quantize(Decimal(1).scaleb(-scale))
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
        field = _Field(data, np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64))
        values: list[Any] = read_column(element, field).to_pylist()
        return values

    return read


# ---------------------------------------------------------------------------------------
# Writing


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
    if kind in _NUMBERS:
        dtype, offset = _NUMBERS[kind]
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
    if kind in _TEXTS or kind in (Kind.BYTEA, Kind.UUID):
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
            return lambda value: write_numeric(Decimal(value).normalize())
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
        whole, group = divmod(whole, _BASE)
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
