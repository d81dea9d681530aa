"""What a query block is made of, while it is bound and after."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from planner.binder.relations import FromClause
from planner.binder.scope import Scope, ScopeColumn
from storage.types import SqlType


@dataclass(frozen=True, slots=True)
class Output:
    """A column a block gives: the user's name, its alias in the SQL, its type."""

    name: str
    alias: str
    type: SqlType


@dataclass(slots=True)
class Block:
    """A bound block."""

    tree: exp.Query
    outputs: list[Output]


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a select list before it has an alias."""

    name: str
    node: exp.Expr


@dataclass(frozen=True, slots=True)
class CommonTable:
    """A CTE in sight: its name in the statement and its columns (relation still open)."""

    unique: str
    columns: tuple[ScopeColumn, ...]


@dataclass(slots=True)
class Selection:
    """The parts of a SELECT while it is bound."""

    clause: FromClause
    scope: Scope
    items: list[Item] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    group: exp.Group | None = None
    keys: list[exp.Expr] = field(default_factory=list)
    has_sets: bool = False
    where: exp.Expr | None = None
    having: exp.Expr | None = None
    order: list[exp.Ordered] = field(default_factory=list)
    distinct_on: list[exp.Expr] = field(default_factory=list)
