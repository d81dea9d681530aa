"""The connecting end of RPC: one `Peer` an address, with a lazily made connection.

Each node connects to each peer it calls, and calls only over connections it made itself, to
an address it chose. (Calling back over a connection that came in would save a socket and
trust the address a stranger claims.) A peer has two lanes, two connections: streams and large
bodies take the bulk lane, so that a heartbeat never waits behind a table.

Invariants:
- Every call ends: by its answer, its deadline, its caller's cancellation, or the loss of the
  connection, whichever is first; the handler of a call that was given up is cancelled.
- CannotConnectNow: the request was never sent. AnswerLost (its subclass): it was, and may
  have been carried out.
- Notices are dropped and counted, never waited for.
- A connection with nothing heard for `SILENT_TICKS` while pings go out is ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from cluster.errors import AnswerLost, CannotConnectNow, DqeError
from cluster.rpc_frames import Frame, FrameDecoder, FrameError, FrameKind, encode_frame
from cluster.rpc_handshake import (
    HANDSHAKE_TIMEOUT_S,
    MAX_HELLO_BYTES,
    PREAMBLE_SIZE,
    HandshakeRefused,
    Hello,
    Welcome,
    check_preamble,
    cluster_refusal,
    preamble,
    version_refusal,
)
from cluster.rpc_stream import Stream, decode_error
from cluster.runtime import Runtime
from cluster.transport import Body, Connection, Transport

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
# Notices wait for a connection being made up to here; beyond they are dropped.
MAX_WAITING_NOTICES = 1000
# Notices are dropped while a connection holds more unsent bytes than this.
MAX_UNSENT_NOTICE_BYTES = 16 << 20
# After a failed connect, notices do not try again before a pause that doubles between these.
FIRST_BACKOFF_S = 0.05
LAST_BACKOFF_S = 1.0
# Counted in ticks, not on the clock: a node that was itself suspended hears nothing meanwhile
# and must not blame its peers.
TICK_S = 1.0
SILENT_TICKS = 10
# A connection over which nothing was asked or told for so long is closed; until then, once its
# last ping was answered, it costs nothing but its timer.
IDLE_TICKS = 60


class _Call(msgspec.Struct, frozen=True, gc=False):
    """A call in flight."""

    answer: asyncio.Future[Frame]
    timer: asyncio.TimerHandle


class ClientConnection:
    """One connection this node made: calls in flight, streams open, the handshake."""

    def __init__(
        self,
        runtime: Runtime,
        address: str,
        hello: Hello,
        on_lost: Callable[[str], None] = lambda address: None,
    ) -> None:
        self._runtime = runtime
        self._on_lost = on_lost
        self.address = address
        self.hello = hello
        self.welcome: Welcome | None = None
        self.closed = False
        self._retired = False
        self._connection: Connection | None = None
        self._decoder = FrameDecoder(MAX_HELLO_BYTES)
        self._greeting = b""
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next_id = 1
        self._calls: dict[int, _Call] = {}
        self._streams: dict[int, Stream] = {}
        self._resumed: asyncio.Future[None] | None = None
        self._silent_ticks = 0
        self._idle_ticks = 0
        self._tick_handle: asyncio.TimerHandle | None = None
        self.complained = False

    # What the transport says.

    def connected(self, connection: Connection) -> None:
        self._connection = connection
        hello = msgspec.msgpack.encode(self.hello)
        connection.send((preamble(), *encode_frame(FrameKind.HELLO, header=hello)))

    def received(self, data: bytes) -> None:
        self._silent_ticks = 0
        try:
            if self.welcome is None:
                self._receive_greeting(data)
            else:
                for frame in self._decoder.feed(data):
                    self._on_frame(frame)
        except (DqeError, msgspec.DecodeError) as error:
            logger.error("closing the connection to %s: %s", self.address, error)
            self._end(error)

    def write_paused(self) -> None:
        if self._resumed is None:
            self._resumed = asyncio.get_running_loop().create_future()

    def write_resumed(self) -> None:
        if self._resumed is not None:
            self._resumed.set_result(None)
            self._resumed = None

    def disconnected(self, error: Exception | None) -> None:
        was_open = self.welcome is not None and not self.closed
        self._end(error)
        if was_open:
            self._on_lost(self.address)

    # The handshake.

    async def greeted(self) -> None:
        """Returns when the peer has welcomed this node; raises HandshakeRefused, OSError."""
        self._tick_handle = self._runtime.call_later(TICK_S, self._tick)
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            await self._greeted

    def _receive_greeting(self, data: bytes) -> None:
        self._greeting += data
        if len(self._greeting) < PREAMBLE_SIZE:
            return
        try:
            version = check_preamble(self._greeting)
        except FrameError as error:
            raise HandshakeRefused(f"node at {self.address}: {error.message}") from error
        refusal = version_refusal(version)
        if refusal:
            raise HandshakeRefused(self._refused(refusal))
        frames = self._decoder.feed(self._greeting[PREAMBLE_SIZE:])
        self._greeting = self._greeting[:PREAMBLE_SIZE]
        if not frames:
            return
        self._on_welcome(frames[0])
        for frame in frames[1:]:
            self._on_frame(frame)

    def _on_welcome(self, frame: Frame) -> None:
        if frame.kind is not FrameKind.WELCOME:
            raise FrameError("handshake answered with something else")
        welcome = msgspec.msgpack.decode(frame.header, type=Welcome)
        refusal = welcome.refusal or cluster_refusal(self.hello.cluster_id, welcome.cluster_id)
        if refusal:
            raise HandshakeRefused(self._refused(refusal))
        self.welcome = welcome
        self._decoder.max_length = FrameDecoder().max_length
        if not self._greeted.done():
            self._greeted.set_result(None)

    def _refused(self, refusal: str) -> str:
        return f"node at {self.address} refused the connection: {refusal}"

    def _send(self, parts: tuple[Body, ...], *, lossy: bool = False) -> None:
        self._idle_ticks = 0
        if self._connection is not None and not self.closed:
            self._connection.send(parts, lossy=lossy)

    # Calls.

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._connection is None else self._connection.unsent_bytes

    @property
    def paused(self) -> bool:
        """Whether the connection asks to hold back."""
        return self._resumed is not None

    async def call(self, method: bytes, header: bytes, body: Body, deadline_s: float) -> Frame:
        """The REPLY frame; raises the peer's error, or AnswerLost."""
        call_id = self._next_id
        answer = self.ask(method, header, body, deadline_s)
        try:
            frame = await answer
        except asyncio.CancelledError:
            self._cancel(call_id)
            raise
        if frame.kind is FrameKind.ERROR:
            raise decode_error(frame.header)
        return frame

    def ask(
        self, method: bytes, header: bytes, body: Body, deadline_s: float
    ) -> asyncio.Future[Frame]:
        """The same without waiting: the answer to come, a REPLY or ERROR frame, or AnswerLost.

        The caller may set it, where he waits no longer; the handler is not told.
        """
        call_id = self._next_id
        parts = encode_frame(
            FrameKind.CALL,
            call_id,
            value=max(1, int(deadline_s * 1000)),  # 0 would be no deadline
            method=method,
            header=header,
            body=body,
        )
        self._next_id = call_id + 1
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        timer = self._runtime.call_later(deadline_s, self._expire, call_id, method, deadline_s)
        self._calls[call_id] = _Call(answer, timer)
        self._send(parts)
        return answer

    def _expire(self, call_id: int, method: bytes, deadline_s: float) -> None:
        call = self._calls.get(call_id)
        self._cancel(call_id)
        if call is not None and not call.answer.done():
            call.answer.set_exception(no_answer(self.address, method.decode(), deadline_s))

    def _cancel(self, call_id: int) -> None:
        call = self._calls.pop(call_id, None)
        if call is not None:
            call.timer.cancel()
            self._send(encode_frame(FrameKind.CANCEL, call_id))
            self._close_if_idle()

    def notify(self, method: bytes, header: bytes, body: Body) -> bool:
        """Sends a notice; False when too much is unsent already."""
        if self.unsent_bytes > MAX_UNSENT_NOTICE_BYTES:
            return False
        parts = encode_frame(FrameKind.NOTICE, method=method, header=header, body=body)
        self._send(parts, lossy=True)
        return True

    # Streams.

    def open_stream(self, method: bytes, header: bytes) -> Stream:
        """A stream whose handler starts at the peer; errors come with its first use."""
        parts = encode_frame(FrameKind.OPEN, self._next_id, method=method, header=header)
        stream = Stream(self, self._next_id, opener=True)
        self._streams[self._next_id] = stream
        self._next_id += 1
        self._send(parts)
        return stream

    def send_stream_frame(
        self,
        kind: FrameKind,
        stream_id: int,
        *,
        value: int = 0,
        flags: int = 0,
        header: bytes = b"",
        body: Body = b"",
    ) -> None:
        self._send(
            encode_frame(kind, stream_id, value=value, flags=flags, header=header, body=body)
        )

    async def writable(self) -> None:
        while self._resumed is not None:
            await asyncio.shield(self._resumed)

    def forget_stream(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        self._close_if_idle()

    # Frames that came in.

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind is FrameKind.REPLY or frame.kind is FrameKind.ERROR:
            call = self._calls.pop(frame.id, None)
            if call is None:
                self._check_known(frame)
            else:
                call.timer.cancel()
                if not call.answer.done():
                    call.answer.set_result(frame)
            if self._retired:
                self._close_if_idle()
        elif FrameKind.DATA <= frame.kind <= FrameKind.CREDIT:
            stream = self._streams.get(frame.id)
            if stream is None:
                self._check_known(frame)
            else:
                stream.on_frame(frame)
        elif frame.kind is not FrameKind.PONG:
            raise FrameError(f"unexpected frame {frame.kind.name}")

    def _check_known(self, frame: Frame) -> None:
        """An id given up is no offence, one never given out is."""
        if frame.id >= self._next_id:
            raise FrameError(f"{frame.kind.name} for an id that was never given out")

    # The end.

    def _tick(self) -> None:
        self._idle_ticks = 0 if self._calls or self._streams else self._idle_ticks + 1
        if self._idle_ticks > 1 and self._silent_ticks == 0:
            self._rest()
            return
        self._silent_ticks += 1
        if self._silent_ticks > SILENT_TICKS:
            logger.warning("closing the connection to %s: it is silent", self.address)
            self._end(None)
            return
        if self.welcome is not None and self._connection is not None:
            self._connection.send(encode_frame(FrameKind.PING))
        self._tick_handle = self._runtime.call_later(TICK_S, self._tick)

    def _rest(self) -> None:
        """Nothing was sent, and all pings are answered: no need to know whether it still lives."""
        if self._idle_ticks > IDLE_TICKS:
            self._end(None)
        else:
            self._tick_handle = self._runtime.call_later(TICK_S, self._tick)

    def retire(self) -> None:
        """Takes no more calls; closes when those in flight and open streams have ended."""
        self._retired = True
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._retired and not self._calls and not self._streams:
            self._end(None)

    def close(self) -> None:
        """Ends the connection now."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        if self._connection is not None:
            self._connection.abort()
        self.write_resumed()
        if not self._greeted.done():
            self._greeted.set_exception(error or ConnectionError("connection closed"))
            # Marked as seen: where connecting already failed, nobody asks for it any more.
            self._greeted.exception()
        lost = lost_connection(self.address, error)
        for call in self._calls.values():
            call.timer.cancel()
            if not call.answer.done():
                call.answer.set_exception(lost)
        for stream in self._streams.values():
            stream.fail(lost)
        self._calls.clear()
        self._streams.clear()


def lost_connection(address: str, error: Exception | None) -> AnswerLost:
    """The error of calls and streams whose connection ended under them."""
    detail = str(error) if error is not None and str(error) else None
    return AnswerLost(f"connection to node at {address} was lost", detail=detail)


def no_answer(address: str, method: str, deadline_s: float) -> AnswerLost:
    """The error of a call whose deadline passed."""
    return AnswerLost(
        f"node at {address} did not answer within {deadline_s:g} s", detail=f"Request: {method}."
    )


# Method, header, body, and whether any node may have it.
Notice: TypeAlias = tuple[bytes, bytes, Body, bool]


class Peer:
    """One lane to one address: makes its connection when first needed and again when lost."""

    def __init__(
        self,
        runtime: Runtime,
        transport: Transport,
        address: str,
        hello: Callable[[], Hello],
        on_lost: Callable[[str], None] = lambda address: None,
        node_at: Callable[[str], int] = lambda address: 0,
    ) -> None:
        """`node_at` says which node is thought to listen at an address, 0 where that is open."""
        self._runtime = runtime
        self._on_lost = on_lost
        self._node_at = node_at
        self._transport = transport
        self._address = address
        self._hello = hello
        self._connection: ClientConnection | None = None
        self._connecting: asyncio.Task[ClientConnection | CannotConnectNow] | None = None
        self._waiting_notices: deque[Notice] = deque()
        self._backoff_s = 0.0
        self._retry_at_s = 0.0
        self.dropped_notices = 0

    def connection(self) -> ClientConnection | None:
        """The connection if there is one now."""
        connection = self._connection
        if connection is None or connection.closed:
            return None
        if not connection.hello.cluster_id and self._hello().cluster_id:
            # Greeted before this node joined its cluster: that connection stays limited.
            connection.retire()
            self._connection = None
            return None
        return connection

    async def connect(self, deadline_s: float) -> ClientConnection:
        """A connection, made if need be; raises CannotConnectNow naming the address."""
        connection = self.connection()
        if connection is not None:
            return connection
        try:
            async with asyncio.timeout(deadline_s):
                # Shielded: others may wait for the same attempt.
                outcome = await asyncio.shield(self._attempt())
        except TimeoutError as error:
            raise CannotConnectNow(
                f"node at {self._address} cannot be reached",
                detail=f"No connection within {deadline_s:g} s.",
            ) from error
        if isinstance(outcome, CannotConnectNow):
            raise outcome
        return outcome

    def check_node(self, connection: ClientConnection) -> None:
        """Raises CannotConnectNow where another node answers than is thought to be there.

        A request meant for one node must not be carried out by another, however honest.
        """
        expected = self._node_at(self._address)
        found = connection.welcome.node_id if connection.welcome is not None else 0
        if not expected or not found or expected == found:
            return
        error = CannotConnectNow(
            f"node {expected} cannot be reached",
            detail=f"At its address {self._address} answers node {found}.",
        )
        if not connection.complained:
            connection.complained = True
            logger.error("%s: %s", error.message, error.detail)
        raise error

    def notify(self, method: bytes, header: bytes, body: Body, *, any_node: bool) -> None:
        """Sends a notice, keeps it while a connection is made, or drops and counts it.

        With `any_node` it goes to whoever answers at the address.
        """
        connection = self.connection()
        if connection is not None:
            self._send_notice(connection, (method, header, body, any_node))
            return
        connecting = self._connecting is not None and not self._connecting.done()
        if not connecting and self._runtime.monotonic() < self._retry_at_s:
            self.dropped_notices += 1
            return
        if len(self._waiting_notices) >= MAX_WAITING_NOTICES:
            self._waiting_notices.popleft()
            self.dropped_notices += 1
        self._waiting_notices.append((method, header, body, any_node))
        self._attempt()

    def notify_now(self, method: bytes, header: bytes) -> bool:
        """Sends a notice over the connection that there is; whether it went out."""
        connection = self.connection()
        return connection is not None and self._send_notice(
            connection, (method, header, b"", False)
        )

    def _send_notice(self, connection: ClientConnection, notice: Notice) -> bool:
        method, header, body, any_node = notice
        try:
            if not any_node:
                self.check_node(connection)
        except CannotConnectNow:
            self.dropped_notices += 1
            return False
        sent = connection.notify(method, header, body)
        self.dropped_notices += not sent
        return sent

    def _attempt(self) -> asyncio.Task[ClientConnection | CannotConnectNow]:
        if self._connecting is None or self._connecting.done():
            self._connecting = self._runtime.spawn(self._try_connect(), f"connect {self._address}")
        return self._connecting

    async def _try_connect(self) -> ClientConnection | CannotConnectNow:
        connection = ClientConnection(self._runtime, self._address, self._hello(), self._on_lost)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._transport.connect(self._address, connection)
            await connection.greeted()
        except (OSError, TimeoutError, DqeError) as error:
            return self._cannot_connect(connection, error)
        self._backoff_s = 0.0
        self._connection = connection
        for notice in self._waiting_notices:
            self._send_notice(connection, notice)
        self._waiting_notices.clear()
        return connection

    def _cannot_connect(self, connection: ClientConnection, error: Exception) -> CannotConnectNow:
        connection.close()
        self.dropped_notices += len(self._waiting_notices)
        self._waiting_notices.clear()
        self._backoff_s = min(max(self._backoff_s * 2, FIRST_BACKOFF_S), LAST_BACKOFF_S)
        self._retry_at_s = self._runtime.monotonic() + self._backoff_s
        if isinstance(error, HandshakeRefused):
            return error
        if isinstance(error, ConnectionRefusedError):
            self._on_lost(self._address)
        return CannotConnectNow(
            f"node at {self._address} cannot be reached",
            detail=str(error) or type(error).__name__,
        )

    async def close(self) -> None:
        """Ends the connection and any attempt to make one."""
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()
