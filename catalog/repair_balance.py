"""Evening out replicas, then leaders, over the nodes, a few tablets at a time.

A replica moves from a node to one that holds at least two fewer, so every move makes the sum of
the squares of what nodes hold smaller, and balancing ends. Of the tablets that could move, one
goes whose tables the giver holds most of. A move never breaks a placement, and never puts two
replicas into one place (region and zone) that were in two. Leaders are evened out in the same
way, by naming another replica first: that costs a transfer, and no bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from catalog.commands import MoveReplicas
from catalog.model import Durability, NodeId, NodeState, Tablet
from catalog.repair_view import RepairView


def moved(
    view: RepairView, tablet: Tablet, replicas: tuple[NodeId, ...], voters: int
) -> MoveReplicas:
    """The command for it, counted in the view."""
    joining = tuple(n for n in replicas if n not in tablet.replicas or n in tablet.joining)
    leaving = tuple(n for n in tablet.holders if n not in replicas)
    view.planned(
        replace(tablet, replicas=replicas, voters=voters, joining=joining, leaving=leaving)
    )
    return MoveReplicas(tablet.id, tablet.replicas, replicas, voters)


def next_moves(view: RepairView, at_once: int) -> list[MoveReplicas]:
    """The next moves of replicas, and of leaders once no replica is to be moved."""
    moving = sum(not tablet.is_settled for tablet in view.tablets.values())
    moves: list[MoveReplicas] = []
    while moving + len(moves) < at_once:
        move = _replica_move(view)
        if move is None:
            break
        moves.append(move)
    if not moves and not moving:
        moves += _leader_moves(view)
    return moves


def _balanced_nodes(view: RepairView) -> list[NodeId]:
    nodes = view.catalog.nodes.values()
    return [n.id for n in nodes if n.state is NodeState.ACTIVE and n.id in view.live]


def _replica_move(view: RepairView) -> MoveReplicas | None:
    nodes = _balanced_nodes(view)
    by_load = sorted(nodes, key=lambda n: (view.held[n], n))
    for giver in reversed(by_load):
        for taker in by_load:
            if view.held[giver] - view.held[taker] < 2:
                break
            found = _movable(view, giver, taker)
            if found is not None:
                kept = tuple(n for n in found.replicas if n != giver)
                return moved(view, found, (*kept, taker), found.voters)
    return None


def _movable(view: RepairView, giver: NodeId, taker: NodeId) -> Tablet | None:
    """The tablet that had best go from one to the other."""
    fitting = [t for t in view.tablets.values() if _may_move(view, t, giver, taker)]
    return max(
        fitting,
        key=lambda t: (view.of_family(t, giver) - view.of_family(t, taker), -t.id),
        default=None,
    )


def _may_move(view: RepairView, tablet: Tablet, giver: NodeId, taker: NodeId) -> bool:
    node = view.node(taker)
    if giver not in tablet.replicas or not tablet.is_settled or view.is_replicated(tablet):
        return False
    if node is None or not view.may_receive(tablet, node) or not view.has_quorum(tablet):
        return False
    others = [view.place_of(n) for n in tablet.replicas if n != giver]
    return others.count(view.place_of(taker)) <= others.count(view.place_of(giver))


def _leader_moves(view: RepairView) -> Iterator[MoveReplicas]:
    nodes = _balanced_nodes(view)
    for tablet in list(view.tablets.values()):
        leader = tablet.replicas[0]
        takers = [n for n in _possible_leaders(view, tablet) if n in nodes]
        if leader not in nodes or not takers:
            continue
        taker = min(takers, key=lambda n: (view.led[n], n))
        if view.led[leader] - view.led[taker] >= 2:
            rest = tuple(n for n in tablet.replicas if n != taker)
            yield moved(view, tablet, (taker, *rest), tablet.voters)


def _possible_leaders(view: RepairView, tablet: Tablet) -> Sequence[NodeId]:
    if tablet.durability is Durability.ASYNC or not view.has_quorum(tablet):
        return ()
    return tablet.replicas[1 : tablet.voters]
