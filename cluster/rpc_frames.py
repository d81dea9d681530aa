"""The frame: how one RPC message lies in the byte stream, and how it is cut out again.

A frame is a prefix of 28 bytes, then method name, header and body. All numbers are little
endian:

    length u32   bytes after the first eight (rest of the prefix included)
    crc    u32   CRC32C of these `length` bytes
    id     u64   the call or stream it belongs to, chosen by the side that connected
    value  u32   CALL: deadline in ms; CREDIT: bytes; otherwise 0
    header u32   bytes of header (msgpack, or whatever a stream's user puts there)
    method u16   bytes of method name (CALL, NOTICE and OPEN only)
    kind   u8    `FrameKind`
    flags  u8    `FINAL` on an END: the handler is gone and reads no more

Invariants:
- `FrameDecoder` gives exactly the frames that were encoded, however the bytes were chopped,
  or raises FrameError; it never gives a frame whose checksum is wrong.
- Nothing is allocated beyond the declared length, and that is bounded before it is believed.

The checksum is there because TCP's has 16 bits and batches of a table pass through here; it
costs 0.2 µs for a small frame and 5 % of what the kernel takes for a large one (docs/rpc.md).
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec
from crc32c import crc32c

from cluster.errors import ProgramLimitExceeded, ProtocolViolation
from cluster.transport import Body

# The largest body a call, a reply, a notice or one stream message may carry.
MAX_BODY_BYTES = 64 << 20
# Headers are descriptions, not data; plans with their SQL text are the largest.
MAX_HEADER_BYTES = 16 << 20
MAX_METHOD_BYTES = 200
# Below this a body is copied out of the receive buffer, so that keeping a few bytes does not
# keep a whole buffer alive.
COPY_BELOW_BYTES = 4 << 10
# Below this the parts of an outgoing frame are joined: one copy is cheaper than one more part.
JOIN_BELOW_BYTES = 16 << 10

FINAL = 1

_PREFIX = struct.Struct("<IIQIIHBB")
_AFTER_CRC = struct.Struct("<QIIHBB")
_LENGTH_AND_CRC = struct.Struct("<II")
_COUNTED = _PREFIX.size - _LENGTH_AND_CRC.size
_MAX_LENGTH = _COUNTED + MAX_METHOD_BYTES + MAX_HEADER_BYTES + MAX_BODY_BYTES
_MAX_VALUE = (1 << 32) - 1


class FrameKind(IntEnum):
    """What a frame says; the numbers are part of the protocol and never change meaning."""

    CALL = 1
    REPLY = 2
    ERROR = 3
    CANCEL = 4
    NOTICE = 5
    OPEN = 6
    DATA = 7
    END = 8
    ABORT = 9
    CREDIT = 10
    PING = 11
    PONG = 12
    HELLO = 13
    WELCOME = 14


_KINDS = {int(kind): kind for kind in FrameKind}


class FrameError(ProtocolViolation):
    """The bytes are no frame; the connection cannot be read any further."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One received frame. The body may be a view of the receive buffer; it is read-only."""

    kind: FrameKind
    id: int
    value: int
    flags: int
    method: bytes
    header: bytes
    body: bytes | memoryview


def encode_frame(
    kind: FrameKind,
    frame_id: int = 0,
    *,
    value: int = 0,
    flags: int = 0,
    method: bytes = b"",
    header: bytes = b"",
    body: Body = b"",
) -> tuple[Body, ...]:
    """The parts of a frame; raises ProgramLimitExceeded when a part is over its bound."""
    body_size = len(body) if type(body) is bytes else memoryview(body).nbytes
    if body_size > MAX_BODY_BYTES or len(header) > MAX_HEADER_BYTES:
        raise _too_large(body_size, len(header))
    rest = (
        _AFTER_CRC.pack(
            frame_id, min(value, _MAX_VALUE), len(header), len(method), int(kind), flags
        )
        + method
        + header
    )
    length = len(rest) + body_size
    if body_size < JOIN_BELOW_BYTES:
        rest = b"".join((rest, body)) if body_size else rest
        return (_LENGTH_AND_CRC.pack(length, crc32c(rest)) + rest,)
    view = memoryview(body).cast("B")
    checksum = crc32c(view, crc32c(rest))
    return (_LENGTH_AND_CRC.pack(length, checksum) + rest, view)


