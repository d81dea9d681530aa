"""What the repair loop does next: a pure function of the catalog and of who answers.

Everything is a wish written into the catalog; tablets' leaders carry it out and say when it is
done (`repair_members`). So planning needs no memory, and a new catalog leader just goes on. In
this order, each step one command a tablet:

1. tables whose replica count nobody chose are raised to three when there are nodes for that;
2. replicas that must not stay (on a node that is dead, or is being decommissioned, or that the
   placement forbids) are replaced, those that are missing are added, those too many go;
3. nodes that were decommissioned and hold nothing any more are forgotten;
4. when little else moves, replicas and then leaders are evened out (`repair_balance`).

Promises (tests/catalog/test_repair_plan.py checks them on any cluster):
- a new replica goes only where the tablet's placement allows; where no such node is left the
  replica stays missing, or where it is, and `repair_report` says so;
- a replica is given up only for another one, or beyond the count wanted;
- nothing is planned for a group that has lost its majority: it could not carry it out;
- planning and carrying out again and again comes to an end.

Left out: sizes and load; tablets are counted, not weighed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from catalog import repair_balance
from catalog.changes.replicas import tablets_on
from catalog.commands import (
    AnyCommand,
    ForgetNode,
    MoveReplicas,
    SetNodeState,
    SetTableReplicas,
)
from catalog.model import (
    Catalog,
    Node,
    NodeId,
    NodeState,
    PartitionMethod,
    Placement,
    Table,
    Tablet,
)
from catalog.placement import allows, voters_among
from catalog.repair_balance import moved
from catalog.repair_view import DEFAULT_REPLICAS, RepairView

_IN_SERVICE = (NodeState.ACTIVE, NodeState.DRAINING)


@dataclass(frozen=True, slots=True)
class RepairLimits:
    """How much may be under way at once: repair must not crowd out what still works."""

    receiving_a_node: int = 4
    # While more tablets than this move, nothing more is moved for balance alone.
    balancing_at_once: int = 2


def node_changes(
    catalog: Catalog, silent_s: Mapping[NodeId, float], dead_after_s: float
) -> list[AnyCommand]:
    """Nodes silent for too long are dead; dead ones that answer are active again (rule G4).

    One that is being decommissioned stays so: its replicas move away whether it answers or not,
    and it is to be forgotten, not to come back. `silent_s` says how long ago each node was heard
    of; nothing is said of who is not in it.
    """
    changes: list[AnyCommand] = []
    for node in catalog.nodes.values():
        silence_s = silent_s.get(node.id)
        if silence_s is None:
            continue
        if node.state is NodeState.DEAD and silence_s == 0:
            changes.append(SetNodeState(node.id, NodeState.ACTIVE))
        elif node.state in _IN_SERVICE and silence_s > dead_after_s:
            changes.append(SetNodeState(node.id, NodeState.DEAD))
    return changes


def next_changes(
    catalog: Catalog, live: Set[NodeId], limits: RepairLimits | None = None
) -> list[AnyCommand]:
    """The commands of one round; none when all is as it should be, or has to wait."""
    limits = limits or RepairLimits()
    changes: list[AnyCommand] = [*_raised_tables(catalog)]
    if changes:
        return changes
    view = RepairView(catalog, live)
    for tablet in catalog.tablets.values():
        change = _repaired(view, tablet, limits)
        if change is not None:
            changes.append(change)
    changes += _forgotten(catalog)
    if not changes:
        changes += repair_balance.next_moves(view, limits.balancing_at_once)
    return changes


# --- Counts --------------------------------------------------------------------------------


def _raised_tables(catalog: Catalog) -> Iterator[SetTableReplicas]:
    """Tables made when the cluster was small; one of each that share tablets."""
    seen = set()
    for table in catalog.tables.values():
        if table.colocation_id in seen or not table.default_replicas:
            continue
        seen.add(table.colocation_id)
        if table.replicas < DEFAULT_REPLICAS and _has_room(catalog, table, DEFAULT_REPLICAS):
            yield SetTableReplicas(table.id, DEFAULT_REPLICAS, by_default=True)


def _has_room(catalog: Catalog, table: Table, replicas: int) -> bool:
    """Whether each of the table's tablets could have that many replicas."""
    if table.method is PartitionMethod.REPLICATED:
        return False
    active = [node for node in catalog.nodes.values() if node.state is NodeState.ACTIVE]
    placements = {
        catalog.tablets[fragment.tablet_id].placement
        for part in table.parts
        for fragment in part.fragments
    }
    return bool(placements) and all(_permitted(active, p) >= replicas for p in placements)


