"""The core, message by message, beside the sentences of the paper and the thesis."""

from __future__ import annotations

from random import Random

import pytest

from cluster.errors import DataCorrupted, ObjectNotInPrerequisiteState
from cluster.raft.core import RaftCore, Ready
from cluster.raft.errors import NotLeader
from cluster.raft.log import (
    Configuration,
    Entry,
    EntryKind,
    GroupImage,
    HardState,
    SnapshotMark,
)
from cluster.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from cluster.raft.settings import RaftSettings
from cluster.raft.snapshot_data import MemorySnapshot
from cluster.raft.state import Role

GROUP = 2  # so that voter 3 of (1, 2, 3) goes first
SETTINGS = RaftSettings(append_entries=3, snapshot_chunk_bytes=4)
THREE = Configuration.of([1, 2, 3])


class Replica:
    """Node 1 of a group; what it asks for is carried out at once unless `sync` is off."""

    def __init__(
        self,
        *terms: int,
        configuration: Configuration = THREE,
        hard_state: HardState | None = None,
        applied_index: int = 0,
        mark: SnapshotMark | None = None,
    ) -> None:
        self.now_s = 100.0
        mark = mark or SnapshotMark(0, 0, configuration)
        entries = [
            Entry(term, index, EntryKind.COMMAND, b"")
            for index, term in enumerate(terms, mark.index + 1)
        ]
        last_term = entries[-1].term if entries else mark.term
        self.core = RaftCore(
            GROUP,
            1,
            GroupImage(hard_state or HardState(last_term), mark, entries),
            applied_index=applied_index,
            fetch=lambda low, high: entries[low - 1 : high - 1],
            settings=SETTINGS,
            random=Random(1),
            now_s=self.now_s,
        )
        self.sync = True
        self.unsynced: list[Ready] = []

    def wait(self, duration_s: float) -> Replica:
        self.now_s += duration_s
        self.core.tick(self.now_s)
        return self

    def step(self, message: Message) -> list[tuple[int, Message]]:
        self.core.step(message, self.now_s)
        return self.sent()

    def sent(self) -> list[tuple[int, Message]]:
        """Everything it sends now."""
        out: list[tuple[int, Message]] = []
        while (ready := self.core.ready()) is not None:
            out.extend(ready.messages)
            if not self.sync:
                self.unsynced.append(ready)
                continue
            if ready.write is not None:
                self.core.persisted(ready.sequence, self.now_s)
            out.extend(ready.after_write)
        return out

    def synced(self) -> list[tuple[int, Message]]:
        """The disk has caught up."""
        ready, self.unsynced = self.unsynced, []
        self.core.persisted(ready[-1].sequence, self.now_s)
        return [envelope for one in ready for envelope in one.after_write] + self.sent()

    def elect(self) -> Replica:
        """Win an election in the next term with the votes of 2."""
        self.wait(3.0).sent()
        self.step(VoteReply(GROUP, self.core.term + 1, 2, True, True))
        self.step(VoteReply(GROUP, self.core.term, 2, True, False))
        assert self.core.is_leader
        return self

    def accept(self, sender: int, index: int, round_: int = 0) -> list[tuple[int, Message]]:
        """That follower answers that it holds everything up to `index`."""
        return self.step(
            AppendReply(GROUP, self.core.term, sender, index, True, 0, 0, self.now_s, round_)
        )


def vote_request(term: int, last_index: int, last_term: int, **changed: bool) -> VoteRequest:
    flags = {"pre_vote": False, "transfer": False} | changed
    return VoteRequest(GROUP, term, 2, last_index, last_term, **flags)


def append(
    term: int, previous: tuple[int, int], *entries: tuple[int, int], commit: int = 0
) -> Append:
    """An Append of node 2; entries as (index, term)."""
    made = tuple(Entry(t, index, EntryKind.COMMAND, b"x") for index, t in entries)
    return Append(GROUP, term, 2, previous[0], previous[1], made, commit, 5.0, 3)


def only(messages: list[tuple[int, Message]], kind: type[Message]) -> list[Message]:
    return [message for _, message in messages if isinstance(message, kind)]


