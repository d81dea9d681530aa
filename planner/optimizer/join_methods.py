"""The ways to do one join, with what each moves.

part-wise    the rows that meet are on the same node already: co-located parts, rows hashed
             by an earlier exchange, one node, or a replicated side
broadcast    one side to every node of the other; legal for the side whose rows may be seen
             more than once: the right of LEFT, SEMI, ANTI and NOT IN, either of INNER
repartition  both sides (or the one that is not so yet) hashed by the join keys
gather       both sides to the coordinator; the only way for a FULL join without hashable
             keys, and for what reads a shared subplan
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from catalog.model import NodeId
from planner.algebra import Item, JoinKind, Scalar
from planner.algebra_scalars import plain_column
from planner.optimizer.alternatives import (
    Alternative,
    best,
    broadcast,
    gather,
    hash_key,
    hashed_type,
    localised,
    repartition,
    row_cost,
)
from planner.optimizer.distribution import Distribution, Spread, aligned, single
from planner.optimizer.statistics import Size


@dataclass(frozen=True, slots=True)
class JoinSides:
    """What is joined: sizes of both sides and of the result, and the equalities between.

    `pairs` are the equalities between plain columns. `fresh` names columns that are computed
    to be hash keys.
    """

    kind: JoinKind
    left: Size
    right: Size
    result: Size
    equalities: tuple[tuple[Scalar, Scalar], ...]
    pairs: tuple[tuple[str, str], ...]
    fresh: Callable[[], str]


def join_sides(
    kind: JoinKind,
    left: Size,
    right: Size,
    result: Size,
    equalities: tuple[tuple[Scalar, Scalar], ...],
    fresh: Callable[[], str],
) -> JoinSides:
    """The sides, with the pairs of plain columns among the equalities."""
    named = ((plain_column(a), plain_column(b)) for a, b in equalities)
    pairs = tuple((a, b) for a, b in named if a is not None and b is not None)
    return JoinSides(kind, left, right, result, equalities, pairs, fresh)


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """One way to do the join."""

    method: str
    left: Alternative
    right: Alternative
    distribution: Distribution
    moved_bytes: float
    cost: float


@dataclass(frozen=True, slots=True)
class Places:
    """Where stages may run: the nodes for a repartition, and the coordinator."""

    nodes: tuple[NodeId, ...]
    coordinator: NodeId


def join_plans(
    sides: JoinSides,
    lefts: Sequence[Alternative],
    rights: Sequence[Alternative],
    places: Places,
) -> list[JoinPlan]:
    """All legal ways worth a thought. What is moved is the cheapest way to compute a side;
    what stays is tried in every way, because its distribution lives on."""
    left, right = best(lefts), best(rights)
    pins = left.distribution.pins | right.distribution.pins
    if pins:
        pinned = left if left.distribution.pins else right
        return [_gathered(sides, left, right, pinned.distribution.nodes[0], pins)]
    plans = [
        local
        for first in lefts
        for second in rights
        for local in (_local(sides, first, second, places.coordinator),)
        if local is not None
    ]
    if any(p.moved_bytes == 0.0 and p.left is left and p.right is right for p in plans):
        # The cheapest ways to compute both sides meet without a move.
        return plans
    for first in lefts:
        plans += _broadcast_right(sides, first, right, places.coordinator)
    for second in rights:
        plans += _broadcast_left(sides, left, second, places.coordinator)
    plans += _repartitions(sides, lefts, rights, places)
    plans.append(_gathered(sides, left, right, places.coordinator, pins))
    return plans


def _plan(
    sides: JoinSides,
    method: str,
    left: Alternative,
    right: Alternative,
    where: Distribution,
    moved: float,
) -> JoinPlan:
    cost = left.cost + right.cost
    cost += row_cost(sides.left.rows, where) + row_cost(sides.result.rows, where)
    # Every node hashes all the rows it sees of the right side.
    everywhere = right.distribution.spread is Spread.REPLICATED
    cost += row_cost(sides.right.rows, right.distribution if not everywhere else where) * (
        2.0 * len(where.nodes) if everywhere else 2.0
    )
    return JoinPlan(method, left, right, where, moved, cost)


def _local(
    sides: JoinSides, left: Alternative, right: Alternative, coordinator: NodeId
) -> JoinPlan | None:
    """The join where the rows are, if they meet there."""
    mine, theirs = left.distribution, right.distribution
    copied_left = mine.spread is Spread.REPLICATED
    copied_right = theirs.spread is Spread.REPLICATED
    covers = set(theirs.nodes).issuperset(mine.nodes)
    if copied_left and copied_right:
        common = tuple(n for n in mine.nodes if n in theirs.nodes)
        if common:
            where = Distribution(Spread.REPLICATED, common)
            return _plan(sides, "replicated", left, right, where, 0.0)
        return None
    if copied_right and sides.kind is not JoinKind.FULL and covers:
        return _plan(sides, "replicated", left, right, _kept(sides, mine), 0.0)
    if copied_left and sides.kind is JoinKind.INNER and set(mine.nodes).issuperset(theirs.nodes):
        return _plan(sides, "replicated", left, right, theirs.equated(sides.pairs), 0.0)
    if copied_left or copied_right:
        other = theirs if copied_left else mine
        preferred = other.nodes[0] if other.is_single else coordinator
        first, second = localised(left, preferred), localised(right, preferred)
        if first.distribution.nodes == second.distribution.nodes:
            return _plan(sides, "local", first, second, first.distribution, 0.0)
        return None
    if mine.is_single and mine.nodes == theirs.nodes:
        return _plan(sides, "local", left, right, _kept(sides, mine), 0.0)
    if sides.kind is not JoinKind.NULL_AWARE_ANTI and aligned(mine, theirs, sides.pairs):
        return _plan(sides, "part-wise", left, right, _together(sides, mine, theirs), 0.0)
    return None


def _kept(sides: JoinSides, mine: Distribution) -> Distribution:
    """The left side's places, with what an inner join says of its keys."""
    if sides.kind is JoinKind.FULL:
        return mine.without_keys()
    return mine.equated(sides.pairs) if sides.kind is JoinKind.INNER else mine