def _permitted(nodes: Sequence[Node], placement: Placement | None) -> int:
    return sum(placement is None or allows(placement, node) for node in nodes)


# --- Replicas ------------------------------------------------------------------------------


def _repaired(view: RepairView, tablet: Tablet, limits: RepairLimits) -> MoveReplicas | None:
    """The tablet's replicas as they should be, if they should be others and can be."""
    if not view.has_quorum(tablet):
        return None
    good = [n for n in tablet.replicas if view.may_keep(tablet, n)]
    bad = [n for n in tablet.replicas if n not in good]
    spare: list[NodeId] = []
    if view.is_replicated(tablet) or len(good) < view.wanted_replicas(tablet):
        spare = [
            node_id
            for node_id in view.candidates(tablet, good)
            if view.receiving[node_id] < limits.receiving_a_node
        ]
    if view.is_replicated(tablet):
        replicas = _everywhere(tablet, good, bad, spare)
    else:
        replicas = _counted(view, tablet, good, bad, spare)
    after = _in_order(view, tablet, replicas)
    voters = view.voters_of(tablet, len(after))
    if (after, voters) == (tablet.replicas, tablet.voters):
        return None
    return moved(view, tablet, after, voters)


def _counted(
    view: RepairView,
    tablet: Tablet,
    good: list[NodeId],
    bad: list[NodeId],
    spare: list[NodeId],
) -> list[NodeId]:
    wanted = view.wanted_replicas(tablet)
    if len(good) >= wanted:
        return _without_surplus(view, tablet, good, wanted)
    # One after the other: the first replacement decides which zones are taken.
    added: list[NodeId] = []
    while spare and len(good) + len(added) < wanted:
        best = next(n for n in view.candidates(tablet, (*good, *added)) if n in spare)
        spare.remove(best)
        added.append(best)
    # Bad ones that nothing can replace stay: a copy in a wrong place is better than none.
    kept_bad = sorted(bad, key=lambda n: (n not in view.live, n))
    kept = kept_bad[: max(wanted - len(good) - len(added), 0)]
    return [*good, *kept, *added]


def _without_surplus(
    view: RepairView, tablet: Tablet, good: list[NodeId], wanted: int
) -> list[NodeId]:
    """Gives up those that joined last or lie with others of the same place, never the leader."""
    kept = list(good)
    while len(kept) > wanted:
        places = [view.place_of(n) for n in kept]
        costs = [
            (n not in view.live, n in tablet.joining, places.count(place), view.held[n], n)
            for n, place in zip(kept[1:], places[1:], strict=True)
        ]
        kept.remove(max(costs)[-1])
    return kept


def _everywhere(
    tablet: Tablet, good: list[NodeId], bad: list[NodeId], spare: list[NodeId]
) -> list[NodeId]:
    """A replicated table's: on every node; the dead go unless too few voters would be left."""
    replicas = [*good, *spare]
    for node_id in bad:
        if voters_among(len(replicas)) >= tablet.voters and replicas:
            break
        replicas.append(node_id)
    return replicas


def _in_order(view: RepairView, tablet: Tablet, replicas: Sequence[NodeId]) -> tuple[NodeId, ...]:
    """As they were, but those first that can vote and lead: present, not draining, alive."""

    def rank(node_id: NodeId) -> int:
        node = view.node(node_id)
        if node is None or node.state in (NodeState.DEAD, NodeState.DECOMMISSIONING):
            return 3
        if node_id not in tablet.replicas or node_id in tablet.joining:
            return 2
        return 1 if node.state is NodeState.DRAINING else 0

    return tuple(sorted(replicas, key=rank))


# --- Nodes ---------------------------------------------------------------------------------


def _forgotten(catalog: Catalog) -> Iterator[ForgetNode]:
    for node in catalog.nodes.values():
        leaving = node.state is NodeState.DECOMMISSIONING
        if leaving and not tablets_on(catalog.tablets.values(), node):
            yield ForgetNode(node.id)
