"""Statements that define things: planned, drafted, and in force when their transaction commits.

    plan --> draft it, to see which tables it changes --> lock their tablets --> plan anew, if they
    have changed meanwhile --> draft it for good (`executor.definitions`) --> move and check rows
    (`executor.ddl_rows`) --> COMMIT, at once or with the block

A statement outside of a block is a transaction of its own. While its tables are locked their
writers wait; those who were writing before it are waited for (`lock_timeout` limits that), and
those who come after find that the table is another and plan again. Readers keep the version of
their snapshot.

A few go to the catalog directly: what makes one new thing and touches no other needs no
transaction, and placement and the online building of an index are not definitions that a
transaction could take back; in a block those are refused (0A000).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

import pyarrow as pa

from catalog import commands
from catalog.commands import AnyCommand, Command, CommandResult
from catalog.drafting import draft
from catalog.model import Table, TableId
from catalog.patches import Patch
from cluster.errors import (
    CannotConnectNow,
    DeadlockDetected,
    DuplicateTable,
    FeatureNotSupported,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
)
from executor.ddl_keys import add_reference, build_index, validate_reference
from executor.ddl_rows import fill_table, move_and_check
from executor.execution import Execution, Result
from executor.session_transaction import SessionTransaction
from executor.write_settings import lock_deadline_s, max_bytes
from executor.writes_stage import tablets_of
from planner.ddl import plan_ddl
from planner.ddl_plan import (
    AddReference,
    BuildIndex,
    ChangeCatalog,
    CreateAndFill,
    DdlPlan,
    ValidateReference,
)
from planner.plan import ResultColumn
from planner.statements import Distribute, Statement
from storage.fragments import TabletId
from storage.locks import LockMode
from storage.types import VOID

logger = logging.getLogger(__name__)

# How often a definition tries again that met writers, or other definitions, crosswise.
ATTEMPTS = 20
PAUSE_S = 0.02

# What makes one new thing, and changes no other.
_MAKING = (
    commands.CreateSchema,
    commands.CreateTable,
    commands.CreateView,
    commands.CreateSequence,
)
# What moves replicas, which no transaction can take back.
_PLACING = (
    commands.SetTableReplicas,
    commands.SetTablePlacement,
    commands.SetTableDurability,
)


async def run_ddl(execution: Execution, statement: Statement) -> Result:
    """Runs any of `planner.ddl.DDL_STATEMENTS`."""
    if execution.transaction is not None:
        tag = await _define(execution, statement)
    else:
        tag = await _alone(execution, statement)
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


# ---------------------------------------------------------------------------------------
# Outside of a block


async def _alone(execution: Execution, statement: Statement) -> str:
    """A transaction of its own, tried again where only its neighbours were in the way."""
    plan = plan_ddl(statement, execution.context)
    if _is_direct(plan):
        return await _change_directly(execution, plan)
    runtime = execution.services.runtime
    notices = len(execution.notices)
    attempts = ATTEMPTS
    while True:
        attempts -= 1
        try:
            return await _in_own_transaction(execution, statement)
        except (DeadlockDetected, SerializationFailure):
            if not attempts:
                raise
        except DuplicateTable:
            # Somebody else has made it meanwhile, which IF NOT EXISTS finds now.
            if not attempts or not getattr(statement, "if_not_exists", False):
                raise
        del execution.notices[notices:]
        await runtime.sleep(PAUSE_S * (0.5 + runtime.random.random()))
        execution = await _at_present(execution)


async def _in_own_transaction(execution: Execution, statement: Statement) -> str:
    own = SessionTransaction(execution.services)
    own.lock_deadline_s = lock_deadline_s(execution.context.settings)
    own.max_bytes = max_bytes(execution.context.settings)
    own.begin_command()
    try:
        tag = await _define(replace(execution, transaction=own), statement)
    except BaseException:
        await own.roll_back()
        raise
    await own.commit()
    return tag


def _is_direct(plan: DdlPlan) -> bool:
    if isinstance(plan, BuildIndex):
        return True
    if not isinstance(plan, ChangeCatalog):
        return False
    placing = all(isinstance(command, _PLACING) for command in plan.commands)
    return placing or (len(plan.commands) == 1 and isinstance(plan.commands[0], _MAKING))


async def _change_directly(execution: Execution, plan: DdlPlan) -> str:
    for notice in plan.notices:
        execution.notice(notice)
    change = DirectChange(execution)
    if isinstance(plan, BuildIndex):
        await build_index(change, plan)
    else:
        assert isinstance(plan, ChangeCatalog)
        for command in plan.commands:
            await change.execute(command)
        await change.in_force()
    return plan.tag


class DirectChange:
    """Commands that show at once."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self._version = 0

    async def execute(self, command: Command) -> CommandResult:
        """Applies a command; its notices go to the client."""
        assert isinstance(command, AnyCommand)
        result = await self.execution.services.catalog.execute(command)
        for notice in result.notices:
            self.execution.notice(notice)
        self._version = max(self._version, result.version)
        return result

    async def everywhere(self) -> None:
        """Waits until every live node has the catalog as changed."""
        if self._version:
            await self.execution.services.catalog.ensure_everywhere(self._version)

    async def in_force(self) -> None:
        """The same, if they come along: what is in force must not be called refused."""
        try:
            await self.everywhere()
        except CannotConnectNow as error:
            # Who does not know it yet learns it with its next timestamp (rule T3).
            logger.warning("not every node knows of a definition yet: %s", error.message)