def _too_large(body_size: int, header_size: int) -> ProgramLimitExceeded:
    return ProgramLimitExceeded(
        "message between nodes is too large",
        detail=f"Body {body_size} bytes of {MAX_BODY_BYTES}, "
        f"header {header_size} bytes of {MAX_HEADER_BYTES}.",
        hint="Larger contents are sent as several messages of a stream.",
    )


class FrameDecoder:
    """Cuts a byte stream into frames; `feed` is its one mutator.

    A frame that lies whole in the fed bytes is parsed in place. One that does not is gathered
    in a buffer of its own size, so that a large body is copied once and no more.
    """

    def __init__(self, max_length: int = _MAX_LENGTH) -> None:
        self.max_length = max_length
        self._start = b""  # fewer bytes than tell the length
        self._partial: bytearray | None = None
        self._filled = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes taken in that are not yet a frame."""
        return self._filled if self._partial is not None else len(self._start)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by these bytes; raises FrameError, then feed no more."""
        position = 0
        frames: list[Frame] = []
        if self._partial is not None:
            position = self._fill(data, frames)
        elif self._start:
            data = self._start + data
            self._start = b""
        end = len(data)
        while end - position >= 8:
            length, checksum = _LENGTH_AND_CRC.unpack_from(data, position)
            if not _COUNTED <= length <= self.max_length:
                raise FrameError(f"invalid frame length {length}")
            position += 8
            after = position + length
            if end < after:
                self._begin_partial(length, checksum, memoryview(data)[position:])
                return frames
            # A small frame is copied out whole: slices of bytes cost less than views of a buffer.
            small = length < COPY_BELOW_BYTES
            content = data[position:after] if small else memoryview(data)[position:after]
            frames.append(_parse(content, checksum))
            position = after
        if position < end:
            self._start = data[position:]
        return frames

    def _begin_partial(self, length: int, checksum: int, view: memoryview) -> None:
        self._partial = bytearray(length)
        self._partial_checksum = checksum
        self._filled = len(view)
        self._partial[: self._filled] = view

    def _fill(self, data: bytes, frames: list[Frame]) -> int:
        """Adds to the frame being gathered; says how many bytes of the data it took."""
        partial = self._partial
        assert partial is not None
        taken = min(len(data), len(partial) - self._filled)
        partial[self._filled : self._filled + taken] = memoryview(data)[:taken]
        self._filled += taken
        if self._filled == len(partial):
            self._partial = None
            self._filled = 0
            frames.append(_parse(memoryview(partial).toreadonly(), self._partial_checksum))
        return taken


def _parse(content: bytes | memoryview, checksum: int) -> Frame:
    """The frame in these bytes (what follows length and checksum)."""
    if crc32c(content) != checksum:
        raise FrameError("frame with a wrong checksum")
    frame_id, value, header_size, method_size, number, flags = _AFTER_CRC.unpack_from(content)
    kind = _KINDS.get(number)
    if kind is None:
        raise FrameError(f"frame of unknown kind {number}")
    header_start = _COUNTED + method_size
    body_start = header_start + header_size
    body_size = len(content) - body_start
    if not 0 <= body_size <= MAX_BODY_BYTES:
        raise FrameError("frame whose parts do not fit its length")
    body = content[body_start:]
    return Frame(
        kind,
        frame_id,
        value,
        flags,
        bytes(content[_COUNTED:header_start]),
        bytes(content[header_start:body_start]),
        bytes(body) if body_size < COPY_BELOW_BYTES else body,
    )
