"""Statements that define things: catalog commands, seen by every node before the answer.

Where rows are read or moved as well, writers are kept out by locks on the table's tablets that
are held until the change is in force everywhere: they are held by a transaction of their own,
which changes nothing.

A re-cut copies the rows at a snapshot taken under those locks into the prepared fragments,
commits them, and then swaps the table's definition; readers see the one or the other. Columns
are added and dropped in the same way. CREATE TABLE AS makes the table, fills it in one
transaction, and drops it again if that fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pyarrow as pa

from catalog import commands
from catalog.commands import AnyCommand, Command, CommandResult
from catalog.model import Table, TableId
from cluster.errors import (
    DeadlockDetected,
    DqeError,
    InternalError,
    NotNullViolation,
    UniqueViolation,
)
from executor.ddl_keys import add_reference, build_index
from executor.execution import Execution, Result
from executor.session_transaction import SessionTransaction
from executor.transaction_faces import Changes
from executor.writes import (
    StatementRows,
    at_new_snapshot,
    has_unique,
    insert_rows,
    rows_of,
    transaction,
)
from executor.writes_stage import tablets_of
from planner.binder import bind_query
from planner.ddl import plan_ddl
from planner.ddl_plan import (
    AddReference,
    BuildIndex,
    ChangeCatalog,
    CreateAndFill,
    ForbidNulls,
    Recut,
)
from planner.optimizer import plan_query
from planner.plan import ResultColumn
from planner.statements import Distribute, Statement
from planner.write_plan import InsertPlan
from planner.write_rows import all_rows, default_columns
from storage.types import VOID

# How often a definition tries to lock a table that its writers lock too.
LOCK_ATTEMPTS = 20


async def run_ddl(execution: Execution, statement: Statement) -> Result:
    """Runs any of `planner.ddl.DDL_STATEMENTS`."""
    plan = plan_ddl(statement, execution.context)
    for notice in plan.notices:
        execution.notice(notice)
    block = execution.transaction
    if block is not None:
        tag = " ".join(statement.text.split()[:2]).upper()
        catalog = execution.context.catalog
        plan = block.definitions.admitted(plan, catalog, tag, block.written)
        if not isinstance(plan, CreateAndFill):
            # What is cut anew, is so at once.
            execution = replace(execution, transaction=None)
    change = _Change(execution, block)
    match plan:
        case ChangeCatalog(listed, tag):
            for command in listed:
                await change.carry_out(command)
            await change.everywhere()
        case CreateAndFill():
            tag = await _create_and_fill(change, plan)
        case Recut():
            tag = plan.tag
            await _recut(change, plan)
        case ForbidNulls():
            tag = plan.tag
            await _forbid_nulls(change, plan)
        case AddReference():
            tag = plan.tag
            await add_reference(change, plan)
        case BuildIndex():
            tag = plan.tag
            await build_index(change, plan)
    if isinstance(statement, Distribute):
        return _function_result(statement.function)
    return Result(tag)


def describe_ddl(statement: Statement) -> tuple[ResultColumn, ...] | None:
    """The columns of the answer: only the functions that look like queries have one."""
    if isinstance(statement, Distribute):
        return (ResultColumn(statement.function, VOID, (statement.function,)),)
    return None


def _function_result(function: str) -> Result:
    async def rows() -> AsyncIterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_arrays([pa.array([""])], names=[function])

    columns = (ResultColumn(function, VOID, (function,)),)
    return Result("SELECT 1", columns, rows())


class _Change:
    """Commands of one statement, and the version from which they show."""

    def __init__(self, execution: Execution, block: SessionTransaction | None) -> None:
        self.execution = execution
        self._block = block
        self._version = 0

    async def execute(self, command: Command) -> CommandResult:
        """Applies a command; its notices go to the client."""
        assert isinstance(command, AnyCommand)
        result = await self.execution.services.catalog.execute(command)
        for notice in result.notices:
            self.execution.notice(notice)
        self._version = max(self._version, result.version)
        if self._block is not None:
            self._block.definitions.note(command, result, self._block.command)
        return result

    async def carry_out(self, command: Command) -> CommandResult:
        """Applies a command and, where it prepares a re-cut, moves the rows too."""
        result = await self.execute(command)
        if result.recut:
            assert result.table_id is not None
            await _finish_recut(self, result.table_id)
        return result

    async def everywhere(self) -> None:
        """Waits until every live node has the catalog as changed."""
        if self._version:
            await self.execution.services.catalog.ensure_everywhere(self._version)

    async def refreshed(self) -> Execution:
        """The execution at a new snapshot, with the catalog as changed."""
        await self.everywhere()
        return await at_new_snapshot(self.execution)


@asynccontextmanager
async def _writers_kept_out(execution: Execution, table: Table) -> AsyncIterator[Changes]:
    """Locks the table's tablets for the block.

    Writers lock theirs in the order of their rows, so the two may meet in a deadlock; whoever
    has only begun to lock loses nothing by trying again.
    """
    async with AsyncExitStack() as stack:
        attempts = 1 if execution.transaction is not None else LOCK_ATTEMPTS
        while True:
            attempts -= 1
            try:
                locks = await stack.enter_async_context(_locked(execution, table))
            except DeadlockDetected:
                if not attempts:
                    raise
            else:
                break
        yield locks


@asynccontextmanager
async def _locked(execution: Execution, table: Table) -> AsyncIterator[Changes]:
    async with transaction(execution) as locks:
        await locks.lock(tablets_of(table))
        yield locks
        await locks.abort()


def _table(execution: Execution, table_id: TableId) -> Table:
    table = execution.context.catalog.tables.get(table_id)
    if table is None:
        raise InternalError(f"table {table_id} vanished while it was changed")
    return table


# ---------------------------------------------------------------------------------------
# CREATE TABLE AS


async def _create_and_fill(change: _Change, plan: CreateAndFill) -> str:
    created = await change.execute(plan.command)
    if not created.changed:
        await change.everywhere()
        return plan.tag
    assert created.table_id is not None
    current = await change.refreshed()
    table = _table(current, created.table_id)
    if plan.source is None:
        return plan.tag
    columns = tuple(column.id for column in table.visible_columns)
    fill = InsertPlan(table, columns, plan.source, None, (), None)
    try:
        return f"SELECT {await _fill(change.execution, fill)}"
    except BaseException:
        await change.execute(commands.DropTable(((table.schema, table.name),), if_exists=True))
        await change.everywhere()
        raise


async def _fill(execution: Execution, plan: InsertPlan) -> int:
    """Inserts the rows of a plan in a transaction of their own; how many."""
    rows = StatementRows(execution, None)
    try:
        async with transaction(execution) as opened:
            async with rows_of(execution, plan.source) as run:
                count = await insert_rows(execution, opened, plan, run.batches(), rows)
            await opened.commit(execution.timestamp, checks=has_unique(plan.table))
        return count
    finally:
        rows.close()


# ---------------------------------------------------------------------------------------
# Cutting anew


async def _recut(change: _Change, plan: Recut) -> None:
    await change.carry_out(commands.PrepareRecut(plan.table_id, plan.scheme, plan.primary_key))


async def _finish_recut(change: _Change, table_id: TableId) -> None:
    """Copies the rows into the prepared fragments and swaps these in, or drops them."""
    try:
        current = await change.refreshed()
        table = _table(current, table_id)
        async with _writers_kept_out(current, table):
            current = await at_new_snapshot(current)
            await _copy_rows(current, _table(current, table_id))
            await change.execute(commands.FinishRecut(table.id, table.schema_version))
            await change.everywhere()
    except BaseException:
        await change.execute(commands.AbortRecut(table_id))
        await change.everywhere()
        raise


async def _copy_rows(execution: Execution, table: Table) -> None:
    """All rows of the table into the fragments prepared for it: without dropped columns, and
    with the defaults of added ones."""
    target = execution.context.catalog.recuts[table.id]
    # What the rows refer to does not change.
    target = replace(target, foreign_keys=(), referenced_by=())
    lasting = {column.id for column in target.columns}
    table = replace(table, columns=tuple(c for c in table.columns if c.id in lasting))
    columns = tuple(column.id for column in table.visible_columns)
    tree = all_rows(table)
    source = plan_query(bind_query(tree, execution.context), execution.context)
    defaults = default_columns(target, columns, execution.context)
    try:
        await _fill(execution, InsertPlan(target, columns, source, defaults, (), None))
    except UniqueViolation as error:
        raise _not_unique(target, error) from error
    except NotNullViolation as error:
        raise contains_nulls(target, error.column or "") from error


def _not_unique(table: Table, error: UniqueViolation) -> DqeError:
    """PostgreSQL's words for rows that contradict a key that is added."""
    detail = error.detail
    if detail is not None:
        detail = detail.replace(" already exists.", " is duplicated.")
    name = error.constraint or (table.primary_key.name if table.primary_key else "")
    return UniqueViolation(
        f'could not create unique index "{name}"',
        detail=detail,
        table=table.name,
        constraint=name,
    )


def contains_nulls(table: Table, column: str) -> NotNullViolation:
    """PostgreSQL's words for rows that contradict a NOT NULL that is added."""
    return NotNullViolation(
        f'column "{column}" of relation "{table.name}" contains null values',
        table=table.name,
        column=column,
    )


# ---------------------------------------------------------------------------------------
# Columns


async def _forbid_nulls(change: _Change, plan: ForbidNulls) -> None:
    table = _table(change.execution, plan.table_id)
    async with _writers_kept_out(change.execution, table):
        current = await at_new_snapshot(change.execution)
        async with rows_of(current, plan.violations) as run:
            async for batch in run.batches():
                if batch.num_rows:
                    raise contains_nulls(table, plan.column)
        await change.execute(commands.SetColumnNotNull(table.id, plan.column, True))
        await change.everywhere()
