"""A simulated machine: hardware that outlives crashes, and the node that lives on it.

    SimulatedMachine   name, disk, data directory, stores; starts lives and ends them
    Life               one process: host, runtime, `dqe.node.Node`, and the clients in it

A life is a `dqe.machine.Machine` to its node, so the node's code runs as it is. Clients do not
speak PostgreSQL's protocol here: a statement is carried to a session of the node, and its
answer back, with a little delay each way.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cluster.errors import DataCorrupted, DqeError, IoError
from cluster.raft.settings import RaftSettings
from cluster.simulation.disk import SimulatedDisk
from cluster.simulation.host import SimulatedHost
from cluster.simulation.loop import SimulatedLoop
from cluster.simulation.network import SimulatedNetwork
from cluster.simulation.runtime import SimulatedRuntime
from cluster.transport import Transport
from dqe.configuration import NodeConfiguration
from dqe.node import Node, Parts
from dqe.simulation.errors import Violation
from dqe.simulation.stages import InlineStages
from dqe.simulation.stores import Instances, SimulatedDuckDb, StoreShelf
from dqe.simulation.trace import Trace
from dqe.simulation.world import World
from dqe.wire.backend import Session
from dqe.wire.server import SessionFactory
from executor.stage_threads import StageThreads
from storage.duckdb_node import DuckDbLimits, Setup
from storage.node import NodeStorage

T = TypeVar("T")

RPC_PORT = 7433
PG_PORT = 5433


class ConnectionLost(Exception):
    """The node a client was connected to is gone; what it was asked may have happened."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A statement's command tag and rows."""

    tag: str
    rows: list[tuple[Any, ...]]


@dataclass(slots=True)
class Surroundings:
    """What the machines of a simulation share."""

    seed: int
    network: SimulatedNetwork
    instances: Instances
    directory: Path
    world: World
    trace: Trace
    violations: list[Violation] = field(default_factory=list)


class ClientPort:
    """A node's door for clients."""

    def __init__(self, open_session: SessionFactory) -> None:
        self.open_session = open_session
        self.is_open = False

    async def bind(self, host: str, port: int) -> tuple[str, int]:
        return host, port

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


@dataclass(slots=True)
class _Waiting:
    """Clients that wait for this life's answers, by number."""

    count: int = 0
    futures: dict[int, asyncio.Future[Answer]] = field(default_factory=dict)


