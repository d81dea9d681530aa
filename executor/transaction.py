"""How a transaction ends, as a state machine: events in, instructions out (rules C1 to C5).

    OPEN --Commit, one tablet-----------> WRITING ------------------------------> COMMITTED
      |\\--Commit, several-> PREPARING ----^
      |\\--Commit, apart---> MARKING -> DRAWING -> (VALIDATING) -> (PRECOMMITTING)
      |                                                            -> DECIDING -> COMMITTED
      \\----------------- Abort, or an error before the decision ----------------> ABORTED

One tablet (C3): `SendWrite`; the tablet validates, marks, draws and writes in one entry.
Several (C4): the first tablet is the home. All others are asked to prepare at once, with a floor
seen before; when every one has, the home does as one tablet alone: it validates, marks, draws the
timestamp (C1) and logs its changes with the decision. With that the client is answered;
participants are told to commit, and if they cannot be told they ask the home themselves (C5).

*Apart* from the decision the timestamp is drawn where something comes between them; then the home
is marked while the others prepare, and decides at last. A SERIALIZABLE transaction has its reads
validated at the timestamp drawn (I4), with one tablet, too. The catalog, home of what defines
something, is asked in this way as well.
In three phases (C11), where they are asked for, all participants log the timestamp that is about
to be decided before the home is told to decide it. The home's log decides all the same: nobody
ever commits because of a pre-commit, or of time that has passed.

What is known when something fails:
- before the decision is sent, the transaction aborts: it did not happen;
- a home that has changed its leader before it decided knows of no mark: the transaction begins
  again there (`executor.transaction_places`), and is asked the same; where the timestamp is drawn
  apart it is marked again and another one drawn (C9), a few times;
- once the decision (or the one write) is on its way and its answer is lost, the outcome is
  unknown, and the client is told so (40003); nobody aborts then, the home's log decides.

Invariants: no timestamp is asked for before every participant has marked; nothing is asked to
abort after a decision was sent, unless the home itself refused it; one answer is given.

The driver is `executor.transaction_end`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cluster.errors import DqeError, LeaderChanged, Outcome, StatementCompletionUnknown

TabletId = int
Timestamp = int

# A home that changes its leader more often than this while it decides is given up.
MARKED_AGAIN = 3


class State(StrEnum):
    OPEN = "open"
    WRITING = "writing"
    PREPARING = "preparing"
    MARKING = "marking"
    DRAWING = "drawing"
    VALIDATING = "validating"
    PRECOMMITTING = "precommitting"
    DECIDING = "deciding"
    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


# --- Events --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Commit:
    """The statement is done. `floor` is an oracle timestamp that was seen before now."""

    tablets: tuple[TabletId, ...]
    floor: Timestamp
    validates: bool = False
    three_phase: bool = False
    # The home is one that draws no timestamp by itself.
    draws_apart: bool = False

    @property
    def is_apart(self) -> bool:
        """Whether the timestamp is drawn before the home is asked to decide."""
        several = len(self.tablets) > 1
        return self.validates or (several and (self.three_phase or self.draws_apart))


@dataclass(frozen=True, slots=True)
class Abort:
    """The statement failed, or nobody wants it any more."""

    tablets: tuple[TabletId, ...]
    error: DqeError


@dataclass(frozen=True, slots=True)
class Marked:
    """The participant has logged its prepare, or the home holds its mark."""

    tablet: TabletId


@dataclass(frozen=True, slots=True)
class Drawn:
    timestamp: Timestamp


@dataclass(frozen=True, slots=True)
class Validated:
    """Nothing that the transaction read was changed up to its timestamp."""


@dataclass(frozen=True, slots=True)
class Precommitted:
    """The participant has logged what is about to be decided."""

    tablet: TabletId


@dataclass(frozen=True, slots=True)
class Decided:
    """The one write or the home's decision is logged, at this timestamp."""

    timestamp: Timestamp


@dataclass(frozen=True, slots=True)
class Failed:
    """What was asked for last of `tablet` (None: of the oracle) failed."""

    tablet: TabletId | None
    error: DqeError


Event = Commit | Abort | Marked | Drawn | Validated | Precommitted | Decided | Failed

# --- Instructions --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendWrite:
    """The home, all `participants` having prepared, or the only tablet."""

    tablet: TabletId
    floor: Timestamp
    participants: tuple[TabletId, ...] = ()


@dataclass(frozen=True, slots=True)
class SendPrepare:
    tablet: TabletId
    floor: Timestamp
    home: TabletId


@dataclass(frozen=True, slots=True)
class SendMarkHome:
    tablet: TabletId
    floor: Timestamp


@dataclass(frozen=True, slots=True)
class DrawTimestamp:
    pass


@dataclass(frozen=True, slots=True)
class ValidateReads:
    """See whether the reads stand at the timestamp."""

    timestamp: Timestamp


@dataclass(frozen=True, slots=True)
class SendPrecommit:
    tablet: TabletId
    timestamp: Timestamp


@dataclass(frozen=True, slots=True)
class SendDecide:
    tablet: TabletId
    timestamp: Timestamp
    participants: tuple[TabletId, ...]


@dataclass(frozen=True, slots=True)
class SendCommit:
    """Best effort: a participant that does not hear it asks the home."""

    tablet: TabletId
    timestamp: Timestamp


