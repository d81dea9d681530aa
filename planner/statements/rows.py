"""Queries, and statements that change rows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlglot import exp

from planner.statements.common import ObjectName, SourceExpression, Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Statement):
    """SELECT, VALUES, TABLE or WITH; `as_of` is the time of AS OF SYSTEM TIME."""

    tree: exp.Query
    as_of: SourceExpression | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """`columns = value` of SET; several columns take a row or a subquery.

    `value` None is the keyword DEFAULT (one column). A row is an `exp.Tuple`.
    """

    columns: tuple[str, ...]
    value: exp.Expr | None
    position: int


@dataclass(frozen=True, slots=True)
class OnConflict:
    """ON CONFLICT: the rows meant by `columns` or `constraint` (neither: by any constraint).

    `assignments` None is DO NOTHING. `where` is that of DO UPDATE.
    """

    columns: tuple[str, ...] | None
    constraint: str | None
    assignments: tuple[Assignment, ...] | None
    where: exp.Expr | None
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert(Statement):
    """`source` None is DEFAULT VALUES. In VALUES rows the keyword DEFAULT is `is_default`."""

    table: ObjectName
    alias: str | None
    columns: tuple[str, ...] | None
    source: exp.Query | None
    overriding: str | None  # "system" or "user"
    on_conflict: OnConflict | None
    returning: tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Statement):
    """`source` is `SELECT 1 [FROM ...] [WHERE ...]` with the statement's WITH list, if any."""

    table: ObjectName
    alias: str | None
    assignments: tuple[Assignment, ...]
    source: exp.Select
    returning: tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Statement):
    """`source` is `SELECT 1 [FROM <using>] [WHERE ...]` with the WITH list, if any."""

    table: ObjectName
    alias: str | None
    source: exp.Select
    returning: tuple[exp.Expr, ...]


class MergeState(StrEnum):
    """Which rows a WHEN clause is about."""

    MATCHED = "matched"
    NO_TARGET = "not matched by target"
    NO_SOURCE = "not matched by source"


class MergeAction(StrEnum):
    UPDATE = "update"
    DELETE = "delete"
    INSERT = "insert"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class MergeClause:
    """WHEN ... THEN ...; `assignments` are UPDATE's, the rest INSERT's (`values` None is
    DEFAULT VALUES)."""

    state: MergeState
    condition: exp.Expr | None
    action: MergeAction
    position: int
    assignments: tuple[Assignment, ...] = ()
    columns: tuple[str, ...] | None = None
    values: exp.Query | None = None
    overriding: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(Statement):
    """`source` is `SELECT 1 FROM <using> WHERE <on>` with the statement's WITH list, if any."""

    table: ObjectName
    alias: str | None
    source: exp.Select
    clauses: tuple[MergeClause, ...]
    returning: tuple[exp.Expr, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate(Statement):
    """`restart_identity`: sequences of the tables' columns begin again. `cascade`: tables that
    refer to these are emptied, too."""

    tables: tuple[ObjectName, ...]
    restart_identity: bool = False
    cascade: bool = False


def is_default(node: exp.Expr | None) -> bool:
    """Whether a value of a VALUES row is the keyword DEFAULT."""
    return isinstance(node, exp.Var) and node.name.upper() == "DEFAULT"
