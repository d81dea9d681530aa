"""One client's socket: bytes in become messages, bytes out are buffered, both bounded.

A client that sends faster than it is served is stopped by `pause_reading` at
`MAX_QUEUED_BYTES`; one that reads slower than it is answered holds `drain` back.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

from cluster.errors import DqeError
from dqe.wire.messages import FrontendDecoder, FrontendMessage, StartupDecoder

MAX_QUEUED_BYTES = 4 << 20
FLUSH_BYTES = 64 << 10
OUTPUT_HIGH_WATER_BYTES = 1 << 20


class ClientTransport(asyncio.Protocol):
    """The asyncio end of a connection; `on_connect` starts the loop that serves it."""

    def __init__(self, on_connect: Callable[[ClientTransport], None]) -> None:
        self._on_connect = on_connect
        self._startup: StartupDecoder | None = StartupDecoder()
        self._decoder = FrontendDecoder()
        self._startup_packets: deque[tuple[int, bytes]] = deque()
        self._messages: deque[FrontendMessage] = deque()
        self._queued_bytes = 0
        self._reading_paused = False
        self._failure: DqeError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._pending: list[bytes | memoryview] = []
        self._pending_bytes = 0
        self._transport: asyncio.Transport | None = None
        self.closed = False
        self.on_lost: Callable[[], None] | None = None
        # Called when messages have come while `next_message` waits: whether it has answered the
        # first of them and taken it; or it holds the connection for that.
        self.answer_now: Callable[[], bool] | None = None
        self._held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=OUTPUT_HIGH_WATER_BYTES)
        raw = self._transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._on_connect(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._wake()
        self._writable.set()
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._failure is not None:
            return
        try:
            self._decode(data)
        except DqeError as error:
            self._failure = error
        if not self._held:
            self._have_taken()

    def _have_taken(self) -> None:
        """Has what has come answered at once, or taken by who waits for it."""
        if self._waiter is not None and not self._waiter.done() and self.answer_now is not None:
            while self._messages and self.answer_now():
                pass
        if self._held:
            return
        if self._messages or self._startup_packets or self._failure is not None:
            self._wake()

    def hold(self) -> None:
        """The first of the messages ahead waits for its answer, which needs no task: nothing is
        taken before `release`."""
        self._held = True

    def release(self, *, answered: bool) -> None:
        """It was answered and taken; or else is to be taken by who waits for messages."""
        self._held = False
        if answered:
            self._have_taken()
        else:
            self._wake()

    def _decode(self, data: bytes) -> None:
        if self._startup is not None:
            packet = self._startup.feed(data)
            if packet is None:
                return
            code, body, rest = packet
            self._startup_packets.append((code, body))
            if rest:
                self._early = rest
            return
        for message in self._decoder.feed(data):
            self._messages.append(message)
            self._queued_bytes += len(message.body)
        if self._queued_bytes > MAX_QUEUED_BYTES and not self._reading_paused:
            assert self._transport is not None
            self._transport.pause_reading()
            self._reading_paused = True

    _early: bytes = b""

    def end_startup(self) -> None:
        """From here on messages are typed; bytes that came early are read as such."""
        self._startup = None
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def restart_startup(self) -> None:
        """Another first packet follows (after a refused encryption request)."""
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    async def next_startup_packet(self) -> tuple[int, bytes] | None:
        """(code, body) of the first packet; None when the client left."""
        while not self._startup_packets:
            if self._failure is not None:
                raise self._failure
            if self.closed:
                return None
            await self._wait()
        return self._startup_packets.popleft()

    @property
    def ahead(self) -> deque[FrontendMessage]:
        """The messages that have come and were not taken yet; `take` them, change nothing."""
        return self._messages

    def take(self, count: int) -> None:
        """Drops the first of them."""
        for _ in range(count):
            self._taken(self._messages.popleft())

    async def next_message(self) -> FrontendMessage | None:
        """The next message in order; None when the client left."""
        messages = self._messages
        while self._held or not messages:
            if self._failure is not None and not self._held:
                raise self._failure
            if self.closed:
                return None
            await self._wait()
        message = messages.popleft()
        self._taken(message)
        return message

    def _taken(self, message: FrontendMessage) -> None:
        self._queued_bytes -= len(message.body)
        if self._reading_paused and self._queued_bytes < MAX_QUEUED_BYTES // 2:
            self._reading_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    @property
    def next_is_sync(self) -> bool:
        """Whether a Sync is the next message and has come already."""
        return bool(self._messages) and self._messages[0].type == ord("S")

    async def _wait(self) -> None:
        """Until something has come; only the task that serves the connection waits."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def write(self, data: bytes | memoryview) -> None:
        """Queues bytes; they leave at `flush`, or by themselves when many have gathered."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._pending and self._transport is not None and not self.closed:
            # One small write costs less than several gathered by the system.
            if self._pending_bytes < FLUSH_BYTES:
                self._transport.write(b"".join(self._pending))
            else:
                self._transport.writelines(self._pending)
        self._pending = []
        self._pending_bytes = 0

    async def drain(self) -> None:
        """Waits until the client has taken enough of what was written."""
        if not self._writable.is_set():
            await self._writable.wait()

    def peer_host(self) -> str:
        assert self._transport is not None
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else "local"

    def close(self) -> None:
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
