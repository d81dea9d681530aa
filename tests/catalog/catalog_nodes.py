"""Catalog services of several nodes on a simulated network, with logs in memory.

`World.run` drives a coroutine to its end in virtual time. A node's log, kept files and
identity survive `crash`; everything else is gone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from catalog.addresses import AddressBook
from catalog.joining import Joined, JoinRequest, join_cluster
from catalog.model import Node, NodeId
from catalog.service import CatalogService
from cluster.raft.host import RaftHost
from cluster.raft.log import MemoryLogStorage
from cluster.rpc import RpcNode
from cluster.simulation.loop import run_simulation
from cluster.simulation.network import NetworkFaults, SimulatedNetwork
from cluster.simulation.runtime import SimulatedRuntime

T = TypeVar("T")


class KeptInMemory:
    """A `SnapshotStore` that outlives its node."""

    def __init__(self) -> None:
        self.kept: tuple[int, bytes] | None = None

    def load(self) -> tuple[int, bytes] | None:
        return self.kept

    async def save(self, index: int, data: bytes) -> None:
        self.kept = (index, data)


@dataclass
class Disk:
    """What a node keeps over a crash."""

    log: MemoryLogStorage = field(default_factory=MemoryLogStorage)
    snapshots: KeptInMemory = field(default_factory=KeptInMemory)
    incarnations: KeptInMemory = field(default_factory=KeptInMemory)
    book: KeptInMemory = field(default_factory=KeptInMemory)
    identity: Joined | None = None


class SimulatedNode:
    """One node, from start to crash."""

    def __init__(self, world: World, name: str, disk: Disk) -> None:
        self.world = world
        self.name = name
        self.disk = disk
        world.starts += 1
        self.runtime = SimulatedRuntime(world.seed, f"{name}/{world.starts}")
        self.rpc = RpcNode(
            self.runtime,
            world.network.transport(name),
            cluster_id=lambda: self.disk.identity.cluster_id if self.disk.identity else "",
            node_id=lambda: self.disk.identity.node_id if self.disk.identity else 0,
        )

    async def start(self, seeds: tuple[str, ...] = (), port: int = 1) -> CatalogService:
        address = await self.rpc.start(f"{self.name}:{port}")
        if self.disk.identity is None:
            self.disk.identity = await self._found_or_join(address, seeds)
        identity = self.disk.identity
        self.book = AddressBook(self.disk.book)
        self.book.learn(identity.known)
        self.host = RaftHost(
            self.runtime, self.rpc, self.disk.log, identity.node_id, self.book.address_of
        )
        await self.host.start()
        me = Node(NodeId(identity.node_id), address, f"{self.name}:5432")
        self.catalog = CatalogService(
            self.runtime,
            self.rpc,
            self.host,
            self.disk.snapshots,
            self.disk.incarnations,
            self.book,
            me,
            cluster_id=identity.cluster_id,
            seeds=seeds,
        )
        await self.catalog.start()
        return self.catalog

    async def _found_or_join(self, address: str, seeds: tuple[str, ...]) -> Joined:
        if not seeds:
            return Joined("cluster-1", 1, {})
        request = JoinRequest(f"join {self.name}", address, f"{self.name}:5432")
        return await join_cluster(self.runtime, self.rpc, seeds, request, 60.0)

    async def crash(self) -> None:
        self.world.network.crash(self.name)
        await self.runtime.stop()
        del self.world.nodes[self.name]


class World:
    """All nodes and the network between them."""

    def __init__(self, seed: int, faults: NetworkFaults | None = None) -> None:
        self.seed = seed
        self.network = SimulatedNetwork(random.Random(seed), faults)
        self.nodes: dict[str, SimulatedNode] = {}
        self.disks: dict[str, Disk] = {}
        self.starts = 0

    async def start(self, name: str, seeds: tuple[str, ...] = (), port: int = 1) -> CatalogService:
        disk = self.disks.setdefault(name, Disk())
        node = self.nodes[name] = SimulatedNode(self, name, disk)
        return await node.start(seeds, port)

    async def three(self) -> list[CatalogService]:
        """A cluster of n1, n2 and n3, all of them voters of the catalog."""
        services = [await self.start("n1")]
        await services[0].ready(20)
        for name in ("n2", "n3"):
            services.append(await self.start(name, ("n1:1",)))
            await services[-1].ready(20)
        await self.until(lambda: len(services[0].group.configuration.voters) == 3)
        return services

    async def until(self, happened: Callable[[], bool], within_s: float = 30.0) -> None:
        """Waits in virtual time for something to become true."""
        runtime = next(iter(self.nodes.values())).runtime
        ends_s = runtime.monotonic() + within_s
        while not happened():
            assert runtime.monotonic() < ends_s, "it did not happen in time"
            await runtime.sleep(0.02)

    def leader(self) -> CatalogService | None:
        leaders = [n.catalog for n in self.nodes.values() if n.catalog.group.is_leader]
        return leaders[0] if len(leaders) == 1 else None

    async def stop(self) -> None:
        for node in list(self.nodes.values()):
            await node.crash()


def run_world(
    seed: int,
    scenario: Callable[[World], Coroutine[Any, Any, T]],
    faults: NetworkFaults | None = None,
) -> T:
    """Runs the scenario in a fresh world; background tasks must not have failed."""

    async def main() -> T:
        world = World(seed, faults)
        try:
            result = await scenario(world)
            for node in world.nodes.values():
                assert not node.runtime.failures, list(node.runtime.failures)
            return result
        finally:
            await world.stop()

    return run_simulation(main())