# -- elections (paper 5.2, 5.4.1; thesis 9.6) ----------------------------------------------


def test_a_candidate_rehearses_before_it_takes_a_term() -> None:
    """Thesis 9.6: the term rises only once a majority would vote."""
    replica = Replica(1)
    asked = replica.wait(3.0).sent()
    assert [m.pre_vote for m in only(asked, VoteRequest)] == [True, True]
    assert (replica.core.role, replica.core.term) == (Role.PRE_CANDIDATE, 1)
    asked = replica.step(VoteReply(GROUP, 2, 2, True, True))
    assert [(m.pre_vote, m.term) for m in only(asked, VoteRequest)] == [(False, 2)] * 2


def test_a_vote_leaves_only_once_it_is_durable() -> None:
    """Paper figure 2: persistent state is updated before responding to RPCs."""
    replica = Replica(1).wait(SETTINGS.election_timeout_s)
    replica.sync = False
    assert replica.step(vote_request(2, 1, 1)) == []
    assert replica.unsynced[0].write.hard_state == HardState(2, 2, 0)
    assert [m.granted for m in only(replica.synced(), VoteReply)] == [True]


def test_one_vote_a_term() -> None:
    """Paper 5.2: at most one candidate in a given term, first come first served."""
    replica = Replica(1, hard_state=HardState(2, 3, 0)).wait(SETTINGS.election_timeout_s)
    assert [m.granted for m in only(replica.step(vote_request(2, 1, 1)), VoteReply)] == [False]


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(3, 2, True), (2, 2, False), (9, 1, False), (1, 3, True)],
)
def test_a_vote_needs_a_log_as_up_to_date(last_index: int, last_term: int, granted: bool) -> None:
    """Paper 5.4.1: the later last term, then the longer log."""
    replica = Replica(1, 2, 2).wait(SETTINGS.election_timeout_s)
    answers = only(replica.step(vote_request(5, last_index, last_term)), VoteReply)
    assert [m.granted for m in answers] == [granted]


def test_a_follower_with_a_leader_ignores_candidates() -> None:
    """Thesis 4.2.3, 6.4.1: no vote, and no new term, within an election timeout of a leader."""
    replica = Replica(1).wait(2.0)
    replica.sent()
    replica.step(Heartbeat(GROUP, 1, 3, 0, 5.0, 0))
    replica.wait(SETTINGS.election_timeout_s * 0.99)
    assert replica.step(vote_request(9, 9, 9)) == []
    assert replica.core.term == 1
    replica.wait(SETTINGS.election_timeout_s * 0.02)
    assert only(replica.step(vote_request(9, 9, 9)), VoteReply)


def test_a_restarted_voter_keeps_the_promise_it_forgot() -> None:
    """Rule G1: no vote for one election timeout, unless the leader itself hands over."""
    replica = Replica(1)
    assert replica.step(vote_request(2, 1, 1)) == []
    assert only(replica.step(vote_request(2, 1, 1, transfer=True)), VoteReply)


def test_a_new_group_needs_no_patience() -> None:
    replica = Replica(hard_state=HardState())
    assert only(replica.step(vote_request(1, 0, 0)), VoteReply)


def test_a_learner_votes_when_asked_but_never_campaigns() -> None:
    """It may have been made a voter by an entry it has not seen yet (thesis 4.2.1)."""
    replica = Replica(1, configuration=Configuration.of([2, 3], [1])).wait(9.0)
    assert (replica.sent(), replica.core.role) == ([], Role.FOLLOWER)
    assert only(replica.step(vote_request(2, 1, 1)), VoteReply)


def test_a_leader_that_reaches_no_majority_steps_down() -> None:
    """Thesis 6.2."""
    replica = Replica(1).elect()
    replica.wait(SETTINGS.election_timeout_s * 1.01)
    assert not replica.core.is_leader


def test_a_deposed_leader_is_told() -> None:
    replica = Replica(5)
    answers = only(replica.step(Heartbeat(GROUP, 3, 2, 0, 5.0, 0)), HeartbeatReply)
    assert [m.term for m in answers] == [5]


