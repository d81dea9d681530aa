"""What a query by an index answers, from the rows that its tablets gave.

    rows of each fragment -> those that meet the other conditions -> merged in the order asked for,
    as many as are -> columns, or expressions over them
                   -> or brought down to one row of aggregates

All of it is of at most some thousand rows (`storage.index_reads`). Few of them are shown as plain
values, to a short statement (`executor.quick_statements`); a query that has shown many is left to
batches from then on.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from decimal import Decimal
from functools import reduce
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog.fragment_schemas import store_name
from catalog.model import Column
from executor.execution import Result
from executor.numeric_division import divide
from executor.point_plans import Computer
from planner.context import PlannerContext
from planner.datum import Datum
from planner.index_aggregates import Aggregate, Aggregates
from planner.index_reads import IndexRead
from planner.plan import ResultColumn
from planner.row_casts import parameter_value
from planner.row_expressions import RowFunction, row_function
from planner.semantics.environment import Environment
from storage.decimals import EXACT, shifted
from storage.row_tables import RowTables, StoredRow
from storage.row_values import encoding_of
from storage.types import Kind, SqlType

# More of them are written faster by whole columns.
FEW_ROWS = 64


class IndexAnswer:
    """How one query's rows are answered, whatever its parameters. `shows_few` as long as no
    execution has shown more, and no average is shown, whose digits only batches have."""

    def __init__(self, read: IndexRead, tables: RowTables, context: PlannerContext) -> None:
        self.read = read
        self.tables = tables
        sums = read.aggregates
        self.shows_few = sums is None or not any(isinstance(of, int) for of in sums.outputs)
        # What a layer above keeps with it.
        self.kept: dict[Hashable, Any] = {}
        self._readers = [_shown(tables, read.table.column(column_id)) for column_id in read.wanted]
        self._computer = None if read.computed is None else Computer(read.computed, context)
        self._sums = None if read.aggregates is None else Sums(read.aggregates, context)

    @property
    def columns(self) -> tuple[ResultColumn, ...]:
        """What is shown."""
        return self.read.columns

    def result(self, found: Sequence[Sequence[StoredRow]], values: Sequence[Datum]) -> Result:
        """The answer. Raises what computing it raises, `NotByRow` included."""
        read, found = self.read, self._meeting(found, values)
        if self._is_computed:
            shown = self._computed(found, values)
            return result_of(read.columns, batch_of(shown, read.columns), len(shown))
        rows = list(self._merged(found))
        return result_of(read.columns, self._columns(rows), len(rows))

    def plain(
        self, found: Sequence[Sequence[StoredRow]], values: Sequence[Datum]
    ) -> list[list[Any]]:
        """The same as plain values (`storage.row_values`), char(n) with its padding."""
        found = self._meeting(found, values)
        if self._is_computed:
            shown = self._computed(found, values)
        else:
            shown = [[of(row) for of in self._readers] for row in self._merged(found)]
        self.shows_few = self.shows_few and len(shown) <= FEW_ROWS
        return shown

    @property
    def _is_computed(self) -> bool:
        return self._sums is not None or bool(self._computer and self._computer.outputs)

    def _meeting(
        self, found: Sequence[Sequence[StoredRow]], values: Sequence[Datum]
    ) -> Sequence[Sequence[StoredRow]]:
        computer = self._computer
        if computer is None or not computer.conditions:
            return found
        given = computer.values(values)
        return [[row for row in rows if self._meets(row, given)] for rows in found]

    def _computed(
        self, found: Sequence[Sequence[StoredRow]], values: Sequence[Datum]
    ) -> list[list[Any]]:
        """The rows of what is computed; an average is its text."""
        decode = self.tables.decode_row
        if self._sums is not None:
            return [self._sums.of([decode(row) for rows in found for row in rows], values)]
        assert self._computer is not None
        given, outputs = self._computer.values(values), self._computer.outputs
        rows = map(decode, self._merged(found))
        return [[output(plain, given) for output in outputs] for plain in rows]

    def _meets(self, row: StoredRow, given: Sequence[Any]) -> bool:
        assert self._computer is not None
        plain = self.tables.decode_row(row)
        return all(condition(plain, given) is True for condition in self._computer.conditions)

    def _merged(self, found: Sequence[Sequence[StoredRow]]) -> Iterable[StoredRow]:
        """The rows of all fragments, in their order if one is asked for, as many as are."""
        read = self.read
        if not read.order:
            return islice((row for rows in found for row in rows), read.limit)
        if not read.is_ordered:
            return islice(self._sorted([row for rows in found for row in rows]), read.limit)
        names = [store_name(column) for column in read.index[len(read.equal) :]]
        places = [self.tables.names.index(name) for name in names]

        def order(row: StoredRow) -> list[tuple[Any, ...]]:
            # Behind the columns that are asked for the order is the store's own, NULLs among them.
            return [(False,) if row[place] is None else (True, row[place]) for place in places]

        return islice(heapq.merge(*found, key=order, reverse=read.descending), read.limit)

    def _sorted(self, rows: list[StoredRow]) -> list[StoredRow]:
        """By what ORDER BY names last first: a sort keeps the order that it finds."""
        for column, descending, nulls_first in reversed(self.read.order):
            place = self.tables.names.index(store_name(column))
            # Reversed, what is marked as more comes first.
            more = nulls_first if descending else not nulls_first
            null = (1 if more else -1,)
            rows.sort(
                key=lambda row, p=place, n=null: n if row[p] is None else (0, row[p]),  # type: ignore[misc]
                reverse=descending,
            )
        return rows

    def _columns(self, rows: Sequence[StoredRow]) -> pa.RecordBatch:
        names = tuple(store_name(column) for column in self.read.wanted)
        places = [self.tables.names.index(name) for name in names]
        listed = [tuple(row[place] for place in places) for row in rows]
        batch = self.tables.to_batch(listed, names)
        for place, column_id in enumerate(self.read.wanted):
            found = self.read.table.column(column_id).type
            if found.kind is Kind.BPCHAR and found.length is not None:
                padded = pc.utf8_rpad(batch.column(place), found.length)
                batch = batch.set_column(place, batch.schema.names[place], padded)
        return batch


def _shown(tables: RowTables, column: Column) -> Callable[[StoredRow], Any]:
    """A stored row's column as the client is shown it."""
    name = store_name(column.id)
    place, encoding = tables.names.index(name), tables.encoding(name)
    decode, length = encoding.decode, column.type.length
    if column.type.kind is Kind.BPCHAR and length is not None:
        return lambda row: None if row[place] is None else decode(row[place]).ljust(length)
    if encoding.same:
        return operator.itemgetter(place)
    return lambda row: None if row[place] is None else decode(row[place])


