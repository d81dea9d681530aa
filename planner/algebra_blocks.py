"""Grouping and windows of one query block: what is computed before the select list is.

Aggregates and window functions are taken out of the expressions that contain them and become
columns of an `Aggregate` or `Window` operator; equal ones are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

from sqlglot import exp

from planner.algebra import Item, Node, Scalar, Window
from planner.algebra_functions import call_name, has_aggregate, is_aggregate_call, is_query
from planner.algebra_scalars import column_node, copy_tree, plain_column, scalar_of
from planner.algebra_scopes import CannotDistribute, Frame
from planner.bound import type_of
from storage.types import INT4

if TYPE_CHECKING:
    from planner.algebra_build import QueryBuilder

MAX_GROUPING_SETS = 64


@dataclass(slots=True)
class Grouping:
    """The keys and aggregates of a block, and where they stood in the bound tree."""

    keys: list[Item] = field(default_factory=list)
    key_trees: list[exp.Expr] = field(default_factory=list)
    aggregates: list[Item] = field(default_factory=list)
    sets: tuple[tuple[int, ...], ...] = ()
    _places: dict[int, Item] = field(default_factory=dict)

    def replacement(self, node: exp.Expr) -> exp.Expr | None:
        """The column that stands for an aggregate or group key after grouping."""
        found = self._places.get(id(node))
        if found is not None:
            return column_node(found.column)
        for item, tree in zip(self.keys, self.key_trees, strict=True):
            if not isinstance(tree, exp.Column) and type(tree) is type(node) and tree == node:
                return column_node(item.column)
        if isinstance(node, exp.Column) and node.table:
            # A plain key keeps its name, so the scope resolves it; but under grouping sets it
            # may be NULL, and then it has a name of its own.
            for item, tree in zip(self.keys, self.key_trees, strict=True):
                if self.sets and tree == node:
                    return column_node(item.column)
        return None

    def note(self, node: exp.Expr, item: Item) -> None:
        self._places[id(node)] = item


def grouping_of(tree: exp.Select, frame: Frame, builder: QueryBuilder) -> Grouping | None:
    """The block's grouping; None where it does not aggregate."""
    group, having, order = (tree.args.get(k) for k in ("group", "having", "order"))
    places: list[exp.Expr] = [*tree.expressions]
    places += [having.this] if having is not None else []
    places += list(order.expressions) if order is not None else []
    if group is None and having is None and not any(has_aggregate(p) for p in places):
        return None
    grouping = Grouping()
    if group is not None:
        _add_keys(grouping, group, frame, builder)
    for place in places:
        _add_aggregates(grouping, place, frame, builder)
    return grouping


def _add_keys(grouping: Grouping, group: exp.Group, frame: Frame, builder: QueryBuilder) -> None:
    sets = _grouping_sets(group)
    positions: list[tuple[int, ...]] = []
    for grouped in sets:
        positions.append(
            tuple(_key_position(grouping, tree, frame, builder, len(sets) > 1) for tree in grouped)
        )
    if len(sets) > 1:
        grouping.sets = tuple(positions)


def _key_position(
    grouping: Grouping, tree: exp.Expr, frame: Frame, builder: QueryBuilder, renamed: bool
) -> int:
    while isinstance(tree, exp.Paren):
        tree = tree.this
    for position, known in enumerate(grouping.key_trees):
        if known == tree:
            return position
    scalar = builder.scalar(tree, frame, None)
    plain = plain_column(scalar)
    name = plain if plain is not None and not renamed else builder.fresh("key")
    grouping.keys.append(Item(name, scalar))
    grouping.key_trees.append(tree)
    return len(grouping.keys) - 1


def _grouping_sets(group: exp.Group) -> list[list[exp.Expr]]:
    """All grouping sets: the product of what each element of GROUP BY stands for."""
    elements = [_sets_of(e) for e in group.expressions]
    for clause in ("rollup", "cube", "grouping_sets"):
        value = group.args.get(clause)
        if value is True or (value and group.args.get("totals")):
            raise CannotDistribute("GROUP BY ... WITH TOTALS")
        elements += [_sets_of(e) for e in value or ()]
    if group.args.get("all"):
        raise CannotDistribute("GROUP BY ALL")
    result: list[list[exp.Expr]] = [[]]
    for element in elements:
        result = [[*left, *right] for left in result for right in element]
        if len(result) > MAX_GROUPING_SETS:
            raise CannotDistribute("many grouping sets")
    return result


