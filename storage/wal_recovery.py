"""Reading the log back: what survived, where it ends, and whether that is a crash or damage.

Records are written one behind the other, and a record tells how far the log was durable when
it was written. So, at the first bad record (rule L1):

- if any valid record, before it or behind it, knew that place to be durable, then what was
  once safely on disk is gone: corruption, and the node must not start;
- otherwise it was being written when the node stopped: the tail is cut there.

A record behind the bad one is found by its magic number, since the bad one's length is not to
be trusted. The header of a later segment is such a witness too: a segment is begun only once
all before it is durable. The last batch of a log has no witness before the next record, and a
mark is written behind it once the log falls idle; damage to a batch in that moment is taken
for a torn write, as in every log.

Left out: salvage. A log with damage in its durable part belongs to a node that rejoins empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.disk import Disk
from cluster.errors import DataCorrupted, ObjectNotInPrerequisiteState
from storage.wal_format import (
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    SEGMENT_HEADER_BYTES,
    Opening,
    Record,
    RecordKind,
    SegmentHeader,
    bodies_start,
    decode_batch,
    decode_opening,
    decode_record,
    decode_segment_header,
    encode,
    segment_name,
    segment_number,
)
from storage.wal_index import LogIndex

EMPTY_SEGMENT_BYTES = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + len(encode(Opening([])))


@dataclass(slots=True)
class Segment:
    """A segment on disk: what its header says, and where its valid records end."""

    header: SegmentHeader
    end: int

    @property
    def end_position(self) -> int:
        """The position behind its last record."""
        return self.header.base + self.end


@dataclass(slots=True)
class Recovered:
    """What a directory holds; no segments where it holds no log yet."""

    index: LogIndex = field(default_factory=LogIndex)
    segments: list[Segment] = field(default_factory=list)
    cut_bytes: int = 0
    durable: int = 0  # the highest position any record knew to be durable


def recover(disk: Disk, directory: str) -> Recovered:
    """Reads all segments and cuts a torn tail off; raises DataCorrupted."""
    found = Recovered()
    numbers = _segment_numbers(disk, directory)
    for number in numbers:
        is_last = number == numbers[-1]
        data = _read(disk, directory, number)
        header = _header(data, number)
        if header is None:
            if not is_last:
                raise _corrupted(number, 0, "its header is damaged")
            _check_unfinished(found, number, data)
            _drop_unfinished(disk, directory, found, number, data)
            break
        if found.segments and not _continues(header, found.segments[-1]):
            raise _corrupted(number, 0, "it does not continue the segment before it")
        if not _replay(found, header, data, is_last=is_last):
            _drop_unfinished(disk, directory, found, number, data)
            break
        _cut(disk, directory, found, len(data))
    found.index.check()
    return found


def _segment_numbers(disk: Disk, directory: str) -> list[int]:
    numbers = [n for name in disk.names(directory) if (n := segment_number(name)) is not None]
    if numbers and numbers[-1] - numbers[0] + 1 != len(numbers):
        raise DataCorrupted(
            "write-ahead log lacks a segment",
            detail=f"Segments {numbers[0]} to {numbers[-1]} should be there, {len(numbers)} are.",
        )
    return numbers


def _read(disk: Disk, directory: str, number: int) -> bytes:
    file = disk.open(f"{directory}/{segment_name(number)}")
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def _header(data: bytes, number: int) -> SegmentHeader | None:
    try:
        header = decode_segment_header(data)
    except ValueError as error:
        raise ObjectNotInPrerequisiteState(
            f"write-ahead log segment {number} was written by another version", detail=str(error)
        ) from error
    if header is not None and header.number != number:
        raise _corrupted(number, 0, f"its header says it is segment {header.number}")
    return header


def _continues(header: SegmentHeader, before: Segment) -> bool:
    return header.log_id == before.header.log_id and header.base == before.end_position


def _replay(found: Recovered, header: SegmentHeader, data: bytes, *, is_last: bool) -> bool:
    """Takes the segment's records; False where it lacks even its opening."""
    view = memoryview(data)
    found.durable = max(found.durable, header.base)
    offset = SEGMENT_HEADER_BYTES
    while (record := decode_record(header, view, offset)) is not None:
        if offset == SEGMENT_HEADER_BYTES:
            if record.kind is not RecordKind.OPENING:
                raise _corrupted(header.number, offset, "it does not begin with an opening")
            if not found.segments:
                found.index.open_segment(decode_opening(record.payload))
        elif record.kind is RecordKind.BATCH:
            batch, start = decode_batch(record.payload), bodies_start(record.payload)
            found.index.apply(batch, header.number, offset, record.size, start)
        found.durable = max(found.durable, record.durable)
        offset = record.end
    if offset < len(data):
        if not is_last:
            raise _corrupted(header.number, offset, "a later segment follows the damage")
        _check_torn(found, header, view, offset)
    if offset == SEGMENT_HEADER_BYTES:
        if not is_last:
            raise _corrupted(header.number, offset, "it does not begin with an opening")
        return False
    found.segments.append(Segment(header, offset))
    return True


