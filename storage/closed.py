"""Closed timestamps: up to where a replica may be read without asking anybody (rule R4).

    leader: under a valid lease, close(S) -> (term, log index, closed timestamp) -> followers
    follower: a read at or below it needs only that index applied

A leader closes a timestamp that the oracle has issued already, cut to the floor of every
transaction pending here. Whatever is not marked yet draws its commit timestamp later, and so
above it (rule C1); what is pending commits above its floor; and everything else that committed
at or below it is applied, so the applied index holds it. With the lease valid *after* that, no
other leader can have committed anything this one does not know. The statement then is true for
ever, whoever leads, and may come late, twice or out of order.

Rule C7: what this leader has closed it does not commit at or below. No history breaks that as
long as the oracle only grows; `refuses` makes sure.

What a follower learns by asking for a read index at S says the same, and is kept the same way.
A replica keeps the last few statements: the newest may name an index that it has not got yet, and
that it will not get before there is a leader again, while a read of some seconds ago needs less.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from storage.fragments import Timestamp

# Statements of a busy tablet that a replica keeps: a quarter of a minute's worth.
KEPT = 8


class Answered(StrEnum):
    """Who made a read possible: the leader itself, a follower that asked it how far to follow,
    or any replica by what was closed, without asking anybody."""

    BY_LEADER = "leader"
    BY_FOLLOWER = "follower"
    AS_CLOSED = "closed"


class Closed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All commits at or below `timestamp` lie at or below `index` of the log."""

    term: int
    index: int
    timestamp: Timestamp


class ClosedTimestamps:
    """What one replica has closed as leader, and what it has learnt."""

    def __init__(self) -> None:
        self._own: Timestamp = 0
        # The later the timestamp, the higher the index; none that another makes needless.
        self._kept: tuple[Closed, ...] = ()

    @property
    def timestamp(self) -> Timestamp:
        """Up to there this replica can be read by itself, once it has caught up; 0 for never."""
        return self._kept[-1].timestamp if self._kept else 0

    def close(
        self, issued: Timestamp, floors: Iterable[Timestamp], term: int, applied_index: int
    ) -> Closed:
        """The leader's next statement; to be sent only if the lease is valid after this call."""
        timestamp = min((issued, *floors))
        self._own = max(self._own, timestamp)
        return Closed(term, applied_index, timestamp)

    def refuses(self, commit_ts: Timestamp) -> bool:
        """Whether a commit at that timestamp would come too late (rule C7)."""
        return commit_ts <= self._own

    def learn(self, closed: Closed) -> None:
        """Take a leader's statement."""
        if any(_covers(known, closed) for known in self._kept):
            return
        others = [known for known in self._kept if not _covers(closed, known)]
        others.append(closed)
        self._kept = tuple(sorted(others, key=_timestamp)[-KEPT:])

    def index_for(self, timestamp: Timestamp) -> int | None:
        """The index to apply before a read at the timestamp; None: the leader must be asked."""
        return next((c.index for c in self._kept if timestamp <= c.timestamp), None)


def _covers(one: Closed, other: Closed) -> bool:
    """Whether a replica that has the first statement needs the second for nothing."""
    return one.timestamp >= other.timestamp and one.index <= other.index


def _timestamp(closed: Closed) -> Timestamp:
    return closed.timestamp
