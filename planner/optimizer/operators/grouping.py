"""Operators whose rows must meet by a key: aggregates, DISTINCT ON, windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from planner.algebra import Aggregate, DistinctOn, Item, Scalar, Window
from planner.algebra_scalars import plain_column
from planner.optimizer.aggregates import TwoSteps, two_steps
from planner.optimizer.alternatives import (
    STAGE_COST,
    Alternative,
    column_keys,
    hash_key,
    repartition,
    row_cost,
    worth_keeping,
)
from planner.optimizer.distribution import Distribution
from planner.optimizer.physical import Alternatives, PhysicalPlanner
from planner.optimizer.rules.pushdown import partition_columns
from planner.optimizer.statistics import Size

# Partial groups up to this many are finished on one node.
GATHERED_GROUPS = 50_000.0


def aggregate(planner: PhysicalPlanner, node: Aggregate) -> Alternatives:
    """Whole where groups lie together; else in two steps, or whole after an exchange."""
    below = planner.plan_one_copy(node.child)
    child, result = planner.size(node.child), planner.size(node)
    steps = two_steps(node, planner.fresh) if not _is_volatile(node) else None
    found: Alternatives = []
    for alternative in below:
        where = alternative.distribution
        if _groups_together(node, where):
            found.append(_whole(node, alternative, child))
            continue
        if steps is not None:
            found += _in_two_steps(planner, node, steps, alternative, child)
        keys = _hash_items(planner, node, [k.scalar for k in node.keys])
        if keys is not None and len(planner.nodes) > 1 and (steps is None or node.aggregates):
            moved = repartition(alternative, child, keys, planner.nodes)
            found.append(_whole(node, moved, child))
        if (steps is None and keys is None) or (steps is None and child.bytes < 4 * STAGE_COST):
            found.append(_whole(node, planner.gathered(alternative, child), child))
    return worth_keeping(found, result)


def _groups_together(node: Aggregate, where: Distribution) -> bool:
    if where.is_single:
        return True
    common = _in_every_set(node)
    names = (plain_column(k.scalar) for i, k in enumerate(node.keys) if i in common)
    return where.groups_by(n for n in names if n is not None)


def _in_every_set(node: Aggregate) -> set[int]:
    """The group keys, by their place, that are in every grouping set."""
    return set(range(len(node.keys))).intersection(*node.sets)


def _whole(node: Aggregate, alternative: Alternative, child: Size) -> Alternative:
    where = alternative.distribution
    return alternative.then(
        lambda below: replace(node, child=below),
        distribution=where.projected(node.keys),
        cost=row_cost(child.rows, where),
    )


def _in_two_steps(
    planner: PhysicalPlanner,
    node: Aggregate,
    steps: TwoSteps,
    alternative: Alternative,
    child: Size,
) -> Alternatives:
    where = alternative.distribution
    lower_node = steps.lower(node.child)
    grouped = planner.size(lower_node)
    # Each node has up to all groups, and never more than its rows.
    rows = min(grouped.rows * len(where.nodes), child.rows)
    moved = grouped.with_rows(rows)
    lower = alternative.then(
        steps.lower,
        distribution=where.projected(steps.partial_keys),
        cost=row_cost(child.rows, where),
    )
    found: Alternatives = []
    if rows <= GATHERED_GROUPS or not node.keys:
        found.append(planner.gathered(lower, moved))
    keys = _hash_items(planner, node, [k.scalar for k in steps.final_keys])
    if keys is not None and len(planner.nodes) > 1:
        found.append(repartition(lower, moved, keys, planner.nodes))
    if not found:
        found.append(planner.gathered(lower, moved))
    return [
        a.then(
            lambda below: steps.upper(below, node.sets),
            distribution=a.distribution.projected(steps.final_keys),
            cost=row_cost(rows, a.distribution),
        )
        for a in found
    ]


def _hash_items(
    planner: PhysicalPlanner, node: Aggregate, keys: Sequence[Scalar]
) -> list[Item] | None:
    """Hash keys over the group keys that are in every grouping set; None without any."""
    common = _in_every_set(node)
    found = [hash_key(k, planner.fresh_hash()) for i, k in enumerate(keys) if i in common]
    usable = [k for k in found if k is not None and not k.scalar.volatile]
    return usable or None


def distinct_on(planner: PhysicalPlanner, node: DistinctOn) -> Alternatives:
    """The first row of each key on each node, and the first of these."""
    child = planner.size(node.child)
    found: Alternatives = []
    for alternative in planner.plan_one_copy(node.child):
        if alternative.distribution.is_single:
            found.append(alternative.then(lambda below: replace(node, child=below)))
            continue
        lower = alternative.then(lambda below: replace(node, child=below))
        gathered = planner.gathered(lower, planner.size(node))
        found.append(gathered.then(lambda below: replace(node, child=below)))
    return worth_keeping(found, child)


def window(planner: PhysicalPlanner, node: Window) -> Alternatives:
    """Window functions where rows of a partition lie together, else after an exchange."""
    child = planner.size(node.child)
    shared = set.intersection(*(partition_columns(f) for f in node.functions))
    by_name = {c.name: c for c in node.child.columns}
    keys = column_keys([by_name[n] for n in sorted(shared) if n in by_name])
    found: Alternatives = []
    for alternative in planner.plan_one_copy(node.child):
        where = alternative.distribution
        if where.is_single or where.groups_by(shared):
            ready = [alternative]
        elif keys and len(planner.nodes) > 1:
            ready = [
                repartition(alternative, child, keys, planner.nodes),
                planner.gathered(alternative, child),
            ]
        else:
            ready = [planner.gathered(alternative, child)]
        found += [
            a.then(
                lambda below: replace(node, child=below),
                cost=row_cost(2 * child.rows, a.distribution),
            )
            for a in ready
        ]
    return worth_keeping(found, planner.size(node))


def _is_volatile(node: Aggregate) -> bool:
    return any(i.scalar.volatile for i in (*node.keys, *node.aggregates))