def _check_torn(found: Recovered, header: SegmentHeader, view: memoryview, offset: int) -> None:
    """Raises DataCorrupted where the bad record at this offset was durable once."""
    for record in _records_behind(header, view, offset):
        found.durable = max(found.durable, record.durable)
    if found.durable > header.base + offset:
        raise _corrupted(header.number, offset, "a record that was durable is damaged")


def _records_behind(header: SegmentHeader, view: memoryview, offset: int) -> list[Record]:
    data = bytes(view[offset + 1 :])
    records = []
    position = data.find(RECORD_MAGIC)
    while position >= 0:
        record = decode_record(header, view, offset + 1 + position)
        if record is not None:
            records.append(record)
        position = data.find(RECORD_MAGIC, position + 1)
    return records


def _check_unfinished(found: Recovered, number: int, data: bytes) -> None:
    """Raises DataCorrupted where a segment with a damaged header was in use already."""
    if data.count(RECORD_MAGIC) > 1:
        raise _corrupted(number, 0, "its header is damaged")
    if not found.segments:
        # The first segment of all begins with an empty opening, and was durable with it
        # before anything else was written.
        if len(data) > EMPTY_SEGMENT_BYTES:
            raise _corrupted(number, 0, "its header is damaged")
        return
    before = found.segments[-1]
    header = SegmentHeader(before.header.log_id, number, before.end_position)
    for record in _records_behind(header, memoryview(data), 0):
        found.durable = max(found.durable, record.durable)


def _drop_unfinished(
    disk: Disk, directory: str, found: Recovered, number: int, data: bytes
) -> None:
    """Removes a last segment that was being made when the node stopped."""
    position = found.segments[-1].end_position if found.segments else 0
    if found.durable > position:
        raise _corrupted(number, 0, "a record that was durable is damaged")
    disk.remove(f"{directory}/{segment_name(number)}")
    disk.sync_directory(directory)
    found.cut_bytes += len(data)


def _cut(disk: Disk, directory: str, found: Recovered, size: int) -> None:
    """Removes what follows the last valid record, durably, before anything is written."""
    segment = found.segments[-1]
    if segment.end == size:
        return
    file = disk.open(f"{directory}/{segment_name(segment.header.number)}")
    try:
        file.truncate(segment.end)
        file.sync()
    finally:
        file.close()
    found.cut_bytes += size - segment.end


def _corrupted(number: int, offset: int, why: str) -> DataCorrupted:
    return DataCorrupted(
        "write-ahead log is damaged",
        detail=f"Segment {number} at byte {offset}: {why}.",
        hint="Keep this directory. Where other nodes hold replicas of what it held, start the node"
        " with an empty directory and --join: it joins as a new one.",
    )
