"""The common case of COPY's text and csv, split by Arrow's csv reader instead of numpy.

Arrow's reader splits a block several times faster, but means other things by odd input. So a
block goes through it only when the two surely agree:

- text: no backslash in the block, so no escapes and no NULLs;
- csv: quote and escape are one character, NULL is the empty field, nothing is forced, and the
  quotes of the block come in pairs: the first behind a separator, the second before one, none
  doubled;
- no carriage return and no zero byte anywhere.

Whatever else is wrong (a field too many, bytes that are no UTF-8, a value that does not
convert) makes `split` or its caller give up, and the exact splitter says what and where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from pyarrow import csv

from executor.copy_split import Block, Splitter
from planner.statements import CopyFormat, CopyOptions

# Newlines inside quotes looked past for the end of the last whole row.
_NEWLINES_TRIED = 64
_NEWLINE = ord("\n")


@dataclass(frozen=True)
class QuickBlock:
    """Rows split quickly; where they stand is found out only when an error asks."""

    data: bytes
    rows: int
    first_line: int
    table: str
    columns: tuple[str, ...]
    options: CopyOptions

    @cached_property
    def _exact(self) -> Block:
        splitter = Splitter(self.table, self.columns, self.options)
        splitter.pass_lines(self.first_line - 1)
        block, _ = splitter.split(self.data, False)
        assert block is not None
        assert block.rows == self.rows
        return block

    def line_of(self, row: int) -> int:
        """The number of the last physical line of a row."""
        return self._exact.line_of(row)

    def line_text(self, row: int) -> str:
        """The row as it stands in the data, cut to what PostgreSQL shows."""
        return self._exact.line_text(row)


class QuickSplitter:
    """Splits blocks of one COPY where that is safe."""

    def __init__(self, table: str, columns: Sequence[str], options: CopyOptions) -> None:
        self._table = table
        self._columns = tuple(columns)
        self._options = options
        self._is_csv = options.format is CopyFormat.CSV
        self._usable = not self._is_csv or (
            options.quote == options.escape
            and options.null == ""
            and options.force_null is None
            and options.force_not_null is None
        )
        self._delimiter = ord(options.delimiter)
        self._quote = options.quote.encode()

    def split(self, data: bytes, first_line: int) -> tuple[QuickBlock, list[pa.Array]] | None:
        """The whole rows of the data and their columns as text, or None where it is not safe."""
        if not self._usable or b"\r" in data or b"\0" in data:
            return None
        if not self._is_csv and b"\\" in data:
            return None
        end = self._whole_rows(data)
        if not end:
            return None
        rows = data[:end]
        # To Arrow an empty line is a row of NULLs, however many columns there are.
        if len(self._columns) > 1 and (b"\n\n" in rows or rows.startswith(b"\n")):
            return None
        quoted = self._is_csv and self._quote in rows
        if quoted and not self._quotes_are_plain(rows):
            return None
        try:
            table = self._parsed(rows, quoted)
        except pa.ArrowInvalid:
            return None
        columns = [column.combine_chunks() for column in table.columns]
        block = QuickBlock(
            rows, table.num_rows, first_line, self._table, self._columns, self._options
        )
        return block, columns

    def _whole_rows(self, data: bytes) -> int:
        """Where the last row that is surely whole ends, 0 if there is none."""
        end = data.rfind(b"\n") + 1
        if not self._is_csv:
            return end
        quotes = data.count(self._quote, 0, end)
        for _ in range(_NEWLINES_TRIED):
            if quotes % 2 == 0:
                return end
            before = data.rfind(b"\n", 0, end - 1) + 1
            quotes -= data.count(self._quote, before, end)
            end = before
        return 0

    def _quotes_are_plain(self, rows: bytes) -> bool:
        array = np.frombuffer(rows, np.uint8)
        places = np.flatnonzero(array == self._quote[0])
        opening, closing = places[0::2], places[1::2]
        if len(opening) != len(closing):
            return False
        before = array[np.maximum(opening - 1, 0)]
        starts = (before == self._delimiter) | (before == _NEWLINE) | (opening == 0)
        # The data end with a newline, so every closing quote has a byte behind it.
        behind = array[closing + 1]
        ends = (behind == self._delimiter) | (behind == _NEWLINE)
        return bool(starts.all() and ends.all())

    def _parsed(self, rows: bytes, quoted: bool) -> pa.Table:
        return csv.read_csv(
            pa.BufferReader(rows),
            read_options=csv.ReadOptions(
                column_names=self._columns, use_threads=False, block_size=len(rows) + 1
            ),
            parse_options=csv.ParseOptions(
                delimiter=chr(self._delimiter),
                quote_char=self._options.quote if quoted else False,
                double_quote=False,
                newlines_in_values=quoted,
                ignore_empty_lines=False,
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(self._columns, pa.string()),
                null_values=[""] if self._is_csv else [],
                strings_can_be_null=self._is_csv,
                quoted_strings_can_be_null=False,
            ),
        )
