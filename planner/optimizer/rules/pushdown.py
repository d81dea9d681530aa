"""Predicates are evaluated as far down as they mean the same.

One pass from the root carries the conditions that hold above each operator and drops each at
the lowest place:

- An inner join pools what comes from above with its own conditions; each goes to the side it
  reads. Constants travel along equalities (`equivalences`), so that `o.key = 7` joined on
  `o.key = l.key` restricts (and prunes) both sides.
- An outer join becomes an inner one where a condition above rejects the NULLs it would add.
  Conditions on the preserved side pass through; those of its ON on the other side sink there.
- Below an aggregate, a window, DISTINCT or a set operation go only conditions on the keys, and
  only such as can fail for no row (`is_total`), because there they see rows that PostgreSQL
  would not show them. Through joins any condition goes down, as in PostgreSQL.
- A volatile condition stays where it was written; nothing passes a LIMIT.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from planner.algebra import (
    Aggregate,
    DistinctOn,
    Filter,
    Item,
    Join,
    JoinKind,
    Node,
    OneRow,
    Project,
    Scalar,
    SetOperation,
    Shared,
    Sort,
    Window,
    map_children,
    names_of,
)
from planner.algebra_scalars import (
    boolean_scalar,
    column_scalar,
    is_literal_boolean,
    is_total,
    plain_column,
    rejects_null,
    substitute,
)
from planner.optimizer.constants import truth_of
from planner.optimizer.rules.equivalences import implied_by_equalities

Conditions = tuple[Scalar, ...]


def push_predicates(node: Node) -> Node:
    """The rule."""
    return _push(node, ())


def _push(node: Node, conditions: Conditions) -> Node:
    """The operator with the conditions applied to its output, as deep as possible."""
    if isinstance(node, Filter):
        return _through_filter(node, conditions)
    if isinstance(node, Join):
        return _through_join(node, conditions)
    if isinstance(node, Project):
        return _through_project(node, conditions)
    if isinstance(node, Aggregate | DistinctOn | Window):
        return _through_groups(node, conditions)
    if isinstance(node, SetOperation):
        return _through_set_operation(node, conditions)
    if isinstance(node, Sort):
        return node.with_children((_push(node.child, conditions),))
    if isinstance(node, Shared):
        definition = _push(node.definition, ())
        return Shared(node.name, definition, _push(node.body, conditions))
    return _filtered(map_children(node, lambda child: _push(child, ())), conditions)


def _filtered(node: Node, conditions: Iterable[Scalar]) -> Node:
    wanted = tuple(c for c in _distinct(conditions) if not is_literal_boolean(c, True))
    return Filter(node, wanted) if wanted else node


def _distinct(conditions: Iterable[Scalar]) -> list[Scalar]:
    found: list[Scalar] = []
    for condition in conditions:
        if all(condition.columns != f.columns or condition.node != f.node for f in found):
            found.append(condition)
    return found


def _through_filter(node: Filter, conditions: Conditions) -> Node:
    movable = [_decided(c) for c in node.conditions if not c.volatile]
    fixed = [c for c in node.conditions if c.volatile]
    if fixed:
        # What comes from above must not be evaluated before (and so instead of) these.
        return _filtered(_push(node.child, tuple(movable)), (*fixed, *conditions))
    return _push(node.child, (*movable, *conditions))


def _decided(condition: Scalar) -> Scalar:
    """The condition, as TRUE or FALSE where it is known to be one of them."""
    truth = None if condition.columns else truth_of(condition.node)
    return condition if truth is None else boolean_scalar(truth)


def _through_project(node: Project, conditions: Conditions) -> Node:
    items = {item.name: item.scalar for item in node.items}
    below: list[Scalar] = []
    above: list[Scalar] = []
    for condition in conditions:
        used = [items[name] for name in condition.columns]
        if condition.volatile or any(s.volatile for s in used):
            above.append(condition)
        else:
            below.append(substitute(condition, items))
    child = _push(node.child, tuple(below))
    return _filtered(Project(child, node.items), above)


def _through_groups(node: Aggregate | DistinctOn | Window, conditions: Conditions) -> Node:
    keys = _group_keys(node)
    below: list[Scalar] = []
    above: list[Scalar] = []
    for condition in conditions:
        if condition.columns and condition.columns <= keys.keys() and is_total(condition):
            below.append(substitute(condition, keys))
        else:
            above.append(condition)
    child = _push(node.child, tuple(below))
    return _filtered(node.with_children((child,)), above)


def _group_keys(node: Aggregate | DistinctOn | Window) -> dict[str, Scalar]:
    """The output columns by which rows belong together, and what they are below."""
    if isinstance(node, Aggregate):
        return {} if node.sets else {item.name: item.scalar for item in node.keys}
    if isinstance(node, DistinctOn):
        names = [plain_column(key) for key in node.keys]
        columns = {c.name: c for c in node.columns}
        return {n: column_scalar(columns[n]) for n in names if n is not None}
    shared: set[str] | None = None
    for item in node.functions:
        own = partition_columns(item)
        shared = own if shared is None else shared & own
    columns = {c.name: c for c in node.child.columns}
    return {n: column_scalar(columns[n]) for n in sorted(shared or ())}


def partition_columns(function: Item) -> set[str]:
    """The plain columns a window function partitions by."""
    node = function.scalar.node
    assert isinstance(node, exp.Window)
    return {p.name for p in node.args.get("partition_by") or () if isinstance(p, exp.Column)}


def _through_set_operation(node: SetOperation, conditions: Conditions) -> Node:
    below = [c for c in conditions if c.columns and is_total(c)]
    above = [c for c in conditions if not (c.columns and is_total(c))]
    branches: list[Node] = []
    for branch, sources in zip(node.branches, node.sources, strict=True):
        own = {c.name: c for c in branch.columns}
        names = {
            column.name: column_scalar(own[source])
            for column, source in zip(node.columns, sources, strict=True)
        }
        branches.append(_push(branch, tuple(substitute(c, names) for c in below)))
    return _filtered(node.with_children(tuple(branches)), above)


def _through_join(node: Join, conditions: Conditions) -> Node:
    left, right = names_of(node.left), names_of(node.right)
    kind = _strengthened(node.kind, left, right, conditions)
    if kind is JoinKind.INNER:
        return _through_inner(node, conditions, left, right)
    if kind is JoinKind.LEFT and node.kind is JoinKind.FULL and not _keeps(left, conditions):
        node = Join(JoinKind.FULL, node.right, node.left, node.conditions)
        left, right = right, left
    if kind is JoinKind.FULL:
        children = (_push(node.left, ()), _push(node.right, ()))
        return _filtered(node.with_children(children), conditions)
    return _through_one_sided(node, kind, conditions, left, right)


def _keeps(side: frozenset[str], conditions: Conditions) -> bool:
    return any(rejects_null(c, side) for c in conditions)


def _strengthened(
    kind: JoinKind, left: frozenset[str], right: frozenset[str], conditions: Conditions
) -> JoinKind:
    """The join that is left of an outer join when NULL-extended rows are thrown away above."""
    if kind is JoinKind.LEFT:
        return JoinKind.INNER if _keeps(right, conditions) else kind
    if kind is JoinKind.FULL:
        rejected = _keeps(left, conditions) + _keeps(right, conditions)
        return (JoinKind.FULL, JoinKind.LEFT, JoinKind.INNER)[rejected]
    return kind


def _through_inner(
    node: Join, conditions: Conditions, left: frozenset[str], right: frozenset[str]
) -> Node:
    pool = [*node.conditions, *conditions]
    fixed = [c for c in pool if c.volatile]
    pool = [c for c in pool if not c.volatile]
    pool += implied_by_equalities(pool)
    pool = _distinct(pool)
    never = [c for c in pool if is_literal_boolean(c, False)]
    to_left = [c for c in pool if c.columns and c.columns <= left] + never
    to_right = [c for c in pool if c.columns and c.columns <= right] + never
    between = [c for c in pool if not c.columns <= left and not c.columns <= right]
    constant = [c for c in pool if not c.columns and not is_literal_boolean(c, True)]
    first, second = _push(node.left, tuple(to_left)), _push(node.right, tuple(to_right))
    if isinstance(first, OneRow) and not between:
        joined = second
    elif isinstance(second, OneRow) and not between:
        joined = first
    else:
        joined = Join(JoinKind.INNER, first, second, tuple(between))
    return _filtered(joined, [*constant, *fixed])


def _through_one_sided(
    node: Join,
    kind: JoinKind,
    conditions: Conditions,
    left: frozenset[str],
    right: frozenset[str],
) -> Node:
    """LEFT, SEMI, ANTI and NOT IN: what is known of the left side goes left."""
    below = [c for c in conditions if c.columns and c.columns <= left and not c.volatile]
    above = [c for c in conditions if c not in below]
    own: list[Scalar] = list(node.conditions)
    to_right: list[Scalar] = []
    if kind is not JoinKind.NULL_AWARE_ANTI:
        if kind is JoinKind.SEMI:
            below += [c for c in own if c.columns and c.columns <= left]
            own = [c for c in own if not (c.columns and c.columns <= left)]
        to_right = [c for c in own if c.columns and c.columns <= right]
        own = [c for c in own if c not in to_right]
        # The right side may forget rows that no left row can meet.
        known = implied_by_equalities([*own, *below])
        to_right += [c for c in known if c.columns <= right]
        if kind is JoinKind.SEMI:
            back = implied_by_equalities([*own, *to_right])
            below += [c for c in back if c.columns <= left]
    first = _push(node.left, tuple(_distinct(below)))
    second = _push(node.right, tuple(_distinct(to_right)))
    return _filtered(Join(kind, first, second, tuple(own)), above)
