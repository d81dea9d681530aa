"""A few nodes with a RaftHost each, on the simulated loop and network, for tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from cluster.errors import DqeError
from cluster.raft.group import RaftGroup
from cluster.raft.host import RaftHost
from cluster.raft.log import Configuration, Entry, EntryKind, MemoryLogStorage
from cluster.rpc import RpcNode
from cluster.simulation.network import SimulatedNetwork
from cluster.simulation.runtime import SimulatedRuntime

GROUP = 7


class Notes:
    """A state machine: a list of notes, durable at once or never. `apply` answers its length."""

    def __init__(self, *, durable: bool = False) -> None:
        self.notes: list[bytes] = []
        self.applied_index = 0
        self._durable = durable
        self.applies = 0

    @property
    def durable_index(self) -> int:
        return self.applied_index if self._durable else 0

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        return self.take(entries)

    def take(self, entries: Sequence[Entry]) -> list[object]:
        self.applies += 1
        results: list[object] = []
        for entry in entries:
            assert entry.index == self.applied_index + 1
            self.applied_index = entry.index
            if entry.data == b"refuse me":
                results.append(DqeError("refused"))
                continue
            if entry.data == b"break me":
                raise ValueError("the state machine is broken")
            if entry.kind is EntryKind.COMMAND:
                self.notes.append(bytes(entry.data))
            results.append(len(self.notes))
        return results

    async def snapshot(self) -> tuple[int, bytes]:
        return self.applied_index, b"\n".join(self.notes)

    async def restore(self, index: int, data: bytes) -> None:
        self.notes = data.split(b"\n") if data else []
        self.applied_index = index
        self._durable = True


class PromptNotes(Notes):
    """The same, in place; entries that begin so have to wait for something."""

    waits = 0

    def apply_now(self, entries: Sequence[Entry]) -> list[object] | None:
        return None if any(e.data.startswith(b"wait") for e in entries) else self.take(entries)

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        self.waits += 1
        await asyncio.sleep(0.01)
        return self.take(entries)


class Hosts:
    """Nodes 1 to `count`; `open` opens a group on all of them or on some."""

    def __init__(self, count: int, *, seed: int = 1) -> None:
        self.network = SimulatedNetwork(random.Random(f"{seed}/network"))
        self.logs = {n: MemoryLogStorage() for n in range(1, count + 1)}
        self.runtimes: dict[int, SimulatedRuntime] = {}
        self.rpcs: dict[int, RpcNode] = {}
        self.hosts: dict[int, RaftHost] = {}
        self.fatal: dict[int, BaseException] = {}
        self._seed = seed

    async def start(self) -> Hosts:
        for node_id in self.logs:
            await self.start_node(node_id)
        return self

    async def start_node(self, node_id: int) -> None:
        runtime = SimulatedRuntime(self._seed, f"n{node_id}")
        rpc = RpcNode(
            runtime,
            self.network.transport(f"n{node_id}"),
            cluster_id=lambda: "c",
            node_id=lambda: node_id,
        )
        host = RaftHost(
            runtime,
            rpc,
            self.logs[node_id],
            node_id,
            lambda other: f"n{other}:1",
            on_fatal=lambda error: self.fatal.__setitem__(node_id, error),
        )
        await rpc.start(f"n{node_id}:1")
        await host.start()
        self.runtimes[node_id], self.rpcs[node_id], self.hosts[node_id] = runtime, rpc, host

    async def stop_node(self, node_id: int) -> None:
        await self.hosts.pop(node_id).close()
        await self.rpcs.pop(node_id).close()

    async def close(self) -> None:
        for node_id in list(self.hosts):
            await self.stop_node(node_id)

    async def open(
        self,
        voters: Sequence[int],
        group_id: int = GROUP,
        *,
        durable: bool = False,
        notes: type[Notes] = Notes,
    ) -> tuple[dict[int, RaftGroup], dict[int, Notes]]:
        groups, machines = {}, {}
        for node_id in voters:
            machines[node_id] = notes(durable=durable)
            groups[node_id] = await self.hosts[node_id].open_group(
                group_id, machines[node_id], Configuration.of(voters)
            )
        return groups, machines

    def isolate(self, node_id: int) -> None:
        others = [f"n{other}" for other in self.logs if other != node_id]
        self.network.partition([f"n{node_id}"], others)


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Let simulated time pass until that holds."""
    for _ in range(int(within_s / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition did not come true in time")


async def leader_of(groups: dict[int, RaftGroup], *, but: int = 0) -> RaftGroup:
    """The serving leader, other than `but`."""

    def leading() -> list[RaftGroup]:
        return [g for g in groups.values() if g.is_leader and g.node_id != but]

    await until(lambda: bool(leading()))
    return leading()[0]
