"""What a leader knows of one member, and how much it may send it.

    PROBE      not known where the logs part: one message at a time
    REPLICATE  known: messages stream, up to a window, `next_index` runs ahead of the answers
    SNAPSHOT   the entries it needs are gone: chunks of a snapshot, one at a time

A message lost in REPLICATE shows when a later one is refused; if none follows, the heartbeat's
answer makes the leader send an empty one, which is refused (back to PROBE) or confirms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

from cluster.raft.beats import Cover
from cluster.raft.settings import RaftSettings


class ProgressState(Enum):
    """See the module."""

    PROBE = auto()
    REPLICATE = auto()
    SNAPSHOT = auto()


class Progress:
    """One member's replication, in the leader's current term.

    `match_index` only ever rises: what a member has acknowledged it never loses (rule G3).
    `acked_sent_s` is the send time, on the leader's clock, of the newest message it answered;
    None until it has answered one.
    """

    __slots__ = (
        "_in_flight",
        "_in_flight_bytes",
        "acked_round",
        "acked_sent_s",
        "chunk_due_s",
        "chunk_offset_bytes",
        "chunk_sent_s",
        "commit_sent",
        "commit_sent_s",
        "cover",
        "match_index",
        "next_index",
        "nudged_s",
        "probe_in_flight",
        "sent_s",
        "snapshot_floor",
        "state",
        "uncovered_s",
    )

    def __init__(self, next_index: int) -> None:
        self.state = ProgressState.PROBE
        self.match_index = 0
        self.next_index = next_index
        self.probe_in_flight = False
        self.sent_s = float("-inf")  # when entries last went out, which say what a heartbeat does
        self.commit_sent = 0
        self.commit_sent_s = float("-inf")  # when that was first sent
        self.cover: Cover | None = None  # beats stand for its heartbeats (`beats`)
        self.acked_sent_s: float | None = None
        self.acked_round = 0
        self.nudged_s = float("-inf")  # when an empty message last asked whether one was lost
        self.uncovered_s = float("-inf")  # when the member last refused to be covered
        self.snapshot_floor = 0
        self.chunk_offset_bytes = 0
        self.chunk_sent_s: float | None = None
        self.chunk_due_s: float | None = None  # when the next chunk may go, if that is later
        self._in_flight: deque[tuple[int, int]] = deque()  # (last index, bytes)
        self._in_flight_bytes = 0

    def may_send(self, settings: RaftSettings) -> bool:
        """Whether one more message with entries may go out."""
        if self.state is ProgressState.PROBE:
            return not self.probe_in_flight
        return (
            self.state is ProgressState.REPLICATE
            and len(self._in_flight) < settings.in_flight_appends
            and self._in_flight_bytes < settings.in_flight_bytes
        )

    def sent(self, last_index: int, size_bytes: int, now_s: float) -> None:
        """A message with entries up to `last_index` has gone out."""
        self.sent_s = now_s
        if self.state is ProgressState.PROBE:
            self.probe_in_flight = True
            return
        self.next_index = last_index + 1
        self._in_flight.append((last_index, size_bytes))
        self._in_flight_bytes += size_bytes

    def acknowledged(self, index: int) -> bool:
        """The member holds everything up to `index`; whether that is news."""
        while self._in_flight and self._in_flight[0][0] <= index:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        self.probe_in_flight = False
        if index <= self.match_index:
            return False
        self.match_index = index
        self.next_index = max(self.next_index, index + 1)
        return True

    def heard(self, sent_at_s: float, round_: int) -> None:
        """The member answered a message sent then."""
        if self.acked_sent_s is None or sent_at_s > self.acked_sent_s:
            self.acked_sent_s = sent_at_s
        self.acked_round = max(self.acked_round, round_)

    @property
    def heard_s(self) -> float | None:
        """When the newest message or beat was sent that the member answered for this group."""
        covered_s = None if self.cover is None else self.cover.acked_sent_s
        if covered_s is None or (self.acked_sent_s is not None and self.acked_sent_s > covered_s):
            return self.acked_sent_s
        return covered_s

    def told_commit(self, commit: int, now_s: float) -> None:
        """A message with that commit index has gone out."""
        if commit > self.commit_sent:
            self.commit_sent, self.commit_sent_s = commit, now_s

    def is_quiet(self, last_index: int, commit: int) -> bool:
        """Whether there is nothing to tell the member that a beat does not say.

        It holds the whole log, has answered something sent after the commit index was, and its
        answers to beats count for this group.
        """
        return (
            self.state is ProgressState.REPLICATE
            and self.match_index == last_index
            and self.commit_sent >= commit
            and self.acked_sent_s is not None
            and self.acked_sent_s > self.commit_sent_s
            and self.cover is not None
            and self.cover.acked_sent_s is not None
        )

    def uncover(self) -> None:
        """Heartbeats of its own again; what beats have brought stays."""
        if self.cover is not None:
            self.acked_sent_s = self.heard_s
            self.cover.end()
            self.cover = None

    def become_probe(self, next_index: int) -> None:
        """Find out again where the logs part, from there."""
        self._enter(ProgressState.PROBE)
        self.next_index = max(next_index, self.match_index + 1)

    def become_replicate(self) -> None:
        """The logs are known to agree up to `match_index`."""
        self._enter(ProgressState.REPLICATE)
        self.next_index = self.match_index + 1

    def become_snapshot(self) -> None:
        """Entries will not do."""
        self._enter(ProgressState.SNAPSHOT)
        self.chunk_offset_bytes = 0
        self.chunk_sent_s = None
        self.chunk_due_s = None

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.probe_in_flight = False
        self._in_flight.clear()
        self._in_flight_bytes = 0


def quorum_size(voters: Sequence[int]) -> int:
    """How many voters are a majority."""
    return len(voters) // 2 + 1
