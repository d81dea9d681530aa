"""What a statement says of a new table, before the catalog gives it ids and places.

The DDL planner fills these from SQL; `catalog.state` turns them into the nouns of
`catalog.model`. Columns are named, not numbered; bound values are the text of the literals as
the user wrote them (the catalog brings them into canonical form and refuses those the key's
type cannot read); what the user left out is None, and the catalog chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.model import (
    AccessMethod,
    Bound,
    Durability,
    PartitionMethod,
    Placement,
    ReferentialAction,
)
from storage.types import SqlType


@dataclass(frozen=True, slots=True)
class SequenceDefinition:
    """What a sequence hands out; see `catalog.model.Sequence`."""

    type: SqlType
    start: int
    increment: int
    minimum: int
    maximum: int
    cycle: bool = False
    cache: int = 1


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column; `default` and `generated` are SQL text. With `sequence` it gets one of its own."""

    name: str
    type: SqlType
    not_null: bool = False
    default: str | None = None
    sequence: SequenceDefinition | None = None
    identity: str | None = None
    generated: str | None = None


@dataclass(frozen=True, slots=True)
class UniqueDefinition:
    """A primary key or unique constraint; without a name it gets PostgreSQL's."""

    columns: tuple[str, ...]
    name: str | None = None
    deferrable: bool = False
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class CheckDefinition:
    """A CHECK: SQL text over the column names. `columns` only serve to make its name."""

    expression: str
    name: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignKeyDefinition:
    """A foreign key; see `catalog.model.ForeignKey`. Without target columns the primary key of
    the target (schema, name) is meant; without a name it gets PostgreSQL's."""

    columns: tuple[str, ...]
    target: tuple[str, str]
    target_columns: tuple[str, ...] = ()
    name: str | None = None
    on_delete: ReferentialAction = ReferentialAction.NO_ACTION
    on_update: ReferentialAction = ReferentialAction.NO_ACTION
    match_full: bool = False
    set_columns: tuple[str, ...] = ()
    deferrable: bool = False
    deferred: bool = False
    validated: bool = True


@dataclass(frozen=True, slots=True)
class IndexColumnDefinition:
    name: str
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True, slots=True)
class IndexDefinition:
    """CREATE INDEX; without a name it gets PostgreSQL's."""

    columns: tuple[IndexColumnDefinition, ...]
    unique: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class PartDefinition:
    """One part as written; which fields count depends on the method.

    range: `low` and `high` (FROM and TO). list: `values`. hash, in PostgreSQL's form:
    `modulus` and `remainder`. range and list: `is_default` for the DEFAULT part.
    """

    name: str
    low: tuple[Bound, ...] = ()
    high: tuple[Bound, ...] = ()
    values: tuple[str | None, ...] = ()
    is_default: bool = False
    modulus: int | None = None
    remainder: int | None = None
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class GroupDefinition:
    """COLUMN GROUPS: a name and the columns beside the key. Columns in none join the first."""

    name: str
    columns: tuple[str, ...]
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class SchemeDefinition:
    """How a table is cut and where it lies; everything may be left out.

    No `method`: hash on a column that every unique key contains, else one part.
    `part_count` is PARTITIONS n; hash without it gets one part an active node.
    `without_parts` makes a table of no parts, which are attached later (PostgreSQL's two-step
    form); range and list without `parts` are such tables anyway.
    """

    method: PartitionMethod | None = None
    columns: tuple[str, ...] = ()
    part_count: int | None = None
    parts: tuple[PartDefinition, ...] = ()
    without_parts: bool = False
    groups: tuple[GroupDefinition, ...] = ()
    # (schema, name) of the table whose tablets to share.
    colocate_with: tuple[str, str] | None = None
    replicas: int | None = None
    durability: Durability | None = None
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """A whole CREATE TABLE."""

    schema: str
    name: str
    columns: tuple[ColumnDefinition, ...]
    primary_key: UniqueDefinition | None = None
    unique: tuple[UniqueDefinition, ...] = ()
    checks: tuple[CheckDefinition, ...] = ()
    scheme: SchemeDefinition = SchemeDefinition()
    access_method: AccessMethod | None = None
    foreign_keys: tuple[ForeignKeyDefinition, ...] = ()
