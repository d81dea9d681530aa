"""Sorts and limits: done on each node first where that leaves fewer rows to move."""

from __future__ import annotations

from dataclasses import replace

from planner.algebra import Limit, Node, Sort
from planner.algebra_scalars import plain_column
from planner.optimizer.alternatives import Alternative, gather, row_cost, worth_keeping
from planner.optimizer.physical import Alternatives, PhysicalPlanner

# Sorted results above this many rows are sorted where they are and merged.
MERGE_ROWS = 20_000.0
# A LIMIT above this is not applied on each node first.
MAX_LOCAL_LIMIT = 1_000_000


def sort(planner: PhysicalPlanner, node: Sort) -> Alternatives:
    child = planner.size(node.child)
    merges = child.rows > MERGE_ROWS and all(plain_column(k.scalar) for k in node.keys)

    def ordered(alternative: Alternative) -> Alternative:
        return alternative.then(
            lambda below: replace(node, child=below),
            cost=row_cost(2 * child.rows, alternative.distribution),
        )

    found: Alternatives = []
    for alternative in planner.plan_one_copy(node.child):
        if alternative.distribution.is_single:
            found.append(ordered(alternative))
        elif merges:
            found.append(gather(ordered(alternative), child, planner.coordinator, sort=node.keys))
        else:
            found.append(ordered(planner.gathered(alternative, child)))
    return worth_keeping(found, child)


def limit(planner: PhysicalPlanner, node: Limit) -> Alternatives:
    """The first rows of each node's first rows; of all rows where there are too many of them."""
    count = None if node.count is None else node.count + node.offset
    if count is None or count > MAX_LOCAL_LIMIT:
        return _limit_gathered(planner, node)
    order = node.child if isinstance(node.child, Sort) else None
    inner = order.child if order is not None else node.child

    def topped(child: Node, top: Limit) -> Node:
        return replace(top, child=child if order is None else replace(order, child=child))

    local = Limit(node.child, count)
    size = planner.size(inner)
    found: Alternatives = []
    for alternative in planner.plan_one_copy(inner):
        where = alternative.distribution
        cost = row_cost(size.rows, where) if order is not None else 0.0
        if where.is_single:
            found.append(alternative.then(lambda child: topped(child, node), cost=cost))
            continue
        first = alternative.then(lambda child: topped(child, local), cost=cost)
        rows = min(float(count * len(where.nodes)), size.rows)
        moved = planner.gathered(first, size.with_rows(rows))
        found.append(moved.then(lambda child: topped(child, node)))
    return worth_keeping(found, planner.size(node))


def _limit_gathered(planner: PhysicalPlanner, node: Limit) -> Alternatives:
    size = planner.size(node.child)
    below = (gather(planner.one_copy(a), size, planner.end_of(a)) for a in planner.plan(node.child))
    return [a.then(lambda child: replace(node, child=child)) for a in below]
