"""The accepting end of RPC: runs handlers for what one peer sends over one connection.

Each call and each stream gets a task; a notice is handled in place, in order. Whatever the
handler raises goes back as an error frame: a DqeError as itself, anything else as
InternalError with its text, logged here with its traceback.

Invariants:
- A connection whose bytes break the protocol is closed and logged; other connections and
  the handlers of other peers notice nothing.
- When a connection ends, or the peer gives a call up, its handlers are cancelled.
- At most `MAX_REQUESTS` handlers run for one connection; further calls are refused.
- A peer that does not read its replies is not read from either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from cluster.errors import (
    AnswerLost,
    CannotConnectNow,
    DqeError,
    InternalError,
    ObjectNotInPrerequisiteState,
    ProtocolViolation,
    TooManyConnections,
    UndefinedFunction,
)
from cluster.rpc_frames import Frame, FrameDecoder, FrameError, FrameKind, encode_frame
from cluster.rpc_handshake import (
    HANDSHAKE_TIMEOUT_S,
    MAX_HELLO_BYTES,
    PREAMBLE_SIZE,
    Hello,
    Welcome,
    check_preamble,
    cluster_refusal,
    have_joined,
    preamble,
    version_refusal,
)
from cluster.rpc_stream import Stream
from cluster.runtime import Runtime
from cluster.transport import Body, Connection

logger = logging.getLogger(__name__)

# Handlers running for one connection.
MAX_REQUESTS = 20_000
# How long a stopping node waits for cancelled handlers.
STOP_TIMEOUT_S = 5.0
NO_DEADLINE = float("inf")


class CallContext(msgspec.Struct, frozen=True, gc=False):
    """What a handler may know of its caller; `expires_s` is on the runtime's monotonic clock."""

    runtime: Runtime
    peer_node_id: int
    peer_address: str
    expires_s: float

    def remaining_s(self) -> float:
        """How long the caller still waits; the deadline for calls made on its behalf."""
        return max(0.0, self.expires_s - self.runtime.monotonic())


