"""INSERT, UPDATE, DELETE and TRUNCATE: each one transaction over all the tablets it touches.

    row source (a query's batches) -> types, defaults -> constraints -> `TableWriter` -> commit

INSERT locks its keys when constraints are checked at its end. UPDATE and DELETE lock the rows
that they find, and take their newest versions (`executor.row_locking`). RETURNING is evaluated
over the rows as they are written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import pyarrow as pa

from catalog.model import Column, ColumnId, Table
from cluster.errors import ProgramLimitExceeded
from executor.coordinator import QueryRun
from executor.execution import Execution, Result
from executor.results import ResultShape
from executor.row_locking import LockedRows, RowLocker
from executor.transaction_driver import Transaction
from executor.transaction_faces import Changes
from executor.write_settings import WriteSettings
from executor.writes_defaults import DefaultValues, with_generated
from executor.writes_rows import RowChecker, RowEvaluator, conformed, row_batch
from executor.writes_stage import TableWriter, offloaded, tablets_of
from planner.plan import QueryPlan
from planner.statements import Delete, Insert, Truncate, Update
from planner.write_plan import (
    DeletePlan,
    InsertPlan,
    MergePlan,
    MergeStep,
    Returning,
    RowExpression,
    UpdatePlan,
)
from planner.writes import plan_delete, plan_insert, plan_truncate, plan_update
from storage.fragments import FragmentChange
from storage.locks import LockMode

PlanT = TypeVar("PlanT", InsertPlan, UpdatePlan, DeletePlan, MergePlan)

# RETURNING's rows wait here until the transaction has committed.
RETURNED_BYTES = 256 * 1024 * 1024


# ---------------------------------------------------------------------------------------
# Transactions of statements


@asynccontextmanager
async def transaction(execution: Execution) -> AsyncIterator[Changes]:
    """A transaction for one statement, aborted unless the block commits it; or the statement's
    part of the session's transaction."""
    if execution.transaction is not None:
        yield execution.transaction.statement()
        return
    settings = WriteSettings.of(execution.context.settings)
    async with Transaction.opened_by(execution.services, settings) as opened:
        yield opened


@asynccontextmanager
async def rows_of(execution: Execution, plan: QueryPlan) -> AsyncIterator[QueryRun]:
    """The plan's rows at the statement's snapshot; what runs of it ends with the block."""
    run = await execution.run(plan)
    try:
        yield run
    finally:
        await run.close()


class StatementRows:
    """What a statement's rows go through besides being written. Close it."""

    def __init__(self, execution: Execution, returning: Returning | None) -> None:
        self._runtime = execution.services.runtime
        self.evaluator = RowEvaluator(execution.services.storage.duckdb.cursor)
        self._returning = returning
        self._returned: list[pa.RecordBatch] = []
        self._returned_bytes = 0

    async def keep_returned(self, batch: pa.RecordBatch) -> None:
        """Evaluates RETURNING over whole rows."""
        if self._returning is None or not batch.num_rows:
            return
        if self._returning.waits:
            found = await self._runtime.run_blocking(self._evaluate, batch)
        else:
            found = await offloaded(self._runtime, batch.num_rows, self._evaluate, batch)
        self._returned.append(found)
        self._returned_bytes += found.nbytes
        if self._returned_bytes > RETURNED_BYTES:
            raise ProgramLimitExceeded(
                "RETURNING gives too many rows",
                detail=f"They take more than {RETURNED_BYTES} bytes.",
            )

    def _evaluate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        assert self._returning is not None
        arrays = self.evaluator.evaluate(batch, self._returning.expressions)
        names = [expression.name for expression in self._returning.expressions]
        operands = pa.RecordBatch.from_arrays(arrays, names=names)
        return ResultShape(self._returning.columns, operands.schema).apply(operands)

    def result(self, tag: str) -> Result:
        """The statement's answer, with RETURNING's rows if it has any."""
        if self._returning is None:
            return Result(tag)
        return Result(tag, self._returning.columns, _each(self._returned))

    def close(self) -> None:
        self.evaluator.close()


async def run_change(
    execution: Execution,
    plan: PlanT,
    change_rows: Callable[[Execution, Changes, PlanT, StatementRows], Awaitable[int]],
    command: str,
    *,
    checks: bool = True,
) -> Result:
    """Has rows changed as the plan says, and answers with how many and with RETURNING. `checks`:
    unique constraints are looked at before a statement commits by itself."""
    rows = StatementRows(execution, plan.returning)
    try:
        async with transaction(execution) as opened:
            count = await change_rows(execution, opened, plan, rows)
            await opened.commit(execution.timestamp, checks=checks)
        return rows.result(f"{command} {count}")
    finally:
        rows.close()


