"""The participant: what the log says is the same on every replica, and ends once."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.errors import SerializationFailure
from storage import participant as p
from storage.entries import (
    Abort,
    Commit,
    Confirm,
    Confirmed,
    Decision,
    Ingest,
    Precommit,
    Prepare,
    Write,
    decode_entry,
)
from storage.fragments import TIMESTAMP_COUNTER_BITS
from storage.locks import TABLE_MODES, LockMode

IDS = st.integers(1, 4)
TERMS = st.integers(1, 3)
RARELY = st.sampled_from([False] * 5 + [True])


class Model:
    """What a log means for one transaction after the other, said as plainly as possible."""

    def __init__(self) -> None:
        self.ended: dict[int, int] = {}  # commit timestamp, 0 for aborted
        self.open: dict[int, tuple[int, list[object], bool]] = {}  # term, chunks, prepared
        self.applied: list[tuple[int, int, list[object]]] = []

    def apply(self, entry: object, term: int, chunk: object) -> None:
        if isinstance(entry, Confirmed | Precommit):
            return
        assert isinstance(entry, Ingest | Write | Prepare | Decision | Commit | Abort)
        name = entry.transaction_id
        if name in self.ended:
            return
        begun, chunks, prepared = self.open.get(name, (getattr(entry, "term", 0), [], False))
        if isinstance(entry, Commit):
            if prepared:
                self._commit(name, entry.commit_ts, chunks)
        elif isinstance(entry, Abort):
            if not prepared or entry.decided:
                self._abort(name)
        elif isinstance(entry, Ingest):
            if term == entry.term == begun:
                self.open[name] = (begun, [*chunks, chunk], prepared)
        elif prepared:
            return
        elif term != entry.term or begun != term or entry.chunks != len(chunks):
            self._abort(name)
        elif isinstance(entry, Prepare):
            self.open[name] = (begun, [*chunks, chunk], True)
        else:
            self._commit(name, entry.commit_ts, [*chunks, chunk])

    def _commit(self, name: int, commit_ts: int, chunks: list[object]) -> None:
        self.ended[name] = commit_ts
        self.applied.append((name, commit_ts, chunks))
        self.open.pop(name, None)

    def _abort(self, name: int) -> None:
        self.ended[name] = 0
        self.open.pop(name, None)


class ParticipantMachine(RuleBasedStateMachine):
    """A leader, with locks and leases, and a follower take in the same log."""

    def __init__(self) -> None:
        super().__init__()
        self.leader = p.Participant()
        self.leader.begin_term(1)
        self.follower = p.Participant()
        self.model = Model()
        self.applied: list[tuple[int, int, list[object]]] = []
        self.now = 0.0
        self.timestamp = 10
        self.index = 0

    def log(self, entry: object, term: int) -> None:
        self.index += 1
        chunk = f"entry {self.index}"
        self.model.apply(entry, term, chunk)
        _, instructions = self.leader.apply(entry, term, chunk)  # type: ignore[arg-type]
        self.follower.apply(entry, term, chunk)  # type: ignore[arg-type]
        for instruction in instructions:
            if isinstance(instruction, p.ApplyChunks):
                self.applied.append(
                    (instruction.transaction_id, instruction.commit_ts, list(instruction.chunks))
                )

    def next_timestamp(self) -> int:
        self.timestamp += 1
        return self.timestamp

    # Mostly what a leader would log, now and then what only a broken one would.

    @rule(name=IDS, term=TERMS, own=TERMS, broken=RARELY)
    def ingest(self, name: int, term: int, own: int, broken: bool) -> None:
        self.log(Ingest(name, own if broken else term, 0, ()), term)

    @rule(name=IDS, term=TERMS, own=TERMS, broken=RARELY)
    def write(self, name: int, term: int, own: int, broken: bool) -> None:
        term, own, chunks = self._fitting(name, term, own, broken)
        self.log(Write(name, own, self.next_timestamp(), chunks, ()), term)

    @rule(name=IDS, term=TERMS, own=TERMS, broken=RARELY, exclusive=st.booleans())
    def prepare(self, name: int, term: int, own: int, broken: bool, exclusive: bool) -> None:
        # The lock lets one transaction prepare exclusively at a time.
        held = any(t.exclusive for t in self.follower.prepared())
        term, own, chunks = self._fitting(name, term, own, broken)
        entry = Prepare(name, own, self.timestamp, 9, exclusive and not held, chunks, ())
        self.log(entry, term)

    @rule(name=IDS, term=TERMS, own=TERMS, broken=RARELY)
    def decide(self, name: int, term: int, own: int, broken: bool) -> None:
        term, own, chunks = self._fitting(name, term, own, broken)
        self.log(Decision(name, own, self.next_timestamp(), (8, 9), chunks, ()), term)

    def _fitting(self, name: int, term: int, own: int, broken: bool) -> tuple[int, int, int]:
        begun, chunks, _ = self.model.open.get(name, (term, [], False))
        return (term, own, len(chunks) + 1) if broken else (begun, begun, len(chunks))

    @rule(name=IDS)
    def precommit(self, name: int) -> None:
        self.log(Precommit(name, self.next_timestamp()), 1)

    @rule(name=IDS)
    def commit(self, name: int) -> None:
        self.log(Commit(name, self.next_timestamp()), 1)

    @rule(name=IDS, decided=st.booleans())
    def abort(self, name: int, decided: bool) -> None:
        self.log(Abort(name, decided), 1)

    @rule(name=IDS, tablet=st.integers(8, 9))
    def confirm(self, name: int, tablet: int) -> None:
        self.log(Confirmed(((tablet, (name,)),)), 1)

    # What only the leader knows must not reach what the log says.

    @rule(name=IDS, mode=st.sampled_from(TABLE_MODES))
    def lock(self, name: int, mode: LockMode) -> None:
        try:
            self.leader.request_lock(name, mode, self.now)
        except SerializationFailure:
            return

    @rule(name=IDS)
    def mark(self, name: int) -> None:
        try:
            self.leader.mark(name, self.timestamp, self.now)
        except SerializationFailure:
            return
        assert name in self.leader.pending_below(self.timestamp + 1)

    @rule(step_s=st.floats(0, 20))
    def time_passes(self, step_s: float) -> None:
        self.now += step_s
        self.leader.expire(self.now)

    @rule()
    def new_term(self) -> None:
        term = self.leader.term or 0
        self.leader.end_term()
        self.leader.begin_term(term + 1)
        assert self.leader.locks.waiting() == ()

    @rule()
    def restart_from_image(self) -> None:
        image = self.follower.image()
        data = msgspec.msgpack.encode(image)
        copy = p.Participant(msgspec.msgpack.decode(data, type=p.ParticipantImage))
        for name in range(1, 5):
            assert copy.outcome(name) == self.follower.outcome(name)
        assert copy.unconfirmed() == self.follower.unconfirmed()

    @invariant()
    def replicas_agree(self) -> None:
        mine, theirs = self.leader.image(), self.follower.image()
        assert mine.outcomes == theirs.outcomes
        assert mine.decisions == theirs.decisions
        assert sorted(mine.unresolved) == sorted(theirs.unresolved)

    @invariant()
    def the_model_agrees(self) -> None:
        assert self.applied == self.model.applied
        for name in range(1, 5):
            outcome = self.follower.outcome(name)
            assert (outcome.commit_ts if outcome else None) == self.model.ended.get(name)
        prepared = {name for name, (_, _, is_prepared) in self.model.open.items() if is_prepared}
        assert {t.id for t in self.follower.prepared()} == prepared
        assert {t.id for t in self.leader.prepared()} == prepared

    @invariant()
    def a_lock_has_one_exclusive_holder(self) -> None:
        holders = [n for n in range(1, 5) if self.leader.locks.holds(n, LockMode.EXCLUSIVE)]
        assert len(holders) <= 1


TestParticipantMachine = ParticipantMachine.TestCase
TestParticipantMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_outcomes_are_kept_for_their_time_and_decisions_until_confirmed() -> None:
    replica = p.Participant()
    replica.apply(Decision(1, 1, 5, (8, 9), 0, ()), 1, "chunk")
    replica.apply(Write(2, 1, 6, 0, ()), 1, "chunk")
    replica.apply(Abort(3, True), 1)
    later = (p.OUTCOME_RETENTION_MS + 1) << TIMESTAMP_COUNTER_BITS
    replica.apply(Write(4, 1, later + 6, 0, ()), 1, "chunk")
    assert replica.outcome(2) is None
    assert replica.outcome(3) is None
    assert replica.outcome(1) == p.Outcome(5)
    replica.apply(Confirmed(((8, (1, 2)), (7, (1,)))), 1)
    assert replica.unconfirmed() == {1: (5, (9,))}
    replica.apply(Confirmed(((9, (1,)),)), 1)
    assert replica.unconfirmed() == {}
    assert replica.outcome(1) == p.Outcome(5)


def test_confirmations_in_logs_of_earlier_versions_still_count() -> None:
    replica = p.Participant()
    replica.apply(Decision(1, 1, 5, (7, 8, 9), 0, ()), 1, "chunk")
    logged = b"\x29\x00\x00\x00\x83\xa4type\xa7confirm\xaetransaction_id\x01\xa7tablets\x92\x08\x09"
    entry, _ = decode_entry(logged)
    assert entry == Confirm(1, (8, 9))
    replica.apply(entry, 1)
    assert replica.unconfirmed() == {1: (5, (7,))}


def test_a_commit_of_what_is_known_no_more_changes_nothing() -> None:
    """It has ended here as its home decided; only what is open still is no participant's."""
    replica = p.Participant()
    assert replica.apply(Commit(1, 5), 1) == (p.Outcome(5), [])
    assert replica.image() == p.Participant().image()
    replica.apply(Ingest(2, 1, 0, ()), 1, "chunk")
    refused, instructions = replica.apply(Commit(2, 5), 1)
    assert "not prepared" in str(refused)
    assert instructions == []


