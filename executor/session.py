"""A client's session: statements in, answers out, and the state between them.

The wire server (or anything else that speaks for a client) parses, prepares and executes
through a `Session`; `executor.statements` says what each kind of statement does.

    session_state          settings, the open block, prepared statements, cursors
    session_limits         what can stop a statement: its time, a cancel request
    session_surroundings   what a statement runs with: snapshot, catalog, the planner's view
    session_statements     statements about the session itself
    table_statements       all others
    quick_statements       short ones, by a way of their own from the wire

A statement outside of a block commits by itself. Several of one message are one implicit
transaction (PostgreSQL manual 54.2.2.1), which the session ends when its server says that the
message is done.

Invariants:
- One statement runs at a time; its error leaves the session usable.
- A statement cancelled or timed out raises 57014 from whatever of it is awaited then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sqlglot import exp

from cluster.errors import (
    ActiveSqlTransaction,
    DqeError,
    IdleInTransactionSessionTimeout,
    IdleSessionTimeout,
    InvalidSqlStatementName,
    ResultTypeChanged,
    SyntaxError_,
)
from executor import cluster_settings, session_statements
from executor.cluster_functions import calls_cluster_function, with_words
from executor.coordinator import Coordinator
from executor.execution import Notice, Result
from executor.formatting.text import text_columns
from executor.locking_subqueries import locking_clause, unlocked
from executor.past_times import LAST_READ, shown
from executor.queries import as_described, shown_columns
from executor.quick_statements import QuickStatements
from executor.services import ExecutorServices
from executor.session_limits import StatementLimits
from executor.session_state import Prepared, SessionState
from executor.session_surroundings import SessionSurroundings
from executor.session_tables import reads_session_tables, with_session_tables
from executor.session_transaction import READ_COMMITTED, SessionTransaction
from executor.set_config import calls_set_config, with_values
from executor.setting_kinds import milliseconds_of
from executor.settings import DATABASE, SERVER_VERSION, SessionSettings
from executor.statements import change_of, describe_planned
from executor.table_statements import TableStatements
from executor.temporary import drop_in_background, new_schema_name
from executor.without_catalog import may_do_without
from planner.binder.sequence_calls import SESSION_TOKEN
from planner.datum import Datum
from planner.parser import parse
from planner.plan import ResultColumn
from planner.point_writes import may_be_by_row
from planner.statements import (
    Declare,
    Execute,
    Explain,
    LockTable,
    Query,
    Statement,
    Vacuum,
)
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
        self.limits = StatementLimits(services.runtime, self.state.settings)
        self.surroundings = SessionSurroundings(
            services, coordinator, self.state, self.limits, self._facts, self._notices
        )
        self._tables = TableStatements(self)
        self.quick = QuickStatements(self, self.surroundings.now)

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
        self.limits.cancel()

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
        catalog = self.surroundings.present
        prepared = await self._described(statement, parameter_types)
        prepared.hold.catalog = catalog
        return prepared

    async def _described(
        self, statement: Statement, parameter_types: Sequence[SqlType | None]
    ) -> Prepared:
        self._check_block(statement)
        types = tuple(parameter_types)
        now = self.services.runtime.now()
        if isinstance(statement, Declare):
            query = await self._described(statement.query, types)
            return Prepared(statement, query.parameters, None, now)
        if type(statement) in session_statements.HANDLERS:
            columns = session_statements.describe(self, statement)
            return Prepared(statement, tuple(given or TEXT for given in types), columns, now)
        if isinstance(statement, Query) and statement.as_of is None:
            context = self.surroundings.newest()
            found = self.coordinator.points.described(statement, types, context)
            if found is not None:
                return Prepared(statement, found[0], found[1], now)
        if may_be_by_row(statement):
            context = self.surroundings.newest()
            write = self.coordinator.point_writes.described(statement, types, context)
            if write is not None:
                return Prepared(statement, write.parameters, write.columns, now)
        limit = self.limits.new()
        execution = await self.limits.within(
            limit,
            lambda: self.surroundings.execution(
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

    async def check_described(self, prepared: Prepared) -> None:
        """Raises 0A000 where definitions since have changed what the statement answers, and what
        keeps it from being described again."""
        catalog = self.surroundings.present
        if prepared.columns is None or prepared.hold.catalog in (None, catalog):
            return
        again = await self._described(prepared.statement, prepared.parameters)
        if shown_columns(again.columns) != shown_columns(prepared.columns):
            raise ResultTypeChanged()
        prepared.hold.catalog = catalog

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
        limit = self.limits.new()
        try:
            result = await self.limits.within(
                limit, lambda: self._run_one(prepared, parameters, more)
            )
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
            result.rows = self.limits.rows(limit, result.rows, self.fail_transaction)
        return result

    async def _run_one(self, prepared: Prepared, parameters: Sequence[Datum], more: bool) -> Result:
        await self.check_described(prepared)
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
        return await self._tables.run(statement, types, values)

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

    async def within_statement(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does what of a statement comes after `execute`, the data of a COPY: its time limit
        holds and `cancel` reaches it, also while it waits for the client. 57014 then."""
        return await self.limits.within(self.limits.current, work)


def _none_forgotten(name: str | None) -> bool:
    return False
