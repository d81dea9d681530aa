"""A client's session: statements in, answers out, and the state between them.

The wire server (or anything else that speaks for a client) parses, prepares and executes
through a `Session`; `executor.statements` says what each kind of statement does. The session
itself keeps settings, the transaction block, prepared statements, cursors and notices, gives
each statement its snapshot and its time limit, and hears cancel requests.

A statement outside of a block commits by itself. Several of one message are one implicit
transaction (PostgreSQL manual 54.2.2.1), which the session ends when its server says that the
message is done.

A statement's snapshot is drawn when it begins, and it is planned from a catalog at least as
new (rule T3). If the cluster has moved on before its first row (a fragment is no longer where
the plan says, a node has died, a leader has moved), it is planned and run again, if nothing of
it can have happened (`executor.retries`).

Invariants:
- One statement runs at a time; its error leaves the session usable.
- A statement cancelled or timed out raises 57014 from whatever of it is awaited then.

Left out: a cache of plans; each statement is planned anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

import pyarrow as pa
from sqlglot import exp

from catalog.model import Catalog
from cluster.errors import (
    ActiveSqlTransaction,
    DqeError,
    IdleInTransactionSessionTimeout,
    IdleSessionTimeout,
    InvalidSqlStatementName,
    ObjectNotInPrerequisiteState,
    QueryCanceled,
    SyntaxError_,
)
from executor import cluster_settings, session_statements
from executor.changed_rows import report_changes
from executor.cluster_functions import calls_cluster_function, with_answers, with_words
from executor.coordinator import Coordinator
from executor.cursors import Cursors
from executor.execution import Execution, Notice, Result
from executor.formatting.text import text_columns
from executor.locking_subqueries import locking_clause, unlocked
from executor.past import PastRead, past_of, told_of_past
from executor.past_times import LAST_READ, shown
from executor.queries import as_described
from executor.quick_statements import PlanHold, QuickStatements
from executor.retries import StatementRetries
from executor.services import ExecutorServices
from executor.session_tables import reads_session_tables, with_session_tables
from executor.session_transaction import READ_COMMITTED, SessionTransaction
from executor.set_config import calls_set_config, with_values
from executor.setting_kinds import milliseconds_of
from executor.settings import DATABASE, SERVER_VERSION, SessionSettings
from executor.statements import change_of, describe_planned, run_statement
from executor.temporary import drop_in_background, new_schema_name
from executor.transaction_block import TransactionBlock
from executor.transaction_faces import Control
from executor.without_catalog import WARNING, may_do_without
from executor.write_runs import WriteSettings
from executor.writes import lock_deadline_s, max_bytes
from planner.binder.sequence_calls import SESSION_TOKEN
from planner.context import PlannerContext
from planner.datum import Datum
from planner.nearness import nearest_nodes
from planner.parser import parse
from planner.plan import ResultColumn
from planner.point_writes import PointStatement, may_be_by_row
from planner.statements import (
    Declare,
    Execute,
    Explain,
    LockTable,
    Query,
    Statement,
    Vacuum,
)
from storage.fragments import Timestamp
from storage.types import TEXT, SqlType

T = TypeVar("T")

# Longer strings are parsed on a thread, so that other sessions of the node are served.
PARSE_INLINE_CHARACTERS = 32_768
# Notices a client does not take are dropped, the oldest first.
NOTICES_KEPT = 1000

_IDLE = IdleSessionTimeout("terminating connection due to idle-session timeout")
_IDLE_IN_TRANSACTION = IdleInTransactionSessionTimeout(
    "terminating connection due to idle-in-transaction timeout"
)
_LEVELS = ("LOG", "NOTICE", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement described once; `columns` is None where it has no rows."""

    statement: Statement
    parameters: tuple[SqlType, ...]
    columns: tuple[ResultColumn, ...] | None
    created: datetime | None = None
    shown: str = ""  # the text of PREPARE, where there was one
    hold: PlanHold = field(default_factory=PlanHold, compare=False, repr=False)


@dataclass(slots=True)
class _Limit:
    """What can stop one statement, from its start until its rows are read."""

    deadline_s: float | None = None
    cancelled: bool = False
    done: bool = False
    scope: asyncio.Timeout | None = None


