"""COPY's text and csv split into fields, exactly as PostgreSQL splits them, without a loop.

A block of bytes is looked at as a numpy array. In csv a quote toggles "inside" wherever it
stands; in text a backslash escapes the byte behind it. Delimiters and newlines that are neither
inside nor escaped are structural, and between two structural bytes lies a field. All fields of a
block become one Arrow array; a column is every n-th of them.

What follows the last structural newline is left for the next block. Line numbers count physical
lines, those inside quotes included, as PostgreSQL's do.

Errors (`BadStructure`) are 22P04 in PostgreSQL's words with `COPY t, line n: "..."`. An ESCAPE
that is not the QUOTE makes the splitter walk quotes one by one (rare, and slower).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import BadCopyFileFormat, DqeError
from planner.statements import CopyFormat, CopyOptions

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NEWLINE, _RETURN, _BACKSLASH = 10, 13, 92
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
        self.ended = False  # text's \. was met; what follows does not count

    # -- lines

    def skip_line(self, data: bytes) -> tuple[list[bytes], bytes] | None:
        """Takes the header: its fields and the rest; None when its end is not there yet."""
        structure = self._structure(data)
        newlines = structure.newlines
        if not len(newlines):
            return None
        end = int(newlines[0])
        delimiters = structure.delimiters[structure.delimiters < end]
        starts = [0, *(int(d) + 1 for d in delimiters)]
        ends = [*(int(d) for d in delimiters), end]
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
        if b"\r" in data and b"\n" not in data:
            data = data.replace(b"\r", b"\n")  # the line ends of old Macintoshes
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

    def _unterminated(self, data: bytes, structure: _Structure) -> BadStructure:
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

    def _structure(self, data: bytes) -> _Structure:
        array = np.frombuffer(data, dtype=np.uint8)
        delimiters = np.flatnonzero(array == self._delimiter)
        newlines = np.flatnonzero(array == _NEWLINE)
        if self._is_csv:
            return self._csv_structure(data, array, delimiters, newlines)
        return self._text_structure(data, array, delimiters, newlines)

    def _text_structure(
        self, data: bytes, array: npt.NDArray[np.uint8], delimiters: Positions, newlines: Positions
    ) -> _Structure:
        if b"\\" not in data:
            return _Structure(delimiters, newlines)
        backslashes = np.flatnonzero(array == _BACKSLASH)
        active = _active_escapes(backslashes)
        return _Structure(
            _without(delimiters, active + 1), _without(newlines, active + 1), escapes=active
        )

    def _csv_structure(
        self, data: bytes, array: npt.NDArray[np.uint8], delimiters: Positions, newlines: Positions
    ) -> _Structure:
        if self._quote not in data:
            return _Structure(delimiters, newlines)
        if self._escape == self._quote:
            quotes = np.flatnonzero(array == self._quote)
            literal = np.zeros(len(quotes), dtype=bool)
            # A quote that reopens right behind the one that closed is a quote in the value.
            literal[2::2] = quotes[2::2] == quotes[1:-1:2] + 1
            toggles, dropped = quotes, quotes[~literal]
        else:
            toggles, dropped = self._walk_quotes(array)
        inside_delimiter = np.searchsorted(toggles, delimiters) % 2 == 1
        inside_newline = np.searchsorted(toggles, newlines) % 2 == 1
        return _Structure(
            delimiters[~inside_delimiter],
            newlines[~inside_newline],
            quotes=toggles,
            dropped=dropped,
            open_quote=len(toggles) % 2 == 1,
        )

    def _walk_quotes(self, array: npt.NDArray[np.uint8]) -> tuple[Positions, Positions]:
        """Quotes that toggle and bytes to drop, where ESCAPE is a character of its own."""
        marks = np.flatnonzero((array == self._quote) | (array == self._escape))
        toggles: list[int] = []
        dropped: list[int] = []
        skip = -1
        for mark in marks.tolist():
            if mark == skip:
                continue
            following = int(array[mark + 1]) if mark + 1 < len(array) else -1
            inside = len(toggles) % 2 == 1
            if array[mark] == self._escape and inside and following in (self._quote, self._escape):
                dropped.append(mark)
                skip = mark + 1
            elif array[mark] == self._quote:
                toggles.append(mark)
                dropped.append(mark)
        return np.array(toggles, dtype=np.int64), np.array(dropped, dtype=np.int64)

    def _block(self, data: bytes, structure: _Structure, newlines: Positions) -> Block:
        end = len(data)
        delimiters = structure.delimiters[structure.delimiters < end]
        breaks = np.sort(np.concatenate((delimiters, newlines)), kind="stable")
        row_starts = np.concatenate(([0], newlines[:-1] + 1))
        row_ends = self._row_ends(data, newlines, row_starts)
        if b"\r" in data and not self._carriage_returns:
            self._refuse_returns(data, structure, newlines, row_starts)
        self._check_counts(data, delimiters, newlines, row_starts)
        starts = np.concatenate(([0], breaks[:-1] + 1))
        ends = breaks.copy()
        width = len(self._columns)
        ends[width - 1 :: width] = row_ends
        quoted = _marked(structure.quotes, starts, ends)
        escaped = _marked(structure.escapes, starts, ends)
        fields = _fields(data, starts, ends, structure.dropped if quoted is not None else None)
        return Block(
            data, fields, width, len(newlines), quoted, escaped, row_starts, row_ends, self._line
        )

    def _row_ends(self, data: bytes, newlines: Positions, row_starts: Positions) -> Positions:
        """Where the rows' last fields end: before a carriage return, if lines end in one."""
        if b"\r" not in data:
            if self._carriage_returns:
                raise self._bad_row(data, row_starts, newlines, 0, *self._mixed_newline())
            self._carriage_returns = False
            return newlines
        array = np.frombuffer(data, dtype=np.uint8)
        before = array[np.maximum(newlines - 1, 0)] == _RETURN
        if self._carriage_returns is None:
            self._carriage_returns = bool(before[0])
        if self._carriage_returns:
            if not before.all():
                row = int(np.argmin(before))
                raise self._bad_row(data, row_starts, newlines, row, *self._mixed_newline())
            return newlines - 1
        return newlines

    def _refuse_returns(
        self, data: bytes, structure: _Structure, newlines: Positions, row_starts: Positions
    ) -> None:
        """Where lines end in newlines alone, a bare carriage return must be quoted or escaped."""
        returns = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == _RETURN)
        if self._is_csv:
            word, hint = "unquoted", "Use quoted CSV field to represent carriage return."
            if structure.quotes is not None:
                returns = returns[np.searchsorted(structure.quotes, returns) % 2 == 0]
        else:
            word, hint = "literal", 'Use "\\r" to represent carriage return.'
            if structure.escapes is not None:
                returns = _without(returns, structure.escapes + 1)
        if len(returns):
            row = int(np.searchsorted(newlines, returns[0]))
            message = f"{word} carriage return found in data"
            raise self._bad_row(data, row_starts, newlines, row, message, hint)

    def _mixed_newline(self) -> tuple[str, str]:
        if self._is_csv:
            return "unquoted newline found in data", "Use quoted CSV field to represent newline."
        return "literal newline found in data", 'Use "\\n" to represent newline.'

    def _check_counts(
        self, data: bytes, delimiters: Positions, newlines: Positions, row_starts: Positions
    ) -> None:
        """Every row has as many fields as there are columns."""
        width = len(self._columns)
        upto = np.searchsorted(delimiters, newlines)
        counts = np.diff(upto, prepend=0) + 1
        wrong = counts != width
        if not wrong.any():
            return
        row = int(np.argmax(wrong))
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


