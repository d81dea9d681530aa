"""Commits are told with what is said next, and applied at followers many at a time; but in time,
and at once to whoever waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from raft_hosts import GROUP, Hosts, Notes, leader_of, until

from cluster.raft.group import RaftGroup
from cluster.raft.log import Configuration, Entry
from cluster.raft.settings import RaftSettings
from cluster.simulation.loop import run_simulation

SETTINGS = RaftSettings()
# The next heartbeat, what gathers, and a look at the timers for each.
TOLD_WITHIN_S = SETTINGS.heartbeat_interval_s * 1.5
APPLIED_WITHIN_S = TOLD_WITHIN_S + SETTINGS.gather_s * 1.5
# A few messages to and fro on the simulated network.
AT_ONCE_S = 0.01

Groups = dict[int, RaftGroup]
Machines = dict[int, Notes]
Story = Callable[[Hosts, Groups, Machines], Coroutine[Any, Any, None]]


def play(story: Story, *, is_prompt: bool = False) -> None:
    """With a group of three, led by node 1 and at rest."""

    async def main() -> None:
        hosts = await Hosts(3).start()
        groups: Groups = {}
        machines: Machines = {}
        for node_id in (1, 2, 3):
            machines[node_id] = Notes()
            groups[node_id] = await hosts.hosts[node_id].open_group(
                GROUP,
                machines[node_id],
                Configuration.of((1, 2, 3)),
                1,
                is_prompt=is_prompt,
            )
        assert (await leader_of(groups)).node_id == 1
        await groups[1].propose(b"first", deadline_s=1)
        await asyncio.sleep(3)
        await story(hosts, groups, machines)
        await hosts.close()
        for runtime in hosts.runtimes.values():
            assert not runtime.failures

    run_simulation(main())


def messages_of(hosts: Hosts) -> int:
    return sum(host.outbox.messages for host in hosts.hosts.values())


def now_s() -> float:
    return asyncio.get_running_loop().time()


def test_a_write_takes_one_message_to_each_follower_and_one_back() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        began_s, before = now_s(), messages_of(hosts)
        for count in range(100):
            await groups[1].propose(b"%d" % count, deadline_s=1)
        took = messages_of(hosts) - before
        beats = 4 * (2 + (now_s() - began_s) // SETTINGS.heartbeat_interval_s)
        assert 4 * 99 < took <= 4 * 100 + beats

    play(story)


def test_entries_say_what_heartbeats_would() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        before = messages_of(hosts)
        for count in range(100):
            await groups[1].propose(b"%d" % count, deadline_s=1)
            await asyncio.sleep(SETTINGS.heartbeat_interval_s / 3)
            assert groups[1].lease_valid()
        assert messages_of(hosts) - before <= 4 * 100 + 4

    play(story)


def test_followers_apply_many_entries_at_a_time() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        before = machines[2].applies
        for count in range(1000):
            await groups[1].propose(b"%d" % count, deadline_s=1)
        await asyncio.sleep(APPLIED_WITHIN_S)
        assert machines[2].notes == machines[3].notes == machines[1].notes
        assert machines[2].applies - before <= 1000 / SETTINGS.gather_entries + 10

    play(story)


class Slow(Notes):
    """Takes its time."""

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        await asyncio.sleep(1)
        return await super().apply(entries)


def test_what_has_gathered_while_entries_were_applied_comes_next() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        await hosts.hosts[3].close_group(GROUP)
        machines[3] = Slow()
        groups[3] = await hosts.hosts[3].open_group(GROUP, machines[3], None)
        await until(lambda: machines[3].notes == [b"first"])
        await groups[1].propose(b"a", deadline_s=1)
        await asyncio.sleep(APPLIED_WITHIN_S)
        await groups[1].propose(b"b", deadline_s=1)
        await asyncio.sleep(2 + APPLIED_WITHIN_S)
        assert machines[3].notes == [b"first", b"a", b"b"]

    play(story)


def test_what_gathers_is_bounded_in_bytes() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        large = bytes(SETTINGS.gather_bytes)
        for count in range(5):
            await groups[1].propose(large, deadline_s=1)
            # The entry before is known to be committed with this one.
            await asyncio.sleep(AT_ONCE_S)
            assert len(machines[2].notes) >= 1 + count

    play(story)


def test_followers_of_a_group_at_rest_hear_of_its_last_write_in_time() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        for count in range(3):
            await groups[1].propose(b"%d" % count, deadline_s=1)
            await asyncio.sleep(TOLD_WITHIN_S)
            assert {group.commit_index for group in groups.values()} == {groups[1].applied_index}
            await asyncio.sleep(APPLIED_WITHIN_S - TOLD_WITHIN_S)
            assert machines[2].notes == machines[3].notes == machines[1].notes
            await asyncio.sleep(0.05 * count)
        before = messages_of(hosts)
        await asyncio.sleep(3)
        assert messages_of(hosts) - before <= 4, "it rests again"

    play(story)


def test_a_follower_that_asks_is_told_at_once() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        for count in range(20):
            await groups[1].propose(b"%d" % count, deadline_s=1)
            asked_s = now_s()
            await groups[2].remote_read_index(deadline_s=1)
            assert now_s() - asked_s < AT_ONCE_S
            assert machines[2].notes[-1] == b"%d" % count

    play(story)


def test_a_follower_whose_answer_is_still_on_its_way_is_told_when_it_has_come() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        hosts.network.partition(["n2"], ["n1"])
        writing = asyncio.ensure_future(groups[1].propose(b"a", deadline_s=5))
        await writing
        asking = asyncio.ensure_future(groups[2].remote_read_index(deadline_s=5))
        await asyncio.sleep(0.1)
        hosts.network.heal()
        await asking
        assert machines[2].notes[-1] == b"a"

    play(story)


def test_followers_of_a_prompt_group_apply_at_once() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        for count in range(20):
            await groups[1].propose(b"%d" % count, deadline_s=1)
            await asyncio.sleep(AT_ONCE_S)
            assert machines[2].notes == machines[3].notes == machines[1].notes

    play(story, is_prompt=True)


def test_changes_of_the_members_are_told_at_once() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        await groups[1].change_membership(Configuration.of((1, 2), (3,)), deadline_s=1)
        await asyncio.sleep(AT_ONCE_S)
        assert all(group.members_committed for group in groups.values())

    play(story)


def test_a_new_leader_has_applied_all_that_was_acknowledged() -> None:
    async def story(hosts: Hosts, groups: Groups, machines: Machines) -> None:
        acknowledged = [b"first"]
        for turn in range(4):
            leader = await leader_of(groups)
            for count in range(30):
                note = b"%d.%d" % (turn, count)
                await leader.propose(note, deadline_s=5)
                acknowledged.append(note)
            applied = [len(machines[g].notes) for g in groups if g != leader.node_id]
            assert max(applied) < len(acknowledged), "they lag, or this shows nothing"
            hosts.isolate(leader.node_id)
            new = await leader_of(groups, but=leader.node_id)
            assert machines[new.node_id].notes == acknowledged
            hosts.network.heal()
            await until(lambda g=leader: not g.leads)  # type: ignore[misc]
        await until(lambda: all(m.notes == acknowledged for m in machines.values()))

    play(story)
