"""The variables of one Raft replica, and the few moves every part of the protocol makes.

The other modules are functions over `RaftState`, one module a part of the protocol (see the
package). Nothing here reads a clock: `now_s` is the time the driver gave with the input that
is being handled. Messages gather in `messages` and `after_write` until `ready` takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from cluster.probes import Probe, reached
from cluster.raft.beats import BeatReceiver, BeatSender
from cluster.raft.log import NO_NODE, Configuration, GroupId, HardState, NodeId, SnapshotMark
from cluster.raft.log_view import LogView
from cluster.raft.messages import Envelope, Message
from cluster.raft.progress import Progress, quorum_size
from cluster.raft.settings import RaftSettings
from cluster.raft.snapshot_data import MemorySnapshot, SnapshotData, SnapshotPace, SnapshotSink


class Role(StrEnum):
    """What a replica is in its current term."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class ReadState:
    """A read is linearizable once `index` is applied. `context` is what the caller gave."""

    context: int
    index: int


@dataclass(slots=True)
class PendingRead:
    """A read waiting for a round of heartbeats; `round` is 0 until its round has gone out."""

    context: int
    round: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class OutgoingSnapshot:
    """A snapshot this leader streams, the same to every follower that needs one; or, at a
    follower, the whole of one that has come."""

    mark: SnapshotMark
    data: SnapshotData
    snapshot_id: int = 0


@dataclass(slots=True)
class IncomingSnapshot:
    """A snapshot being received; another one starts it anew."""

    snapshot_id: int
    mark: SnapshotMark
    sink: SnapshotSink


