"""Schemas, views, sequences, what is dropped, and Citus' functions that cut a table."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from planner.statements.common import ObjectName, Statement
from planner.statements.tables import SequenceOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTable(Statement):
    tables: tuple[ObjectName, ...]
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSchema(Statement):
    name: str
    if_not_exists: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameSchema(Statement):
    """ALTER SCHEMA ... RENAME TO."""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment(Statement):
    """COMMENT ON a table, a `column` of one, a view or a sequence; None takes it away."""

    kind: str
    name: ObjectName
    column: str | None
    comment: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSchema(Statement):
    names: tuple[str, ...]
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateView(Statement):
    view: ObjectName
    columns: tuple[str, ...] | None
    query: exp.Query
    query_text: str
    or_replace: bool
    temporary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSequence(Statement):
    sequence: ObjectName
    options: SequenceOptions
    if_not_exists: bool
    temporary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterSequence(Statement):
    """`new_name` is that of RENAME TO; the options are then empty."""

    sequence: ObjectName
    options: SequenceOptions
    if_exists: bool
    new_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSequence(Statement):
    sequences: tuple[ObjectName, ...]
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DropView(Statement):
    views: tuple[ObjectName, ...]
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribute(Statement):
    """`SELECT create_distributed_table('t', 'c', ...)` or `create_reference_table('t')`.

    `column` None makes a reference table, which lies whole on every node.
    """

    function: str
    table: ObjectName
    column: str | None = None
    part_count: int | None = None
    colocate_with: ObjectName | None = None
    colocate_none: bool = False