async def _each(batches: Sequence[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
    for batch in batches:
        yield batch


# ---------------------------------------------------------------------------------------
# INSERT


async def run_insert(execution: Execution, statement: Insert) -> Result:
    """INSERT; the tag is PostgreSQL's `INSERT 0 n`."""
    plan = plan_insert(
        statement,
        execution.context,
        parameters=execution.parameter_types,
        values=execution.values,
    )
    return await run_change(
        execution, plan, _insert_source, "INSERT 0", checks=has_unique(plan.table)
    )


async def _insert_source(
    execution: Execution, opened: Changes, plan: InsertPlan, rows: StatementRows
) -> int:
    async with rows_of(execution, plan.source) as run:
        return await insert_rows(execution, opened, plan, run.batches(), rows)


async def insert_rows(
    execution: Execution,
    opened: Changes,
    plan: InsertPlan,
    batches: AsyncIterator[pa.RecordBatch],
    rows: StatementRows,
) -> int:
    """Stages the source's rows, completed and checked; how many."""
    table = plan.table
    runtime = execution.services.runtime
    checker = RowChecker(table, plan.checks, rows.evaluator)
    writer = TableWriter(runtime, table, opened, execution.services.ids)
    async for whole in completed_batches(execution, plan, batches, rows.evaluator):
        await check_rows(execution, checker, whole)
        await writer.insert(whole)
        await rows.keep_returned(whole)
    await writer.finish()
    return writer.rows


async def completed_batches(
    execution: Execution,
    plan: InsertPlan,
    batches: AsyncIterator[pa.RecordBatch],
    evaluator: RowEvaluator,
) -> AsyncIterator[pa.RecordBatch]:
    """The source's rows with all of their columns."""
    defaults = DefaultValues(execution, plan.table, plan.defaults)
    async for batch in batches:
        given = dict(zip(plan.columns, batch.columns, strict=True))
        given |= await defaults.values(batch.num_rows)
        whole = completed(plan.table, given, batch.num_rows)
        yield await generated_anew(execution, whole, plan.table, plan.generated, evaluator)


async def generated_anew(
    execution: Execution,
    rows: pa.RecordBatch,
    table: Table,
    expressions: Sequence[RowExpression],
    evaluator: RowEvaluator,
) -> pa.RecordBatch:
    """The rows with their generated columns, on a thread where there are any."""
    if not expressions:
        return rows
    return await execution.services.runtime.run_blocking(
        with_generated, rows, table, expressions, evaluator
    )


def completed(table: Table, given: dict[ColumnId, pa.Array], rows: int) -> pa.RecordBatch:
    """Whole rows in the columns' types; what is not given is NULL."""
    columns = table.visible_columns
    arrays = [conformed(given[c.id] if c.id in given else pa.nulls(rows), c) for c in columns]
    return row_batch(columns, arrays, rows)


async def check_rows(execution: Execution, checker: RowChecker, batch: pa.RecordBatch) -> None:
    """NOT NULL and CHECK, on a thread where they need DuckDB."""
    if checker.blocks:
        await execution.services.runtime.run_blocking(checker.check, batch)
    else:
        checker.check(batch)


def has_unique(table: Table) -> bool:
    """Whether committing new rows checks constraints under locks."""
    return bool(table.unique_keys)


# ---------------------------------------------------------------------------------------
# UPDATE, DELETE


async def run_update(execution: Execution, statement: Update) -> Result:
    """UPDATE; the tag is `UPDATE n`."""
    plan = plan_update(
        statement,
        execution.context,
        parameters=execution.parameter_types,
        values=execution.values,
    )
    return await run_change(execution, plan, _update_rows, "UPDATE")


async def _update_rows(
    execution: Execution, opened: Changes, plan: UpdatePlan, rows: StatementRows
) -> int:
    table = plan.table
    writer = TableWriter(execution.services.runtime, table, opened, execution.services.ids)
    checker = RowChecker(table, plan.checks, rows.evaluator)
    old_columns, new_columns = columns_of(table, plan.old), columns_of(table, plan.new)
    locked = LockedRows(table, plan.relation, plan.old, mode_of_update(table, plan))
    async for batch in RowLocker(execution, opened, plan.source, locked).batches():
        old = named_batch(old_columns, batch.columns[: len(old_columns)], batch.num_rows)
        width = len(old_columns) + len(new_columns)
        new = named_batch(new_columns, batch.columns[len(old_columns) : width], batch.num_rows)
        new = await generated_anew(execution, new, table, plan.generated, rows.evaluator)
        await check_rows(execution, checker, new)
        if plan.moves:
            await writer.move(old, new)
        else:
            await writer.update(old, new, plan.groups)
        await rows.keep_returned(with_others(new, batch.columns[width:]))
    await writer.finish()
    return writer.rows


def mode_of_update(table: Table, plan: UpdatePlan | MergeStep) -> LockMode:
    """As PostgreSQL: who only refers to a row's keys goes on beside other changes."""
    keys = {column for constraint in table.unique_keys for column in constraint.columns}
    if plan.moves or keys.intersection(plan.assigned):
        return LockMode.FOR_UPDATE
    return LockMode.FOR_NO_KEY_UPDATE


def columns_of(table: Table, ids: Sequence[ColumnId]) -> list[Column]:
    """The columns with these ids."""
    return [table.column(column_id) for column_id in ids]


def named_batch(columns: Sequence[Column], arrays: Sequence[pa.Array], rows: int) -> pa.RecordBatch:
    """What a row source gave for the columns, in their types."""
    conforming = [conformed(a, c) for a, c in zip(arrays, columns, strict=True)]
    return row_batch(columns, conforming, rows)


def with_others(rows: pa.RecordBatch, arrays: Sequence[pa.Array]) -> pa.RecordBatch:
    """The rows with the columns of other relations that RETURNING may read."""
    for place, array in enumerate(arrays):
        rows = rows.append_column(f"@other:{place}", array)
    return rows


async def run_delete(execution: Execution, statement: Delete) -> Result:
    """DELETE; the tag is `DELETE n`."""
    plan = plan_delete(
        statement,
        execution.context,
        parameters=execution.parameter_types,
        values=execution.values,
    )
    return await run_change(execution, plan, _delete_rows, "DELETE")


async def _delete_rows(
    execution: Execution, opened: Changes, plan: DeletePlan, rows: StatementRows
) -> int:
    table = plan.table
    writer = TableWriter(execution.services.runtime, table, opened, execution.services.ids)
    old_columns, row_columns = columns_of(table, plan.old), columns_of(table, plan.row)
    locked = LockedRows(table, plan.relation, plan.old, LockMode.FOR_UPDATE)
    async for batch in RowLocker(execution, opened, plan.source, locked).batches():
        old = named_batch(old_columns, batch.columns[: len(old_columns)], batch.num_rows)
        await writer.delete(old)
        width = len(old_columns) + len(row_columns)
        row = named_batch(row_columns, batch.columns[len(old_columns) : width], batch.num_rows)
        await rows.keep_returned(with_others(row, batch.columns[width:]))
    await writer.finish()
    return writer.rows


async def at_new_snapshot(execution: Execution) -> Execution:
    """The execution at a snapshot drawn now, with the catalog that belongs to it; in a
    transaction that keeps its snapshot, with the newest catalog."""
    services = execution.services
    if execution.transaction is not None and execution.transaction.keeps_snapshot:
        present = execution.transaction.definitions.view(services.catalog.current)
        context = dataclasses.replace(execution.context, catalog=present)
        return dataclasses.replace(execution, context=context)
    timestamp, version = await services.timestamps.snapshot()
    catalog = execution.context.catalog
    if version > catalog.version:
        catalog = await services.catalog.wait_version(version)
        if execution.transaction is not None:
            catalog = execution.transaction.definitions.view(catalog)
    context = dataclasses.replace(execution.context, catalog=catalog)
    return dataclasses.replace(execution, context=context, timestamp=timestamp)


# ---------------------------------------------------------------------------------------
# TRUNCATE


async def run_truncate(execution: Execution, statement: Truncate) -> Result:
    """TRUNCATE of all the tables together. History keeps the rows for older snapshots."""
    plan = plan_truncate(statement, execution.context)
    for notice in plan.notices:
        execution.notice(notice)
    if execution.transaction is not None:
        for table in plan.tables:
            execution.transaction.deferred_keys.refuse_pending(table, "TRUNCATE")
    async with transaction(execution) as opened:
        tablets = [tablet for table in plan.tables for tablet in tablets_of(table)]
        await opened.lock(tablets)
        for table in plan.tables:
            for part in table.parts:
                for fragment in part.fragments:
                    change = FragmentChange(
                        fragment.id, truncate=True, definition=table.schema_version
                    )
                    await opened.stage(fragment.tablet_id, change)
        await opened.commit(execution.timestamp, checks=True)
    if execution.transaction is not None and plan.restarts:
        await execution.transaction.define(plan.restarts)
    else:
        for restart in plan.restarts:
            await execution.services.catalog.execute(restart)
    return Result("TRUNCATE TABLE")
