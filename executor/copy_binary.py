"""COPY's binary format (PostgreSQL manual, COPY, "Binary Format"): its frame, and the rows in it.

Where all rows of a block have the same lengths (fixed types without NULLs), numpy looks at them
as records; else a loop finds the fields. `copy_binary_read` makes values of a column's fields,
`copy_binary_write` rows of columns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from cluster.errors import (
    BadCopyFileFormat,
    DqeError,
    ProgramLimitExceeded,
)
from executor.copy_binary_read import Field, Lengths, read_column
from executor.copy_rows import MAX_ROW_BYTES, ReadBatch
from planner.write_plan import CopyFromPlan

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = SIGNATURE + bytes(8)
TRAILER = struct.pack(">h", -1)


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
            field = Field(data, starts[:, place], lengths[:, place])
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
