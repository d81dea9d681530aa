"""Round trips, calls and bytes a second of the RPC layer, two processes on loopback.

`python -m benchmarks.rpc [--json FILE]` starts the serving process itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from cluster.rpc import CallContext, RpcNode, Stream
from cluster.runtime import ProductionRuntime, run_production
from cluster.transport import TcpTransport

ROUNDS = 5


class Ping(msgspec.Struct, frozen=True):
    text: str


async def _echo(
    context: CallContext, request: Ping, body: bytes | memoryview
) -> tuple[Ping, bytes | memoryview]:
    return request, body


def _node(runtime: ProductionRuntime) -> RpcNode:
    node = RpcNode(runtime, TcpTransport(), cluster_id=lambda: "bench", node_id=lambda: 1)
    node.handle("echo", Ping, _echo)
    return node


def _serve(pipe: Connection) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        node = _node(runtime)

        async def drain(context: CallContext, request: Ping, stream: Stream) -> None:
            while await stream.receive() is not None:
                pass

        node.handle_stream("drain", Ping, drain)
        pipe.send(await node.start("127.0.0.1:0"))
        await runtime.run_blocking(pipe.recv)
        await node.close()

    sys.setswitchinterval(0.0005)
    run_production(main)


async def _one_at_a_time(node: RpcNode, address: str) -> float:
    """Microseconds a round trip."""
    count = 5000
    start = time.perf_counter()
    for _ in range(count):
        await node.call(address, "echo", Ping("x"), Ping, deadline_s=10)
    return (time.perf_counter() - start) / count * 1e6


async def _many_at_once(node: RpcNode, address: str) -> float:
    """Calls a second with 256 in flight."""
    in_flight, each = 256, 200

    async def caller() -> None:
        for _ in range(each):
            await node.call(address, "echo", Ping("x"), Ping, deadline_s=10)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return in_flight * each / (time.perf_counter() - start)


async def _stream(node: RpcNode, address: str) -> float:
    """Megabytes a second of 1 MiB messages."""
    messages = 1000
    body = bytes(1 << 20)
    start = time.perf_counter()
    async with await node.open_stream(address, "drain", Ping("x")) as stream:
        for _ in range(messages):
            await stream.send(body)
        await stream.finish()
        assert await stream.receive() is None
    return messages / (time.perf_counter() - start) * 1.048576


async def _beside_streams(node: RpcNode, address: str, streams: int) -> float:
    """The 99th percentile of a round trip in microseconds, while streams send all they can."""
    count = 1000
    times: list[float] = []
    body = bytes(1 << 20)

    async def send(stream: Stream) -> None:
        while len(times) < count:
            await stream.send(body)
        await stream.finish()
        assert await stream.receive() is None

    async with contextlib.AsyncExitStack() as stack:
        opened = [await node.open_stream(address, "drain", Ping("x")) for _ in range(streams)]
        for stream in opened:
            await stack.enter_async_context(stream)
        sending = asyncio.gather(*(send(stream) for stream in opened))
        while len(times) < count:
            start = time.perf_counter()
            await node.call(address, "echo", Ping("x"), Ping, deadline_s=10)
            times.append((time.perf_counter() - start) * 1e6)
        await sending
    return statistics.quantiles(times, n=100)[98]


MEASURES: dict[str, Callable[[RpcNode, str], Awaitable[float]]] = {
    "round trip, us": _one_at_a_time,
    "calls a second, 256 in flight": _many_at_once,
    "stream of 1 MiB messages, MB/s": _stream,
    "round trip beside a stream, p99, us": functools.partial(_beside_streams, streams=1),
    "round trip beside 16 streams, p99, us": functools.partial(_beside_streams, streams=16),
}


def measure() -> dict[str, float]:
    """Medians of `ROUNDS` rounds of each measure, over the socket and to oneself."""
    results: dict[str, float] = {}

    async def main(runtime: ProductionRuntime) -> None:
        node = _node(runtime)

        own = await node.start("127.0.0.1:0")
        for name, run in MEASURES.items():
            results[name] = statistics.median([await run(node, address) for _ in range(ROUNDS)])
        results["round trip to itself, us"] = statistics.median(
            [await _one_at_a_time(node, own) for _ in range(ROUNDS)]
        )
        await node.close()

    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    server.start()
    address = here.recv()
    run_production(main)
    here.send("end")
    server.join()
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    measured = measure()
    for name, value in measured.items():
        print(f"{name:35} {value:12,.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1))
