"""The order and the methods of joins, chosen together by cost.

A tree of inner joins, filters and the left, semi and anti joins on top of them is one
**cluster**: relations that may be joined in any order, and **dependents**, each joined by its
own kind once the relations its condition reads are there (an outer, semi or anti join commutes
with inner joins of the side it preserves). Dynamic programming over subsets keeps a few
alternatives a subset, one a distribution, so that an order is found in which rows need not
move. Above `MAX_EXACT` relations the pair with the smallest result is joined first, again and
again.

Conditions between relations are applied as soon as both are joined; of those made redundant by
transitivity one a class of equal columns is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from catalog.model import NodeId
from planner.algebra import (
    Filter,
    Join,
    JoinChoice,
    JoinKind,
    Node,
    Project,
    Scalar,
    Scan,
    names_of,
)
from planner.algebra_scalars import equal_columns, split_equality
from planner.optimizer.alternatives import Alternative, worth_keeping
from planner.optimizer.join_methods import JoinPlan, JoinSides, considered, join_plans
from planner.optimizer.rules.equivalences import equal_classes
from planner.optimizer.selectivity import join_selectivity, selectivity
from planner.optimizer.statistics import Estimator, Profile, joined_profile

MAX_EXACT = 10

PlanNode = Callable[[Node], list[Alternative]]


@dataclass(frozen=True, slots=True)
class Element:
    """A relation of the cluster. A dependent has a kind other than INNER, conditions of its
    own, and `needs`, the relations (bits) that these read."""

    node: Node
    columns: frozenset[str]
    kind: JoinKind = JoinKind.INNER
    conditions: tuple[Scalar, ...] = ()
    needs: int = 0


@dataclass(slots=True)
class Cluster:
    """Relations and the conditions between them, as sets of bits."""

    elements: list[Element] = field(default_factory=list)
    conditions: list[Scalar] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Subset:
    """The best ways found to join a set of relations."""

    mask: int
    profile: Profile
    alternatives: list[Alternative]


def cluster_of(node: Node) -> Cluster | None:
    """The cluster at the top of the tree; None where there is nothing to order."""
    cluster = Cluster()
    if not _collect(node, cluster):
        return None
    columns = [e.columns for e in cluster.elements]
    for position, element in enumerate(cluster.elements):
        if element.kind is not JoinKind.INNER:
            read = frozenset().union(*(c.columns for c in element.conditions)) - element.columns
            needs = _mask(read, columns) or 1
            cluster.elements[position] = Element(
                element.node, element.columns, element.kind, element.conditions, needs
            )
    cluster.masks = [_mask(c.columns, columns) for c in cluster.conditions]
    class_of = {
        name: number
        for number, members in enumerate(equal_classes(cluster.conditions))
        for name in members
    }
    for condition in cluster.conditions:
        pair = equal_columns(condition)
        cluster.classes.append(class_of[pair[0]] if pair is not None else -1)
    return cluster


def _mask(read: frozenset[str], columns: Sequence[frozenset[str]]) -> int:
    mask = 0
    for position, own in enumerate(columns):
        if not own.isdisjoint(read):
            mask |= 1 << position
    return mask


def _collect(node: Node, cluster: Cluster) -> bool:
    """Adds the tree's relations to the cluster; whether it was a join at all."""
    if isinstance(node, Join) and node.kind is JoinKind.INNER:
        if any(c.volatile for c in node.conditions):
            return False
        for side in (node.left, node.right):
            if not _collect(side, cluster):
                cluster.elements.append(Element(side, names_of(side)))
        cluster.conditions += node.conditions
        return True
    if isinstance(node, Join) and node.kind is not JoinKind.FULL:
        if not _collect(node.left, cluster):
            cluster.elements.append(Element(node.left, names_of(node.left)))
        right = names_of(node.right)
        cluster.elements.append(Element(node.right, right, node.kind, node.conditions))
        return True
    if isinstance(node, Filter) and not any(c.volatile for c in node.conditions):
        inner = node.child
        if isinstance(inner, Join) and _collect(inner, cluster):
            cluster.conditions += node.conditions
            return True
    if isinstance(node, Project) and all(i.is_plain for i in node.items):
        # A projection that only forgets columns, which an exchange forgets anyway.
        return isinstance(node.child, Join | Filter | Project) and _collect(node.child, cluster)
    return False


