"""The rules of transactions, each left out by a patch: what the simulation of tablets must see.

Rule numbers are those of the design's protocols, as the modules cite them. Where a second rule
hides the first, the plant takes both away, and says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import tablet_simulation
from model_consensus import Replica
from model_nodes import ORACLE
from rule_plants_more import (
    future_not_refused,
    held_rows_not_looked_at,
    home_that_may_lose_its_decision,
    judged_where_it_is_applied,
    later_outcome_wins,
    leader_by_hearsay,
    marked_forgotten_in_silence,
    ranges_as_they_will_be,
    ranges_of_another_term,
    snapshot_without_decisions,
    versions_unseen_in_a_call,
    who_comes_late_gets_the_batch,
)

from catalog.oracle import TimestampOracle
from catalog.tablet_requests import TransactionRequest
from catalog.tablet_server import TabletServer
from catalog.timestamp_client import TimestampClient
from executor import transaction as machine
from executor.session_transaction import SessionTransaction
from executor.transaction import State, TransactionMachine
from executor.transaction_end import TransactionEnd
from executor.transaction_places import KeptRows, TabletPlace
from storage import lock_driver, row_reads, tablet
from storage.closed import Closed, ClosedTimestamps
from storage.entries import Decision, Write
from storage.fragments import END_OF_TIME, Timestamp
from storage.lock_driver import LockDriver, RowsLocked
from storage.locks import LockMode, LockTable
from storage.participant import (
    ABORTED,
    ApplyChunks,
    DropChunks,
    Outcome,
    Participant,
    Transaction,
)
from storage.tablet import Tablet
from storage.tablet_commits import TabletCommits

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Planted:
    """A rule left out, and the world in which it is missed."""

    rule: str
    plant: Patch
    world: str
    # Seeds that take long to see it are left to the long tests.
    is_rare: bool = False

    @property
    def name(self) -> str:
        return f"{self.rule}-{self.plant.__name__}"


# Timestamps.


def oracle_without_lease(patch: pytest.MonkeyPatch) -> None:
    """T1: numbers are handed out without a look at the lease behind it."""
    original = Replica.lease_valid

    def valid(self: Replica) -> bool:
        return self.is_leader if self.consensus.tablet_id == ORACLE else original(self)

    patch.setattr(Replica, "lease_valid", valid)


def oracle_without_ceiling(patch: pytest.MonkeyPatch) -> None:
    """T1: a new oracle begins at its own clock instead of above the logged ceiling."""
    original = TimestampOracle.start

    def start(self: TimestampOracle, logged_ceiling: int) -> None:
        original(self, 0)

    patch.setattr(TimestampOracle, "start", start)


def answer_to_an_earlier_question(patch: pytest.MonkeyPatch) -> None:
    """T2: a waiter takes the answer to a request that was on its way before it began to wait."""
    original = TimestampClient.snapshot

    async def snapshot(self: Any, deadline_s: float = 5.0) -> tuple[int, int]:
        under_way = self.__dict__.get("_under_way")
        if under_way is None or under_way.done():
            under_way = self._runtime.spawn(original(self, deadline_s), "shared snapshot")
            self.__dict__["_under_way"] = under_way
        return await asyncio.shield(under_way)

    patch.setattr(TimestampClient, "snapshot", snapshot)


# Commit.


def timestamp_before_the_marks(patch: pytest.MonkeyPatch) -> None:
    """C1: the commit timestamp is drawn while the participants are being asked; apart, as it
    is for SERIALIZABLE, by all."""
    early: dict[int, int] = {}
    original = TransactionMachine.step

    def step(self: TransactionMachine, event: machine.Event) -> list[machine.Instruction]:
        if isinstance(event, machine.Drawn) and self.state is State.MARKING:
            early[id(self)] = event.timestamp
            return []
        if isinstance(event, machine.Commit):
            event = dataclasses.replace(event, draws_apart=True)
        found = original(self, event)
        if isinstance(event, machine.Commit) and self.state is State.MARKING:
            return [*found, machine.DrawTimestamp()]
        if machine.DrawTimestamp() in found and id(self) in early:
            return original(self, machine.Drawn(early.pop(id(self))))
        return found

    patch.setattr(TransactionMachine, "step", step)


def one_tablet_draws_before_its_mark(patch: pytest.MonkeyPatch) -> None:
    """C1 and C3: a transaction on one tablet draws its timestamp and marks itself then."""
    original = TabletCommits._write

    async def write(self: Any, name: int, floor: int, draft: Any, draw: Any, others: Any) -> int:
        drawn = await draw()

        async def again() -> int:
            return int(drawn)

        return await original(self, name, floor, draft, again, others)

    patch.setattr(TabletCommits, "_write", write)


def locks_of_another_term(patch: pytest.MonkeyPatch) -> None:
    """C2: what another leader's locks allowed counts at this one, too."""

    async def led(server: TabletServer, request: TransactionRequest) -> Tablet:
        tablet = server._storage.tablet(request.tablet_id)
        await tablet.serves()
        return tablet

    patch.setattr(TabletServer, "_led", led)
    touch, apply = Participant.touch, Participant.apply

    def adopt(self: Participant, transaction_id: int) -> None:
        transaction = self.transactions.get(transaction_id)
        if transaction is not None and self.term is not None:
            transaction.term = self.term

    def touched(self: Participant, transaction_id: int, now: float) -> Transaction:
        adopt(self, transaction_id)
        return touch(self, transaction_id, now)

    def known(self: Participant, transaction_id: int, now: float) -> Transaction:
        return touched(self, transaction_id, now)

    def applied(self: Participant, entry: Any, term: int, chunk: Any = None) -> Any:
        transaction = self.transactions.get(getattr(entry, "transaction_id", 0))
        if transaction is not None and hasattr(entry, "term"):
            transaction.term = entry.term
            term = entry.term
        return apply(self, entry, term, chunk)

    patch.setattr(Participant, "touch", touched)
    patch.setattr(Participant, "known", known)
    patch.setattr(Participant, "apply", applied)


