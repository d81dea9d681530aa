"""Nodes of a model cluster: everything of transactions is the product's, the rest is a model.

Real are the tablets with their row stores, locks and participants, the requests to them and the
search for their leaders, the driver of transactions, the oracle and its clients. Models are
consensus (`model_consensus`), the network, the catalog (which never changes), and SQL.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from model_consensus import Consensus, Replica, Snapshot

from catalog.model import ColocationId, Durability, NodeId, TabletId
from catalog.model import Tablet as TabletRecord
from catalog.oracle_service import METHOD as TAKE
from catalog.oracle_service import OracleService
from catalog.state import CatalogStateMachine
from catalog.tablet_rpc import TabletClient
from catalog.tablet_server import TabletServer
from catalog.timestamp_client import TakeTimestamps, TimestampClient, TimestampsTaken
from cluster.errors import AnswerLost, CannotConnectNow, DqeError
from cluster.rpc import Reply
from cluster.simulation.host import SimulatedHost
from cluster.simulation.loop import SimulatedLoop
from cluster.simulation.runtime import SimulatedRuntime
from dqe.simulation.stores import Instances, SimulatedDuckDb, StoreShelf
from executor.writes_ids import UniqueIds
from storage import types
from storage.fragments import AccessMethod, FragmentSchema, StoreColumn, UniqueKey
from storage.opening import open_stores, rows_path
from storage.row_side import RowSide
from storage.staging import MemoryBudget, Staging
from storage.tablet import Tablet

ORACLE = 0

instances = Instances(lambda connection: None)


def schema_of(tablet_id: int) -> FragmentSchema:
    """`lists (id bigint primary key, items text)`; each tablet has one fragment of it."""
    columns = StoreColumn("c1", types.INT8, "id"), StoreColumn("c2", types.TEXT, "items")
    keys = (UniqueKey("lists_pkey", ("c1",)),)
    return FragmentSchema(100 + tablet_id, columns, ("c1",), keys, "lists", AccessMethod.ROW)


class Hook:
    """Calls back once, before or after some step is carried out at some node."""

    def __init__(self) -> None:
        self.armed: tuple[str, bool, Callable[[], None]] | None = None
        self.taken: Counter[tuple[str, bool]] = Counter()

    def at(self, step: str, *, before: bool) -> None:
        if self.armed is not None and self.armed[:2] == (step, before):
            action, self.armed = self.armed[2], None
            self.taken[step, before] += 1
            action()


STEPS = (
    "write",
    "prepare",
    "mark_home",
    "validate",
    "precommit",
    "decide",
    "commit",
    "commit_all",
    "status",
)


def _hooked(step: str) -> Any:
    original = getattr(TabletServer, step)

    async def method(self: HookedServer, request: Any, deadline_s: float) -> Any:
        self.hook.at(step, before=True)
        await asyncio.sleep(0)  # whose host has just died goes no further
        try:
            return await original(self, request, deadline_s)
        finally:
            self.hook.at(step, before=False)
            await asyncio.sleep(0)

    return method


class HookedServer(TabletServer):
    """Tells of the steps of a commit."""

    hook: Hook

    def committing(self, notice: Any) -> None:
        self.hook.at("commit", before=True)
        super().committing(notice)
        self.hook.at("commit", before=False)


for _step in STEPS:
    if _step != "commit":
        setattr(HookedServer, _step, _hooked(_step))


class Rpc:
    """One node's end of the model network."""

    def __init__(self, cluster: Cluster, node_id: int) -> None:
        self._cluster = cluster
        self._node_id = node_id
        self.handlers: dict[str, Callable[..., Awaitable[Any]]] = {}
        self.notices: dict[str, Callable[..., None]] = {}

    def handle_notice(self, method: str, request_type: type, handler: Callable[..., None]) -> None:
        self.notices[method] = handler

    def notify_now(self, address: str, method: str, request: Any) -> bool:
        cluster, target = self._cluster, int(address)
        if target not in cluster.lives:
            return False

        async def carry() -> None:
            await cluster.travel()
            life = cluster.lives.get(target)
            lost = cluster.chance.random() < cluster.loss
            if life is not None and (self._node_id, target) not in cluster.cut and not lost:
                life.runtime.call_soon(life.rpc.notices[method], None, request, b"")

        cluster.lives[self._node_id].runtime.spawn(carry(), method)
        return True

    def handle(
        self,
        method: str,
        request_type: type,
        handler: Callable[..., Awaitable[Any]],
        *,
        at_once: Callable[[Any], Any] | None = None,
    ) -> None:
        async def served(context: Any, request: Any, body: bytes) -> Any:
            found = None if at_once is None else at_once(request)
            return await handler(context, request, body) if found is None else found

        self.handlers[method] = served

    async def call(
        self,
        address: str,
        method: str,
        request: Any,
        reply_type: type,
        *,
        body: bytes = b"",
        deadline_s: float,
    ) -> Reply[Any]:
        cluster, target = self._cluster, int(address)
        await cluster.travel()
        life = cluster.lives.get(target)
        if life is None or (self._node_id, target) in cluster.cut:
            raise CannotConnectNow(f"cannot reach the node at {address}")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        context = SimpleNamespace(remaining_s=lambda: deadline_s)
        handler = life.rpc.handlers[method]
        task = life.runtime.spawn(_serve(handler(context, request, body), answer), method)
        life.host.on_death(lambda: _break(answer))
        try:
            async with asyncio.timeout(deadline_s):
                found = await answer
        except TimeoutError:
            raise AnswerLost(f"no answer of {address} within {deadline_s:g} s") from None
        finally:
            if not life.host.dead:
                task.cancel()
        await cluster.travel()
        if (target, self._node_id) in cluster.cut or cluster.chance.random() < cluster.loss:
            raise AnswerLost(f"the connection to {address} broke")
        return Reply(*found) if isinstance(found, tuple) else Reply(found, b"")


