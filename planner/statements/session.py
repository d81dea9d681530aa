"""Statements about the session, its transactions, cursors and prepared statements; utilities."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlglot import exp

from planner.statements.common import ObjectName, SourceExpression, Statement, TypeName
from planner.statements.rows import Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyze(Statement):
    """`tables` empty is every table; a table's columns are None for all."""

    tables: tuple[tuple[ObjectName, tuple[str, ...] | None], ...]
    verbose: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Vacuum(Statement):
    """There is nothing to do by hand; `analyze` asks for statistics as ANALYZE does."""

    tables: tuple[tuple[ObjectName, tuple[str, ...] | None], ...]
    analyze: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Statement):
    statement: Statement
    analyze: bool = False
    verbose: bool = False
    costs: bool = True
    timing: bool = True
    summary: bool | None = None
    format: str = "text"  # or "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVariable(Statement):
    """SET; `value` None is DEFAULT. A list of values is joined with ", "."""

    name: str
    value: str | None
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(Statement):
    """`name` "all" shows every setting."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Statement):
    """`name` "all" resets every setting."""

    name: str


@dataclass(frozen=True, slots=True)
class TransactionModes:
    isolation: str | None = None  # "read committed", ...
    read_only: bool | None = None
    deferrable: bool | None = None
    as_of: SourceExpression | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Statement):
    """BEGIN or START TRANSACTION; `tag` is which."""

    modes: TransactionModes
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetConstraints(Statement):
    """SET CONSTRAINTS; `names` None is ALL."""

    names: tuple[ObjectName, ...] | None
    deferred: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTransaction(Statement):
    """SET TRANSACTION, or (`session`) SET SESSION CHARACTERISTICS AS TRANSACTION."""

    modes: TransactionModes
    session: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterSystem(Statement):
    """ALTER SYSTEM SET name = value, or RESET it (`value` None), or all (`name` None)."""

    name: str | None
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTable(Statement):
    """LOCK TABLE; `mode` is one of PostgreSQL's eight, in small letters."""

    tables: tuple[ObjectName, ...]
    mode: str
    nowait: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Statement):
    chain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(Statement):
    chain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareTransaction(Statement):
    """PREPARE TRANSACTION."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndPrepared(Statement):
    """COMMIT PREPARED and ROLLBACK PREPARED; `command` says which."""

    command: str
    identifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Savepoint(Statement):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSavepoint(Statement):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackToSavepoint(Statement):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare(Statement):
    """SQL's PREPARE name [(types)] AS statement."""

    name: str
    types: tuple[TypeName, ...]
    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute(Statement):
    name: str
    arguments: tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deallocate(Statement):
    """`name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declare(Statement):
    """DECLARE name CURSOR FOR query; `scroll` is whether it must go back, None if not said."""

    name: str
    query: Query
    hold: bool
    binary: bool
    scroll: bool | None = None


class FetchDirection(StrEnum):
    FORWARD = "forward"
    BACKWARD = "backward"
    ABSOLUTE = "absolute"
    RELATIVE = "relative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Statement):
    """FETCH or (`move`) MOVE; `count` None is ALL.

    The count goes FORWARD (backward where it is negative), or says where ABSOLUTE or RELATIVE
    a single row is.
    """

    cursor: str
    direction: FetchDirection
    count: int | None
    move: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCursor(Statement):
    """`name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard(Statement):
    what: str  # "ALL", "PLANS", "SEQUENCES", "TEMP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlisten(Statement):
    """Nothing can be listened to, so there is nothing to end; connection pools ask for it."""