def prepared_without_its_locks(patch: pytest.MonkeyPatch) -> None:
    """C2: a new leader does not take the locks of what is prepared in its log."""
    patch.setattr(LockTable, "restore", lambda self, *arguments: None)


def answered_before_the_write(patch: pytest.MonkeyPatch) -> None:
    """C3: a transaction on one tablet is acknowledged before its entry is committed."""
    _answer_before(patch, "_write", Write)


def answered_before_the_decision(patch: pytest.MonkeyPatch) -> None:
    """C4: the client is answered before the home's decision is committed."""
    _answer_before(patch, "_decide", Decision)


def _answer_before(patch: pytest.MonkeyPatch, step: str, entry_type: type) -> None:
    original = TabletCommits._propose_last

    async def propose(self: Any, transaction_id: int, make: Any, draft: Any) -> object:
        entry = make(())
        if not isinstance(entry, entry_type):
            return await original(self, transaction_id, make, draft)
        self._runtime.spawn(_quietly(original(self, transaction_id, make, draft)), step)
        return Outcome(entry.commit_ts)  # type: ignore[attr-defined]

    patch.setattr(TabletCommits, "_propose_last", propose)


async def _quietly(work: Any) -> None:
    await asyncio.gather(work, return_exceptions=True)


def home_guesses(patch: pytest.MonkeyPatch) -> None:
    """C5: a home that knows nothing of a transaction says aborted, and does not log it."""

    async def status(self: Any, transaction_id: int) -> Outcome | None:
        await self._lead()
        outcome = self._participant.outcome(transaction_id)
        if outcome is not None or transaction_id in self._participant.transactions:
            found: Outcome | None = outcome
            return found
        return ABORTED

    patch.setattr(TabletCommits, "status", status)


def participant_guesses(patch: pytest.MonkeyPatch) -> None:
    """C5: a participant that has heard nothing for a while aborts by itself."""

    async def ask_home(self: Any, transaction_id: int, home_tablet: int) -> None:
        await self._tablet.log_decided_abort(transaction_id)

    patch.setattr("storage.doubts.Doubts._ask_home", ask_home)


def decision_forgotten(patch: pytest.MonkeyPatch) -> None:
    """C6: the home forgets its decision when it has told its participants once."""
    original = Participant.apply

    def apply(self: Participant, entry: Any, term: int, chunk: Any = None) -> Any:
        found = original(self, entry, term, chunk)
        if isinstance(entry, Decision) and entry.participants:
            self._decisions.pop(entry.transaction_id, None)
            self._outcomes.pop(entry.transaction_id, None)
        return found

    patch.setattr(Participant, "apply", apply)


def confirmed_before_it_is_logged(patch: pytest.MonkeyPatch) -> None:
    """C6: a participant confirms what it was told, and logs its commit behind that."""
    original = TabletCommits.commit_all

    async def commit_all(self: Any, commits: Any) -> list[int]:
        await self._lead()
        self._runtime.spawn(_quietly(original(self, commits)), "commits")
        return [transaction_id for transaction_id, _ in commits]

    patch.setattr(TabletCommits, "commit_all", commit_all)


