"""The oracle under load while leaders die, are cut off and come back (T1, T2).

Clients on three nodes draw numbers all the while, many at once, over a network that loses, repeats
and reorders. What counts is real time, whoever was asked: a call that begins when another has been
answered gets a higher number.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from catalog_nodes import World, run_world

from catalog.oracle import milliseconds_of
from cluster.errors import CannotConnectNow
from cluster.simulation.network import NetworkFaults

CLIENTS = 6
ROUNDS = 4


@dataclass(frozen=True)
class Drawn:
    began_s: float
    ended_s: float
    number: int
    is_commit: bool


class Load:
    """Clients that draw until they are told to stop."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.drawn: list[Drawn] = []
        self.stopped = False

    async def client(self, name: str, number: int) -> None:
        while not self.stopped:
            node = self.world.nodes.get(name)
            if node is None or node.catalog is None:
                await asyncio.sleep(0.05)
                continue
            timestamps = node.catalog.timestamps
            began_s = asyncio.get_running_loop().time()
            is_commit = number % 2 == 0
            try:
                if is_commit:
                    drawn = await timestamps.commit_timestamp(deadline_s=1.0)
                else:
                    drawn, _ = await timestamps.snapshot(deadline_s=1.0)
            except CannotConnectNow:
                continue
            ended_s = asyncio.get_running_loop().time()
            self.drawn.append(Drawn(began_s, ended_s, drawn, is_commit))
            assert timestamps.newest >= drawn
            # The node's idea of the oracle's time does not run ahead of what comes next.
            known_ms = await timestamps.now_ms()
            after, _ = await self.ask_again(timestamps)
            assert after == 0 or milliseconds_of(after) >= known_ms
            await asyncio.sleep(0.01 + 0.02 * number)

    async def ask_again(self, timestamps: object) -> tuple[int, int]:
        try:
            return await timestamps.snapshot(deadline_s=0.5)  # type: ignore[attr-defined,no-any-return]
        except CannotConnectNow:
            return 0, 0

    def check(self) -> None:
        """In the order of real time: numbers never go back, commits' are their own."""
        commits = [drawn.number for drawn in self.drawn if drawn.is_commit]
        assert len(commits) == len(set(commits))
        ends = sorted(self.drawn, key=lambda drawn: drawn.ended_s)
        highest, at = 0, 0
        for drawn in sorted(self.drawn, key=lambda drawn: drawn.began_s):
            while at < len(ends) and ends[at].ended_s < drawn.began_s:
                highest = max(highest, ends[at].number)
                at += 1
            assert drawn.number > highest, drawn


async def _disturb(world: World, round_number: int) -> None:
    leader = world.leader()
    name = next((n for n, node in world.nodes.items() if node.catalog is leader), None)
    if leader is None or name is None:
        return
    if round_number % 2:
        world.network.partition([name], [n for n in world.nodes if n != name])
        await asyncio.sleep(3.0)
        world.network.heal()
        return
    await world.nodes[name].crash()
    back = await world.start(name)
    await back.ready(30)


@pytest.mark.parametrize("seed", range(11, 14))
def test_numbers_rise_in_real_time_whatever_happens_to_leaders(seed: int) -> None:
    async def scenario(world: World) -> None:
        await world.three()
        load = Load(world)
        names = list(world.nodes)
        clients = [
            asyncio.ensure_future(load.client(names[number % 3], number))
            for number in range(CLIENTS)
        ]
        for round_number in range(ROUNDS):
            await asyncio.sleep(1.0)
            await _disturb(world, round_number)
        await asyncio.sleep(2.0)
        load.stopped = True
        await asyncio.gather(*clients)
        load.check()
        assert len(load.drawn) > 200

    run_world(seed, scenario, NetworkFaults(loss=0.02, duplication=0.02, reordering=0.05))
