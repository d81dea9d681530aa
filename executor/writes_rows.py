"""Rows about to be written: brought into the columns' types, checked, described when refused.

Constraints are tested a batch at a time: NOT NULL by counting, CHECK in DuckDB over the batch.
Of several violations the one in the first row is reported, as PostgreSQL, which goes row by
row, would: NOT NULL before CHECK, columns in their order, CHECKs by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import Column, Table
from cluster.errors import CheckViolation, DqeError, NotNullViolation
from executor.formatting.text import text_column
from planner.semantics.errors import translate_duckdb_error
from planner.write_plan import RowExpression, row_label
from storage.types import arrow_type

CursorFactory = Callable[[], duckdb.DuckDBPyConnection]

_BATCH_NAME = "@rows"
# What SQL for `RowEvaluator.query` calls the rows.
BATCH_SQL = f'"{_BATCH_NAME}"'
# PostgreSQL shows at most this much of each value of a failing row.
_SHOWN_CHARACTERS = 64


def conformed(array: pa.Array, column: Column) -> pa.Array:
    """The array in the Arrow type that rows of the column travel in."""
    wanted = arrow_type(column.type)
    if array.type == wanted:
        return array
    if isinstance(array.type, pa.Bool8Type):
        return pc.not_equal(array.storage, 0)
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    return array if array.type == wanted else array.cast(wanted)


def row_batch(columns: Sequence[Column], arrays: Sequence[pa.Array], rows: int) -> pa.RecordBatch:
    """A batch named as the table's columns; `rows` where there may be no column at all."""
    schema = pa.schema([(c.name, arrow_type(c.type)) for c in columns])
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, type=pa.struct([])))
    return pa.RecordBatch.from_arrays(list(arrays), schema=schema)


class RowEvaluator:
    """Expressions over batches, in DuckDB. One statement's; close it."""

    def __init__(self, open_cursor: CursorFactory) -> None:
        self._open_cursor = open_cursor
        self._cursor: duckdb.DuckDBPyConnection | None = None

    def evaluate(
        self, batch: pa.RecordBatch, expressions: Sequence[RowExpression]
    ) -> list[pa.Array]:
        """One array an expression, a value a row. Blocks; errors are PostgreSQL's."""
        items = ", ".join(f"({e.sql}) AS e{place}" for place, e in enumerate(expressions))
        labels = [row_label(name) for name in batch.schema.names]
        result = self.query(batch.rename_columns(labels), f"SELECT {items} FROM {BATCH_SQL}")
        return [_whole(result.column(place)) for place in range(result.num_columns)]

    def query(self, rows: pa.RecordBatch | pa.Table, sql: str) -> pa.Table:
        """What a query over the rows, `BATCH_SQL`, gives. Blocks; errors are PostgreSQL's."""
        if self._cursor is None:
            self._cursor = self._open_cursor()
        self._cursor.register(_BATCH_NAME, rows)
        try:
            return self._cursor.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise translate_duckdb_error(error) from error
        finally:
            self._cursor.unregister(_BATCH_NAME)

    def close(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


class RowChecker:
    """NOT NULL and CHECK of one table, for rows that hold some or all of its columns."""

    def __init__(
        self, table: Table, checks: Sequence[RowExpression], evaluator: RowEvaluator
    ) -> None:
        self._table = table
        self._checks = tuple(checks)
        self._evaluator = evaluator

    @property
    def blocks(self) -> bool:
        """Whether `check` runs DuckDB, and so belongs on a thread."""
        return bool(self._checks)

    def check(self, batch: pa.RecordBatch) -> None:
        """Raises 23502 or 23514 for the first row that breaks a constraint."""
        found = self.violation(batch)
        if found is not None:
            raise found[1]

    def violation(self, batch: pa.RecordBatch) -> tuple[int, DqeError] | None:
        """The first row that breaks a constraint, and the error for it."""
        found = [*self._null_violations(batch), *self._check_violations(batch)]
        if not found:
            return None
        row, error = min(found, key=lambda pair: pair[0])
        error.detail = self._failing_row(batch, row)
        return row, error

    def _null_violations(self, batch: pa.RecordBatch) -> list[tuple[int, DqeError]]:
        found: list[tuple[int, DqeError]] = []
        for column in self._table.visible_columns:
            if not column.not_null or column.name not in batch.schema.names:
                continue
            array = batch.column(column.name)
            if array.null_count:
                row = pc.index(pc.is_null(array), True).as_py()
                found.append((row, _null_violation(self._table, column)))
        return found

    def _check_violations(self, batch: pa.RecordBatch) -> list[tuple[int, DqeError]]:
        if not self._checks or not batch.num_rows:
            return []
        found: list[tuple[int, DqeError]] = []
        results = self._evaluator.evaluate(batch, self._checks)
        for check, result in zip(self._checks, results, strict=True):
            row = pc.index(_as_bool(result), False).as_py()
            if row >= 0:
                found.append((row, _check_violation(self._table, check.name)))
        return found

    def _failing_row(self, batch: pa.RecordBatch, row: int) -> str | None:
        """DETAIL; None where not all of the row is at hand."""
        columns = self._table.visible_columns
        if any(column.name not in batch.schema.names for column in columns):
            return None
        values = []
        for column in columns:
            text = text_column(batch.column(column.name).slice(row, 1), column.type)[0].as_py()
            values.append("null" if text is None else _shortened(text))
        return f"Failing row contains ({', '.join(values)})."


def true_rows(array: pa.Array) -> pa.Array:
    """A mask of where a condition holds; unknown is no."""
    return pc.fill_null(_as_bool(array), False)


def _as_bool(array: pa.Array) -> pa.Array:
    if isinstance(array.type, pa.Bool8Type):
        return pc.not_equal(array.storage, 0)
    return array


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _null_violation(table: Table, column: Column) -> NotNullViolation:
    return NotNullViolation(
        f'null value in column "{column.name}" of relation "{table.name}" violates not-null'
        " constraint",
        table=table.name,
        column=column.name,
    )


def _check_violation(table: Table, constraint: str) -> CheckViolation:
    return CheckViolation(
        f'new row for relation "{table.name}" violates check constraint "{constraint}"',
        table=table.name,
        constraint=constraint,
    )