@dataclass(slots=True)
class SessionState:
    """What handlers of session statements read and change."""

    settings: SessionSettings
    block: TransactionBlock = field(default_factory=TransactionBlock)
    prepared: dict[str, Prepared] = field(default_factory=dict)
    cursors: Cursors = field(default_factory=Cursors)
    # Where the last query read; None where it read the newest rows by key.
    last_read: Timestamp | None = None


class Session:
    """One client's session. Used from the event loop, by one task at a time; `cancel` may
    come from any other."""

    def __init__(
        self,
        services: ExecutorServices,
        coordinator: Coordinator,
        *,
        user: str,
        database: str = DATABASE,
        startup: Mapping[str, str] | None = None,
        process_id: int = 0,
    ) -> None:
        """`startup` are the settings of the client's start-up packet; a wrong one raises."""
        self.services = services
        self.coordinator = coordinator
        self.state = SessionState(SessionSettings(user, startup or {}))
        schema = new_schema_name(services)
        self._facts = {
            "user": user,
            "database": database,
            "backend_pid": str(process_id),
            "server_version": SERVER_VERSION,
            "temporary_schema": schema,
            # Who remembers what currval says: no plan with it is another session's.
            SESSION_TOKEN: f"{services.node_id}:{schema}",
        }
        self._notices: list[Notice] = []
        # Replaced by a server that keeps prepared statements of its own.
        self.forget_protocol_prepared: Callable[[str | None], bool] = _none_forgotten
        self.protocol_prepared: Callable[[], Mapping[str, Prepared]] = dict
        self._limit = _Limit(done=True)
        self.quick = QuickStatements(
            self, lambda: self._context(services.catalog.current, self.state.settings)
        )

    # -- what the client's server asks between statements -------------------------------

    @property
    def transaction_status(self) -> str:
        """I, T or E, as ReadyForQuery has it."""
        return self.state.block.status.value

    @property
    def temporary_schema(self) -> str:
        """Where the session's temporary tables are."""
        return self._facts["temporary_schema"]

    def setting(self, name: str) -> str:
        """A setting's value by its name in any case; 42704 for one unknown."""
        if name.lower() == LAST_READ:
            return "" if self.state.last_read is None else shown(self.state.last_read)
        kept = cluster_settings.shown(name, self.services.catalog.current.settings)
        return self.state.settings.show(name) if kept is None else kept

    def cursor_columns(self, name: str) -> tuple[ResultColumn, ...] | None:
        """The columns of a cursor of DECLARE; None when there is none of that name."""
        return self.state.cursors.columns(name) if name in self.state.cursors.names() else None

    def take_parameter_changes(self) -> list[tuple[str, str]]:
        """Settings the client is to be told of, changed since the last call."""
        return self.state.settings.take_changes()

    def take_notices(self) -> list[tuple[str, Mapping[str, str | int]]]:
        """Severity and fields of what the client is to be told, since the last call."""
        if not self._notices:
            return []
        notices = list(self._notices)
        self._notices.clear()
        least = self.state.settings["client_min_messages"].upper()
        least_level = _LEVELS.index(least) if least in _LEVELS else 0
        return [
            (notice.severity, notice.fields)
            for notice in notices
            if notice.severity not in _LEVELS or _LEVELS.index(notice.severity) >= least_level
        ]

    def notice(self, message: str, severity: str = "NOTICE", **fields: str) -> None:
        """Tells the client something beside the answers."""
        self._notices.append(Notice(severity, {"message": message, **fields}))

    def idle_limit(self) -> tuple[float, DqeError] | None:
        """How long the client may be idle now, and the error that ends its session then."""
        name: str = "idle_session_timeout"
        error: DqeError = _IDLE
        if self.state.block.open:
            name, error = "idle_in_transaction_session_timeout", _IDLE_IN_TRANSACTION
        setting = self.state.settings[name]
        timeout_ms = 0 if setting == "0" else milliseconds_of(setting)
        return (timeout_ms / 1000, error) if timeout_ms else None

    def fail_transaction(self) -> None:
        """An error was sent to the client: an open block is failed, an implicit one undone."""
        ended = self.state.block.fail()
        if ended is not None:
            self.state.settings.rollback()
            name = "roll back an implicit transaction"
            self.services.runtime.spawn(ended.roll_back(), name)

    def cancel(self) -> None:
        """Stops the statement under way, if there is one; it raises 57014."""
        self.quick.cancel()
        if self._limit.done:
            return
        self._limit.cancelled = True
        if self._limit.scope is not None and not self._limit.scope.expired():
            self._limit.scope.reschedule(0.0)

    async def close(self) -> None:
        """The client is gone: ends what is open."""
        await self.state.cursors.close_all(held=True)
        transaction = self.state.block.end()
        if transaction is not None:
            await transaction.roll_back()
        self.forget_sequences()
        drop_in_background(self.services, self.temporary_schema)

    def forget_sequences(self) -> None:
        """currval and lastval are not defined any more."""
        if self.services.sequences is not None:
            self.services.sequences.forget(self._facts[SESSION_TOKEN])

    # -- statements ---------------------------------------------------------------------

    async def parse(self, sql: str) -> list[Statement]:
        """The statements of a query string; 42601 with its position."""
        if len(sql) <= PARSE_INLINE_CHARACTERS:
            return parse(sql)
        return await self.services.runtime.run_blocking(parse, sql)

    async def prepare(
        self, statement: Statement, parameter_types: Sequence[SqlType | None] = ()
    ) -> Prepared:
        """Describes the statement; the types of parameters not given are inferred."""
        self._check_block(statement)
        types = tuple(parameter_types)
        now = self.services.runtime.now()
        if isinstance(statement, Declare):
            query = await self.prepare(statement.query, types)
            return Prepared(statement, query.parameters, None, now)
        if type(statement) in session_statements.HANDLERS:
            columns = session_statements.describe(self, statement)
            return Prepared(statement, tuple(given or TEXT for given in types), columns, now)
        if isinstance(statement, Query) and statement.as_of is None:
            context = self._context(self._present(), self.state.settings)
            found = self.coordinator.points.described(statement, types, context)
            if found is not None:
                return Prepared(statement, found[0], found[1], now)
        if may_be_by_row(statement):
            context = self._context(self._present(), self.state.settings)
            write = self.coordinator.point_writes.described(statement, types, context)
            if write is not None:
                return Prepared(statement, write.parameters, write.columns, now)
        limit = _Limit(self._deadline_s())
        execution = await self._limited(
            limit,
            lambda: self._execution(
                limit, types, (), describes=True, alone=may_do_without(statement, self.services)
            ),
        )
        described = statement
        if isinstance(statement, Query) and reads_session_tables(statement):
            described = with_session_tables(statement, self)
        if locking_clause(statement) is not None:
            described = unlocked(statement)
        if isinstance(statement, Query) and calls_set_config(statement):
            described = with_values(statement, (), lambda name, value, local: "")
        if isinstance(statement, Query) and calls_cluster_function(statement):
            described = with_words(statement)
        parameters, answer = describe_planned(execution, described, types)
        return Prepared(statement, parameters, answer, now)

    async def execute(
        self,
        statement: Statement | Prepared,
        parameters: Sequence[Datum] = (),
        *,
        more: bool = False,
    ) -> Result:
        """Runs a statement; its rows come from the result, which the caller closes.

        Outside of a block it commits by itself, unless there is `more` to come: then it is part
        of an implicit transaction, which the first statement with no more behind it commits, or
        `end_implicit`. An error raised here or by the result leaves the session usable, an open
        block failed, an implicit transaction undone.
        """
        prepared = statement if isinstance(statement, Prepared) else Prepared(statement, (), None)
        limit = _Limit(self._deadline_s())
        try:
            result = await self._limited(limit, lambda: self._run_one(prepared, parameters, more))
        except DqeError:
            limit.done = True
            self.fail_transaction()
            raise
        del self._notices[:-NOTICES_KEPT]
        if prepared.columns is not None and result.columns is not None:
            result = as_described(result, prepared.columns)
        if result.rows is None:
            limit.done = result.copy_in is None and result.copy_out is None
        else:
            result.rows = self._limited_rows(limit, result.rows)
        return result

    async def _run_one(self, prepared: Prepared, parameters: Sequence[Datum], more: bool) -> Result:
        block, statement = self.state.block, prepared.statement
        # A level above READ COMMITTED takes a transaction, for one statement too.
        level = self.state.settings["default_transaction_isolation"]
        joins = not isinstance(statement, session_statements.BEGINS_OR_ENDS)
        if joins and not block.begun and (more or level not in READ_COMMITTED):
            block.begin_implicit(self.services.runtime.now(), self.new_transaction())
            self.state.settings.begin()
        result = await self.run(statement, prepared.parameters, parameters)
        streams = result.rows is not None or result.copy_in is not None
        if not more and not streams and result.copy_out is None:
            await self.end_implicit()
        return result

    def new_transaction(self) -> SessionTransaction:
        """A transaction that has not begun to do anything."""
        return SessionTransaction(self.services)

    async def end_implicit(self) -> None:
        """Commits the implicit transaction, if there is one: the client's message is done."""
        block = self.state.block
        if block.open or not block.begun:
            return
        transaction = block.end()
        assert transaction is not None
        try:
            await transaction.commit()
        except BaseException:
            self.state.settings.rollback()
            raise
        self.state.settings.commit()
        await self.state.cursors.close_all(held=False)

    def _check_block(self, statement: Statement) -> None:
        if not isinstance(statement, session_statements.ENDS_FAILED_BLOCK):
            self.state.block.check_usable()

    async def run(
        self,
        statement: Statement,
        types: tuple[SqlType, ...] = (),
        values: Sequence[Datum] = (),
    ) -> Result:
        """Runs a statement of any kind within the one that is being executed."""
        for text in statement.notices:
            self.notice(text)
        self._check_block(statement)
        if isinstance(statement, Explain) and isinstance(statement.statement, Execute):
            called = statement.statement
            prepared = self.find_prepared(called.name)
            values = await self.arguments_of(called, prepared)
            statement = replace(statement, statement=prepared.statement)
            types = prepared.parameters
        if isinstance(statement, Vacuum):
            self.check_no_block("VACUUM")
        if isinstance(statement, LockTable) and not self.state.block.begun:
            self.state.block.check_open("LOCK TABLE")
        if isinstance(statement, Declare):
            return await session_statements.declare(self, statement, types, values)
        handler = session_statements.HANDLERS.get(type(statement))
        if handler is not None:
            return await handler(self, statement)
        command = change_of(statement)
        if command is None and isinstance(statement, Query):
            clause = locking_clause(statement)
            command = None if clause is None else f"SELECT {clause}"
        if command is not None:
            self.state.block.check_may_write(command, read_only=self._read_only)
        return await self.run_planned(statement, types, values)

    def check_no_block(self, command: str) -> None:
        """25001 within a block that has begun to do something."""
        transaction = self.state.block.transaction
        if self.state.block.open or (transaction is not None and transaction.has_read):
            raise ActiveSqlTransaction(f"{command} cannot run inside a transaction block")

    @property
    def _read_only(self) -> bool:
        transaction = self.state.block.transaction
        if transaction is not None and transaction.is_past:
            return True
        begun = self.state.block.begun
        name = "transaction_read_only" if begun else "default_transaction_read_only"
        return self.state.settings[name] == "on"

    async def run_planned(
        self,
        statement: Statement,
        types: tuple[SqlType, ...] = (),
        values: Sequence[Datum] = (),
    ) -> Result:
        """Runs a statement that needs a snapshot and the catalog."""
        if self.state.block.transaction is not None:
            self.state.block.transaction.begin_command()
        past = await past_of(self, statement, types, values)
        if isinstance(statement, Query) and past is None:
            found = await self._point_query(statement, types, values)
            if found is not None:
                self.state.last_read = None
                return found
        if may_be_by_row(statement) and past is None:
            found = await self._point_write(statement, types, values)
            if found is not None:
                self.state.last_read = None
                return found
        alone = may_do_without(statement, self.services)
        execution = await self._execution(self._limit, types, values, past=past, alone=alone)
        transaction = self.state.block.transaction
        retries = StatementRetries(self.services.runtime, statement, alone=transaction is None)
        if isinstance(statement, Query) and calls_set_config(statement):
            statement = with_values(statement, values, self._set_config)
        if isinstance(statement, Query) and calls_cluster_function(statement):
            token = None if transaction is None else transaction.token
            statement = await with_answers(statement, values, self.services, token)
        if isinstance(statement, Query) and reads_session_tables(statement):
            statement = with_session_tables(statement, self)
        while True:
            try:
                return await self._run_held(execution, statement)
            except DqeError as error:
                failed, version = told_of_past(error, execution), execution.context.catalog.version
            if past is not None and past.may_be_newer(failed):
                past = None
                execution = await self._execution(self._limit, types, values)
                continue
            await retries.after(failed)
            if transaction is not None:
                await transaction.undo_statement()
            execution = await self._execution(self._limit, types, values, past=past)
            unmoved = execution.context.catalog.version == version
            if isinstance(failed, ObjectNotInPrerequisiteState) and unmoved:
                raise failed

    async def _point_query(
        self, statement: Query, types: tuple[SqlType, ...], values: Sequence[Datum]
    ) -> Result | None:
        """The answer of a query for rows by a key or an index, which needs no plan."""
        transaction = self.state.block.transaction
        if transaction is not None:
            if transaction.is_past:
                return None
            transaction.isolation = self.state.settings["transaction_isolation"]
        context = self._context(self.services.catalog.current, self.state.settings)
        given = statement, types, values, context, transaction
        answer = await self.coordinator.points.answer(*given)
        return answer or await self.coordinator.indexes.answer(*given)

    async def _point_write(
        self,
        statement: PointStatement,
        types: tuple[SqlType, ...],
        values: Sequence[Datum],
    ) -> Result | None:
        """The answer of a statement over single rows by key; see `executor.point_writes`."""
        transaction, settings = self.state.block.transaction, self.state.settings
        wanted = WriteSettings(lock_deadline_s(settings), max_bytes(settings), Control.of(settings))
        if transaction is not None:
            transaction.isolation = settings["transaction_isolation"]
            transaction.lock_deadline_s = wanted.lock_deadline_s
            transaction.max_bytes = wanted.max_bytes
            transaction.control = wanted.control
        context = self._context(self._present(), settings)
        writes = self.coordinator.point_writes
        return await writes.answer(statement, types, values, context, transaction, wanted)

    def _set_config(self, name: str, value: str, local: bool) -> str:
        if local and not self.state.block.begun:
            # It would end with its statement, and so is over already.
            return value
        return self.state.settings.set(name, value, local=local)

    async def _run_held(self, execution: Execution, statement: Statement) -> Result:
        """Runs it, and keeps the history it reads until its result is closed."""
        with ExitStack() as stack:
            stack.enter_context(self.services.timestamps.held(execution.timestamp))
            result = await run_statement(execution, statement)
            self.state.last_read = execution.timestamp
            report_changes(execution, statement, result)
            release = stack.pop_all()
        on_close = result.on_close

        async def close() -> None:
            with release:
                await on_close()

        result.on_close = close
        return result

    async def _execution(
        self,
        limit: _Limit,
        types: tuple[SqlType | None, ...],
        values: Sequence[Datum],
        *,
        describes: bool = False,
        past: PastRead | None = None,
        alone: bool = False,
    ) -> Execution:
        """What a statement runs with; one that is only described takes no snapshot to keep, one
        that does `alone` with what this node knows takes none at all."""
        transaction = None if describes or past is not None else self.state.block.transaction
        if past is not None:
            timestamp, catalog = past.timestamp, self.services.catalog.current
        elif alone and transaction is None:
            timestamp, catalog = self.services.timestamps.newest, self._present()
            if not describes:
                self.notice(WARNING, "WARNING")
        elif transaction is None:
            timestamp, version = await self.services.timestamps.snapshot()
            await self.services.catalog.wait_version(version)
            catalog = self._present()
        else:
            transaction.isolation = self.state.settings["transaction_isolation"]
            transaction.lock_deadline_s = lock_deadline_s(self.state.settings)
            transaction.max_bytes = max_bytes(self.state.settings)
            transaction.control = Control.of(self.state.settings)
            timestamp, catalog = await transaction.snapshot()
        is_past = past is not None or (transaction is not None and transaction.is_past)
        return Execution(
            services=self.services,
            coordinator=self.coordinator,
            context=self._context(catalog, dict(self.state.settings), near=is_past),
            timestamp=timestamp,
            parameter_types=types,
            values=values,
            notices=self._notices,
            deadline_s=self._remaining_s(limit),
            transaction=transaction,
            is_past=is_past,
        )

    def _present(self) -> Catalog:
        """The newest catalog, with what the transaction has defined."""
        catalog, transaction = self.services.catalog.current, self.state.block.transaction
        return catalog if transaction is None else transaction.definitions.view(catalog)

    def evaluation(
        self, types: tuple[SqlType | None, ...] = (), values: Sequence[Datum] = ()
    ) -> Execution:
        """What a constant of a statement is evaluated with, at no snapshot."""
        return Execution(
            services=self.services,
            coordinator=self.coordinator,
            context=self._context(self.services.catalog.current, dict(self.state.settings)),
            timestamp=0,
            parameter_types=types,
            values=values,
            notices=self._notices,
            deadline_s=self._remaining_s(self._limit),
        )

    def _context(
        self, catalog: Catalog, settings: Mapping[str, str], *, near: bool = False
    ) -> PlannerContext:
        now = self.services.runtime.now()
        return PlannerContext(
            catalog=catalog,
            node_id=self.services.node_id,
            now=self.state.block.started or now,
            statement_now=now,
            settings=settings,
            session=self._facts,
            live_nodes=self.services.catalog.liveness.live_nodes(),
            nearest=nearest_nodes(catalog, self.services.node_id) if near else (),
        )

    # -- prepared statements ------------------------------------------------------------

    def find_prepared(self, name: str) -> Prepared:
        """The statement of PREPARE; 26000 when there is none."""
        if name not in self.state.prepared:
            raise InvalidSqlStatementName(f'prepared statement "{name}" does not exist')
        return self.state.prepared[name]

    def forget_prepared(self, name: str | None) -> bool:
        """Forgets one, or all with None; false when there is none of that name.

        Statements that the client's server prepared by protocol count, too: some clients
        drop them with DEALLOCATE.
        """
        found = self.forget_protocol_prepared(name)
        if name is None:
            self.state.prepared.clear()
            return True
        return self.state.prepared.pop(name, None) is not None or found

    async def arguments_of(self, statement: Execute, prepared: Prepared) -> list[Datum]:
        """The values of EXECUTE's arguments, as text; 42601 for a wrong number of them."""
        expected, given = len(prepared.parameters), len(statement.arguments)
        if expected != given:
            raise SyntaxError_(
                f'wrong number of parameters for prepared statement "{statement.name}"',
                detail=f"Expected {expected} parameters but got {given}.",
            )
        if not statement.arguments:
            return []
        items = [
            exp.alias_(argument.copy(), f"a{index}")
            for index, argument in enumerate(statement.arguments)
        ]
        query = Query(text="", offset=0, tree=exp.Select(expressions=items))
        result = await self.run_planned(query)
        try:
            batches = [batch async for batch in result.batches()]
        finally:
            await result.close()
        assert result.columns is not None
        texts = text_columns(batches[0], [column.type for column in result.columns])
        return [text[0].as_py() for text in texts]

    # -- limits -------------------------------------------------------------------------

    def _deadline_s(self) -> float | None:
        timeout_ms = milliseconds_of(self.state.settings["statement_timeout"])
        return self.services.runtime.monotonic() + timeout_ms / 1000 if timeout_ms else None

    def _remaining_s(self, limit: _Limit) -> float | None:
        if limit.deadline_s is None:
            return None
        return max(0.0, limit.deadline_s - self.services.runtime.monotonic())

    async def within_statement(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does what of a statement comes after `execute`, the data of a COPY: its time limit
        holds and `cancel` reaches it, also while it waits for the client. 57014 then."""
        return await self._limited(self._limit, work)

    async def _limited(self, limit: _Limit, work: Callable[[], Awaitable[T]]) -> T:
        """Runs a part of a statement under its time limit, within reach of `cancel`."""
        self._limit = limit
        if limit.cancelled:
            raise _stopped(limit)
        limit.scope = asyncio.timeout(self._remaining_s(limit))
        try:
            async with limit.scope:
                return await work()
        except TimeoutError:
            if not limit.scope.expired():
                raise
            raise _stopped(limit) from None
        finally:
            limit.scope = None

    async def _limited_rows(
        self, limit: _Limit, rows: AsyncIterator[pa.RecordBatch]
    ) -> AsyncIterator[pa.RecordBatch]:
        async def next_batch() -> pa.RecordBatch | None:
            return await anext(rows, None)

        try:
            while (batch := await self._limited(limit, next_batch)) is not None:
                yield batch
        except DqeError:
            self.fail_transaction()
            raise
        finally:
            limit.done = True


def _none_forgotten(name: str | None) -> bool:
    return False


def _stopped(limit: _Limit) -> QueryCanceled:
    why = "user request" if limit.cancelled else "statement timeout"
    return QueryCanceled(f"canceling statement due to {why}")