# -- replication and commitment (paper 5.3, 5.4.2) -----------------------------------------


def test_a_leader_begins_with_an_entry_of_its_term() -> None:
    """Paper 8: only so does it learn what is committed."""
    replica = Replica(1).elect()
    assert (replica.core.last_index, replica.core.term_at(2)) == (2, 2)
    assert not replica.core.is_serving
    replica.accept(2, 2)
    assert replica.core.is_serving


def test_entries_of_older_terms_are_not_committed_by_counting() -> None:
    """Paper 5.4.2 and figure 8."""
    replica = Replica(1, 1).elect()
    replica.accept(2, 2)
    assert replica.core.commit_index == 0
    replica.accept(2, 3)
    assert replica.core.commit_index == 3


def test_a_leaders_own_disk_counts_only_when_durable() -> None:
    """Thesis 10.2.1: the others may commit before; the leader applies no earlier."""
    replica = Replica(1).elect()
    replica.accept(2, 2)
    replica.sync = False
    replica.core.propose([b"a"])
    assert only(replica.sent(), Append), "followers get it while the leader's disk works"
    replica.accept(2, 3)
    assert replica.core.commit_index == 2, "one of three, and a disk that has not answered"
    replica.accept(3, 3)
    assert replica.core.commit_index == 3
    assert [e.index for e in replica.core.take_committed(1000)] == [1, 2]
    replica.synced()
    assert [e.index for e in replica.core.take_committed(1000)] == [3]


def test_proposals_between_two_readies_travel_together() -> None:
    replica = Replica(1).elect()
    replica.accept(2, 2)
    replica.accept(3, 2)
    replica.core.propose([b"a"])
    replica.core.propose([b"b"])
    assert [len(m.entries) for m in only(replica.sent(), Append)] == [2, 2]


def test_messages_follow_each_other_without_waiting() -> None:
    replica = Replica(1).elect()
    replica.accept(2, 2)
    replica.core.propose([b""] * 7)
    previous = [m.previous_index for to, m in replica.sent() if to == 2 and isinstance(m, Append)]
    assert previous == [2, 5, 8]


def test_a_follower_acknowledges_what_is_durable() -> None:
    replica = Replica(1)
    replica.sync = False
    assert replica.step(append(1, (1, 1), (2, 1))) == []
    assert [m.index for m in only(replica.synced(), AppendReply)] == [2]


def test_conflicting_entries_are_replaced() -> None:
    """Paper 5.3: delete the existing entry and all that follow it."""
    replica = Replica(1, 1, 1)
    replica.step(append(3, (1, 1), (2, 3)))
    assert (replica.core.last_index, replica.core.term_at(2)) == (2, 3)


def test_a_late_message_removes_nothing() -> None:
    """Entries that agree stay, and so do those behind them."""
    replica = Replica(1, 1, 1)
    replica.step(append(1, (0, 0), (1, 1)))
    assert replica.core.last_index == 3


def test_backing_up_takes_a_message_a_term() -> None:
    """Paper 5.3: the follower names the conflicting term, the leader skips it whole."""
    follower = Replica(*[1] * 10, *[2] * 90)
    refusal = only(follower.step(append(5, (100, 4))), AppendReply)[0]
    assert (refusal.accepted, refusal.hint_index, refusal.hint_term) == (False, 100, 2)
    leader = Replica(*[1] * 10, *[3] * 90).elect()
    sent = leader.step(AppendReply(GROUP, leader.core.term, 2, 100, False, 100, 2, leader.now_s, 0))
    assert [m.previous_index for m in only(sent, Append)] == [10]


def test_the_commit_index_stays_within_what_is_known_to_agree() -> None:
    replica = Replica(1, 1, 1)
    replica.step(append(2, (1, 1), commit=3))
    assert replica.core.commit_index == 1


# -- reads and leases (thesis 6.4, rule G1) ------------------------------------------------


def leading() -> Replica:
    replica = Replica(1).elect()
    replica.accept(2, 2)
    return replica


