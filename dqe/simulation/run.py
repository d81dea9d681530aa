"""One simulation from one seed: a cluster, a workload, faults, and the checks behind them.

    set up -> clients and nemesis for the given minutes -> calm -> progress -> checks

A run is one thread and draws everything from its seed, so its digest is always the same. The
collector of cycles runs at fixed simulated times only: what it gives back may end an async
generator, which is an event.
"""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from cluster.probes import Probe, counting
from cluster.simulation.host import close_task
from cluster.simulation.loop import SimulatedLoop
from cluster.simulation.network import SimulatedNetwork
from dqe.node import set_up_duckdb
from dqe.simulation import checks
from dqe.simulation.client import Client
from dqe.simulation.cluster import SimulatedCluster
from dqe.simulation.errors import Violation
from dqe.simulation.machine import SimulatedMachine, Surroundings
from dqe.simulation.nemesis import Nemesis
from dqe.simulation.stores import Instances
from dqe.simulation.trace import Trace
from dqe.simulation.workloads.bank import Bank
from dqe.simulation.workloads.counters import Counters
from dqe.simulation.workloads.definitions import Definitions
from dqe.simulation.workloads.lists import Lists
from dqe.simulation.workloads.numbers import Numbers
from dqe.simulation.workloads.registers import Registers
from dqe.simulation.workloads.sets import Sets
from dqe.simulation.workloads.transfers import Transfers
from dqe.simulation.workloads.workload import Workload
from dqe.simulation.world import World, name_of

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "registers": Registers,
    "sets": Sets,
    "counters": Counters,
    "bank": Bank,
    "transfers": Transfers,
    "lists": Lists,
    "definitions": Definitions,
    "numbers": Numbers,
}
CLIENTS = 6
COLLECT_EVERY_S = 10.0

_instances = Instances(set_up_duckdb)


@dataclass(slots=True)
class Report:
    """What a run did."""

    seed: int
    workload: str
    digest: str = ""
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    probes: Counter[Probe] = field(default_factory=Counter)
    summary: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Options:
    """What is run. `world` is drawn from the seed where it is None."""

    seed: int
    minutes: float = 1.0
    workload: str = "registers"
    nodes: int = 3
    world: World | None = None
    trace: TextIO | None = None

    @property
    def command(self) -> str:
        """How to run it again."""
        world = None if self.world is None else name_of(self.world)
        return (
            f"dqe simulate --seed {self.seed} --minutes {self.minutes:g}"
            f" --workload {self.workload} --nodes {self.nodes}"
        ) + ("" if world is None else f" --world '{world}'")


