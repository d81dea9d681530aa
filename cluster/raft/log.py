"""What a Raft group keeps on disk, and the face of the log that keeps it.

One node has one log for all of its groups (rule L1), so that one fsync serves them all. The
write-ahead log in `storage` implements `LogStorage`; `MemoryLogStorage` is its plain twin for
tests, with the same crash semantics: whatever `append` has not returned for may be lost.

Invariants a `LogStorage` keeps for each group:
- entries are contiguous: the first one after the snapshot mark has index `snapshot.index + 1`;
- terms never fall from one entry to the next;
- an entry written at an index already present removes that entry and all behind it first;
- a snapshot mark in a `GroupWrite` removes *all* entries (those that follow the mark and are
  still good come again in the same write) and takes the place of the earlier mark;
- a batch may be cut at a crash, but only between two `GroupWrite`s and only if `append` had
  not returned; order within a batch and between batches holds.

Left out: the bytes of a snapshot. A state machine keeps its own files (rule L3); the log holds
only the mark up to which it has been cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias

import msgspec

NodeId: TypeAlias = int  # from 1; the catalog's NewType of the same name is one of these
GroupId: TypeAlias = int  # the tablet id, as a rule; see `group_of`

NO_NODE: NodeId = 0

# A tablet whose majority was lost for good goes on as another group: what the lost replicas
# still say, should they come back, is of a group that nobody here is a member of.
_INCARNATION_BIT = 40


def group_of(tablet_id: int, incarnation: int = 1) -> GroupId:
    """The group that carries that incarnation of a tablet, counted from 1."""
    return tablet_id + ((incarnation - 1) << _INCARNATION_BIT)


def tablet_of(group_id: GroupId) -> int:
    """The tablet that a group carries."""
    return group_id & ((1 << _INCARNATION_BIT) - 1)


class EntryKind(IntEnum):
    """Who an entry is for."""

    COMMAND = 0  # the state machine
    NOOP = 1  # opens a leader's term; the state machine sees its index pass, nothing else
    CONFIGURATION = 2  # the core; `data` is an encoded `Configuration`


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record of a group's log."""

    term: int
    index: int  # from 1
    kind: EntryKind
    data: bytes


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a voter may never forget. `commit` is a hint that saves work after a restart."""

    term: int = 0
    vote: NodeId = NO_NODE
    commit: int = 0


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """The members of a group: voters make quorums, learners receive the log. Both ascending.

    `sync`: nothing is applied or answered before *every* voter holds it (rule G5). Elections
    and changes of the members go by majority all the same.
    """

    voters: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    sync: bool = False

    @staticmethod
    def of(
        voters: Sequence[NodeId], learners: Sequence[NodeId] = (), *, sync: bool = False
    ) -> Configuration:
        """The configuration of these members, in canonical order; a voter is no learner."""
        chosen = tuple(sorted(set(voters)))
        return Configuration(chosen, tuple(sorted(set(learners) - set(chosen))), sync)

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Voters, then learners."""
        return self.voters + self.learners

    def with_voter(self, node_id: NodeId) -> Configuration:
        """This configuration with one more voter (promoted if it was a learner)."""
        return Configuration.of((*self.voters, node_id), self.learners, sync=self.sync)

    def with_learner(self, node_id: NodeId) -> Configuration:
        """This configuration with one more learner (demoted if it was a voter)."""
        voters = [voter for voter in self.voters if voter != node_id]
        return Configuration.of(voters, (*self.learners, node_id), sync=self.sync)

    def without(self, node_id: NodeId) -> Configuration:
        """This configuration without that member."""
        return Configuration.of(
            [voter for voter in self.voters if voter != node_id],
            [learner for learner in self.learners if learner != node_id],
            sync=self.sync,
        )

    def with_sync(self, sync: bool) -> Configuration:
        """The same members, in step or by majority."""
        return Configuration(self.voters, self.learners, sync)


class SnapshotMark(msgspec.Struct, frozen=True, array_like=True):
    """The last entry that is no longer in the log, and the members as of that entry.

    A bootstrapped group starts from the mark (0, 0, its first members).
    """

    index: int = 0
    term: int = 0
    configuration: Configuration = Configuration()


