"""Rows to COPY's text, csv and binary: a batch at a time, whole columns at a time.

Values become text as they do for clients (`executor.formatting.text`), NULL becomes the null
string; then text escapes what has a meaning in the format, and csv quotes what would be read as
something else (PostgreSQL manual, COPY).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from executor.copy_binary import HEADER, TRAILER
from executor.copy_binary_write import joined, write_rows
from executor.formatting.text import TextSettings, text_column
from planner.plan import ResultColumn
from planner.statements import CopyFormat, CopyOptions

# What text escapes, the backslash first.
_ESCAPED = (
    ("\\", "\\\\"), ("\b", "\\b"), ("\f", "\\f"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"),
    ("\v", "\\v"),
)  # fmt: skip
_NEEDS_ESCAPE = "[\\\\\b\f\n\r\t\v]"
_EMPTY = pa.scalar("", pa.string())


class RowWriter:
    """Writes one COPY TO; `columns` are those of its rows."""

    def __init__(
        self, columns: Sequence[ResultColumn], options: CopyOptions, settings: TextSettings
    ) -> None:
        self._columns = tuple(columns)
        self._types = [column.type for column in columns]
        self._options = options
        self._settings = settings
        self._is_csv = options.format is CopyFormat.CSV

    def head(self) -> bytes:
        """What comes before the first row."""
        if self._options.format is CopyFormat.BINARY:
            return HEADER
        if self._options.header == "no":
            return b""
        names = pa.RecordBatch.from_arrays(
            [pa.array([column.name]) for column in self._columns],
            names=[f"n{place}" for place in range(len(self._columns))],
        )
        fields = [self._field(c, place, False) for place, c in enumerate(names.columns)]
        return joined(self._lines(fields)) if fields else b"\n"

    def tail(self) -> bytes:
        return TRAILER if self._options.format is CopyFormat.BINARY else b""

    def rows(self, batch: pa.RecordBatch) -> pa.BinaryArray:
        """A batch's rows as bytes, an element a row. Blocks for as long as the batch is large."""
        if self._options.format is CopyFormat.BINARY:
            return write_rows(batch, self._types)
        texts = [
            text_column(column, sql_type, self._settings)
            for column, sql_type in zip(batch.columns, self._types, strict=True)
        ]
        fields = [self._field(text, place, True) for place, text in enumerate(texts)]
        return self._lines(fields) if fields else pa.array([b"\n"] * batch.num_rows, pa.binary())

    def _field(self, texts: pa.StringArray, place: int, may_force: bool) -> pa.StringArray:
        written = self._quoted(texts, place, may_force) if self._is_csv else self._escaped(texts)
        return pc.fill_null(written, self._options.null)

    def _escaped(self, texts: pa.StringArray) -> pa.StringArray:
        delimiter = self._options.delimiter
        if _any(pc.match_substring_regex(texts, _NEEDS_ESCAPE)):
            for plain, escaped in _ESCAPED:
                texts = pc.replace_substring(texts, plain, escaped)
        if delimiter != "\t" and _any(pc.match_substring(texts, delimiter)):
            texts = pc.replace_substring(texts, delimiter, "\\" + delimiter)
        return texts

    def _quoted(self, texts: pa.StringArray, place: int, may_force: bool) -> pa.StringArray:
        options = self._options
        if may_force and self._is_forced(place):
            needed = pc.is_valid(texts)
        else:
            marks = "".join(_in_class(mark) for mark in (options.delimiter, options.quote))
            special = f"[{marks}\r\n]"
            needed = pc.or_(pc.match_substring_regex(texts, special), pc.equal(texts, options.null))
            if len(self._columns) == 1:
                needed = pc.or_(needed, pc.equal(texts, "\\."))
        if not _any(needed):
            return texts
        inner = pc.replace_substring(texts, options.escape, options.escape * 2)
        if options.quote != options.escape:
            inner = pc.replace_substring(inner, options.quote, options.escape + options.quote)
        quote = pa.scalar(options.quote, pa.string())
        return pc.if_else(needed, pc.binary_join_element_wise(quote, inner, quote, _EMPTY), texts)

    def _is_forced(self, place: int) -> bool:
        forced = self._options.force_quote
        return forced is not None and (forced == ("*",) or self._columns[place].name in forced)

    def _lines(self, fields: list[pa.StringArray]) -> pa.BinaryArray:
        last = pc.binary_join_element_wise(fields[-1], pa.scalar("\n", pa.string()), _EMPTY)
        delimiter = pa.scalar(self._options.delimiter, pa.string())
        lines = last
        if len(fields) > 1:
            lines = pc.binary_join_element_wise(*fields[:-1], last, delimiter)
        if self._options.encoding != "utf8":
            encoding = self._options.encoding
            encoded = [line.encode(encoding, errors="replace") for line in lines.to_pylist()]
            return pa.array(encoded, pa.binary())
        return lines.cast(pa.binary())


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask).as_py())


def _in_class(character: str) -> str:
    return "\\" + character if not character.isalnum() else character


class CopyOutput:
    """COPY TO STDOUT under way (`executor.execution.CopyOut`).

    Clients expect a row a message (manual 54.2.6), and of binary the header in front of the
    first.
    """

    def __init__(
        self,
        writer: RowWriter,
        batches: AsyncIterator[pa.RecordBatch],
        *,
        binary: bool,
        column_count: int,
    ) -> None:
        self._writer = writer
        self._batches = batches
        self.binary = binary
        self.column_count = column_count
        self.rows = 0
        self.on_end: Callable[[int], None] = lambda rows: None

    async def messages(self) -> AsyncIterator[pa.BinaryArray]:
        """The bytes: an array a batch, an element a row."""
        head = self._writer.head()
        if head and not self.binary:
            yield pa.array([head], pa.binary())
            head = b""
        async for batch in self._batches:
            if not batch.num_rows:
                continue
            self.rows += batch.num_rows
            rows = self._writer.rows(batch)
            if head:
                first = pa.array([head + rows[0].as_py()], pa.binary())
                head, rows = b"", pa.concat_arrays([first, rows.slice(1)])
            yield rows
        if end := head + self._writer.tail():
            yield pa.array([end], pa.binary())
        self.on_end(self.rows)