def simulate(options: Options) -> Report:
    """Runs one seed; a Violation says how to replay it."""
    world = options.world or World.draw(random.Random(f"{options.seed}/world"))
    directory = Path(tempfile.mkdtemp(prefix="dqe-simulation-", dir=_memory_directory()))
    started_s = time.process_time()
    report = Report(options.seed, options.workload)
    try:
        with world.bounds(), counting() as probes, _collector_at_rest():
            _run(_Simulation(options, world, directory, report, probes).main)
    except Exception as error:
        reason = error if isinstance(error, Violation) else repr(error)
        raise Violation(f"{reason}\nreplay: {options.command}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        report.cpu_s = time.process_time() - started_s
    return report


def _memory_directory() -> Path | None:
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs it, and gives back all that it leaves in the middle of what it did.

    Coroutines that are closed there run into a world that is no more, and complain.
    """
    loop = SimulatedLoop()
    complain = sys.unraisablehook
    try:
        loop.run_until_complete(main())
    finally:
        loop.set_exception_handler(_say_nothing)
        sys.unraisablehook = _say_nothing
        _close_tasks(loop)
        loop.close()
        del main
        gc.collect()
        sys.unraisablehook = complain


def _close_tasks(loop: SimulatedLoop) -> None:
    for task in asyncio.all_tasks(loop):
        close_task(task)


def _say_nothing(*_: object) -> None:
    return


class _Simulation:
    def __init__(
        self,
        options: Options,
        world: World,
        directory: Path,
        report: Report,
        probes: Counter[Probe],
    ) -> None:
        self._options = options
        self._probes = probes
        self._world = world
        self._report = report
        seed = options.seed
        network = SimulatedNetwork(random.Random(f"{seed}/network"), world.calm().network)
        self._trace = Trace(options.trace)
        around = Surroundings(seed, network, _instances, directory, world, self._trace)
        self._cluster = SimulatedCluster(around, options.nodes)
        self._workload = WORKLOADS[options.workload]()

    async def main(self) -> None:
        try:
            background = [asyncio.create_task(_collect())]
            try:
                await self._all(background)
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
                self._report.simulated_s = asyncio.get_running_loop().time()
        finally:
            asyncio.get_running_loop().set_exception_handler(_say_nothing)
            sys.unraisablehook = _say_nothing
            self._cluster.bury()

    async def _all(self, background: list[asyncio.Task[None]]) -> None:
        cluster, workload = self._cluster, self._workload
        await cluster.found()
        background.append(asyncio.create_task(cluster.keep_up()))
        client = Client(cluster, "c0")
        if self._world.dead_after is not None:
            word = f"SELECT dqe.set_cluster_setting('dead_after', '{self._world.dead_after}')"
            await client.until_done(word)
        await workload.set_up(client)
        await self._under_faults()
        cluster.calm()
        await checks.check_progress(cluster, client, workload.tables)
        await workload.check(client)
        self._report.probes = Counter(self._probes)  # what the checks reach does not count
        compared = await checks.check_replicas(cluster)
        checks.check_catalogs(cluster)
        cluster.check()
        self._finish(compared)

    async def _under_faults(self) -> None:
        cluster = self._cluster
        cluster.network.faults = self._world.network
        stop = asyncio.Event()
        clients = [asyncio.create_task(self._client(f"c{i + 1}", stop)) for i in range(CLIENTS)]
        clients += [asyncio.create_task(self._watcher(m, stop)) for m in cluster.machines]
        nemesis = asyncio.create_task(Nemesis(cluster).run())
        watch = asyncio.create_task(self._watch())
        timer = asyncio.create_task(asyncio.sleep(self._options.minutes * 60))
        try:
            await asyncio.wait(
                [timer, nemesis, watch, *clients]
                if self._world.faults
                else [timer, watch, *clients],
                return_when=asyncio.FIRST_COMPLETED,
            )
            if nemesis.done() and self._world.faults:
                nemesis.result()  # it ends with an error only
            nemesis.cancel()
            stop.set()
            cluster.calm()
            for outcome in await asyncio.gather(*clients, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            cluster.check()
        finally:
            for task in (timer, nemesis, watch, *clients):
                task.cancel()
            await asyncio.gather(timer, nemesis, watch, *clients, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self._cluster.check()
            await asyncio.sleep(0.5)

    async def _client(self, name: str, stop: asyncio.Event) -> None:
        client = Client(self._cluster, name)
        while not stop.is_set():
            await client.think()
            await self._workload.step(client)

    async def _watcher(self, machine: SimulatedMachine, stop: asyncio.Event) -> None:
        client = Client(self._cluster, f"w-{machine.name}", machine)
        while not stop.is_set():
            await client.think()
            await self._workload.look(client)

    def _finish(self, compared: int) -> None:
        network, report = self._cluster.network, self._report
        self._trace.note(f"network {network.deliveries} {network.fingerprint:08x}")
        report.digest = self._trace.digest
        report.summary = {
            **self._workload.summary(),
            "replicas compared": compared,
            "deliveries": network.deliveries,
            "lives": sum(len(machine.lives) for machine in self._cluster.machines),
        }


async def _collect() -> None:
    while True:
        await asyncio.sleep(COLLECT_EVERY_S)
        gc.collect()