class Sums:
    """A select list of aggregates."""

    def __init__(self, aggregates: Aggregates, context: PlannerContext) -> None:
        self._calls = [(call, _argument(call)) for call in aggregates.calls]
        self._outputs = [
            output if isinstance(output, int) else row_function(output)
            for output in aggregates.outputs
        ]
        self._types = aggregates.parameters
        self._environment = Environment(context)

    def of(self, rows: Sequence[Sequence[Any]], values: Sequence[Datum]) -> list[Any]:
        """The answer's row, over rows of plain values; an average is its text."""
        given = self._given(values)
        arguments = [[argument(row, given) for row in rows] for _, argument in self._calls]
        known = [
            _brought_down(call, [value for value in listed if value is not None])
            for (call, _), listed in zip(self._calls, arguments, strict=True)
        ]
        return [
            _average(known[output], arguments[output], self._calls[output][0].type)
            if isinstance(output, int)
            else output(known, given)
            for output in self._outputs
        ]

    def _given(self, values: Sequence[Datum]) -> list[Any]:
        used = zip(self._types, values, strict=False)
        return [
            None,
            *(None if t is None else parameter_value(v, t, self._environment) for t, v in used),
        ]


def _argument(call: Aggregate) -> RowFunction:
    if call.argument is None:
        return lambda row, values: True
    return row_function(call.argument)


def _brought_down(call: Aggregate, present: list[Any]) -> Any:
    """The aggregate's value; an average's is its sum."""
    if call.name == "count":
        return len(set(present)) if call.distinct else len(present)
    if not present:
        return None
    ends: dict[str, Callable[[list[Any]], Any]] = {"min": min, "max": max}
    return ends.get(call.name, _sum)(present)


def _sum(values: Sequence[Any]) -> Any:
    first, *others = values
    add = EXACT.add if isinstance(first, Decimal) else operator.add
    return reduce(add, others, first)


def _average(total: Any, values: Sequence[Any], sum_type: SqlType) -> str | None:
    if total is None:
        return None
    scale = sum_type.scale or 0
    unscaled = int(shifted(Decimal(total), scale))
    return divide(unscaled, scale, sum(value is not None for value in values), 0)


def batch_of(
    rows: Sequence[Sequence[Any]], columns: Sequence[ResultColumn]
) -> pa.RecordBatch | None:
    """Rows of plain values as a batch of these columns; None without any."""
    if not rows:
        return None
    arrays = []
    for column, plain in zip(columns, zip(*rows, strict=True), strict=True):
        if any(isinstance(value, str) for value in plain) and column.type.kind is Kind.NUMERIC:
            arrays.append(pa.array(plain, pa.string()))  # a quotient has digits of its own
            continue
        encoding = encoding_of(column.type)
        stored = [None if value is None else encoding.encode(value) for value in plain]
        arrays.append(encoding.to_arrow(stored))
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def result_of(
    columns: tuple[ResultColumn, ...], batch: pa.RecordBatch | None, count: int
) -> Result:
    """The answer that the batch is, of so many rows."""
    return Result(f"SELECT {count}", columns, _one(batch))


async def _one(batch: pa.RecordBatch | None) -> AsyncIterator[pa.RecordBatch]:
    if batch is not None and batch.num_rows:
        yield batch
