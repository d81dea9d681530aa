"""Nodes for the RPC tests: real sockets on loopback, ports chosen by the system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import uvloop

from cluster.errors import UniqueViolation
from cluster.rpc import CallContext, RpcNode, Stream
from cluster.runtime import ProductionRuntime
from cluster.transport import TcpTransport


class Text(msgspec.Struct, frozen=True):
    text: str


class Number(msgspec.Struct, frozen=True):
    number: int


class Probe:
    """What the handlers of a node saw."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.started: list[str] = []
        self.notices: list[str] = []
        self.errors: list[BaseException] = []
        self.contexts: list[CallContext] = []
        self.release = asyncio.Event()
        self.changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def register(rpc: RpcNode, probe: Probe) -> None:
    """The methods every test node serves."""

    async def echo(
        context: CallContext, request: Text, body: bytes | memoryview
    ) -> tuple[Text, bytes | memoryview]:
        probe.contexts.append(context)
        return Text(request.text.upper()), body

    async def fail(context: CallContext, request: Text, body: bytes | memoryview) -> Text:
        if request.text == "ours":
            raise UniqueViolation("taken", detail="Key (a)=(1) already exists.", constraint="t_a")
        raise KeyError("not ours")

    async def hang(context: CallContext, request: Text, body: bytes | memoryview) -> Text:
        probe.started.append(request.text)
        probe.changed.set()
        try:
            await probe.release.wait()
        except asyncio.CancelledError:
            probe.cancelled.append(request.text)
            probe.changed.set()
            raise
        return Text("released")

    def notice(context: CallContext, request: Text, body: bytes | memoryview) -> None:
        if request.text == "boom":
            raise KeyError("boom")
        probe.notices.append(request.text)
        probe.changed.set()

    async def echo_stream(context: CallContext, request: Text, stream: Stream) -> None:
        while (message := await stream.receive()) is not None:
            await stream.send(message[1], message[0])

    async def watch_stream(context: CallContext, request: Text, stream: Stream) -> None:
        """Waits in the stream or elsewhere, and notes how it ended."""
        probe.started.append(request.text)
        probe.changed.set()
        try:
            if request.text == "in stream":
                await stream.receive()
            else:
                await probe.release.wait()
        except BaseException as error:
            probe.errors.append(error)
            probe.changed.set()
            raise

    async def count(context: CallContext, request: Number, stream: Stream) -> None:
        """Sends blocks until stopped, noting how many it got rid of."""
        for index in range(request.number):
            probe.started.append(str(index))
            probe.changed.set()
            await stream.send(bytes(1 << 20), str(index).encode())

    rpc.handle("echo", Text, echo)
    rpc.handle("fail", Text, fail)
    rpc.handle("hang", Text, hang)
    rpc.handle("join", Text, echo, before_join=True)
    rpc.handle_notice("notice", Text, notice)
    rpc.handle_stream("echo_stream", Text, echo_stream)
    rpc.handle_stream("watch_stream", Text, watch_stream)
    rpc.handle_stream("count", Number, count)


@asynccontextmanager
async def nodes(
    count: int, cluster_ids: list[str] | None = None
) -> AsyncIterator[tuple[list[RpcNode], list[Probe]]]:
    """Started nodes with ids from 1, each with its probe."""
    runtime = ProductionRuntime()
    ids = cluster_ids if cluster_ids is not None else ["c1"] * count
    made: list[RpcNode] = []
    probes = [Probe() for _ in range(count)]
    for index in range(count):
        rpc = RpcNode(
            runtime,
            TcpTransport(),
            cluster_id=lambda index=index: ids[index],
            node_id=lambda index=index: index + 1,
        )
        register(rpc, probes[index])
        await rpc.start("127.0.0.1:0")
        made.append(rpc)
    try:
        yield made, probes
    finally:
        for rpc in made:
            await rpc.close()
        await runtime.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Runs the test on the loop nodes run on, with a bound on how long it may hang."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
