"""The write-ahead log: the one thing on a node that is synced (rule L1).

All Raft groups of a node share it, so that one sync carries what all of them wrote meanwhile;
the stores are caches of it. One append is one record (`wal_format`) in the newest of a row of
segment files; the index (`wal_index`) knows where each group's entries lie; reading it back
after a crash is `wal_recovery`'s.

Invariants:
- When an append is done, its writes survive any crash; before, all of them or none do.
- A failed write or sync is final. What the disk holds is then unknown (the kernel may have
  dropped the dirty pages and will report success next time), so nothing is retried: every
  later append fails and `on_failure` ends the process.
- Entries are given back only after their record's checksum was verified again.
- A segment is removed only when every entry in it is compacted, replaced or dropped, and a
  durable record says so.

A sync runs on a thread of its own, where it lets the loop collect the next batch. Only where
syncs are known to be quicker than the way to the thread and back (an NVMe drive with a
protected cache) a small batch is synced in place; `docs/wal.md` has the measurements.

Left out: a full disk is a failed write. Nothing is rewritten forward, so one idle group with
an old entry keeps all segments from there; `holding_groups` names such groups, whose state
machines are then made durable and compacted.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar, TypeVarTuple, overload

from cluster.disk import Disk, DiskFile, OsDisk
from cluster.errors import DataCorrupted, IoError
from cluster.probes import Probe, reached
from cluster.raft.log import (
    AppendDone,
    Entry,
    GroupId,
    GroupImage,
    GroupWrite,
    SnapshotMark,
)
from cluster.runtime import Done, Runtime
from storage.wal_format import (
    SEGMENT_HEADER_BYTES,
    Batch,
    RecordKind,
    SegmentHeader,
    bodies_start,
    decode_entries,
    decode_record,
    encode,
    encode_batch,
    encode_record,
    encode_segment_header,
    segment_name,
)
from storage.wal_index import LogIndex, Place
from storage.wal_recovery import Segment, recover
from storage.wal_turn import Turn

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

logger = logging.getLogger(__name__)

# How an append ends, without an error or with one.
_End: TypeAlias = Callable[[BaseException | None], None]


@dataclass(frozen=True, slots=True)
class WalSettings:
    """The log's bounds."""

    # A segment is closed by the first record that ends beyond this.
    segment_bytes: int = 64 << 20
    # Larger batches are always synced on the thread.
    inline_batch_bytes: int = 64 << 10
    # Syncs are done in place while they have lately taken less; 0 for never.
    inline_sync_s: float = 0.0003
    # After this long without an append the log is marked durable to its end and tidied.
    idle_s: float = 0.1


def stop_process(error: BaseException) -> None:
    """What a failed log does by default: ends the process, at once and without cleaning up."""
    logger.critical("the write-ahead log has failed; stopping", exc_info=error)
    logging.shutdown()
    os._exit(os.EX_IOERR)


