"""CREATE TABLE in its three forms, and the clauses it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlglot import exp

from catalog.model import AccessMethod, Durability, PartitionMethod
from planner.statements.common import ObjectName, SourceExpression, Statement, TypeName
from planner.statements.keys import ReferencesClause


@dataclass(frozen=True, slots=True)
class PlacementClause:
    """WITH (region = ..., zone = ..., nodes = '1,2') of a table, part or group."""

    region: str | None = None
    zone: str | None = None
    nodes: tuple[int, ...] = ()


class BoundWord(StrEnum):
    MINVALUE = "minvalue"
    MAXVALUE = "maxvalue"


# A partition bound: a keyword or a constant expression.
BoundItem = BoundWord | SourceExpression


@dataclass(frozen=True, slots=True)
class PartClause:
    """One part: FROM/TO of a range, the values of a list, WITH (modulus, remainder), or DEFAULT."""

    name: str
    position: int
    range_low: tuple[BoundItem, ...] | None = None
    range_high: tuple[BoundItem, ...] | None = None
    list_values: tuple[SourceExpression, ...] | None = None
    modulus: int | None = None
    remainder: int | None = None
    is_default: bool = False
    placement: PlacementClause | None = None


@dataclass(frozen=True, slots=True)
class PartitionClause:
    """PARTITION BY method (columns) [PARTITIONS n | (parts)]."""

    method: PartitionMethod
    columns: tuple[str, ...]
    position: int
    part_count: int | None = None
    parts: tuple[PartClause, ...] | None = None


@dataclass(frozen=True, slots=True)
class GroupClause:
    """One of COLUMN GROUPS (...)."""

    name: str
    columns: tuple[str, ...]
    position: int
    placement: PlacementClause | None = None


@dataclass(frozen=True, slots=True)
class StorageClauses:
    """The clauses behind the column list; None is a clause left out."""

    partition: PartitionClause | None = None
    groups: tuple[GroupClause, ...] | None = None
    colocate_with: ObjectName | None = None
    replicated: bool = False
    access_method: AccessMethod | None = None
    replicas: int | None = None
    durability: Durability | None = None
    placement: PlacementClause | None = None


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """What CREATE or ALTER SEQUENCE says; None is not said, `NO_LIMIT` is NO MINVALUE or NO
    MAXVALUE. `restart` is True without a number. `owner` is a table and a column; `disowned`
    is OWNED BY NONE."""

    type: TypeName | None = None
    start: int | None = None
    increment: int | None = None
    minimum: int | str | None = None
    maximum: int | str | None = None
    cycle: bool | None = None
    cache: int | None = None
    restart: int | bool | None = None
    owner: tuple[ObjectName, str] | None = None
    disowned: bool = False


NO_LIMIT = "no limit"


@dataclass(frozen=True, slots=True)
class ColumnClause:
    """A column of CREATE TABLE with its own constraints taken apart.

    `identity` is "always" or "by default", and `sequence` what it says of its sequence;
    `generated` the expression of GENERATED ALWAYS AS (...) STORED.
    """

    name: str
    type: TypeName
    position: int
    not_null: bool = False
    null: bool = False
    default: SourceExpression | None = None
    identity: str | None = None
    sequence: SequenceOptions | None = None
    generated: SourceExpression | None = None


class ConstraintKind(StrEnum):
    PRIMARY_KEY = "primary key"
    UNIQUE = "unique"
    CHECK = "check"
    FOREIGN_KEY = "foreign key"


@dataclass(frozen=True, slots=True)
class ConstraintClause:
    """A constraint of the table, or of a column with `columns` of that one."""

    kind: ConstraintKind
    position: int
    name: str | None = None
    columns: tuple[str, ...] = ()
    check: SourceExpression | None = None
    references: ReferencesClause | None = None
    # Of a key: whether its check can wait for the end of the transaction, and does.
    deferrable: bool = False
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class LikeClause:
    """LIKE source with what INCLUDING and EXCLUDING came to."""

    source: ObjectName
    position: int
    defaults: bool = False
    constraints: bool = False
    indexes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTable(Statement):
    """`elements` keeps the order of columns and LIKE clauses."""

    table: ObjectName
    if_not_exists: bool
    elements: tuple[ColumnClause | LikeClause, ...]
    constraints: tuple[ConstraintClause, ...]
    clauses: StorageClauses
    temporary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTableAs(Statement):
    table: ObjectName
    if_not_exists: bool
    columns: tuple[str, ...] | None
    query: exp.Query
    with_data: bool
    clauses: StorageClauses
    temporary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartition(Statement):
    """CREATE TABLE part PARTITION OF parent FOR VALUES ... | DEFAULT."""

    table: ObjectName
    if_not_exists: bool
    parent: ObjectName
    part: PartClause
