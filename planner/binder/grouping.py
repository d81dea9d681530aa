"""GROUP BY: what is grouped by, and the check that nothing else is used ungrouped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import GroupingError, InvalidColumnReference, SyntaxError_
from planner.binder.expressions import ExpressionBinder
from planner.binder.scope import Namespace, Source
from planner.bound import type_of
from planner.semantics import build, records
from planner.semantics.comparison import normalised
from planner.types import Coercion
from storage.types import TEXT

if TYPE_CHECKING:
    from planner.binder.blocks import Item


class GroupBinder:
    """Binds one GROUP BY; `keys` are its expressions, those of grouping sets included.

    `items` is the select list, in which constants that are grouped by become expressions like
    their keys: a grouping set without them makes them NULL.
    """

    def __init__(self, binder: ExpressionBinder, items: Sequence[Item]) -> None:
        self.binder = binder
        self.items = list(items)
        self.keys: list[exp.Expr] = []
        self.has_sets = False

    def bind(self, group: exp.Group) -> exp.Group | None:
        """The bound clause; None where it only holds constants."""
        expressions = [self._element(each) for each in group.expressions]
        kept = [each for each in expressions if each is not None]
        for name in ("grouping_sets", "rollup", "cube"):
            if isinstance(group.args.get(name), list):
                kept += [e for e in map(self._element, group.args[name]) if e is not None]
        return exp.Group(expressions=kept) if kept else None

    def _element(self, node: exp.Expr) -> exp.Expr | None:
        if isinstance(node, (exp.GroupingSets, exp.Rollup, exp.Cube)):
            self.has_sets = True
            inner = [self._nested(each) for each in node.expressions]
            return type(node)(expressions=inner)
        if isinstance(node, exp.Tuple) and not node.expressions:
            self.has_sets = True
            return exp.Tuple(expressions=[])
        if isinstance(node, exp.Paren):
            return self._element(node.this)
        if isinstance(node, exp.Tuple):
            self.has_sets = True
            return exp.GroupingSets(
                expressions=[exp.Tuple(expressions=[self._key(e) for e in node.expressions])]
            )
        return self._key(node)

    def _nested(self, node: exp.Expr) -> exp.Expr:
        """An element inside grouping sets, where parentheses make one set of several keys."""
        if isinstance(node, (exp.GroupingSets, exp.Rollup, exp.Cube)):
            return type(node)(expressions=[self._nested(each) for each in node.expressions])
        if isinstance(node, exp.Tuple):
            return exp.Tuple(expressions=[self._key(each) for each in node.expressions])
        if isinstance(node, exp.Paren):
            return exp.Tuple(expressions=[self._key(node.this)])
        return self._key(node)

    def _key(self, node: exp.Expr) -> exp.Expr:
        key = self._bound_key(node)
        self.keys.append(key)
        # DuckDB takes a bare number for the place of an output column.
        if isinstance(key, exp.Literal):
            return build.cast_as(key.copy(), type_of(key))
        return key.copy()

    def _bound_key(self, node: exp.Expr) -> exp.Expr:
        position = build.error_position(node)
        if isinstance(node, exp.Literal) and not node.is_string:
            return self._grouped_item(self._by_place(node, position), position)
        if isinstance(node, exp.Column) and node.args.get("table") is None:
            name = node.this.name if node.this.args.get("quoted") else node.this.name.lower()
            if self.binder.scope.column(name, position) is None:
                named = [place for place, item in enumerate(self.items) if item.name == name]
                if named:
                    return self._grouped_item(named[0], position)
        key = self.binder.bind(node)
        if build.is_untyped(key):
            key = self.binder.casts.coerce(key, TEXT, Coercion.IMPLICIT)
        return normalised(key)

    def _by_place(self, node: exp.Literal, position: int | None) -> int:
        text = str(node.this)
        if not text.isdigit():
            raise SyntaxError_("non-integer constant in GROUP BY", position=position)
        place = int(text)
        if not 1 <= place <= len(self.items):
            raise InvalidColumnReference(
                f"GROUP BY position {place} is not in select list", position=position
            )
        return place - 1

    def _grouped_item(self, place: int, position: int | None) -> exp.Expr:
        item = self.items[place]
        if isinstance(item.node, exp.Literal):
            item = replace(item, node=build.cast_as(item.node, type_of(item.node)))
            self.items[place] = item
        node = item.node
        if contains_aggregate(node):
            raise GroupingError(
                "aggregate functions are not allowed in GROUP BY", position=position
            )
        return normalised(node)


def contains_aggregate(node: exp.Expr) -> bool:
    """Whether an aggregate of this block's own stands in the node."""
    if isinstance(node, (exp.Subquery, exp.Select, exp.Exists, exp.SetOperation)):
        return False
    if isinstance(node, exp.Window):
        return any(contains_aggregate(child) for child in node.this.iter_expressions())
    if isinstance(node, exp.AggFunc):
        return True
    return any(contains_aggregate(child) for child in node.iter_expressions())