class WriteAheadLog:
    """A node's log; implements `cluster.raft.log.LogStorage`. Made by `open`."""

    def __init__(
        self,
        directory: str,
        runtime: Runtime,
        disk: Disk,
        settings: WalSettings,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._directory = directory
        self._runtime = runtime
        self._disk = disk
        self._settings = settings
        self._on_failure = on_failure
        self._worker = runtime.worker("wal")
        self._turn = Turn()
        self._index = LogIndex()
        self._segments: list[Segment] = []
        self._files: dict[int, DiskFile] = {}
        self._dropped: list[GroupId] = []
        self._compacted: dict[GroupId, SnapshotMark] = {}
        self._needed_from = 0  # segments before this one can go
        self._durable = 0
        self._unmarked = False
        self._appended = False  # since the last idle check
        self._idle: asyncio.TimerHandle | None = None
        self._failed: BaseException | None = None
        self._closed = False
        self._sync_s = settings.inline_sync_s  # not quick until measured
        self._cached: tuple[Place, list[Entry]] | None = None
        self._cached_record: tuple[tuple[int, int], memoryview] | None = None
        self.cut_bytes = 0

    # Opening.

    @classmethod
    async def open(
        cls,
        directory: str | Path,
        runtime: Runtime,
        disk: Disk | None = None,
        *,
        settings: WalSettings | None = None,
        on_failure: Callable[[BaseException], None] = stop_process,
    ) -> WriteAheadLog:
        """The log in this directory, a new one where there is none.

        Raises DataCorrupted where something that was durable is damaged or missing,
        ObjectNotInPrerequisiteState for another format, OSError.
        """
        log = cls(str(directory), runtime, disk or OsDisk(), settings or WalSettings(), on_failure)
        try:
            await runtime.run_blocking(log._recover)
        except BaseException:
            log._worker.close()
            raise
        log._watch_idle()
        return log

    def _recover(self) -> None:
        self._disk.make_directory(self._directory)
        found = recover(self._disk, self._directory)
        self._index, self._segments = found.index, found.segments
        self.cut_bytes = found.cut_bytes
        if found.cut_bytes:
            reached(Probe.TORN_TAIL_CUT)
            logger.warning("write-ahead log: cut a torn tail of %d bytes", found.cut_bytes)
        if not self._segments:
            self._disk.sync_directory(str(Path(self._directory).parent))
            header = SegmentHeader(self._runtime.random.getrandbits(64), 1, 0)
            self._begin_segment(header, encode(self._index.opening()))
            return
        # After a mere kill what was read may be in the page cache only: it has been shown to
        # others by the time it could be lost, so it is made durable first.
        self._file_of(self._segments[-1].header.number).sync()
        self._durable = self._segments[-1].end_position
        self._unmarked = True
        self._needed_from = self._index.oldest_segment() or self._segments[-1].header.number

    def _begin_segment(self, header: SegmentHeader, opening: bytes) -> None:
        """Makes a segment with its opening, durable when this returns."""
        record = encode_record(
            header, SEGMENT_HEADER_BYTES, RecordKind.OPENING, header.base, opening
        )
        file = self._disk.open(self._path(header.number), create=True)
        self._files[header.number] = file
        file.write(0, encode_segment_header(header) + record)
        file.sync()
        self._disk.sync_directory(self._directory)
        self._segments.append(Segment(header, SEGMENT_HEADER_BYTES + len(record)))
        self._durable = self._segments[-1].end_position

    def _path(self, number: int) -> str:
        return f"{self._directory}/{segment_name(number)}"

    def _file_of(self, number: int) -> DiskFile:
        file = self._files.get(number)
        if file is None:
            file = self._files[number] = self._disk.open(self._path(number))
        return file

    def load(self) -> dict[GroupId, GroupImage]:
        """Every group as it survived; its entries are read from disk as they are iterated."""
        return {
            group_id: GroupImage(
                group.hard_state,
                group.mark,
                StoredEntries(self, group_id, group.mark.index + 1, group.last_index + 1),
            )
            for group_id, group in self._index.groups.items()
        }

    # Writing.

    def begin_append(self, writes: Sequence[GroupWrite], done: AppendDone) -> None:
        """Makes the batch durable with one sync, behind what was begun before, and calls `done`:
        with None, or with the error where the log has failed."""
        assert not self._closed, "append to a closed log"
        self._turn.take(partial(self._append, writes, done))

    async def append(self, writes: Sequence[GroupWrite]) -> None:
        """The same for who waits for it; raises IoError when the log has failed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begin_append(writes, partial(_settle, future))
        await future

    def _append(self, writes: Sequence[GroupWrite], done: AppendDone) -> None:
        end = partial(self._end_append, done)
        if self._failed is not None:
            end(self._failed)
        elif self._segments[-1].end < self._settings.segment_bytes:
            self._write_batch(writes, end)
        else:
            self._rotate(partial(self._write_batch, writes, end), end)

    def _end_append(self, done: AppendDone, error: BaseException | None) -> None:
        failure = None if error is None else self._fail(error)
        self._turn.leave()
        done(failure)

    def _write_batch(self, writes: Sequence[GroupWrite], end: _End) -> None:
        segment = self._segments[-1]
        batch, payload = self._take_batch(writes)
        record = encode_record(
            segment.header, segment.end, RecordKind.BATCH, self._durable, payload
        )
        # The index takes the batch before the disk has it: what is dropped or compacted
        # during the sync comes behind it, as it will when the log is read back.
        number, start = segment.header.number, bodies_start(payload)
        self._index.apply(batch, number, segment.end, len(record), start)
        needed_from = self._oldest_needed()
        offset, segment.end = segment.end, segment.end + len(record)

        def written(_: object, error: BaseException | None) -> None:
            if error is None:
                self._durable = segment.end_position
                self._needed_from = needed_from
                self._unmarked = self._appended = True
                self._watch_idle()
            end(error)

        self._write_synced(self._file_of(number), offset, record, written)

    def _take_batch(self, writes: Sequence[GroupWrite]) -> tuple[Batch, bytes]:
        dropped, self._dropped = self._dropped, []
        compacted, self._compacted = self._compacted, {}
        return encode_batch(dropped, list(compacted.items()), writes)

    def _oldest_needed(self) -> int:
        """The oldest segment that is needed once what the index knows is durable."""
        newest = self._segments[-1].header.number
        if len(self._segments) == 1:
            return newest
        return self._index.oldest_segment() or newest

    def _rotate(self, then: Callable[[], None], end: _End) -> None:
        last = self._segments[-1]
        header = SegmentHeader(last.header.log_id, last.header.number + 1, last.end_position)
        old = self._file_of(last.header.number)
        opening = encode(self._index.opening())

        def begun(_: object, error: BaseException | None) -> None:
            if error is None:
                then()
            else:
                end(error)

        self._worker.begin(partial(self._sync_and_begin, old, header, opening), begun)

    def _sync_and_begin(self, old: DiskFile, header: SegmentHeader, opening: bytes) -> None:
        # The old segment may end with a mark that was never synced, and the new one's header
        # vouches for all before it.
        old.sync()
        self._begin_segment(header, opening)

    def _write_synced(self, file: DiskFile, offset: int, record: bytes, done: Done[float]) -> None:
        write = partial(self._write_and_sync, file, offset, record)
        if len(record) > self._settings.inline_batch_bytes:
            self._worker.begin(write, done)
        elif self._sync_s >= self._settings.inline_sync_s:
            self._worker.begin(write, partial(self._timed, done))
        else:
            took_s, error = 0.0, None
            try:
                took_s = write()
            except Exception as failure:  # noqa: BLE001 - it goes where that of a thread goes
                error = failure
            self._timed(done, took_s, error)

    def _timed(self, done: Done[float], took_s: float | None, error: BaseException | None) -> None:
        if took_s is not None:
            # Rises at once and falls slowly: one slow sync in place stops the whole node.
            self._sync_s = max(took_s, 0.9 * self._sync_s + 0.1 * took_s)
        done(took_s, error)

    def _write_and_sync(self, file: DiskFile, offset: int, record: bytes) -> float:
        """Seconds it took; runs on the log's thread or in place."""
        start = self._runtime.monotonic()
        file.write(offset, record)
        file.sync()
        return self._runtime.monotonic() - start

    async def _off_loop(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs on the log's thread, and to its end even where the caller is cancelled."""
        outcome_to_come = self._worker.start(function, *args)
        try:
            return await asyncio.shield(outcome_to_come)
        except asyncio.CancelledError:
            # A batch given up in the middle may or may not be written: nothing may follow it
            # before that is known.
            for outcome in await asyncio.gather(outcome_to_come, return_exceptions=True):
                if isinstance(outcome, Exception):
                    self._fail(outcome)
            raise
        except Exception as error:
            raise self._fail(error) from error

    def _fail(self, error: BaseException) -> IoError:
        if self._failed is None:
            reached(Probe.LOG_FAILED)
            self._failed = error
            self._on_failure(error)
        return IoError("the write-ahead log has failed", detail=str(error))

    # Reading.

    def entries(self, group_id: GroupId, low: int, high: int) -> list[Entry]:
        """The entries low <= index < high, which are in the log; raises DataCorrupted."""
        found = list(self.iterate(group_id, low, high))
        assert len(found) == high - low, "entries that are not in the log"
        return found

    def iterate(self, group_id: GroupId, low: int, high: int) -> Iterator[Entry]:
        """The same entries, one record in memory at a time."""
        for run in list(self._index.groups[group_id].runs_between(low, high)):
            written, base = self._entries_at(run.place), run.place.base
            yield from written[max(low, run.first) - base : min(high - 1, run.last) + 1 - base]

    def _entries_at(self, place: Place) -> list[Entry]:
        """All entries of one write; the last one read stays decoded."""
        if self._cached is None or self._cached[0] != place:
            record = self._record_at(place)
            entries = decode_entries(record[place.start : place.start + place.length])
            self._cached = (place, entries)
        return self._cached[1]

    def _record_at(self, place: Place) -> memoryview:
        """A batch's record, verified; the last one read stays in memory."""
        key = (place.segment, place.offset)
        if self._cached_record is None or self._cached_record[0] != key:
            header = self._header_of(place.segment)
            data = memoryview(self._file_of(place.segment).read(place.offset, place.size))
            record = decode_record(header, data, place.offset, start=place.offset)
            if record is None or record.kind is not RecordKind.BATCH:
                raise DataCorrupted(
                    "write-ahead log is damaged",
                    detail=f"Segment {place.segment} at byte {place.offset}: "
                    "a record that was written cannot be read back.",
                )
            self._cached_record = (key, data)
        return self._cached_record[1]

    def _header_of(self, number: int) -> SegmentHeader:
        return self._segments[number - self._segments[0].header.number].header

    # Forgetting.

    def compact(self, group_id: GroupId, mark: SnapshotMark) -> None:
        """Forgets entries up to the mark; durable with the next append or soon by itself."""
        group = self._index.groups[group_id]
        if mark.index > group.mark.index:
            group.compact(mark)
            self._compacted[group_id] = mark
            self._watch_idle()

    def drop(self, group_id: GroupId) -> None:
        """Forgets a group; durable with the next append or soon by itself."""
        self._dropped.append(group_id)
        self._compacted.pop(group_id, None)
        self._index.forget((group_id,), ())
        self._watch_idle()

    def holding_groups(self) -> list[GroupId]:
        """The groups whose entries keep the oldest segment, where that is not the newest."""
        if len(self._segments) == 1:
            return []
        return self._index.groups_in(self._segments[0].header.number)

    @property
    def log_id(self) -> int:
        """A number drawn when the log was begun; it tells logs apart."""
        return self._segments[0].header.log_id

    @property
    def durable_position(self) -> int:
        """Up to where everything is durable; it only grows, over restarts, too."""
        return self._durable

    @property
    def size_bytes(self) -> int:
        """What the log takes on disk."""
        return sum(segment.end for segment in self._segments)

    def _watch_idle(self) -> None:
        if self._idle is None and not self._closed:
            self._idle = self._runtime.call_later(self._settings.idle_s, self._on_idle)

    def _on_idle(self) -> None:
        self._idle = None
        self._runtime.spawn(self._tidy(), "tidy write-ahead log")

    async def _tidy(self) -> None:
        """Makes what was forgotten durable, removes segments, marks an idle log."""
        await self._append_what_was_forgotten()
        async with self._turn:
            if not self._is_usable:
                return
            await self._remove_unneeded()
            if self._appended:
                self._appended = False
                self._watch_idle()
            elif self._unmarked:
                await self._off_loop(self._write_mark)

    async def _append_what_was_forgotten(self) -> None:
        if self._is_usable and (self._dropped or self._compacted):
            await self.append(())

    @property
    def _is_usable(self) -> bool:
        return not self._closed and self._failed is None

    async def _remove_unneeded(self) -> None:
        first = self._segments[0].header.number
        needed_from = min(self._needed_from, self._segments[-1].header.number)
        if first >= needed_from:
            return
        del self._segments[: needed_from - first]
        self._cached = self._cached_record = None
        for number in range(first, needed_from):
            file = self._files.pop(number, None)
            if file is not None:
                file.close()
        await self._off_loop(self._remove, range(first, needed_from))

    def _remove(self, numbers: range) -> None:
        reached(Probe.SEGMENT_REMOVED)
        for number in numbers:
            # Oldest first: what a crash leaves is a row without a gap.
            self._disk.remove(self._path(number))
        self._disk.sync_directory(self._directory)

    def _write_mark(self) -> None:
        """A witness that all before it was durable; it needs no sync of its own."""
        segment = self._segments[-1]
        record = encode_record(segment.header, segment.end, RecordKind.MARK, self._durable, b"")
        self._file_of(segment.header.number).write(segment.end, record)
        segment.end += len(record)
        self._unmarked = False

    async def close(self) -> None:
        """Marks the log durable to its end and gives files and thread back."""
        if self._idle is not None:
            self._idle.cancel()
        await self._append_what_was_forgotten()
        async with self._turn:
            if self._closed:
                return
            if self._failed is None:
                await self._off_loop(self._mark_and_sync)
            self._closed = True
            for file in self._files.values():
                file.close()
            self._worker.close()

    def _mark_and_sync(self) -> None:
        if self._unmarked:
            self._write_mark()
        self._file_of(self._segments[-1].header.number).sync()


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return  # given up
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


class StoredEntries(Sequence[Entry]):
    """Entries of a group in the log, read record by record as they are asked for."""

    def __init__(self, log: WriteAheadLog, group_id: GroupId, low: int, high: int) -> None:
        self._log = log
        self._group_id = group_id
        self._low = low
        self._high = high

    def __len__(self) -> int:
        return self._high - self._low

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        chosen = range(self._low, self._high)[index]
        if isinstance(chosen, int):
            return self._log.entries(self._group_id, chosen, chosen + 1)[0]
        return [self[at - self._low] for at in chosen]

    def __iter__(self) -> Iterator[Entry]:
        return self._log.iterate(self._group_id, self._low, self._high)
