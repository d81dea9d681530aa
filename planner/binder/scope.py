"""Names in sight of an expression: relations, their columns, and the blocks around.

`visible` are the columns an unqualified name or a star means, in order; a join with USING or
NATURAL puts merged columns there in place of the two it merged. Qualified names go through
`sources`. Each query block has a scope of its own; `parent` is the block around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from catalog.model import Table
from cluster.errors import AmbiguousColumn, DuplicateAlias, UndefinedColumn, UndefinedTable
from planner.semantics import build
from storage.types import SqlType


@dataclass(frozen=True, slots=True)
class ScopeColumn:
    """A column in sight. `merged` is the expression behind one that is no relation's own, such
    as what a FULL JOIN USING made of two."""

    name: str
    type: SqlType
    relation: str
    column: str
    merged: exp.Expr | None = None

    @property
    def is_hidden(self) -> bool:
        """A row id, which no user can name and no star shows."""
        return self.name.startswith("\x00")

    def node(self) -> exp.Expr:
        """A fresh reference to it."""
        if self.merged is not None:
            return self.merged.copy()
        return build.column(self.column, self.relation, self.type)


@dataclass(frozen=True, slots=True)
class Source:
    """A relation in FROM: the name the user gave it, and the one unique in the statement."""

    name: str
    unique: str
    columns: tuple[ScopeColumn, ...]
    schema: str | None = None
    table: Table | None = None
    # A function that returns one scalar column can be meant by its alias alone.
    is_scalar: bool = False
    # What a table has besides, to be named but not among `*`: tableoid.
    system: tuple[ScopeColumn, ...] = ()
    # Whether an outer join may find no row of it; and the place of a column that is NULL only then.
    nullable: bool = False
    never_null: int | None = None

    @property
    def visible(self) -> tuple[ScopeColumn, ...]:
        return tuple(column for column in self.columns if not column.is_hidden)

    def is_same_name(self, other: Source) -> bool:
        """Whether one name stands for both: only tables of two schemas may share theirs."""
        if not self.name or self.name != other.name:
            return False
        return self.schema == other.schema or None in (self.schema, other.schema)

    def named(self, name: str) -> list[ScopeColumn]:
        found = [column for column in self.columns if column.name == name]
        return found or [column for column in self.system if column.name == name]


@dataclass(slots=True)
class Namespace:
    """What one FROM item, or a join of several, brings into sight."""

    sources: list[Source] = field(default_factory=list)
    visible: list[ScopeColumn] = field(default_factory=list)

    def add(self, other: Namespace, position: int | None = None) -> None:
        """Both side by side; `DuplicateAlias` where a name comes twice."""
        for source in other.sources:
            if any(source.is_same_name(taken) for taken in self.sources):
                raise DuplicateAlias(
                    f'table name "{source.name}" specified more than once', position=position
                )
        self.sources += other.sources
        self.visible += other.visible

    def extend_with_nulls(self, side: str, left_count: int) -> None:
        """After an outer join: it may find no row of sources on its other side."""
        for place, source in enumerate(self.sources):
            other = "RIGHT" if place < left_count else "LEFT"
            if side in ("FULL", other):
                self.sources[place] = replace(source, nullable=True)


@dataclass(slots=True)
class Scope:
    """A block's names, and through `parent` those of the blocks around it."""

    namespace: Namespace
    parent: Scope | None = None
    # FROM items whose names are known but may not be used where they are asked for.
    out_of_reach: Namespace = field(default_factory=Namespace)

    def column(self, name: str, position: int | None) -> ScopeColumn | None:
        """What an unqualified name means, looked for from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            found = [c for c in scope.namespace.visible if c.name == name]
            if not found:
                found = [c for s in scope.namespace.sources for c in s.system if c.name == name]
            if len(found) > 1:
                raise AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
            if found:
                return found[0]
            scope = scope.parent
        return None

    def source(self, name: str, schema: str | None = None) -> Source | None:
        """The relation a qualifier means."""
        scope: Scope | None = self
        while scope is not None:
            for source in scope.namespace.sources:
                if source.name == name and (schema is None or source.schema == schema):
                    return source
            scope = scope.parent
        return None

    def qualified(
        self, relation: str, name: str, schema: str | None, position: int | None
    ) -> ScopeColumn:
        """The column `relation.name`; 42P01 or 42703 where there is none."""
        source = self.source(relation, schema)
        if source is None:
            raise self.missing_relation(relation, position)
        found = source.named(name)
        if len(found) > 1:
            raise AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
        if not found:
            raise UndefinedColumn(
                f"column {relation}.{name} does not exist",
                position=position,
                hint=_suggestion(name, [source]),
            )
        return found[0]

    def missing_relation(self, relation: str, position: int | None) -> UndefinedTable:
        """42P01 for a qualifier that is not in FROM, or not where it may be used."""
        if any(source.name == relation for source in self.out_of_reach.sources):
            return UndefinedTable(
                f'invalid reference to FROM-clause entry for table "{relation}"',
                detail=f'There is an entry for table "{relation}", but it cannot be '
                "referenced from this part of the query.",
                position=position,
            )
        hidden = [s for s in self.namespace.sources if s.table and s.table.name == relation]
        if hidden:
            return UndefinedTable(
                f'invalid reference to FROM-clause entry for table "{relation}"',
                hint=f'Perhaps you meant to reference the table alias "{hidden[0].name}".',
                position=position,
            )
        return UndefinedTable(
            f'missing FROM-clause entry for table "{relation}"', position=position
        )

    def missing_column(self, name: str, position: int | None) -> UndefinedColumn:
        """42703 for an unqualified name, with a suggestion where one is near."""
        hint = _suggestion(name, self.namespace.sources)
        return UndefinedColumn(f'column "{name}" does not exist', position=position, hint=hint)


def _suggestion(name: str, sources: Sequence[Source]) -> str | None:
    for source in sources:
        for column in source.columns:
            if len(name) > 2 and _distance(name, column.name) <= max(1, len(name) // 3):
                wanted = f"{source.name}.{column.name}"
                return f'Perhaps you meant to reference the column "{wanted}".'
    return None


def _distance(left: str, right: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]
