"""Remote procedure calls between nodes: what the floors above see of the network.

A node registers handlers for methods and calls those of others by address. There are three
forms: a call (one request, one reply, a deadline), a notice (one way, best effort, handled in
order) and a stream (messages both ways under credit). Requests and replies are msgspec
structs in a small header; bulk (Arrow IPC) travels beside it as a body that is not copied
into it.

A call to the node's own address takes no socket but the same path otherwise: the structs are
encoded and decoded, deadlines and errors are the same, so nothing works only locally.

How it is split: `rpc_frames` (bytes), `rpc_handshake` (who may talk), `rpc_stream` (credit),
`rpc_client` and `rpc_server` (the two ends of a connection), `rpc_local` (calls to oneself).

Left out: retries. Only the caller knows whether its request may be carried out twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from cluster.errors import AnswerLost, CannotConnectNow, InvalidParameterValue, ProtocolViolation
from cluster.rpc_client import ClientConnection, Peer
from cluster.rpc_frames import Frame, FrameKind
from cluster.rpc_handshake import HandshakeRefused, Hello
from cluster.rpc_local import LocalCalls
from cluster.rpc_server import CallContext, Method, ServerConnection
from cluster.rpc_stream import Stream, StreamClosed, decode_error
from cluster.runtime import Runtime
from cluster.transport import Body, Listener, Transport

__all__ = [
    "AnswerLost",
    "Body",
    "CallContext",
    "CannotConnectNow",
    "HandshakeRefused",
    "Reply",
    "RpcNode",
    "Stream",
    "StreamClosed",
]

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

# Calls with bodies from here on take the bulk lane.
BULK_BODY_BYTES = 256 << 10
# A stream waits this long for its connection.
OPEN_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """What a call brought back; the body is read-only and may be a view."""

    header: R
    body: bytes | memoryview


class RpcNode:
    """One node's end of all RPC: serves its methods and calls those of its peers."""

    def __init__(
        self,
        runtime: Runtime,
        transport: Transport,
        *,
        cluster_id: Callable[[], str],
        node_id: Callable[[], int],
    ) -> None:
        self._runtime = runtime
        self._transport = transport
        self.cluster_id = cluster_id
        self.node_id = node_id
        self._methods: dict[bytes, Method] = {}
        self._decoders: dict[type[msgspec.Struct], msgspec.msgpack.Decoder[Any]] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._control: dict[str, Peer] = {}
        self._bulk: dict[str, Peer] = {}
        self._incoming: dict[ServerConnection, None] = {}
        self._listener: Listener | None = None
        self._address = ""
        self._closed = False
        self._local = LocalCalls(runtime, self, self._methods)
        # Set by the node: which node is thought to listen at an address, 0 where that is open.
        # What is meant for one node is not sent to another that answers there.
        self.node_at: Callable[[str], int] = lambda address: 0
        self._lost: list[Callable[[str], None]] = []
        # Set by the node while it has not registered everything it will answer: until then a
        # request it does not know is one to be tried again (57P03), not an unknown one.
        self.is_starting = False

    @property
    def address(self) -> str:
        """Where this node listens; "" before `start`."""
        return self._address

    @property
    def dropped_notices(self) -> int:
        """Notices that were not sent since the start."""
        return sum(peer.dropped_notices for peer in self._control.values())

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Be told the address when a connection to a peer has broken, or is refused.

        A hint that the peer has died (rule G4); it may as well be restarting, or cut off.
        """
        self._lost.append(callback)

    def _peer_lost(self, address: str) -> None:
        if not self._closed:
            for callback in self._lost:
                callback(address)

    # Serving.

    def handle(
        self,
        method: str,
        request_type: type[S],
        handler: Callable[
            [CallContext, S, bytes | memoryview],
            Awaitable[msgspec.Struct | tuple[msgspec.Struct, Body]],
        ],
        *,
        before_join: bool = False,
        at_once: Callable[[S], msgspec.Struct | None] | None = None,
    ) -> None:
        """Registers a call; its handler is cancelled when the caller gives up.

        `at_once`, where given, is tried first, in place: short work that needs no waiting takes
        no task. Where it gives None the handler runs.
        """
        decoder = self._decoder(request_type)
        self._register(Method(method, decoder, before_join, call=handler, at_once=at_once))

    def handle_notice(
        self,
        method: str,
        request_type: type[S],
        handler: Callable[[CallContext, S, bytes | memoryview], None],
        *,
        before_join: bool = False,
    ) -> None:
        """Registers a notice; its handler runs in place and must be short."""
        decoder = self._decoder(request_type)
        self._register(Method(method, decoder, before_join, notice=handler))

    def handle_stream(
        self,
        method: str,
        request_type: type[S],
        handler: Callable[[CallContext, S, Stream], Awaitable[None]],
        *,
        before_join: bool = False,
    ) -> None:
        """Registers a stream; when the handler returns its end is finished.

        When the opener aborts or goes away, a handler that waits in the stream gets the error
        there, any other is cancelled.
        """
        decoder = self._decoder(request_type)
        self._register(Method(method, decoder, before_join, stream=handler))

    def _register(self, method: Method) -> None:
        key = method.name.encode()
        assert key not in self._methods, f"method {method.name} registered twice"
        self._methods[key] = method

    def _decoder(self, struct_type: type[msgspec.Struct]) -> msgspec.msgpack.Decoder[Any]:
        decoder = self._decoders.get(struct_type)
        if decoder is None:
            decoder = self._decoders[struct_type] = msgspec.msgpack.Decoder(struct_type)
        return decoder

    async def start(self, listen_address: str) -> str:
        """Listens; the address with the real port. Raises OSError where that is taken."""
        self._listener = await self._transport.listen(listen_address, self._accept)
        self._address = self._listener.address
        return self._address

    def _accept(self) -> ServerConnection:
        return ServerConnection(self._runtime, self, self._methods, self._incoming)

    async def close(self) -> None:
        """Stops listening, cancels handlers, ends every connection."""
        self._closed = True
        if self._listener is not None:
            await self._listener.close()
        await asyncio.gather(*(connection.close() for connection in list(self._incoming)))
        for peer in [*self._control.values(), *self._bulk.values()]:
            await peer.close()

    # Calling.

    async def call(
        self,
        address: str,
        method: str,
        request: msgspec.Struct,
        reply_type: type[R],
        *,
        body: Body = b"",
        deadline_s: float,
    ) -> Reply[R]:
        """Calls a method and waits for its reply.

        Raises the DqeError the handler raised; CannotConnectNow when the request did not go
        out; AnswerLost when it did and no answer came before the deadline or the loss of the
        connection.
        """
        header = self._encode(request)
        if address == self._address:
            encoded, reply_body = await self._local.call(method, header, body, deadline_s)
        else:
            connection = await self._ready_connection(address, body, deadline_s)
            frame = await connection.call(method.encode(), header, body, deadline_s)
            encoded, reply_body = frame.header, frame.body
        try:
            return Reply(self._decoder(reply_type).decode(encoded), reply_body)
        except msgspec.DecodeError as error:
            raise ProtocolViolation(
                f'reply to "{method}" from node at {address} cannot be read', detail=str(error)
            ) from error

    def ask(
        self, address: str, method: str, request: msgspec.Struct, *, deadline_s: float
    ) -> asyncio.Future[Frame] | None:
        """Sends a call without waiting, where there is a connection that takes it now; None
        where there is none. `answer_of` reads what comes.

        Raises CannotConnectNow where another node answers there than is thought to.
        """
        peer = self._control.get(address)
        connection = peer.connection() if peer is not None else None
        if peer is None or connection is None or connection.paused:
            return None
        peer.check_node(connection)
        return connection.ask(method.encode(), self._encode(request), b"", deadline_s)

    def answer_of(self, frame: Frame, reply_type: type[R]) -> R:
        """What a call's frame says; raises the peer's error."""
        if frame.kind is FrameKind.ERROR:
            raise decode_error(frame.header)
        decoded: R = self._decoder(reply_type).decode(frame.header)
        return decoded

    async def _ready_connection(
        self, address: str, body: Body, deadline_s: float
    ) -> ClientConnection:
        """A connection that takes bytes; waits for one no longer than the deadline."""
        peer = self._peer(address, bulk=len(body) >= BULK_BODY_BYTES)
        connection = peer.connection()
        if connection is not None and not connection.paused:
            peer.check_node(connection)
            return connection
        expires_s = self._runtime.monotonic() + deadline_s
        while True:
            connection = await peer.connect(max(0.0, expires_s - self._runtime.monotonic()))
            peer.check_node(connection)
            if not connection.paused:
                return connection
            try:
                async with asyncio.timeout(expires_s - self._runtime.monotonic()):
                    await connection.writable()
            except TimeoutError as error:
                raise CannotConnectNow(
                    f"node at {address} cannot be reached",
                    detail=f"It took no more bytes for {deadline_s:g} s.",
                ) from error

    async def reach(self, address: str, deadline_s: float) -> None:
        """Returns with a connection to that node; CannotConnectNow when there is none in time."""
        if address != self._address:
            await self._peer(address, bulk=False).connect(deadline_s)

    def notify(
        self,
        address: str,
        method: str,
        request: msgspec.Struct,
        body: Body = b"",
        *,
        any_node: bool = False,
    ) -> None:
        """Sends a notice: dropped and counted where the peer cannot take it now.

        With `any_node` it goes to whoever answers at the address, `node_at` or not.
        """
        header = self._encode(request)
        if address == self._address:
            self._local.notify(method, header, body)
        else:
            peer = self._peer(address, bulk=False)
            peer.notify(method.encode(), header, body, any_node=any_node)

    def notify_now(self, address: str, method: str, request: msgspec.Struct) -> bool:
        """Sends a notice if there is a connection that takes it; whether it went out. It may be
        lost all the same."""
        if self._closed or address == self._address:
            return False
        return self._peer(address, bulk=False).notify_now(method.encode(), self._encode(request))

    async def open_stream(self, address: str, method: str, request: msgspec.Struct) -> Stream:
        """Opens a stream; raises CannotConnectNow. Use it as a context manager.

        An error of its handler, an unknown method included, is raised by the stream's first
        operation after it has arrived.
        """
        header = self._encode(request)
        if address == self._address:
            return self._local.open_stream(method, header)
        peer = self._peer(address, bulk=True)
        connection = peer.connection() or await peer.connect(OPEN_TIMEOUT_S)
        peer.check_node(connection)
        return connection.open_stream(method.encode(), header)

    def _peer(self, address: str, *, bulk: bool) -> Peer:
        if self._closed:
            raise CannotConnectNow("node is stopping")
        lane = self._bulk if bulk else self._control
        peer = lane.get(address)
        if peer is None:
            if not address:
                raise InvalidParameterValue("address of a node is empty")
            peer = lane[address] = Peer(
                self._runtime,
                self._transport,
                address,
                self._hello,
                self._peer_lost,
                lambda address: self.node_at(address),
            )
        return peer

    def _hello(self) -> Hello:
        return Hello(self.cluster_id(), self.node_id(), self._address)
