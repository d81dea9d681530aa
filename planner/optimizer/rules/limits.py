"""LIMIT and top-N below what can only pass their rows on.

    over a projection    the limit goes below it (not where it computes volatile values)
    over UNION ALL       every branch needs no more rows than the whole
    over a left join     without order, or ordered by the left side: no more left rows than that,
                         since each comes out at least once

The limit above stays, except over a projection.
"""

from __future__ import annotations

from dataclasses import replace

from planner.algebra import (
    Join,
    JoinKind,
    Limit,
    Node,
    Project,
    SetKind,
    SetOperation,
    Sort,
    SortItem,
    map_children,
    names_of,
)
from planner.algebra_scalars import column_scalar, substitute

MAX_PUSHED = 100_000


def push_limits(node: Node) -> Node:
    """The rule."""
    if isinstance(node, Limit) and node.count is not None:
        node = _pushed(node)
    return map_children(node, push_limits)


def _pushed(node: Limit) -> Node:
    assert node.count is not None
    sort = node.child if isinstance(node.child, Sort) else None
    below = sort.child if sort is not None else node.child
    if isinstance(below, Project) and sort is None:
        if any(i.scalar.volatile for i in below.items):
            return node
        return replace(below, child=_pushed(replace(node, child=below.child)))
    if node.count + node.offset > MAX_PUSHED:
        return node
    enough = Limit(node, node.count + node.offset)
    keys = sort.keys if sort is not None else ()
    if isinstance(below, SetOperation) and below.kind is SetKind.UNION and below.all:
        changed: Node = _into_branches(below, enough, keys)
    elif isinstance(below, Join) and below.kind is JoinKind.LEFT:
        changed = _into_left(below, enough, keys)
    else:
        return node
    return replace(node, child=changed if sort is None else replace(sort, child=changed))


def _into_branches(node: SetOperation, enough: Limit, keys: tuple[SortItem, ...]) -> Node:
    branches: list[Node] = []
    for branch, sources in zip(node.branches, node.sources, strict=True):
        own = {c.name: c for c in branch.columns}
        names = {
            column.name: column_scalar(own[source])
            for column, source in zip(node.output, sources, strict=True)
        }
        sort = tuple(replace(k, scalar=substitute(k.scalar, names)) for k in keys)
        branches.append(_limited(branch, enough, sort))
    return node.with_children(tuple(branches))


def _into_left(node: Join, enough: Limit, keys: tuple[SortItem, ...]) -> Node:
    left = names_of(node.left)
    if any(k.scalar.volatile or not k.scalar.columns <= left for k in keys):
        return node
    return node.with_children((_limited(node.left, enough, keys), node.right))


def _limited(node: Node, enough: Limit, keys: tuple[SortItem, ...]) -> Node:
    return replace(enough, child=Sort(node, keys) if keys else node)
