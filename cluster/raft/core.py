"""The Raft core: one replica of one group, without I/O, clock or chance of its own.

Events go in (`step`, `tick`, `propose`, ...), each with the time; instructions come out
(`ready`, `take_committed`). The names and the algorithm are those of "In Search of an
Understandable Consensus Algorithm" (Ongaro and Ousterhout, cited as *paper*) and of Ongaro's
dissertation (*thesis*); each part lives in a module of its own over `RaftState`.

The contract for whoever drives it:

1. Inputs and `ready` are called from one place, never concurrently. Every input carries the
   time, from one clock that never goes back and counts suspended time.
2. After inputs, call `ready` until it returns None. Each `Ready` is handled once, in order.
3. `Ready.write` is appended to the log; writes of one group become durable in the order they
   were handed out. When they are, call `persisted` with the newest such `sequence`. Further
   inputs and `ready` calls may come before that: writes may be in flight side by side.
4. `Ready.messages` may go out at once; `Ready.after_write` only when every write up to and
   including this `Ready`'s sequence is durable, whether or not this `Ready` has one.
   A leader's entries go out at once: its disk works while the followers' do (thesis 10.2.1).
5. Messages may be lost, late, repeated or out of order. A message to itself is never sent.
6. `take_committed` hands out, in order and once, entries that are committed and durable here.
   The state machine applies them in that order.
7. `Ready.snapshot`: when its write (if any) is durable, restore the state machine, durably,
   then call `snapshot_installed`. No committed entries come before that.
8. `Ready.snapshot_wanted`: take a snapshot of the state machine when it has applied that index
   and call `offer_snapshot`. Asked again from time to time for as long as it is wanted.
9. `compact` is called with an index that the state machine holds durably; the returned mark
   goes to `LogStorage.compact`.
10. A failed write is fatal: nothing may be sent or called after it (rule L1).
11. `tick` is due at `next_due_s`; late ticks cost time, never correctness.
12. Reads: `read_index` is answered in `Ready.reads`; what is pending when the replica stops
    leading is never answered. A lease is checked with the time *after* the read it covers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import msgspec

from cluster.errors import CannotConnectNow, DataCorrupted
from cluster.probes import Probe, reached
from cluster.raft import election, membership, reads, replication, snapshots, transfer
from cluster.raft.beats import BeatReceiver, BeatSender
from cluster.raft.errors import not_leader, out_of_step
from cluster.raft.log import (
    NO_NODE,
    Configuration,
    Entry,
    EntryKind,
    GroupId,
    GroupImage,
    GroupWrite,
    HardState,
    NodeId,
    SnapshotMark,
)
from cluster.raft.log_view import Fetch, LogView, encode_configuration
from cluster.raft.messages import (
    Append,
    AppendReply,
    Envelope,
    Heartbeat,
    HeartbeatReply,
    Message,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from cluster.raft.progress import ProgressState
from cluster.raft.settings import RaftSettings
from cluster.raft.snapshot_data import MemorySnapshot, SnapshotData, SnapshotPace, SnapshotSink
from cluster.raft.state import OutgoingSnapshot, RaftState, ReadState, Role


class Ready(msgspec.Struct, frozen=True, gc=False):
    """What the driver is to do; see the contract's points 3, 4, 7, 8 and 12."""

    sequence: int
    write: GroupWrite | None
    messages: tuple[Envelope, ...]
    after_write: tuple[Envelope, ...]
    reads: tuple[ReadState, ...]
    snapshot: OutgoingSnapshot | None
    snapshot_wanted: int | None