def _together(sides: JoinSides, mine: Distribution, theirs: Distribution) -> Distribution:
    """Where the result of a part-wise join lies."""
    if sides.kind is JoinKind.INNER:
        if mine.spread is Spread.HASHED:
            return mine.equated(sides.pairs)
        # Parts that only one side still reads meet nothing.
        known = dict(theirs.places)
        places = tuple(p for p in mine.places if p[0] in known)
        nodes = tuple(sorted({node for _, node in places})) or mine.nodes[:1]
        where = Distribution(mine.spread, nodes, mine.keys, mine.colocation, places)
        return where.equated(sides.pairs)
    if sides.kind is JoinKind.FULL:
        return Distribution(Spread.SCATTERED, tuple(sorted({*mine.nodes, *theirs.nodes})))
    return mine


def _broadcast_right(
    sides: JoinSides, left: Alternative, right: Alternative, coordinator: NodeId
) -> Iterator[JoinPlan]:
    if sides.kind is JoinKind.FULL:
        return
    stays = localised(left, coordinator)
    targets = stays.distribution.nodes
    moved = broadcast(right, sides.right, targets)
    where = _kept(sides, stays.distribution)
    yield _plan(sides, "broadcast right", stays, moved, where, sides.right.bytes * len(targets))


def _broadcast_left(
    sides: JoinSides, left: Alternative, right: Alternative, coordinator: NodeId
) -> Iterator[JoinPlan]:
    if sides.kind is not JoinKind.INNER:
        return
    stays = localised(right, coordinator)
    targets = stays.distribution.nodes
    moved = broadcast(left, sides.left, targets)
    where = stays.distribution.equated(sides.pairs)
    yield _plan(sides, "broadcast left", moved, stays, where, sides.left.bytes * len(targets))


