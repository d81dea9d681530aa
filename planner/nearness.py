"""Which nodes are near to another: itself, those of its zone, of its region, then the rest."""

from __future__ import annotations

from catalog.model import Catalog, Node, NodeId


def nearest_nodes(catalog: Catalog, node_id: NodeId) -> tuple[NodeId, ...]:
    """All nodes, the nearest first. Those that are equally near come in turn, so that not all
    nodes of the cluster take the same one."""
    here = catalog.nodes.get(node_id)
    if here is None:
        return tuple(sorted(catalog.nodes))
    turn = catalog.next_node_id

    def distance(node: Node) -> tuple[int, int]:
        return _distance(here, node), (node.id - node_id) % turn

    return tuple(node.id for node in sorted(catalog.nodes.values(), key=distance))


def _distance(one: Node, other: Node) -> int:
    if one.id == other.id:
        return 0
    if one.region != other.region:
        return 3
    return 1 if one.zone == other.zone and one.zone is not None else 2
