"""How a session runs a statement that reads or changes tables.

    past_of        whether it reads the past
    points         by key or index, without a plan (`executor.point_queries`, `point_writes`)
    otherwise      planned with the catalog of its snapshot, and run

If the cluster has moved on before its first row (a fragment is no longer where the plan says, a
node has died, a leader has moved), it is planned and run again, if nothing of it can have happened
(`executor.retries`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cluster.errors import DqeError, ObjectNotInPrerequisiteState
from executor.changed_rows import report_changes
from executor.cluster_functions import calls_cluster_function, with_answers
from executor.execution import Execution, Result
from executor.past import past_of, told_of_past
from executor.retries import StatementRetries
from executor.session_tables import reads_session_tables, with_session_tables
from executor.set_config import calls_set_config, with_values
from executor.statements import run_statement
from executor.without_catalog import may_do_without
from executor.write_settings import WriteSettings
from planner.datum import Datum
from planner.point_writes import PointStatement, may_be_by_row
from planner.statements import Query, Statement
from storage.types import SqlType

if TYPE_CHECKING:
    from executor.session import Session


class TableStatements:
    """One session's."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._state = session.state
        self._services = session.services
        self._surroundings = session.surroundings

    async def run(
        self,
        statement: Statement,
        types: tuple[SqlType, ...] = (),
        values: Sequence[Datum] = (),
    ) -> Result:
        """Runs a statement that needs a snapshot and the catalog."""
        if self._state.block.transaction is not None:
            self._state.block.transaction.begin_command()
        past = await past_of(self._session, statement, types, values)
        if isinstance(statement, Query) and past is None:
            found = await self._point_query(statement, types, values)
            if found is not None:
                self._state.last_read = None
                return found
        if may_be_by_row(statement) and past is None:
            found = await self._point_write(statement, types, values)
            if found is not None:
                self._state.last_read = None
                return found
        alone, limit = may_do_without(statement, self._services), self._session.limits.current
        execution = await self._surroundings.execution(limit, types, values, past=past, alone=alone)
        transaction = self._state.block.transaction
        retries = StatementRetries(self._services.runtime, statement, alone=transaction is None)
        if isinstance(statement, Query) and calls_set_config(statement):
            statement = with_values(statement, values, self._set_config)
        if isinstance(statement, Query) and calls_cluster_function(statement):
            statement = await with_answers(statement, values, self._services, transaction)
        if isinstance(statement, Query) and reads_session_tables(statement):
            statement = with_session_tables(statement, self._session)
        while True:
            try:
                return await self._run_held(execution, statement)
            except DqeError as error:
                failed, version = told_of_past(error, execution), execution.context.catalog.version
            if past is not None and past.may_be_newer(failed):
                past = None
                execution = await self._surroundings.execution(limit, types, values)
                continue
            await retries.after(failed)
            if transaction is not None:
                await transaction.undo_statement()
            execution = await self._surroundings.execution(limit, types, values, past=past)
            unmoved = execution.context.catalog.version == version
            if isinstance(failed, ObjectNotInPrerequisiteState) and unmoved:
                raise failed

    async def _point_query(
        self, statement: Query, types: tuple[SqlType, ...], values: Sequence[Datum]
    ) -> Result | None:
        """The answer of a query for rows by keys or an index, which needs no plan."""
        transaction = self._state.block.transaction
        if transaction is not None:
            if transaction.is_past:
                return None
            transaction.isolation = self._state.settings["transaction_isolation"]
        context = self._surroundings.now()
        given = statement, types, values, context, transaction
        coordinator = self._session.coordinator
        for way in (coordinator.points, coordinator.indexes, coordinator.joins):
            answer = await way.answer(*given)
            if answer is not None:
                return answer
        return None

    async def _point_write(
        self,
        statement: PointStatement,
        types: tuple[SqlType, ...],
        values: Sequence[Datum],
    ) -> Result | None:
        """The answer of a statement over single rows by key; see `executor.point_writes`."""
        transaction, settings = self._state.block.transaction, self._state.settings
        wanted = WriteSettings.of(settings)
        if transaction is not None:
            transaction.isolation = settings["transaction_isolation"]
            transaction.settle(wanted)
        context = self._surroundings.newest()
        writes = self._session.coordinator.point_writes
        return await writes.answer(statement, types, values, context, transaction, wanted)

    def _set_config(self, name: str, value: str, local: bool) -> str:
        if local and not self._state.block.begun:
            # It would end with its statement, and so is over already.
            return value
        return self._state.settings.set(name, value, local=local)

    async def _run_held(self, execution: Execution, statement: Statement) -> Result:
        """Runs it, and keeps the history it reads until its result is closed."""
        with ExitStack() as stack:
            stack.enter_context(self._services.timestamps.held(execution.timestamp))
            result = await run_statement(execution, statement)
            self._state.last_read = execution.timestamp
            report_changes(execution, statement, result)
            release = stack.pop_all()
        on_close = result.on_close

        async def close() -> None:
            with release:
                await on_close()

        result.on_close = close
        return result
