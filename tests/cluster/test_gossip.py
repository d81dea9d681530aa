"""Gossip among many nodes: who is there, who answers, news to everybody, bounded traffic."""

from __future__ import annotations

import random

import msgspec
import pytest
from gossip_world import GossipWorld, measure
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.gossip.members import MAX_KEY_LENGTH, Status
from cluster.gossip.messages import Delta, Entry, Kind, Known, Packet
from cluster.gossip.protocol import Gossip, Impostor, StatusChanged, Twin
from cluster.gossip.settings import GossipSettings


def cluster_of(count: int, seed: int = 1, loss: float = 0.0) -> GossipWorld:
    world = GossipWorld(seed, loss)
    world.start_all(count)
    world.run_until(world.all_live, 60)
    return world


def test_a_node_with_one_seed_gets_to_know_all() -> None:
    world = cluster_of(20)
    world.join(99, seeds=[7])
    assert world.run_until(world.all_live, 30) < 10


def test_a_dead_node_is_seen_by_all_and_since_when() -> None:
    world = cluster_of(3)
    died_s = world.now_s
    world.crash(3)
    took_s = world.run_until(lambda: world.statuses(3) == {Status.DOWN: 2}, 30)
    assert took_s <= 3.5
    for gossip in world.nodes.values():
        member = gossip.members.get(3)
        assert member is not None
        assert died_s <= member.since_s <= world.now_s


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_held_dead_over_a_bad_network(seed: int) -> None:
    """A tenth of the packets lost: probes fail, helpers and objections make up for it."""
    world = cluster_of(12, seed, loss=0.1)
    world.events.clear()
    world.run(120)
    downs = [e for _, _, e in world.events if isinstance(e, StatusChanged)]
    suspected = [e for e in downs if e.status is Status.SUSPECT]
    assert not [e for e in downs if e.status is Status.DOWN]
    assert suspected, "the network was not bad enough to test anything"
    world.loss = 0.0
    world.run(5)
    assert world.all_live()


def test_a_link_cut_between_two_nodes_harms_neither() -> None:
    world = cluster_of(6)
    world.cut = lambda source, target: {source, target} == {1, 2}
    world.run(60)
    assert all(g.members.get(2).is_live for n, g in world.nodes.items() if n != 2)  # type: ignore[union-attr]


def test_a_node_that_is_cut_off_is_down_and_comes_back_when_healed() -> None:
    world = cluster_of(5)
    world.cut = lambda source, target: (source == 1) != (target == 1)
    world.run(15)
    assert world.statuses(1) == {Status.DOWN: 4}
    assert not any(m.is_live for m in world.nodes[1].members)
    world.cut = lambda source, target: False
    assert world.run_until(world.all_live, 30) < 5


def test_a_node_that_hears_but_is_not_heard_is_down() -> None:
    world = cluster_of(5)
    world.cut = lambda source, target: source == 1
    world.run(15)
    assert world.statuses(1) == {Status.DOWN: 4}


def test_a_restarted_node_counts_anew_even_if_its_clock_went_back() -> None:
    world = cluster_of(4)
    world.nodes[4].set("v", b"old")
    world.run(5)
    world.crash(4)
    world.run(20)
    again = world.join(4, [1])
    again.me.incarnation = 0
    again.set("v", b"new")
    world.run_until(lambda: world.all_live() and world.holders(4, "v", b"new") == 4, 30)


def test_all_nodes_restart_and_some_know_but_a_name() -> None:
    world = GossipWorld(3)
    for node_id in range(1, 9):
        world.join(node_id, known=[1 + node_id % 8])
    assert world.run_until(world.all_live, 60) < 20


def test_a_suspended_node_blames_nobody() -> None:
    """Time counts in ticks: one that slept for a minute begins where it stopped."""
    world = cluster_of(4)
    sleeper = world.nodes.pop(1)
    world.run(60)
    assert world.statuses(1) == {Status.DOWN: 3}
    world.nodes[1] = sleeper
    world._tick(1, sleeper)
    world.events.clear()
    world.run_until(world.all_live, 30)
    changes = [e for _, n, e in world.events if n == 1 and isinstance(e, StatusChanged)]
    assert not [e for e in changes if e.status is Status.DOWN]


def test_news_and_quiet_values_reach_everybody_whole() -> None:
    world = cluster_of(30)
    for turn in range(20):
        for node_id in (3, 17):
            world.nodes[node_id].set("v", b"%d" % turn)
            world.nodes[node_id].set(f"~s{turn % 4}", bytes([turn]) * 700)
        world.run(0.2)
    world.run(20)
    for node_id in (3, 17):
        said = {key: entry.value for key, entry in world.nodes[node_id].me.entries.items()}
        for gossip in world.nodes.values():
            member = gossip.member(node_id)
            assert member is not None
            assert {key: entry.value for key, entry in member.entries.items()} == said


