"""ALTER TABLE ... ADD FOREIGN KEY and CREATE INDEX: definitions that existing rows may contradict.

A foreign key is added while writers of both tables are kept out: the rows are looked through,
and from the moment that writers are let in again, everybody checks what they write.

A unique index is kept and checked first, by every leader and for all that is written from then
on; then whoever was about to commit unchecked is waited for, and the rows are looked through
beside the writers. Until they have been, nothing is concluded from the index.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Protocol

from catalog import commands
from catalog.changes.draft import Draft
from catalog.changes.foreign_keys import planned_foreign_key
from catalog.commands import Command, CommandResult
from catalog.model import ForeignKey, Index, Table, TableId
from cluster.errors import (
    ActiveSqlTransaction,
    CannotConnectNow,
    DeadlockDetected,
    DqeError,
    StatementCompletionUnknown,
    UndefinedTable,
    UniqueViolation,
)
from executor.execution import Execution
from executor.foreign_key_errors import key_text, not_present, row_texts
from executor.writes import rows_of, transaction
from executor.writes_stage import tablets_of
from planner.binder import bind_query
from planner.ddl_plan import AddReference, BuildIndex, ValidateReference
from planner.foreign_keys import duplicates, orphans, parsed
from planner.optimizer import plan_query
from planner.statements import Query
from storage.locks import LockMode

# How often a definition tries to lock tables that their writers lock too.
LOCK_ATTEMPTS = 20


class Definition(Protocol):
    """A statement's commands, as `executor.ddl` carries them out."""

    execution: Execution

    async def execute(self, command: Command) -> CommandResult: ...

    async def everywhere(self) -> None: ...

    async def in_force(self) -> None: ...


async def add_reference(change: Definition, plan: AddReference) -> None:
    """ALTER TABLE ... ADD FOREIGN KEY."""
    table = _table(change.execution, plan.table_id)
    # Refuses what can be refused before anybody is kept out.
    draft = Draft(change.execution.context.catalog)
    target = draft.tables[planned_foreign_key(draft, table, plan.definition).target]
    async with _locked(change.execution, [table, target], LockMode.EXCLUSIVE):
        current = await _present(change.execution)
        table, target = _table(current, table.id), _table(current, target.id)
        key = planned_foreign_key(Draft(current.context.catalog), table, plan.definition)
        if key.validated:
            await _check_referring(current, table, target, key)
        await change.execute(commands.AddForeignKey(table.id, plan.definition))
        await change.in_force()


async def validate_reference(change: Definition, plan: ValidateReference) -> None:
    """ALTER TABLE ... VALIDATE CONSTRAINT of a foreign key, which new rows keep already."""
    current = await _present(change.execution)
    table = _table(current, plan.table_id)
    for key in table.foreign_keys:
        if key.name == plan.name:
            await _check_referring(current, table, _table(current, key.target), key)
    await change.execute(commands.ValidateConstraint(table.id, plan.name))
    await change.in_force()


async def _check_referring(
    execution: Execution, table: Table, target: Table, key: ForeignKey
) -> None:
    """Every row of the table refers to one that is there."""
    values = await first_row(execution, orphans(table, target, key))
    if values is not None:
        raise not_present(table, target, key, values)


async def build_index(change: Definition, plan: BuildIndex) -> None:
    """CREATE [UNIQUE] INDEX."""
    if plan.concurrently and change.execution.transaction is not None:
        raise ActiveSqlTransaction(
            "CREATE INDEX CONCURRENTLY cannot run inside a transaction block"
        )
    created = await change.execute(plan.command)
    if not created.changed or not plan.command.definition.unique:
        await change.in_force()
        return
    index_id = created.table_id
    assert index_id is not None
    try:
        # Whoever writes must keep it before the rows are looked through.
        await change.everywhere()
        await _check_unique(change, plan.table_id, index_id)
        await change.execute(commands.FinishIndex(plan.table_id, index_id))
    except BaseException:
        await _drop(change, plan.table_id, index_id)
        raise
    await change.in_force()


async def _check_unique(change: Definition, table_id: TableId, index_id: TableId) -> None:
    current = await _present(change.execution)
    # Writers that were checked without the index are through once this is had.
    async with _locked(current, [_table(current, table_id)], LockMode.SHARE):
        pass
    current = await _present(change.execution)
    table = _table(current, table_id)
    index = _index(table, index_id)
    values = await first_row(current, duplicates(table, index.column_ids))
    if values is not None:
        raise _not_unique(table, index, values)


