"""A cluster of simulated machines on one network.

`SimulatedCluster` starts it, keeps nodes that ended from staying down, and knows how to bring
everything to rest. What goes wrong meanwhile is the nemesis' business (`nemesis`), what is
asked of it the workloads' (`workloads`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from catalog.model import NodeId
from catalog.repair_report import troubles
from cluster.simulation.network import SimulatedNetwork
from dqe.simulation.errors import Violation
from dqe.simulation.machine import SimulatedMachine, Surroundings

START_TIMEOUT_S = 60.0
LOOK_S = 0.05


class SimulatedCluster:
    """Machines `n1` to `nK`; the first one founds the cluster."""

    def __init__(self, around: Surroundings, count: int) -> None:
        self.around = around
        self.machines = [SimulatedMachine(around, f"n{i + 1}") for i in range(count)]
        self._chance = random.Random(f"{around.seed}/cluster")

    @property
    def network(self) -> SimulatedNetwork:
        return self.around.network

    @property
    def names(self) -> list[str]:
        return [machine.name for machine in self.machines]

    def start(self, machine: SimulatedMachine) -> None:
        """Starts a machine's node; a new one joins the others."""
        others = tuple(m.rpc_address for m in self.machines if m is not machine)
        founder = machine is self.machines[0]
        fresh = not machine.lives
        machine.start(() if founder and fresh else others)

    async def found(self) -> None:
        """All nodes up and members of one cluster."""
        self.start(self.machines[0])
        await self.until(lambda: self.machines[0].is_serving, START_TIMEOUT_S, "the founder is up")
        for machine in self.machines[1:]:
            self.start(machine)
        await self.until(self.all_serve, START_TIMEOUT_S, "all nodes are up")
        await self.until(self._catalog_is_everywhere, START_TIMEOUT_S, "all nodes are known")

    def all_serve(self) -> bool:
        return all(machine.is_serving for machine in self.machines)

    def is_whole(self) -> bool:
        """Whether every tablet has all its replicas on nodes that serve, by the newest catalog."""
        serving = [machine.parts for machine in self.machines if machine.is_serving]
        if not serving:
            return False
        live = frozenset(NodeId(parts.storage.identity.node_id) for parts in serving)
        newest = max((parts.catalog.current for parts in serving), key=lambda c: c.version)
        return not list(troubles(newest, live))

    def _catalog_is_everywhere(self) -> bool:
        count = len(self.machines)
        return all(len(m.parts.catalog.current.nodes) == count for m in self.machines)

    async def until(self, done: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Waits for something that has to happen; a node that ended is started again."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s
        while not done():
            self.check()
            if loop.time() > ends_s:
                raise Violation(f"after {timeout_s:g} s it is not so that {what}")
            await asyncio.sleep(LOOK_S)

    def check(self) -> None:
        """Raises the first violation that a machine noticed."""
        for machine in self.machines:
            machine.judge()
        if self.around.violations:
            raise self.around.violations[0]

    async def keep_up(self) -> None:
        """Starts nodes that have ended, after a while, for as long as it runs."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.2, 3.0))
            for machine in self.machines:
                if machine.life is None and self._chance.random() < 0.5:
                    self.start(machine)

    def calm(self) -> None:
        """Ends all faults: what is cut off, paused, slow or down is not."""
        self.around.trace.note("calm")
        network = self.network
        network.faults = self.around.world.calm().network
        network.heal()
        for machine in self.machines:
            machine.blocking_s = 0.002
            machine.disk.capacity_bytes = None
            machine.disk.at_next_sync = None
            machine.shelf.full = False
            machine.resume()
            if machine.life is not None:
                machine.life.runtime.blocking_s = machine.blocking_s
            else:
                self.start(machine)

    def bury(self) -> None:
        """Gives everything back, once the simulation is over."""
        for machine in self.machines:
            machine.bury()
