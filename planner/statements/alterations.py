"""ALTER TABLE: an action each."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.model import AccessMethod
from planner.statements.common import ObjectName, SourceExpression, Statement, TypeName
from planner.statements.tables import (
    ColumnClause,
    ConstraintClause,
    SequenceOptions,
    StorageClauses,
)


@dataclass(frozen=True, slots=True)
class RenameTable:
    new_name: str


@dataclass(frozen=True, slots=True)
class RenameColumn:
    column: str
    new_name: str


@dataclass(frozen=True, slots=True)
class RenameConstraint:
    constraint: str
    new_name: str


@dataclass(frozen=True, slots=True)
class SetTableSchema:
    schema: str


@dataclass(frozen=True, slots=True)
class AddColumn:
    column: ColumnClause
    constraints: tuple[ConstraintClause, ...]
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class DropColumn:
    column: str
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True)
class SetDefault:
    """`default` None drops it."""

    column: str
    default: SourceExpression | None


@dataclass(frozen=True, slots=True)
class SetNotNull:
    column: str
    not_null: bool


@dataclass(frozen=True, slots=True)
class AlterType:
    """`using` is over the columns as they were; without it values are cast as assigned."""

    column: str
    type: TypeName
    using: SourceExpression | None
    position: int


@dataclass(frozen=True, slots=True)
class SetIdentity:
    """ADD GENERATED ... AS IDENTITY with `sequence`, SET GENERATED ... without."""

    column: str
    identity: str
    sequence: SequenceOptions | None


@dataclass(frozen=True, slots=True)
class DropOrigin:
    """DROP IDENTITY, DROP EXPRESSION."""

    column: str
    what: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class SetAccessMethod:
    """`method` None for DEFAULT."""

    method: AccessMethod | None


@dataclass(frozen=True, slots=True)
class AddConstraint:
    """One that is not `validated` says nothing of the rows that are there (NOT VALID)."""

    constraint: ConstraintClause
    validated: bool = True


@dataclass(frozen=True, slots=True)
class ValidateConstraint:
    constraint: str


@dataclass(frozen=True, slots=True)
class DropConstraint:
    constraint: str
    if_exists: bool
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class SetStorage:
    """SET (replicas = ..., durability = ...)."""

    clauses: StorageClauses


@dataclass(frozen=True, slots=True)
class ResetPlacement:
    """RESET (region, ...): takes these back, each a field of `PlacementClause`."""

    names: tuple[str, ...]


AlterAction = (
    RenameTable
    | RenameColumn
    | RenameConstraint
    | SetTableSchema
    | SetAccessMethod
    | AddColumn
    | DropColumn
    | SetDefault
    | SetNotNull
    | AlterType
    | SetIdentity
    | DropOrigin
    | AddConstraint
    | ValidateConstraint
    | DropConstraint
    | SetStorage
    | ResetPlacement
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterTable(Statement):
    table: ObjectName
    if_exists: bool
    actions: tuple[AlterAction, ...]
