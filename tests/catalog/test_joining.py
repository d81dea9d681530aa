"""Who is not let in, and says so: a member of another cluster, version, or no node at all."""

from __future__ import annotations

import asyncio
import logging
import struct

import pytest
import uvloop

from catalog.joining import METHOD, Joined, JoinRequest, join_cluster
from cluster.errors import CannotConnectNow
from cluster.rpc import CallContext, HandshakeRefused, RpcNode
from cluster.rpc_handshake import MAGIC
from cluster.runtime import ProductionRuntime
from cluster.transport import TcpTransport

REQUEST = JoinRequest("join", "127.0.0.1:1", "127.0.0.1:2")


async def joining(runtime: ProductionRuntime, address: str, cluster_id: str = "") -> Joined:
    rpc = RpcNode(runtime, TcpTransport(), cluster_id=lambda: cluster_id, node_id=lambda: 0)
    await rpc.start("127.0.0.1:0")
    try:
        return await join_cluster(runtime, rpc, (address,), REQUEST, 2.0)
    finally:
        await rpc.close()


async def silent_server(answer: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def run(answer: bytes, words: str) -> None:
    async def main() -> None:
        runtime = ProductionRuntime()
        server = await silent_server(answer)
        port = server.sockets[0].getsockname()[1]
        try:
            with pytest.raises(HandshakeRefused, match=words):
                await joining(runtime, f"127.0.0.1:{port}")
        finally:
            server.close()
            await runtime.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_member_of_another_version_is_refused_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        run(MAGIC + struct.pack("<I", 99), "protocol version 99 met a node of version")
    assert any("protocol version 99" in record.getMessage() for record in caplog.records)


def test_what_is_no_node_is_refused_at_once() -> None:
    run(b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the protocol between dqe nodes")


def test_member_of_another_cluster_gives_no_identity() -> None:
    async def main() -> None:
        runtime = ProductionRuntime()
        member = RpcNode(runtime, TcpTransport(), cluster_id=lambda: "ours", node_id=lambda: 1)
        asked = []

        async def join(context: CallContext, request: JoinRequest, body: object) -> Joined:
            asked.append(request)
            return Joined("ours", 2, {})

        member.handle(METHOD, JoinRequest, join, before_join=True)
        address = await member.start("127.0.0.1:0")
        try:
            with pytest.raises(HandshakeRefused, match="met a node of cluster"):
                await joining(runtime, address, "theirs")
            assert not asked
            assert (await joining(runtime, address)).node_id == 2
        finally:
            await member.close()
            await runtime.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_member_that_goes_away_is_asked_again_until_the_deadline() -> None:
    async def main() -> None:
        runtime = ProductionRuntime()
        server = await silent_server(b"")
        port = server.sockets[0].getsockname()[1]
        try:
            with pytest.raises(CannotConnectNow, match="let this node in") as refused:
                await joining(runtime, f"127.0.0.1:{port}")
            assert "cannot be reached" in (refused.value.detail or "")
            assert "without --join" in (refused.value.hint or "")
        finally:
            server.close()
            await runtime.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