def closed_ahead_and_not_refused(patch: pytest.MonkeyPatch) -> None:
    """C7: a leader that closes timestamps to come commits at them all the same."""
    closed_ahead(patch)
    patch.setattr(ClosedTimestamps, "refuses", lambda self, commit_ts: False)


def closed_ahead(patch: pytest.MonkeyPatch) -> None:
    """Allowed, since C7 refuses what comes too late."""
    original = ClosedTimestamps.close

    def close(
        self: ClosedTimestamps, issued: Timestamp, floors: Iterable[Timestamp], *rest: int
    ) -> Closed:
        return original(self, issued + (100 << 18), [f + (100 << 18) for f in floors], *rest)

    patch.setattr(ClosedTimestamps, "close", close)


def token_answered_by_a_guess(patch: pytest.MonkeyPatch) -> None:
    """C8: what runs still, or is not known, is said to be aborted."""
    original = TabletServer.status

    async def status(self: Any, request: Any, deadline_s: float) -> Any:
        found = await original(self, request, deadline_s)
        if found.running:
            return type(found)(running=False, commit_ts=0)
        return found

    patch.setattr("model_nodes.HookedServer.status", status)


def begun_again_without_a_look(patch: pytest.MonkeyPatch) -> None:
    """C9: at a new leader rows are locked again, whatever happened to them meanwhile."""

    async def repeat(self: KeptRows, place: TabletPlace) -> None:
        await place.tablets.lock_rows(
            place.tablet_id,
            place.id,
            self.fragment_id,
            self.keys,
            self.mode,
            END_OF_TIME,
            self.command,
            lock_driver.WAIT,
            place.lock_deadline_s,
        )

    patch.setattr(KeptRows, "repeat", repeat)


def committed_on_a_timeout(patch: pytest.MonkeyPatch) -> None:
    """C11: a participant that was told of the pre-commit commits when nothing more is heard."""
    original = Participant.apply
    precommits: dict[int, int] = {}

    def apply(self: Participant, entry: Any, term: int, chunk: Any = None) -> Any:
        if type(entry).__name__ == "Precommit":
            precommits[entry.transaction_id] = entry.commit_ts
        return original(self, entry, term, chunk)

    async def ask_home(self: Any, transaction_id: int, home_tablet: int) -> None:
        commit_ts = precommits.get(transaction_id)
        if commit_ts is None:
            await self._tablet.log_decided_abort(transaction_id)
        else:
            await self._tablet.commit(transaction_id, commit_ts)

    patch.setattr(Participant, "apply", apply)
    patch.setattr("storage.doubts.Doubts._ask_home", ask_home)


# Reading.


def pending_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """R1: a read at a timestamp does not wait for what may commit below it."""
    original = row_reads.pending_on

    def pending_on(participant: Any, tables: Any, keys: Any, timestamp: int | None) -> list[int]:
        return original(participant, tables, keys, None) if timestamp is None else []

    async def wait_pending(self: Any, timestamp: int) -> None:
        return

    patch.setattr(tablet, "pending_on", pending_on)
    patch.setattr(Tablet, "_wait_pending", wait_pending)


def read_without_a_lease(patch: pytest.MonkeyPatch) -> None:
    """R2 and G1: a leader answers without a look at its lease behind the read."""
    original = Replica.lease_valid

    def valid(self: Replica) -> bool:
        return original(self) if self.consensus.tablet_id == ORACLE else self.is_leader

    patch.setattr(Replica, "lease_valid", valid)


def newest_rows_beside_a_commit(patch: pytest.MonkeyPatch) -> None:
    """R2: a read without a timestamp does not wait for transactions about to commit."""
    original = row_reads.pending_on

    def pending_on(participant: Any, tables: Any, keys: Any, timestamp: int | None) -> list[int]:
        return [] if timestamp is None else original(participant, tables, keys, timestamp)

    patch.setattr(tablet, "pending_on", pending_on)


def follower_asks_nobody(patch: pytest.MonkeyPatch) -> None:
    """R3: a follower serves a new timestamp from what it has."""

    async def follow(self: Any, *arguments: Any) -> None:
        return

    patch.setattr(Tablet, "_follow_to", follow)


def read_index_beside_a_commit(patch: pytest.MonkeyPatch) -> None:
    """R3: the leader names an index without resolving what may commit below the timestamp."""

    async def wait_pending(self: Any, timestamp: int) -> None:
        return

    patch.setattr(Tablet, "_wait_pending", wait_pending)


