"""Filters and projections, which run where their input is."""

from __future__ import annotations

from dataclasses import replace

from planner.algebra import Filter, Join, Project, Scan
from planner.optimizer.operators.joins import clustered
from planner.optimizer.operators.leaves import scan
from planner.optimizer.physical import Alternatives, PhysicalPlanner


def filtered(planner: PhysicalPlanner, node: Filter) -> Alternatives:
    if isinstance(node.child, Join):
        together = clustered(planner, node)
        if together is not None:
            return together
    if isinstance(node.child, Scan):
        below = scan(planner, node.child, node.conditions)
    else:
        below = planner.plan(node.child)
    if any(c.volatile for c in node.conditions):
        below = [planner.one_copy(a) for a in below]
    return [a.then(lambda child: replace(node, child=child)) for a in below]


def project(planner: PhysicalPlanner, node: Project) -> Alternatives:
    below = planner.plan(node.child)
    if any(i.scalar.volatile for i in node.items):
        below = [planner.one_copy(a) for a in below]
    return [
        a.then(
            lambda child: replace(node, child=child),
            distribution=a.distribution.projected(node.items),
        )
        for a in below
    ]
