"""Every message of the protocol in bytes; no I/O, no state but the decoder's buffer.

Frontend messages come out of `FrontendDecoder.feed`; backend messages are made by the
functions below. A length beyond `MAX_MESSAGE_BYTES` or a type that does not exist is a
`ProtocolViolation`, after which nothing on that connection can be trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.errors import CharacterNotInRepertoire, DqeError, ProtocolViolation

MAX_MESSAGE_BYTES = 1 << 30
# Before a connection is let in nothing long is expected of it (PostgreSQL's own bound).
MAX_STARTUP_BYTES = 10_000

PROTOCOL_3_0 = 196608
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSS_REQUEST = 80877104

_FRONTEND_TYPES = frozenset(b"QPBDECHSXdcfpF")
_INT32 = struct.Struct("!i")
_INT16 = struct.Struct("!h")
_HEADER = struct.Struct("!ci")


class FrontendMessage(NamedTuple):
    """A message with its type byte as an integer and its body without the length."""

    type: int
    body: bytes


class FrontendDecoder:
    """Splits bytes into messages; a message may come in any number of pieces."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[FrontendMessage]:
        """The messages that are now complete, in order."""
        if not self._buffer:
            return self._feed_first(data)
        buffer = self._buffer
        buffer += data
        messages: list[FrontendMessage] = []
        start = 0
        while len(buffer) - start >= 5:
            length = _INT32.unpack_from(buffer, start + 1)[0]
            _check_header(buffer[start], length)
            end = start + 1 + length
            if len(buffer) < end:
                break
            messages.append(FrontendMessage(buffer[start], bytes(buffer[start + 5 : end])))
            start = end
        if start:
            del buffer[:start]
        return messages

    def _feed_first(self, data: bytes) -> list[FrontendMessage]:
        """The same with nothing left from before: only what is not whole is copied."""
        messages: list[FrontendMessage] = []
        start, size = 0, len(data)
        while size - start >= 5:
            kind, length = data[start], _INT32.unpack_from(data, start + 1)[0]
            if kind not in _FRONTEND_TYPES or not 4 <= length <= MAX_MESSAGE_BYTES:
                _check_header(kind, length)
            end = start + 1 + length
            if size < end:
                break
            messages.append(FrontendMessage(kind, data[start + 5 : end]))
            start = end
        if start < size:
            self._buffer += data[start:]
        return messages


def _check_header(message_type: int, length: int) -> None:
    if message_type not in _FRONTEND_TYPES:
        raise ProtocolViolation(f"invalid frontend message type {message_type}")
    if not 4 <= length <= MAX_MESSAGE_BYTES:
        raise ProtocolViolation("invalid message length")


class StartupDecoder:
    """Collects the first packet of a connection, which has no type byte."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[int, bytes, bytes] | None:
        """(request code, body, bytes that follow) once the packet is complete."""
        self._buffer += data
        if len(self._buffer) < 4:
            return None
        length = _INT32.unpack_from(self._buffer)[0]
        if not 8 <= length <= MAX_STARTUP_BYTES:
            raise ProtocolViolation("invalid length of startup packet")
        if len(self._buffer) < length:
            return None
        code = _INT32.unpack_from(self._buffer, 4)[0]
        body, rest = bytes(self._buffer[8:length]), bytes(self._buffer[length:])
        self._buffer.clear()
        return code, body, rest


class BodyReader:
    """Reads the fields of one message's body; too short a body is a ProtocolViolation."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def int16(self) -> int:
        return self._unpack(_INT16)

    def int32(self) -> int:
        return self._unpack(_INT32)

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        end = self._position + count
        if count < 0 or end > len(self._body):
            raise ProtocolViolation("insufficient data left in message")
        taken = self._body[self._position : end]
        self._position = end
        return taken

    def text(self) -> str:
        end = self._body.find(b"\0", self._position)
        if end < 0:
            raise ProtocolViolation("invalid string in message")
        raw = self._body[self._position : end]
        self._position = end + 1
        return decode_text(raw)

    def end(self) -> None:
        if self._position != len(self._body):
            raise ProtocolViolation("invalid message format")

    def at_end(self) -> bool:
        return self._position >= len(self._body)

    def _unpack(self, shape: struct.Struct) -> int:
        value: int = shape.unpack(self.take(shape.size))[0]
        return value


