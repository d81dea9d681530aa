"""What a statement that defines something comes to: commands, and the work around them.

The commands are drafted against the transaction's own view of the catalog. What they do to rows
follows from them (`executor.ddl_rows`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from catalog.commands import Command, CreateIndex, CreateTable
from catalog.definition import ForeignKeyDefinition
from catalog.model import ColumnId, TableId
from planner.plan import QueryPlan


@dataclass(frozen=True, slots=True)
class Conversion:
    """ALTER COLUMN TYPE: what a row has in the column afterwards, over its columns before."""

    column: ColumnId
    value: exp.Expr


@dataclass(frozen=True, slots=True)
class ChangeCatalog:
    """Run the commands in order; `tag` is the answer. `notices` come before theirs.

    What becomes of rows follows from the tables before and after, but for `conversions`.
    """

    commands: tuple[Command, ...]
    tag: str
    notices: tuple[str, ...] = ()
    conversions: tuple[Conversion, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateAndFill:
    """CREATE TABLE AS: the table, then the rows of `source` in the order of its columns."""

    command: CreateTable
    source: QueryPlan | None  # None: WITH NO DATA
    tag: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AddReference:
    """ALTER TABLE ... ADD FOREIGN KEY: the rows of both tables are looked through before, but with
    NOT VALID."""

    table_id: TableId
    definition: ForeignKeyDefinition
    tag: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ValidateReference:
    """ALTER TABLE ... VALIDATE CONSTRAINT of a foreign key: the rows are looked through."""

    table_id: TableId
    name: str
    tag: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildIndex:
    """CREATE INDEX; rows that contradict a unique one are looked for once it is kept."""

    table_id: TableId
    command: CreateIndex
    tag: str
    notices: tuple[str, ...] = ()
    concurrently: bool = False


DdlPlan = ChangeCatalog | CreateAndFill | AddReference | ValidateReference | BuildIndex