@dataclass(frozen=True, slots=True)
class _Structure:
    """Where a block's fields and rows end, and which bytes are not part of values."""

    delimiters: Positions
    newlines: Positions
    quotes: Positions | None = None
    dropped: Positions | None = None
    escapes: Positions | None = None
    open_quote: bool = False


def _active_escapes(backslashes: Positions) -> Positions:
    """The backslashes that escape the next byte: every other one of each run."""
    starts_run = np.diff(backslashes, prepend=-2) != 1
    run_starts = np.flatnonzero(starts_run)
    place_in_run = np.arange(len(backslashes)) - run_starts[np.cumsum(starts_run) - 1]
    active: Positions = backslashes[place_in_run % 2 == 0]
    return active


def _without(positions: Positions, excluded: Positions) -> Positions:
    kept: Positions = positions[~np.isin(positions, excluded, assume_unique=True)]
    return kept


def _marked(marks: Positions | None, starts: Positions, ends: Positions) -> Mask | None:
    """Of each field, whether it holds one of the marked bytes."""
    if marks is None or not len(marks):
        return None
    found: Mask = np.searchsorted(marks, starts) < np.searchsorted(marks, ends)
    return found


def _fields(
    data: bytes, starts: Positions, ends: Positions, dropped: Positions | None
) -> pa.BinaryArray:
    """Fields and what lies between them, alternating: one array over the one buffer."""
    if dropped is not None and len(dropped):
        starts = starts - np.searchsorted(dropped, starts)
        ends = ends - np.searchsorted(dropped, ends)
        array = np.frombuffer(data, dtype=np.uint8)
        data = np.delete(array, dropped[dropped < len(array)]).tobytes()
    offsets = np.empty(2 * len(starts) + 1, dtype=np.int32)
    offsets[0:-1:2] = starts
    offsets[1::2] = ends
    offsets[-1] = ends[-1] if len(ends) else 0
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.BinaryArray.from_buffers(pa.binary(), 2 * len(starts), buffers)
