"""What the operators of one statement's physical plan share: nodes, sizes, fresh names.

Each operator's ways to be computed are a function of this planner and the operator, found by
the operator's class (`distribute` has the table, `operators` the functions). They call back
`plan` for what is below them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from catalog.model import NodeId, NodeState
from planner.algebra import Node
from planner.context import PlannerContext
from planner.optimizer.alternatives import Alternative, gather, localised
from planner.optimizer.join_methods import Places
from planner.optimizer.statistics import Estimator, Profile, Size

Alternatives = list[Alternative]


class PhysicalPlanner:
    """Plans one statement."""

    def __init__(
        self,
        context: PlannerContext,
        estimator: Estimator,
        ways: Mapping[type[Node], Ways],
        nearest: tuple[NodeId, ...] = (),
    ) -> None:
        """`nearest` are all nodes, the nearest first, where tablets are to be read near."""
        self.context = context
        self.nearest = nearest
        self.estimator = estimator
        self.coordinator = context.node_id
        active = [n.id for n in context.catalog.nodes.values() if n.state is NodeState.ACTIVE]
        live = [n for n in active if not context.live_nodes or n in context.live_nodes]
        self.nodes: tuple[NodeId, ...] = tuple(sorted(live)) or (self.coordinator,)
        self.places = Places(self.nodes, self.coordinator)
        # Where shared subplans are computed; the first of them settles it for all.
        self.pinned_to: NodeId | None = None
        self._ways = ways
        self._fresh_count: Counter[str] = Counter()

    def plan(self, node: Node) -> Alternatives:
        """The ways to compute an operator."""
        return self._ways[type(node)](self, node)

    def plan_one_copy(self, node: Node) -> Alternatives:
        """The ways to compute an operator once, even where copies lie on several nodes."""
        return [self.one_copy(a) for a in self.plan(node)]

    def one_copy(self, alternative: Alternative) -> Alternative:
        return localised(alternative, self.coordinator)

    def gathered(self, alternative: Alternative, size: Size) -> Alternative:
        """All rows at the coordinator."""
        return gather(alternative, size, self.coordinator)

    def end_of(self, alternative: Alternative) -> NodeId:
        """Where rows meet that are gathered with the least moved: where they are, if on one."""
        where = alternative.distribution
        return where.nodes[0] if where.is_single else self.coordinator

    def profile(self, node: Node) -> Profile:
        return self.estimator.profile(node)

    def size(self, node: Node) -> Size:
        return self.profile(node).size

    def fresh(self, what: str) -> str:
        """A column name that the statement does not have yet."""
        self._fresh_count[what] += 1
        return f"{what}~~{self._fresh_count[what]}"

    def fresh_hash(self) -> str:
        return self.fresh("hash")


Ways = Callable[[PhysicalPlanner, Any], Alternatives]
