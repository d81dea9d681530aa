"""Where new tablets go: even spread over the nodes that their placement allows.

A placement is honoured or refused with what there is to choose from; it is never bent. The
choice depends on the catalog and the command alone, so every replica of the catalog makes the
same one. The first replica, preferred as leader, goes to the node with the fewest first ones of
the table being made, then of all tables; the others to places (region and zone) that have none
yet, then where the fewest replicas are. Nodes that the proposer could not reach (`avoided`) come
last: a group forms without them as long as a majority is there. Moving what is placed is the
repair loop's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from catalog.model import Durability, Node, NodeId, NodeState, Placement, Tablet
from cluster.errors import InvalidParameterValue

Place = tuple[str | None, str | None]

# What a table gets that asks for no number of replicas, in a cluster that has room for it.
DEFAULT_REPLICAS = 3


def active_nodes(nodes: Iterable[Node]) -> list[Node]:
    """Those that may get tablets, by id."""
    return sorted((n for n in nodes if n.state is NodeState.ACTIVE), key=lambda n: n.id)


def allowed_nodes(nodes: Iterable[Node], placement: Placement | None) -> list[Node]:
    """The active nodes that a placement allows; 22023 naming what exists when there is none."""
    active = active_nodes(nodes)
    if placement is None:
        return active
    _check_named_nodes(active, placement)
    found = [node for node in active if allows(placement, node)]
    if not found:
        raise InvalidParameterValue(
            f"no active node is {_in_words(placement)}", detail=_what_there_is(active)
        )
    return found


def merged(inner: Placement | None, outer: Placement | None) -> Placement | None:
    """What holds where both are given: the inner one's conditions, else the outer one's."""
    if inner is None or outer is None:
        return inner or outer
    return Placement(
        region=inner.region or outer.region,
        zone=inner.zone or outer.zone,
        nodes=inner.nodes or outer.nodes,
    )


def allows(placement: Placement, node: Node) -> bool:
    """Whether a replica may lie on that node, whatever state it is in."""
    return (
        placement.region in (None, node.region)
        and placement.zone in (None, node.zone)
        and (not placement.nodes or node.id in placement.nodes)
    )


def _check_named_nodes(active: Sequence[Node], placement: Placement) -> None:
    known = {node.id for node in active}
    for node_id in placement.nodes:
        if node_id not in known:
            raise InvalidParameterValue(
                f"node {node_id} is not an active node", detail=_what_there_is(active)
            )


def _in_words(placement: Placement) -> str:
    conditions = []
    if placement.region is not None:
        conditions.append(f'in region "{placement.region}"')
    if placement.zone is not None:
        conditions.append(f'in zone "{placement.zone}"')
    if placement.nodes:
        conditions.append(f"one of {', '.join(map(str, placement.nodes))}")
    return " and ".join(conditions)


def _what_there_is(active: Sequence[Node]) -> str:
    shown = (
        f"{node.id} (region {node.region or 'none'}, zone {node.zone or 'none'})" for node in active
    )
    return f"Active nodes are {', '.join(shown)}."


def default_replicas(nodes: Iterable[Node]) -> int:
    """The replicas of a table that does not say: three as soon as there are three nodes."""
    return DEFAULT_REPLICAS if len(active_nodes(nodes)) >= DEFAULT_REPLICAS else 1


def voters_for(replicas: int, durability: Durability, *, everywhere: bool = False) -> int:
    """How many of a tablet's replicas vote; the others learn (rule G5)."""
    if durability is Durability.ASYNC:
        return 1
    return voters_among(replicas) if everywhere else replicas


def voters_among(replicas: int) -> int:
    """How many of a replicated table's or the catalog's copies vote: 1, 3 or 5."""
    if replicas >= 7:
        return 5
    return 3 if replicas >= 3 else 1


class Placer:
    """Chooses nodes for the tablets of one table, one tablet after the other."""

    def __init__(
        self,
        nodes: Iterable[Node],
        tablets: Iterable[Tablet],
        avoided: Collection[NodeId] = (),
    ) -> None:
        self._nodes = list(nodes)
        self._avoided = avoided
        self._places = {node.id: (node.region, node.zone) for node in self._nodes}
        self._leaders: Counter[NodeId] = Counter()
        self._replicas: Counter[NodeId] = Counter()
        self._own: Counter[NodeId] = Counter()
        for tablet in tablets:
            self._count(tablet.replicas)

    def choose(self, placement: Placement | None, replicas: int) -> tuple[NodeId, ...]:
        """Nodes for one tablet, the preferred leader first; 22023 when there are too few."""
        allowed = [node.id for node in allowed_nodes(self._nodes, placement)]
        if replicas > len(allowed):
            where = f" {_in_words(placement)}" if placement else ""
            raise InvalidParameterValue(
                f"cannot place {replicas} replicas on {len(allowed)} active nodes{where}",
                detail=_what_there_is(active_nodes(self._nodes)),
            )
        chosen = [min(allowed, key=self._as_leader)]
        while len(chosen) < replicas:
            taken = Counter(self._places[node_id] for node_id in chosen)
            free = (node_id for node_id in allowed if node_id not in chosen)
            chosen.append(min(free, key=lambda n: self._as_follower(n, taken)))
        self._own[chosen[0]] += 1
        self._count(chosen)
        return tuple(chosen)

    def _as_leader(self, node_id: NodeId) -> tuple[int, ...]:
        return (
            node_id in self._avoided,
            self._own[node_id],
            self._leaders[node_id],
            self._replicas[node_id],
            node_id,
        )

    def _as_follower(self, node_id: NodeId, taken: Counter[Place]) -> tuple[int, ...]:
        return (
            node_id in self._avoided,
            taken[self._places[node_id]],
            self._replicas[node_id],
            node_id,
        )

    def everywhere(self, placement: Placement | None) -> tuple[NodeId, ...]:
        """All allowed nodes, for a replicated table."""
        return self.choose(placement, len(allowed_nodes(self._nodes, placement)))

    def _count(self, replicas: Sequence[NodeId]) -> None:
        self._leaders[replicas[0]] += 1
        self._replicas.update(replicas)
