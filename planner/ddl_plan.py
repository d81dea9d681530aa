"""What a statement that defines something comes to: commands, and the work around them.

`ChangeCatalog` is commands alone (some of which say, when they are applied, that rows must be
copied before they show). The others need rows to be read or moved as well; the executor does
that (`executor.ddl`).
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.commands import Command, CreateIndex, CreateTable
from catalog.definition import ForeignKeyDefinition, SchemeDefinition, UniqueDefinition
from catalog.model import TableId
from planner.plan import QueryPlan


@dataclass(frozen=True, slots=True)
class ChangeCatalog:
    """Run the commands in order; `tag` is the answer. `notices` come before theirs."""

    commands: tuple[Command, ...]
    tag: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateAndFill:
    """CREATE TABLE AS: the table, then the rows of `source` in the order of its columns."""

    command: CreateTable
    source: QueryPlan | None  # None: WITH NO DATA
    tag: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recut:
    """Move a table's rows into fragments cut by another scheme, or under another key.

    `primary_key` is one added to a table that had none: its hidden row id goes.
    """

    table_id: TableId
    scheme: SchemeDefinition
    tag: str
    primary_key: UniqueDefinition | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForbidNulls:
    """SET NOT NULL: `violations` yields a row if one contradicts it."""

    table_id: TableId
    column: str
    violations: QueryPlan
    tag: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AddReference:
    """ALTER TABLE ... ADD FOREIGN KEY: the rows of both tables are looked through before."""

    table_id: TableId
    definition: ForeignKeyDefinition
    tag: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildIndex:
    """CREATE INDEX; rows that contradict a unique one are looked for once it is kept."""

    table_id: TableId
    command: CreateIndex
    tag: str
    notices: tuple[str, ...] = ()


DdlPlan = ChangeCatalog | CreateAndFill | Recut | ForbidNulls | AddReference | BuildIndex
