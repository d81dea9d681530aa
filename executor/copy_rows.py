"""One COPY's bytes to checked batches: split, read, complete, filter, check.

`TextRows` does text and csv, `executor.copy_binary` the binary format; each gives `ReadBatch`es of
the columns COPY names. Errors carry the line they are in, and of several the one PostgreSQL, which
goes row by row, would meet first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import Column, Table
from cluster.errors import (
    BadCopyFileFormat,
    DqeError,
    InvalidColumnReference,
    ProgramLimitExceeded,
    UndefinedColumn,
)
from executor.copy_quick import QuickBlock, QuickSplitter
from executor.copy_split import BadStructure, Block, Splitter, shown
from executor.copy_values import (
    BadValue,
    ColumnReader,
    as_texts,
    checked_utf8,
    unescaped,
    with_nulls,
)
from executor.writes_rows import RowEvaluator
from planner.statements import CopyFormat, CopyOptions
from planner.write_plan import CopyFromPlan

# Parsed at a time: enough that numpy's fixed costs vanish, little enough for the caches.
BLOCK_BYTES = 4 * 1024 * 1024
# A row must end within so much.
MAX_ROW_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Values of COPY's columns. `error` comes after these rows: they are to be checked first.

    `block` tells of each row where it stands; None where rows have no lines.
    """

    arrays: list[pa.Array]
    rows: int
    block: Block | QuickBlock | None = None
    error: DqeError | None = None
    first_row: int = 1

    def where(self, table: str, row: int) -> str:
        """CONTEXT for an error in a row."""
        if self.block is None:
            return f"COPY {table}, line {self.first_row + row}"
        return f'COPY {table}, line {self.block.line_of(row)}: "{self.block.line_text(row)}"'