def _repartitions(
    sides: JoinSides,
    lefts: Sequence[Alternative],
    rights: Sequence[Alternative],
    places: Places,
) -> Iterator[JoinPlan]:
    nodes = places.nodes
    if len(nodes) == 1 or not sides.equalities or sides.kind is JoinKind.NULL_AWARE_ANTI:
        return
    left, right = best(lefts), best(rights)
    for one in lefts:
        if one.distribution.spread is Spread.HASHED:
            yield from _onto(sides, one, right, moves_right=True)
    for one in rights:
        if one.distribution.spread is Spread.HASHED:
            yield from _onto(sides, left, one, moves_right=False)
    keys = [
        (hash_key(a, sides.fresh(), b.type), hash_key(b, sides.fresh(), a.type))
        for a, b in sides.equalities
    ]
    usable = [(a, b) for a, b in keys if a is not None and b is not None]
    if not usable:
        return
    first = repartition(left, sides.left, [a for a, _ in usable], nodes)
    second = repartition(right, sides.right, [b for _, b in usable], nodes)
    amount = (sides.left.bytes + sides.right.bytes) * (len(nodes) - 1) / len(nodes)
    where = first.distribution
    if sides.kind is JoinKind.INNER:
        where = where.equated([*((a.name, b.name) for a, b in usable), *sides.pairs])
    elif sides.kind is JoinKind.FULL:
        where = where.without_keys()
    yield _plan(sides, "repartition", first, second, where, amount)


def _onto(
    sides: JoinSides, left: Alternative, right: Alternative, *, moves_right: bool
) -> Iterator[JoinPlan]:
    """Repartitions one side to where an earlier exchange hashed the other."""
    stays, moves = (left, right) if moves_right else (right, left)
    where = stays.distribution
    keys: list[Item] = []
    for names, hashed_as in zip(where.keys, where.types, strict=True):
        for a, b in sides.equalities:
            mine, other = (a, b) if moves_right else (b, a)
            if plain_column(mine) in names and plain_column(other) is not None:
                key = hash_key(other, "", mine.type)
                if key is not None and key.is_plain and hashed_type(key) == hashed_as:
                    keys.append(key)
                    break
    if len(keys) < len(where.keys):
        return
    size = sides.right if moves_right else sides.left
    moved = repartition(moves, size, keys, where.nodes)
    amount = size.bytes * (len(where.nodes) - 1) / len(where.nodes)
    if sides.kind is JoinKind.FULL:
        result = where.without_keys()
    elif sides.kind is JoinKind.INNER:
        result = where.equated(sides.pairs)
    else:
        result = where if moves_right else moved.distribution
    first, second = (stays, moved) if moves_right else (moved, stays)
    yield _plan(sides, "repartition one side", first, second, result, amount)


def _gathered(
    sides: JoinSides,
    left: Alternative,
    right: Alternative,
    target: NodeId,
    pins: frozenset[str],
) -> JoinPlan:
    first = gather(left, sides.left, target)
    second = gather(right, sides.right, target)
    moved = sum(
        size.bytes
        for before, after, size in (
            (left, first, sides.left),
            (right, second, sides.right),
        )
        if after.cost > before.cost
    )
    return _plan(sides, "gather", first, second, single(target, pins), moved)


def considered(plans: Sequence[JoinPlan], chosen: JoinPlan) -> tuple[tuple[str, float], ...]:
    """The other ways and their bytes, each method once, for EXPLAIN."""
    found: dict[str, float] = {}
    for plan in plans:
        if plan.method != chosen.method:
            found[plan.method] = min(plan.moved_bytes, found.get(plan.method, plan.moved_bytes))
    return tuple(sorted(found.items(), key=lambda pair: pair[1]))