class JoinOrder:
    """Finds the alternatives for one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        plan: PlanNode,
        estimator: Estimator,
        nodes: tuple[NodeId, ...],
        coordinator: NodeId,
        fresh: Callable[[], str],
    ) -> None:
        self._cluster = cluster
        self._estimator = estimator
        self._nodes = nodes
        self._coordinator = coordinator
        self._fresh = fresh
        self._singles = [
            Subset(1 << i, estimator.profile(e.node), plan(e.node))
            for i, e in enumerate(cluster.elements)
        ]
        self._dependents = 0
        for position, element in enumerate(cluster.elements):
            if element.kind is not JoinKind.INNER:
                self._dependents |= 1 << position

    def alternatives(self) -> tuple[Profile, list[Alternative]]:
        """The ways to join everything, with all conditions applied."""
        whole = self._exact() if len(self._singles) <= MAX_EXACT else self._greedy()
        constant = tuple(
            c
            for c, mask in zip(self._cluster.conditions, self._cluster.masks, strict=True)
            if mask == 0
        )
        alternatives = whole.alternatives
        if constant:
            alternatives = [a.then(lambda n: Filter(n, constant)) for a in alternatives]
        return whole.profile, alternatives

    def _exact(self) -> Subset:
        """Dynamic programming over all subsets that can be joined."""
        full = (1 << len(self._singles)) - 1
        known: dict[int, Subset] = {
            s.mask: self._started(s) for s in self._singles if not s.mask & self._dependents
        }
        crossing = False
        while full not in known:
            for mask in range(3, full + 1):
                if mask in known or mask.bit_count() < 2:
                    continue
                found = self._best_of(mask, known, crossing)
                if found is not None:
                    known[mask] = found
            # Only where nothing connects the relations, cross products are tried.
            assert full in known or not crossing
            crossing = True
        return known[full]

    def _best_of(self, mask: int, known: dict[int, Subset], crossing: bool) -> Subset | None:
        profile: Profile | None = None
        found: list[Alternative] = []
        for left, right in self._splits(mask, known):
            if not crossing and not self._connected(left.mask, right.mask):
                continue
            joined, alternatives = self._join(left, right, profile)
            profile = profile or joined
            found += alternatives
        if profile is None:
            return None
        return Subset(mask, profile, worth_keeping(found, profile))

    def _splits(self, mask: int, known: dict[int, Subset]) -> Iterator[tuple[Subset, Subset]]:
        """Pairs of joined subsets that make up the mask, dependents on the right alone."""
        dependents = mask & self._dependents
        while dependents:
            bit = dependents & -dependents
            dependents ^= bit
            rest = known.get(mask ^ bit)
            position = bit.bit_length() - 1
            needs = self._cluster.elements[position].needs
            if rest is not None and needs & ~rest.mask == 0:
                yield rest, self._singles[position]
        lowest = mask & -mask
        part = (mask - 1) & mask
        while part:
            if part & lowest:
                left, right = known.get(part), known.get(mask ^ part)
                if left is not None and right is not None:
                    yield left, right
            part = (part - 1) & mask

    def _greedy(self) -> Subset:
        """Joins the pair with the smallest result until one subset is left."""
        open_sets = [self._started(s) for s in self._singles if not s.mask & self._dependents]
        waiting = [s for s in self._singles if s.mask & self._dependents]
        while len(open_sets) > 1 or waiting:
            left, right = self._smallest_pair(open_sets, waiting)
            profile, found = self._join(left, right, None)
            joined = Subset(left.mask | right.mask, profile, worth_keeping(found, profile))
            open_sets = [s for s in open_sets if s is not left and s is not right] + [joined]
            waiting = [s for s in waiting if s is not right]
        return open_sets[0]

    def _smallest_pair(
        self, open_sets: Sequence[Subset], waiting: Sequence[Subset]
    ) -> tuple[Subset, Subset]:
        best_pair: tuple[float, Subset, Subset] | None = None
        for position, left in enumerate(open_sets):
            ready = [
                w
                for w in waiting
                if self._cluster.elements[w.mask.bit_length() - 1].needs & ~left.mask == 0
            ]
            for right in (*open_sets[position + 1 :], *ready):
                rows = self._profile(left, right).rows
                if not self._connected(left.mask, right.mask):
                    rows = left.profile.rows * right.profile.rows * 1e6
                if best_pair is None or rows < best_pair[0]:
                    best_pair = (rows, left, right)
        assert best_pair is not None
        return best_pair[1], best_pair[2]

    def _started(self, subset: Subset) -> Subset:
        """A single relation, with conditions that read nothing else."""
        own = tuple(
            c
            for c, mask in zip(self._cluster.conditions, self._cluster.masks, strict=True)
            if mask == subset.mask
        )
        if not own:
            return subset
        profile = subset.profile.with_rows(subset.profile.rows * selectivity(own, subset.profile))
        filtered = [a.then(lambda node: Filter(node, own)) for a in subset.alternatives]
        return Subset(subset.mask, profile, filtered)

    def _connected(self, left: int, right: int) -> bool:
        if right & self._dependents and right & (right - 1) == 0:
            return True
        both = left | right
        if any(m & left and m & right and m & ~both == 0 for m in self._cluster.masks):
            return True
        # One row joined with anything is no cross product to be afraid of.
        return any(
            side & (side - 1) == 0 and self._singles[side.bit_length() - 1].profile.rows <= 1.0
            for side in (left, right)
        )

    def _between(self, left: int, right: int) -> list[Scalar]:
        """The conditions that become applicable when the two are joined."""
        both = left | right
        found: list[Scalar] = []
        seen: set[int] = set()
        for condition, mask, number in zip(
            self._cluster.conditions, self._cluster.masks, self._cluster.classes, strict=True
        ):
            if mask == 0 or mask & ~both or mask & ~left == 0 or mask & ~right == 0:
                continue
            if number >= 0:
                if number in seen:
                    continue
                seen.add(number)
            found.append(condition)
        return found

    def _kind(self, right: Subset) -> tuple[JoinKind, tuple[Scalar, ...]]:
        if right.mask & self._dependents and right.mask & (right.mask - 1) == 0:
            element = self._cluster.elements[right.mask.bit_length() - 1]
            return element.kind, element.conditions
        return JoinKind.INNER, ()

    def _profile(self, left: Subset, right: Subset) -> Profile:
        kind, own = self._kind(right)
        late = self._late(left, right)
        if kind is JoinKind.INNER:
            own, late = late, ()
        factor = self._factor(left, right, own)
        profile = joined_profile(kind, left.profile, right.profile, factor)
        return profile.with_rows(profile.rows * selectivity(late, profile)) if late else profile

    def _late(self, left: Subset, right: Subset) -> tuple[Scalar, ...]:
        """The conditions of the cluster that become applicable when the two are joined."""
        late = self._between(left.mask, right.mask)
        if right.mask & self._dependents == right.mask:
            masks = zip(self._cluster.conditions, self._cluster.masks, strict=True)
            late += [c for c, mask in masks if mask == right.mask]
        return tuple(late)

    def _factor(self, left: Subset, right: Subset, conditions: Sequence[Scalar]) -> float:
        """The share of the cross product that the conditions let through."""
        both = Profile(1.0, {**left.profile.columns, **right.profile.columns})
        factor = join_selectivity(conditions, both)
        pairs = [p for p in map(equal_columns, conditions) if p is not None]
        if len(pairs) < 2:
            return factor
        # Several equalities are seldom independent: a composite key meets one row.
        for subset in (left, right):
            unique = self._unique_rows(subset, {name for pair in pairs for name in pair})
            if unique is not None:
                return max(factor, 1.0 / max(unique, 1.0))
        singly = sorted(
            join_selectivity((c,), both) for c in conditions if equal_columns(c) is not None
        )
        backed_off = factor
        for position, share in enumerate(singly[1:], start=1):
            backed_off /= share ** (1.0 - 0.5**position)
        return min(backed_off, 1.0)

    def _unique_rows(self, subset: Subset, columns: set[str]) -> float | None:
        """The rows of a base table in the subset whose primary key is among the columns."""
        for position, element in enumerate(self._cluster.elements):
            if not subset.mask >> position & 1:
                continue
            node = element.node
            while isinstance(node, Filter | Project):
                node = node.child
            if not isinstance(node, Scan) or node.table.primary_key is None:
                continue
            wanted = set(node.table.primary_key.columns)
            found = {
                s.id for c, s in zip(node.output, node.sources, strict=True) if c.name in columns
            }
            if wanted <= found:
                return self._estimator.profile(node).rows
        return None

    def _join(
        self, left: Subset, right: Subset, profile: Profile | None
    ) -> tuple[Profile, list[Alternative]]:
        kind, conditions = self._kind(right)
        late = self._late(left, right)
        if kind is JoinKind.INNER:
            conditions, late = late, ()
        if profile is None:
            profile = self._profile(left, right)
        sides = self._sides(kind, left, right, profile, conditions)
        plans: list[JoinPlan] = []
        for first in left.alternatives:
            for second in right.alternatives:
                plans += join_plans(sides, first, second, self._nodes, self._coordinator)
        return profile, [self._alternative(p, plans, sides, conditions, late) for p in plans]

    def _sides(
        self,
        kind: JoinKind,
        left: Subset,
        right: Subset,
        profile: Profile,
        conditions: Sequence[Scalar],
    ) -> JoinSides:
        mine, theirs = frozenset(left.profile.columns), frozenset(right.profile.columns)
        split = (split_equality(c, mine, theirs) for c in conditions)
        equalities = tuple(pair for pair in split if pair is not None)
        return JoinSides(kind, left.profile, right.profile, profile, equalities, self._fresh)

    @staticmethod
    def _alternative(
        plan: JoinPlan,
        plans: Sequence[JoinPlan],
        sides: JoinSides,
        conditions: tuple[Scalar, ...],
        late: tuple[Scalar, ...],
    ) -> Alternative:
        def build() -> Node:
            first, second = plan.left.build(), plan.right.build()
            choice = JoinChoice(
                plan.method, plan.moved_bytes, considered(plans, plan), sides.result.rows
            )
            if sides.kind is JoinKind.INNER and sides.left.rows < sides.right.rows:
                # The smaller side is hashed, which is the right one.
                first, second = second, first
                if plan.method.startswith("broadcast"):
                    swapped = "left" if plan.method.endswith("right") else "right"
                    choice = JoinChoice(
                        f"broadcast {swapped}", choice.moved_bytes, choice.considered, choice.rows
                    )
            joined: Node = Join(sides.kind, first, second, conditions, choice)
            return Filter(joined, late) if late else joined

        return Alternative(plan.distribution, plan.cost, build)