Reply = msgspec.Struct | tuple[msgspec.Struct, Body]
CallHandler = Callable[[CallContext, Any, bytes | memoryview], Awaitable[Reply]]
NoticeHandler = Callable[[CallContext, Any, bytes | memoryview], None]
StreamHandler = Callable[[CallContext, Any, Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method; exactly one of the three kinds of handler is set."""

    name: str
    decoder: msgspec.msgpack.Decoder[Any]
    before_join: bool
    call: CallHandler | None = None
    # Tried before `call`, in place.
    at_once: Callable[[Any], msgspec.Struct | None] | None = None
    notice: NoticeHandler | None = None
    stream: StreamHandler | None = None


class Identity(Protocol):
    """The accepting node as its connections need it."""

    def cluster_id(self) -> str: ...

    def node_id(self) -> int: ...

    @property
    def is_starting(self) -> bool: ...


def unknown_request(identity: Identity, name: str) -> DqeError:
    """What to answer to a request that has no handler here, or none yet."""
    if identity.is_starting:
        return CannotConnectNow(f"node {identity.node_id()} is starting up")
    return UndefinedFunction(f'node does not know the request "{name}"')


class ServerConnection:
    """One connection that came in."""

    def __init__(
        self,
        runtime: Runtime,
        identity: Identity,
        methods: Mapping[bytes, Method],
        open_connections: dict[ServerConnection, None],
    ) -> None:
        self._runtime = runtime
        self._identity = identity
        self._methods = methods
        self._open_connections = open_connections
        self._decoder = FrameDecoder(MAX_HELLO_BYTES)
        self._greeting = b""
        self._peer: Hello | None = None
        self._closed = False
        self._last_id = 0
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, Stream] = {}
        self._given_up: dict[int, None] = {}
        self._resumed: asyncio.Future[None] | None = None
        self._have_joined = False  # both ends belong to one cluster, which stays so
        self._of_notices: CallContext | None = None

    # What the transport says.

    def connected(self, connection: Connection) -> None:
        self._connection = connection
        self._timeout = self._runtime.call_later(HANDSHAKE_TIMEOUT_S, self._no_greeting)
        self._open_connections[self] = None

    def received(self, data: bytes) -> None:
        if self._closed:
            return
        try:
            if self._peer is None:
                self._receive_greeting(data)
            else:
                for frame in self._decoder.feed(data):
                    self._on_frame(frame)
        except (DqeError, msgspec.DecodeError) as error:
            logger.error("closing the connection from %s: %s", self._connection.peer_name, error)
            self._end()

    def write_paused(self) -> None:
        if self._resumed is None and not self._closed:
            self._resumed = asyncio.get_running_loop().create_future()
            self._connection.pause_reading()

    def write_resumed(self) -> None:
        if self._resumed is not None:
            self._resumed.set_result(None)
            self._resumed = None
            if not self._closed:
                self._connection.resume_reading()

    def disconnected(self, error: Exception | None) -> None:
        self._end()

    # The handshake.

    def _no_greeting(self) -> None:
        if self._peer is None and not self._closed:
            logger.warning("closing the connection from %s: no handshake", self.peer_name)
            self._end()

    @property
    def peer_name(self) -> str:
        """The peer's address as the transport knows it."""
        return self._connection.peer_name

    def _receive_greeting(self, data: bytes) -> None:
        self._greeting += data
        if len(self._greeting) < PREAMBLE_SIZE:
            return
        refusal = version_refusal(check_preamble(self._greeting))
        if refusal:
            self._refuse(refusal)
            return
        frames = self._decoder.feed(self._greeting[PREAMBLE_SIZE:])
        self._greeting = self._greeting[:PREAMBLE_SIZE]
        if not frames:
            return
        if frames[0].kind is not FrameKind.HELLO:
            raise FrameError("connection did not begin with a handshake")
        self._on_hello(msgspec.msgpack.decode(frames[0].header, type=Hello))
        for frame in frames[1:]:
            self._on_frame(frame)

    def _on_hello(self, hello: Hello) -> None:
        refusal = cluster_refusal(self._identity.cluster_id(), hello.cluster_id)
        if refusal:
            self._refuse(refusal)
            return
        self._timeout.cancel()
        self._peer = hello
        self._decoder.max_length = FrameDecoder().max_length
        self._greet("")

    def _refuse(self, refusal: str) -> None:
        logger.error("refused the connection from %s: %s", self.peer_name, refusal)
        self._greet(refusal)
        self._end(flush=True)

    def _greet(self, refusal: str) -> None:
        welcome = Welcome(self._identity.cluster_id(), self._identity.node_id(), refusal)
        frame = encode_frame(FrameKind.WELCOME, header=msgspec.msgpack.encode(welcome))
        self._connection.send((preamble(), *frame))

    # Frames that came in.

    def _on_frame(self, frame: Frame) -> None:
        if self._closed:
            return
        kind = frame.kind
        if kind is FrameKind.CALL or kind is FrameKind.OPEN:
            self._on_request(frame)
        elif kind is FrameKind.NOTICE:
            self._on_notice(frame)
        elif FrameKind.DATA <= kind <= FrameKind.CREDIT:
            self._on_stream_frame(frame)
        elif kind is FrameKind.CANCEL:
            self._on_cancel(frame.id)
        elif kind is FrameKind.PING:
            self._connection.send(encode_frame(FrameKind.PONG))
        else:
            raise FrameError(f"unexpected frame {kind.name}")

    def _on_request(self, frame: Frame) -> None:
        if frame.id <= self._last_id:
            raise FrameError("request id used twice")
        self._last_id = frame.id
        is_stream = frame.kind is FrameKind.OPEN
        try:
            method = self._method(frame)
            if (method.stream is None) if is_stream else (method.call is None):
                raise ProtocolViolation(f'"{method.name}" is not called in this way')
            if len(self._tasks) >= MAX_REQUESTS:
                raise TooManyConnections("too many requests are running for this node")
            request = _decode(method, frame.header)
            if method.at_once is not None and self._answered(method.at_once, request, frame.id):
                return
        except DqeError as error:
            kind = FrameKind.ABORT if is_stream else FrameKind.ERROR
            self._send_error(kind, frame.id, error)
            return
        self._start(frame, method, request)

    def _answered(
        self, at_once: Callable[[Any], msgspec.Struct | None], request: Any, call_id: int
    ) -> bool:
        """Answers in place, if that can be; raises the handler's error."""
        try:
            reply = at_once(request)
        except Exception as error:
            raise as_dqe_error(error) from error
        if reply is not None:
            self._send_reply(call_id, reply)
        return reply is not None

    def _start(self, frame: Frame, method: Method, request: Any) -> None:
        if method.stream is not None:
            stream = Stream(self, frame.id, opener=False)
            self._streams[frame.id] = stream
            run = self._run_stream(stream, method.stream, self._context(0), request, frame.id)
        else:
            assert method.call is not None
            context = self._context(frame.value)
            run = self._run_call(method.call, context, request, frame.body, frame.id)
        self._tasks[frame.id] = self._runtime.spawn(run, method.name)

    def _method(self, frame: Frame) -> Method:
        method = self._methods.get(frame.method)
        if method is None:
            name = frame.method.decode(errors="replace")
            raise unknown_request(self._identity, name)
        if not (self._have_joined or method.before_join or self._joined()):
            raise ObjectNotInPrerequisiteState(
                f'request "{method.name}" is served to nodes of one cluster only',
                detail="One of the two nodes has not joined a cluster yet.",
            )
        return method

    def _joined(self) -> bool:
        assert self._peer is not None
        self._have_joined = have_joined(self._identity.cluster_id(), self._peer.cluster_id)
        return self._have_joined

    def _context(self, deadline_ms: int) -> CallContext:
        assert self._peer is not None
        expires_s = NO_DEADLINE
        if deadline_ms:
            expires_s = self._runtime.monotonic() + deadline_ms / 1000
        return CallContext(self._runtime, self._peer.node_id, self._peer.address, expires_s)

    def _on_notice(self, frame: Frame) -> None:
        try:
            method = self._method(frame)
            if method.notice is None:
                raise ProtocolViolation(f'"{method.name}" is not called in this way')
            request = _decode(method, frame.header)
            if self._of_notices is None:
                self._of_notices = self._context(0)
            method.notice(self._of_notices, request, frame.body)
        except DqeError as error:
            logger.warning("notice from %s dropped: %s", self.peer_name, error)
        except Exception:
            # The driver of foreign code: a handler's bug must not end the peer's connection.
            logger.exception("notice from %s failed", self.peer_name)

    def _on_stream_frame(self, frame: Frame) -> None:
        stream = self._streams.get(frame.id)
        if stream is None:
            if frame.id > self._last_id:
                raise FrameError("stream frame for a stream that was never opened")
            return
        heard = stream.waiting
        stream.on_frame(frame)
        if frame.kind is FrameKind.ABORT and not heard:
            # The handler waits for something else; an error from the stream would come late.
            self._on_cancel(frame.id)

    def _on_cancel(self, request_id: int) -> None:
        task = self._tasks.get(request_id)
        if task is not None:
            self._given_up[request_id] = None
            task.cancel()

    # Running handlers.

    async def _run_call(
        self,
        handler: CallHandler,
        context: CallContext,
        request: Any,
        body: bytes | memoryview,
        call_id: int,
    ) -> None:
        try:
            reply = await handler(context, request, body)
            self._send_reply(call_id, reply)
        except asyncio.CancelledError:
            if call_id not in self._given_up:
                self._send_error(FrameKind.ERROR, call_id, AnswerLost("node is stopping"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller has to hear of it
            self._send_error(FrameKind.ERROR, call_id, as_dqe_error(error))
        finally:
            self._forget_request(call_id)

    def _send_reply(self, call_id: int, reply: Reply) -> None:
        header, body = reply if isinstance(reply, tuple) else (reply, b"")
        encoded = msgspec.msgpack.encode(header)
        self._send(encode_frame(FrameKind.REPLY, call_id, header=encoded, body=body))

    async def _run_stream(
        self,
        stream: Stream,
        handler: StreamHandler,
        context: CallContext,
        request: Any,
        stream_id: int,
    ) -> None:
        try:
            await handler(context, request, stream)
            stream.end_of_handler()
        except asyncio.CancelledError:
            stream.abort(AnswerLost("node is stopping"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the opener has to hear of it
            stream.abort(as_dqe_error(error))
        finally:
            self._forget_request(stream_id)

    def _forget_request(self, request_id: int) -> None:
        self._tasks.pop(request_id, None)
        self._given_up.pop(request_id, None)
        self._streams.pop(request_id, None)

    def _send_error(self, kind: FrameKind, request_id: int, error: DqeError) -> None:
        fields = msgspec.msgpack.encode(error.to_fields())
        self._send(encode_frame(kind, request_id, header=fields))

    def _send(self, parts: tuple[Body, ...]) -> None:
        if not self._closed:
            self._connection.send(parts)

    # The channel of this connection's streams.

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

    # The end.

    async def close(self) -> None:
        """Cancels the handlers, which answer that the node stops, and ends the connection."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.gather(*tasks, return_exceptions=True)
        except TimeoutError:
            logger.warning("%d handlers did not stop", sum(not task.done() for task in tasks))
        self._end(flush=True)

    def _end(self, *, flush: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        self._timeout.cancel()
        self.write_resumed()
        if flush:
            self._connection.close()
        else:
            self._connection.abort()
        lost = AnswerLost(f"connection from node at {self.peer_name} was lost")
        for stream in list(self._streams.values()):
            stream.fail(lost)
        for request_id in list(self._tasks):
            self._on_cancel(request_id)
        del self._open_connections[self]


def _decode(method: Method, header: bytes) -> Any:
    try:
        return method.decoder.decode(header)
    except msgspec.DecodeError as error:
        raise ProtocolViolation(
            f'request "{method.name}" cannot be read', detail=str(error)
        ) from error


def as_dqe_error(error: Exception) -> DqeError:
    """The error as the caller gets it; one that is not ours is logged with its traceback."""
    if isinstance(error, DqeError):
        return error
    logger.error("request failed", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")