def test_a_precommit_of_what_was_lost_is_refused_as_a_conflict() -> None:
    """An asynchronous tablet may have lost the prepare with its replicas; nothing is decided."""
    replica = p.Participant()
    refused, instructions = replica.apply(Precommit(1, 5), 1)
    assert isinstance(refused, SerializationFailure)
    assert instructions == []
    assert replica.image() == p.Participant().image()


def test_a_new_leader_holds_the_locks_of_what_is_prepared() -> None:
    replica = p.Participant()
    replica.apply(Prepare(1, 1, 5, 9, True, 0, ()), 1, "chunk")
    replica.apply(Ingest(2, 1, 0, ()), 1, "chunk")
    assert replica.begin_term(2) == [p.LogAbort(2)]
    waiting = replica.request_lock(3, LockMode.EXCLUSIVE, 0.0)
    assert not waiting.granted
    assert replica.pending_below(6) == [1]
    assert replica.pending_below(5) == []
    _, instructions = replica.apply(Commit(1, 7), 2)
    assert p.Granted(waiting) in instructions


def test_what_is_marked_lapses_by_the_log() -> None:
    """What settles it may be on its way there, behind slow disks: until the log has said which came
    first, readers wait for it and its locks hold."""
    leader = p.Participant()
    leader.begin_term(1)
    leader.request_lock(1, LockMode.EXCLUSIVE, 0.0)
    leader.mark(1, 5, 0.0)
    assert leader.expire(p.LEASE_S) == [p.LogAbort(1)]
    assert leader.pending_below(6) == [1]
    assert not leader.request_lock(2, LockMode.EXCLUSIVE, p.LEASE_S).granted
    assert leader.apply(Write(1, 1, 7, 0, ()), 1, "chunk")[0] == p.Outcome(7)
    assert leader.apply(Abort(1, decided=False), 1)[0] == p.Outcome(7)


def test_who_leads_no_more_takes_no_word_for_a_transaction() -> None:
    """A call that waited for a lock may go on behind the end of its leader's term."""
    participant = p.Participant()
    participant.begin_term(1)
    participant.touch(5, 0.0)
    participant.end_term()
    with pytest.raises(SerializationFailure, match="could not serialize"):
        participant.touch(5, 1.0)
