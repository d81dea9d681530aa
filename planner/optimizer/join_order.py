"""The order and the methods of joins, chosen together by cost.

A tree of inner joins, filters and the left, semi and anti joins on top of them is one
**cluster**: relations that may be joined in any order, and **dependents**, each joined by its
own kind once the relations its condition reads are there (an outer, semi or anti join commutes
with inner joins of the side it preserves). Dynamic programming over subsets keeps a few
alternatives a subset, one a distribution, so that an order is found in which rows need not
move. Above `MAX_EXACT` relations the pair with the smallest result is joined first, again and
again.

Conditions between relations are applied as soon as both are joined; of equalities that follow
from each other by transitivity, one a join (`_class_numbers`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

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
from planner.algebra_scalars import equal_columns, equality, scalar_of
from planner.optimizer.alternatives import Alternative, best, worth_keeping
from planner.optimizer.join_methods import (
    JoinPlan,
    JoinSides,
    Places,
    considered,
    join_plans,
    join_sides,
)
from planner.optimizer.rules.equivalences import equal_classes, missing_equalities
from planner.optimizer.selectivity import join_selectivity, selectivity
from planner.optimizer.statistics import Estimator, Profile, Size, joined_rows

MAX_EXACT = 10
# Below so many relations a bound on the cost saves nothing.
FEW = 5
# An equality is weak beside one so many times stronger, if it keeps so many pairs.
WEAK_FACTOR = 10.0
WEAK_SHARE = 0.002
SWAPPED = {"broadcast left": "broadcast right", "broadcast right": "broadcast left"}

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
    """Relations and the conditions between them, as sets of bits.

    `classes` number the equalities by the class of columns they belong to; `sides` has both
    sides of every equality, by the id() of its condition.
    """

    elements: list[Element] = field(default_factory=list)
    conditions: list[Scalar] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    sides: dict[int, tuple[Scalar, Scalar]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subset:
    """The best ways found to join a set of relations."""

    mask: int
    size: Size
    columns: frozenset[str]
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
    cluster.conditions += missing_equalities(cluster.conditions)
    cluster.masks = [_mask(c.columns, columns) for c in cluster.conditions]
    cluster.classes = _class_numbers(cluster.conditions, columns)
    own = (c for e in cluster.elements for c in e.conditions)
    for condition in (*cluster.conditions, *own):
        sides = equality(condition)
        if sides is not None:
            cluster.sides[id(condition)] = (scalar_of(sides[0]), scalar_of(sides[1]))
    return cluster


def _class_numbers(conditions: Sequence[Scalar], columns: Sequence[frozenset[str]]) -> list[int]:
    """For each condition, the class of which one equality a join is enough; -1 for none.

    One is enough where every two columns of the class have an equality: whatever is joined
    first, its members are then equal already. Where one was left out, or where two columns are
    of one relation, each equality may be the only one to say what it says.
    """
    pairs = [equal_columns(condition) for condition in conditions]
    known = {frozenset(pair) for pair in pairs if pair is not None}
    class_of: dict[str, int] = {}
    for number, members in enumerate(equal_classes(conditions)):
        complete = all(frozenset(pair) in known for pair in combinations(members, 2))
        if complete and all(len(members.keys() & own) <= 1 for own in columns):
            class_of |= dict.fromkeys(members, number)
    return [-1 if pair is None else class_of.get(pair[0], -1) for pair in pairs]


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
        places: Places,
        fresh: Callable[[], str],
    ) -> None:
        self._cluster = cluster
        self._estimator = estimator
        self._places = places
        self._fresh = fresh
        self._profiles = [estimator.profile(e.node) for e in cluster.elements]
        self._singles = [
            Subset(1 << i, profile.size, element.columns, plan(element.node))
            for i, (element, profile) in enumerate(
                zip(cluster.elements, self._profiles, strict=True)
            )
        ]
        self._dependents = 0
        for position, element in enumerate(cluster.elements):
            if element.kind is not JoinKind.INNER:
                self._dependents |= 1 << position
        self._shares = self._measured()

    def _measured(self) -> dict[int, float]:
        """By id(), the share of the cross product that each condition lets through."""
        columns = {n: c for profile in self._profiles for n, c in profile.columns.items()}
        whole = Profile(1.0, columns)
        own = (c for e in self._cluster.elements for c in e.conditions)
        return {id(c): join_selectivity((c,), whole) for c in (*self._cluster.conditions, *own)}

    def alternatives(self) -> tuple[Profile, list[Alternative]]:
        """The ways to join everything, with all conditions applied."""
        whole = self._exact() if len(self._singles) <= MAX_EXACT else self._greedy()
        masks = zip(self._cluster.conditions, self._cluster.masks, strict=True)
        constant = tuple(c for c, mask in masks if mask == 0)
        alternatives = whole.alternatives
        if constant:
            alternatives = [a.then(lambda n: Filter(n, constant)) for a in alternatives]
        columns = {
            name: column
            for profile in self._profiles
            for name, column in profile.columns.items()
            if name in whole.columns
        }
        return Profile(0.0, columns).with_rows(whole.size.rows), alternatives

    # Orders

    def _exact(self) -> Subset:
        """Dynamic programming over all subsets that can be joined.

        A quick greedy plan bounds the cost: a subset that, with the cheapest way to read the
        rest, costs more than the whole greedy plan is not pursued.
        """
        if len(self._singles) < FEW:
            return self._enumerated(math.inf) or self._greedy()
        quick = self._greedy()
        return self._enumerated(best(quick.alternatives).cost) or quick

    def _enumerated(self, bound: float) -> Subset | None:
        full = (1 << len(self._singles)) - 1
        least = [best(s.alternatives).cost for s in self._singles]
        known: dict[int, Subset] = {
            s.mask: self._started(s) for s in self._singles if not s.mask & self._dependents
        }
        # Only where nothing connects the relations, cross products are tried.
        for crossing in (False, True):
            for mask in range(3, full + 1):
                if mask not in known and mask & (mask - 1):
                    rest = sum(c for i, c in enumerate(least) if not mask >> i & 1)
                    found = self._best_of(mask, known, crossing, bound - rest)
                    if found is not None:
                        known[mask] = found
            if full in known or bound < math.inf:
                break
        return known.get(full)

    def _best_of(
        self, mask: int, known: dict[int, Subset], crossing: bool, bound: float
    ) -> Subset | None:
        """The best ways to join the subset at no more than the bound."""
        size: Size | None = None
        columns: frozenset[str] = frozenset()
        found: list[Alternative] = []
        for left, right in self._splits(mask, known):
            if not crossing and not self._connected(left.mask, right.mask):
                continue
            joined = self._join(left, right, size)
            size, columns = joined.size, joined.columns
            found += [a for a in joined.alternatives if a.cost <= bound]
        if size is None or not found:
            return None
        return Subset(mask, size, columns, worth_keeping(found, size))

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
        # Without the lowest bit in the right part, no pair comes twice.
        rest_of = mask & (mask - 1)
        part = rest_of
        while part:
            right = known.get(part)
            if right is not None:
                left = known.get(mask ^ part)
                if left is not None:
                    yield left, right
            part = (part - 1) & rest_of

    def _greedy(self) -> Subset:
        """Joins the pair with the smallest result until one subset is left."""
        open_sets = [self._started(s) for s in self._singles if not s.mask & self._dependents]
        waiting = [s for s in self._singles if s.mask & self._dependents]
        while len(open_sets) > 1 or waiting:
            left, right = self._smallest_pair(open_sets, waiting)
            joined = self._join(left, right, None)
            kept = Subset(
                joined.mask,
                joined.size,
                joined.columns,
                worth_keeping(joined.alternatives, joined.size),
            )
            open_sets = [s for s in open_sets if s is not left and s is not right] + [kept]
            waiting = [s for s in waiting if s is not right]
        return open_sets[0]

    def _smallest_pair(
        self, open_sets: Sequence[Subset], waiting: Sequence[Subset]
    ) -> tuple[Subset, Subset]:
        best_pair: tuple[float, Subset, Subset] | None = None
        for position, left in enumerate(open_sets):
            ready = [w for w in waiting if self._needs(w) & ~left.mask == 0]
            for right in (*open_sets[position + 1 :], *ready):
                rows = self._joined_rows(left, right)
                if not self._connected(left.mask, right.mask):
                    rows = left.size.rows * right.size.rows * 1e6
                if best_pair is None or rows < best_pair[0]:
                    best_pair = (rows, left, right)
        assert best_pair is not None
        return best_pair[1], best_pair[2]

    def _needs(self, dependent: Subset) -> int:
        return self._cluster.elements[dependent.mask.bit_length() - 1].needs

    def _started(self, subset: Subset) -> Subset:
        """A single relation, with conditions that read nothing else."""
        masks = zip(self._cluster.conditions, self._cluster.masks, strict=True)
        own = tuple(c for c, mask in masks if mask == subset.mask)
        if not own:
            return subset
        profile = self._profiles[subset.mask.bit_length() - 1]
        rows = subset.size.rows * selectivity(own, profile)
        filtered = [a.then(lambda node: Filter(node, own)) for a in subset.alternatives]
        return Subset(subset.mask, subset.size.with_rows(rows), subset.columns, filtered)

    def _connected(self, left: int, right: int) -> bool:
        if right & self._dependents and right & (right - 1) == 0:
            return True
        both = left | right
        if any(m & left and m & right and m & ~both == 0 for m in self._cluster.masks):
            return True
        # One row joined with anything is no cross product to be afraid of.
        return any(
            side & (side - 1) == 0 and self._profiles[side.bit_length() - 1].rows <= 1.0
            for side in (left, right)
        )

    # One join

    def _between(self, left: int, right: int) -> list[Scalar]:
        """The conditions that become applicable when the two are joined, one a class."""
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

    def _conditions(
        self, left: Subset, right: Subset
    ) -> tuple[JoinKind, tuple[Scalar, ...], tuple[Scalar, ...]]:
        """The kind of the join, its conditions, and those to apply to its result."""
        between = self._between(left.mask, right.mask)
        if right.mask & self._dependents == 0 or right.mask & (right.mask - 1):
            return JoinKind.INNER, tuple(between), ()
        element = self._cluster.elements[right.mask.bit_length() - 1]
        masks = zip(self._cluster.conditions, self._cluster.masks, strict=True)
        between += [c for c, mask in masks if mask == right.mask]
        return element.kind, element.conditions, tuple(between)

    def _joined_rows(self, left: Subset, right: Subset) -> float:
        kind, conditions, late = self._conditions(left, right)
        factor = self._factor(left, right, conditions)
        rows = joined_rows(kind, left.size.rows, right.size.rows, factor)
        for condition in late:
            rows *= self._shares[id(condition)]
        return rows

    def _factor(self, left: Subset, right: Subset, conditions: Sequence[Scalar]) -> float:
        """The share of the cross product that the conditions let through."""
        shares = [self._shares[id(c)] for c in conditions]
        factor = math.prod(shares)
        pairs = [p for p in map(equal_columns, conditions) if p is not None]
        if len(pairs) < 2:
            return factor
        # Several equalities are seldom independent: a composite key meets one row.
        named = {name for pair in pairs for name in pair}
        for subset in (left, right):
            unique = self._unique_rows(subset, named)
            if unique is not None:
                return max(factor, 1.0 / max(unique, 1.0))
        singly = sorted(self._shares[id(c)] for c in conditions if equal_columns(c) is not None)
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

    def _join(self, left: Subset, right: Subset, known: Size | None) -> Subset:
        """All ways to join the two; `known` is the size where another split gave it."""
        kind, conditions, late = self._conditions(left, right)
        columns = left.columns | right.columns if kind.keeps_right else left.columns
        size = known or self._size_of(left, right, kind)
        equalities = tuple(
            pair for pair in (self._equality(c, left, right) for c in conditions) if pair
        )
        sides = join_sides(kind, left.size, right.size, size, equalities, self._fresh)
        plans = join_plans(sides, left.alternatives, right.alternatives, self._places)
        conditions, weak = self._weak_last(kind, conditions)
        alternatives = [self._alternative(p, plans, sides, conditions, late, weak) for p in plans]
        return Subset(left.mask | right.mask, size, columns, alternatives)

    def _weak_last(
        self, kind: JoinKind, conditions: tuple[Scalar, ...]
    ) -> tuple[tuple[Scalar, ...], int]:
        """The conditions with the weak equalities last, and how many these are."""
        shares = {id(c): self._shares[id(c)] for c in conditions if id(c) in self._cluster.sides}
        if kind is not JoinKind.INNER or len(shares) < 2:
            return conditions, 0
        bound = max(WEAK_SHARE, WEAK_FACTOR * min(shares.values()))
        weak = tuple(c for c in conditions if shares.get(id(c), 0.0) >= bound)
        strong = tuple(c for c in conditions if shares.get(id(c), 0.0) < bound)
        return strong + weak, len(weak)

    def _size_of(self, left: Subset, right: Subset, kind: JoinKind) -> Size:
        rows = self._joined_rows(left, right)
        width = left.size.width_bytes + (right.size.width_bytes if kind.keeps_right else 0.0)
        return Size(rows, rows * width)

    def _equality(
        self, condition: Scalar, left: Subset, right: Subset
    ) -> tuple[Scalar, Scalar] | None:
        sides = self._cluster.sides.get(id(condition))
        if sides is None or not sides[0].columns or not sides[1].columns:
            return None
        first, second = sides
        if first.columns <= left.columns and second.columns <= right.columns:
            return first, second
        if first.columns <= right.columns and second.columns <= left.columns:
            return second, first
        return None

    @staticmethod
    def _alternative(
        plan: JoinPlan,
        plans: Sequence[JoinPlan],
        sides: JoinSides,
        conditions: tuple[Scalar, ...],
        late: tuple[Scalar, ...],
        weak: int,
    ) -> Alternative:
        def build() -> Node:
            first, second = plan.left.build(), plan.right.build()
            method, others = plan.method, considered(plans, plan)
            if sides.kind is JoinKind.INNER and sides.left.rows < sides.right.rows:
                # The smaller side is hashed, which is the right one.
                first, second = second, first
                method = SWAPPED.get(method, method)
                others = tuple((SWAPPED.get(m, m), amount) for m, amount in others)
            choice = JoinChoice(method, plan.moved_bytes, others, sides.result.rows, weak)
            joined: Node = Join(sides.kind, first, second, conditions, choice)
            return Filter(joined, late) if late else joined

        return Alternative(plan.distribution, plan.cost, build)
