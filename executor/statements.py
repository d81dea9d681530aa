"""What each kind of statement does: which handler runs it, and how it describes itself.

Two groups. Statements about the session itself (`executor.session_statements`) need no
snapshot and work while a transaction block has failed where PostgreSQL lets them. All others
run with an `Execution`: queries here in `executor.queries`, the rest in the modules below.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from cluster.errors import FeatureNotSupported
from executor import (
    analyze,
    copy,
    ddl,
    explaining,
    locking,
    queries,
    writes,
    writes_conflict,
    writes_merge,
)
from executor.bound_writes import is_bound, run_bound
from executor.execution import Execution, Result
from executor.locking_subqueries import locking_clause, run_locked
from executor.past import time_parameters
from planner.binder import bind_query
from planner.ddl import DDL_STATEMENTS
from planner.plan import ResultColumn
from planner.statements import (
    Analyze,
    CopyFrom,
    CopyTo,
    CreateTableAs,
    Delete,
    Explain,
    Insert,
    LockTable,
    Merge,
    Query,
    Statement,
    Truncate,
    Update,
    Vacuum,
)
from planner.writes import describe_write
from storage.types import TEXT, SqlType

Handler = Callable[..., Awaitable[Result]]

_HANDLERS: dict[type[Statement], Handler] = {
    Query: queries.run_select,
    Insert: writes_conflict.run_insert,
    Update: writes.run_update,
    Delete: writes.run_delete,
    Merge: writes_merge.run_merge,
    Truncate: writes.run_truncate,
    LockTable: locking.run_lock_table,
    CopyFrom: copy.run_copy_from,
    CopyTo: copy.run_copy_to,
    Explain: explaining.run_explain,
    Analyze: analyze.run_analyze,
    Vacuum: analyze.run_vacuum,
    **dict.fromkeys(DDL_STATEMENTS, ddl.run_ddl),
}

# Those that may have locking clauses, in their queries.
_LOCKING = (Query, Insert, Update, Delete, Merge, CreateTableAs, CopyTo)

# What a statement that changes something is called in errors; DDL goes by its first words.
_CHANGES: dict[type[Statement], str] = {
    Insert: "INSERT",
    Update: "UPDATE",
    Delete: "DELETE",
    Merge: "MERGE",
    Truncate: "TRUNCATE TABLE",
    CopyFrom: "COPY FROM",
    CreateTableAs: "CREATE TABLE AS",
}


async def run_statement(execution: Execution, statement: Statement) -> Result:
    """Runs a statement that is not about the session itself."""
    handler = _HANDLERS.get(type(statement))
    if handler is None:
        raise FeatureNotSupported(f"{_first_words(statement)} is not supported here")
    if isinstance(statement, _LOCKING) and locking_clause(statement) is not None:
        return await run_locked(_handled, execution, statement, _check)
    return await _handled(execution, statement)


async def _handled(execution: Execution, statement: Statement) -> Result:
    handler = _HANDLERS[type(statement)]
    if is_bound(execution, statement):
        return await run_bound(handler, execution, statement)
    return await handler(execution, statement)


def _check(execution: Execution, statement: Statement) -> object:
    """Raises what is wrong with the statement, parameters and all."""
    return describe_planned(execution, statement, execution.parameter_types)


def change_of(statement: Statement) -> str | None:
    """The name of what changes something, None for a statement that only reads."""
    if isinstance(statement, Explain):
        return change_of(statement.statement) if statement.analyze else None
    if type(statement) in _CHANGES:
        return _CHANGES[type(statement)]
    return _first_words(statement) if isinstance(statement, DDL_STATEMENTS) else None


def _first_words(statement: Statement) -> str:
    return " ".join(statement.text.split()[:2]).upper()


Described = tuple[tuple[SqlType, ...], tuple[ResultColumn, ...] | None]


def describe_planned(
    execution: Execution, statement: Statement, types: Sequence[SqlType | None]
) -> Described:
    """Parameter types and columns of a statement that `run_statement` would run."""
    if isinstance(statement, Query):
        bound = bind_query(statement.tree, execution.context, parameters=types)
        parameters = bound.parameters
        if statement.as_of is not None:
            parameters = time_parameters(execution.context, statement.as_of, parameters)
        return parameters, queries.describe(bound)
    if isinstance(statement, Insert | Update | Delete | Merge):
        return describe_write(statement, execution.context, types)
    if isinstance(statement, Explain):
        parameters, _ = describe_planned(execution, statement.statement, types)
        return parameters, explaining.COLUMNS
    if isinstance(statement, DDL_STATEMENTS):
        return _given(types), ddl.describe_ddl(statement)
    return _given(types), None


def _given(types: Sequence[SqlType | None]) -> tuple[SqlType, ...]:
    return tuple(given or TEXT for given in types)
