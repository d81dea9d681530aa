"""A client that is not there: messages for a node's wire server, as if a socket had brought them.

So a statement costs a node what it costs beside the kernel. All figures are processor time of the
loop's thread; while an answer is waited for, the loop turns, which counts.
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from cluster.runtime import ProductionRuntime
from dqe.configuration import NodeConfiguration
from dqe.local_cluster import HOST, free_port
from dqe.node import Node
from dqe.wire.transport import ClientTransport
from executor.session import Session

_STARTUP = struct.pack("!i", 196608) + b"user\0dqe\0database\0dqe\0\0"
_READY = b"Z\0\0\0\5"


class Sink:
    """The transport under the client: counts its answers, each with its ReadyForQuery."""

    def __init__(self) -> None:
        self.answers = 0
        self.last = b""

    def write(self, data: bytes) -> None:
        self.last = bytes(data)
        self.answers += self.last[-6:-1] == _READY

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.write(b"".join(pieces))

    def get_extra_info(self, name: str) -> Any:
        return (HOST, 0) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""


class WireClient:
    """A connection with prepared statements, by name; use `connected`."""

    def __init__(self, node: Node) -> None:
        self._sink = Sink()
        self.transport = ClientTransport(node._server._accept)  # type: ignore[attr-defined]
        self.transport.connection_made(cast(asyncio.Transport, self._sink))

    async def start(self, statements: Mapping[str, str]) -> None:
        """Logs in and prepares the statements."""
        self.transport.data_received(struct.pack("!i", len(_STARTUP) + 4) + _STARTUP)
        while not self._sink.answers:
            await asyncio.sleep(0.01)
        for name, sql in statements.items():
            parse = message("P", name.encode() + b"\0" + sql.encode() + b"\0\0\0")
            await self.spent_s(parse + message("S", b""))

    async def spent_s(self, packet: bytes) -> float:
        """Sends it; what it cost until its answer was there. Raises for an error."""
        sink, began = self._sink, time.thread_time()
        before = sink.answers
        self.transport.data_received(packet)
        while sink.answers == before:
            await asyncio.sleep(0)
        spent_s = time.thread_time() - began
        if b"SERROR\0" in sink.last:
            raise RuntimeError(sink.last.decode(errors="replace"))
        return spent_s

    async def close(self) -> None:
        self.transport.connection_lost(None)
        await asyncio.sleep(0)


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def prepared(name: str, values: Sequence[object]) -> bytes:
    """What libpq sends to execute a prepared statement."""
    texts = [str(value).encode() for value in values]
    given = b"".join(struct.pack("!i", len(text)) + text for text in texts)
    bind = b"\0" + name.encode() + b"\0\0\0" + struct.pack("!h", len(texts)) + given
    rest = (("D", b"P\0"), ("E", b"\0\0\0\0\0"), ("S", b""))
    bound = message("B", bind + b"\0\1\0\0")
    return bound + b"".join(message(*each) for each in rest)


def simple(sql: str, values: Sequence[object]) -> bytes:
    """The same as a query string, with the values in it."""
    for number, value in enumerate(values, 1):
        sql = sql.replace(f"${number}", str(value))
    return message("Q", sql.encode() + b";\0")


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[Node, Node]]:
    runtime = ProductionRuntime()
    with tempfile.TemporaryDirectory(prefix="dqe-budget-", ignore_cleanup_errors=True) as path:
        nodes: list[Node] = []
        try:
            for number in (1, 2):
                configuration = NodeConfiguration(
                    Path(path) / f"node{number}",
                    listen=f"{HOST}:{free_port()}",
                    pg=f"{HOST}:{free_port()}",
                    join=(nodes[0].rpc_address,) if nodes else (),
                    memory_limit_mib=256,
                    threads=1,
                )
                nodes.append(Node(configuration, runtime))
                await nodes[-1].start()
            yield nodes[0], nodes[1]
        finally:
            for node in reversed(nodes):
                await node.stop()
            await runtime.close()


def session_of(node: Node) -> Session:
    """A session without a wire."""
    return Session(node.parts.services, node.parts.coordinator, user="dqe")
