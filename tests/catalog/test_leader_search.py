"""Requests that are out while their tablet's leader goes, or loses its majority."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from catalog.leader_search import DEPOSED_S, LeaderWatch
from catalog.model import NodeId, TabletId
from cluster.errors import AnswerLost
from cluster.simulation.loop import run_simulation
from cluster.simulation.runtime import SimulatedRuntime

HERE, THERE, OTHER = NodeId(1), NodeId(2), NodeId(3)
TABLET = TabletId(7)


class World:
    """What a node's own replica and gossip say."""

    def __init__(self) -> None:
        self.replica_follows: NodeId | None = None
        self.leads: NodeId | None = THERE
        self.down: set[NodeId] = set()
        self.runtime = SimulatedRuntime(1, "n1")
        self.watch = LeaderWatch(
            self.runtime,
            HERE,
            lambda _: self.replica_follows,
            lambda node: node not in self.down,
            lambda _: self.leads,
        )

    async def request(self, to: NodeId, answer_after_s: float = 30.0) -> float:
        """How long it was out before it was given up; its answer's time where it was not."""
        began_s = self.runtime.monotonic()
        try:
            with self.watch.watched(TABLET, to):
                await asyncio.sleep(answer_after_s)
        except AnswerLost:
            return self.runtime.monotonic() - began_s
        return answer_after_s


def play(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await story(World())

    run_simulation(main())


def test_a_leader_that_nobody_knows_to_lead_any_more_is_given_up() -> None:
    async def story(world: World) -> None:
        world.leads = None
        assert DEPOSED_S <= await world.request(THERE) < DEPOSED_S + 1

    play(story)


def test_a_leader_that_is_just_slow_is_waited_for() -> None:
    async def story(world: World) -> None:
        assert await world.request(THERE, 20.0) == 20.0

    play(story)


def test_gossip_that_is_late_with_a_new_leader_does_no_harm() -> None:
    async def story(world: World) -> None:
        world.leads = None
        asked = asyncio.ensure_future(world.request(THERE, 20.0))
        await asyncio.sleep(DEPOSED_S / 2)
        world.leads = THERE
        await asyncio.sleep(DEPOSED_S / 2)
        world.leads = None
        await asyncio.sleep(DEPOSED_S / 2)
        world.leads = THERE
        assert await asked == 20.0

    play(story)


@pytest.mark.parametrize("to", [HERE, THERE])
def test_a_leader_with_a_successor_is_given_up_at_once(to: NodeId) -> None:
    async def story(world: World) -> None:
        world.replica_follows = to
        asked = asyncio.ensure_future(world.request(to))
        await asyncio.sleep(2)
        world.replica_follows = OTHER
        assert 2 <= await asked < 3

    play(story)


def test_a_node_that_is_down_is_given_up_at_once() -> None:
    async def story(world: World) -> None:
        asked = asyncio.ensure_future(world.request(THERE))
        await asyncio.sleep(2)
        world.down.add(THERE)
        assert 2 <= await asked < 3

    play(story)


def test_a_replica_here_that_knows_of_no_leader_is_given_up_whatever_gossip_says() -> None:
    async def story(world: World) -> None:
        assert DEPOSED_S <= await world.request(HERE) < DEPOSED_S + 1

    play(story)


def test_who_is_cancelled_when_the_request_is_given_up_stays_cancelled() -> None:
    async def story(world: World) -> None:
        asked = asyncio.ensure_future(world.request(THERE))
        await asyncio.sleep(2)
        for out in world.watch._out.values():
            out.give_up()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    play(story)


def test_a_request_given_up_leaves_its_task_as_it_was() -> None:
    """It goes on to another leader, and can be cancelled there."""

    async def story(world: World) -> None:
        async def ask_twice() -> None:
            world.down.add(THERE)
            assert await world.request(THERE) < 30.0
            task = asyncio.current_task()
            assert task is not None
            assert not task.cancelling()
            await world.request(OTHER)

        asked = asyncio.ensure_future(ask_twice())
        await asyncio.sleep(2)
        assert not asked.done()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    play(story)
