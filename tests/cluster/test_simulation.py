"""The simulated loop, network and disk, and RPC running on them unchanged."""

from __future__ import annotations

import asyncio
import random

import pytest
from rpc_fixtures import Probe, Text, register

from cluster.errors import AnswerLost, CannotConnectNow
from cluster.rpc import RpcNode
from cluster.simulation.disk import SimulatedDisk
from cluster.simulation.loop import SimulationDeadlock, run_simulation
from cluster.simulation.network import NetworkFaults, SimulatedNetwork
from cluster.simulation.runtime import SimulatedRuntime


class Cluster:
    """Nodes "n0", "n1", ... on one simulated network."""

    def __init__(self, count: int, seed: int, faults: NetworkFaults | None = None) -> None:
        self.network = SimulatedNetwork(random.Random(f"{seed}/network"), faults)
        self.runtimes = [SimulatedRuntime(seed, f"n{i}") for i in range(count)]
        self.probes = [Probe() for _ in range(count)]
        self.nodes = [
            RpcNode(
                runtime,
                self.network.transport(f"n{i}"),
                cluster_id=lambda: "c1",
                node_id=lambda i=i: i + 1,
            )
            for i, runtime in enumerate(self.runtimes)
        ]
        for node, probe in zip(self.nodes, self.probes, strict=True):
            register(node, probe)

    async def start(self) -> Cluster:
        for i, node in enumerate(self.nodes):
            await node.start(f"n{i}:1")
        return self


