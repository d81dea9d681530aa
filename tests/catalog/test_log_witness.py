"""A node that comes back with less than it told the others is found out (rule G3)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from catalog_nodes import KeptInMemory

from catalog.addresses import AddressBook, Announcement
from catalog.catalog_incarnations import CatalogIncarnation
from catalog.log_witness import (
    ASK_METHOD,
    KEEP_S,
    AskRemembered,
    LogPosition,
    LogWitness,
    Remembered,
)
from cluster.errors import DqeError, ObjectNotInPrerequisiteState
from cluster.rpc import RpcNode
from cluster.simulation.loop import run_simulation
from cluster.simulation.network import SimulatedNetwork
from cluster.simulation.runtime import SimulatedRuntime


class Node:
    """RPC and witness of one node; `own` is its log."""

    def __init__(self, world: World, number: int, store: KeptInMemory) -> None:
        self.number = number
        self.own = LogPosition(number * 11, 500)
        self.stopped_by: list[DqeError] = []
        world.starts += 1
        self.runtime = SimulatedRuntime(1, f"n{number}/{world.starts}")
        self.rpc = RpcNode(
            self.runtime,
            world.network.transport(f"n{number}"),
            cluster_id=lambda: "c",
            node_id=lambda: number,
        )
        book = AddressBook(KeptInMemory())
        book.learn({n: Announcement(f"n{n}:1", 1) for n in (1, 2, 3)})
        self.witness = LogWitness(
            self.runtime,
            self.rpc,
            book,
            store,
            number,
            lambda: self.own,
            self.stopped_by.append,
            CatalogIncarnation,
        )

    async def start(self) -> Node:
        await self.rpc.start(f"n{self.number}:1")
        return self


class World:
    def __init__(self) -> None:
        self.network = SimulatedNetwork(random.Random(1))
        self.starts = 0
        self.stores = {number: KeptInMemory() for number in (1, 2, 3)}
        self.nodes: dict[int, Node] = {}

    async def start(self, number: int) -> Node:
        self.nodes[number] = await Node(self, number, self.stores[number]).start()
        return self.nodes[number]

    async def crash(self, number: int) -> None:
        self.network.crash(f"n{number}")
        await self.nodes.pop(number).runtime.stop()


def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        world = World()
        await scenario(world)
        for number in list(world.nodes):
            await world.crash(number)

    run_simulation(main())


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (LogPosition(11, 700), ""),
        (LogPosition(11, 701), ""),
        (LogPosition(11, 699), "node 2 remembers this node's log up to position 700"),
        (LogPosition(12, 9000), "node 2 knows this node by another log"),
    ],
)
def test_older_log_is_refused_at_the_start(own: LogPosition, words: str) -> None:
    async def scenario(world: World) -> None:
        first, second = await world.start(1), await world.start(2)
        second.witness.heard(1, LogPosition(11, 700))
        second.witness.heard(1, LogPosition(11, 700))
        first.own = own
        if not words:
            await first.witness.verify()
            return
        with pytest.raises(ObjectNotInPrerequisiteState, match="older copy") as refused:
            await first.witness.verify()
        assert words in str(refused.value.detail)

    run(scenario)


def test_what_was_heard_survives_the_witness() -> None:
    async def scenario(world: World) -> None:
        second = await world.start(2)
        second.witness.heard(1, LogPosition(11, 700))
        await second.witness.keep()
        assert world.stores[2].kept is None, "not at every word"
        await second.runtime.sleep(KEEP_S)
        await second.witness.keep()
        await world.crash(2)
        await world.start(2)
        first = await world.start(1)
        with pytest.raises(ObjectNotInPrerequisiteState, match="older copy"):
            await first.witness.verify()

    run(scenario)


def test_nobody_reachable_means_nobody_objects() -> None:
    async def scenario(world: World) -> None:
        await (await world.start(1)).witness.verify()

    run(scenario)


def test_node_that_is_found_out_later_stops() -> None:
    async def scenario(world: World) -> None:
        first, second = await world.start(1), await world.start(2)
        second.witness.heard(1, LogPosition(11, 700))
        first.own = LogPosition(11, 400)
        second.witness.heard(1, first.own)
        await second.runtime.sleep(1)
        [error] = first.stopped_by
        assert "older copy" in error.message
        # What was remembered stays: the next witness of the same word says so, too.
        second.witness.heard(1, LogPosition(11, 450))
        with pytest.raises(ObjectNotInPrerequisiteState):
            await first.witness.verify()

    run(scenario)


def test_lies_about_this_node_are_not_believed() -> None:
    """Only what this node's own log contradicts stops it."""

    async def scenario(world: World) -> None:
        first, second = await world.start(1), await world.start(2)
        second.witness.heard(3, LogPosition(33, 700))
        second.witness.heard(3, LogPosition(33, 10))  # node 3 is not there
        second.witness.heard(1, LogPosition(11, 500))
        second.witness.heard(1, LogPosition(11, 499))  # an old word, come late
        await second.runtime.sleep(1)
        assert not first.stopped_by

    run(scenario)


def test_a_witness_that_is_starting_itself_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        listening = RpcNode(
            SimulatedRuntime(1, "early"),
            world.network.transport("n2"),
            cluster_id=lambda: "c",
            node_id=lambda: 2,
        )
        await listening.start("n2:1")
        first = await world.start(1)
        verifying = asyncio.ensure_future(first.witness.verify())
        await first.runtime.sleep(0.5)
        assert not verifying.done()

        async def remember(*_: object) -> Remembered:
            return Remembered(LogPosition(11, 700), CatalogIncarnation())

        listening.handle(ASK_METHOD, AskRemembered, remember)
        with pytest.raises(ObjectNotInPrerequisiteState, match="older copy"):
            await verifying
        await listening.close()

    run(scenario)
