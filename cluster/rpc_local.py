"""Calls of a node to itself: no socket, the same meaning.

Requests and replies are encoded and decoded as over the wire, so that a struct that does not
survive the trip fails here too. Streams are two ends that hand frames to each other one loop
turn later, under the same credit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from cluster.errors import AnswerLost, DqeError, ProtocolViolation
from cluster.rpc_client import no_answer
from cluster.rpc_frames import Frame, FrameKind
from cluster.rpc_server import (
    NO_DEADLINE,
    CallContext,
    Identity,
    Method,
    as_dqe_error,
    unknown_request,
)
from cluster.rpc_stream import Stream
from cluster.runtime import Runtime
from cluster.transport import Body

logger = logging.getLogger(__name__)


class LocalCalls:
    """Runs the node's own methods for itself."""

    def __init__(
        self, runtime: Runtime, identity: Identity, methods: Mapping[bytes, Method]
    ) -> None:
        self._runtime = runtime
        self._identity = identity
        self._methods = methods

    async def call(
        self, name: str, header: bytes, body: Body, deadline_s: float
    ) -> tuple[bytes, bytes | memoryview]:
        """The encoded reply and its body; errors and deadline as over the wire."""
        method, request = self._lookup(name, header)
        if method.call is None:
            raise ProtocolViolation(f'"{name}" is not called in this way')
        context = self._context(self._runtime.monotonic() + deadline_s)
        timeout = asyncio.timeout(deadline_s)
        try:
            async with timeout:
                reply = await method.call(context, request, _read_only(body))
        except TimeoutError as error:
            if timeout.expired():
                raise no_answer("itself", name, deadline_s) from error
            raise as_dqe_error(error) from error
        except DqeError:
            raise
        except Exception as error:
            raise as_dqe_error(error) from error
        answer, answer_body = reply if isinstance(reply, tuple) else (reply, b"")
        return msgspec.msgpack.encode(answer), _read_only(answer_body)

    def notify(self, name: str, header: bytes, body: Body) -> None:
        """Handles the notice in the next turn of the loop, as if it had travelled."""
        self._runtime.call_soon(self._deliver_notice, name, header, _read_only(body))

    def _deliver_notice(self, name: str, header: bytes, body: bytes | memoryview) -> None:
        try:
            method, request = self._lookup(name, header)
            if method.notice is None:
                raise ProtocolViolation(f'"{name}" is not called in this way')
            method.notice(self._context(NO_DEADLINE), request, body)
        except DqeError as error:
            logger.warning("notice to itself dropped: %s", error)
        except Exception:
            # The driver of foreign code, as for notices of others.
            logger.exception("notice to itself failed")

    def open_stream(self, name: str, header: bytes) -> Stream:
        """The opener's end; the handler runs with the other."""
        near, far = _LocalChannel(self._runtime), _LocalChannel(self._runtime)
        opener = Stream(near, 1, opener=True)
        served = Stream(far, 1, opener=False)
        near.other, far.other = served, opener
        try:
            method, request = self._lookup(name, header)
            if method.stream is None:
                raise ProtocolViolation(f'"{name}" is not called in this way')
        except DqeError as error:
            served.abort(error)
            return opener
        near.task = self._runtime.spawn(self._run_stream(method, request, served), name)
        return opener

    async def _run_stream(self, method: Method, request: Any, stream: Stream) -> None:
        assert method.stream is not None
        try:
            await method.stream(self._context(NO_DEADLINE), request, stream)
            stream.end_of_handler()
        except asyncio.CancelledError:
            stream.abort(AnswerLost("node is stopping"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the opener has to hear of it
            stream.abort(as_dqe_error(error))

    def _lookup(self, name: str, header: bytes) -> tuple[Method, Any]:
        method = self._methods.get(name.encode())
        if method is None:
            raise unknown_request(self._identity, name)
        try:
            return method, method.decoder.decode(header)
        except msgspec.DecodeError as error:
            raise ProtocolViolation(
                f'request "{name}" cannot be read', detail=str(error)
            ) from error

    def _context(self, expires_s: float) -> CallContext:
        return CallContext(self._runtime, self._identity.node_id(), "", expires_s)


class _LocalChannel:
    """Carries one end's frames to the other end."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.other: Stream | None = None
        self.task: asyncio.Task[None] | None = None  # the handler, where this is the opener's

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
        frame = Frame(kind, stream_id, value, flags, b"", header, _read_only(body))
        self._runtime.call_soon(self._deliver, frame)

    def _deliver(self, frame: Frame) -> None:
        assert self.other is not None
        heard = self.other.waiting
        if not self.other.over:
            self.other.on_frame(frame)
            if frame.kind is FrameKind.ABORT and not heard and self.task is not None:
                self.task.cancel()

    async def writable(self) -> None:
        return

    def forget_stream(self, stream_id: int) -> None:
        return


def _read_only(body: Body) -> bytes | memoryview:
    return body if isinstance(body, bytes) else memoryview(body).cast("B").toreadonly()
