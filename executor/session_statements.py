"""Statements about the session: settings, transaction blocks, prepared statements, cursors.

Each handler takes the session and the statement (DECLARE its parameters too). None of them needs
a snapshot, but for what EXECUTE and DECLARE run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.errors import (
    ActiveSqlTransaction,
    DuplicatePreparedStatement,
    FeatureNotSupported,
    InvalidSqlStatementName,
    NoActiveSqlTransaction,
    ObjectNotInPrerequisiteState,
    UndefinedObject,
)
from executor.cluster_settings import alter_system, refuse_in_session
from executor.execution import Result
from executor.past import asked_timestamp
from executor.rows import columns_of, rows_result
from executor.settings import DEFINITIONS
from executor.temporary import drop_temporary
from executor.transaction_block import Status
from planner.datum import Datum
from planner.ddl_keys import deferrable_keys
from planner.ddl_types import sql_type
from planner.plan import ResultColumn
from planner.statements import (
    AlterSystem,
    Begin,
    CloseCursor,
    Commit,
    Deallocate,
    Declare,
    Discard,
    EndPrepared,
    Execute,
    Fetch,
    Prepare,
    PrepareTransaction,
    ReleaseSavepoint,
    Reset,
    Rollback,
    RollbackToSavepoint,
    Savepoint,
    SetConstraints,
    SetTransaction,
    SetVariable,
    Show,
    Statement,
    TransactionModes,
    Unlisten,
)
from storage.types import SqlType

if TYPE_CHECKING:
    from executor.session import Session

# -- settings ---------------------------------------------------------------------------------


async def set_variable(session: Session, statement: SetVariable) -> Result:
    settings = session.state.settings
    refuse_in_session(statement.name)
    if statement.local and not session.state.block.begun:
        session.notice("SET LOCAL can only be used in transaction blocks", "WARNING")
        session.setting(statement.name)  # 42704 for one that there is not
        return Result("SET")
    if statement.value is None:
        settings.reset(statement.name)
    else:
        settings.set(statement.name, statement.value, local=statement.local)
    return Result("SET")


def _show_columns(statement: Show) -> tuple[ResultColumn, ...]:
    if statement.name == "all":
        return columns_of("name", "setting", "description")
    definition = DEFINITIONS.get(statement.name.lower())
    return columns_of(definition.name if definition is not None else statement.name)


async def show(session: Session, statement: Show) -> Result:
    columns = _show_columns(statement)
    if statement.name == "all":
        rows = session.state.settings.shown()
        return rows_result(
            "SHOW", columns, [(n, session.setting(n), words) for n, _, words in rows]
        )
    return rows_result("SHOW", columns, [(session.setting(statement.name),)])


async def reset(session: Session, statement: Reset) -> Result:
    if statement.name == "all":
        session.state.settings.reset_all()
    else:
        session.state.settings.reset(statement.name)
    return Result("RESET")


async def discard(session: Session, statement: Discard) -> Result:
    if statement.what == "ALL":
        if session.state.block.begun:
            raise ActiveSqlTransaction("DISCARD ALL cannot run inside a transaction block")
        session.state.settings.reset_all()
        session.forget_prepared(None)
        await session.state.cursors.close_all(held=True)
    if statement.what in ("ALL", "SEQUENCES"):
        session.forget_sequences()
    if statement.what in ("ALL", "TEMP"):
        await drop_temporary(session.services, session.temporary_schema)
    return Result(f"DISCARD {statement.what}")


async def unlisten(session: Session, statement: Unlisten) -> Result:
    return Result("UNLISTEN")


# -- transaction blocks -----------------------------------------------------------------------


async def begin(session: Session, statement: Begin) -> Result:
    result = begin_now(session, statement)
    await _set_time(session, statement.modes)
    return result


def begin_now(session: Session, statement: Begin) -> Result:
    """BEGIN without AS OF SYSTEM TIME."""
    block = session.state.block
    if block.open:
        session.notice("there is already a transaction in progress", "WARNING", sqlstate="25001")
    else:
        _begin(session)
    _set_modes(session, statement.modes, "transaction")
    return Result(statement.tag)


def _begin(session: Session) -> None:
    block = session.state.block
    if not block.begun:
        session.state.settings.begin()
    block.begin(session.services.runtime.now(), session.new_transaction())


def _set_modes(session: Session, modes: TransactionModes, prefix: str) -> None:
    """The block's own settings, or with prefix `default_transaction` the session's."""
    local = prefix == "transaction"
    settings = session.state.settings
    if modes.isolation is not None:
        if local:
            _check_isolation(session, modes.isolation)
        settings.set(f"{prefix}_isolation", modes.isolation, local=local)
    if modes.read_only is not None:
        if local and not modes.read_only:
            _check_present(session)
            _check_still_free(session)
        settings.set(f"{prefix}_read_only", _on_off(modes.read_only), local=local)
    if modes.deferrable is not None:
        settings.set(f"{prefix}_deferrable", _on_off(modes.deferrable), local=local)


async def _set_time(session: Session, modes: TransactionModes) -> None:
    """AS OF SYSTEM TIME of the block, which from then on only reads."""
    transaction = session.state.block.transaction
    if modes.as_of is None or transaction is None:
        return
    if transaction.has_read:
        raise ActiveSqlTransaction("AS OF SYSTEM TIME must be given before any query")
    transaction.read_past(await asked_timestamp(session.surroundings.evaluation(), modes.as_of))
    session.state.settings.set("transaction_read_only", "on", local=True)


def _check_isolation(session: Session, isolation: str) -> None:
    transaction = session.state.block.transaction
    if transaction is None or not transaction.has_read:
        return
    if isolation != session.state.settings["transaction_isolation"]:
        raise ActiveSqlTransaction(
            "SET TRANSACTION ISOLATION LEVEL must be called before any query"
        )


def _check_present(session: Session) -> None:
    transaction = session.state.block.transaction
    if transaction is not None and transaction.is_past:
        raise ActiveSqlTransaction("a transaction with AS OF SYSTEM TIME can only read")


def _check_still_free(session: Session) -> None:
    transaction = session.state.block.transaction
    reads_only = session.state.settings["transaction_read_only"] == "on"
    if reads_only and transaction is not None and transaction.has_read:
        raise ActiveSqlTransaction("transaction read-write mode must be set before any query")


def _on_off(value: bool) -> str:
    return "on" if value else "off"


async def set_transaction(session: Session, statement: SetTransaction) -> Result:
    if statement.session and statement.modes.as_of is not None:
        raise FeatureNotSupported(
            "a session has no AS OF SYSTEM TIME",
            hint="SET dqe.read_staleness has its reads go back by a fixed time.",
        )
    if statement.session:
        _set_modes(session, statement.modes, "default_transaction")
    elif session.state.block.begun:
        _set_modes(session, statement.modes, "transaction")
        await _set_time(session, statement.modes)
    else:
        session.notice("SET TRANSACTION can only be used in transaction blocks", "WARNING")
    return Result("SET")


async def set_constraints(session: Session, statement: SetConstraints) -> Result:
    transaction = session.state.block.transaction
    if transaction is None:
        session.notice(
            "SET CONSTRAINTS can only be used in transaction blocks", "WARNING", sqlstate="25P01"
        )
        return Result("SET CONSTRAINTS")
    keys = None
    if statement.names is not None:
        context = session.surroundings.evaluation().context
        context = replace(context, catalog=transaction.definitions.view(context.catalog))
        keys = [key for name in statement.names for key in deferrable_keys(context, name)]
    transaction.begin_command()
    transaction.deferred_keys.set(transaction.command, keys, deferred=statement.deferred)
    if not statement.deferred:
        await transaction.deferred_keys.check(transaction.command, keys)
    return Result("SET CONSTRAINTS")


async def commit(session: Session, statement: Commit) -> Result:
    block = session.state.block
    if block.status is Status.FAILED:
        modes = await _end(session, undone=True)
        return _chained(session, statement.chain, modes, Result("ROLLBACK"))
    if not block.open:
        _no_block(session, "COMMIT", statement.chain)
    modes = await _end(session, undone=False)
    return _chained(session, statement.chain, modes, Result("COMMIT"))


async def rollback(session: Session, statement: Rollback) -> Result:
    block = session.state.block
    if not block.open:
        _no_block(session, "ROLLBACK", statement.chain)
    modes = await _end(session, undone=True)
    return _chained(session, statement.chain, modes, Result("ROLLBACK"))


async def prepare_transaction(session: Session, statement: PrepareTransaction) -> Result:
    """As PostgreSQL without prepared transactions: the block is rolled back and its client told."""
    block = session.state.block
    failed = block.status is Status.FAILED
    if not block.begun:
        _no_block(session, "PREPARE TRANSACTION", chain=False)
        return Result("ROLLBACK")
    await _end(session, undone=True)
    if failed:
        return Result("ROLLBACK")
    raise ObjectNotInPrerequisiteState(
        "prepared transactions are disabled",
        hint='"max_prepared_transactions" is always 0: no transaction outlives its session.',
    )


async def end_prepared(session: Session, statement: EndPrepared) -> Result:
    session.check_no_block(statement.command)
    raise UndefinedObject(
        f'prepared transaction with identifier "{statement.identifier}" does not exist'
    )


def _no_block(session: Session, command: str, chain: bool) -> None:
    if chain:
        raise NoActiveSqlTransaction(f"{command} AND CHAIN can only be used in transaction blocks")
    session.notice("there is no transaction in progress", "WARNING", sqlstate="25P01")


async def _end(session: Session, *, undone: bool) -> dict[str, str]:
    """Ends the block, explicit or implicit; its modes, for AND CHAIN."""
    state = session.state
    modes = {name: state.settings[name] for name in _MODES}
    transaction = state.block.end()
    if transaction is None:
        return modes
    await state.cursors.close_all(held=False)
    try:
        await (transaction.roll_back() if undone else transaction.commit())
    except BaseException:
        state.settings.rollback()
        raise
    if undone:
        state.settings.rollback()
    else:
        state.settings.commit()
    return modes


_MODES = ("transaction_isolation", "transaction_read_only", "transaction_deferrable")


def _chained(session: Session, chain: bool, modes: dict[str, str], result: Result) -> Result:
    if chain:
        _begin(session)
        for name, value in modes.items():
            session.state.settings.set(name, value, local=True)
    return result


async def savepoint(session: Session, statement: Savepoint) -> Result:
    session.state.block.check_open("SAVEPOINT")
    session.state.block.save(statement.name)
    return Result("SAVEPOINT")


async def release(session: Session, statement: ReleaseSavepoint) -> Result:
    session.state.block.check_open("RELEASE SAVEPOINT")
    session.state.block.release(statement.name)
    return Result("RELEASE")


async def rollback_to(session: Session, statement: RollbackToSavepoint) -> Result:
    transaction = session.state.block.check_open("ROLLBACK TO SAVEPOINT")
    await transaction.take_back(session.state.block.go_back(statement.name))
    return Result("ROLLBACK")


# -- prepared statements ----------------------------------------------------------------------


async def prepare(session: Session, statement: Prepare) -> Result:
    if statement.name in session.state.prepared:
        raise DuplicatePreparedStatement(f'prepared statement "{statement.name}" already exists')
    types = [sql_type(name) for name in statement.types]
    prepared = await session.prepare(statement.statement, types)
    session.state.prepared[statement.name] = replace(prepared, shown=statement.text)
    return Result("PREPARE")


async def execute(session: Session, statement: Execute) -> Result:
    prepared = session.find_prepared(statement.name)
    values = await session.arguments_of(statement, prepared)
    await session.check_described(prepared)
    return await session.run(prepared.statement, prepared.parameters, values)


async def deallocate(session: Session, statement: Deallocate) -> Result:
    if not session.forget_prepared(statement.name):
        raise InvalidSqlStatementName(f'prepared statement "{statement.name}" does not exist')
    return Result("DEALLOCATE ALL" if statement.name is None else "DEALLOCATE")


# -- cursors ----------------------------------------------------------------------------------


async def declare(
    session: Session, statement: Declare, types: tuple[SqlType, ...], values: Sequence[Datum]
) -> Result:
    if not statement.hold and not session.state.block.begun:
        session.state.block.check_open("DECLARE CURSOR")
    session.state.cursors.check_new(statement.name)
    result = await session.run_planned(statement.query, types, values)
    session.state.cursors.declare(statement, result, session.services.runtime.now())
    return Result("DECLARE CURSOR")


async def fetch(session: Session, statement: Fetch) -> Result:
    return await session.state.cursors.fetch(statement)


async def close_cursor(session: Session, statement: CloseCursor) -> Result:
    if statement.name is None:
        await session.state.cursors.close_all(held=True)
        return Result("CLOSE CURSOR ALL")
    await session.state.cursors.close(statement.name)
    return Result("CLOSE CURSOR")


Handler = Callable[..., Awaitable[Result]]

HANDLERS: dict[type[Statement], Handler] = {
    AlterSystem: alter_system,
    SetVariable: set_variable,
    Show: show,
    Reset: reset,
    Discard: discard,
    Unlisten: unlisten,
    Begin: begin,
    SetTransaction: set_transaction,
    SetConstraints: set_constraints,
    Commit: commit,
    Rollback: rollback,
    PrepareTransaction: prepare_transaction,
    EndPrepared: end_prepared,
    Savepoint: savepoint,
    ReleaseSavepoint: release,
    RollbackToSavepoint: rollback_to,
    Prepare: prepare,
    Execute: execute,
    Deallocate: deallocate,
    Fetch: fetch,
    CloseCursor: close_cursor,
}

# Not part of an implicit transaction.
BEGINS_OR_ENDS = (Begin, Commit, Rollback, PrepareTransaction, EndPrepared)

# Accepted while the block has failed (PostgreSQL: IsTransactionExitStmt).
ENDS_FAILED_BLOCK = (Commit, Rollback, PrepareTransaction, RollbackToSavepoint)


def describe(session: Session, statement: Statement) -> tuple[ResultColumn, ...] | None:
    """The columns of a session statement's answer, None where it has none."""
    if isinstance(statement, Show):
        return _show_columns(statement)
    if isinstance(statement, Fetch) and not statement.move:
        return session.state.cursors.columns(statement.cursor)
    if isinstance(statement, Execute):
        return session.find_prepared(statement.name).columns
    return None