class RaftState:
    """See the module."""

    def __init__(
        self,
        group_id: GroupId,
        node_id: NodeId,
        log: LogView,
        hard_state: HardState,
        settings: RaftSettings,
        random: Random,
        now_s: float,
        first_leader: NodeId = NO_NODE,
        beats: Callable[[NodeId], BeatSender] | None = None,
    ) -> None:
        self.group_id = group_id
        self.beats = beats  # what this node leads at a peer; None: every group beats alone
        self.node_id = node_id
        self.log = log
        self.settings = settings
        self.random = random
        self.now_s = now_s
        self.first_leader = first_leader  # campaigns first when the group is new

        # What is kept on disk, and its write-out.
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.commit = max(log.mark.index, min(hard_state.commit, log.last_index))
        self.released = self.commit  # committed, and on every voter where that is asked (G5)
        self.delivered_index = log.mark.index  # handed to the driver to apply

        # Following.
        self.role = Role.FOLLOWER
        self.leader_id: NodeId = NO_NODE
        self.promised_until_s = now_s  # no vote before, but at the leader's own word
        self.election_due_s = now_s
        self.awaited_index = 0  # the leader knows somebody who waits until that is applied
        self.covered_by: BeatReceiver | None = None  # beats stand for its leader's heartbeats
        self.open_sink: Callable[[], SnapshotSink] = MemorySnapshot
        self.awaits_snapshot = False  # the state machine holds less than the log's mark
        self.incoming: IncomingSnapshot | None = None
        self.installing: OutgoingSnapshot | None = None  # the driver is restoring it

        # Campaigning.
        self.votes: dict[NodeId, bool] = {}

        # Leading.
        self.progress: dict[NodeId, Progress] = {}  # every member but this one
        self.term_start_index = 0  # this leader's own first entry
        self.leader_since_s = now_s
        self.heartbeat_due_s = now_s
        self.read_round = 0
        self.reads: list[PendingRead] = []
        self.tells_at_once = False  # every commit, as soon as it happens
        self.urgent_index = 0  # commits up to there are told, and applied, at once
        self.outgoing: OutgoingSnapshot | None = None
        self.pace = SnapshotPace(settings.snapshot_bytes_per_s)
        self.snapshot_wanted_index = 0  # the driver is to offer one at this index or above
        self.transferee: NodeId = NO_NODE
        self.transfer_due_s = now_s
        self.lease_forfeited = False  # a TimeoutNow of this term may still be on its way

        # Output.
        self.messages: list[Envelope] = []
        self.after_write: list[Envelope] = []
        self.confirmed_reads: list[ReadState] = []

    @property
    def configuration(self) -> Configuration:
        """The members that count now: the newest configuration in the log (thesis 4.1)."""
        return self.log.configuration

    @property
    def is_voter(self) -> bool:
        return self.node_id in self.configuration.voters

    @property
    def is_only_voter(self) -> bool:
        return self.configuration.voters == (self.node_id,)

    # -- output ----------------------------------------------------------------------------

    def send(self, to: NodeId, message: Message) -> None:
        """Send as soon as the current term and vote are durable."""
        self.messages.append(Envelope(to, message))

    def send_after_write(self, to: NodeId, message: Message) -> None:
        """Send once everything in the log and the hard state as of now is durable."""
        self.after_write.append(Envelope(to, message))

    # -- changes of role -------------------------------------------------------------------

    def become_follower(self, term: int, leader_id: NodeId) -> None:
        """Follow `leader_id` (or nobody yet) in `term`."""
        assert term >= self.term, "a term never falls"
        if (term, leader_id) != (self.term, self.leader_id):
            self.uncover()
        if term > self.term:
            self.term = term
            self.vote = NO_NODE
        if self.role is Role.LEADER:
            reached(Probe.LEADER_DEPOSED)
            self._stop_leading()
        self.role = Role.FOLLOWER
        self.leader_id = leader_id
        self.votes = {}
        self.delay_election()

    def _stop_leading(self) -> None:
        self.commit = self.released  # a follower takes its leader's word for it
        self.end_covers()
        self.progress = {}
        self.reads = []
        self.drop_outgoing()
        self.snapshot_wanted_index = 0
        self.transferee = NO_NODE

    def drop_outgoing(self) -> None:
        """Let go of the snapshot that was streamed."""
        if self.outgoing is not None:
            self.outgoing.data.close()
            self.outgoing = None

    def end_covers(self) -> None:
        """No beat stands for a member of this leader any more."""
        for progress in self.progress.values():
            progress.uncover()

    @property
    def promise_s(self) -> float:
        """No vote before that time, but at the leader's own word."""
        if self.covered_by is None:
            return self.promised_until_s
        promised_s = self.covered_by.heard_s + self.settings.election_timeout_s
        return max(self.promised_until_s, promised_s)

    def uncover(self) -> None:
        """Beats stand for the leader's heartbeats no more; what they promised holds."""
        if self.covered_by is None:
            return
        heard_s = self.covered_by.heard_s
        self.promised_until_s = self.promise_s
        self.covered_by.disagree(self.group_id)
        self.covered_by = None
        self.delay_election(min(heard_s, self.now_s))
        if self.election_due_s <= self.now_s:  # this node itself was asleep
            self.delay_election()

    def hear_leader(self, leader_id: NodeId) -> None:
        """A message of the current term's leader has come: promise it a lease's time."""
        if self.role is not Role.FOLLOWER or self.leader_id != leader_id:
            self.become_follower(self.term, leader_id)
        self.promised_until_s = self.now_s + self.settings.election_timeout_s
        self.delay_election()

    def delay_election(self, since_s: float | None = None) -> None:
        """Wait a whole, freshly drawn timeout before the next campaign (paper 5.2)."""
        spread = 1.0 + self.settings.election_spread * self.random.random()
        from_s = self.now_s if since_s is None else since_s
        self.election_due_s = from_s + self.settings.election_timeout_s * spread

    # -- quorums ---------------------------------------------------------------------------

    def voters_agree_on(self, value: Callable[[NodeId], float]) -> float:
        """The highest value that a majority of the voters has reached."""
        voters = self.configuration.voters
        values = sorted((value(voter) for voter in voters), reverse=True)
        return values[quorum_size(voters) - 1]

    def quorum_heard_s(self, unheard_s: float) -> float:
        """The newest time at which a majority is known to have followed this leader.

        That is the *send* time of the messages a majority has answered (rule G1). A voter not
        heard of in this term counts as `unheard_s`.
        """

        def heard_s(voter: NodeId) -> float:
            if voter == self.node_id:
                return self.now_s
            answered_s = self.progress[voter].heard_s
            return unheard_s if answered_s is None else answered_s

        return self.voters_agree_on(heard_s)

    def release(self) -> None:
        """See how far what is committed may be applied and answered.

        That is all of it, but for a `sync` group's leader: there every voter must hold it, so
        that any single replica has all that was ever acknowledged (rule G5). Never falls.
        """
        index = self.commit
        if index <= self.released:
            return
        if self.role is Role.LEADER and self.configuration.sync:
            index = min(index, *(self._durable_at(voter) for voter in self.configuration.voters))
        self.released = max(self.released, index)

    def _durable_at(self, voter: NodeId) -> int:
        if voter == self.node_id:
            return self.log.persisted_index
        return self.progress[voter].match_index

    def committed_own_entry(self) -> bool:
        """Whether an entry of the leader's own term is committed (paper 5.4.2, 8)."""
        return self.commit >= self.term_start_index

    def released_own_entry(self) -> bool:
        """The same, and it may be applied: from then on this leader may serve."""
        return self.released >= self.term_start_index

    def silent_voter(self) -> NodeId | None:
        """A voter that has not answered for an election timeout, if there is one."""
        since_s = self.now_s - self.settings.election_timeout_s
        for voter in self.configuration.voters:
            if voter == self.node_id:
                continue
            heard_s = self.progress[voter].heard_s
            if (self.leader_since_s if heard_s is None else heard_s) < since_s:
                return voter
        return None

    def holds_lease(self) -> bool:
        """Whether no other leader can have been elected by `now_s` (thesis 6.4.1, rule G1)."""
        if self.role is not Role.LEADER or self.transferee or self.lease_forfeited:
            return False
        if not self.released_own_entry():
            return False
        return self.now_s < self.quorum_heard_s(float("-inf")) + self.settings.lease_s