def _sets_of(node: exp.Expr) -> list[list[exp.Expr]]:
    if isinstance(node, exp.Rollup):
        parts = [_columns_of(e) for e in node.expressions]
        return [[c for part in parts[:n] for c in part] for n in range(len(parts), -1, -1)]
    if isinstance(node, exp.Cube):
        parts = [_columns_of(e) for e in node.expressions]
        if len(parts) > 6:
            raise CannotDistribute("many grouping sets")
        return [
            [c for part in chosen for c in part]
            for n in range(len(parts), -1, -1)
            for chosen in combinations(parts, n)
        ]
    if isinstance(node, exp.GroupingSets):
        return [one for e in node.expressions for one in _sets_of(e)]
    return [_columns_of(node)]


def _columns_of(node: exp.Expr) -> list[exp.Expr]:
    return list(node.expressions) if isinstance(node, exp.Tuple) else [node]


def _add_aggregates(
    grouping: Grouping, node: exp.Expr, frame: Frame, builder: QueryBuilder
) -> None:
    """Registers the aggregates of an expression, the outermost ones outside windows."""
    if is_query(node):
        return
    if isinstance(node, exp.Window) and is_aggregate_call(node.this):
        # The call itself is the window's; what it aggregates lies in its arguments.
        parts = [*node.this.iter_expressions()]
        parts += [c for c in node.iter_expressions() if c is not node.this]
        for part in parts:
            _add_aggregates(grouping, part, frame, builder)
        return
    if isinstance(node, exp.Grouping | exp.GroupingId) or call_name(node) == "grouping":
        grouping.note(node, _grouping_item(grouping, node, builder))
        return
    if is_aggregate_call(node):
        scalar = builder.scalar(node, frame, None)
        grouping.note(node, _shared_item(grouping.aggregates, scalar, node, builder))
        return
    for child in node.iter_expressions():
        _add_aggregates(grouping, child, frame, builder)


def _grouping_item(grouping: Grouping, node: exp.Expr, builder: QueryBuilder) -> Item:
    """GROUPING(...) over the keys' expressions, computed where the grouping is."""
    arguments: list[exp.Expr] = []
    for argument in node.expressions:
        for item, tree in zip(grouping.keys, grouping.key_trees, strict=True):
            if tree == argument:
                arguments.append(copy_tree(item.scalar.node))
                break
        else:
            raise CannotDistribute("GROUPING of what is not a group key")
    made = exp.Grouping(expressions=arguments)
    return _shared_item(grouping.aggregates, scalar_of(made, INT4), made, builder)


def _shared_item(items: list[Item], scalar: Scalar, node: exp.Expr, builder: QueryBuilder) -> Item:
    if not scalar.volatile:
        for item in items:
            if item.scalar.node == scalar.node:
                return item
    inner = node.this if isinstance(node, exp.Filter | exp.WithinGroup) else node
    item = Item(builder.fresh(call_name(inner) or "aggregate"), scalar)
    items.append(item)
    return item


def extract_windows(
    node: Node, scalars: Sequence[Scalar], builder: QueryBuilder
) -> tuple[Node, list[Scalar]]:
    """The operator with the window functions of the scalars added, and the scalars over it."""
    functions: list[Item] = []

    def replace(part: exp.Expr) -> exp.Expr | None:
        if not isinstance(part, exp.Window):
            return None
        scalar = scalar_of(part, type_of(part))
        name = call_name(part.this) or "window"
        for item in functions:
            if item.scalar.node == part and not scalar.volatile:
                return column_node(item.column)
        functions.append(Item(builder.fresh(name), scalar))
        return column_node(functions[-1].column)

    changed = [
        scalar_of(copy_tree(s.node, replace), s.type) if s.node.find(exp.Window) else s
        for s in scalars
    ]
    return (Window(node, tuple(functions)) if functions else node), changed