def test_who_answers_at_anothers_address_is_told() -> None:
    world = cluster_of(3)
    # Node 2 is gone, and node 3 answers where it was.
    world.crash(2)
    real = world.nodes[3]
    world.nodes[2] = real
    world.run(1.5)
    assert Impostor(2, 3, "n2") in [event for _, _, event in world.events]
    assert world.nodes[1].members.get(3).address == "n3"  # type: ignore[union-attr]


def test_a_second_process_of_one_identity_is_noticed() -> None:
    world = cluster_of(3)
    one = world.nodes[1]
    copy = Packet(Kind.PING, 1, 5_000, "elsewhere")
    one.receive(copy, world.now_s)
    assert one.take_events() == [Twin("elsewhere", 5_000)]
    assert not one.take_packets()


@pytest.mark.slow
def test_what_a_node_sends_is_bounded_while_the_cluster_grows() -> None:
    small, large = measure(10, 1), measure(60, 1)
    bounds = GossipSettings()
    pings = 2 * (bounds.probes + bounds.revisits) / bounds.tick_s
    assert large["busy, bytes/s"] < pings * 2 * (bounds.news_bytes + bounds.digest_entries * 20)
    assert large["idle, bytes/s"] < 3 * small["idle, bytes/s"]
    assert large["rumour to all, rounds"] < 8
    assert large["largest packet, bytes"] < 3 * bounds.news_bytes + bounds.digest_entries * 20


@pytest.mark.long
def test_five_hundred_nodes() -> None:
    figures = measure(500, 1)
    assert figures["rumour to all, rounds"] <= 10
    assert figures["quiet value to all, rounds"] <= 40
    assert figures["idle, bytes/s"] <= 4_000
    assert figures["busy, bytes/s"] <= 16_000


numbers = st.integers(0, 5) | st.integers(0, 2**64 - 1)
entries = st.builds(
    Entry,
    st.sampled_from(["", "v", "~l"]) | st.text(max_size=2 * MAX_KEY_LENGTH),
    numbers,
    st.binary(max_size=40) | st.just(bytes(100_000)),
)
deltas = st.builds(
    Delta,
    numbers,
    numbers,
    st.sampled_from(["n1", "n2", "n3", ""]),
    numbers,
    numbers,
    st.lists(entries, max_size=4).map(tuple),
    numbers,
    numbers,
)
packets = st.builds(
    Packet,
    st.integers(0, 6),
    numbers,
    numbers,
    st.sampled_from(["n1", "n2", "n9", ""]),
    numbers,
    numbers,
    st.lists(deltas, max_size=5).map(tuple),
    st.lists(st.builds(Known, numbers, numbers, numbers), max_size=5).map(tuple),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(packets, max_size=12))
def test_no_packet_breaks_a_node_or_silences_the_honest(nonsense: list[Packet]) -> None:
    """Whatever is said, the node goes on, and the real node 2 is heard in the end."""
    node = Gossip(1, "n1", 10, random.Random(1))
    other = Gossip(2, "n2", 10, random.Random(2))
    for turn, packet in enumerate(nonsense):
        node.receive(msgspec.msgpack.decode(msgspec.msgpack.encode(packet), type=Packet), turn)
        node.tick(turn)
        for _, sent in node.take_packets():
            assert len(msgspec.msgpack.encode(sent)) < 120_000
    assert all(len(m.value(k)) <= 16_384 for m in node.members for k in m.entries)
    other.members.add(1, "n1", 0)
    for turn in range(60):
        for gossip, peer in ((other, node), (node, other)):
            gossip.tick(100 + turn)
            for address, sent in gossip.take_packets():
                if address == peer.me.address:
                    peer.receive(sent, 100 + turn)
    member = node.members.get(2)
    assert member is not None
    assert member.is_live
    assert member.value("") == other.me.value("")


def test_two_processes_on_copies_of_one_directory_both_hear_of_it() -> None:
    world = cluster_of(4)
    copy = world.join(77, range(1, 5))
    copy._me.node_id = 1
    world.run(20)
    told = {n for _, n, event in world.events if isinstance(event, Twin)}
    assert told & {1, 77}


def test_forgotten_nodes_stay_forgotten_while_others_still_tell_of_them() -> None:
    world = cluster_of(5)
    world.crash(5)
    world.run(10)
    for node_id in (1, 2, 3):
        world.nodes[node_id].members.accepts = lambda n: n != 5
        world.nodes[node_id].forget(5)
    world.run(30)
    knowing = [n for n, gossip in world.nodes.items() if gossip.members.get(5) is not None]
    assert knowing == [4]
    late = world.join(5, [4])
    world.run(10)
    assert world.nodes[1].members.get(5) is None
    assert late.members.get(4) is not None
