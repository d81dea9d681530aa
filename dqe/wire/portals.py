"""What Parse and Bind leave behind: named statements and portals (manual 54.2.3)."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from cluster.errors import (
    DuplicatePreparedStatement,
    InvalidCursorName,
    InvalidSqlStatementName,
    ProtocolViolation,
)
from dqe.wire.backend import Prepared, Result
from dqe.wire.messages import BodyReader, decode_text
from dqe.wire.parameters import parameter_text
from storage.types import SqlType, type_from_oid

_COUNT = struct.Struct("!H")
_SIZE = struct.Struct("!i")
# No result format, or one that is text: the same.
_TEXT_RESULTS = (b"\0\0", b"\0\1\0\0")


@dataclass(slots=True)
class Portal:
    """A bound statement and, once it runs, what is left of its rows."""

    prepared: Prepared
    parameters: tuple[str | None, ...]
    formats: tuple[int, ...]
    result: Result | None = None
    batches: AsyncIterator[pa.RecordBatch] | None = None
    leftover: pa.RecordBatch | None = None
    # Its rows were sent all at once, and there is no result: the tag of another Execute.
    answered: str | None = None


@dataclass(slots=True)
class PortalStore:
    """The connection's statements and portals by name; the empty name is replaced freely."""

    statements: dict[str, Prepared] = field(default_factory=dict)
    portals: dict[str, Portal] = field(default_factory=dict)

    def check_new_statement(self, name: str) -> None:
        if name and name in self.statements:
            raise DuplicatePreparedStatement(f'prepared statement "{name}" already exists')

    def statement(self, name: str) -> Prepared:
        if name not in self.statements:
            shown = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise InvalidSqlStatementName(f"{shown} does not exist")
        return self.statements[name]

    def portal(self, name: str) -> Portal:
        if name not in self.portals:
            raise InvalidCursorName(f'portal "{name}" does not exist')
        return self.portals[name]


@dataclass(frozen=True, slots=True)
class ParseRequest:
    name: str
    sql: str
    types: tuple[SqlType | None, ...]


def read_parse(body: bytes) -> ParseRequest:
    """A Parse message; an OID of 0 or one not known here leaves the type to inference."""
    reader = BodyReader(body)
    name, sql = reader.text(), reader.text()
    oids = [reader.int32() & 0xFFFFFFFF for _ in range(reader.int16())]
    reader.end()
    return ParseRequest(name, sql, tuple(_known_type(oid) for oid in oids))


def _known_type(oid: int) -> SqlType | None:
    # 705 is `unknown`: the same as saying nothing.
    return None if oid in (0, 705) else type_from_oid(oid)


class BindRequest(NamedTuple):
    """What a Bind message asks for."""

    portal: str
    statement: str
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


def read_bind(body: bytes) -> BindRequest:
    """A Bind message."""
    return _short_bind(body) or _read_bind(body)


def _short_bind(body: bytes) -> BindRequest | None:
    """A Bind of text parameters and text results, as most are; None for any other, or for one
    that is not well formed."""
    portal_end = body.find(b"\0")
    name_end = body.find(b"\0", portal_end + 1)
    start = name_end + 5
    if portal_end < 0 or name_end < 0 or body[name_end + 1 : name_end + 3] != b"\0\0":
        return None
    values: list[bytes | None] = []
    try:
        for _ in range(_COUNT.unpack_from(body, name_end + 3)[0]):
            size = _SIZE.unpack_from(body, start)[0]
            start += 4
            if size < 0:
                return None
            values.append(body[start : start + size])
            start += size
    except struct.error:
        return None
    if body[start:] not in _TEXT_RESULTS:
        return None
    portal, name = decode_text(body[:portal_end]), decode_text(body[portal_end + 1 : name_end])
    return BindRequest(portal, name, (), tuple(values), ())


def _read_bind(body: bytes) -> BindRequest:
    reader = BodyReader(body)
    portal, statement = reader.text(), reader.text()
    formats = _formats(reader)
    values = tuple(_value(reader) for _ in range(reader.int16() & 0xFFFF))
    result_formats = _formats(reader)
    reader.end()
    return BindRequest(portal, statement, formats, values, result_formats)


def _formats(reader: BodyReader) -> tuple[int, ...]:
    formats = tuple(reader.int16() for _ in range(reader.int16() & 0xFFFF))
    if any(f not in (0, 1) for f in formats):
        raise ProtocolViolation("unsupported format code")
    return formats


def _value(reader: BodyReader) -> bytes | None:
    size = reader.int32()
    return None if size == -1 else reader.take(size)


def bind_portal(request: BindRequest, prepared: Prepared) -> Portal:
    """The portal of a Bind message; counts that do not fit are 08P01."""
    expected = len(prepared.parameters)
    if len(request.values) != expected:
        raise ProtocolViolation(
            f"bind message supplies {len(request.values)} parameters, but prepared statement "
            f'"{request.statement}" requires {expected}'
        )
    if not request.formats and not request.result_formats:
        texts = tuple([None if raw is None else decode_text(raw) for raw in request.values])
        return Portal(prepared, texts, (0,) * len(prepared.columns or ()))
    formats = spread_formats(request.formats, expected, "parameter")
    parameters = tuple(
        parameter_text(raw, sql_type, binary=bool(form))
        for raw, sql_type, form in zip(request.values, prepared.parameters, formats, strict=True)
    )
    columns = len(prepared.columns or ())
    return Portal(prepared, parameters, spread_formats(request.result_formats, columns, "result"))


def spread_formats(formats: Sequence[int], count: int, what: str) -> tuple[int, ...]:
    """None given: all text; one: the same for all; otherwise one each."""
    if not formats:
        return (0,) * count
    if len(formats) == 1:
        return (formats[0],) * count
    if len(formats) != count and count:
        raise ProtocolViolation(
            f"bind message has {len(formats)} {what} formats but {count} {what}s"
        )
    return tuple(formats)