def test_a_lease_runs_from_the_send_time_of_what_was_answered() -> None:
    replica = leading()
    began_s = replica.now_s
    replica.now_s += 0.5
    sent_earlier = HeartbeatReply(GROUP, replica.core.term, 2, 0, began_s, 0)
    replica.step(sent_earlier)
    assert replica.core.holds_lease(began_s + SETTINGS.lease_s * 0.99)
    assert not replica.core.holds_lease(began_s + SETTINGS.lease_s)


def test_a_read_without_a_lease_takes_a_round() -> None:
    replica = leading()
    replica.now_s += SETTINGS.lease_s * 1.01
    replica.core.read_index(77, replica.now_s)
    beats = only(replica.sent(), Heartbeat)
    assert [beat.round for beat in beats] == [1, 1]
    replica.core.step(
        HeartbeatReply(GROUP, replica.core.term, 3, 0, beats[0].sent_at_s, 1), replica.now_s
    )
    ready = replica.core.ready()
    assert ready is not None
    assert [(read.context, read.index) for read in ready.reads] == [(77, 2)]


def test_answers_of_an_earlier_round_confirm_nothing() -> None:
    replica = leading()
    replica.now_s += SETTINGS.lease_s * 1.01
    replica.core.read_index(1, replica.now_s)
    replica.sent()
    replica.core.step(
        HeartbeatReply(GROUP, replica.core.term, 3, 0, replica.now_s - 2.0, 0), replica.now_s
    )
    ready = replica.core.ready()
    assert ready is None or ready.reads == ()


def test_a_leader_hands_over_without_its_lease() -> None:
    """Thesis 3.10 and rule G1: once the word may be on its way the lease never returns."""
    replica = leading()
    assert replica.core.holds_lease(replica.now_s)
    replica.core.transfer_leadership(2, replica.now_s)
    assert only(replica.sent(), TimeoutNow)
    with pytest.raises(NotLeader):
        replica.core.propose([b""])
    for _ in range(8):
        replica.wait(0.2)
        replica.accept(2, 2)
    assert not replica.core.is_leader, "what its users had under way is gone for the term"
    assert not replica.core.holds_lease(replica.now_s)


# -- members (thesis 4) --------------------------------------------------------------------


def test_no_change_before_an_entry_of_the_own_term_is_committed() -> None:
    """The correction of 2015 to thesis 4.1."""
    replica = Replica(1).elect()
    with pytest.raises(ObjectNotInPrerequisiteState, match="own term"):
        replica.core.propose_change(THREE.with_learner(4))
    replica.accept(2, 2)
    assert replica.core.propose_change(THREE.with_learner(4)) == 3


def test_one_change_at_a_time() -> None:
    replica = leading()
    replica.core.propose_change(THREE.with_learner(4))
    with pytest.raises(ObjectNotInPrerequisiteState, match="under way"):
        replica.core.propose_change(THREE.with_learner(5))


def test_one_voter_at_a_time() -> None:
    with pytest.raises(ObjectNotInPrerequisiteState, match="one voter"):
        leading().core.propose_change(Configuration.of([1, 4, 5]))


def test_the_last_voter_makes_itself_the_last() -> None:
    replica = Replica(1, configuration=Configuration.of([1, 2])).elect()
    replica.accept(2, 2)
    with pytest.raises(ObjectNotInPrerequisiteState, match="last voter"):
        replica.core.propose_change(Configuration.of([2]))
    replica.core.propose_change(Configuration.of([1]))
    replica.sent()
    assert replica.core.commit_index == 3


def test_a_change_counts_from_the_log_on() -> None:
    """Thesis 4.1: each server adopts the newest configuration in its log."""
    replica = leading()
    replica.core.propose_change(Configuration.of([1, 2]))
    assert replica.core.configuration == Configuration.of([1, 2])
    assert 3 not in {to for to, _ in replica.sent()}


def test_a_removed_leader_counts_itself_out_and_goes() -> None:
    """Thesis 4.2.2."""
    replica = leading()
    replica.core.propose_change(Configuration.of([2, 3]))
    replica.sent()
    replica.accept(2, 3)
    assert replica.core.is_leader, "one of the two that count"
    sent = replica.accept(3, 3)
    assert not replica.core.is_leader
    assert only(sent, TimeoutNow)


