"""Groups in step (rule G5): nothing is applied or answered before every voter holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from raft_hosts import GROUP, Hosts, Notes, leader_of, until

from cluster.errors import CannotConnectNow
from cluster.raft.group import RaftGroup
from cluster.raft.log import Configuration
from cluster.simulation.loop import run_simulation

Scenario = Callable[[Hosts, dict[int, RaftGroup], dict[int, Notes]], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    """With a group of three in step, led by node 1."""

    async def main() -> None:
        hosts = await Hosts(3).start()
        groups: dict[int, RaftGroup] = {}
        machines: dict[int, Notes] = {}
        try:
            for node_id in (1, 2, 3):
                machines[node_id] = Notes()
                groups[node_id] = await hosts.hosts[node_id].open_group(
                    GROUP, machines[node_id], Configuration.of((1, 2, 3), sync=True), 1
                )
            assert (await leader_of(groups)).node_id == 1
            await groups[1].propose(b"a", deadline_s=5)
            await until(lambda: all(machine.notes == [b"a"] for machine in machines.values()))
            await scenario(hosts, groups, machines)
        finally:
            await hosts.close()

    run_simulation(main())


async def propose(group: RaftGroup, data: bytes) -> object:
    return await group.propose(data, deadline_s=20)


def test_a_change_waits_for_the_last_voter() -> None:
    async def scenario(
        hosts: Hosts, groups: dict[int, RaftGroup], machines: dict[int, Notes]
    ) -> None:
        hosts.isolate(3)
        proposed = asyncio.get_running_loop().create_task(propose(groups[1], b"b"))
        await asyncio.sleep(1.0)
        assert not proposed.done()
        assert [machine.notes for machine in machines.values()] == [[b"a"]] * 3
        hosts.network.heal()
        await proposed
        assert machines[1].notes == [b"a", b"b"]
        await until(lambda: all(m.notes == [b"a", b"b"] for m in machines.values()))

    run(scenario)


def test_changes_are_refused_while_a_voter_is_silent_and_reads_are_not() -> None:
    async def scenario(
        hosts: Hosts, groups: dict[int, RaftGroup], machines: dict[int, Notes]
    ) -> None:
        hosts.isolate(3)
        await asyncio.sleep(3.0)
        with pytest.raises(CannotConnectNow, match=r"tablet 7 takes no writes .* node 3"):
            await propose(groups[1], b"b")
        await groups[1].read_barrier(deadline_s=1)
        assert groups[1].lease_valid()
        hosts.network.heal()
        await asyncio.sleep(2.0)
        await propose(groups[1], b"c")
        assert machines[1].notes == [b"a", b"c"]

    run(scenario)


def test_a_new_leader_serves_once_the_silent_voter_is_taken_out() -> None:
    async def scenario(
        hosts: Hosts, groups: dict[int, RaftGroup], machines: dict[int, Notes]
    ) -> None:
        await hosts.stop_node(1)
        await until(lambda: groups[2].leads or groups[3].leads)
        await asyncio.sleep(2.0)
        leader = groups[2] if groups[2].leads else groups[3]
        assert not leader.is_leader
        await leader.change_membership(leader.configuration.without(1), deadline_s=5)
        await until(lambda: leader.is_leader)
        await propose(leader, b"b")
        assert machines[leader.node_id].notes == [b"a", b"b"]

    run(scenario)


def test_a_group_stops_being_in_step_by_majority() -> None:
    async def scenario(
        hosts: Hosts, groups: dict[int, RaftGroup], machines: dict[int, Notes]
    ) -> None:
        hosts.isolate(3)
        await asyncio.sleep(2.0)
        relaxed = groups[1].configuration.with_sync(False)
        await groups[1].change_membership(relaxed, deadline_s=5)
        await propose(groups[1], b"b")
        assert machines[1].notes == [b"a", b"b"]

    run(scenario)
