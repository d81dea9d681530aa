"""Tablets of three replicas: leaders that die or are cut off, followers that read, durability."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tablet_cluster import Cluster, StoreNode, hashed, insertion, run_cluster, write_one

from catalog import commands as c
from catalog.model import Durability, Fragment, Table
from cluster.errors import CannotConnectNow, LockNotAvailable
from cluster.raft.group import RaftGroup
from executor.writes_ids import UniqueIds


async def three(cluster: Cluster) -> tuple[list[StoreNode], Table, Fragment]:
    """A table of one part with a replica on each of three nodes, led by the first of them."""
    nodes = await cluster.start(3)
    while len(nodes[0].catalog.group.configuration.voters) < 3:
        await nodes[0].runtime.sleep(0.1)
    table = await nodes[0].table("t", hashed(1))
    fragment = table.parts[0].fragments[0]
    assert len(nodes[0].catalog.current.tablets[fragment.tablet_id].replicas) == 3
    return nodes, table, fragment


def group_at(node: StoreNode, fragment: Fragment) -> RaftGroup:
    group = node.tablets.group(fragment.tablet_id)
    assert group is not None
    return group


def leader_of(nodes: list[StoreNode], fragment: Fragment) -> StoreNode | None:
    return next((node for node in nodes if group_at(node, fragment).is_leader), None)


async def new_leader(nodes: list[StoreNode], fragment: Fragment) -> StoreNode:
    for _ in range(100):
        found = leader_of(nodes, fragment)
        if found is not None:
            return found
        await nodes[0].runtime.sleep(0.05)
    raise AssertionError("nobody leads")


def cut_off(cluster: Cluster, node: StoreNode) -> None:
    cluster.network.partition([node.name], [n.name for n in cluster.nodes if n is not node])


def test_first_replica_leads_at_once(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes = await cluster.start(3)
        began_s = nodes[0].runtime.monotonic()
        table = await nodes[0].table("t", hashed(6))
        assert nodes[0].runtime.monotonic() - began_s < 1.0
        by_id = {node.id: node for node in nodes}
        for part in table.parts:
            fragment = part.fragments[0]
            first = nodes[0].catalog.current.tablets[fragment.tablet_id].replicas[0]
            assert leader_of(nodes, fragment) is by_id[first]

    run_cluster(tmp_path, scenario)


def test_rows_outlive_the_leader_and_the_next_one_takes_writes(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, table, fragment = await three(cluster)
        await write_one(nodes[0], fragment.tablet_id, insertion(table, fragment, {1: "x"}), 5)
        leader = leader_of(nodes, fragment)
        assert leader is not None
        cut_off(cluster, leader)
        rest = [node for node in nodes if node is not leader]
        began_s = rest[0].runtime.monotonic()
        await write_one(rest[0], fragment.tablet_id, insertion(table, fragment, {2: "y"}), 6)
        assert rest[0].runtime.monotonic() - began_s < 5.0
        assert await rest[1].read(table, fragment) == [(1, "x"), (2, "y")]

    run_cluster(tmp_path, scenario)


def test_leader_that_is_cut_off_never_answers_what_is_old(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, table, fragment = await three(cluster)
        await write_one(nodes[0], fragment.tablet_id, insertion(table, fragment, {1: "x"}), 5)
        old = leader_of(nodes, fragment)
        assert old is not None
        cut_off(cluster, old)
        rest = [node for node in nodes if node is not old]
        await new_leader(rest, fragment)
        await write_one(rest[0], fragment.tablet_id, insertion(table, fragment, {2: "y"}), 6)
        fresh, _ = await rest[0].catalog.timestamps.snapshot()
        with pytest.raises(CannotConnectNow):
            await old.read(table, fragment, fresh, deadline_s=3.0)
        cluster.network.heal()
        assert await old.read(table, fragment, fresh) == [(1, "x"), (2, "y")]

    run_cluster(tmp_path, scenario)


def test_followers_answer_fresh_reads_with_what_was_acknowledged(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, table, fragment = await three(cluster)
        for number in range(5):
            change = insertion(table, fragment, {number: "x"})
            await write_one(nodes[number % 3], fragment.tablet_id, change, 50 + number)
            for node in nodes:
                assert len(await node.read(table, fragment)) == number + 1

    run_cluster(tmp_path, scenario)


def test_past_reads_need_no_leader_once_their_time_is_closed(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, table, fragment = await three(cluster)
        await write_one(nodes[0], fragment.tablet_id, insertion(table, fragment, {1: "x"}), 5)
        past, _ = await nodes[0].catalog.timestamps.snapshot()
        await nodes[0].runtime.sleep(5.0)
        await write_one(nodes[0], fragment.tablet_id, insertion(table, fragment, {2: "y"}), 6)
        leader = leader_of(nodes, fragment)
        for node in nodes:
            if node is not leader:
                fresh, _ = await nodes[0].catalog.timestamps.snapshot()
                cut_off(cluster, node)
                assert await node.read(table, fragment, past, deadline_s=1.0) == [(1, "x")]
                with pytest.raises(CannotConnectNow):
                    await node.read(table, fragment, fresh, deadline_s=1.0)
                cluster.network.heal()

    run_cluster(tmp_path, scenario)


def test_nothing_is_closed_above_what_is_pending(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, table, fragment = await three(cluster)
        leader = leader_of(nodes, fragment)
        assert leader is not None
        tablet = leader.storage.tablet(fragment.tablet_id)
        floor, _ = await leader.catalog.timestamps.snapshot()
        await tablet.stage(7, insertion(table, fragment, {1: "x"}))
        await tablet.mark_home(7, floor)
        issued, _ = await leader.catalog.timestamps.snapshot()
        closed = tablet.close_timestamp(issued)
        assert closed is not None
        assert closed.timestamp == floor
        stamp = await leader.catalog.timestamps.commit_timestamp()
        await tablet.decide(7, stamp, [])
        issued, _ = await leader.catalog.timestamps.snapshot()
        closed = tablet.close_timestamp(issued)
        assert closed is not None
        assert closed.timestamp == issued
        assert closed.index >= tablet.applied_index

    run_cluster(tmp_path, scenario)


def test_nothing_is_closed_without_a_lease(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, _, fragment = await three(cluster)
        leader = leader_of(nodes, fragment)
        assert leader is not None
        issued, _ = await leader.catalog.timestamps.snapshot()
        cut_off(cluster, leader)
        await leader.runtime.sleep(1.1)
        assert leader.storage.tablet(fragment.tablet_id).close_timestamp(issued) is None

    run_cluster(tmp_path, scenario)


def test_locks_of_a_dead_coordinator_are_free_before_their_lease_ends(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, _, fragment = await three(cluster)
        leader = leader_of(nodes, fragment)
        coordinator = next(node for node in nodes if node is not leader)
        other = next(node for node in nodes if node not in (leader, coordinator))
        lost = UniqueIds(coordinator.runtime, coordinator.id).next()
        await coordinator.client.lock(fragment.tablet_id, lost, "exclusive")
        with pytest.raises((LockNotAvailable, CannotConnectNow)):  # whichever limit is first
            await other.client.lock(fragment.tablet_id, 8, "exclusive", 1.0)
        await coordinator.stop()
        cluster.nodes.remove(coordinator)
        began_s = other.runtime.monotonic()
        await other.client.lock(fragment.tablet_id, 9, "exclusive", 20.0)
        assert other.runtime.monotonic() - began_s < 7.0

    run_cluster(tmp_path, scenario)


def test_sync_table_stops_writing_without_one_replica_and_goes_on_with_it(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, table, fragment = await three(cluster)
        await nodes[0].define(c.SetTableDurability(table.id, Durability.SYNC))
        leader = leader_of(nodes, fragment)
        assert leader is not None
        for _ in range(100):
            if group_at(leader, fragment).configuration.sync:
                break
            await leader.runtime.sleep(0.05)
        await write_one(leader, fragment.tablet_id, insertion(table, fragment, {1: "x"}), 5)
        absent = next(node for node in nodes if node is not leader)
        cut_off(cluster, absent)
        await leader.runtime.sleep(2.0)
        with pytest.raises(CannotConnectNow, match=f"tablet {fragment.tablet_id}"):
            await write_one(leader, fragment.tablet_id, insertion(table, fragment, {2: "y"}), 6)
        assert await leader.read(table, fragment) == [(1, "x")]
        cluster.network.heal()
        await leader.runtime.sleep(2.0)
        await write_one(leader, fragment.tablet_id, insertion(table, fragment, {3: "z"}), 7)
        assert await leader.read(table, fragment) == [(1, "x"), (3, "z")]

    run_cluster(tmp_path, scenario)


def test_async_table_writes_with_its_voter_alone(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, table, fragment = await three(cluster)
        await nodes[0].define(c.SetTableDurability(table.id, Durability.ASYNC))
        for _ in range(200):
            found = leader_of(nodes, fragment)
            if found is not None and len(group_at(found, fragment).configuration.voters) == 1:
                break
            await nodes[0].runtime.sleep(0.05)
        leader = leader_of(nodes, fragment)
        assert leader is not None
        members = group_at(leader, fragment).configuration
        assert (len(members.voters), len(members.learners)) == (1, 2)
        timestamps = leader.catalog.timestamps
        floor, _ = await timestamps.snapshot()
        tablet = leader.storage.tablet(fragment.tablet_id)
        await tablet.stage(7, insertion(table, fragment, {1: "x"}))
        await tablet.mark_home(7, floor)
        stamp = await timestamps.commit_timestamp()
        cut_off(cluster, leader)
        assert await tablet.decide(7, stamp, []) == stamp

    run_cluster(tmp_path, scenario)


def test_reads_and_writes_go_on_while_leaders_are_moved(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes, table, fragment = await three(cluster)
        chance = random.Random(3)
        for number in range(12):
            leader = await new_leader(nodes, fragment)
            target = chance.choice([node for node in nodes if node is not leader])
            await group_at(leader, fragment).transfer_leadership(target.id, deadline_s=5.0)
            change = insertion(table, fragment, {number: "x"})
            await write_one(nodes[number % 3], fragment.tablet_id, change, 50 + number)
            assert len(await leader.read(table, fragment)) == number + 1

    run_cluster(tmp_path, scenario)