async def _serve(work: Awaitable[Any], answer: asyncio.Future[Any]) -> None:
    try:
        found = await work
    except Exception as error:  # noqa: BLE001 - it is the caller's
        if not answer.done():
            answer.set_exception(error)
        return
    if not answer.done():
        answer.set_result(found)


def _break(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(AnswerLost("the connection broke"))


class OracleTransport:
    def __init__(self, life: Life) -> None:
        self._life = life

    async def take(self, request: TakeTimestamps, deadline_s: float) -> TimestampsTaken:
        leader = self._life.groups[ORACLE].leader_id
        if leader is None:
            raise CannotConnectNow("the catalog has no leader")
        if leader == self._life.node_id:
            return await self._life.oracle.take(request)
        reply = await self._life.rpc.call(
            str(leader), TAKE, request, TimestampsTaken, deadline_s=deadline_s
        )
        found: TimestampsTaken = reply.header
        return found


class Life:
    """One process of a node."""

    def __init__(self, cluster: Cluster, node_id: int, number: int) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.host = SimulatedHost(f"n{node_id}")
        skew_s = random.Random(f"{cluster.seed}/wall/{node_id}").uniform(-0.3, 0.3)
        self.runtime = SimulatedRuntime(
            cluster.seed, f"n{node_id}/{number}", wall_skew_s=skew_s, host=self.host
        )
        self.runtime.blocking_s = 0.001
        self.directory = cluster.directory / f"n{node_id}-{number}"
        self.directory.mkdir()
        self.shelf = StoreShelf(instances.take(), random.Random(0))
        self.duckdb = SimulatedDuckDb(self.shelf)
        self.rpc = Rpc(cluster, node_id)
        self.tablets: dict[int, Tablet] = {}
        self.groups: dict[int, Replica] = {}
        self._open_oracle()
        for tablet_id, nodes in cluster.placement.items():
            if node_id in nodes:
                self._open_tablet(tablet_id)
        self._make_client()
        for tablet_id, group in self.groups.items():
            group.start(None if tablet_id == ORACLE else self._snapshot_of(tablet_id))
        self.runtime.spawn(self._tick(), "tick")
        self.runtime.spawn(self._close(), "closed timestamps")

    def _open_oracle(self) -> None:
        machine = CatalogStateMachine()
        group = Replica(self.cluster.consensus[ORACLE], self.runtime, self.node_id, machine)
        self.groups[ORACLE] = group
        self.oracle = OracleService(self.runtime, self.rpc, group, machine, lambda: 1)  # type: ignore[arg-type]
        self.timestamps = TimestampClient(self.runtime, self.node_id, OracleTransport(self))

    def _open_tablet(self, tablet_id: int) -> None:
        path = self.directory / f"{tablet_id}.duckdb"
        store, row_store = open_stores(self.duckdb, tablet_id, path)
        rows = RowSide(self.runtime, tablet_id, rows_path(path), row_store)
        staging = Staging(self.directory / f"staging-{tablet_id}", MemoryBudget())
        tablet = Tablet(self.runtime, store, staging, self.node_id, lambda: self.client, rows)
        group = Replica(self.cluster.consensus[tablet_id], self.runtime, self.node_id, tablet)
        tablet.attach(group)
        self.tablets[tablet_id], self.groups[tablet_id] = tablet, group

    def _snapshot_of(self, tablet_id: int) -> Snapshot | None:
        """One of another node's replica, for some of those that have missed something."""
        cluster = self.cluster
        others = [n for n in cluster.homes(tablet_id) if n != self.node_id]
        if not others or not cluster.snapshots or cluster.chance.random() >= cluster.snapshots:
            return None
        source = cluster.lives[cluster.chance.choice(others)]

        async def snapshot() -> tuple[int, Any] | None:
            return await asked_on(source, source.tablets[tablet_id].open_snapshot())

        return snapshot

    def _make_client(self) -> None:
        catalog = SimpleNamespace(
            timestamps=self.timestamps,
            current=self.cluster.catalog,
            liveness=SimpleNamespace(
                is_live=lambda node: True,
                live_nodes=lambda: list(self.cluster.nodes),
                leader_of=lambda tablet_id: self.cluster.consensus[tablet_id].said_to_lead,
            ),
            horizon=0,
            address_of=str,
            wait_version=self._catalog,
        )
        storage = SimpleNamespace(tablets=self.tablets, tablet=self._tablet)
        manager = SimpleNamespace(group=self.groups.get, leader_of=self._leader_of)
        self.server = HookedServer(self.rpc, storage, manager, catalog)  # type: ignore[arg-type]
        self.server.hook = self.cluster.hook
        self.client = TabletClient(
            self.runtime,
            self.rpc,  # type: ignore[arg-type]
            catalog,  # type: ignore[arg-type]
            manager,  # type: ignore[arg-type]
            self.server,
            self.node_id,  # type: ignore[arg-type]
        )
        self.services: Any = SimpleNamespace(
            runtime=self.runtime,
            timestamps=self.timestamps,
            catalog=catalog,
            tablets=self.client,
            ids=UniqueIds(self.runtime, self.node_id),
            node_id=self.node_id,
        )

    async def _catalog(self, version: int) -> Any:
        return self.cluster.catalog

    def _tablet(self, tablet_id: int) -> Tablet:
        if tablet_id not in self.tablets:
            raise CannotConnectNow(f"tablet {tablet_id} is not open here")
        return self.tablets[tablet_id]

    def _leader_of(self, tablet_id: int) -> int | None:
        group = self.groups.get(tablet_id)
        return None if group is None else group.leader_id

    async def _tick(self) -> None:
        while True:
            await self.runtime.sleep(self.cluster.tick_s)
            for tablet in self.tablets.values():
                tablet.tick()
                await tablet.prune(100)

    async def _close(self) -> None:
        """Tells followers what is closed, late and out of order (rule R4)."""
        while True:
            await self.runtime.sleep(self.cluster.close_every_s)
            if not any(tablet.is_leader for tablet in self.tablets.values()):
                continue
            try:
                issued, _ = await self.timestamps.snapshot()
            except CannotConnectNow:
                continue
            for tablet_id, tablet in self.tablets.items():
                closed = tablet.close_timestamp(issued)
                if closed is None:
                    continue
                for other in list(self.cluster.lives.values()):
                    follower = other.tablets.get(tablet_id)
                    if follower is not None:
                        delay_s = self.cluster.chance.expovariate(20.0)
                        other.runtime.call_later(delay_s, partial(follower.closed.learn, closed))


async def asked_on(life: Life, work: Awaitable[Any]) -> Any:
    """Runs something on a node; None where it dies or refuses."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        try:
            found = await work
        except DqeError:
            found = None
        if not answer.done():
            answer.set_result(found)

    life.runtime.spawn(run(), "asked from outside")
    life.host.on_death(lambda: None if answer.done() else answer.set_result(None))
    return await answer


@dataclass(slots=True)
class Cluster:
    """Three nodes, an oracle, and tablets with their replicas."""

    seed: int
    directory: Path
    nodes: tuple[int, ...]
    placement: dict[int, tuple[int, ...]]
    chance: random.Random
    loss: float = 0.0
    network_s: float = 0.003
    lag_s: float = 0.002
    # Of the messages: those that take up to fifty times as long.
    late: float = 0.0
    tick_s: float = 1.0
    close_every_s: float = 0.2
    # Gossip tells of leaders, so late; 0 for no gossip.
    hearsay_s: float = 0.0
    # What these acknowledged may be lost.
    asynchronous: frozenset[int] = frozenset()
    # Of the replicas on nodes that start: those that begin with a snapshot.
    snapshots: float = 0.0
    log_deadline_s: float = 2.0
    lives: dict[int, Life] = field(default_factory=dict)
    past: list[Life] = field(default_factory=list)
    cut: set[tuple[int, int]] = field(default_factory=set)
    hook: Hook = field(default_factory=Hook)
    consensus: dict[int, Consensus] = field(default_factory=dict)
    catalog: Any = None
    _starts: int = 0

    def begin(self) -> None:
        self.consensus = {
            t: Consensus(t, random.Random(f"{self.seed}/log {t}"))
            for t in (ORACLE, *self.placement)
        }
        for consensus in self.consensus.values():
            consensus.lag_s = self.lag_s
            consensus.deadline_s = self.log_deadline_s
        records = {
            t: TabletRecord(
                TabletId(t),
                ColocationId(t),
                tuple(map(NodeId, replicas)),
                len(replicas),
                durability=Durability.ASYNC if t in self.asynchronous else Durability.QUORUM,
            )
            for t, replicas in self.placement.items()
        }
        self.catalog = SimpleNamespace(
            tablets=records, next_id=1000, version=1, nodes={}, settings={}
        )
        for node_id in self.nodes:
            self.start(node_id)
        for consensus in self.consensus.values():
            consensus.elect(self.chance.choice(self.homes(consensus.tablet_id)), told=True)
        if self.hearsay_s:
            self._gossip()

    def _gossip(self) -> None:
        """Tells all nodes, some time later, who leads now."""
        later = asyncio.get_running_loop().call_later
        for consensus in self.consensus.values():
            later(self.hearsay_s, setattr, consensus, "said_to_lead", consensus.leader)
        later(self.hearsay_s / 5, self._gossip)

    def homes(self, tablet_id: int) -> list[int]:
        """The living nodes with a replica."""
        nodes = self.placement.get(tablet_id, self.nodes)
        return [node_id for node_id in nodes if node_id in self.lives]

    async def travel(self) -> None:
        longest_s = self.network_s * (50 if self.chance.random() < self.late else 1)
        await asyncio.sleep(self.chance.random() * longest_s)

    def start(self, node_id: int) -> None:
        if node_id not in self.lives:
            self._starts += 1
            self.lives[node_id] = Life(self, node_id, self._starts)

    def kill(self, node_id: int) -> None:
        life = self.lives.pop(node_id, None)
        if life is None:
            return
        self.past.append(life)
        for consensus in self.consensus.values():
            consensus.lose(node_id)
        life.host.die()
        life.duckdb.crash()

    def pause(self, node_id: int) -> None:
        life = self.lives.get(node_id)
        if life is not None:
            life.host.pause()

    def resume(self, node_id: int) -> None:
        life = self.lives.get(node_id)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        if life is not None and life.host.paused:
            loop.resume(life.host)

    def bury(self) -> None:
        for node_id in list(self.lives):
            self.kill(node_id)
        for life in self.past:
            life.host.bury()
            life.shelf.clear()
            instances.give_back(life.shelf.connection)

    @property
    def failures(self) -> list[tuple[str, BaseException]]:
        every = [*self.past, *self.lives.values()]
        return [failure for life in every for failure in life.runtime.failures]