class GroupWrite(msgspec.Struct, frozen=True, gc=False):
    """What one group asks the log to keep, in the order snapshot, entries, hard state.

    All of one `GroupWrite` survives a crash or none of it.
    """

    group_id: GroupId
    hard_state: HardState | None = None
    entries: Sequence[Entry] = ()
    snapshot: SnapshotMark | None = None


@dataclass(frozen=True, slots=True)
class GroupImage:
    """What the log holds of one group when it is opened."""

    hard_state: HardState
    snapshot: SnapshotMark
    entries: Sequence[Entry]  # all that follow the mark


# What an append ends with: None once all of it is durable, or the error.
AppendDone: TypeAlias = Callable[[Exception | None], None]


class LogStorage(Protocol):
    """One node's log over all groups. Appends are begun one after the other; the rest are quick."""

    def load(self) -> dict[GroupId, GroupImage]:
        """Everything that survived, once, before the first append."""
        ...

    def begin_append(self, writes: Sequence[GroupWrite], done: AppendDone) -> None:
        """Make the whole batch durable with one sync, then call `done`, now or later. An error
        means: stop the process (L1)."""
        ...

    def entries(self, group_id: GroupId, low: int, high: int) -> list[Entry]:
        """The durable entries low <= index < high, which the caller knows to be there."""
        ...

    def compact(self, group_id: GroupId, mark: SnapshotMark) -> None:
        """Forget entries up to and including `mark.index`.

        Need not be durable: after a crash the log may start at an earlier mark again. The
        caller has made sure that the state machine holds everything up to there durably.
        """
        ...

    def drop(self, group_id: GroupId) -> None:
        """Forget the whole group. Durable no later than the next append that returns."""
        ...


class MemoryLogStorage:
    """The plain twin of the write-ahead log: keeps images in memory, forgets what it should.

    A batch is durable as soon as its append begins; tests that need a crash in the
    middle of a write use `keep_prefix`, which makes the next append keep only its first
    writes and fail as a dying disk would.
    """

    def __init__(self) -> None:
        self._images: dict[GroupId, GroupImage] = {}
        self.appends = 0
        self._fail_after: int | None = None

    def load(self) -> dict[GroupId, GroupImage]:
        return dict(self._images)

    def begin_append(self, writes: Sequence[GroupWrite], done: AppendDone) -> None:
        error = None
        try:
            self.append_now(writes)
        except OSError as failure:
            error = failure
        done(error)

    def append_now(self, writes: Sequence[GroupWrite]) -> None:
        """The same, raising the error."""
        kept = writes if self._fail_after is None else writes[: self._fail_after]
        for write in kept:
            self._write(write)
        self.appends += 1
        if self._fail_after is not None:
            self._fail_after = None
            raise OSError("simulated failure of the log")

    def keep_prefix(self, writes: int) -> None:
        """Let the next append keep only its first `writes` writes, then fail."""
        self._fail_after = writes

    def entries(self, group_id: GroupId, low: int, high: int) -> list[Entry]:
        image = self._images[group_id]
        first = image.snapshot.index + 1
        assert first <= low <= high <= first + len(image.entries), "entries not in the log"
        return list(image.entries[low - first : high - first])

    def compact(self, group_id: GroupId, mark: SnapshotMark) -> None:
        image = self._images[group_id]
        cut = mark.index - image.snapshot.index
        if cut <= 0:
            return
        assert cut <= len(image.entries), "compaction beyond the end of the log"
        assert image.entries[cut - 1].term == mark.term, "mark does not match the log"
        self._images[group_id] = GroupImage(image.hard_state, mark, image.entries[cut:])

    def drop(self, group_id: GroupId) -> None:
        self._images.pop(group_id, None)

    def _write(self, write: GroupWrite) -> None:
        image = self._images.get(write.group_id) or GroupImage(HardState(), SnapshotMark(), ())
        mark, entries = image.snapshot, image.entries
        if write.snapshot is not None:
            mark, entries = write.snapshot, ()
        if write.entries:
            keep = write.entries[0].index - mark.index - 1
            assert 0 <= keep <= len(entries), "a gap in the log"
            entries = (*entries[:keep], *write.entries)
        state = write.hard_state or image.hard_state
        self._images[write.group_id] = GroupImage(state, mark, entries)
