"""Defaults of columns that a row source does not give, and generated columns.

What is the same for all rows is computed once; what differs (random(), gen_random_uuid()) is
computed for as many rows as there are, on a thread, because a call of nextval() in it waits
for the catalog. A sequence that is a column's own is asked directly.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from catalog.model import ColumnId, Table
from executor.execution import Execution
from executor.writes_rows import RowEvaluator, conformed
from planner.binder.sequence_calls import session_token
from planner.plan import QueryPlan
from planner.write_plan import DefaultColumns, RowExpression


class DefaultValues:
    """One statement's."""

    def __init__(self, execution: Execution, table: Table, defaults: DefaultColumns | None) -> None:
        self._execution = execution
        self._table = table
        self._defaults = defaults
        self._same: list[pa.Array] | None = None

    async def values(self, rows: int) -> dict[ColumnId, pa.Array]:
        """Arrays of so many values, by column."""
        defaults = self._defaults
        if defaults is None or not rows:
            return {}
        found: dict[ColumnId, pa.Array] = {}
        if defaults.query is not None:
            if self._same is None:
                self._same = await self._run(defaults.query, defaults.columns)
            same = [pa.repeat(column[0], rows) for column in self._same]
            found |= zip(defaults.columns, same, strict=True)
        if defaults.volatile:
            runtime = self._execution.services.runtime
            arrays = await runtime.run_blocking(self._computed, rows)
            found |= zip((c for c, _ in defaults.volatile), arrays, strict=True)
        for column_id, sequence_id in defaults.sequences:
            sequences = self._execution.services.sequences
            assert sequences is not None
            token = session_token(self._execution.context)
            numbers = await sequences.next_numbers(token, sequence_id, rows)
            found[column_id] = conformed(pa.array(numbers), self._table.column(column_id))
        return found

    def _computed(self, rows: int) -> list[pa.Array]:
        assert self._defaults is not None
        columns = [self._table.column(c) for c, _ in self._defaults.volatile]
        expressions = [expression for _, expression in self._defaults.volatile]
        counted = pa.RecordBatch.from_arrays([pa.array(range(rows))], names=["row"])
        evaluator = RowEvaluator(self._execution.services.storage.duckdb.cursor)
        try:
            arrays = evaluator.evaluate(counted, expressions)
        finally:
            evaluator.close()
        return [conformed(a, column) for a, column in zip(arrays, columns, strict=True)]

    async def _run(self, query: QueryPlan, ids: Sequence[ColumnId]) -> list[pa.Array]:
        run = await self._execution.run(query)
        try:
            batches = [batch async for batch in run.batches()]
        finally:
            await run.close()
        columns = [self._table.column(c) for c in ids]
        (batch,) = [batch for batch in batches if batch.num_rows]
        return [conformed(batch.column(place), c) for place, c in enumerate(columns)]


def with_generated(
    batch: pa.RecordBatch,
    table: Table,
    expressions: Sequence[RowExpression],
    evaluator: RowEvaluator,
) -> pa.RecordBatch:
    """The rows with their generated columns computed anew. Blocks."""
    if not expressions or not batch.num_rows:
        return batch
    arrays = evaluator.evaluate(batch, expressions)
    for expression, array in zip(expressions, arrays, strict=True):
        column = table.column_named(expression.name)
        assert column is not None
        place = batch.schema.get_field_index(expression.name)
        batch = batch.set_column(place, batch.schema.field(place), conformed(array, column))
    return batch
