"""Raft groups driven on nodes: what `propose`, reads and changes promise to the floors above."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from raft_hosts import GROUP, Hosts, Notes, PromptNotes, leader_of, until

from cluster.errors import (
    CannotConnectNow,
    DqeError,
    InternalError,
    ObjectNotInPrerequisiteState,
    ProgramLimitExceeded,
    StatementCompletionUnknown,
)
from cluster.raft import retention
from cluster.raft.errors import NotLeader
from cluster.raft.group import MAX_ENTRY_BYTES
from cluster.raft.log import Configuration
from cluster.raft.retention import COMPACT_AT_ENTRIES, Retention
from cluster.simulation.loop import run_simulation

Story = Callable[[Hosts], Coroutine[Any, Any, None]]


def play(story: Story, nodes: int) -> None:
    """Run a story on a fresh set of nodes, which must have had no task that failed."""

    async def main() -> None:
        hosts = await Hosts(nodes).start()
        await story(hosts)
        await hosts.close()
        for runtime in hosts.runtimes.values():
            assert not runtime.failures

    run_simulation(main())


def test_a_single_voter_commits_with_one_append_and_no_message() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1])
        assert await groups[1].propose(b"a", deadline_s=1) == 1
        appends = hosts.hosts[1].writer.appends
        assert await groups[1].propose(b"b", deadline_s=1) == 2
        assert hosts.hosts[1].writer.appends == appends + 1
        assert hosts.hosts[1].outbox.messages == 0
        assert machines[1].notes == [b"a", b"b"]
        assert await groups[1].read_barrier(deadline_s=1) == groups[1].applied_index
        assert groups[1].lease_valid()

    play(story, 1)


def test_three_voters_replicate_and_followers_say_who_leads() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        assert await leader.propose(b"a", deadline_s=1) == 1
        await until(lambda: all(m.notes == [b"a"] for m in machines.values()))
        follower = groups[1 if leader.node_id != 1 else 2]
        with pytest.raises(NotLeader) as caught:
            await follower.propose(b"b", deadline_s=1)
        assert caught.value.leader_id == leader.node_id

    play(story, 3)


def test_each_proposal_is_told_at_its_own_deadline_and_decided_later_all_the_same() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        hosts.network.partition(
            [f"n{leader.node_id}"], [f"n{n}" for n in groups if n != leader.node_id]
        )
        soon = leader.propose_now(b"a", deadline_s=0.3)
        late = leader.propose_now(b"b", deadline_s=30)
        await asyncio.sleep(0.4)
        assert isinstance(soon.exception(), StatementCompletionUnknown)
        assert not late.done()
        hosts.network.heal()
        assert await late == 2
        assert machines[leader.node_id].notes == [b"a", b"b"]

    play(story, 3)


def test_who_waits_for_the_leader_hears_that_the_replica_is_closed() -> None:
    async def story(hosts: Hosts) -> None:
        groups, _ = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        follower = groups[1 if leader.node_id != 1 else 2]
        hosts.network.partition([f"n{follower.node_id}"], [f"n{leader.node_id}"])
        asked = asyncio.ensure_future(follower.remote_read_index(deadline_s=60))
        await asyncio.sleep(0.1)
        await hosts.hosts[follower.node_id].drop_group(GROUP)
        async with asyncio.timeout(5):
            with pytest.raises(CannotConnectNow, match="no longer on node"):
                await asked

    play(story, 3)


def test_a_result_that_is_an_error_is_raised_to_its_proposer_alone() -> None:
    async def story(hosts: Hosts) -> None:
        groups, _ = await hosts.open([1])
        good = groups[1].propose(b"a", deadline_s=1)
        bad = groups[1].propose(b"refuse me", deadline_s=1)
        results = await asyncio.gather(good, bad, return_exceptions=True)
        assert results[0] == 1
        assert isinstance(results[1], DqeError)
        assert results[1].message == "refused"

    play(story, 1)


def test_groups_share_appends_and_frames() -> None:
    async def story(hosts: Hosts) -> None:
        opened = [await hosts.open([1, 2, 3], group_id=3 * i) for i in range(1, 21)]
        leaders = [await leader_of(groups) for groups, _ in opened]
        node = hosts.hosts[leaders[0].node_id]
        assert {leader.node_id for leader in leaders} == {leaders[0].node_id}
        appends, frames = node.writer.appends, node.outbox.frames
        messages = node.outbox.messages
        await asyncio.gather(*(group.propose(b"x", deadline_s=1) for group in leaders))
        assert node.writer.appends - appends <= 3
        assert node.outbox.messages - messages >= 40
        assert node.outbox.frames - frames <= 20

    play(story, 3)


def test_new_groups_spread_their_leaders() -> None:
    async def story(hosts: Hosts) -> None:
        opened = [await hosts.open([1, 2, 3], group_id=i) for i in range(1, 4)]
        leaders = [await leader_of(groups) for groups, _ in opened]
        assert sorted(leader.node_id for leader in leaders) == [1, 2, 3]

    play(story, 3)


def test_a_proposal_that_was_overwritten_did_not_happen() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1, 2, 3])
        old = await leader_of(groups)
        hosts.isolate(old.node_id)
        lost = asyncio.ensure_future(old.propose(b"lost", deadline_s=60))
        new = await leader_of(groups, but=old.node_id)
        assert await new.propose(b"kept", deadline_s=5) == 1
        assert not lost.done()  # while cut off it cannot know
        hosts.network.heal()
        with pytest.raises(NotLeader):
            await lost
        await until(lambda: all(m.notes == [b"kept"] for m in machines.values()))

    play(story, 3)


def test_a_proposal_without_a_majority_is_unknown_at_its_deadline() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        hosts.isolate(leader.node_id)
        with pytest.raises(StatementCompletionUnknown):
            await leader.propose(b"perhaps", deadline_s=0.3)
        hosts.network.heal()  # and it may happen after all
        await until(lambda: all(m.notes == [b"perhaps"] for m in machines.values()))

    play(story, 3)


def test_a_cut_off_leader_loses_its_lease_and_serves_no_read() -> None:
    async def story(hosts: Hosts) -> None:
        groups, _ = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        await leader.propose(b"a", deadline_s=1)
        assert leader.lease_valid()
        messages = hosts.hosts[leader.node_id].outbox.messages
        await leader.read_barrier(deadline_s=1)
        assert hosts.hosts[leader.node_id].outbox.messages == messages, "a lease read is free"
        hosts.isolate(leader.node_id)
        await asyncio.sleep(1.1)
        assert not leader.lease_valid()
        with pytest.raises(CannotConnectNow):
            await leader.read_barrier(deadline_s=0.05)
        await until(lambda: not leader.is_leader)
        with pytest.raises(NotLeader):
            await leader.read_barrier(deadline_s=1)

    play(story, 3)


def test_followers_read_what_was_acknowledged_before() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        for count in range(1, 20):
            await leader.propose(b"n%d" % count, deadline_s=1)
            follower = groups[1 + count % 3]
            await follower.remote_read_index(deadline_s=1)
            assert len(machines[follower.node_id].notes) >= count

    play(story, 3)


def test_a_follower_asks_on_until_there_is_a_leader_again() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        await leader.propose(b"a", deadline_s=1)
        await hosts.stop_node(leader.node_id)
        follower = groups[1 if leader.node_id != 1 else 2]
        await follower.remote_read_index(deadline_s=10)
        assert machines[follower.node_id].notes == [b"a"]
        with pytest.raises(CannotConnectNow):
            await leader.read_barrier(deadline_s=1)

    play(story, 3)


def test_leadership_is_told_and_stops_before_a_transfer() -> None:
    async def story(hosts: Hosts) -> None:
        groups, _ = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        events: list[tuple[int, str]] = []
        for node_id, group in groups.items():
            group.on_leadership(
                lambda term, n=node_id: events.append((n, f"started {term}")),
                lambda n=node_id: events.append((n, "stopped")),
            )
        target = 1 if leader.node_id != 1 else 2
        term = leader.term
        await leader.transfer_leadership(target, deadline_s=2)
        await until(lambda: groups[target].is_leader)
        assert events == [
            (leader.node_id, f"started {term}"),
            (leader.node_id, "stopped"),
            (target, f"started {term + 1}"),
        ]

    play(story, 3)


def test_a_node_that_stops_has_others_lead_its_groups_and_spreads_them() -> None:
    async def story(hosts: Hosts) -> None:
        opened = [await hosts.open([1, 2, 3], group_id) for group_id in range(1, 9)]
        for groups, _ in opened:
            leader = await leader_of(groups)
            if leader.node_id != 1:
                await leader.transfer_leadership(1, deadline_s=2)
                await until(lambda groups=groups: groups[1].is_leader)  # type: ignore[misc]
            await groups[1].propose(b"a", deadline_s=1)
        await asyncio.sleep(1)
        began_s = asyncio.get_running_loop().time()
        await hosts.hosts[1].hand_over(frozenset({1, 2, 3}), deadline_s=1)
        # Nobody waited for a promise to run out.
        assert asyncio.get_running_loop().time() - began_s < 0.2
        led = [(await leader_of(groups)).node_id for groups, _ in opened]
        assert sorted(led) == [2] * 4 + [3] * 4
        # One that does not answer is left out, and what nobody can take over stays.
        await hosts.hosts[2].hand_over(frozenset({2, 3}), deadline_s=1)
        assert {(await leader_of(groups)).node_id for groups, _ in opened} == {3}
        await hosts.hosts[3].hand_over(frozenset({3}), deadline_s=1)
        assert {(await leader_of(groups)).node_id for groups, _ in opened} == {3}

    play(story, 3)


def test_a_transfer_to_a_dead_node_is_given_up() -> None:
    async def story(hosts: Hosts) -> None:
        groups, _ = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        target = 1 if leader.node_id != 1 else 2
        await hosts.stop_node(target)
        await leader.propose(b"a", deadline_s=1)
        term = leader.term
        await leader.transfer_leadership(target, deadline_s=5)
        assert not leader.leads
        follower = await leader_of(groups)
        assert follower.term > term
        assert await follower.propose(b"b", deadline_s=1) == 2

    play(story, 3)


def test_a_restart_replays_what_was_acknowledged() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        for count in range(50):
            await leader.propose(b"%d" % count, deadline_s=1)
        expected = machines[leader.node_id].notes
        for node_id in (1, 2, 3):
            await hosts.stop_node(node_id)
        for node_id in (1, 2, 3):
            await hosts.start_node(node_id)
            assert hosts.hosts[node_id].logged_groups == (GROUP,)
        _, machines = await hosts.open([1, 2, 3])
        await until(lambda: all(m.notes == expected for m in machines.values()))

    play(story, 3)


def test_one_voter_becomes_three_and_the_first_can_go() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1])
        await groups[1].propose(b"a", deadline_s=1)
        for node_id in (2, 3):
            machines[node_id] = Notes()
            groups[node_id] = await hosts.hosts[node_id].open_group(GROUP, machines[node_id], None)
            await groups[1].add_voter(node_id, deadline_s=5)
        assert groups[1].configuration == Configuration.of([1, 2, 3])
        await groups[1].propose(b"b", deadline_s=1)
        await groups[1].change_membership(Configuration.of([2, 3]), deadline_s=5)
        leader = await leader_of(groups, but=1)
        await leader.propose(b"c", deadline_s=5)
        await hosts.hosts[1].drop_group(GROUP)
        assert GROUP not in hosts.logs[1].load()
        await until(lambda: machines[2].notes == machines[3].notes == [b"a", b"b", b"c"])

    play(story, 3)


def test_a_second_change_waits_for_the_first() -> None:
    async def story(hosts: Hosts) -> None:
        groups, _ = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        with pytest.raises(ObjectNotInPrerequisiteState, match="one voter"):
            await leader.change_membership(Configuration.of([leader.node_id]), deadline_s=1)
        with pytest.raises(ObjectNotInPrerequisiteState, match="caught up"):
            await leader.change_membership(Configuration.of([1, 2, 3, 4]), deadline_s=1)

    play(story, 3)


def test_a_learner_far_behind_takes_a_snapshot() -> None:
    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1], durable=True)
        for count in range(COMPACT_AT_ENTRIES + 50):
            await groups[1].propose(b"%d" % count, deadline_s=1)
        assert hosts.logs[1].load()[GROUP].snapshot.index >= COMPACT_AT_ENTRIES
        machines[2] = Notes()
        groups[2] = await hosts.hosts[2].open_group(GROUP, machines[2], None)
        await groups[1].change_membership(Configuration.of([1], [2]), deadline_s=1)
        await until(lambda: machines[2].notes == machines[1].notes)
        assert machines[2].applies < COMPACT_AT_ENTRIES

    play(story, 2)


def test_a_silent_follower_finds_its_entries_until_it_has_been_silent_for_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "RETENTION", Retention(silent_s=30.0))

    async def story(hosts: Hosts) -> None:
        groups, machines = await hosts.open([1, 2, 3], durable=True)
        leader = await leader_of(groups)
        gone = next(n for n in groups if n != leader.node_id)
        others = [f"n{n}" for n in groups if n != gone]
        hosts.network.partition([f"n{gone}"], others)
        for count in range(COMPACT_AT_ENTRIES + 50):
            await leader.propose(b"%d" % count, deadline_s=1)
        leader.compact_log()
        assert hosts.logs[leader.node_id].load()[GROUP].snapshot.index < 10
        await asyncio.sleep(31)
        leader.compact_log()
        assert hosts.logs[leader.node_id].load()[GROUP].snapshot.index >= COMPACT_AT_ENTRIES
        hosts.network.heal()
        await until(lambda: machines[gone].notes == machines[leader.node_id].notes)

    play(story, 3)


def test_too_large_an_entry_is_refused() -> None:
    async def story(hosts: Hosts) -> None:
        groups, _ = await hosts.open([1])
        with pytest.raises(ProgramLimitExceeded):
            await groups[1].propose(b"x" * (MAX_ENTRY_BYTES + 1), deadline_s=1)

    play(story, 1)


def test_a_failed_log_ends_everything_and_confirms_nothing() -> None:
    async def main() -> None:
        hosts = await Hosts(1).start()
        groups, machines = await hosts.open([1])
        await groups[1].propose(b"a", deadline_s=1)
        hosts.logs[1].keep_prefix(0)
        with pytest.raises(StatementCompletionUnknown):
            await groups[1].propose(b"b", deadline_s=1)
        assert isinstance(hosts.fatal[1], OSError)
        with pytest.raises(DqeError, match="log has failed"):
            await groups[1].propose(b"c", deadline_s=1)
        assert machines[1].notes == [b"a"]
        await hosts.close()

    run_simulation(main())


def test_what_has_to_wait_is_applied_in_its_place_all_the_same() -> None:
    async def main() -> None:
        hosts = await Hosts(3).start()
        groups, machines = await hosts.open([1, 2, 3], notes=PromptNotes)
        leader = await leader_of(groups)
        commands = [b"a", b"wait", b"b", b"c", b"wait more", b"d"]
        proposed = [asyncio.ensure_future(leader.propose(c, deadline_s=1)) for c in commands[:3]]
        await asyncio.gather(*proposed)
        for command in commands[3:]:
            await leader.propose(command, deadline_s=1)
        await until(lambda: all(m.notes == commands for m in machines.values()))
        machine = machines[leader.node_id]
        assert isinstance(machine, PromptNotes)
        assert machine.waits == 2
        await hosts.close()

    run_simulation(main())


@pytest.mark.parametrize("notes", [Notes, PromptNotes])
def test_a_machine_that_fails_stops_its_replica_only(notes: type[Notes]) -> None:
    async def main() -> None:
        hosts = await Hosts(1).start()
        broken, _ = await hosts.open([1], group_id=1, notes=notes)
        whole, _ = await hosts.open([1], group_id=2, notes=notes)
        with pytest.raises(StatementCompletionUnknown):
            await broken[1].propose(b"break me", deadline_s=1)
        with pytest.raises(InternalError):
            await broken[1].propose(b"a", deadline_s=1)
        assert await whole[1].propose(b"a", deadline_s=1) == 1
        await hosts.close()

    run_simulation(main())
