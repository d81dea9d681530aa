"""Subplans used more than once, and queries that one node runs as written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from catalog.model import NodeId
from planner.algebra import Node, Opaque, Shared
from planner.optimizer.alternatives import Alternative, best, gather
from planner.optimizer.distribution import Distribution, Spread, single
from planner.optimizer.physical import Alternatives, PhysicalPlanner


def shared(planner: PhysicalPlanner, node: Shared) -> Alternatives:
    """The definition computed once, where its uses and all above them are pinned to."""
    size = planner.size(node.definition)
    planner.profile(node)  # makes the shared profile known to its scans
    ways = planner.plan(node.definition)
    if planner.pinned_to is None:
        planner.pinned_to = planner.end_of(best(ways))
    definition = best(gather(a, size, planner.pinned_to) for a in ways)
    found: Alternatives = []
    for body in planner.plan(node.body):
        where = body.distribution
        if node.name not in where.pins:
            found.append(body)
            continue
        outer = (where.pins | definition.distribution.pins) - {node.name}
        cost = body.cost + definition.cost
        build = _sharing(node.name, definition, body)
        found.append(Alternative(replace(where, pins=outer), cost, build))
    return found


def opaque(planner: PhysicalPlanner, node: Opaque) -> Alternatives:
    inputs = [best(planner.plan(i.node)) for i in node.inputs]
    sizes = [planner.size(i.node) for i in node.inputs]
    target = _meeting_place([i.distribution for i in inputs], planner.coordinator)
    moved = [gather(a, s, target, rescannable=True) for a, s in zip(inputs, sizes, strict=True)]
    builds = [m.build for m in moved]
    return [
        Alternative(
            single(target),
            sum(m.cost for m in moved),
            lambda: node.with_children(tuple(build() for build in builds)),
        )
    ]


def _meeting_place(places: Sequence[Distribution], coordinator: NodeId) -> NodeId:
    """The one node that has everything already, else the coordinator."""
    common: set[NodeId] | None = None
    for place in places:
        if not place.is_single and place.spread is not Spread.REPLICATED:
            return coordinator
        common = set(place.nodes) if common is None else common & set(place.nodes)
    if not common or coordinator in common:
        return coordinator
    return min(common)


def _sharing(name: str, definition: Alternative, body: Alternative) -> Callable[[], Node]:
    return lambda: Shared(name, definition.build(), body.build())
