"""What a replicated write costs: processor time, messages, sends and log appends of all replicas.

    python -m benchmarks.raft_writes [--groups 6] [--writes 3000] [--rounds 3] [--json FILE]

Three nodes in one process and on one loop, over loopback sockets, each with its log on disk, and a
state machine that does nothing: what is left is Raft, RPC and the log. The least of several rounds
is shown, since what else runs on a machine only ever adds to processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from cluster.raft.group import RaftGroup
from cluster.raft.host import RaftHost
from cluster.raft.log import Configuration, Entry
from cluster.rpc import RpcNode
from cluster.runtime import ProductionRuntime, run_production
from cluster.transport import TcpConnection, TcpTransport
from storage.wal import WriteAheadLog

NODES = (1, 2, 3)
WRITE = bytes(200)


class Nothing:
    """A state machine that counts entries."""

    applied_index = durable_index = 0

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        return self.apply_now(entries)

    def apply_now(self, entries: Sequence[Entry]) -> list[object]:
        self.applied_index = entries[-1].index
        return [None] * len(entries)

    async def snapshot(self) -> tuple[int, bytes]:
        return self.applied_index, b""

    async def restore(self, index: int, data: bytes) -> None:
        self.applied_index = self.durable_index = index


@dataclass(frozen=True, slots=True)
class Counts:
    """Of all three nodes since they were started; `cpu_us` of the process."""

    cpu_us: float
    messages: float
    frames: float
    sends: float
    appends: float

    def since(self, before: Counts, writes: int) -> Counts:
        """What one write took."""
        pairs = zip(asdict(self).values(), asdict(before).values(), strict=True)
        return Counts(*((now - then) / writes for now, then in pairs))


class _CountedTcp(TcpTransport):
    """Counts what is handed to the kernel."""

    sends = 0

    def count(self) -> None:
        flush = TcpConnection._flush

        def counted(connection: TcpConnection) -> None:
            self.sends += 1
            flush(connection)

        TcpConnection._flush = counted  # type: ignore[assignment, method-assign]


@dataclass(frozen=True, slots=True)
class Nodes:
    """Three nodes and the groups they lead."""

    hosts: dict[int, RaftHost]
    tcp: _CountedTcp
    leaders: list[RaftGroup]

    def counts(self) -> Counts:
        """As of now."""
        hosts = self.hosts.values()
        return Counts(
            time.process_time() * 1e6,
            sum(host.outbox.messages for host in hosts),
            sum(host.outbox.frames for host in hosts),
            self.tcp.sends,
            sum(host.writer.appends for host in hosts),
        )


@contextlib.asynccontextmanager
async def started(runtime: ProductionRuntime, directory: Path, groups: int) -> AsyncIterator[Nodes]:
    """Three nodes with so many groups, led by them in turn."""
    tcp, rpcs, hosts = _CountedTcp(), dict[int, RpcNode](), dict[int, RaftHost]()
    tcp.count()
    for node_id in NODES:
        rpc = RpcNode(runtime, tcp, cluster_id=lambda: "bench", node_id=partial(int, node_id))
        log = await WriteAheadLog.open(directory / str(node_id), runtime)
        await rpc.start("127.0.0.1:0")
        rpcs[node_id] = rpc
        hosts[node_id] = RaftHost(runtime, rpc, log, node_id, lambda n: rpcs[n].address)
        await hosts[node_id].start()
    leaders = [await _open(hosts, group_id) for group_id in range(1, groups + 1)]
    yield Nodes(hosts, tcp, leaders)
    for node_id in NODES:
        await hosts[node_id].close()
        await rpcs[node_id].close()


async def _open(hosts: dict[int, RaftHost], group_id: int) -> RaftGroup:
    first = NODES[group_id % len(NODES)]
    opened = {
        node_id: await host.open_group(group_id, Nothing(), Configuration.of(NODES), first)
        for node_id, host in hosts.items()
    }
    while not opened[first].is_leader:
        await asyncio.sleep(0.01)
    return opened[first]


async def write(nodes: Nodes, clients: int, writes: int) -> Counts:
    """So many writes by so many clients at once, each to all groups in turn."""

    async def client(first: int) -> None:
        for number in range(first, writes, clients):
            group = nodes.leaders[number % len(nodes.leaders)]
            await group.propose(WRITE, deadline_s=10)

    before = nodes.counts()
    await asyncio.gather(*map(client, range(clients)))
    return nodes.counts().since(before, writes)


async def measure(arguments: argparse.Namespace, runtime: ProductionRuntime) -> dict[str, Counts]:
    """The cheapest round for each number of clients."""
    found: dict[str, Counts] = {}
    with tempfile.TemporaryDirectory(prefix="dqe-raft-") as directory:
        async with started(runtime, Path(directory), arguments.groups) as nodes:
            for clients in arguments.clients:
                rounds = [
                    await write(nodes, clients, arguments.writes) for _ in range(arguments.rounds)
                ]
                found[f"{clients} clients"] = min(rounds, key=lambda counts: counts.cpu_us)
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--groups", type=int, default=6)
    parser.add_argument("--writes", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = run_production(partial(measure, arguments))
    for words, counts in found.items():
        print(
            f"{words}: {counts.cpu_us:.0f} µs of processor, {counts.messages:.2f} messages,"
            f" {counts.frames:.2f} frames, {counts.sends:.2f} sends, {counts.appends:.2f} appends"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({w: asdict(c) for w, c in found.items()}) + "\n")


if __name__ == "__main__":
    main()
