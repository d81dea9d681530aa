"""What goes wrong, and when: faults in the order in which a seed draws them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from itertools import combinations

from catalog.model import TabletId
from cluster.errors import DqeError
from dqe.simulation.cluster import SimulatedCluster
from dqe.simulation.machine import SimulatedMachine

HAND_OVER_S = 5.0


class Nemesis:
    """Draws faults while it runs; `SimulatedCluster.calm` ends what is left of them."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._world = cluster.around.world
        self._chance = random.Random(f"{cluster.around.seed}/nemesis")
        self._faults: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "crash in a sync": self._crash_in_a_sync,
            "power cut for all": self._power_cut_for_all,
            "partition": self._partition,
            "one-way cut": self._one_way_cut,
            "cut links": self._cut_links,
            "isolate": lambda: self._isolate(self._any()),
            "isolate the oracle": lambda: self._isolate(self._oracle()),
            "pause": lambda: self._pause(self._any()),
            "pause the oracle": lambda: self._pause(self._oracle()),
            "slow disk": self._slow_disk,
            "full disk": self._full_disk,
            "clock step": self._clock_step,
            "move a leader": self._move_a_leader,
            "wipe": self._wipe,
        }

    async def run(self) -> None:
        """Faults, one after the other and one beside the other, until it is cancelled."""
        if not self._world.faults:
            return
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / self._world.fault_every_s))
            self._faults[self._chance.choice(self._world.faults)]()

    # Helpers.

    def _oracle(self) -> SimulatedMachine:
        """The machine that leads the catalog, and so hands out timestamps."""
        leaders = [m for m in self._cluster.machines if m.is_serving and m.leads_catalog]
        return self._chance.choice(leaders) if leaders else self._any()

    def _note(self, text: str) -> None:
        self._cluster.around.trace.note(text)

    def _any(self) -> SimulatedMachine:
        return self._chance.choice(self._cluster.machines)

    def _after(self, low_s: float, high_s: float, action: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(self._chance.uniform(low_s, high_s), action)

    # Crashes.

    def _crash(self) -> None:
        self._any().end("it crashes", power_cut=self._chance.random() < 0.5)

    def _crash_in_a_sync(self) -> None:
        machine = self._any()
        machine.disk.at_next_sync = lambda: machine.end("power cut in a sync", power_cut=True)

    def _power_cut_for_all(self) -> None:
        for machine in self._cluster.machines:
            machine.end("power cut for all", power_cut=True)

    def _wipe(self) -> None:
        """Only where nothing is missing: of what a majority has lost nobody promises anything."""
        cluster = self._cluster
        if cluster.all_serve() and cluster.is_whole():
            self._any().wipe()

    def _move_a_leader(self) -> None:
        machine = self._any()
        life = machine.life
        if life is None or not machine.is_serving:
            return
        ids = map(TabletId, machine.parts.storage.tablets)
        groups = [machine.parts.tablets.group(tablet_id) for tablet_id in ids]
        led = [group for group in groups if group is not None and group.is_leader]
        if not led:
            return
        group = self._chance.choice(led)
        others = [v for v in group.configuration.voters if v != group.node_id]
        if others:
            self._note(f"{machine.name} hands over {group.group_id}")
            handed_over = group.transfer_leadership(
                self._chance.choice(others), deadline_s=HAND_OVER_S
            )
            life.runtime.spawn(_refused(handed_over), "move of a leader")

    # The network.

    def _partition(self) -> None:
        names = self._cluster.names
        self._chance.shuffle(names)
        cut = self._chance.randrange(1, len(names))
        self._note(f"partition {sorted(names[:cut])} from {sorted(names[cut:])}")
        self._cluster.network.partition(names[:cut], names[cut:])
        self._after(0.5, 15.0, self._heal)

    def _one_way_cut(self) -> None:
        source, target = self._chance.sample(self._cluster.names, 2)
        self._note(f"cut {source} -> {target}")
        self._cluster.network.block(source, target)
        self._after(0.5, 15.0, self._heal)

    def _cut_links(self) -> None:
        """Some see each other and others do not: a leader may lose its followers and still
        reach its clients and the oracle."""
        pairs = [p for p in combinations(self._cluster.names, 2) if self._chance.random() < 0.5]
        self._note(f"cut links {pairs}")
        for one, other in pairs:
            self._cluster.network.partition([one], [other])
        self._after(0.5, 15.0, self._heal)

    def _isolate(self, machine: SimulatedMachine) -> None:
        alone = machine.name
        others = [name for name in self._cluster.names if name != alone]
        self._note(f"isolate {alone}")
        if self._chance.random() < 0.5:
            self._cluster.network.partition([alone], others)
        else:
            for other in others:
                self._cluster.network.block(other, alone)
        self._after(0.5, 15.0, self._heal)

    def _heal(self) -> None:
        self._note("heal")
        self._cluster.network.heal()

    # Machines.

    def _pause(self, machine: SimulatedMachine) -> None:
        life = machine.life
        if life is None or life.host.paused:
            return
        self._note(f"pause {machine.name}")
        machine.pause()

        def resume() -> None:
            if machine.life is life and life.host.paused:
                self._note(f"resume {machine.name}")
                machine.resume()

        self._after(0.1, self._chance.choice((1.0, 5.0, 20.0)), resume)

    def _slow_disk(self) -> None:
        machine = self._any()
        self._set_disk(machine, self._chance.choice((0.05, 0.3, 1.0)))
        self._after(1.0, 10.0, lambda: self._set_disk(machine, 0.002))

    def _set_disk(self, machine: SimulatedMachine, blocking_s: float) -> None:
        self._note(f"disk of {machine.name} takes {blocking_s} s")
        machine.blocking_s = blocking_s
        if machine.life is not None:
            machine.life.runtime.blocking_s = blocking_s

    def _full_disk(self) -> None:
        machine = self._any()
        self._note(f"disk of {machine.name} is full")
        machine.disk.capacity_bytes = machine.disk.used_bytes() + self._chance.randrange(4096)
        machine.shelf.full = self._chance.random() < 0.5

        def free() -> None:
            self._note(f"disk of {machine.name} has room")
            machine.disk.capacity_bytes = None
            machine.shelf.full = False

        self._after(1.0, 10.0, free)

    def _clock_step(self) -> None:
        machine = self._any()
        machine.wall_skew_s = self._chance.uniform(-5.0, 5.0)
        self._note(f"wall clock of {machine.name} is off by {machine.wall_skew_s:.3f} s")
        if machine.life is not None:
            machine.life.runtime.wall_skew_s = machine.wall_skew_s


async def _refused(work: Awaitable[None]) -> None:
    with contextlib.suppress(DqeError):
        await work