def decode_text(raw: bytes) -> str:
    """UTF-8 from a client; what is not UTF-8 is refused with 22021."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise CharacterNotInRepertoire(
            f'invalid byte sequence for encoding "UTF8": 0x{byte:02x}'
        ) from None


# Backend messages without a body.
PARSE_COMPLETE = b"1\0\0\0\x04"
BIND_COMPLETE = b"2\0\0\0\x04"
CLOSE_COMPLETE = b"3\0\0\0\x04"
NO_DATA = b"n\0\0\0\x04"
EMPTY_QUERY = b"I\0\0\0\x04"
PORTAL_SUSPENDED = b"s\0\0\0\x04"
COPY_DONE = b"c\0\0\0\x04"
AUTHENTICATION_OK = b"R\0\0\0\x08\0\0\0\0"


_READY = {status: b"Z\0\0\0\x05" + status.encode() for status in "ITE"}


def message(type_byte: bytes, body: bytes) -> bytes:
    """A backend message around its body."""
    return _HEADER.pack(type_byte, len(body) + 4) + body


def c_string(text: str) -> bytes:
    """Text with its terminating zero; inner zeros cannot travel and are dropped."""
    return text.replace("\0", "").encode() + b"\0"


def parameter_status(name: str, value: str) -> bytes:
    return message(b"S", c_string(name) + c_string(value))


def backend_key_data(process_id: int, secret: int) -> bytes:
    return message(b"K", struct.pack("!II", process_id, secret))


def negotiate_protocol_version(minor: int, unknown_options: Sequence[str]) -> bytes:
    options = b"".join(c_string(o) for o in unknown_options)
    return message(b"v", struct.pack("!ii", minor, len(unknown_options)) + options)


def ready_for_query(status: str) -> bytes:
    return _READY[status]


def command_complete(tag: str) -> bytes:
    return message(b"C", c_string(tag))


def parameter_description(oids: Sequence[int]) -> bytes:
    return message(b"t", struct.pack(f"!h{len(oids)}I", len(oids), *oids))


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """One column of a RowDescription."""

    name: str
    type_oid: int
    type_length: int
    type_modifier: int
    format: int
    table_oid: int = 0
    column_number: int = 0


def row_description(fields: Sequence[FieldDescription]) -> bytes:
    parts = [_INT16.pack(len(fields))]
    for f in fields:
        parts.append(c_string(f.name))
        parts.append(
            struct.pack(
                "!IhIhih",
                f.table_oid,
                f.column_number,
                f.type_oid,
                f.type_length,
                f.type_modifier,
                f.format,
            )
        )
    return message(b"T", b"".join(parts))


def copy_in_response(binary: bool, columns: int) -> bytes:
    return _copy_response(b"G", binary, columns)


def copy_out_response(binary: bool, columns: int) -> bytes:
    return _copy_response(b"H", binary, columns)


def _copy_response(type_byte: bytes, binary: bool, columns: int) -> bytes:
    code = int(binary)
    return message(type_byte, struct.pack(f"!bh{columns}h", code, columns, *([code] * columns)))


_FIELD_CODES = (
    ("detail", b"D"),
    ("hint", b"H"),
    ("position", b"P"),
    ("where", b"W"),
    ("table", b"t"),
    ("column", b"c"),
    ("constraint", b"n"),
    ("routine", b"R"),
)


def error_response(error: DqeError, severity: str = "ERROR") -> bytes:
    """An ErrorResponse with the fields the error has."""
    return _report(b"E", severity, error.to_fields())


def notice_response(fields: Mapping[str, str | int], severity: str) -> bytes:
    """A NoticeResponse; `fields` as in `DqeError.to_fields`, the SQLSTATE may be left out."""
    sqlstate = "01000" if severity == "WARNING" else "00000"
    return _report(b"N", severity, {"sqlstate": sqlstate, **fields})


def _report(type_byte: bytes, severity: str, fields: Mapping[str, str | int]) -> bytes:
    parts = [b"S" + c_string(severity), b"V" + c_string(severity)]
    parts.append(b"C" + c_string(str(fields["sqlstate"])))
    parts.append(b"M" + c_string(str(fields["message"])))
    for name, code in _FIELD_CODES:
        if name in fields:
            parts.append(code + c_string(str(fields[name])))
    return message(type_byte, b"".join(parts) + b"\0")


def startup_parameters(body: bytes) -> dict[str, str]:
    """The name-value pairs of a StartupMessage."""
    reader = BodyReader(body)
    parameters: dict[str, str] = {}
    while True:
        name = reader.text()
        if not name:
            return parameters
        parameters[name] = reader.text()
