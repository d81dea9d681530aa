"""A whole simulated cluster for stories about repair: no faults but those the story makes."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from catalog.model import Catalog, NodeId
from catalog.placement import voters_among
from catalog.repair_report import troubles
from cluster.simulation.network import SimulatedNetwork
from dqe.simulation import run
from dqe.simulation.client import Client, Refused
from dqe.simulation.cluster import SimulatedCluster
from dqe.simulation.errors import Violation
from dqe.simulation.machine import SimulatedMachine, Surroundings
from dqe.simulation.trace import Trace
from dqe.simulation.world import World


class Story:
    """A cluster and a client that asks it SQL."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster
        self.client = Client(cluster, "c0")

    async def ask(self, sql: str) -> list[tuple[object, ...]]:
        """The rows, once somebody answers."""
        return (await self.client.until_done(sql)).rows

    async def refusal(self, sql: str) -> str:
        """What the error says with which a statement is refused."""
        serving = next(machine for machine in self.cluster.machines if machine.is_serving)
        try:
            await self.client.ask(sql, serving)
        except (Refused, Violation) as error:
            return str(error)
        raise AssertionError(f"not refused: {sql}")

    @property
    def catalog(self) -> Catalog:
        """The newest copy that a living node has."""
        serving = [m.parts.catalog.current for m in self.cluster.machines if m.is_serving]
        return max(serving, key=lambda catalog: catalog.version)

    @property
    def live(self) -> frozenset[NodeId]:
        serving = (m for m in self.cluster.machines if m.is_serving)
        return frozenset(NodeId(m.parts.storage.identity.node_id) for m in serving)

    def node_id(self, machine: SimulatedMachine) -> NodeId:
        return NodeId(machine.parts.storage.identity.node_id)

    def is_whole(self) -> bool:
        """Whether every tablet has all its replicas, and none is on its way."""
        return not list(troubles(self.catalog, self.live))

    async def until(self, done: Callable[[], bool], timeout_s: float, what: str) -> float:
        """Waits in simulated time; how long that took."""
        begun_s = asyncio.get_running_loop().time()
        await self.cluster.until(done, timeout_s, what)
        return asyncio.get_running_loop().time() - begun_s

    async def join(self) -> SimulatedMachine:
        """One more machine, up and a member."""
        machine = SimulatedMachine(self.cluster.around, f"n{len(self.cluster.machines) + 1}")
        self.cluster.machines.append(machine)
        self.cluster.start(machine)
        await self.until(lambda: machine.is_serving, 60, "the new node is up")
        return machine


def tell(nodes: int, story: Callable[[Story], Awaitable[None]], seed: int = 1) -> None:
    """Runs a story on a cluster of that many nodes."""
    world = World.draw(random.Random(f"{seed}/world")).calm()
    directory = Path(tempfile.mkdtemp(prefix="dqe-story-", dir=run._memory_directory()))
    network = SimulatedNetwork(random.Random(f"{seed}/network"), world.network)
    around = Surroundings(seed, network, run._instances, directory, world, Trace(None))
    cluster = SimulatedCluster(around, nodes)

    async def main() -> None:
        try:
            await cluster.found()
            # With two voters of the catalog either one's death would be the end.
            await cluster.until(lambda: _has_voters(cluster), 60, "the catalog has its voters")
            await story(Story(cluster))
            cluster.check()
        finally:
            asyncio.get_running_loop().set_exception_handler(run._say_nothing)
            sys.unraisablehook = run._say_nothing
            cluster.bury()

    try:
        with world.bounds(), run._collector_at_rest():
            run._run(main)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _has_voters(cluster: SimulatedCluster) -> bool:
    group = cluster.machines[0].parts.catalog.group
    return len(group.configuration.voters) == voters_among(len(cluster.machines))
