"""Streams of protocol messages to a node, and the bytes that come back."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def bind(name: str, *values: str | None, results: bytes = b"\0\0") -> bytes:
    body = b"\0" + name.encode() + b"\0\0\0" + struct.pack("!H", len(values))
    for value in values:
        raw = b"" if value is None else value.encode("latin-1")
        body += struct.pack("!i", -1 if value is None else len(raw)) + raw
    return message("B", body + results)


async def opened(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection past its first ReadyForQuery."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    start = struct.pack("!i", 196608) + b"user\0dqe\0database\0dqe\0\0"
    writer.write(struct.pack("!i", len(start) + 4) + start)
    await until_ready(reader, 1)
    return reader, writer


async def answers(address: str, streams: Sequence[bytes], size: int) -> list[bytes]:
    """What comes back for each stream of messages, sent in pieces of that size."""
    reader, writer = await opened(address)
    found = []
    try:
        for stream in streams:
            for place in range(0, len(stream), size):
                writer.write(stream[place : place + size])
                await writer.drain()
                await asyncio.sleep(0)
            ends = stream.count(message("S", b"")) + stream.count(b"Q\0\0")
            found.append(await until_ready(reader, ends))
    finally:
        writer.close()
    return found


async def until_ready(reader: asyncio.StreamReader, count: int, end: bytes = b"Z") -> bytes:
    """Everything up to that many ReadyForQuery, or messages of another kind."""
    found = b""
    while count:
        kind, length = struct.unpack("!ci", await reader.readexactly(5))
        body = await reader.readexactly(length - 4)
        count -= kind == end
        found += kind + body
    return found
