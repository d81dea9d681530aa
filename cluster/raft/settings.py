"""The times and bounds of the Raft core. All times in seconds, all sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """One set for all groups of a cluster; the timeouts must be equal on all nodes.

    A leader's lease is shorter than the election timeout by the share that clocks may drift
    apart in it, so that it ends before any voter that promised it breaks its promise.
    """

    election_timeout_s: float = 1.2
    election_spread: float = 0.6  # a node's timeout is drawn from 1 to 1 + this times the above
    heartbeat_interval_s: float = 0.2
    lease_share: float = 0.85  # of the election timeout

    # A follower's state machine takes many entries at once, where nobody waits for it: the oldest
    # waits so long, unless there are more or larger ones than that.
    gather_s: float = 0.2
    gather_entries: int = 64
    gather_bytes: int = 48 * KIB

    append_bytes: int = 1 * MIB  # of entries in one message; a larger entry travels alone
    append_entries: int = 1024  # in one message
    in_flight_appends: int = 32  # unanswered messages to one follower
    in_flight_bytes: int = 16 * MIB  # unanswered entries to one follower
    snapshot_chunk_bytes: int = 1 * MIB
    snapshot_bytes_per_s: float = 64 * MIB  # that leave a node, of all groups together
    cached_log_bytes: int = 8 * MIB  # of durable entries kept in memory, a group
    promotion_lag_entries: int = 1000  # a learner further behind is not made a voter

    def __post_init__(self) -> None:
        assert 0 < self.heartbeat_interval_s * 2 <= self.election_timeout_s, "heartbeats too rare"
        assert 0 < self.lease_share < 1, "a lease must end before the election timeout"

    @property
    def lease_s(self) -> float:
        """How long after its send time an acknowledged heartbeat keeps a lease."""
        return self.election_timeout_s * self.lease_share
