"""Foreign keys and indexes."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.model import ReferentialAction
from planner.statements.common import ObjectName, Statement


@dataclass(frozen=True, slots=True)
class ReferencesClause:
    """REFERENCES target (columns) and what is said behind it."""

    target: ObjectName
    columns: tuple[str, ...] = ()
    match_full: bool = False
    on_delete: ReferentialAction = ReferentialAction.NO_ACTION
    on_update: ReferentialAction = ReferentialAction.NO_ACTION
    set_columns: tuple[str, ...] = ()
    deferrable: bool = False
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class IndexedColumn:
    name: str
    position: int
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateIndex(Statement):
    """CREATE INDEX; `concurrently` makes no difference, but not in a transaction block."""

    name: str | None
    table: ObjectName
    columns: tuple[IndexedColumn, ...]
    unique: bool
    if_not_exists: bool
    concurrently: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIndex(Statement):
    indexes: tuple[ObjectName, ...]
    if_exists: bool
    cascade: bool = False
    concurrently: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterIndex(Statement):
    """ALTER INDEX ... RENAME TO."""

    index: ObjectName
    new_name: str
    if_exists: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindex(Statement):
    """REINDEX of an index or table; None for all of a schema or the database."""

    kind: str
    name: ObjectName | None