def closed_above_what_is_pending(patch: pytest.MonkeyPatch) -> None:
    """R4: a timestamp is closed above the floor of a pending transaction (and C7 left out,
    which would refuse its commit)."""
    original = ClosedTimestamps.close

    def close(
        self: ClosedTimestamps, issued: Timestamp, floors: Iterable[Timestamp], *rest: int
    ) -> Closed:
        return original(self, issued, (), *rest)

    patch.setattr(ClosedTimestamps, "close", close)
    patch.setattr(ClosedTimestamps, "refuses", lambda self, commit_ts: False)


def closed_before_it_is_applied(patch: pytest.MonkeyPatch) -> None:
    """R4: a closed timestamp is used before its index is applied."""
    original = ClosedTimestamps.index_for

    def index_for(self: ClosedTimestamps, timestamp: Timestamp) -> int | None:
        return None if original(self, timestamp) is None else 0

    patch.setattr(ClosedTimestamps, "index_for", index_for)


def closed_without_a_lease(patch: pytest.MonkeyPatch) -> None:
    """R4: a deposed leader goes on closing timestamps."""

    def close_timestamp(self: Any, issued: Timestamp) -> Closed | None:
        if not self.is_leader:
            return None
        floors = self._participant.pending_floors()
        closed: Closed = self.closed.close(issued, floors, self._group.term, self._applied_index)
        return closed

    patch.setattr(Tablet, "close_timestamp", close_timestamp)


def own_changes_unseen(patch: pytest.MonkeyPatch) -> None:
    """R5: a statement does not see what its transaction has changed."""
    patch.setattr(SessionTransaction, "own_changes", lambda self: None)


# Isolation.


def nothing_locked(patch: pytest.MonkeyPatch) -> None:
    """I1: rows are not locked as statements change them."""

    async def take_rows(self: Any, *arguments: Any, **named: Any) -> RowsLocked:
        return RowsLocked()

    patch.setattr(LockDriver, "take_rows", take_rows)


def newer_versions_unseen(patch: pytest.MonkeyPatch) -> None:
    """I2 and I3: nobody looks whether a row was changed since the snapshot."""

    async def unchanged(*arguments: Any, **named: Any) -> bool:
        return False

    original = LockDriver.take_rows

    async def take_rows(self: Any, *arguments: Any, **named: Any) -> RowsLocked:
        found = await original(self, *arguments, **named)
        return RowsLocked((), found.skipped, found.as_of)

    patch.setattr(LockDriver, "take_rows", take_rows)
    patch.setattr("storage.tablet_changes.TabletChanges._check_versions", unchanged)


def not_validated(patch: pytest.MonkeyPatch) -> None:
    """I4: a SERIALIZABLE transaction does not look at its reads again."""

    async def validate(self: Any, timestamp: Timestamp) -> None:
        return

    patch.setattr(TransactionEnd, "_validate", validate)


def validated_too_early(patch: pytest.MonkeyPatch) -> None:
    """I4: reads are validated when the commit begins, before its timestamp is drawn."""
    validate, commit = TransactionEnd._validate, TransactionEnd.commit

    async def not_now(self: Any, timestamp: Timestamp) -> None:
        return

    async def early(self: Any, tablets: Any, floor: Timestamp, reads: Any, **named: Any) -> int:
        if reads is not None:
            self._reads = reads
            await validate(self, await self._timestamps.commit_timestamp())
        return await commit(self, tablets, floor, reads, **named)

    patch.setattr(TransactionEnd, "_validate", not_now)
    patch.setattr(TransactionEnd, "commit", early)


def many_rows_unlocked(patch: pytest.MonkeyPatch) -> None:
    """I6: a statement of too many rows for row locks takes no lock of the tablet either."""
    patch.setattr(lock_driver, "ROWS_LOCKED_SINGLY", 0)
    original = LockDriver.take

    async def take(
        self: Any, transaction_id: int, mode: Any, *arguments: Any, **named: Any
    ) -> None:
        if mode is not LockMode.EXCLUSIVE:
            await original(self, transaction_id, mode, *arguments, **named)

    patch.setattr(LockDriver, "take", take)


# Log and stores.


def chunks_of_the_aborted(patch: pytest.MonkeyPatch) -> None:
    """L6: what was staged in the log is applied whatever became of its transaction."""
    original = Participant._forget

    def forget(self: Participant, transaction_id: int, outcome: Outcome | None) -> list[Any]:
        found = original(self, transaction_id, outcome)
        return [
            ApplyChunks(i.transaction_id, self._newest_ts + 1, i.chunks)
            if isinstance(i, DropChunks)
            else i
            for i in found
        ]

    patch.setattr(Participant, "_forget", forget)


