"""SELECT, VALUES, TABLE and WITH: planned, run, and answered with rows.

The first batch is read before the answer is given out: a query that fails at once (a node
down, a tablet moved, a division by zero in the first rows) fails before the client has been
sent a row description, and the session may still plan it again (`executor.session`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pyarrow as pa

from cluster.errors import ResultTypeChanged
from executor.coordinator import QueryRun
from executor.execution import Execution, Result
from executor.formatting.text import text_column
from executor.locking import run_locking
from executor.plan_cache import Planned
from planner.binder import bind_query
from planner.bound import BoundQuery
from planner.context import PlannerContext
from planner.locking import locks_rows
from planner.optimizer import plan_query
from planner.plan import QueryPlan, ResultColumn
from planner.statements import Query
from storage.types import TEXT, Kind, SqlType

# Longer texts are planned on a thread, so that other sessions of the node are served.
PLAN_INLINE_CHARACTERS = 4096


async def run_select(execution: Execution, statement: Query) -> Result:
    """Runs the query; its rows come from the result."""
    if locks_rows(statement.tree):
        return await run_locking(execution, statement)
    planned = await planned_select(execution, statement)
    run = await execution.run(planned.plan, planned.schemas)
    try:
        batches = run.batches()
        first = await anext(batches, None)
    except BaseException:
        await run.close()
        raise
    return _answer(run, first, batches)


def _answer(
    run: QueryRun, first: pa.RecordBatch | None, rest: AsyncIterator[pa.RecordBatch]
) -> Result:
    async def rows() -> AsyncIterator[pa.RecordBatch]:
        count = 0
        batch = first
        while batch is not None:
            count += batch.num_rows
            yield batch
            batch = await anext(rest, None)
        result.tag = f"SELECT {count}"

    result = Result("SELECT 0", run.columns, rows(), on_close=run.close)
    return result


async def plan_select(execution: Execution, statement: Query) -> QueryPlan:
    """The plan of the query with the statement's parameters."""
    return (await planned_select(execution, statement)).plan


async def planned_select(execution: Execution, statement: Query) -> Planned:
    """The same with what its runs have told."""
    if len(statement.text) <= PLAN_INLINE_CHARACTERS:
        return _planned(execution, statement)
    return await execution.services.runtime.run_blocking(_planned, execution, statement)


def _planned(execution: Execution, statement: Query) -> Planned:
    """Binds and plans, unless that was done before."""
    types, values = execution.parameter_types, execution.values

    def make(context: PlannerContext) -> QueryPlan:
        given = values if types else None
        return plan_query(
            bind_query(statement.tree, context, parameters=types, values=given), context
        )

    if execution.context.catalog is not execution.services.catalog.current:
        return Planned(make(execution.context))  # made for what a transaction alone sees
    plans = execution.coordinator.plans
    return plans.plan(statement.tree, statement.text, types, values, execution.context, make)


def describe(bound: BoundQuery) -> tuple[ResultColumn, ...]:
    """The columns as Describe tells them: what only DuckDB can type is text."""
    return tuple(
        replace(column, type=TEXT) if column.type.kind is Kind.ANY else column
        for column in bound.columns
    )


def shown_columns(
    columns: Sequence[ResultColumn] | None,
) -> Sequence[tuple[str, SqlType]] | None:
    """What a client is told of an answer's columns."""
    return None if columns is None else [(column.name, column.type) for column in columns]


def as_described(result: Result, described: Sequence[ResultColumn]) -> Result:
    """The answer in the types its client was told of before it ran.

    Only columns told as text can differ, those that DuckDB alone could type, and numerics in their
    digits; 0A000 where a definition has just changed others.
    """
    columns = result.columns
    assert columns is not None
    pairs = enumerate(zip(described, columns, strict=False))
    changed = [index for index, (told, real) in pairs if told.type != real.type]
    others = any(described[i].type.kind not in (Kind.TEXT, columns[i].type.kind) for i in changed)
    if others or len(described) != len(columns):
        raise ResultTypeChanged()
    if not changed:
        return result
    source = result.batches()

    async def rows() -> AsyncIterator[pa.RecordBatch]:
        async for batch in source:
            for index in changed:
                texts = text_column(batch.column(index), columns[index].type)
                batch = batch.set_column(index, batch.schema.names[index], texts)
            yield batch

    result.rows = rows()
    result.columns = tuple(described)
    return result