# ---------------------------------------------------------------------------------------
# In a transaction


class DraftedChange:
    """Commands that show to their transaction only, until it commits."""

    def __init__(self, execution: Execution) -> None:
        assert execution.transaction is not None
        self._block = execution.transaction
        self.execution = execution
        # By the commands carried out last, which is less than what the catalog has changed in
        # meanwhile: others define things, too.
        self.patch = Patch()

    async def execute(self, command: Command) -> CommandResult:
        """Drafts a command; its notices go to the client, and `execution` sees it."""
        (result,) = await self.execute_all([command])
        return result

    async def execute_all(self, listed: Sequence[Command]) -> Sequence[CommandResult]:
        """The same with commands that come one upon the other."""
        block = self._block
        results, self.patch = await block.define(listed)
        for notice in (notice for result in results for notice in result.notices):
            self.execution.notice(notice)
        catalog = block.definitions.view(self.execution.services.catalog.current)
        context = replace(self.execution.context, catalog=catalog)
        self.execution = replace(self.execution, context=context)
        return results

    async def everywhere(self) -> None:
        """The commit sees to that."""

    async def in_force(self) -> None:
        """So does it here."""


async def _define(execution: Execution, statement: Statement) -> str:
    """Drafts the statement as a part of its transaction; its tag."""
    execution, plan = await _locked(execution, statement)
    for notice in plan.notices:
        execution.notice(notice)
    change = DraftedChange(execution)
    match plan:
        case ChangeCatalog():
            before = execution
            await change.execute_all(plan.commands)
            await move_and_check(before, change.execution, plan, change.patch.tables)
        case CreateAndFill():
            return await _create_and_fill(change, plan)
        case AddReference():
            await add_reference(change, plan)
        case ValidateReference():
            await validate_reference(change, plan)
        case BuildIndex():
            await build_index(change, plan)
    return plan.tag


async def _locked(execution: Execution, statement: Statement) -> tuple[Execution, DdlPlan]:
    """The statement planned while nobody else changes, or writes, the tables that it changes."""
    block = execution.transaction
    assert block is not None
    while True:
        plan = plan_ddl(statement, execution.context)
        changed = _tables_changed(execution, plan)
        for table in changed:
            block.deferred_keys.refuse_pending(table, plan.tag)
        tablets = {tablet for table in changed for tablet in tablets_of(table)}
        if tablets:
            await _lock(execution, block, tablets)
        planned = execution.context.catalog
        execution = await _at_present(execution)
        present = execution.context.catalog
        if all(present.tables.get(table.id) is planned.tables.get(table.id) for table in changed):
            return execution, plan


async def _lock(
    execution: Execution, block: SessionTransaction, tablets: Iterable[TabletId]
) -> None:
    """Locks the tablets for the statement.

    A writer that has one of them may come to need another: then what the statement has locked is
    given back, for it has done nothing yet, and it tries again.
    """
    runtime = execution.services.runtime
    for attempts in reversed(range(ATTEMPTS)):
        try:
            await block.opened.lock(tablets, LockMode.ACCESS_EXCLUSIVE.value, block.command)
        except DeadlockDetected:
            if not attempts:
                raise
            await block.opened.take_back(block.command)
            await runtime.sleep(PAUSE_S * (0.5 + runtime.random.random()))
        else:
            return


def _tables_changed(execution: Execution, plan: DdlPlan) -> list[Table]:
    """Tables that others may be writing and that the plan changes; raises as the plan would."""
    block, catalog = execution.transaction, execution.context.catalog
    assert block is not None
    patch = Patch()
    if isinstance(plan, ChangeCatalog):
        _refuse_irrevocable(plan)
        patch = draft(catalog, plan.commands).patch
    found = [before for before, _ in patch.tables.values() if before is not None]
    if isinstance(plan, AddReference | ValidateReference | BuildIndex):
        found.append(catalog.tables[plan.table_id])
    return [table for table in found if not block.definitions.is_new(table.id)]


def _refuse_irrevocable(plan: ChangeCatalog) -> None:
    if any(isinstance(command, _PLACING) for command in plan.commands):
        raise FeatureNotSupported(
            f"{plan.tag} ... SET (...) cannot run inside a transaction block, which could not"
            " undo it",
            hint="Run it outside of a transaction block, as a statement of its own.",
        )


async def _at_present(execution: Execution) -> Execution:
    """The execution at a timestamp drawn now, whatever snapshot its transaction keeps: what a
    definition does to rows, it does to the newest."""
    services, block = execution.services, execution.transaction
    timestamp, version = await services.timestamps.snapshot()
    catalog = await services.catalog.wait_version(version)
    if block is not None:
        catalog = block.definitions.view(catalog)
    context = replace(execution.context, catalog=catalog)
    return replace(execution, context=context, timestamp=timestamp)


async def _create_and_fill(change: DraftedChange, plan: CreateAndFill) -> str:
    """CREATE TABLE AS: the rows are the transaction's, as those of any INSERT."""
    source = change.execution
    created = await change.execute(plan.command)
    if not created.changed or plan.source is None:
        return plan.tag
    assert created.table_id is not None
    table = _table(change.execution, created.table_id)
    rows = await fill_table(replace(change.execution, timestamp=source.timestamp), table, plan)
    return f"SELECT {rows}"


def _table(execution: Execution, table_id: TableId) -> Table:
    table = execution.context.catalog.tables.get(table_id)
    if table is None:
        raise ObjectNotInPrerequisiteState("the table was dropped meanwhile")
    return table