class Life:
    """One process on a machine, from its start to its end."""

    raft_settings = RaftSettings()

    def __init__(self, machine: SimulatedMachine, number: int, join: tuple[str, ...]) -> None:
        around, name = machine.around, machine.name
        self._machine = machine
        self.host = SimulatedHost(name)
        chance = random.Random(f"{around.seed}/{name}/clock/{number}")
        drift = around.world.clock_drift
        self.runtime = SimulatedRuntime(
            around.seed,
            f"{name}/{number}",
            wall_skew_s=machine.wall_skew_s,
            clock_start_s=chance.uniform(0, 10_000),
            clock_rate=chance.uniform(1 - drift, 1 + drift),
            host=self.host,
        )
        self.runtime.blocking_s = machine.blocking_s
        self.duckdb = SimulatedDuckDb(machine.shelf)
        self.storage: NodeStorage | None = None
        self.port: ClientPort | None = None
        self._waiting = _Waiting()
        configuration = NodeConfiguration(
            machine.directory, f"{name}:{RPC_PORT}", f"{name}:{PG_PORT}", join
        )
        self.node = Node(configuration, self.runtime, self)
        self.started = False
        self.start_error: Exception | None = None
        self.host.on_death(self._lose_clients)

    # What its node asks of it (`dqe.machine.Machine`).

    def transport(self) -> Transport:
        return self._machine.around.network.transport(self._machine.name)

    def stage_threads(self) -> StageThreads:
        return InlineStages(self.runtime)

    def client_server(self, open_session: SessionFactory) -> ClientPort:
        self.port = ClientPort(open_session)
        return self.port

    async def open_storage(
        self, directory: Path, limits: DuckDbLimits, setup: Setup
    ) -> NodeStorage:
        self.storage = await NodeStorage.open(
            self.runtime,
            directory,
            limits=limits,
            setup=setup,
            on_log_failure=self.end_process,
            log_disk=self._machine.disk,
            log_settings=self._machine.around.world.log,
            make_duckdb=lambda *_: self.duckdb,
        )
        return self.storage

    def end_process(self, error: BaseException) -> None:
        if not self.host.dead:
            self._machine.end(f"its log failed: {error}")

    # Living.

    async def run(self) -> None:
        """Starts the node; in the host's context."""
        try:
            await self.node.start()
            self.started = True
        except (DqeError, OSError) as error:
            self.start_error = error
            self._machine.end(f"it could not start: {error}")

    async def run_here(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs something on the node, as its own."""
        return await self.runtime.spawn(work, "work from outside")

    # Clients.

    @property
    def is_serving(self) -> bool:
        """Whether clients are let in."""
        return not self.host.dead and self.port is not None and self.port.is_open

    async def ask(self, sessions: Sessions, sql: str) -> Answer:
        """Runs a statement in a client's session here; in the client's context."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.count += 1
        number = self._waiting.count
        self._waiting.futures[number] = future
        serve = self._serve(future, sessions, sessions.ended, sql)
        sessions.serving = self.runtime.spawn(serve, "client's statement")
        try:
            return await future
        finally:
            self._waiting.futures.pop(number, None)

    async def _serve(
        self, future: asyncio.Future[Answer], sessions: Sessions, ended: int, sql: str
    ) -> None:
        try:
            answer = await self._execute(await self._session_of(sessions, ended), sql)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            if not future.done():
                future.set_exception(error)
            return
        if not future.done():
            future.set_result(answer)

    async def _session_of(self, sessions: Sessions, ended: int) -> Session:
        """The client's, for what it asked when so many had `ended`: a machine that was paused
        hears of a statement when its client has hung up, and may have another session here."""
        if sessions.ended != ended:
            raise ConnectionLost
        if sessions.life is self and sessions.session is not None:
            return sessions.session
        assert self.port is not None
        if sessions.life is not None:
            sessions.life.hang_up(sessions)
            ended = sessions.ended
        session: Session = await self.port.open_session(1, "dqe", {})
        if sessions.ended != ended:
            await session.close()
            raise ConnectionLost
        sessions.session, sessions.life = session, self
        return session

    async def _execute(self, session: Session, sql: str) -> Answer:
        answer = Answer("", [])
        statements = await session.parse(sql)
        for place, statement in enumerate(statements, 1):
            result = await session.execute(statement, more=place < len(statements))
            try:
                rows = [
                    row
                    async for batch in result.batches()
                    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
                ]
            finally:
                await result.close()
            answer = Answer(result.tag, rows)
        await session.end_implicit()
        return answer

    def hang_up(self, sessions: Sessions) -> None:
        """The client is gone, whether or not it waits for an answer."""
        session, serving = sessions.session, sessions.serving
        sessions.session = sessions.life = sessions.serving = None
        sessions.ended += 1
        if session is not None and not self.host.dead:
            loop = asyncio.get_running_loop()
            loop.call_soon(session.cancel, context=self.host.context)
            self.runtime.spawn(_close(session, serving), "end of a client's session")

    def _lose_clients(self) -> None:
        waiting, self._waiting.futures = self._waiting.futures, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost())


@dataclass(slots=True)
class Sessions:
    """A client's session in the life it is connected to."""

    life: Life | None = None
    session: Session | None = None
    serving: asyncio.Task[None] | None = None
    # How often the client, or its move to another machine, has ended one.
    ended: int = 0


async def _close(session: Session, serving: asyncio.Task[None] | None) -> None:
    if serving is not None:
        await asyncio.wait([serving])
    await session.close()