def own_indexes(execution: Execution, table: Table) -> list[Index]:
    """The unique indexes that only the statement's transaction knows of."""
    block = execution.transaction
    if block is None or not block.definitions.any:
        return []
    known = execution.services.catalog.current.tables.get(table.id)
    ids = set() if known is None else {index.id for index in known.indexes}
    return [index for index in table.indexes if index.unique and index.id not in ids]


async def check_own_indexes(execution: Execution, table: Table) -> None:
    """Looks through the table for what the statement may have put in twice."""
    for index in own_indexes(execution, table):
        assert execution.transaction is not None
        execution.transaction.begin_part()
        current = await _present(execution)
        values = await first_row(current, duplicates(table, index.column_ids))
        if values is not None:
            raise UniqueViolation(
                f'duplicate key value violates unique constraint "{index.name}"',
                detail=f"{key_text(table, index.column_ids, values)} already exists.",
                table=table.name,
                constraint=index.name,
            )


async def _drop(change: Definition, table_id: TableId, index_id: TableId) -> None:
    table = change.execution.services.catalog.current.tables.get(table_id)
    found = [index for index in table.indexes if index.id == index_id] if table else []
    if table is None or not found:
        return
    names = ((table.schema, found[0].name),)
    try:
        await change.execute(commands.DropIndex(names, if_exists=True))
    except CannotConnectNow as error:
        raise StatementCompletionUnknown(
            f'index "{found[0].name}" was not finished, and could not be dropped again',
            detail=error.message,
            hint="New rows are held to it until DROP INDEX.",
        ) from error
    await change.in_force()


async def _present(execution: Execution) -> Execution:
    """The execution at a snapshot drawn now, with the newest catalog; in a transaction, with
    what that has defined."""
    services = execution.services
    timestamp, version = await services.timestamps.snapshot()
    catalog = execution.context.catalog
    if execution.transaction is None:
        catalog = await services.catalog.wait_version(version)
    context = replace(execution.context, catalog=catalog)
    return replace(execution, context=context, timestamp=timestamp)


def _index(table: Table, index_id: TableId) -> Index:
    for index in table.indexes:
        if index.id == index_id:
            return index
    raise UndefinedTable("the index was dropped while it was built")


def _not_unique(table: Table, index: Index, values: Sequence[str | None]) -> DqeError:
    return UniqueViolation(
        f'could not create unique index "{index.name}"',
        detail=f"{key_text(table, index.column_ids, values)} is duplicated.",
        table=table.name,
        constraint=index.name,
    )


def _table(execution: Execution, table_id: TableId) -> Table:
    table = execution.context.catalog.tables.get(table_id)
    if table is None:
        raise UndefinedTable("the table was dropped meanwhile")
    return table


async def first_row(execution: Execution, sql: str) -> tuple[str | None, ...] | None:
    """The first row of a query as texts, None without one."""
    statement = parsed(sql)
    assert isinstance(statement, Query)
    bound = bind_query(statement.tree, execution.context)
    async with rows_of(execution, plan_query(bound, execution.context)) as run:
        async for batch in run.batches():
            if batch.num_rows:
                return row_texts(batch, 0, [column.type for column in run.columns])
    return None


@asynccontextmanager
async def _locked(
    execution: Execution, tables: Sequence[Table], mode: LockMode
) -> AsyncIterator[None]:
    """Locks the tablets of the tables for the block, or until the transaction ends.

    Writers lock theirs in the order of their rows, so the two may meet in a deadlock; whoever
    has only begun to lock loses nothing by trying again.
    """
    tablets = [tablet for table in tables for tablet in tablets_of(table)]
    async with AsyncExitStack() as stack:
        attempts = 1 if execution.transaction is not None else LOCK_ATTEMPTS
        while True:
            locks = await stack.enter_async_context(transaction(execution))
            try:
                await locks.lock(tablets, mode.value)
                break
            except DeadlockDetected as error:
                await locks.abort(error)
                attempts -= 1
                if not attempts:
                    raise
        yield
        await locks.abort()
