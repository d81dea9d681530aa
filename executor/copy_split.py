"""COPY's text and csv split into fields, exactly as PostgreSQL splits them, without a loop.

`copy_structure` finds the delimiters and newlines that separate (in csv a quote opens and closes
wherever it stands, in text a backslash escapes the byte behind it); between two of them lies a
field. All fields of a block become one Arrow array; a column is every n-th of them.

What follows the last structural newline is left for the next block. Line numbers count physical
lines, those inside quotes included, as PostgreSQL's do.

Errors (`BadStructure`) are 22P04 in PostgreSQL's words with `COPY t, line n: "..."`. An ESCAPE
that is not the QUOTE makes the splitter walk quotes one by one (rare, and slower).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.errors import BadCopyFileFormat, DqeError
from executor.copy_structure import (
    RETURN,
    Mask,
    Positions,
    Structure,
    csv_structure,
    escaped,
    quoted,
    text_structure,
)
from planner.statements import CopyFormat, CopyOptions

# PostgreSQL shows at most this much of a line.
_SHOWN_CHARACTERS = 100
_END_OF_DATA = b"\\."


class BadStructure(Exception):
    """Rows cannot be told apart from `offset` of the data on; `error` is what to say."""

    def __init__(self, offset: int, error: DqeError) -> None:
        super().__init__(offset, error)
        self.offset = offset
        self.error = error


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of fields. Field `c` of row `r` is number `2 * (r * columns + c)` of `alternating`;
    what lies between two fields is there, too.

    `quoted` (csv) and `escaped` (text) tell of each field whether it had such bytes; None
    where no field had. `row_ends` are positions in `data`, `first_line` the number of its
    first line.
    """

    data: bytes
    alternating: pa.BinaryArray
    columns: int
    rows: int
    quoted: Mask | None
    escaped: Mask | None
    row_starts: Positions
    row_ends: Positions
    first_line: int

    def column(self, place: int) -> pa.BinaryArray:
        """One column's fields."""
        step = 2 * self.columns
        wanted = np.arange(2 * place, self.rows * step, step, dtype=np.int64)
        return self.alternating.take(pa.array(wanted))

    def marks(self, mask: Mask | None, place: int) -> Mask | None:
        """One column's part of `quoted` or `escaped`."""
        return None if mask is None else mask[place :: self.columns]

    def line_of(self, row: int) -> int:
        """The number of the last physical line of a row."""
        return self.first_line + self.data.count(b"\n", 0, int(self.row_ends[row]))

    def line_text(self, row: int) -> str:
        """The row as it stands in the data, cut to what PostgreSQL shows."""
        raw = self.data[int(self.row_starts[row]) : int(self.row_ends[row])]
        return shown(raw.rstrip(b"\r").decode(errors="replace"))