@dataclass(frozen=True, slots=True)
class SendAbort:
    """Best effort: what is not heard lapses or is asked of the home."""

    tablet: TabletId


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the client: committed at a timestamp, or the error."""

    timestamp: Timestamp | None
    error: DqeError | None = None


Instruction = (
    SendWrite
    | SendPrepare
    | SendMarkHome
    | DrawTimestamp
    | ValidateReads
    | SendPrecommit
    | SendDecide
    | SendCommit
    | SendAbort
    | Answer
)


class TransactionMachine:
    """One transaction's end. `step` is its only mutator."""

    def __init__(self) -> None:
        self.state = State.OPEN
        self._tablets: tuple[TabletId, ...] = ()
        # Whose answer is missing: to prepare or to be marked, then to pre-commit.
        self._unmarked: set[TabletId] = set()
        self._unaware: set[TabletId] = set()
        self._three_phase = False
        self._validates = False
        self._floor: Timestamp = 0
        self._timestamp: Timestamp = 0
        self._marked_again = 0

    @property
    def ended(self) -> bool:
        return self.state in (State.COMMITTED, State.ABORTED, State.UNKNOWN)

    def step(self, event: Event) -> list[Instruction]:
        """What to do because of the event, in order."""
        if isinstance(event, Commit):
            return self._commit(event)
        if isinstance(event, Abort):
            return self._abort(event)
        if isinstance(event, Failed):
            return self._failed(event)
        if isinstance(event, Marked):
            return self._marked(event)
        if isinstance(event, Drawn):
            return self._drawn(event)
        if isinstance(event, Validated):
            return self._validated()
        if isinstance(event, Precommitted):
            return self._precommitted(event)
        return self._decided(event)

    @property
    def _home(self) -> TabletId:
        return self._tablets[0]

    @property
    def _participants(self) -> tuple[TabletId, ...]:
        return self._tablets[1:]

    def _commit(self, event: Commit) -> list[Instruction]:
        assert self.state is State.OPEN
        assert event.tablets, "a transaction that wrote nothing has nothing to commit"
        self._tablets = event.tablets
        self._floor = event.floor
        self._validates = event.validates
        self._three_phase = event.three_phase
        prepares: list[Instruction] = [
            SendPrepare(tablet, event.floor, self._home) for tablet in self._participants
        ]
        if event.is_apart:
            self.state = State.MARKING
            self._unmarked = set(event.tablets)
            return [*prepares, SendMarkHome(self._home, event.floor)]
        self.state = State.PREPARING
        self._unmarked = set(self._participants)
        return prepares or self._write()

    def _write(self) -> list[Instruction]:
        self.state = State.WRITING
        return [SendWrite(self._home, self._floor, self._participants)]

    def _marked(self, event: Marked) -> list[Instruction]:
        self._unmarked.discard(event.tablet)
        if self._unmarked:
            return []
        if self.state is State.PREPARING:
            return self._write()
        if self.state is not State.MARKING:
            return []
        self.state = State.DRAWING
        return [DrawTimestamp()]

    def _drawn(self, event: Drawn) -> list[Instruction]:
        if self.state is not State.DRAWING:
            return []
        self._timestamp = event.timestamp
        if self._validates:
            self.state = State.VALIDATING
            return [ValidateReads(event.timestamp)]
        return self._precommit()

    def _validated(self) -> list[Instruction]:
        return self._precommit() if self.state is State.VALIDATING else []

    def _precommit(self) -> list[Instruction]:
        if not self._three_phase or not self._participants:
            return self._decide()
        self.state = State.PRECOMMITTING
        self._unaware = set(self._participants)
        return [SendPrecommit(tablet, self._timestamp) for tablet in self._participants]

    def _precommitted(self, event: Precommitted) -> list[Instruction]:
        self._unaware.discard(event.tablet)
        if self.state is not State.PRECOMMITTING or self._unaware:
            return []
        return self._decide()

    def _decide(self) -> list[Instruction]:
        self.state = State.DECIDING
        return [SendDecide(self._home, self._timestamp, self._participants)]

    def _decided(self, event: Decided) -> list[Instruction]:
        if self.state not in (State.WRITING, State.DECIDING):
            return []
        self.state = State.COMMITTED
        commits = [SendCommit(tablet, event.timestamp) for tablet in self._participants]
        return [Answer(event.timestamp), *commits]

    def _abort(self, event: Abort) -> list[Instruction]:
        """Before anything was decided; afterwards the outcome stands."""
        if self.ended:
            return []
        if self.state in (State.WRITING, State.DECIDING):
            return self._lost(event.error)
        self.state = State.ABORTED
        return [*_aborts(self._tablets or event.tablets), Answer(None, event.error)]

    def _failed(self, event: Failed) -> list[Instruction]:
        if self.ended:
            return []
        deciding = self.state in (State.WRITING, State.DECIDING)
        if deciding and event.tablet != self._home:
            return []  # a participant's late trouble: the decision is with the home
        if self.state is State.DECIDING and isinstance(event.error, LeaderChanged):
            self._marked_again += 1
            if self._marked_again <= MARKED_AGAIN:
                return self._mark_again()
        if deciding and event.error.outcome is Outcome.UNKNOWN:
            return self._lost(event.error)
        self.state = State.ABORTED
        return [*_aborts(self._tablets), Answer(None, event.error)]

    def _mark_again(self) -> list[Instruction]:
        """The home's mark was lost before anything was decided; the prepares stand."""
        self.state = State.MARKING
        self._unmarked = {self._home}
        return [SendMarkHome(self._home, self._floor)]

    def _lost(self, error: DqeError) -> list[Instruction]:
        """The decision may have been made: nobody may abort, and the client is told so."""
        self.state = State.UNKNOWN
        if not isinstance(error, StatementCompletionUnknown):
            error = StatementCompletionUnknown(
                "the answer to the commit was lost: it may have happened", detail=error.message
            )
        return [Answer(None, error)]


def _aborts(tablets: Sequence[TabletId]) -> list[Instruction]:
    return [SendAbort(tablet) for tablet in tablets]
