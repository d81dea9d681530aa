"""Connections that nobody uses, and addresses at which another node answers."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest
from rpc_fixtures import Probe, Text, register

from cluster.errors import CannotConnectNow
from cluster.rpc import RpcNode
from cluster.rpc_client import IDLE_TICKS, SILENT_TICKS, TICK_S
from cluster.simulation.loop import run_simulation
from cluster.simulation.network import SimulatedNetwork
from cluster.simulation.runtime import SimulatedRuntime


class Pair:
    """Two nodes on a simulated network."""

    def __init__(self) -> None:
        self.network = SimulatedNetwork(random.Random(1))
        self.probes = [Probe(), Probe()]
        self.nodes = [self._node(number) for number in (1, 2)]

    def _node(self, number: int) -> RpcNode:
        rpc = RpcNode(
            SimulatedRuntime(1, f"n{number}"),
            self.network.transport(f"n{number}"),
            cluster_id=lambda: "c",
            node_id=lambda: number,
        )
        register(rpc, self.probes[number - 1])
        return rpc

    async def start(self) -> Pair:
        for number, rpc in enumerate(self.nodes, 1):
            await rpc.start(f"n{number}:1")
        return self

    async def stop(self) -> None:
        for rpc in self.nodes:
            await rpc.close()


def test_unused_connection_is_quiet_and_then_closed() -> None:
    async def main() -> None:
        pair = await Pair().start()
        one, two = pair.nodes
        await one.call("n2:1", "echo", Text("x"), Text, deadline_s=1)
        await asyncio.sleep(3 * TICK_S)
        quiet = pair.network.deliveries
        await asyncio.sleep((IDLE_TICKS - 6) * TICK_S)
        assert pair.network.deliveries == quiet
        assert len(two._incoming) == 1
        await asyncio.sleep(10 * TICK_S)
        assert not two._incoming
        reply = await one.call("n2:1", "echo", Text("again"), Text, deadline_s=1)
        assert reply.header.text == "AGAIN"
        await pair.stop()

    run_simulation(main())


def test_connection_that_is_used_or_waited_on_stays() -> None:
    async def main() -> None:
        pair = await Pair().start()
        one, two = pair.nodes
        call = asyncio.create_task(one.call("n2:1", "hang", Text("x"), Text, deadline_s=1000))
        stream = await one.open_stream("n2:1", "echo_stream", Text(""))
        for _ in range(2 * IDLE_TICKS):
            await asyncio.sleep(TICK_S)
        assert len(two._incoming) == 2
        pair.probes[1].release.set()
        assert (await call).header.text == "released"
        await stream.send(b"still here")
        assert await stream.receive() == (b"", b"still here")
        stream.close()
        await pair.stop()

    run_simulation(main())


def test_dead_link_is_noticed_even_when_one_notice_went_out() -> None:
    """One unanswered ping is asked again until the connection is given up."""

    async def main() -> None:
        pair = await Pair().start()
        one = pair.nodes[0]
        await one.call("n2:1", "echo", Text("x"), Text, deadline_s=1)
        await asyncio.sleep(5 * TICK_S)
        pair.network.partition(["n1"], ["n2"])
        one.notify("n2:1", "notice", Text("lost"))
        await asyncio.sleep((SILENT_TICKS + 3) * TICK_S)
        connection = one._control["n2:1"]._connection
        assert connection is None or connection.closed
        pair.network.heal()
        await pair.stop()

    run_simulation(main())


def test_what_is_meant_for_one_node_is_not_given_to_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        pair = await Pair().start()
        one, probe = pair.nodes[0], pair.probes[1]
        one.node_at = lambda address: 3  # node 2 answers where node 3 was thought to be
        one.notify("n2:1", "notice", Text("before there is a connection"))
        with pytest.raises(CannotConnectNow, match="node 3 cannot be reached") as refused:
            await one.call("n2:1", "echo", Text("x"), Text, deadline_s=1)
        assert refused.value.detail == "At its address n2:1 answers node 2."
        with pytest.raises(CannotConnectNow, match="node 3 cannot be reached"):
            await one.open_stream("n2:1", "echo_stream", Text(""))
        one.notify("n2:1", "notice", Text("secret"))
        one.notify("n2:1", "notice", Text("to whoever is there"), any_node=True)
        await asyncio.sleep(1)
        assert probe.notices == ["to whoever is there"]
        assert one.dropped_notices == 2
        one.node_at = lambda address: 2
        assert (await one.call("n2:1", "echo", Text("x"), Text, deadline_s=1)).header.text == "X"
        await pair.stop()

    with caplog.at_level(logging.ERROR):
        run_simulation(main())
    told = [r for r in caplog.records if "answers node 2" in r.getMessage()]
    assert len(told) == 2, "once a connection, of the two lanes"