def shown(text: str) -> str:
    """A line or value as CONTEXT shows it."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


class Splitter:
    """Splits one COPY's blocks, keeping count of lines."""

    def __init__(self, table: str, columns: Sequence[str], options: CopyOptions) -> None:
        self._table = table
        self._columns = tuple(columns)
        self._is_csv = options.format is CopyFormat.CSV
        self._delimiter = ord(options.delimiter)
        self._quote = ord(options.quote)
        self._escape = ord(options.escape)
        self._line = 1
        self._carriage_returns: bool | None = None
        self._returns_alone = False
        self.ended = False  # text's \. was met; what follows does not count

    # -- lines

    @property
    def line(self) -> int:
        """The number of the next line."""
        return self._line

    def pass_lines(self, lines: int) -> None:
        """Counts lines without carriage returns that were split elsewhere."""
        self._line += lines
        if lines:
            self._carriage_returns = False

    def skip_line(self, data: bytes) -> tuple[list[bytes], bytes] | None:
        """Takes the header: its fields and the rest; None when its end is not there yet."""
        structure = self._structure(data)
        newlines = structure.newlines
        if not len(newlines):
            return None
        end = int(newlines[0])
        ends = structure.breaks[structure.breaks <= end].tolist()
        starts = [0, *(place + 1 for place in ends[:-1])]
        names = [self._plain(data[s:e].rstrip(b"\r")) for s, e in zip(starts, ends, strict=True)]
        self._line += data.count(b"\n", 0, end + 1)
        return names, data[end + 1 :]

    def _plain(self, field: bytes) -> bytes:
        quote = bytes([self._quote])
        if self._is_csv and field.startswith(quote) and field.endswith(quote) and len(field) > 1:
            return field[1:-1].replace(quote * 2, quote)
        return field

    # -- blocks

    def split(self, data: bytes, last: bool) -> tuple[Block | None, bytes]:
        """The whole rows in the data, and the bytes left over. `last`: no more will come."""
        if last and data and not data.endswith(b"\n"):
            data += b"\r\n" if self._carriage_returns else b"\n"
        data = self._without_bare_returns(data)
        structure = self._structure(data)
        if last and structure.open_quote:
            raise self._unterminated(data, structure)
        newlines = structure.newlines
        if not self._is_csv and b"\\." in data:
            newlines = self._until_end_marker(data, newlines)
        if not len(newlines):
            return None, (b"" if self.ended else data)
        end = int(newlines[-1]) + 1
        block = self._block(data[:end], structure, newlines)
        self._line += data.count(b"\n", 0, end)
        return block, (b"" if self.ended else data[end:])

    def _without_bare_returns(self, data: bytes) -> bytes:
        """Lines that end in carriage returns alone, as if they ended in newlines."""
        if self._carriage_returns is None and not self._returns_alone:
            first = data.find(b"\r")
            following = data[first + 1 : first + 2]
            before = data[:first] if first >= 0 else b"\n"
            quoted = self._is_csv and before.count(self._quote) % 2 == 1
            ends_line = b"\n" not in before and not quoted
            self._returns_alone = ends_line and following not in (b"", b"\n")
        return data.replace(b"\r", b"\n") if self._returns_alone else data

    def _unterminated(self, data: bytes, structure: Structure) -> BadStructure:
        start = int(structure.newlines[-1]) + 1 if len(structure.newlines) else 0
        line = self._line + data.count(b"\n") - 1
        text = shown(data[start:].rstrip(b"\r\n").decode(errors="replace"))
        where = f'COPY {self._table}, line {line}: "{text}"'
        return BadStructure(start, BadCopyFileFormat("unterminated CSV quoted field", where=where))

    def _until_end_marker(self, data: bytes, newlines: Positions) -> Positions:
        starts = np.concatenate(([0], newlines[:-1] + 1)) if len(newlines) else newlines
        for place, (start, end) in enumerate(zip(starts, newlines, strict=True)):
            if data[start:end].rstrip(b"\r") == _END_OF_DATA:
                self.ended = True
                return newlines[:place]
        return newlines

    def _structure(self, data: bytes) -> Structure:
        if self._is_csv:
            return csv_structure(data, self._delimiter, self._quote, self._escape)
        return text_structure(data, self._delimiter)

    def _block(self, data: bytes, structure: Structure, newlines: Positions) -> Block:
        breaks = structure.breaks[: np.searchsorted(structure.breaks, len(data))]
        row_starts = np.concatenate(([0], newlines[:-1] + 1))
        row_ends = self._row_ends(data, newlines, row_starts)
        if b"\r" in data and not self._carriage_returns:
            self._refuse_returns(data, structure, newlines, row_starts)
        self._check_counts(data, breaks, newlines, row_starts)
        starts = np.concatenate(([0], breaks[:-1] + 1))
        ends = breaks.copy()
        width = len(self._columns)
        ends[width - 1 :: width] = row_ends
        marked = None
        if structure.marks is not None:
            marked = structure.marks[starts] < structure.marks[ends]
        return Block(
            data,
            _fields(data, starts, ends, structure),
            width,
            len(newlines),
            marked if self._is_csv else None,
            None if self._is_csv else marked,
            row_starts,
            row_ends,
            self._line,
        )

    def _row_ends(self, data: bytes, newlines: Positions, row_starts: Positions) -> Positions:
        """Where the rows' last fields end: before a carriage return, if lines end in one."""
        if b"\r" not in data:
            if self._carriage_returns:
                raise self._bad_row(data, row_starts, newlines, 0, *self._mixed_newline())
            self._carriage_returns = False
            return newlines
        array = np.frombuffer(data, dtype=np.uint8)
        before = array[np.maximum(newlines - 1, 0)] == RETURN
        if self._carriage_returns is None:
            self._carriage_returns = bool(before[0])
        if self._carriage_returns:
            if not before.all():
                row = int(np.argmin(before))
                raise self._bad_row(data, row_starts, newlines, row, *self._mixed_newline())
            return newlines - 1
        return newlines

    def _refuse_returns(
        self, data: bytes, structure: Structure, newlines: Positions, row_starts: Positions
    ) -> None:
        """Where lines end in newlines alone, a bare carriage return must be quoted or escaped."""
        returns = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == RETURN)
        if structure.marks is not None:
            covers = quoted if self._is_csv else escaped
            returns = returns[~covers(structure.marks, returns)]
        if not len(returns):
            return
        if self._is_csv:
            word, hint = "unquoted", "Use quoted CSV field to represent carriage return."
        else:
            word, hint = "literal", 'Use "\\r" to represent carriage return.'
        row = int(np.searchsorted(newlines, returns[0]))
        message = f"{word} carriage return found in data"
        raise self._bad_row(data, row_starts, newlines, row, message, hint)

    def _mixed_newline(self) -> tuple[str, str]:
        if self._is_csv:
            return "unquoted newline found in data", "Use quoted CSV field to represent newline."
        return "literal newline found in data", 'Use "\\n" to represent newline.'

    def _check_counts(
        self, data: bytes, breaks: Positions, newlines: Positions, row_starts: Positions
    ) -> None:
        """Every row has as many fields as there are columns."""
        width = len(self._columns)
        every = breaks[width - 1 :: width]
        if len(breaks) == width * len(newlines) and np.array_equal(every, newlines):
            return
        counts = np.diff(np.searchsorted(breaks, newlines, side="right"), prepend=0)
        row = int(np.argmax(counts != width))
        count = int(counts[row])
        if count > width:
            message = "extra data after last expected column"
        else:
            message = f'missing data for column "{self._columns[count]}"'
        raise self._bad_row(data, row_starts, newlines, row, message, "")

    def _bad_row(
        self, data: bytes, starts: Positions, ends: Positions, row: int, message: str, hint: str
    ) -> BadStructure:
        line = self._line + data.count(b"\n", 0, int(ends[row]))
        raw = data[int(starts[row]) : int(ends[row])].rstrip(b"\r")
        text = shown(raw.decode(errors="replace"))
        where = f'COPY {self._table}, line {line}: "{text}"'
        error = BadCopyFileFormat(message, hint=hint or None, where=where)
        return BadStructure(int(starts[row]), error)


def _fields(
    data: bytes, starts: Positions, ends: Positions, structure: Structure
) -> pa.BinaryArray:
    """Fields and what lies between them, alternating: one array over the one buffer."""
    if structure.dropped is not None and structure.drops is not None:
        starts = starts - structure.drops[starts]
        ends = ends - structure.drops[ends]
        kept = ~structure.dropped[: len(data)]
        data = np.frombuffer(data, dtype=np.uint8)[kept].tobytes()
    offsets = np.empty(2 * len(starts) + 1, dtype=np.int32)
    offsets[0:-1:2] = starts
    offsets[1::2] = ends
    offsets[-1] = ends[-1] if len(ends) else 0
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.BinaryArray.from_buffers(pa.binary(), 2 * len(starts), buffers)