class TextRows:
    """Text and csv. `feed` and `finish` block: they belong on a thread."""

    def __init__(
        self,
        plan: CopyFromPlan,
        options: CopyOptions,
        evaluator: RowEvaluator,
        time_zone: str,
    ) -> None:
        self._table = plan.table
        self._columns = [plan.table.column(c) for c in plan.columns]
        self._options = options
        self._readers = [
            ColumnReader(column, cast, evaluator, time_zone)
            for column, cast in zip(self._columns, plan.casts, strict=True)
        ]
        names = [column.name for column in self._columns]
        self._splitter = Splitter(plan.table.name, names, options)
        self._quick = QuickSplitter(plan.table.name, names, options)
        self._header_due = options.header != "no"
        self._left = b""

    def feed(self, data: bytes) -> Iterator[ReadBatch]:
        """The rows that are complete with this data."""
        return self._take(self._left + data, last=False)

    def finish(self) -> Iterator[ReadBatch]:
        """The rows in what is left."""
        return self._take(self._left, last=True)

    def _take(self, data: bytes, *, last: bool) -> Iterator[ReadBatch]:
        data = self._without_header(data, last)
        if self._splitter.ended or self._header_due:
            self._left = data if self._header_due else b""
            return
        quick = self._read_quickly(data)
        if quick is not None:
            batch, size_bytes = quick
            yield batch
            data = data[size_bytes:]
            if not last:
                self._left = data
                return
        try:
            block, self._left = self._splitter.split(data, last)
        except BadStructure as bad:
            yield from self._before(data, bad)
            return
        if len(self._left) > MAX_ROW_BYTES:
            raise ProgramLimitExceeded(f"a row takes more than {MAX_ROW_BYTES} bytes")
        if block is not None:
            yield self._read(block)

    def _read_quickly(self, data: bytes) -> tuple[ReadBatch, int] | None:
        """The whole rows of the data, if nothing in them is out of the ordinary, and their
        size in bytes."""
        split = self._quick.split(data, self._splitter.line)
        if split is None:
            return None
        block, texts = split
        arrays, found = self._convert(texts)
        if found:
            return None
        self._splitter.pass_lines(block.data.count(b"\n"))
        return ReadBatch(arrays, block.rows, block), len(block.data)

    def _before(self, data: bytes, bad: BadStructure) -> Iterator[ReadBatch]:
        """The rows before a row that cannot be split, and then its error."""
        if bad.offset:
            block, _ = self._splitter.split(data[: bad.offset], False)
            if block is not None:
                yield self._read(block)
        yield ReadBatch([], 0, error=bad.error)

    def _without_header(self, data: bytes, last: bool) -> bytes:
        if not self._header_due:
            return data
        if last and data and not data.endswith(b"\n"):
            data += b"\n"
        taken = self._splitter.skip_line(data)
        if taken is None:
            self._header_due = not (last and not data)
            return data
        names, rest = taken
        self._header_due = False
        if self._options.header == "match":
            self._match_header([name.decode(errors="replace") for name in names])
        return rest

    def _match_header(self, names: Sequence[str]) -> None:
        wanted = [column.name for column in self._columns]
        where = f"COPY {self._table.name}, line 1"
        if len(names) != len(wanted):
            raise BadCopyFileFormat(
                f"wrong number of fields in header line: got {len(names)}, expected {len(wanted)}",
                where=where,
            )
        for place, (name, column) in enumerate(zip(names, wanted, strict=True)):
            if name != column:
                raise BadCopyFileFormat(
                    f"column name mismatch in header line field {place + 1}: got"
                    f' "{name}", expected "{column}"',
                    where=where,
                )

    # -- values

    def _read(self, block: Block) -> ReadBatch:
        self._check_encoding(block)
        texts = [self._texts(block, place) for place in range(block.columns)]
        arrays, found = self._convert(texts)
        if not found:
            return ReadBatch(arrays, block.rows, block)
        bad = min(found, key=lambda b: b.row)
        bad.error.where = self._value_context(block, bad.column, texts[bad.column], bad.row)
        arrays, _ = self._convert([text.slice(0, bad.row) for text in texts])
        return ReadBatch(arrays, bad.row, block, bad.error)

    def _check_encoding(self, block: Block) -> None:
        try:
            checked_utf8(block.data, "utf8")
        except DqeError as error:
            error.where = f"COPY {self._table.name}, line {block.first_line}"
            raise

    def _convert(self, texts: Sequence[pa.StringArray]) -> tuple[list[pa.Array], list[_Bad]]:
        arrays: list[pa.Array] = []
        found: list[_Bad] = []
        for place, (reader, column) in enumerate(zip(self._readers, texts, strict=True)):
            try:
                arrays.append(reader.read(column))
            except BadValue as bad:
                found.append(_Bad(bad.row, bad.error, place))
        return arrays, found

    def _value_context(self, block: Block, column: int, texts: pa.StringArray, row: int) -> str:
        value = texts[row].as_py()
        line = block.line_of(row)
        name = self._columns[column].name
        return f'COPY {self._table.name}, line {line}, column {name}: "{shown(value or "")}"'

    def _texts(self, block: Block, place: int) -> pa.StringArray:
        """One column's fields as text, NULLs found, escapes resolved."""
        texts = as_texts(block.column(place))
        options, column = self._options, self._columns[place]
        is_null = pc.equal(texts, options.null)
        if options.format is CopyFormat.TEXT:
            texts = with_nulls(texts, is_null)
            marked = block.marks(block.escaped, place)
            return texts if marked is None else unescaped(texts, marked)
        if _names(options.force_not_null, column):
            return texts
        quoted = block.marks(block.quoted, place)
        if quoted is not None and not _names(options.force_null, column):
            is_null = pc.and_not(is_null, pa.array(quoted))
        return with_nulls(texts, is_null)


class _Bad(BadValue):
    """A bad value with the place of its column."""

    def __init__(self, row: int, error: DqeError, column: int) -> None:
        super().__init__(row, error)
        self.column = column


def _names(columns: tuple[str, ...] | None, column: Column) -> bool:
    return columns is not None and (columns == ("*",) or column.name in columns)


def check_option_columns(table: Table, columns: Sequence[Column], options: CopyOptions) -> None:
    """FORCE_NULL and FORCE_NOT_NULL name columns that COPY reads."""
    for option, names in (
        ("FORCE_NOT_NULL", options.force_not_null),
        ("FORCE_NULL", options.force_null),
        ("FORCE_QUOTE", options.force_quote),
    ):
        for name in names or ():
            if name == "*":
                continue
            if table.column_named(name) is None:
                raise UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')
            if name not in [column.name for column in columns]:
                raise InvalidColumnReference(f'{option} column "{name}" not referenced by COPY')