def some_chunks_lost(patch: pytest.MonkeyPatch) -> None:
    """L6 and C2: a transaction commits without the chunks that its leader did not log."""
    original = Participant._apply_ingest

    def ingest(self: Participant, entry: Any, term: int, chunk: Any) -> Any:
        if entry.sequence % 2:
            return original(self, entry, term, chunk)
        return None, []

    apply = Participant.apply

    def applied(self: Participant, entry: Any, term: int, chunk: Any = None) -> Any:
        transaction = self.transactions.get(getattr(entry, "transaction_id", 0))
        if hasattr(entry, "chunks"):
            count = 0 if transaction is None else len(transaction.chunks)
            entry = type(entry)(**{**_fields(entry), "chunks": count})
        return apply(self, entry, term, chunk)

    patch.setattr(Participant, "_apply_ingest", ingest)
    patch.setattr(Participant, "apply", applied)


def _fields(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


def horizon_unseen(patch: pytest.MonkeyPatch) -> None:
    """L7: a read does not look at the horizon of the history it reads."""
    for module in (row_reads, tablet, tablet_simulation):
        patch.setattr(module, "check_horizon", lambda *arguments: None)


RULES: Sequence[Planted] = (
    Planted("T1", oracle_without_lease, "oracles"),
    Planted("T1", oracle_without_ceiling, "oracles"),
    Planted("T2", answer_to_an_earlier_question, "late"),
    Planted("T2", who_comes_late_gets_the_batch, "batches"),
    Planted("T4", future_not_refused, "ahead"),
    Planted("C1", timestamp_before_the_marks, "late", is_rare=True),
    Planted("C1", one_tablet_draws_before_its_mark, "slow", is_rare=True),
    Planted("C1", marked_forgotten_in_silence, "stalled"),
    Planted("C2", locks_of_another_term, "moving"),
    Planted("C2", prepared_without_its_locks, "late and moving"),
    Planted("C3", answered_before_the_write, "moving", is_rare=True),
    Planted("C4", answered_before_the_decision, "moving", is_rare=True),
    Planted("C4", later_outcome_wins, "in doubt"),
    Planted("C5", home_guesses, "late and moving", is_rare=True),
    Planted("C5", participant_guesses, "in doubt"),
    Planted("C6", decision_forgotten, "dying", is_rare=True),
    Planted("C6", confirmed_before_it_is_logged, "in doubt", is_rare=True),
    Planted("C7", closed_ahead_and_not_refused, "followers"),
    Planted("C8", token_answered_by_a_guess, "in doubt"),
    Planted("C9", begun_again_without_a_look, "moving"),
    Planted("C10", home_that_may_lose_its_decision, "asynchronous", is_rare=True),
    Planted("C11", committed_on_a_timeout, "in doubt", is_rare=True),
    Planted("R1", pending_not_waited_for, "quiet"),
    Planted("R2", read_without_a_lease, "moving"),
    Planted("R2", newest_rows_beside_a_commit, "slow"),
    Planted("R3", follower_asks_nobody, "followers"),
    Planted("R3", read_index_beside_a_commit, "followers", is_rare=True),
    Planted("R4", closed_above_what_is_pending, "late and closed"),
    Planted("R4", closed_before_it_is_applied, "slow followers"),
    Planted("R4", closed_without_a_lease, "moving", is_rare=True),
    Planted("R5", own_changes_unseen, "quiet"),
    Planted("I1", nothing_locked, "crowded"),
    Planted("I2", newer_versions_unseen, "crowded"),
    Planted("I3", versions_unseen_in_a_call, "in a call"),
    Planted("I4", not_validated, "serializable"),
    Planted("I4", validated_too_early, "late and serializable", is_rare=True),
    Planted("I4", ranges_as_they_will_be, "ranges"),
    Planted("I4", ranges_of_another_term, "ranges"),
    Planted("I5", held_rows_not_looked_at, "guarded", is_rare=True),
    Planted("I6", many_rows_unlocked, "crowded"),
    Planted("L2", judged_where_it_is_applied, "quiet"),
    Planted("L6", chunks_of_the_aborted, "chunks"),
    Planted("L6", some_chunks_lost, "chunks"),
    Planted("L7", horizon_unseen, "pruned"),
    Planted("S2", snapshot_without_decisions, "forgetful"),
    Planted("G4", leader_by_hearsay, "hearsay", is_rare=True),
)
