"""The bytes of the write-ahead log: segment headers and records.

A log is a row of segment files. Positions count bytes over all segments ever written, so one
number says how far the log is durable. All numbers are little endian.

    segment   magic 8 | format u32 | crc u32 | log id u64 | number u64 | base position u64
    record    magic 4 | crc u32 | length u32 | kind u32 | durable position u64 | payload

The CRC32C of a record covers its head and payload and, unwritten, log id, segment number and
offset: a record is valid in its own place only, so stale bytes of an older segment or a
misdirected write never pass. `durable` is the position known durable when the record was
written; recovery needs it to tell a torn tail from corruption (rule L1, `wal_recovery`).

An `Opening` begins each segment; a mark is empty; a batch, one append, is

    length of the head u32 | head (`Batch`) | the entries of each write, one behind the other

so that the index is rebuilt without decoding entries, and the entries of one group are read
without those of others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec
from crc32c import crc32c

from cluster.raft.log import Entry, GroupId, GroupWrite, HardState, SnapshotMark

SEGMENT_MAGIC = b"dqe-wal\0"
RECORD_MAGIC = b"\xd9\x51rW"
FORMAT_VERSION = 1
# The largest payload; the log's writer batches far below it.
MAX_PAYLOAD_BYTES = 1 << 30

_SEGMENT = struct.Struct("<8sIIQQQ")
_SEGMENT_REST = struct.Struct("<QQQ")
_RECORD = struct.Struct("<4sIIIQ")
_RECORD_REST = struct.Struct("<IIQ")
_PLACE = struct.Struct("<QQQ")
SEGMENT_HEADER_BYTES = _SEGMENT.size
RECORD_HEADER_BYTES = _RECORD.size


class RecordKind(IntEnum):
    """What a record's payload is."""

    OPENING = 1
    BATCH = 2
    MARK = 3


_KINDS = {int(kind): kind for kind in RecordKind}


class GroupOpening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A group as a segment begins; its entries up to `last_index` lie before."""

    group_id: GroupId
    hard_state: HardState
    mark: SnapshotMark
    last_index: int


class Opening(msgspec.Struct, frozen=True, array_like=True):
    """First record of a segment: with it the segments before are needed for entries only."""

    groups: list[GroupOpening]


class WriteHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One `GroupWrite` without its entries: first to last, in `size` bytes (0 for none)."""

    group_id: GroupId
    hard_state: HardState | None
    mark: SnapshotMark | None
    first: int
    last: int
    size: int


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """One append: groups forgotten and compacted since the last one, then its writes."""

    dropped: list[GroupId]
    compacted: list[tuple[GroupId, SnapshotMark]]
    writes: list[WriteHead]


encode = msgspec.msgpack.Encoder().encode
decode_opening = msgspec.msgpack.Decoder(Opening).decode
decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode
_decode_batch = msgspec.msgpack.Decoder(Batch).decode
_HEAD_LENGTH = struct.Struct("<I")


def encode_batch(
    dropped: list[GroupId],
    compacted: list[tuple[GroupId, SnapshotMark]],
    writes: Sequence[GroupWrite],
) -> tuple[Batch, bytes]:
    """The head of a batch and its whole payload."""
    heads, bodies = [], []
    for write in writes:
        body = encode(write.entries) if write.entries else b""
        first, last = (write.entries[0].index, write.entries[-1].index) if body else (0, 0)
        heads.append(
            WriteHead(write.group_id, write.hard_state, write.snapshot, first, last, len(body))
        )
        bodies.append(body)
    batch = Batch(dropped, compacted, heads)
    head = encode(batch)
    return batch, b"".join((_HEAD_LENGTH.pack(len(head)), head, *bodies))


def decode_batch(payload: memoryview) -> Batch:
    """The head of a batch."""
    size = _HEAD_LENGTH.unpack_from(payload)[0]
    return _decode_batch(payload[_HEAD_LENGTH.size : _HEAD_LENGTH.size + size])


def bodies_start(payload: bytes | memoryview) -> int:
    """Where in a record (not in its payload) the entries of its first write begin."""
    return _RECORD.size + _HEAD_LENGTH.size + int(_HEAD_LENGTH.unpack_from(payload)[0])


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Which segment this is; `base` is the position of its first byte."""

    log_id: int
    number: int
    base: int


@dataclass(frozen=True, slots=True)
class Record:
    """A valid record found at an offset of a segment."""

    kind: RecordKind
    offset: int
    size: int  # head and payload
    durable: int
    payload: memoryview

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.size


def segment_name(number: int) -> str:
    """The file name of a segment; names sort as numbers do."""
    return f"wal-{number:016x}.log"


def segment_number(name: str) -> int | None:
    """The number in a segment's file name, None for any other file."""
    if len(name) == 24 and name.startswith("wal-") and name.endswith(".log"):
        try:
            return int(name[4:20], 16)
        except ValueError:
            return None
    return None


def encode_segment_header(header: SegmentHeader) -> bytes:
    """The first bytes of a segment file."""
    rest = _SEGMENT_REST.pack(header.log_id, header.number, header.base)
    checksum = crc32c(rest)
    return struct.pack("<8sII", SEGMENT_MAGIC, FORMAT_VERSION, checksum) + rest


def decode_segment_header(data: bytes) -> SegmentHeader | None:
    """The header, None where these bytes are none; raises ValueError for another format."""
    if len(data) < SEGMENT_HEADER_BYTES:
        return None
    magic, version, checksum, log_id, number, base = _SEGMENT.unpack_from(data)
    if magic != SEGMENT_MAGIC:
        return None
    if crc32c(data[_SEGMENT.size - _SEGMENT_REST.size : _SEGMENT.size]) != checksum:
        return None
    if version != FORMAT_VERSION:
        raise ValueError(f"format {version}, not {FORMAT_VERSION}")
    return SegmentHeader(log_id, number, base)


def encode_record(
    header: SegmentHeader, offset: int, kind: RecordKind, durable: int, payload: bytes
) -> bytes:
    """The bytes of a record that stands at this offset of this segment."""
    assert len(payload) <= MAX_PAYLOAD_BYTES, "batch too large for one record"
    rest = _RECORD_REST.pack(len(payload), int(kind), durable)
    checksum = _checksum(header, offset, rest, payload)
    return b"".join((RECORD_MAGIC, checksum.to_bytes(4, "little"), rest, payload))


def decode_record(
    header: SegmentHeader, data: memoryview, offset: int, start: int = 0
) -> Record | None:
    """The record at this offset of the segment, None where there is no valid one.

    `data` is the segment's bytes from offset `start` on.
    """
    at = offset - start
    if at + _RECORD.size > len(data):
        return None
    magic, checksum, length, number, durable = _RECORD.unpack_from(data, at)
    end = at + _RECORD.size + length
    kind = _KINDS.get(number)
    if magic != RECORD_MAGIC or kind is None or end > len(data):
        return None
    payload = data[at + _RECORD.size : end]
    rest = bytes(data[at + 8 : at + _RECORD.size])
    if _checksum(header, offset, rest, payload) != checksum:
        return None
    return Record(kind, offset, end - at, durable, payload)


def _checksum(header: SegmentHeader, offset: int, rest: bytes, payload: bytes | memoryview) -> int:
    place = _PLACE.pack(header.log_id, header.number, offset)
    return crc32c(payload, crc32c(place + rest))