class RaftCore:
    """One replica of one group; see the module for how to drive it."""

    def __init__(
        self,
        group_id: GroupId,
        node_id: NodeId,
        image: GroupImage,
        *,
        applied_index: int,
        fetch: Fetch,
        settings: RaftSettings,
        random: Random,
        now_s: float,
        first_leader: NodeId = NO_NODE,
        open_sink: Callable[[], SnapshotSink] = MemorySnapshot,
        pace: SnapshotPace | None = None,
        beats: Callable[[NodeId], BeatSender] | None = None,
        tells_at_once: bool = False,
    ) -> None:
        """Open the replica that `image` holds; `applied_index` is durable in its machine.

        `first_leader` campaigns at once where the group has never had a leader. `open_sink`
        says where a snapshot is gathered, `pace` how fast the node sends its own, `beats` what
        may stand for this group's heartbeats to a peer (rule G2). `tells_at_once`: members hear
        of every commit as it happens, not with what is said to them next.
        """
        log = LogView(image, fetch)
        if applied_index > log.last_index:
            raise DataCorrupted(
                f"the store of tablet {group_id} holds entry {applied_index}, "
                f"but its log ends at {log.last_index}"
            )
        state = RaftState(
            group_id, node_id, log, image.hard_state, settings, random, now_s, first_leader, beats
        )
        state.open_sink = open_sink
        state.tells_at_once = tells_at_once
        state.pace = pace or state.pace
        state.awaits_snapshot = applied_index < log.mark.index
        if state.awaits_snapshot:
            reached(Probe.RESTARTED_BEHIND_LOG)
        if state.awaits_snapshot and state.is_only_voter:
            raise DataCorrupted(
                f"the store of tablet {group_id} ends at entry {applied_index}, "
                f"but its log begins at {log.mark.index + 1}, and there is no other replica"
            )
        state.delivered_index = max(applied_index, log.mark.index)
        state.commit = max(state.commit, applied_index)
        state.release()
        self._state = state
        self._stirred = True  # something has come in since `ready` was last called
        self._sequence = 0
        self._persisted_sequence = 0
        self._kept = HardState(state.term, state.vote, image.hard_state.commit)
        self._vote_sequence = 0  # the write that holds the current term and vote
        self._handed_snapshot: OutgoingSnapshot | None = None
        self._taken_bytes = 0  # `appended_bytes` when all that was committed was last taken
        election.begin(state)

    # -- what it is now --------------------------------------------------------------------

    @property
    def group_id(self) -> GroupId:
        return self._state.group_id

    @property
    def term(self) -> int:
        return self._state.term

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def is_leader(self) -> bool:
        return self._state.role is Role.LEADER

    @property
    def leader_id(self) -> NodeId | None:
        """Where the leader of the current term is, as far as is known."""
        return self._state.leader_id or None

    @property
    def term_start_index(self) -> int:
        """The first entry this leader has appended; whoever applied it knows all before."""
        return self._state.term_start_index

    @property
    def configuration(self) -> Configuration:
        return self._state.configuration

    @property
    def configuration_index(self) -> int:
        return self._state.log.configuration_index

    @property
    def commit_index(self) -> int:
        """What is committed and may be applied."""
        return self._state.released

    @property
    def last_index(self) -> int:
        return self._state.log.last_index

    @property
    def mark(self) -> SnapshotMark:
        """Where the log begins."""
        return self._state.log.mark

    @property
    def delivered_index(self) -> int:
        """The last entry `take_committed` has handed out, or a snapshot has replaced."""
        return self._state.delivered_index

    @property
    def awaits_snapshot(self) -> bool:
        return self._state.awaits_snapshot or self._state.installing is not None

    @property
    def is_serving(self) -> bool:
        """Whether it leads, and knows all that was committed before it led."""
        state = self._state
        return self.is_leader and state.released_own_entry() and not state.transferee

    @property
    def next_due_s(self) -> float:
        """When `tick` has something to do next; never, for a leader without other members."""
        state = self._state
        if state.role is not Role.LEADER:
            return float("inf") if state.covered_by is not None else state.election_due_s
        if not state.progress:
            return float("inf")
        quiet = not state.reads and not state.transferee and replication.is_quiet(state)
        heartbeat_due_s = float("inf") if quiet else state.heartbeat_due_s
        due_s = min(heartbeat_due_s, snapshots.next_due_s(state))
        return min(due_s, state.transfer_due_s) if state.transferee else due_s

    @property
    def earliest_due_s(self) -> float:
        """A time not after `next_due_s`, for those who look often."""
        state = self._state
        if state.role is not Role.LEADER:
            return state.election_due_s
        if state.transferee or state.outgoing is not None:
            return float("-inf")
        return state.heartbeat_due_s

    @property
    def has_committed(self) -> bool:
        """Whether `take_committed` would hand out entries."""
        state = self._state
        delivered_index = state.delivered_index
        return (
            delivered_index < state.released
            and delivered_index < state.log.persisted_index
            and not self.awaits_snapshot
        )

    @property
    def awaited_index(self) -> int:
        """The leader knows somebody who waits until that is applied here; 0 for nobody."""
        return self._state.awaited_index

    @property
    def gathered_entries(self) -> int:
        """How many entries `take_committed` would hand out, were there no bound."""
        return self._applicable_index - self._state.delivered_index

    @property
    def gathered_bytes(self) -> int:
        """At least the size of what `take_committed` would hand out."""
        return self._state.log.appended_bytes - self._taken_bytes

    @property
    def _applicable_index(self) -> int:
        return min(self._state.released, self._state.log.persisted_index)

    def term_at(self, index: int) -> int | None:
        """The term of an entry of the log, None where the log does not reach."""
        return self._state.log.term_at(index)

    def match_index(self, node_id: NodeId) -> int:
        """What that member is known to hold durably; 0 unless this replica leads."""
        if node_id == self._state.node_id:
            return self._state.log.persisted_index
        progress = self._state.progress.get(node_id)
        return progress.match_index if progress else 0

    def is_caught_up(self, node_id: NodeId) -> bool:
        """Whether that member could become a voter now (see `membership`)."""
        return self.is_leader and membership.is_caught_up(self._state, node_id)

    def compaction_floor(self, silent_s: float | None = None) -> int:
        """The last index below which no follower still needs entries that has been silent for
        less than `silent_s`, by default an election timeout."""
        state = self._state
        floor = state.delivered_index
        if silent_s is None:
            silent_s = state.settings.election_timeout_s
        for progress in state.progress.values():
            heard_s = progress.heard_s
            if heard_s is None:
                # Not heard of by this leader yet.
                heard_s = state.leader_since_s
                if silent_s <= state.settings.election_timeout_s:
                    continue
            if heard_s < state.now_s - silent_s:
                continue
            if progress.state is not ProgressState.SNAPSHOT:
                floor = min(floor, progress.match_index)
            elif state.outgoing is not None:
                floor = min(floor, state.outgoing.mark.index)
        return floor

    # -- inputs ----------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Let time pass."""
        self._stirred = True
        state = self._state
        state.now_s = now_s
        if state.role is not Role.LEADER:
            if state.covered_by is None and now_s >= state.election_due_s:
                election.campaign(state)
            return
        election.check_quorum(state)
        if state.role is Role.LEADER:
            transfer.give_up_if_due(state)
        if state.role is Role.LEADER:
            snapshots.send_due(state)
            if now_s >= state.heartbeat_due_s:
                replication.broadcast_heartbeat(state, quiet_too=False)

    # Beats that stand for many groups' heartbeats (rule G2, `beats`).

    def follow_by_beats(self, leader_id: NodeId, term: int, source: BeatReceiver) -> bool:
        """Let the leader's beats stand for its heartbeats, if it is this group's in that term."""
        self._stirred = True
        state = self._state
        follows = (
            state.role is Role.FOLLOWER
            and (state.term, state.leader_id) == (term, leader_id)
            and not self.awaits_snapshot
        )
        if not follows:
            return False
        if state.covered_by is not source:
            state.uncover()
            state.covered_by = source
        return True

    def leave_beats(self, now_s: float) -> None:
        """Beats have stayed away, or stand for this group no more: its own timer again."""
        self._stirred = True
        self._state.now_s = now_s
        self._state.uncover()

    def uncover(self, node_id: NodeId, now_s: float) -> None:
        """Beats to that member do not stand for this group: heartbeats of its own again."""
        self._stirred = True
        state = self._state
        state.now_s = now_s
        progress = state.progress.get(node_id)
        if progress is not None and progress.cover is not None:
            progress.uncover()
            progress.uncovered_s = now_s

    def close(self) -> None:
        """The group is closed here: no beat speaks for it."""
        self._state.end_covers()
        self._state.uncover()

    def step(self, message: Message, now_s: float) -> None:
        """Take a message of another replica."""
        self._stirred = True
        state = self._state
        state.now_s = now_s
        assert message.group_id == state.group_id, "a message of another group"
        if isinstance(message, VoteRequest):
            election.on_vote_request(state, message)
            return
        if message.term > state.term and not _is_granted_pre_vote(message):
            state.become_follower(message.term, NO_NODE)
        if isinstance(message, VoteReply):
            election.on_vote_reply(state, message)
        elif isinstance(message, Append | Heartbeat | SnapshotChunk | TimeoutNow):
            self._from_leader(message)
        elif message.term == state.term and message.sender in state.progress:
            self._from_follower(message)

    def _from_leader(self, message: Append | Heartbeat | SnapshotChunk | TimeoutNow) -> None:
        state = self._state
        if message.term < state.term:
            self._answer_deposed(message.sender)
        elif isinstance(message, TimeoutNow):
            election.on_timeout_now(state, message)
        else:
            assert state.role is not Role.LEADER, "two leaders in one term"
            state.hear_leader(message.sender)
            if isinstance(message, Append):
                replication.on_append(state, message)
            elif isinstance(message, Heartbeat):
                replication.on_heartbeat(state, message)
            else:
                snapshots.on_chunk(state, message)

    def _answer_deposed(self, sender: NodeId) -> None:
        """Tell a leader of an older term about the newer one; it answers nothing else."""
        state = self._state
        state.send(sender, HeartbeatReply(state.group_id, state.term, state.node_id, 0, 0.0, 0))

    def _from_follower(self, message: AppendReply | HeartbeatReply | SnapshotReply) -> None:
        if isinstance(message, AppendReply):
            replication.on_append_reply(self._state, message)
        elif isinstance(message, HeartbeatReply):
            replication.on_heartbeat_reply(self._state, message)
        else:
            replication.on_snapshot_reply(self._state, message)

    def propose(self, datas: Sequence[bytes]) -> int:
        """Append commands; returns the first one's index. Raises NotLeader, nothing happened;
        57P03 where every voter must hold them and one is silent (rule G5)."""
        self._stirred = True
        self._require_serving_writes()
        if (error := self.out_of_step()) is not None:
            raise error
        return replication.append_new(self._state, EntryKind.COMMAND, datas)

    def out_of_step(self) -> CannotConnectNow | None:
        """Why a leader, whether it serves yet or not, can have nothing released: every voter must
        hold it, and one is silent."""
        state = self._state
        if not state.configuration.sync or state.role is not Role.LEADER:
            return None
        silent = state.silent_voter()
        return None if silent is None else out_of_step(state.group_id, silent)

    def propose_change(self, configuration: Configuration) -> int:
        """Append a configuration; returns its index. Raises NotLeader, or 55000 if not now."""
        self._stirred = True
        self._require_serving_writes()
        membership.check_change(self._state, configuration)
        data = encode_configuration(configuration)
        return replication.append_new(self._state, EntryKind.CONFIGURATION, [data])

    def transfer_leadership(self, target: NodeId, now_s: float) -> None:
        """Stop serving and hand over. Raises NotLeader, or 55000 if `target` is no voter."""
        self._stirred = True
        self._require_serving_writes()
        self._state.now_s = now_s
        transfer.start(self._state, target)

    def leader_lost(self, leader_id: NodeId, now_s: float) -> None:
        """The connection to that node broke: if it led, campaign as soon as one may."""
        self._stirred = True
        self._state.now_s = now_s
        election.on_leader_lost(self._state, leader_id)

    def tell_commit(self) -> None:
        """Have the members hear of what is committed by now, and apply it, at once."""
        self._stirred = True
        self._state.urgent_index = max(self._state.urgent_index, self._state.released)

    def _require_serving_writes(self) -> None:
        state = self._state
        if state.role is not Role.LEADER or state.transferee:
            leader_id = state.transferee or state.leader_id or None
            raise not_leader(state.group_id, state.node_id, leader_id)

    def read_index(self, context: int, now_s: float) -> None:
        """Ask for the index a linearizable read must wait for. Raises NotLeader."""
        self._stirred = True
        state = self._state
        state.now_s = now_s
        if state.role is not Role.LEADER:
            raise not_leader(state.group_id, state.node_id, state.leader_id or None)
        reads.request(state, context)

    def holds_lease(self, now_s: float) -> bool:
        """Whether it surely led at `now_s`, a time taken after what is to be covered."""
        self._state.now_s = now_s
        return self._state.holds_lease()

    # -- outputs and their acknowledgement ---------------------------------------------------

    def ready(self) -> Ready | None:
        """The next instructions, or None when there is nothing to do."""
        if not self._stirred:
            return None
        self._stirred = False
        state = self._state
        state.release()
        if state.role is Role.LEADER:
            if reads.start_round(state):
                replication.broadcast_heartbeat(state)
                reads.confirm(state)
            replication.broadcast_entries(state)
        snapshot = None
        if state.installing is not self._handed_snapshot:
            snapshot = self._handed_snapshot = state.installing
        write = self._take_write(reset=snapshot is not None)
        messages, after_write = self._take_messages()
        confirmed, state.confirmed_reads = tuple(state.confirmed_reads), []
        wanted = state.snapshot_wanted_index or None
        if not (write or messages or after_write or confirmed or snapshot or wanted):
            return None
        state.snapshot_wanted_index = 0
        return Ready(self._sequence, write, messages, after_write, confirmed, snapshot, wanted)

    def _take_write(self, *, reset: bool) -> GroupWrite | None:
        state = self._state
        kept, now = self._kept, HardState(state.term, state.vote, state.released)
        voted = (kept.term, kept.vote) != (now.term, now.vote)
        log = state.log
        mark = log.mark if reset and log.persisted_index < log.mark.index else None
        if not voted and mark is None and log.written_index == log.last_index:
            return None
        self._sequence += 1
        if voted:
            self._vote_sequence = self._sequence
        self._kept = now
        entries = log.take_unwritten(self._sequence)
        return GroupWrite(state.group_id, now, entries, mark)

    def _take_messages(self) -> tuple[tuple[Envelope, ...], tuple[Envelope, ...]]:
        state = self._state
        messages, state.messages = state.messages, []
        after_write, state.after_write = state.after_write, []
        if self._persisted_sequence < self._vote_sequence:
            return (), (*messages, *after_write)  # they speak in a term not yet durable
        return tuple(messages), tuple(after_write)

    def persisted(self, sequence: int, now_s: float) -> None:
        """All writes up to `sequence` are durable."""
        self._stirred = True
        state = self._state
        state.now_s = now_s
        self._persisted_sequence = max(self._persisted_sequence, sequence)
        state.log.persisted(sequence)
        state.log.shrink_cache(state.settings.cached_log_bytes)
        if state.role is Role.LEADER:
            replication.advance_commit(state)
        state.release()

    def take_committed(self, max_bytes: int) -> tuple[Entry, ...]:
        """The next committed entries to apply, at least one if `has_committed`."""
        if not self.has_committed:
            return ()
        state = self._state
        low, high = state.delivered_index + 1, self._applicable_index + 1
        entries = state.log.slice(low, high, max_bytes)
        state.delivered_index = entries[-1].index
        if state.delivered_index + 1 == high:
            self._taken_bytes = state.log.appended_bytes - state.log.bytes_from(high)
        return entries

    def offer_snapshot(self, index: int, data: SnapshotData, now_s: float) -> None:
        """A snapshot of the state machine as of `index`, which is applied and in the log.

        It is closed when nobody needs it (any more).
        """
        self._stirred = True
        state = self._state
        state.now_s = now_s
        term = state.log.term_at(index)
        if state.role is not Role.LEADER or term is None:
            data.close()
            return
        mark = SnapshotMark(index, term, state.log.configuration_at(index))
        snapshot_id = state.random.getrandbits(53) + 1
        snapshots.offer(state, OutgoingSnapshot(mark, data, snapshot_id))

    def snapshot_installed(self, now_s: float) -> None:
        """The state machine durably holds `Ready.snapshot`."""
        self._stirred = True
        self._state.now_s = now_s
        snapshots.installed(self._state)
        self._handed_snapshot = None

    def compact(self, index: int) -> SnapshotMark:
        """Forget the log up to `index`; returns the mark to store."""
        assert index <= self._state.delivered_index, "compaction of what is not applied"
        return self._state.log.compact(index)


def _is_granted_pre_vote(message: Message) -> bool:
    return isinstance(message, VoteReply) and message.pre_vote and message.granted