def test_a_truncated_change_no_longer_counts() -> None:
    replica = Replica(1)
    data = b"\x92\x92\x01\x02\x90"  # ((1, 2), ())
    entry = Entry(2, 2, EntryKind.CONFIGURATION, data)
    replica.step(Append(GROUP, 2, 2, 1, 1, (entry,), 0, 5.0, 0))
    assert replica.core.configuration == Configuration.of([1, 2])
    replica.step(append(3, (1, 1), (2, 3)))
    assert replica.core.configuration == THREE


# -- snapshots (paper 7) -------------------------------------------------------------------


def test_a_follower_behind_the_log_is_sent_a_snapshot_in_chunks() -> None:
    replica = leading()
    replica.core.take_committed(1000)
    replica.core.compact(2)
    replica.core.propose([b"a"])
    replica.core.step(
        AppendReply(GROUP, replica.core.term, 3, 1, False, 0, 0, replica.now_s, 0), replica.now_s
    )
    ready = replica.core.ready()
    assert ready is not None
    assert ready.snapshot_wanted == 2
    replica.core.offer_snapshot(2, MemorySnapshot(b"abcdef"), replica.now_s)
    chunks = only(replica.sent(), SnapshotChunk)
    assert [(c.offset_bytes, c.data, c.total_bytes) for c in chunks] == [(0, b"abcd", 6)]
    chunks = only(replica.step(SnapshotReply(GROUP, 2, 3, 2, 4, False)), SnapshotChunk)
    assert [(c.offset_bytes, c.data) for c in chunks] == [(4, b"ef")]
    sent = replica.step(SnapshotReply(GROUP, 2, 3, 2, 6, True))
    assert [m.previous_index for m in only(sent, Append)] == [2]


def test_a_snapshot_is_acknowledged_once_the_machine_holds_it() -> None:
    replica = Replica()
    mark = SnapshotMark(9, 4, THREE)
    replica.core.step(SnapshotChunk(GROUP, 4, 2, mark, 0, b"abc", 3), replica.now_s)
    ready = replica.core.ready()
    assert ready is not None
    assert ready.write.snapshot == mark
    assert ready.snapshot.data.read(0, 9) == b"abc"
    replica.core.persisted(ready.sequence, replica.now_s)
    replica.core.snapshot_installed(replica.now_s)
    assert only(replica.sent(), SnapshotReply) == [SnapshotReply(GROUP, 4, 1, 9, 0, True)]


def test_a_replica_behind_its_own_log_takes_no_entries() -> None:
    """What it acknowledged it could not help to recover (see `snapshots`)."""
    replica = Replica(4, 4, mark=SnapshotMark(9, 4, THREE), applied_index=5)
    sent = replica.step(append(4, (11, 4), (12, 4)))
    assert [m.snapshot_floor for m in only(sent, HeartbeatReply)] == [9]
    assert not only(sent, AppendReply)
    replica.wait(9.0)
    assert replica.core.role is Role.FOLLOWER, "nor does it campaign"


def test_a_single_voter_behind_its_own_log_is_lost() -> None:
    alone = Configuration.of([1])
    with pytest.raises(DataCorrupted, match="no other replica"):
        Replica(mark=SnapshotMark(9, 4, alone), applied_index=5)


def test_a_store_ahead_of_its_log_is_refused() -> None:
    with pytest.raises(DataCorrupted, match="ends at 2"):
        Replica(1, 1, applied_index=3)


def test_a_single_voter_leads_at_once() -> None:
    replica = Replica(1, configuration=Configuration.of([1])).wait(0.0)
    assert replica.sent() == []
    assert replica.core.is_serving
    assert replica.core.commit_index == 2


def test_a_leader_alone_has_no_timer() -> None:
    replica = Replica(1, configuration=Configuration.of([1])).wait(0.0)
    replica.sent()
    assert replica.core.next_due_s == float("inf")
    replica.core.propose_change(Configuration.of([1], [2]))
    assert replica.core.next_due_s <= replica.now_s + SETTINGS.heartbeat_interval_s
