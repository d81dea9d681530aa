"""Streams: messages both ways over one connection, each way held back by the reader's credit.

Many streams share a connection, so a slow reader must not fill the socket and stop the
others. Each side starts with a window of `WINDOW_BYTES`; a message costs its bytes, and the
reader gives credit back as it takes messages out. A sender may send while it has any credit
left, so that one message may be larger than the window; what lies unread at a receiver is
thus bounded by the window and one message. Stages rely on that bound (a receiver that wants
to let its sender run further takes messages out and spills them).

Invariants:
- Messages arrive in the order sent; `receive` gives None only after all of them.
- After `abort` at one end every pending and later operation at both ends raises its error.
- When the handler of a stream returns, its end is finished; the opener then reads what was
  sent, and its own further sends raise StreamClosed.

A stream is told events by the connection (`on_...`) and writes frames through a `Channel`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Protocol

import msgspec

from cluster.errors import DqeError, ProtocolViolation, QueryCanceled, error_from_fields
from cluster.rpc_frames import FINAL, MAX_BODY_BYTES, MAX_HEADER_BYTES, Frame, FrameKind
from cluster.transport import Body

# What a sender may have unread at its receiver.
WINDOW_BYTES = 4 << 20
# What a message costs beside its bytes, so that empty ones are bounded too.
MESSAGE_COST_BYTES = 64


class StreamClosed(QueryCanceled):
    """The other end wants no more; what was sent and not read is dropped."""


class Channel(Protocol):
    """Where a stream's frames go out."""

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
        """Queues the frame; nothing where the connection is gone."""
        ...

    async def writable(self) -> None:
        """Returns when the connection takes more bytes or is gone."""
        ...

    def forget_stream(self, stream_id: int) -> None:
        """Frames of this stream are dropped from now on."""
        ...


