"""Byte connections between nodes: the small face that TCP and the simulated network share.

The RPC layer above deals in frames; a transport only moves bytes. `Connection.send` takes the
parts of one frame, so a large body is handed to the kernel without being copied, and all
frames of one loop turn leave in one write. A frame sent as `lossy` is one whose loss or
repetition the protocol above bears (Raft's messages); TCP ignores the word, the simulated
network makes use of it.

Invariants:
- Bytes arrive in order and exactly once, or the connection ends with `disconnected`.
- `disconnected` is called exactly once for each `connected`.

Left out: TLS (it comes with security, and needs nothing here but a context).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, cast

from cluster.errors import InvalidParameterValue

Body: TypeAlias = bytes | bytearray | memoryview

# Above the high mark a connection tells its owner to hold back, below the low mark to go on.
WRITE_HIGH_BYTES = 1 << 20
WRITE_LOW_BYTES = 1 << 18
# Frames below this are joined into one buffer before they are given to the kernel.
JOIN_BELOW_BYTES = 16 << 10


class Connection(Protocol):
    """One open connection, as its owner uses it."""

    @property
    def peer_name(self) -> str:
        """The other end, for messages."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """What `send` took and the kernel has not."""
        ...

    def send(self, parts: Sequence[Body], *, lossy: bool = False) -> None:
        """Queues one frame; the parts must not change afterwards."""
        ...

    def pause_reading(self) -> None:
        """Takes no more bytes from the peer until `resume_reading`."""
        ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        """Sends what is queued, then ends the connection."""
        ...

    def abort(self) -> None:
        """Ends the connection at once."""
        ...


class ConnectionEvents(Protocol):
    """What a connection tells its owner."""

    def connected(self, connection: Connection) -> None: ...

    def received(self, data: bytes) -> None: ...

    def write_paused(self) -> None: ...

    def write_resumed(self) -> None: ...

    def disconnected(self, error: Exception | None) -> None: ...


class Listener(Protocol):
    """An open listening address."""

    @property
    def address(self) -> str:
        """The address with the port that was really taken."""
        ...

    async def close(self) -> None:
        """Accepts no more; connections already made live on."""
        ...


class Transport(Protocol):
    """Makes connections."""

    async def connect(self, address: str, events: ConnectionEvents) -> Connection:
        """A connection, `events.connected` already called; raises OSError."""
        ...

    async def listen(self, address: str, accept: Callable[[], ConnectionEvents]) -> Listener:
        """Calls `accept` for each connection that comes in; raises OSError."""
        ...


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port"; raises InvalidParameterValue."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InvalidParameterValue(
            f'invalid address: "{address}"', hint="An address is written host:port."
        )
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class TcpConnection(asyncio.Protocol):
    """A TCP connection; gathers the frames of one loop turn into one write."""

    def __init__(self, events: ConnectionEvents) -> None:
        self._events = events
        self._peer_name = "unknown"
        self._queue: list[Body] = []
        self._queued_bytes = 0

    @property
    def peer_name(self) -> str:
        return self._peer_name

    @property
    def unsent_bytes(self) -> int:
        return self._queued_bytes + self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self._peer_name = join_address(name[0], name[1])
        opened: socket.socket | None = transport.get_extra_info("socket")
        if opened is not None:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._events.connected(self)

    def data_received(self, data: bytes) -> None:
        self._events.received(data)

    def pause_writing(self) -> None:
        self._events.write_paused()

    def resume_writing(self) -> None:
        self._events.write_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._queue.clear()
        self._events.disconnected(exc)

    def send(self, parts: Sequence[Body], *, lossy: bool = False) -> None:
        if not self._queue:
            self._loop.call_soon(self._flush)
        self._queue.extend(parts)
        for part in parts:
            self._queued_bytes += len(part)

    def _flush(self) -> None:
        queue, self._queue = self._queue, []
        total, self._queued_bytes = self._queued_bytes, 0
        if not queue or self._transport.is_closing():
            return
        if len(queue) == 1:
            self._transport.write(queue[0])
        elif total <= JOIN_BELOW_BYTES:
            self._transport.write(b"".join(queue))
        else:
            self._transport.writelines(queue)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._queue.clear()
        self._transport.abort()


class TcpListener:
    """A listening TCP socket."""

    def __init__(self, server: asyncio.Server, address: str) -> None:
        self._server = server
        self._address = address

    @property
    def address(self) -> str:
        return self._address

    async def close(self) -> None:
        # Not wait_closed: since Python 3.12 that waits for every connection to end as well.
        self._server.close()


class TcpTransport:
    """TCP over the running event loop."""

    async def connect(self, address: str, events: ConnectionEvents) -> Connection:
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: TcpConnection(events), host, port)
        return connection

    async def listen(self, address: str, accept: Callable[[], ConnectionEvents]) -> Listener:
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: TcpConnection(accept()), host, port)
        return TcpListener(server, join_address(host, server.sockets[0].getsockname()[1]))
