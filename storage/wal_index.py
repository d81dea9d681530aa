"""What the log holds, in memory: each group's state and where its entries lie on disk.

The index is sans-IO: recovery and the running log feed it the same records. An entry is not
kept, only the record it lies in; the groups' own caches hold the recent ones.

Invariants for each group:
- runs are ascending, touch each other, and cover (first located index)..last_index;
- where last_index > mark.index, the first run reaches down to mark.index + 1 (`check`).
  While segments are replayed this may not hold yet: the record that compacted entries whose
  segment is gone stands in a later segment than the one that opened with them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from cluster.errors import DataCorrupted
from cluster.raft.log import GroupId, HardState, SnapshotMark
from storage.wal_format import Batch, GroupOpening, Opening, WriteHead


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies in its segment, and the entries of one write in the record."""

    segment: int
    offset: int
    size: int
    start: int  # from the beginning of the record
    length: int
    base: int  # the index of the first entry there


@dataclass(frozen=True, slots=True)
class Run:
    """Entries of one group that lie in one place, first and last included."""

    first: int
    last: int
    place: Place


_first = attrgetter("first")


@dataclass(slots=True)
class GroupLog:
    """One group."""

    hard_state: HardState = field(default_factory=HardState)
    mark: SnapshotMark = field(default_factory=SnapshotMark)
    last_index: int = 0
    runs: list[Run] = field(default_factory=list)

    def write(self, write: WriteHead, place: Place) -> None:
        """Takes a write whose entries lie there."""
        if write.mark is not None:
            self.mark, self.last_index = write.mark, write.mark.index
            self.runs.clear()
        if write.size:
            assert self.mark.index < write.first <= self.last_index + 1, "a write leaves a gap"
            self._cut_from(write.first)
            self.runs.append(Run(write.first, write.last, place))
            self.last_index = write.last
        if write.hard_state is not None:
            self.hard_state = write.hard_state

    def _cut_from(self, index: int) -> None:
        while self.runs and self.runs[-1].first >= index:
            self.runs.pop()
        if self.runs and self.runs[-1].last >= index:
            run = self.runs[-1]
            self.runs[-1] = Run(run.first, index - 1, run.place)

    def compact(self, mark: SnapshotMark) -> None:
        """Forgets entries up to the mark; an older mark changes nothing."""
        if mark.index <= self.mark.index:
            return
        assert mark.index <= self.last_index, "compaction beyond the end of the log"
        self.mark = mark
        keep = bisect_right(self.runs, mark.index, key=_first)
        if keep > 0 and self.runs[keep - 1].last > mark.index:
            keep -= 1
        del self.runs[:keep]

    def check(self, group_id: GroupId) -> None:
        """Raises DataCorrupted where entries that should be there are not."""
        if self.last_index > self.mark.index and (
            not self.runs or self.runs[0].first > self.mark.index + 1
        ):
            raise DataCorrupted(
                "write-ahead log lacks entries",
                detail=f"Group {group_id} has no entry {self.mark.index + 1}; "
                f"its last is {self.last_index}.",
            )

    def runs_between(self, low: int, high: int) -> Iterator[Run]:
        """The runs that hold entries low <= index < high."""
        start = max(0, bisect_right(self.runs, low, key=_first) - 1)
        for run in self.runs[start:]:
            if run.first >= high:
                return
            if run.last >= low:
                yield run


class LogIndex:
    """All groups of a node."""

    def __init__(self) -> None:
        self.groups: dict[GroupId, GroupLog] = {}

    def open_segment(self, opening: Opening) -> None:
        """Takes the opening of the first segment there is."""
        assert not self.groups
        for group in opening.groups:
            self.groups[group.group_id] = GroupLog(group.hard_state, group.mark, group.last_index)

    def opening(self) -> Opening:
        """What the next segment opens with."""
        return Opening(
            [
                GroupOpening(group_id, group.hard_state, group.mark, group.last_index)
                for group_id, group in self.groups.items()
            ]
        )

    def apply(self, batch: Batch, segment: int, offset: int, size: int, start: int) -> None:
        """Takes a batch; `start` is where in its record the first write's entries begin."""
        self.forget(batch.dropped, batch.compacted)
        for write in batch.writes:
            group = self.groups.get(write.group_id)
            if group is None:
                group = self.groups[write.group_id] = GroupLog()
            group.write(write, Place(segment, offset, size, start, write.size, write.first))
            start += write.size

    def forget(
        self,
        dropped: Iterable[GroupId],
        compacted: Sequence[tuple[GroupId, SnapshotMark]],
    ) -> None:
        """Takes what was dropped and compacted."""
        for group_id in dropped:
            self.groups.pop(group_id, None)
        for group_id, mark in compacted:
            group = self.groups.get(group_id)
            if group is not None:
                group.compact(mark)

    def check(self) -> None:
        """Raises DataCorrupted where a group lacks entries."""
        for group_id, group in self.groups.items():
            group.check(group_id)

    def oldest_segment(self) -> int | None:
        """The oldest segment that holds an entry still needed."""
        numbers = [group.runs[0].place.segment for group in self.groups.values() if group.runs]
        return min(numbers, default=None)

    def groups_in(self, segment: int) -> list[GroupId]:
        """The groups whose oldest entry lies in this segment or an older one."""
        return [
            group_id
            for group_id, group in self.groups.items()
            if group.runs and group.runs[0].place.segment <= segment
        ]
