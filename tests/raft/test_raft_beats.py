"""Beats: one heartbeat between two nodes for many groups, and never for a deposed leader (G2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from raft_hosts import Hosts, Notes, leader_of, until

from cluster.raft.beats import Beat, BeatReceiver, BeatSender, decode_listed
from cluster.raft.group import RaftGroup
from cluster.raft.log import Configuration
from cluster.raft.messages import TimeoutNow
from cluster.simulation.loop import run_simulation

GROUPS = range(10, 40)


class Pair:
    """A sender and a receiver, and the groups the receiving node follows, with their terms."""

    def __init__(self, follows: dict[int, int]) -> None:
        self.follows = follows
        self.released: list[int] = []
        self.sender = BeatSender(1, 77)
        self.receiver = BeatReceiver(2)

    def exchange(self, now_s: float, *, reply_lost: bool = False) -> tuple[int, ...]:
        beat, body = self.sender.beat(now_s)
        listed = decode_listed(body) if beat.listed else ()
        reply = self.receiver.received(
            beat, listed, now_s, lambda g, term: self.follows.get(g) == term, self.released.append
        )
        refused: list[int] = []
        if not reply_lost:
            self.sender.answered(reply, refused.append)
        return tuple(refused)


def test_a_beat_stands_for_groups_from_the_reply_to_their_list_on() -> None:
    pair = Pair({10: 3, 11: 5})
    first = pair.sender.cover(10, 3)
    assert first.acked_sent_s is None
    pair.exchange(1.0)
    assert first.acked_sent_s == 1.0
    second = pair.sender.cover(11, 5)
    assert second.acked_sent_s is None
    pair.exchange(2.0, reply_lost=True)
    assert (first.acked_sent_s, second.acked_sent_s) == (1.0, None)
    pair.exchange(3.0)
    assert (first.acked_sent_s, second.acked_sent_s) == (3.0, 3.0)


def test_the_list_is_sent_until_it_is_known_and_then_no_more() -> None:
    pair = Pair({10: 3})
    pair.sender.cover(10, 3)
    pair.exchange(1.0, reply_lost=True)
    assert pair.sender.beat(1.2)[0].listed
    pair.exchange(1.4)
    beat, body = pair.sender.beat(1.6)
    assert (beat.listed, body) == (False, b"")


def test_a_group_of_another_term_is_refused() -> None:
    pair = Pair({10: 3, 11: 6})
    covers = [pair.sender.cover(10, 3), pair.sender.cover(11, 5)]
    assert pair.exchange(1.0) == (11,)
    assert covers[0].acked_sent_s == 1.0
    assert pair.sender.groups == (10,)


def test_a_group_that_changed_its_term_is_named_until_the_list_lacks_it() -> None:
    pair = Pair({10: 3, 11: 5})
    pair.sender.cover(10, 3)
    pair.sender.cover(11, 5)
    pair.exchange(1.0)
    pair.receiver.disagree(11)
    assert pair.exchange(1.2, reply_lost=True) == ()
    assert pair.exchange(1.4) == (11,)
    assert pair.exchange(1.6) == ()
    assert pair.receiver.groups == (10,)


def test_a_group_the_leader_takes_out_is_released() -> None:
    pair = Pair({10: 3, 11: 5})
    pair.sender.cover(10, 3)
    pair.sender.cover(11, 5)
    pair.exchange(1.0)
    pair.sender.uncover(10)
    pair.exchange(1.2)
    assert pair.released == [10]


def test_lists_and_replies_of_another_life_do_not_count() -> None:
    pair = Pair({10: 3})
    cover = pair.sender.cover(10, 3)
    pair.exchange(1.0)
    restarted = BeatSender(1, 78)
    beat, _ = restarted.beat(9.0)
    reply = pair.receiver.received(beat, (), 9.0, lambda g, t: True, pair.released.append)
    assert not reply.known
    pair.sender.answered(reply, pair.released.append)
    assert pair.released == []
    assert cover.acked_sent_s == 1.0
    pair.receiver.forget()  # as after its own restart
    assert pair.exchange(2.0) == (10,)


def test_a_late_list_does_not_replace_a_newer_one() -> None:
    pair = Pair({10: 3, 11: 5})
    pair.sender.cover(10, 3)
    late, body = pair.sender.beat(1.0)
    pair.sender.cover(11, 5)
    pair.exchange(1.2)
    reply = pair.receiver.received(
        late, decode_listed(body), 1.3, lambda g, t: True, pair.released.append
    )
    assert not reply.known
    assert pair.receiver.groups == (10, 11)


# --- Whole hosts -----------------------------------------------------------------------------


def run(scenario: Callable[[Hosts], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        hosts = await Hosts(3).start()
        try:
            await scenario(hosts)
        finally:
            await hosts.close()

    run_simulation(main())


async def many(hosts: Hosts) -> dict[int, dict[int, RaftGroup]]:
    """Groups on all three nodes, led by each in turn, once they have come to rest."""
    groups = {}
    for group_id in GROUPS:
        groups[group_id], _ = await hosts.open((1, 2, 3), group_id)
    for opened in groups.values():
        await (await leader_of(opened)).propose(b"x", deadline_s=5)
    await asyncio.sleep(3.0)
    return groups


def messages(hosts: Hosts) -> int:
    return sum(host.outbox.messages for host in hosts.hosts.values())


def test_idle_groups_send_nothing_of_their_own_and_keep_their_leases() -> None:
    async def scenario(hosts: Hosts) -> None:
        groups = await many(hosts)
        leaders = {g: await leader_of(opened) for g, opened in groups.items()}
        before = messages(hosts)
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert all(leader.lease_valid() for leader in leaders.values())
        assert messages(hosts) == before
        assert {g: (await leader_of(o)).node_id for g, o in groups.items()} == {
            g: leader.node_id for g, leader in leaders.items()
        }

    run(scenario)


def test_idle_groups_replace_a_dead_leader_in_time() -> None:
    async def scenario(hosts: Hosts) -> None:
        groups = await many(hosts)
        led = [g for g, opened in groups.items() if (await leader_of(opened)).node_id == 2]
        assert led
        await hosts.stop_node(2)
        died_s = asyncio.get_running_loop().time()
        for group_id in led:
            await leader_of(groups[group_id], but=2)
        assert asyncio.get_running_loop().time() - died_s < 3.0

    run(scenario)


def test_a_leader_that_is_cut_off_steps_down_although_its_groups_were_quiet() -> None:
    async def scenario(hosts: Hosts) -> None:
        groups = await many(hosts)
        led = [g for g, opened in groups.items() if (await leader_of(opened)).node_id == 1]
        hosts.isolate(1)
        await until(lambda: not any(groups[g][1].is_leader for g in led), within_s=2.5)
        for group_id in led:
            await leader_of(groups[group_id], but=1)
        hosts.network.heal()
        await asyncio.sleep(3.0)
        for group_id in led:
            assert len([g for g in groups[group_id].values() if g.is_leader]) == 1

    run(scenario)


def test_a_restarted_follower_is_covered_again() -> None:
    async def scenario(hosts: Hosts) -> None:
        groups = await many(hosts)
        await hosts.stop_node(3)
        await hosts.start_node(3)
        for group_id in GROUPS:
            groups[group_id][3] = await hosts.hosts[3].open_group(
                group_id, Notes(), Configuration.of((1, 2, 3))
            )
        await asyncio.sleep(6.0)
        before = messages(hosts)
        await asyncio.sleep(5.0)
        assert messages(hosts) == before

    run(scenario)


@pytest.mark.parametrize("refuses", [True, False])
def test_beats_do_not_renew_a_deposed_leader(
    refuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that hears nothing of its group, but the replies to its beats, loses its lease;
    unless the rule is left out: then it would answer reads beside the new leader."""
    if not refuses:
        monkeypatch.setattr(BeatReceiver, "disagree", lambda self, group_id: None)

    async def scenario(hosts: Hosts) -> None:
        groups = await many(hosts)
        opened = groups[10]
        old = await leader_of(opened)
        other = next(n for n in (1, 2, 3) if n != old.node_id)
        monkeypatch.setattr(old, "step", lambda message, now_s: None)
        word = TimeoutNow(10, old.term, old.node_id)
        opened[other].step(word, hosts.runtimes[other].monotonic())
        await leader_of(opened, but=old.node_id)
        await asyncio.sleep(1.1)
        assert old.lease_valid() is not refuses

    run(scenario)


def test_a_beat_names_its_sender_only_for_what_it_leads() -> None:
    receiver = BeatReceiver(2)
    beat = Beat(1, 5, 1, 0.5, True)
    reply = receiver.received(beat, ((10, 3),), 1.0, lambda g, t: False, lambda g: None)
    assert reply.refused == (10,)
    assert receiver.groups == ()