def test_time_passes_only_while_nothing_is_ready() -> None:
    async def main() -> list[tuple[float, str]]:
        loop, seen = asyncio.get_running_loop(), []

        async def sleeper(name: str, delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            seen.append((loop.time(), name))

        await asyncio.gather(sleeper("b", 2e6), sleeper("a", 1), sleeper("c", 2e6 + 1))
        return seen

    assert run_simulation(main()) == [(1, "a"), (2e6, "b"), (2e6 + 1, "c")]


def test_a_deadlock_is_an_error() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(SimulationDeadlock):
        run_simulation(main())


def _busy_run(seed: int) -> tuple[int, int, list[str]]:
    """Calls, notices and streams among three nodes while the network misbehaves."""

    async def main() -> tuple[int, int, list[str]]:
        faults = NetworkFaults(
            max_delay_s=0.02, loss=0.2, duplication=0.1, reordering=0.2, reset=0.01
        )
        cluster = await Cluster(3, seed, faults).start()
        outcomes: list[str] = []

        async def caller(index: int) -> None:
            runtime, node = cluster.runtimes[index], cluster.nodes[index]
            for step in range(60):
                target = f"n{runtime.random.randrange(3)}:1"
                node.notify(target, "notice", Text(f"{index}/{step}"))
                try:
                    await node.call(target, "echo", Text(f"x{step}"), Text, deadline_s=1)
                    outcomes.append("reply")
                except CannotConnectNow as error:
                    outcomes.append(error.message)
                await runtime.sleep(runtime.random.random() / 10)

        network = cluster.network
        tasks = [asyncio.ensure_future(caller(i)) for i in range(3)]
        await asyncio.sleep(1)
        network.block("n0", "n1")
        await asyncio.sleep(1)
        network.heal()
        await asyncio.gather(*tasks)
        for node in cluster.nodes:
            await node.close()
        return network.fingerprint, network.deliveries, outcomes

    return run_simulation(main())


def test_equal_seeds_give_equal_traces() -> None:
    first = _busy_run(7)
    assert first == _busy_run(7)
    assert first[0] != _busy_run(8)[0]
    assert first[1] > 300
    assert "reply" in first[2]
    assert any("lost" in outcome for outcome in first[2])


def test_notices_are_lost_repeated_and_reordered_calls_are_not() -> None:
    async def main() -> None:
        faults = NetworkFaults(loss=0.3, duplication=0.3, reordering=0.3)
        cluster = await Cluster(2, 3, faults).start()
        for step in range(200):
            cluster.nodes[0].notify("n1:1", "notice", Text(f"{step:03}"))
            reply = await cluster.nodes[0].call("n1:1", "echo", Text("a"), Text, deadline_s=1)
            assert reply.header.text == "A"
        await asyncio.sleep(1)
        seen = cluster.probes[1].notices
        assert len(set(seen)) < 200, "nothing was lost"
        assert len(seen) > len(set(seen)), "nothing was repeated"
        assert seen != sorted(seen), "nothing was reordered"

    run_simulation(main())


def test_one_way_partition_holds_one_direction_back() -> None:
    async def main() -> None:
        cluster = await Cluster(2, 1).start()
        nodes, network = cluster.nodes, cluster.network
        await nodes[0].call("n1:1", "echo", Text("a"), Text, deadline_s=1)
        await nodes[1].call("n0:1", "echo", Text("a"), Text, deadline_s=1)
        network.block("n0", "n1")
        nodes[1].notify("n0:1", "notice", Text("still"))
        with pytest.raises(AnswerLost):
            await nodes[0].call("n1:1", "hang", Text("late"), Text, deadline_s=1)
        assert cluster.probes[0].notices == ["still"]
        assert cluster.probes[1].started == []
        network.heal()
        await asyncio.sleep(1)
        # What was held back arrives: the call, and that it was given up.
        assert cluster.probes[1].started in ([], ["late"])
        await nodes[0].call("n1:1", "echo", Text("a"), Text, deadline_s=1)

    run_simulation(main())


def test_silent_connection_is_given_up() -> None:
    async def main() -> None:
        cluster = await Cluster(2, 1).start()
        call = asyncio.ensure_future(
            cluster.nodes[0].call("n1:1", "hang", Text("x"), Text, deadline_s=1000)
        )
        await asyncio.sleep(1)
        cluster.network.crash("n1", silent=True)
        with pytest.raises(AnswerLost, match="connection to node at n1:1 was lost"):
            await call
        assert 5 < asyncio.get_running_loop().time() < 20

    run_simulation(main())


def test_crashed_node_is_noticed_and_answers_again_after_its_restart() -> None:
    async def main() -> None:
        cluster = await Cluster(2, 1).start()
        call = asyncio.ensure_future(
            cluster.nodes[0].call("n1:1", "hang", Text("x"), Text, deadline_s=1000)
        )
        await asyncio.sleep(1)
        cluster.network.crash("n1")
        await cluster.runtimes[1].stop()
        with pytest.raises(AnswerLost):
            await call
        with pytest.raises(CannotConnectNow, match="n1:1 cannot be reached"):
            await cluster.nodes[0].call("n1:1", "echo", Text("x"), Text, deadline_s=1)
        again = RpcNode(
            SimulatedRuntime(1, "again"),
            cluster.network.transport("n1"),
            cluster_id=lambda: "c1",
            node_id=lambda: 2,
        )
        register(again, Probe())
        await again.start("n1:1")
        reply = await cluster.nodes[0].call("n1:1", "echo", Text("x"), Text, deadline_s=1)
        assert reply.header.text == "X"

    run_simulation(main())


def test_stream_flows_through_a_slow_network() -> None:
    async def main() -> None:
        cluster = await Cluster(2, 1, NetworkFaults(max_delay_s=0.5)).start()
        async with await cluster.nodes[0].open_stream("n1:1", "echo_stream", Text("")) as stream:

            async def produce() -> None:
                for index in range(50):
                    await stream.send(bytes([index]) * 300_000)
                await stream.finish()

            producer = asyncio.ensure_future(produce())
            received = []
            while (message := await stream.receive()) is not None:
                received.append(message[1][0])
            await producer
            assert received == list(range(50))

    run_simulation(main())


@pytest.mark.parametrize("seed", range(20))
def test_disk_keeps_what_was_synced_and_nothing_is_certain_of_the_rest(seed: int) -> None:
    disk = SimulatedDisk(random.Random(seed))
    file = disk.open("/d/a", create=True)
    file.write(0, b"durable!")
    file.sync()
    disk.sync_directory("/d")
    file.write(8, b"unsynced" * 10)
    disk.open("/d/b", create=True).write(0, b"new")
    disk.crash()
    assert disk.contents("/d/a")[:8] == b"durable!"
    assert set(disk.names("/d")) <= {"a", "b"}
    with pytest.raises(OSError, match="crashed"):
        file.read(0, 1)


def test_disk_loses_and_tears_over_many_seeds() -> None:
    outcomes = set()
    for seed in range(100):
        disk = SimulatedDisk(random.Random(seed))
        file = disk.open("/d/a", create=True)
        disk.sync_directory("/d")
        file.write(0, b"abcdef")
        disk.crash()
        outcomes.add(disk.contents("/d/a"))
    assert b"" in outcomes
    assert b"abcdef" in outcomes
    assert b"abc" in outcomes
    assert any(b"\0" in outcome for outcome in outcomes)
