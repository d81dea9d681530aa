"""What stands in the way: what repair has not done yet, and what it cannot do, in plain words.

A tablet can have several of these troubles at once; the worst comes first:

    no majority         most of its voters do not answer: it takes no writes until they do, or
                        until an operator gives them up (`dqe recover`)
    misplaced           a replica lies where the placement forbids it, and no permitted node is
                        free to take it
    under-replicated    fewer good replicas than wanted
    moving              replicas are on their way in or out

And why a node cannot be emptied: `refuse_drain`, `refuse_decommission`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace

from catalog.model import (
    CATALOG_TABLET,
    Catalog,
    Node,
    NodeId,
    NodeState,
    Placement,
    Tablet,
    TabletId,
)
from catalog.repair_view import RepairView
from cluster.errors import ObjectNotInPrerequisiteState, UndefinedObject


@dataclass(frozen=True, slots=True)
class Trouble:
    """One tablet's, with `kind` from the module's list; `good` replicas of those `wanted`."""

    tablet_id: TabletId
    kind: str
    wanted: int
    good: int
    detail: str


def troubles(catalog: Catalog, live: Set[NodeId]) -> Iterator[Trouble]:
    """All there are, by tablet."""
    view = RepairView(catalog, live)
    for tablet in catalog.tablets.values():
        yield from _troubles_of(view, tablet)


def lost_catalog(voters: Sequence[NodeId], live: Set[NodeId]) -> Trouble | None:
    """The trouble of the catalog itself, when most of its voters do not answer."""
    good = [n for n in voters if n in live]
    if not voters or 2 * len(good) > len(voters):
        return None
    silent = [n for n in voters if n not in live]
    return Trouble(CATALOG_TABLET, "no majority", len(voters), len(good), _silent(silent))


def _troubles_of(view: RepairView, tablet: Tablet) -> Iterator[Trouble]:
    wanted = view.wanted_replicas(tablet)
    good = [n for n in tablet.replicas if view.may_keep(tablet, n) and n in view.live]
    good = [n for n in good if n not in tablet.joining]

    def trouble(kind: str, detail: str) -> Trouble:
        return Trouble(tablet.id, kind, wanted, len(good), detail)

    if not view.has_quorum(tablet):
        silent = [n for n in tablet.holders if n not in view.live]
        yield trouble("no majority", _silent(silent))
    misplaced = [n for n in tablet.holders if _is_misplaced(view, tablet, n)]
    if misplaced:
        yield trouble("misplaced", f"not allowed on {_nodes(misplaced)}")
    if len(good) < wanted:
        stuck = not tablet.joining and not view.candidates(tablet, tablet.replicas)
        why = "; no active node that answers may take another one" if stuck else ""
        yield trouble("under-replicated", f"{len(good)} of {wanted} replicas are good{why}")
    if not tablet.is_settled:
        ways = ((" to", tablet.joining), (" from", tablet.leaving))
        yield trouble("moving", ",".join(f"{way} {_nodes(n)}" for way, n in ways if n).strip())


def _is_misplaced(view: RepairView, tablet: Tablet, node_id: NodeId) -> bool:
    node = view.node(node_id)
    return node is not None and not view.is_permitted(tablet, node)


def _listed(nodes: Sequence[NodeId]) -> str:
    return ", ".join(map(str, nodes)) or "none"


def _nodes(nodes: Sequence[NodeId]) -> str:
    return f"{'node' if len(nodes) == 1 else 'nodes'} {_listed(nodes)}"


def _silent(nodes: Sequence[NodeId]) -> str:
    return f"{_nodes(nodes)} {'does' if len(nodes) == 1 else 'do'} not answer"


# --- May a node be emptied? ----------------------------------------------------------------


def member(catalog: Catalog, node_id: int) -> Node:
    """The node; 42704 when there is none of that number."""
    node = catalog.nodes.get(NodeId(node_id))
    if node is None:
        raise UndefinedObject(f"node {node_id} does not exist")
    return node


def refuse_drain(catalog: Catalog, live: Set[NodeId], node_id: NodeId) -> None:
    """55000 when something could not be led anywhere else."""
    others = [n for n in catalog.nodes.values() if n.id != node_id]
    if not any(n.state is NodeState.ACTIVE and n.id in live for n in others):
        raise ObjectNotInPrerequisiteState(
            f"node {node_id} cannot be drained: no other active node answers"
        )
    for tablet in catalog.tablets.values():
        voters = tablet.replicas[: tablet.voters]
        if voters[0] == node_id and not any(n in live for n in voters if n != node_id):
            raise ObjectNotInPrerequisiteState(
                f"node {node_id} cannot be drained: {_named(catalog, tablet)} has no other"
                " voting replica that answers",
                detail=f"Tablet {tablet.id} has replicas on nodes {_listed(tablet.replicas)}.",
                hint="Give the table more replicas, or decommission the node.",
            )


def refuse_decommission(catalog: Catalog, live: Set[NodeId], node_id: NodeId) -> None:
    """55000 when some table could not keep its replicas, or not where they must be."""
    leaving = replace(catalog.nodes[node_id], state=NodeState.DECOMMISSIONING)
    after = RepairView(replace(catalog, nodes={**catalog.nodes, node_id: leaving}), live)
    rest = [n for n in catalog.nodes.values() if n.id != node_id and n.state is NodeState.ACTIVE]
    if not any(n.id in live for n in rest):
        raise ObjectNotInPrerequisiteState(
            f"node {node_id} cannot be decommissioned: no other active node answers"
        )
    for tablet in catalog.tablets.values():
        if node_id not in tablet.holders:
            continue
        if not after.has_quorum(tablet):
            raise ObjectNotInPrerequisiteState(
                f"node {node_id} cannot be decommissioned: {_named(catalog, tablet)} has lost"
                " the majority of its replicas",
                detail=f"Tablet {tablet.id} has replicas on nodes {_listed(tablet.holders)}.",
            )
        _refuse_too_few(catalog, after, tablet, node_id)


def _refuse_too_few(catalog: Catalog, after: RepairView, tablet: Tablet, node_id: NodeId) -> None:
    wanted = 1 if after.is_replicated(tablet) else after.wanted_replicas(tablet)
    room = [n for n in after.live if _may_have(after, tablet, n)]
    if len(room) >= wanted:
        return
    where = _in_words(tablet.placement)
    draining = [n for n in sorted(after.live) if after.may_keep(tablet, n) and n not in room]
    others = "1 other node" if len(room) == 1 else f"{len(room)} other nodes"
    but = f"; those draining ({_listed(draining)}) take nothing new" if draining else ""
    raise ObjectNotInPrerequisiteState(
        f"node {node_id} cannot be decommissioned: {_named(catalog, tablet)} could not keep its"
        f" replicas{where}",
        detail=f"It has {wanted} replicas{where}; {others} could hold one{but}.",
        hint=f"Activate node {draining[0]} first, or add a node."
        if draining
        else "Add a node first, or give the table fewer replicas or another placement.",
    )


def _may_have(view: RepairView, tablet: Tablet, node_id: NodeId) -> bool:
    """Whether a replica stays there, or could come there."""
    if node_id in tablet.replicas:
        return view.may_keep(tablet, node_id)
    node = view.node(node_id)
    return node is not None and view.may_receive(tablet, node)


def _named(catalog: Catalog, tablet: Tablet) -> str:
    for table in catalog.tables.values():
        for part in table.parts:
            if any(fragment.tablet_id == tablet.id for fragment in part.fragments):
                return f'table "{table.name}"'
    return f"tablet {tablet.id}"


def _in_words(placement: Placement | None) -> str:
    if placement is None:
        return ""
    words = []
    if placement.region is not None:
        words.append(f'in region "{placement.region}"')
    if placement.zone is not None:
        words.append(f'in zone "{placement.zone}"')
    if placement.nodes:
        words.append(f"on nodes {', '.join(map(str, placement.nodes))}")
    return " " + " and ".join(words) if words else ""


def tables_of(catalog: Catalog) -> dict[TabletId, list[str]]:
    """The names of the tables that each tablet holds a part of."""
    names: dict[TabletId, list[str]] = {}
    for table in catalog.tables.values():
        for part in table.parts:
            for fragment in part.fragments:
                found = names.setdefault(fragment.tablet_id, [])
                if table.name not in found:
                    found.append(table.name)
    return names