class Stream:
    """One end of a full-duplex stream of (header, body) messages."""

    def __init__(self, channel: Channel, stream_id: int, *, opener: bool) -> None:
        self._channel = channel
        self._id = stream_id
        self._opener = opener
        self._credit = WINDOW_BYTES
        self._allowed = WINDOW_BYTES  # what the peer may still send
        self._owed = 0  # credit taken out of the queue and not yet given back
        self._queue: deque[tuple[bytes, bytes | memoryview]] = deque()
        self._send_finished = False
        self._receive_finished = False
        self._peer_gone = False
        self._error: DqeError | None = None
        self._senders: deque[asyncio.Future[None]] = deque()
        self._receivers: deque[asyncio.Future[None]] = deque()

    async def send(self, body: Body, header: bytes = b"") -> None:
        """Sends one message, waiting for credit first; raises what the peer aborted with."""
        while True:
            self._check_sendable()
            if self._credit > 0:
                break
            await _wait_in(self._senders)
        self._channel.send_stream_frame(FrameKind.DATA, self._id, header=header, body=body)
        self._credit -= message_cost(header, body)
        await self._channel.writable()

    def _check_sendable(self) -> None:
        if self._error is not None:
            raise self._error
        if self._peer_gone:
            raise StreamClosed("the reader of this stream has closed it")
        assert not self._send_finished, "send after finish"

    async def receive(self) -> tuple[bytes, bytes | memoryview] | None:
        """The next message as (header, body), None at the end; raises the peer's abort."""
        while True:
            if self._error is not None:
                raise self._error
            if self._queue:
                break
            if self._receive_finished:
                return None
            await _wait_in(self._receivers)
        header, body = self._queue.popleft()
        self._owed += message_cost(header, body)
        if self._owed >= WINDOW_BYTES // 2 and not self._receive_finished:
            self._allowed += self._owed
            self._channel.send_stream_frame(FrameKind.CREDIT, self._id, value=self._owed)
            self._owed = 0
        return header, body

    async def finish(self) -> None:
        """Says that no more is sent; receiving goes on."""
        if self._send_finished or self._error is not None or self._peer_gone:
            return
        self._send_finished = True
        self._channel.send_stream_frame(FrameKind.END, self._id)
        self._forget_if_done()

    def abort(self, error: DqeError) -> None:
        """Ends the stream at both ends with this error; nothing where it has ended."""
        if self.over:
            return
        fields = msgspec.msgpack.encode(error.to_fields())
        self._channel.send_stream_frame(FrameKind.ABORT, self._id, header=fields)
        self._channel.forget_stream(self._id)
        self.fail(error)

    def close(self) -> None:
        """Gives up what has not ended: the other end is told that nobody reads it."""
        self.abort(StreamClosed("the other end of this stream has closed it"))

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, DqeError):
            self.abort(error)
        else:
            self.close()

    def end_of_handler(self) -> None:
        """The handler returned: finish, and tell the opener that nobody reads any more."""
        if self._error is None and not self._ended():
            self._channel.send_stream_frame(FrameKind.END, self._id, flags=FINAL)
        self._channel.forget_stream(self._id)
        self._send_finished = True
        self.fail(StreamClosed("the handler of this stream has returned"))

    @property
    def error(self) -> DqeError | None:
        """What ended it before its time; None where nothing has."""
        return self._error

    @property
    def waiting(self) -> bool:
        """Whether somebody waits in `send` or `receive`, and so hears of an abort at once."""
        return any(not f.done() for f in self._senders) or any(
            not f.done() for f in self._receivers
        )

    @property
    def over(self) -> bool:
        """Whether nothing that may still arrive matters to this end."""
        return self._error is not None or self._ended()

    def on_frame(self, frame: Frame) -> None:
        """Takes a frame of this stream; raises ProtocolViolation for one that breaks a rule."""
        match frame.kind:
            case FrameKind.DATA:
                self._on_data(frame.header, frame.body)
            case FrameKind.CREDIT:
                self._on_credit(frame.value)
            case FrameKind.END:
                self._on_end(final=bool(frame.flags & FINAL))
            case FrameKind.ABORT:
                self._channel.forget_stream(self._id)
                self.fail(decode_error(frame.header))
            case _:
                raise ProtocolViolation(f"unexpected frame {frame.kind.name} on a stream")

    def _on_data(self, header: bytes, body: bytes | memoryview) -> None:
        if self._receive_finished:
            raise ProtocolViolation("stream message after the end of its stream")
        if self._allowed <= 0:
            raise ProtocolViolation("stream message beyond the credit given")
        self._allowed -= message_cost(header, body)
        self._queue.append((header, body))
        _wake(self._receivers)

    def _on_credit(self, credit: int) -> None:
        self._credit += credit
        if self._credit > WINDOW_BYTES:
            raise ProtocolViolation("more stream credit than was used")
        if self._credit > 0:
            _wake(self._senders)

    def _on_end(self, *, final: bool) -> None:
        if final and not self._opener:
            raise ProtocolViolation("end of a handler from the side that has none")
        self._receive_finished = True
        self._peer_gone = self._peer_gone or final
        _wake(self._receivers)
        if final:
            _wake(self._senders)
        self._forget_if_done()

    def fail(self, error: DqeError) -> None:
        """Makes every pending and later operation raise; the first error stays."""
        if self._error is None:
            self._error = error
            self._queue.clear()
        _wake(self._senders)
        _wake(self._receivers)

    def _ended(self) -> bool:
        return self._receive_finished and (self._send_finished or self._peer_gone)

    def _forget_if_done(self) -> None:
        # The handler's end is forgotten when the handler returns, which sends FINAL first.
        if self._opener and self._ended():
            self._channel.forget_stream(self._id)


def message_cost(header: bytes, body: Body) -> int:
    """Bytes of credit a message uses."""
    size = len(body) if type(body) is bytes else memoryview(body).nbytes
    return len(header) + size + MESSAGE_COST_BYTES


# The window must not be overdrawn by more than one message, and that has to fit a credit.
assert WINDOW_BYTES + MAX_BODY_BYTES + MAX_HEADER_BYTES < 1 << 32


def decode_error(header: bytes) -> DqeError:
    """The error in an ERROR or ABORT frame."""
    try:
        fields = msgspec.msgpack.decode(header, type=dict[str, str | int])
    except msgspec.DecodeError as error:
        return ProtocolViolation("the peer sent an error that cannot be read", detail=str(error))
    return error_from_fields(fields)


async def _wait_in(waiters: deque[asyncio.Future[None]]) -> None:
    waiter = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    finally:
        # A cancelled waiter must not stay; a woken one is no longer in the queue.
        if waiter in waiters:
            waiters.remove(waiter)


def _wake(waiters: deque[asyncio.Future[None]]) -> None:
    """Wakes all: each looks again at the state it waits for."""
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
