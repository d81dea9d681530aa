"""UNION, INTERSECT, EXCEPT: branches side by side where they lie alike, else brought together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from planner.algebra import Aggregate, Item, SetKind, SetOperation
from planner.algebra_scalars import column_item, column_scalar
from planner.optimizer.alternatives import Alternative, best, gather, hash_key, repartition
from planner.optimizer.distribution import Distribution, Spread, single
from planner.optimizer.operators.grouping import aggregate
from planner.optimizer.physical import Alternatives, PhysicalPlanner
from planner.optimizer.statistics import Size

# INTERSECT and EXCEPT of fewer rows are gathered, not hashed.
HASHED_ROWS = 20_000.0


def set_operation(planner: PhysicalPlanner, node: SetOperation) -> Alternatives:
    branches = [planner.plan(b) for b in node.branches]
    if node.kind is SetKind.UNION and not node.all:
        union = replace(node, all=True)
        items = tuple(column_item(c) for c in node.columns)
        distinct = Aggregate(union, items, ())
        return aggregate(planner, distinct)
    chosen = [best(b) for b in branches]
    sizes = [planner.size(b) for b in node.branches]
    together = _side_by_side(planner, node, chosen)
    if together is not None:
        return [together]
    if node.kind is not SetKind.UNION:
        hashed_alike = _hashed_alike(planner, node, chosen, sizes)
        if hashed_alike is not None:
            return [hashed_alike]
    pins = frozenset[str]().union(*(c.distribution.pins for c in chosen))
    target = next(
        (c.distribution.nodes[0] for c in chosen if c.distribution.pins), planner.coordinator
    )
    moved = [
        best(gather(a, size, target) for a in ways)
        for ways, size in zip(branches, sizes, strict=True)
    ]
    return [_combined(node, moved, single(target, pins))]


def _combined(
    node: SetOperation, branches: Sequence[Alternative], where: Distribution
) -> Alternative:
    builds = [b.build for b in branches]
    return Alternative(
        where,
        sum(b.cost for b in branches),
        lambda: node.with_children(tuple(build() for build in builds)),
    )


def _side_by_side(
    planner: PhysicalPlanner, node: SetOperation, chosen: Sequence[Alternative]
) -> Alternative | None:
    """All branches on one node, or a UNION ALL of branches that are spread anyway."""
    places = [c.distribution for c in chosen]
    spots = {p.nodes[0] for p in places if p.is_single}
    copies = [p for p in places if p.spread is Spread.REPLICATED]
    if len(spots) <= 1 and all(p.is_single or p.spread is Spread.REPLICATED for p in places):
        target = next(iter(spots), None)
        if target is None:
            common = set(places[0].nodes).intersection(*(p.nodes for p in places))
            if not common:
                return None
            target = planner.coordinator if planner.coordinator in common else min(common)
        if all(target in p.nodes for p in places):
            pins = frozenset[str]().union(*(p.pins for p in places))
            return _combined(node, chosen, single(target, pins))
    if node.kind is not SetKind.UNION or copies or any(p.is_single for p in places):
        return None
    nodes = tuple(sorted({n for p in places for n in p.nodes}))
    return _combined(node, chosen, Distribution(Spread.SCATTERED, nodes))


def _hashed_alike(
    planner: PhysicalPlanner,
    node: SetOperation,
    chosen: Sequence[Alternative],
    sizes: Sequence[Size],
) -> Alternative | None:
    """INTERSECT and EXCEPT with both sides hashed by whole rows."""
    if len(planner.nodes) == 1 or sum(s.rows for s in sizes) < HASHED_ROWS:
        return None
    if any(c.distribution.pins for c in chosen):
        return None
    keys = _alike_keys(planner, node)
    if keys is None:
        return None
    sides = [
        repartition(c, s, k, planner.nodes) for c, s, k in zip(chosen, sizes, keys, strict=True)
    ]
    # The branches' own names end here, so nothing is known of the result's.
    where = Distribution(Spread.SCATTERED, planner.nodes)
    return _combined(node, sides, where)


def _alike_keys(planner: PhysicalPlanner, node: SetOperation) -> list[list[Item]] | None:
    """For each branch the columns to hash, of the same types in all; None without any."""
    first, second = (
        [{c.name: c for c in branch.columns}[n] for n in names]
        for branch, names in zip(node.branches, node.sources, strict=True)
    )
    pairs = [
        (
            hash_key(column_scalar(a), planner.fresh_hash(), b.type),
            hash_key(column_scalar(b), planner.fresh_hash(), a.type),
        )
        for a, b in zip(first, second, strict=True)
    ]
    usable = [(a, b) for a, b in pairs if a is not None and b is not None]
    return [[a for a, _ in usable], [b for _, b in usable]] if usable else None
