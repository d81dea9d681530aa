"""One tablet's part in transactions: a pure state machine, events in, instructions out.

Two kinds of state. What the log says is the same on every replica and is changed by `apply`
alone: chunks staged, transactions prepared, outcomes, decisions kept for their participants.
What only the leader knows dies with its term: locks, leases, and marks of transactions about
to commit here (rule C1).

    OPEN --mark--> MARKED --write or decision applied--> outcome
      \\---mark--> MARKED --prepare applied--> PREPARED --commit or abort applied--> outcome
                                              (pre-committed between, in three phases)

A transaction is *pending* while MARKED or PREPARED; a reader at S waits for those with a floor
below S. (One marked after the reader looked draws its timestamp after S was issued.)

Invariants, with the rule that asks for them:
- the first outcome of a transaction wins, later entries do not change it (C4);
- a write, prepare or decision takes effect only in the leader term that granted the locks, as
  the log's own term says, and with all of its chunks before it (C2);
- what is prepared ends only by what the home decided (C5);
- a committed decision stays until every participant has confirmed, and every outcome for
  `OUTCOME_RETENTION_MS` of oracle time (C6), so all replicas forget alike.

The drivers are `storage.tablet_leader` and those built on it; chunks are opaque here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from cluster.errors import InternalError, LeaderChanged, SerializationFailure
from storage.entries import (
    Abort,
    ChangeEntry,
    Commit,
    Confirm,
    Confirmed,
    Decision,
    Ingest,
    LockedKeys,
    Precommit,
    Prepare,
    Write,
)
from storage.fragments import TIMESTAMP_COUNTER_BITS, TabletId, Timestamp, TransactionId
from storage.locks import TABLET, LockMode, LockRequest, LockTable, Resource

# Clients may ask for ten minutes, and a question may be a while on its way.
OUTCOME_RETENTION_MS = 11 * 60 * 1000
# How long a transaction lives without a word from its coordinator before it is prepared.
LEASE_S = 10.0
# A coordinator that hears of the end of its transaction later than after this many others is
# taken for a new one. They are the ends without effect within one leader term.
GIVEN_UP_KEPT = 100_000

NO_TABLET: TabletId = -1
ABORTED_TS: Timestamp = 0

# A log entry as the driver keeps it; the participant only collects and hands back.
Chunk = Any

# Commit timestamps, and the participants that have not confirmed.
Decisions: TypeAlias = dict[TransactionId, tuple[Timestamp, tuple[TabletId, ...]]]


class Phase(StrEnum):
    OPEN = "open"
    MARKED = "marked"
    PREPARED = "prepared"


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """How a transaction ended: at its commit timestamp, or without effect."""

    commit_ts: Timestamp

    @property
    def committed(self) -> bool:
        return self.commit_ts != ABORTED_TS


ABORTED = Outcome(ABORTED_TS)


@dataclass(slots=True)
class Transaction:
    """One that has no outcome yet. `expires_at` and marks count only on the leader."""

    id: TransactionId
    term: int
    phase: Phase = Phase.OPEN
    floor: Timestamp = 0
    home_tablet: TabletId = NO_TABLET
    exclusive: bool = False
    locked: tuple[LockedKeys, ...] = ()
    chunks: list[Chunk] = field(default_factory=list)
    expires_at: float = 0.0
    # What the home is about to decide, in three-phase commit; a word, not a decision (C11).
    precommit_ts: Timestamp = 0
    # Its commit waits for others to see whether its reads stand (rule I4).
    validates: bool = False
    # What it is about to change, where the leader that marked it has all of that in memory.
    changes: Sequence[Any] | None = None

    @property
    def logged(self) -> bool:
        """Whether the log, and so every replica, knows of it."""
        return bool(self.chunks)


@dataclass(frozen=True, slots=True)
class Granted:
    """Tell who waits for the request that the lock is held now."""

    request: LockRequest


@dataclass(frozen=True, slots=True)
class Refused:
    """Tell who waits for the request that its transaction is over."""

    request: LockRequest


@dataclass(frozen=True, slots=True)
class Ended:
    """Tell whoever waits for the transaction here that it is over, `outcome` if it is known."""

    transaction_id: TransactionId
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class ApplyChunks:
    """Give these changes to the stores, visible from the timestamp on."""

    transaction_id: TransactionId
    commit_ts: Timestamp
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class DropChunks:
    """Forget these changes."""

    transaction_id: TransactionId
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class LogAbort:
    """Propose an abort, so that every replica drops its chunks; see `entries.Abort`."""

    transaction_id: TransactionId
    decided: bool = False


Instruction = Granted | Refused | Ended | ApplyChunks | DropChunks | LogAbort


class DecisionImage(msgspec.Struct, frozen=True, array_like=True):
    transaction_id: TransactionId
    commit_ts: Timestamp
    unconfirmed: tuple[TabletId, ...]


class ParticipantImage(msgspec.Struct, frozen=True):
    """What of the log's part is kept at a checkpoint.

    Transactions without outcome are only named; the driver keeps their entries.
    """

    outcomes: dict[TransactionId, tuple[Timestamp, Timestamp]] = {}
    decisions: tuple[DecisionImage, ...] = ()
    unresolved: tuple[TransactionId, ...] = ()
    newest_ts: Timestamp = 0


class Participant:
    """See the module. Methods raise SerializationFailure (40001) for a transaction that is
    lost here: aborted, lapsed, or begun under another leader."""

    def __init__(self, image: ParticipantImage | None = None) -> None:
        image = image or ParticipantImage()
        self.transactions: dict[TransactionId, Transaction] = {}
        self.locks = LockTable()
        self.term: int | None = None  # the term in which this replica leads and serves
        # Those that ended in this term and are in no log: none may come back without its locks.
        self._given_up: OrderedDict[TransactionId, None] = OrderedDict()
        # Transaction -> (newest timestamp when it ended, commit timestamp), oldest first; a plain
        # dictionary takes the longer to find its first the more were deleted before it.
        self._outcomes = OrderedDict(image.outcomes)
        self._decisions = {d.transaction_id: (d.commit_ts, d.unconfirmed) for d in image.decisions}
        self._newest_ts = image.newest_ts

    # What the leader alone does.

    def begin_term(self, term: int) -> list[Instruction]:
        """This replica leads and has applied an entry of its own term (rule C2)."""
        self.term = term
        prepared = [t for t in self.transactions.values() if t.phase is Phase.PREPARED]
        self.locks.restore(
            [t.id for t in prepared if t.exclusive],
            [(t.id, _locked_rows(t.locked)) for t in prepared if not t.exclusive],
        )
        orphans = [t for t in self.transactions.values() if t.phase is not Phase.PREPARED]
        return [LogAbort(t.id) for t in orphans]

    def end_term(self) -> list[Instruction]:
        """This replica leads no more: all that only a leader knows is forgotten."""
        self.term = None
        self._given_up.clear()
        instructions: list[Instruction] = [Refused(r) for r in self.locks.waiting()]
        self.locks = LockTable()
        for transaction in list(self.transactions.values()):
            transaction.changes = None
            if transaction.phase is Phase.PREPARED:
                continue
            if not transaction.logged:
                instructions += self._forget(transaction.id, None)
            elif transaction.phase is Phase.MARKED:
                transaction.phase = Phase.OPEN
                instructions.append(Ended(transaction.id, None))
        return instructions

    def touch(self, transaction_id: TransactionId, now: float) -> Transaction:
        """The coordinator speaks for the transaction: it is registered here, its lease renewed."""
        if self.outcome(transaction_id) is not None:
            raise lost_transaction("it has already ended here")
        if transaction_id in self._given_up:
            raise lost_transaction("its lease on the tablet has lapsed")
        transaction = self.transactions.get(transaction_id)
        if self.term is None:
            # It led when it was asked, and waited for something since.
            raise leader_changed()
        if transaction is None:
            transaction = Transaction(transaction_id, self.term)
            self.transactions[transaction_id] = transaction
        elif transaction.term != self.term and transaction.phase is not Phase.PREPARED:
            raise leader_changed()
        transaction.expires_at = now + LEASE_S
        return transaction

    def known(self, transaction_id: TransactionId, now: float) -> Transaction:
        """Like `touch`, for a transaction that must have begun here already."""
        began = transaction_id in self.transactions or transaction_id in self._given_up
        if not began and self.outcome(transaction_id) is None:
            raise leader_changed()
        return self.touch(transaction_id, now)

    def request_lock(
        self,
        transaction_id: TransactionId,
        mode: LockMode,
        now: float,
        resource: Resource = TABLET,
        *,
        command: int = 0,
        wait: bool = True,
    ) -> LockRequest:
        """The request, granted or not; `Granted` or `Refused` follows for one that waits."""
        self.touch(transaction_id, now)
        return self.locks.request(transaction_id, mode, resource, command=command, wait=wait)

    def cancel_request(self, request: LockRequest) -> list[Instruction]:
        """Nobody waits for the request any more; the transaction goes on without."""
        return [Granted(r) for r in self.locks.cancel(request)]

    def weaken_lock(
        self,
        transaction_id: TransactionId,
        mode: LockMode,
        resource: Resource,
        command: int,
        to: LockMode | None = None,
    ) -> list[Instruction]:
        """A command needs no such lock any more, but `to`."""
        return [Granted(r) for r in self.locks.weaken(transaction_id, mode, resource, command, to)]

    def take_back_locks(self, transaction_id: TransactionId, command: int) -> list[Instruction]:
        """Gives up the locks that this command and later ones took."""
        return [Granted(r) for r in self.locks.release(transaction_id, command)]

    def mark(
        self,
        transaction_id: TransactionId,
        floor: Timestamp,
        now: float,
        validates: bool = False,
        changes: Sequence[Any] | None = None,
    ) -> Transaction:
        """The transaction is about to commit: readers above `floor` wait for it (rule C1)."""
        transaction = self.known(transaction_id, now)
        transaction.validates = validates
        # Who is marked again may have given its changes to the log already.
        transaction.changes = changes if transaction.phase is Phase.OPEN else None
        if transaction.phase is not Phase.PREPARED:
            transaction.phase = Phase.MARKED
            transaction.floor = floor
        return transaction

    def abandon(self, transaction_id: TransactionId) -> list[Instruction]:
        """The transaction ends without effect; nothing that would commit it is on its way."""
        transaction = self.transactions.get(transaction_id)
        if transaction is not None and transaction.logged:
            return [LogAbort(transaction_id, decided=transaction.phase is Phase.PREPARED)]
        return self._forget(transaction_id, None)

    def expire(self, now: float) -> list[Instruction]:
        """Ends what no coordinator has spoken for in time (never what is prepared)."""
        silent = [
            t.id
            for t in self.transactions.values()
            if t.phase is not Phase.PREPARED and t.expires_at <= now
        ]
        return [instruction for t in silent for instruction in self.lapse(t)]

    def lapse(self, transaction_id: TransactionId) -> list[Instruction]:
        """Nobody speaks for the transaction any more. What settles one that is marked may be on
        its way into the log, however slow that is: the log says which came first, and until then
        it is pending and holds its locks."""
        transaction = self.transactions.get(transaction_id)
        if transaction is not None and transaction.phase is Phase.MARKED:
            return [LogAbort(transaction_id)]
        return self.abandon(transaction_id)

    # What anybody may ask.

    @property
    def newest_ts(self) -> Timestamp:
        """No commit that the log has is above it."""
        return self._newest_ts

    def outcome(self, transaction_id: TransactionId) -> Outcome | None:
        """How it ended, or None when it has not, or long ago."""
        decision = self._decisions.get(transaction_id)
        if decision is not None:
            return Outcome(decision[0])
        ended = self._outcomes.get(transaction_id)
        return None if ended is None else Outcome(ended[1])

    def pending_below(self, timestamp: Timestamp) -> list[TransactionId]:
        """Transactions that may yet commit at or below the timestamp."""
        return [
            t.id
            for t in self.transactions.values()
            if t.phase is not Phase.OPEN and t.floor < timestamp
        ]

    def pending_floors(self) -> list[Timestamp]:
        """Floors of what is pending: it commits above its own (rule C1)."""
        pending = (t for t in self.transactions.values() if t.phase is not Phase.OPEN)
        return [t.floor for t in pending]

    def prepared(self) -> list[Transaction]:
        """What waits for its home."""
        return [t for t in self.transactions.values() if t.phase is Phase.PREPARED]

    def unconfirmed(self) -> Decisions:
        """Decisions made here whose participants have not all confirmed."""
        return dict(self._decisions)

    def image(self) -> ParticipantImage:
        """The log's part, for a checkpoint."""
        return ParticipantImage(
            dict(self._outcomes),
            tuple(DecisionImage(t, *d) for t, d in self._decisions.items()),
            tuple(t.id for t in self.transactions.values() if t.logged),
            self._newest_ts,
        )

    # What the log says.

    def apply(
        self,
        entry: ChangeEntry | Precommit | Commit | Abort | Confirmed | Confirm,
        term: int,
        chunk: Chunk = None,
    ) -> tuple[object, list[Instruction]]:
        """Takes in one committed entry: the result for its proposer, and what to do.

        `term` is the log's own. `chunk` is the driver's handle of a ChangeEntry; it comes back
        in an instruction if the transaction has taken it in, and is forgotten otherwise.
        """
        if isinstance(entry, Confirmed | Confirm):
            self._apply_confirmed(entry)
            return None, []
        outcome = self.outcome(entry.transaction_id)
        if outcome is not None:
            return outcome, []
        if isinstance(entry, Abort):
            return self._apply_abort(entry)
        if isinstance(entry, Precommit):
            return self._apply_precommit(entry), []
        if isinstance(entry, Commit):
            return self._apply_commit(entry)
        if isinstance(entry, Ingest):
            return self._apply_ingest(entry, term, chunk)
        transaction = self._in_log(entry)
        if transaction.phase is Phase.PREPARED:
            # Asked to prepare again: it is. Nothing else may come before the home's word.
            again = isinstance(entry, Prepare)
            return None if again else _out_of_order(entry.transaction_id, "already prepared"), []
        whole = term == entry.term == transaction.term and entry.chunks == len(transaction.chunks)
        transaction.chunks.append(chunk)
        if not whole:
            return ABORTED, self._end(transaction.id, ABORTED)
        if isinstance(entry, Prepare):
            return self._apply_prepare(entry, transaction)
        if isinstance(entry, Decision) and entry.participants:
            self._decisions[entry.transaction_id] = (entry.commit_ts, entry.participants)
        assert isinstance(entry, Write | Decision)
        outcome = Outcome(entry.commit_ts)
        return outcome, self._end(transaction.id, outcome)

    def _in_log(self, entry: ChangeEntry) -> Transaction:
        """The entry's transaction; one that only this leader knew is from now on the log's."""
        transaction = self.transactions.get(entry.transaction_id)
        if transaction is None:
            transaction = Transaction(entry.transaction_id, entry.term)
            self.transactions[entry.transaction_id] = transaction
        elif not transaction.logged:
            transaction.term = entry.term
        return transaction

    def _apply_ingest(
        self, entry: Ingest, term: int, chunk: Chunk
    ) -> tuple[object, list[Instruction]]:
        if term != entry.term:
            return ABORTED, []
        transaction = self._in_log(entry)
        if transaction.term != term:
            return ABORTED, []
        transaction.chunks.append(chunk)
        return None, []

    def _apply_prepare(
        self, entry: Prepare, transaction: Transaction
    ) -> tuple[object, list[Instruction]]:
        transaction.phase = Phase.PREPARED
        transaction.floor = entry.floor
        transaction.home_tablet = entry.home_tablet
        transaction.exclusive = entry.exclusive
        transaction.locked = entry.locked
        return None, []

    def _apply_precommit(self, entry: Precommit) -> object:
        transaction = self.transactions.get(entry.transaction_id)
        if transaction is None or transaction.phase is not Phase.PREPARED:
            # It was, where its coordinator asks for this; but an `async` tablet may have lost the
            # end of its log with its replicas (G5). Nothing is decided yet.
            return lost_transaction("what it had prepared on the tablet was lost")
        transaction.precommit_ts = entry.commit_ts
        return None

    def _apply_commit(self, entry: Commit) -> tuple[object, list[Instruction]]:
        transaction = self.transactions.get(entry.transaction_id)
        outcome = Outcome(entry.commit_ts)
        if transaction is None:
            # Told again after its time. It was prepared before its home decided, so further up
            # in this log, and what is prepared ends only as the home decided: it has.
            return outcome, []
        if transaction.phase is not Phase.PREPARED:
            return _out_of_order(entry.transaction_id, "not prepared"), []
        return outcome, self._end(entry.transaction_id, outcome)

    def _apply_abort(self, entry: Abort) -> tuple[object, list[Instruction]]:
        transaction = self.transactions.get(entry.transaction_id)
        if transaction is not None and transaction.phase is Phase.PREPARED and not entry.decided:
            return None, []
        return ABORTED, self._end(entry.transaction_id, ABORTED)

    def _apply_confirmed(self, entry: Confirmed | Confirm) -> None:
        if isinstance(entry, Confirm):
            for tablet_id in entry.tablets:
                self._confirm(entry.transaction_id, tablet_id)
            return
        for tablet_id, transaction_ids in entry.by_tablet:
            for transaction_id in transaction_ids:
                self._confirm(transaction_id, tablet_id)

    def _confirm(self, transaction_id: TransactionId, tablet_id: TabletId) -> None:
        decision = self._decisions.get(transaction_id)
        if decision is None:
            return
        commit_ts, unconfirmed = decision
        left = tuple(tablet for tablet in unconfirmed if tablet != tablet_id)
        if left:
            self._decisions[transaction_id] = (commit_ts, left)
        else:
            del self._decisions[transaction_id]
            self._remember(transaction_id, commit_ts)

    def _end(self, transaction_id: TransactionId, outcome: Outcome) -> list[Instruction]:
        self._newest_ts = max(self._newest_ts, outcome.commit_ts)
        if transaction_id not in self._decisions:
            self._remember(transaction_id, outcome.commit_ts)
        return self._forget(transaction_id, outcome)

    def _remember(self, transaction_id: TransactionId, commit_ts: Timestamp) -> None:
        self._outcomes[transaction_id] = (self._newest_ts, commit_ts)
        oldest_kept = self._newest_ts - (OUTCOME_RETENTION_MS << TIMESTAMP_COUNTER_BITS)
        while True:
            oldest = next(iter(self._outcomes))
            if self._outcomes[oldest][0] >= oldest_kept:
                break
            del self._outcomes[oldest]

    def _forget(self, transaction_id: TransactionId, outcome: Outcome | None) -> list[Instruction]:
        transaction = self.transactions.pop(transaction_id, None)
        chunks = transaction.chunks if transaction is not None else []
        instructions: list[Instruction] = []
        if outcome is not None and outcome.committed:
            instructions.append(ApplyChunks(transaction_id, outcome.commit_ts, chunks))
        elif chunks:
            instructions.append(DropChunks(transaction_id, chunks))
        if outcome is None and self.term is not None:
            self._give_up(transaction_id)
        instructions.append(Ended(transaction_id, outcome))
        instructions += [Refused(r) for r in self.locks.waiting(transaction_id)]
        instructions += [Granted(r) for r in self.locks.release(transaction_id)]
        return instructions

    def _give_up(self, transaction_id: TransactionId) -> None:
        self._given_up[transaction_id] = None
        if len(self._given_up) > GIVEN_UP_KEPT:
            self._given_up.popitem(last=False)


def _locked_rows(locked: Sequence[LockedKeys]) -> list[tuple[Resource, LockMode]]:
    return [((k.fragment_id, key), LockMode(k.mode)) for k in locked for key in k.keys]


def _out_of_order(transaction_id: TransactionId, state: str) -> InternalError:
    return InternalError(f"transaction {transaction_id} is {state} on this tablet")


def leader_changed(*, waited: bool = False) -> LeaderChanged:
    """The error for a transaction that holds nothing here, because it began elsewhere."""
    return LeaderChanged(
        "could not serialize access because a tablet changed its leader",
        waited=waited,
        detail="The tablet has another leader than the transaction began with.",
        hint="The transaction might succeed if retried.",
    )


def lost_transaction(reason: str) -> SerializationFailure:
    """The error for a transaction that this tablet cannot go on with."""
    return SerializationFailure(
        "could not serialize access: the transaction was aborted",
        detail=reason,
        hint="The transaction might succeed if retried.",
    )
