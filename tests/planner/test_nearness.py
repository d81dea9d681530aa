"""The order of nodes by nearness."""

from __future__ import annotations

from dataclasses import replace

from catalog.model import Catalog, Node, NodeId
from planner.nearness import nearest_nodes

PLACES = {
    1: ("eu", "a"),
    2: ("eu", "b"),
    3: ("us", "a"),
    4: ("eu", "a"),
    5: ("us", "b"),
    6: (None, None),
}


def _catalog() -> Catalog:
    nodes = {
        NodeId(n): Node(NodeId(n), f"n{n}:1", f"n{n}:2", region, zone)
        for n, (region, zone) in PLACES.items()
    }
    return replace(Catalog(), nodes=nodes, next_node_id=7)


def test_node_zone_region_and_then_the_rest() -> None:
    assert nearest_nodes(_catalog(), NodeId(1)) == (1, 4, 2, 3, 5, 6)
    assert nearest_nodes(_catalog(), NodeId(5)) == (5, 3, 6, 1, 2, 4)


def test_equally_near_nodes_come_in_turn() -> None:
    nodes = {NodeId(n): Node(NodeId(n), f"n{n}:1", f"n{n}:2") for n in range(1, 5)}
    catalog = replace(Catalog(), nodes=nodes, next_node_id=5)
    second = {node: nearest_nodes(catalog, node)[1] for node in nodes}
    assert second == {1: 2, 2: 3, 3: 4, 4: 1}


def test_a_node_that_is_not_known_is_near_to_none() -> None:
    assert nearest_nodes(_catalog(), NodeId(9)) == (1, 2, 3, 4, 5, 6)
