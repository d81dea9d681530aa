"""The tables that a query joins by their keys, and what names in it mean.

    relations_of(tree)         the tables, with the names that stand before their columns
    conditions_of(tree)        all that WHERE and ON ask
    Relations                  which column of which relation a name is

A relation is known by its number among those of the query, as FROM lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlglot import exp

from catalog.fragment_schemas import fragment_schema
from catalog.model import Column, Table
from planner.context import PlannerContext
from planner.point import PointReader, conjuncts, relation_of, table_of
from planner.point_computed import row_columns
from planner.row_expressions import RowColumn
from storage.row_tables import RowTables
from storage.types import SqlType

# More tables are worth a plan.
MOST_RELATIONS = 4

_JOIN_PARTS = frozenset({"this", "on", "kind"})
_JOIN_KINDS = ("", "INNER", "CROSS")


class Place(NamedTuple):
    """A column of a relation: its number among those of the query, and the column."""

    relation: int
    column: Column


def relations_of(
    tree: exp.Select, context: PlannerContext
) -> tuple[tuple[Table, ...], tuple[str, ...]] | None:
    """The tables joined, with the names that stand before their columns."""
    source, joins = tree.args.get("from_"), tree.args.get("joins") or []
    if source is None or not 1 <= len(joins) < MOST_RELATIONS:
        return None
    if any(_is_other_join(join) for join in joins):
        return None
    tables, names = [], []
    for node in (source.this, *(join.this for join in joins)):
        relation = relation_of(node)
        table = None if relation is None else table_of(relation, context)
        if relation is None or table is None or len(table.groups) != 1 or not table.parts:
            return None
        tables.append(table)
        names.append(relation.alias_or_name)
    return (tuple(tables), tuple(names)) if len(set(names)) == len(names) else None


def _is_other_join(join: exp.Join) -> bool:
    kind = str(join.args.get("kind") or "")
    return kind.upper() not in _JOIN_KINDS or any(
        value for name, value in join.args.items() if name not in _JOIN_PARTS
    )


def conditions_of(tree: exp.Select) -> list[exp.Expr] | None:
    """All that WHERE and ON ask; None without anything."""
    where = tree.args.get("where")
    asked = [] if where is None else [where.this]
    asked += [join.args["on"] for join in tree.args["joins"] if join.args.get("on") is not None]
    found = [part for condition in asked for part in conjuncts(condition)]
    return found or None


def sees_what_it_names(tree: exp.Select, relations: Relations) -> bool:
    """Whether each ON names only what it joins: no relation behind it, none before a comma."""
    first = 0
    for number, join in enumerate(tree.args["joins"], 1):
        condition = join.args.get("on")
        if condition is None and not join.args.get("kind"):
            first = number
        used = frozenset[int]() if condition is None else relations.used_by(condition)
        if used is None or not used <= set(range(first, number + 1)):
            return False
    return True


class Relations:
    """The tables of a query, and what names in it mean."""

    def __init__(
        self,
        tables: tuple[Table, ...],
        names: tuple[str, ...],
        parameters: Sequence[SqlType | None],
    ) -> None:
        self.tables = tables
        self.names = names
        self.parameters = parameters
        listed = [row_columns(table, name) for table, name in zip(tables, names, strict=True)]
        widths = [len(_names(table)) for table in tables]
        self.offsets = tuple(sum(widths[:n]) for n in range(len(widths)))
        self._columns = [
            [_moved(column, first) for column in columns]
            for columns, first in zip(listed, self.offsets, strict=True)
        ]

    def columns(self, relations: Sequence[int]) -> list[RowColumn]:
        """What a joined row has of these."""
        return [column for n in sorted(relations) for column in self._columns[n]]

    def reader(self, relation: int) -> PointReader:
        return PointReader(self.tables[relation], self.names[relation], self.parameters, None)

    def place(self, node: exp.Expr) -> Place | None:
        """The one column that is meant."""
        found = [
            Place(n, column)
            for n in range(len(self.tables))
            if (column := self.reader(n).column(node)) is not None
        ]
        return found[0] if len(found) == 1 else None

    def used_by(self, tree: exp.Expr) -> frozenset[int] | None:
        """The relations whose columns the expression names; None where a name is not one
        column's."""
        places = [self.place(node) for node in tree.find_all(exp.Column)]
        return (
            frozenset(p.relation for p in places if p is not None) if None not in places else None
        )


def _moved(column: RowColumn, by: int) -> RowColumn:
    return RowColumn(column.name, column.type, column.place + by, column.relation)


def _names(table: Table) -> tuple[str, ...]:
    return tuple(RowTables(fragment_schema(table, table.parts[0].fragments[0])).names)


def column_named(relation: str, name: str) -> exp.Expr:
    return exp.column(
        exp.to_identifier(name, quoted=True), table=exp.to_identifier(relation, quoted=True)
    )