def check_grouped(
    nodes: Iterable[exp.Expr], keys: Sequence[exp.Expr], namespace: Namespace
) -> list[exp.Expr]:
    """42803 where a column is neither grouped nor aggregated.

    Gives the columns that are fixed by a grouped primary key, or by the whole row; DuckDB wants
    them grouped, too.
    """
    sources = {source.unique: source for source in namespace.sources}
    grouped = set(keys)
    determined = {name for name, s in sources.items() if _row_is_grouped(s, grouped)}
    extra: dict[exp.Expr, None] = {}
    for node in nodes:
        for column in _ungrouped(node, grouped, sources):
            if column.table not in determined:
                raise _refusal(column, sources)
            extra[column] = None
    return list(extra)


def _ungrouped(
    node: exp.Expr, grouped: set[exp.Expr], sources: dict[str, Source]
) -> Iterable[exp.Column]:
    if node in grouped:
        return
    if isinstance(node, exp.Column):
        if node.table in sources:
            yield node
        return
    if isinstance(node, exp.AggFunc):
        return
    if isinstance(node, exp.Query):
        # A subquery knows the columns that are keys, but no expression of theirs.
        grouped = {key for key in grouped if isinstance(key, exp.Column)}
    if isinstance(node, (exp.Filter, exp.WithinGroup)) and isinstance(node.this, exp.AggFunc):
        return
    if isinstance(node, exp.Window):
        yield from _ungrouped_window(node, grouped, sources)
        return
    for child in node.iter_expressions():
        yield from _ungrouped(child, grouped, sources)


def _ungrouped_window(
    node: exp.Window, grouped: set[exp.Expr], sources: dict[str, Source]
) -> Iterable[exp.Column]:
    """A window function runs over groups: its arguments must be grouped themselves."""
    function = node.this.this if isinstance(node.this, exp.Filter) else node.this
    for child in function.iter_expressions():
        yield from _ungrouped(child, grouped, sources)
    for key, value in node.args.items():
        if key != "this":
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, exp.Expr):
                    yield from _ungrouped(part, grouped, sources)


def _row_is_grouped(source: Source, grouped: set[exp.Expr]) -> bool:
    has_rows = any(records.written_row(key) is not None for key in grouped)
    if has_rows and records.whole_row(source) in grouped:
        return True
    table = source.table
    if table is None or table.primary_key is None or table.primary_key.deferrable:
        return False
    names = {table.column(column_id).name for column_id in table.primary_key.columns}
    have = {
        node.name
        for node in grouped
        if isinstance(node, exp.Column) and node.table == source.unique
    }
    return names <= have


def _refusal(column: exp.Column, sources: dict[str, Source]) -> GroupingError:
    source = sources[column.table]
    name = next((c.name for c in source.columns if c.column == column.name), column.name)
    shown = f"{source.name}.{name}" if source.name else name
    start = column.meta.get("start")
    return GroupingError(
        f'column "{shown}" must appear in the GROUP BY clause or be used in an aggregate function',
        position=start + 1 if start is not None else None,
    )
