"""The next step of one tablet's Raft group towards the replicas that the catalog names.

The leader of the group asks after every step; what it gets is computed from the configuration
as it then is, so a new leader just goes on. In order, one step at a time:

0. a group that need not be in step any more is not (`sync`): it may lack the voter for more;
1. whoever should hold a replica learns;
2. whoever should vote does, once it has caught up;
3. only then does anybody lose its vote, and a leader that is to lose its own hands over first;
4. whoever should hold nothing is let go;
5. a group that should be in step is.

So the group never has fewer voters on the way than at the start, a replica that leaves has
been replaced before, and with one voter after the other any two majorities share one (thesis
4.1). A vote is taken from a node that answers only while most of the others answer, too.

Left out: changing several voters at once (joint consensus).
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

from catalog.model import Durability, NodeId, Tablet
from cluster.raft.log import Configuration


@dataclass(frozen=True, slots=True)
class Change:
    """Make this the configuration."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class HandOver:
    """Transfer leadership to that voter."""

    node_id: NodeId


Step = Change | HandOver


def next_step(
    current: Configuration,
    tablet: Tablet,
    leader: NodeId,
    live: Set[NodeId],
    is_caught_up: Callable[[NodeId], bool],
) -> Step | None:
    """What the leader does next; None when all is as wanted, or has to wait."""
    in_step = tablet.durability is Durability.SYNC
    if current.sync and not in_step:
        return Change(current.with_sync(False))
    for node_id in tablet.replicas:
        if node_id not in current.members:
            return Change(current.with_learner(node_id))
    voters = wanted_voters(tablet)
    for voter in voters:
        if voter in current.learners and voter in live and is_caught_up(voter):
            return Change(current.with_voter(voter))
    if all(voter in current.voters for voter in voters):
        step = _take_votes(current, tablet, leader, live, is_caught_up)
        if step is not None:
            return step
    for learner in current.learners:
        if learner not in tablet.replicas:
            return Change(current.without(learner))
    return Change(current.with_sync(True)) if in_step and not current.sync else None


def wanted_voters(tablet: Tablet) -> tuple[NodeId, ...]:
    """Those that should vote."""
    return tablet.replicas[: tablet.voters]


def _take_votes(
    current: Configuration,
    tablet: Tablet,
    leader: NodeId,
    live: Set[NodeId],
    is_caught_up: Callable[[NodeId], bool],
) -> Step | None:
    voters = wanted_voters(tablet)
    surplus = [NodeId(node) for node in current.voters if node not in voters]
    # The dead first: they only weaken the group.
    for node_id in sorted(surplus, key=lambda node: (node in live, node)):
        if node_id == leader:
            return _successor(tablet, leader, live, is_caught_up)
        if not may_lose_vote(current, node_id, live):
            continue
        if node_id in tablet.replicas:
            return Change(current.with_learner(node_id))
        return Change(current.without(node_id))
    return None


def may_lose_vote(current: Configuration, node_id: int, live: Set[int]) -> bool:
    """Whether the others go on without that voter; one that is silent is no loss to them."""
    rest = [node for node in current.voters if node != node_id]
    return node_id not in live or 2 * sum(node in live for node in rest) > len(rest)


def _successor(
    tablet: Tablet, leader: NodeId, live: Set[NodeId], is_caught_up: Callable[[NodeId], bool]
) -> HandOver | None:
    for node_id in wanted_voters(tablet):
        if node_id != leader and node_id in live and is_caught_up(node_id):
            return HandOver(node_id)
    return None


def preferred_leader(
    current: Configuration,
    tablet: Tablet,
    leader: NodeId,
    live: Set[NodeId],
    is_caught_up: Callable[[NodeId], bool],
) -> HandOver | None:
    """To whom a leader hands over that the catalog would rather not have lead; None to stay."""
    for node_id in tablet.replicas:
        if node_id == leader:
            return None
        if node_id in live and node_id in current.voters and node_id not in tablet.joining:
            return HandOver(node_id) if is_caught_up(node_id) else None
    return None


def is_reached(current: Configuration, tablet: Tablet) -> bool:
    """Whether the group is as the catalog wishes, and the catalog knows."""
    return (
        tablet.is_settled
        and set(current.voters) == set(wanted_voters(tablet))
        and set(current.members) == set(tablet.replicas)
        and current.sync is (tablet.durability is Durability.SYNC)
    )


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What the group has reached of what the catalog asked."""

    joined: tuple[NodeId, ...]
    left: tuple[NodeId, ...]


def confirmed(current: Configuration, tablet: Tablet) -> Confirmed | None:
    """What the leader can tell the catalog, once the configuration is committed; None: nothing.

    A voter has caught up before it got its vote; a learner counts once it is one.
    """
    voters = wanted_voters(tablet)
    joined = tuple(
        node
        for node in tablet.joining
        if node in (current.voters if node in voters else current.members)
    )
    left = tuple(node for node in tablet.leaving if node not in current.members)
    return Confirmed(joined, left) if joined or left else None