class SimulatedMachine:
    """See the module."""

    def __init__(self, around: Surroundings, name: str) -> None:
        self.around = around
        self.name = name
        self.disk = SimulatedDisk(random.Random(f"{around.seed}/{name}/disk"))
        self.directory = around.directory / name
        chance = random.Random(f"{around.seed}/{name}/stores")
        self.shelf = StoreShelf(around.instances.take(), chance)
        self.wall_skew_s = random.Random(f"{around.seed}/{name}/wall").uniform(-0.3, 0.3)
        self.blocking_s = 0.002
        self.life: Life | None = None
        self._lives = 0
        self._wipes = 0
        self._past: list[Life] = []

    @property
    def rpc_address(self) -> str:
        return f"{self.name}:{RPC_PORT}"

    @property
    def lives(self) -> list[Life]:
        """All there have been."""
        return [*self._past, *([self.life] if self.life is not None else [])]

    @property
    def is_serving(self) -> bool:
        return self.life is not None and self.life.is_serving

    @property
    def parts(self) -> Parts:
        """The floors of the node that lives here; only while it serves."""
        assert self.life is not None
        return self.life.node.parts

    @property
    def leads_catalog(self) -> bool:
        """Whether its node hands out timestamps; only while it serves."""
        return self.parts.catalog.group.is_leader

    def start(self, join: tuple[str, ...]) -> None:
        """A new process begins; it is up when `is_serving`."""
        assert self.life is None
        self._lives += 1
        self.around.trace.note(f"{self.name} starts, life {self._lives}")
        self._take_lock_away()
        life = self.life = Life(self, self._lives, join)
        self.around.network.attach(life.host)
        life.runtime.spawn(life.run(), "node")

    def _take_lock_away(self) -> None:
        # The lock of the life before is still held by this process, on a file of that name.
        lock = self.directory / "lock"
        if lock.exists():
            lock.unlink()
            lock.touch()

    def end(self, why: str, *, power_cut: bool = False) -> None:
        """The process is gone, at this very moment. With a power cut, what was not synced is
        in doubt, and nobody is told."""
        life = self.life
        if life is None:
            return
        self.around.trace.note(f"{self.name} ends: {why}")
        self.life = None
        self._past.append(life)
        self.judge()
        life.host.die()
        self.around.network.crash(self.name, silent=power_cut)
        if power_cut:
            self.disk.crash()
        else:
            self.disk.close_all()
        life.duckdb.crash()
        self.shelf.crash()
        self._let_go_of_row_stores()

    def _let_go_of_row_stores(self) -> None:
        """The next life opens copies: what the one that ended has open is not in its way.

        SQLite keeps all that was committed, as it does when a process is killed.
        """
        directory = self.directory / "tablets"
        for path in sorted(directory.iterdir()) if directory.exists() else ():
            if path.name.endswith("-shm"):
                path.unlink()
            elif path.stat().st_size > 0:
                copy = path.with_name(path.name + ".copy")
                shutil.copyfile(path, copy)
                copy.replace(path)

    def wipe(self) -> None:
        """The process is gone, and with it all it had; the next one is a new node (rule G3)."""
        self.end("it is wiped", power_cut=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        self._wipes += 1
        self.disk = SimulatedDisk(random.Random(f"{self.around.seed}/{self.name}/{self._wipes}"))
        self.shelf.clear()

    def judge(self) -> None:
        """Nothing fails unheard in a node, and no crash damages its data."""
        life = self.life
        if life is None:
            return
        found: list[Violation] = []
        for name, error in life.runtime.failures:
            if isinstance(error, OSError | IoError):
                continue  # of the disk, which is what ended it
            violation = Violation(f"background task {name} of {self.name} failed: {error!r}")
            violation.__cause__ = error
            found.append(violation)
        if isinstance(life.start_error, DataCorrupted):
            found.append(Violation(f"{self.name} found its data damaged: {life.start_error}"))
        self.around.violations += found

    def pause(self) -> None:
        """SIGSTOP."""
        if self.life is not None:
            self.life.host.pause()

    def resume(self) -> None:
        """SIGCONT."""
        if self.life is not None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimulatedLoop)
            loop.resume(self.life.host)

    def bury(self) -> None:
        """Gives back what it holds, once the simulation is over."""
        if self.life is not None:
            life, self.life = self.life, None
            self._past.append(life)
            life.host.die()
            life.duckdb.crash()
        for life in self._past:
            life.host.bury()
            if life.storage is not None:
                life.storage.abandon()
        self.shelf.clear()
        self.around.instances.give_back(self.shelf.connection)
