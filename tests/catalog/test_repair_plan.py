"""What repair plans: on clusters one by one, and on any cluster (hypothesis)."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_world import Place, World

from catalog.commands import SetNodeState, SetTablePlacement, SetTableReplicas
from catalog.model import NodeId, NodeState, PartitionMethod, Placement
from catalog.placement import allows
from catalog.repair_plan import next_changes, node_changes
from catalog.repair_report import refuse_decommission, troubles
from cluster.errors import InvalidParameterValue, ObjectNotInPrerequisiteState

EU = Place("eu", "a")
US = Place("us", "a")


def held(world: World) -> Counter[NodeId]:
    return Counter(n for tablet in world.catalog.tablets.values() for n in tablet.replicas)


def led(world: World) -> Counter[NodeId]:
    return Counter(tablet.replicas[0] for tablet in world.catalog.tablets.values())


def test_silent_node_dies_and_one_that_answers_lives() -> None:
    world = World([EU] * 3)
    assert node_changes(world.catalog, {NodeId(2): 19.0, NodeId(3): 0.0}, 20.0) == []
    assert node_changes(world.catalog, {NodeId(2): 21.0}, 20.0) == [
        SetNodeState(NodeId(2), NodeState.DEAD)
    ]
    world.kill(NodeId(2))
    assert node_changes(world.catalog, {NodeId(2): 21.0}, 20.0) == []
    assert node_changes(world.catalog, {NodeId(2): 0.0}, 20.0) == [
        SetNodeState(NodeId(2), NodeState.ACTIVE)
    ]


def test_a_node_that_is_to_go_stays_so_while_it_is_silent() -> None:
    world = World([Place("eu", "a")] * 4)
    world.table("t", parts=4, replicas=3)
    world.kill(NodeId(2))
    world.run(SetNodeState(NodeId(2), NodeState.DECOMMISSIONING))
    assert node_changes(world.catalog, {NodeId(2): 100.0}, 20.0) == []
    world.settle()
    assert NodeId(2) not in world.catalog.nodes
    assert all(len(t.replicas) == 3 for t in world.catalog.tablets.values())


def test_decommission_is_refused_where_only_a_draining_node_could_take_over() -> None:
    world = World([Place("eu", "a")] * 4)
    world.table("t", parts=8, replicas=3)
    world.settle()
    world.run(SetNodeState(NodeId(3), NodeState.DRAINING))
    with pytest.raises(ObjectNotInPrerequisiteState) as refused:
        refuse_decommission(world.catalog, world.live, NodeId(4))
    assert refused.value.detail is not None
    assert refused.value.detail.endswith("those draining (3) take nothing new.")
    world.run(SetNodeState(NodeId(4), NodeState.DECOMMISSIONING))
    world.settle()
    left = [t.detail for t in troubles(world.catalog, world.live)]
    assert left
    assert all(t.endswith("no active node that answers may take another one") for t in left)


def test_replicas_of_a_dead_node_are_rebuilt_elsewhere() -> None:
    world = World([EU] * 5)
    world.table("t", parts=10, replicas=3)
    world.kill(NodeId(2))
    world.settle()
    for tablet_id, tablet in world.catalog.tablets.items():
        assert tablet.is_settled
        assert len(tablet.replicas) == 3
        assert NodeId(2) not in tablet.replicas
        assert world.groups[tablet_id].voters == tuple(sorted(tablet.replicas))
    assert max(held(world).values()) - min(held(world).values()) <= 1


def test_dead_replica_stays_named_while_nothing_can_replace_it() -> None:
    world = World([EU] * 3)
    world.table("t", parts=3, replicas=3)
    world.kill(NodeId(2))
    world.settle()
    assert all(NodeId(2) in tablet.replicas for tablet in world.catalog.tablets.values())
    assert all(tablet.replicas[0] != 2 for tablet in world.catalog.tablets.values())
    world.add_node(EU)
    world.settle()
    assert held(world) == {1: 3, 3: 3, 4: 3}
    world.revive(NodeId(2))
    world.settle()
    assert max(held(world).values()) - min(held(world)[n] for n in world.catalog.nodes) <= 1


def test_group_without_a_majority_is_left_alone() -> None:
    world = World([EU] * 3)
    world.table("t", parts=1, replicas=3)
    world.kill(NodeId(2))
    world.kill(NodeId(3))
    world.add_node(EU)
    assert next_changes(world.catalog, world.live) == []


def test_residency_is_kept_even_where_the_count_cannot_be() -> None:
    world = World([EU, EU, EU, US, US])
    world.table("t", parts=4, replicas=3, region="eu")
    world.kill(NodeId(1))
    world.settle()
    for tablet in world.catalog.tablets.values():
        assert set(tablet.replicas) <= {1, 2, 3}


def test_default_tables_grow_with_the_cluster_and_chosen_ones_do_not() -> None:
    world = World([EU])
    world.table("grows", parts=3)
    world.table("stays", parts=5, replicas=1)
    world.add_node(EU)
    assert not any(isinstance(c, SetTableReplicas) for c in next_changes(world.catalog, world.live))
    world.add_node(EU)
    world.settle()
    counts = {}
    for table in world.catalog.tables.values():
        tablets = [world.catalog.tablets[p.fragments[0].tablet_id] for p in table.parts]
        counts[table.name] = {len(tablet.replicas) for tablet in tablets}
    assert counts == {"grows": {3}, "stays": {1}}
    assert max(held(world).values()) - min(held(world).values()) <= 1
    assert max(led(world).values()) - min(led(world).values()) <= 1


def test_lowered_count_gives_up_the_surplus() -> None:
    world = World([EU] * 4)
    world.table("t", parts=4, replicas=3)
    table = world.catalog.find_table("t")
    assert table is not None
    world.run(SetTableReplicas(table.id, 1))
    world.settle()
    assert {len(tablet.replicas) for tablet in world.catalog.tablets.values()} == {1}
    assert max(held(world).values()) == 1


def test_new_node_takes_its_share() -> None:
    world = World([EU] * 3)
    world.table("t", parts=12, replicas=3)
    world.add_node(EU)
    world.settle()
    assert held(world) == {1: 9, 2: 9, 3: 9, 4: 9}
    assert set(led(world).values()) == {3}


def test_draining_node_leads_nothing_and_keeps_its_replicas() -> None:
    world = World([EU] * 4)
    world.table("t", parts=8, replicas=3)
    before = held(world)[NodeId(2)]
    world.run(SetNodeState(NodeId(2), NodeState.DRAINING))
    world.settle()
    assert led(world)[NodeId(2)] == 0
    assert held(world)[NodeId(2)] == before


def test_decommissioned_node_is_emptied_and_forgotten() -> None:
    world = World([EU] * 4)
    world.table("t", parts=8, replicas=3)
    world.table("everywhere", replicated=True)
    world.run(SetNodeState(NodeId(4), NodeState.DECOMMISSIONING))
    world.settle()
    assert NodeId(4) not in world.catalog.nodes
    assert held(world)[NodeId(4)] == 0
    assert world.add_node(EU) == 5


def test_changed_placement_moves_what_lies_elsewhere() -> None:
    world = World([EU, US, EU, US, EU])
    world.table("t", parts=4, replicas=2)
    table = world.catalog.find_table("t")
    assert table is not None
    with pytest.raises(InvalidParameterValue):
        world.run(SetTablePlacement(table.id, Placement(region="asia")))
    world.run(SetTablePlacement(table.id, Placement(region="us")))
    world.settle()
    for tablet in world.catalog.tablets.values():
        assert set(tablet.replicas) == {2, 4}
    with pytest.raises(InvalidParameterValue):
        world.run(SetTableReplicas(table.id, 3))


def test_zones_are_spread() -> None:
    world = World([Place("eu", "a"), Place("eu", "a"), Place("eu", "b"), Place("eu", "c")])
    world.table("t", parts=4, replicas=1)
    table = world.catalog.find_table("t")
    assert table is not None
    world.run(SetTableReplicas(table.id, 3))
    world.settle()
    for tablet in world.catalog.tablets.values():
        zones = {world.catalog.nodes[n].zone for n in tablet.replicas}
        assert zones == {"a", "b", "c"}


# --- Any cluster -----------------------------------------------------------------------------

PLACES = [Place(region, zone) for region in ("eu", "us") for zone in ("a", "b")]
EVENTS = st.sampled_from(["kill", "revive", "join", "drain", "decommission", "count", "round"])


@st.composite
def stories(draw: st.DrawFn) -> tuple[World, list[tuple[str, int]]]:
    world = World(draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=6)))
    for number in range(draw(st.integers(1, 3))):
        active = len(world.catalog.nodes)
        regions = Counter(node.region for node in world.catalog.nodes.values())
        region = draw(st.sampled_from([None, None, *sorted(filter(None, regions))]))
        room = regions[region] if region else active
        replicas = draw(st.one_of(st.none(), st.integers(1, min(3, room))))
        replicated = draw(st.integers(0, 4)) == 0
        parts = draw(st.integers(1, 6))
        if replicas is None and region:
            replicas = 1
        world.table(f"t{number}", parts, replicas, region, replicated=replicated)
    return world, draw(st.lists(st.tuples(EVENTS, st.integers(0, 99)), max_size=12))


def happen(world: World, event: str, choice: int) -> None:
    nodes = list(world.catalog.nodes.values())
    node = nodes[choice % len(nodes)]
    if event == "kill" and node.state is not NodeState.DEAD and len(world.live) > 1:
        world.kill(node.id)
    elif event == "revive" and node.state is NodeState.DEAD:
        world.revive(node.id)
    elif event == "join" and len(nodes) < 9:
        world.add_node(PLACES[choice % len(PLACES)])
    elif event == "drain" and node.state is NodeState.ACTIVE:
        world.run(SetNodeState(node.id, NodeState.DRAINING))
    elif event == "decommission" and node.state is NodeState.ACTIVE and len(nodes) > 1:
        world.run(SetNodeState(node.id, NodeState.DECOMMISSIONING))
    elif event == "count":
        tables = list(world.catalog.tables.values())
        table = tables[choice % len(tables)]
        if table.method is not PartitionMethod.REPLICATED:
            with suppress(InvalidParameterValue):  # there are not so many nodes
                world.run(SetTableReplicas(table.id, 1 + choice % 4))
    world.round()


@settings(max_examples=150, deadline=None)
@given(stories())
def test_any_story_ends_with_all_that_can_be_had(
    story: tuple[World, list[tuple[str, int]]],
) -> None:
    world, events = story
    for event, choice in events:
        happen(world, event, choice)
    world.settle()
    assert_satisfied(world)


def assert_satisfied(world: World) -> None:
    catalog = world.catalog
    usable = [
        n
        for n in catalog.nodes.values()
        if n.state in (NodeState.ACTIVE, NodeState.DRAINING) and n.id in world.live
    ]
    for table in catalog.tables.values():
        for part in table.parts:
            tablet = catalog.tablets[part.fragments[0].tablet_id]
            if world._leader(tablet) is None:
                continue  # its majority is gone: nothing can be done
            permitted = {
                n.id for n in usable if tablet.placement is None or allows(tablet.placement, n)
            }
            free = {n for n in permitted if catalog.nodes[n].state is NodeState.ACTIVE}
            good = permitted & set(tablet.replicas)
            if table.method is PartitionMethod.REPLICATED:
                assert free <= good
            else:
                wanted = max(t.replicas for t in catalog.tables.values() if shares(t, tablet.id))
                assert len(good) == wanted or (len(good) < wanted and free <= good), tablet
            assert set(tablet.replicas) <= set(world.groups[tablet.id].members)


def shares(table: object, tablet_id: int) -> bool:
    parts = table.parts  # type: ignore[attr-defined]
    return any(f.tablet_id == tablet_id for p in parts for f in p.fragments)


@pytest.mark.slow
@settings(max_examples=800, deadline=None)
@given(stories())
def test_many_stories(story: tuple[World, list[tuple[str, int]]]) -> None:
    test_any_story_ends_with_all_that_can_be_had.hypothesis.inner_test(story)  # type: ignore[attr-defined]


@pytest.mark.long
@settings(max_examples=20_000, deadline=None)
@given(stories())
def test_very_many_stories(story: tuple[World, list[tuple[str, int]]]) -> None:
    test_any_story_ends_with_all_that_can_be_had.hypothesis.inner_test(story)  # type: ignore[attr-defined]
