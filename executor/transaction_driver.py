"""Carries out what `TransactionMachine` says: locks, changes and the end of one transaction.

While a transaction is open its coordinator renews the leases it holds on tablets; when the
coordinator dies they lapse and the tablets forget it, unless it is prepared: then they ask the
home (rule C5). Locks are taken in ascending tablet order by everybody, so no two transactions
wait for each other.

Once the end has begun it is carried through whether or not the statement is still wanted: its
result is the transaction's, not the statement's.

Invariants: changes of one tablet arrive in the order they were staged; at most
`IN_FLIGHT_BYTES` of changes are on their way; after `commit` or `abort` nothing more is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from cluster.errors import (
    DqeError,
    InternalError,
    ProgramLimitExceeded,
    QueryCanceled,
    StatementCompletionUnknown,
)
from cluster.runtime import Runtime
from executor import transaction as machine
from storage.fragments import (
    FragmentChange,
    FragmentId,
    OwnChanges,
    TabletId,
    Timestamp,
    TransactionId,
)
from storage.lock_driver import WAIT, RowsLocked
from storage.locks import LockMode
from storage.row_tables import StoredKey, StoredRow

logger = logging.getLogger(__name__)

EXCLUSIVE = LockMode.EXCLUSIVE.value
# Of those who change rows: it keeps tables from being cut anew meanwhile, not each other.
SHARED = LockMode.ROW_EXCLUSIVE.value

IN_FLIGHT_BYTES = 64 * 1024 * 1024
# Behind every statement's: taking it back is only a word for the lease.
NO_COMMAND = 2**62
# The tablets' lease is 10 s (storage.participant); this leaves room for two lost messages.
RENEW_EVERY_S = 3.0
# A lock is waited for as long as the statement lasts, unless `lock_timeout` says otherwise.
LOCK_DEADLINE_S = 7 * 24 * 3600.0
COMMIT_DEADLINE_S = 30.0


class TabletAccess(Protocol):
    """Tablets wherever they are led; the methods are those of `storage.tablet.Tablet`."""

    async def lock(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        mode: str,
        deadline_s: float,
        command: int = 0,
        wait: bool = True,
    ) -> None: ...

    async def lock_rows(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        fragment_id: FragmentId,
        keys: pa.RecordBatch,
        mode: str,
        base: Timestamp,
        command: int,
        policy: str,
        deadline_s: float,
    ) -> RowsLocked: ...

    async def stage(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        change: FragmentChange,
        deadline_s: float,
        command: int = 0,
    ) -> None: ...

    async def take_back(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        command: int,
        deadline_s: float,
    ) -> None: ...

    async def check(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        base: Timestamp,
        command: int,
        deadline_s: float,
    ) -> None: ...

    async def write(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        floor: Timestamp,
        deadline_s: float,
    ) -> Timestamp: ...

    async def prepare(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        floor: Timestamp,
        home_tablet: TabletId,
        deadline_s: float,
        validates: bool = False,
    ) -> None: ...

    async def mark_home(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        floor: Timestamp,
        deadline_s: float,
        validates: bool = False,
    ) -> None: ...

    async def validate(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        fragment_ids: Sequence[FragmentId],
        base: Timestamp,
        commit_ts: Timestamp,
        deadline_s: float,
    ) -> None: ...

    async def decide(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        commit_ts: Timestamp,
        participants: Sequence[TabletId],
        deadline_s: float,
    ) -> Timestamp: ...

    async def commit(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        commit_ts: Timestamp,
        deadline_s: float,
    ) -> None: ...

    async def abort(
        self, tablet_id: TabletId, transaction_id: TransactionId, deadline_s: float
    ) -> None: ...

    async def commit_status(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        settles: bool,
        deadline_s: float,
    ) -> str: ...

    async def read_stored(
        self,
        tablet_id: TabletId,
        fragment_id: FragmentId,
        keys: tuple[StoredKey, ...],
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
    ) -> Sequence[StoredRow | None]: ...


class TimestampSource(Protocol):
    async def commit_timestamp(self, deadline_s: float = ...) -> Timestamp: ...


class Changes(Protocol):
    """What a statement changes rows with: a transaction of its own, or its part of one."""

    @property
    def id(self) -> TransactionId: ...

    async def lock(
        self, tablets: Iterable[TabletId], mode: str = ..., *, wait: bool = ...
    ) -> None: ...

    async def lock_rows(
        self,
        tablet_id: TabletId,
        fragment_id: FragmentId,
        keys: pa.RecordBatch,
        mode: LockMode,
        base: Timestamp,
        policy: str = ...,
    ) -> RowsLocked: ...

    async def stage(self, tablet_id: TabletId, change: FragmentChange) -> None: ...

    async def drain(self) -> None: ...

    async def commit(self, floor: Timestamp, *, checks: bool) -> Timestamp: ...

    async def abort(self, error: DqeError | None = None) -> None: ...


@dataclass(slots=True)
class Reads:
    """What a SERIALIZABLE transaction read at its snapshot `base`: fragments by tablet."""

    base: Timestamp = 0
    fragments: dict[TabletId, dict[FragmentId, None]] = field(default_factory=dict)


class _Lane:
    """The changes on their way to one tablet, first come first served."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, FragmentChange]] = deque()
        self.task: asyncio.Task[None] | None = None


class Transaction:
    """A transaction of one statement or several, from its first lock or change to its end."""

    def __init__(
        self,
        runtime: Runtime,
        tablets: TabletAccess,
        timestamps: TimestampSource,
        transaction_id: TransactionId,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
        lock_deadline_s: float = LOCK_DEADLINE_S,
        max_bytes: int | None = None,
    ) -> None:
        self._runtime = runtime
        self._tablets = tablets
        self._timestamps = timestamps
        self._id = transaction_id
        self._in_flight_bytes = in_flight_bytes
        # How long to wait for one lock.
        self.lock_deadline_s = lock_deadline_s
        # How much may be staged altogether.
        self.max_bytes = max_bytes
        self._staged_bytes = 0
        self._machine = machine.TransactionMachine()
        # The table modes held at each tablet, with the commands that took them.
        self._locked: dict[TabletId, dict[str, int]] = {}
        # With the fragment written last, for renewals.
        self._written: dict[TabletId, FragmentId] = {}
        self._lanes: dict[TabletId, _Lane] = {}
        self._bytes = 0
        self._room = asyncio.Event()
        self._error: DqeError | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._reads: Reads | None = None

    @property
    def id(self) -> TransactionId:
        return self._id

    # -- locks

    async def lock(
        self,
        tablets: Iterable[TabletId],
        mode: str = EXCLUSIVE,
        command: int = 0,
        wait: bool = True,
    ) -> None:
        """Locks whole tablets until the end, or until the command is taken back, in ascending
        order; 55P03 where one is not had in time, or, with `wait` false, at once."""
        for tablet_id in sorted(set(tablets)):
            held = self._locked.get(tablet_id, {})
            if mode in held or (mode == SHARED and EXCLUSIVE in held):
                continue
            self._touched(tablet_id)
            await self._tablets.lock(tablet_id, self.id, mode, self.lock_deadline_s, command, wait)
            self._locked.setdefault(tablet_id, {})[mode] = command

    async def lock_rows(
        self,
        tablet_id: TabletId,
        fragment_id: FragmentId,
        keys: pa.RecordBatch,
        mode: LockMode,
        base: Timestamp,
        policy: str = WAIT,
        command: int = 0,
    ) -> RowsLocked:
        """Locks rows by key; which of them others changed after `base`, or hold."""
        self._touched(tablet_id)
        return await self._tablets.lock_rows(
            tablet_id,
            self.id,
            fragment_id,
            keys,
            mode,
            base,
            command,
            policy,
            self.lock_deadline_s,
        )

    def _touched(self, tablet_id: TabletId) -> None:
        self._lanes.setdefault(tablet_id, _Lane())
        if self._renewal is None:
            self._renewal = self._runtime.spawn(self._renew(), f"leases of transaction {self.id}")

    async def _renew(self) -> None:
        """Speaks for the transaction where it holds something, so that it does not lapse."""
        while not self._machine.ended:
            await self._runtime.sleep(RENEW_EVERY_S)
            try:
                await self._speak()
            except DqeError as error:
                self._fail(error)
                return

    async def _speak(self) -> None:
        for tablet_id in list(self._lanes):
            await self._tablets.take_back(tablet_id, self.id, NO_COMMAND, RENEW_EVERY_S)

    # -- changes

    async def stage(self, tablet_id: TabletId, change: FragmentChange, command: int = 0) -> None:
        """Sends a change of a command on its way; waits while too much is. Raises what went
        wrong before, and 54000 for a transaction that grows too large."""
        self._staged_bytes += change.size_bytes
        if self.max_bytes is not None and self._staged_bytes > self.max_bytes:
            raise ProgramLimitExceeded(
                "the transaction is too large",
                detail=f"It changes more than {self.max_bytes} bytes.",
                hint="Change less at once, or raise dqe.max_transaction_bytes.",
            )
        while self._bytes >= self._in_flight_bytes and self._error is None:
            self._room.clear()
            await self._room.wait()
        self._raise()
        self._touched(tablet_id)
        self._written[tablet_id] = change.fragment_id
        lane = self._lanes[tablet_id]
        lane.waiting.append((command, change))
        self._bytes += change.size_bytes
        if lane.task is None:
            lane.task = self._runtime.spawn(
                self._send(tablet_id, lane), f"changes of {self.id} for tablet {tablet_id}"
            )

    async def _send(self, tablet_id: TabletId, lane: _Lane) -> None:
        try:
            while lane.waiting and self._error is None:
                command, change = lane.waiting.popleft()
                await self._tablets.stage(tablet_id, self.id, change, COMMIT_DEADLINE_S, command)
                self._bytes -= change.size_bytes
                self._room.set()
        except DqeError as error:
            self._fail(error)
        except Exception as error:  # the driver loop: a lost change must not be committed
            logger.exception("a change of transaction %d was lost", self.id)
            self._fail(InternalError(f"{type(error).__name__}: {error}"))
        finally:
            lane.task = None

    async def drain(self) -> None:
        """Waits until every change is with its tablet."""
        for lane in self._lanes.values():
            while lane.task is not None:
                await asyncio.wait([lane.task])
        self._raise()

    async def check(
        self,
        tablets: Iterable[TabletId],
        base: Timestamp = 0,
        command: int = 0,
    ) -> None:
        """Checks there what was changed so far: unique constraints, and with `base` that no row
        was changed by others after it."""
        for tablet_id in tablets:
            await self._tablets.check(tablet_id, self.id, base, command, self.lock_deadline_s)

    async def take_back(self, command: int) -> None:
        """Undoes the changes of this command and later ones, also those that failed."""
        for lane in self._lanes.values():
            lane.waiting.clear()
            while lane.task is not None:
                await asyncio.wait([lane.task])
        self._error, self._bytes = None, 0
        for tablet_id, held in self._locked.items():
            self._locked[tablet_id] = {m: c for m, c in held.items() if c < command}
        for tablet_id in sorted(self._lanes):
            await self._tablets.take_back(tablet_id, self.id, command, COMMIT_DEADLINE_S)

    def _fail(self, error: DqeError) -> None:
        self._error = self._error or error
        self._room.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    # -- the end

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._written)

    @property
    def home(self) -> TabletId | None:
        """The tablet whose log decides: the first that was written."""
        return next(iter(self._written), None)

    @property
    def written(self) -> tuple[TabletId, ...]:
        """The tablets that got changes."""
        return tuple(sorted(self._written))

    async def commit(
        self, floor: Timestamp, *, checks: bool, reads: Reads | None = None
    ) -> Timestamp:
        """Commits everywhere or nowhere; the commit timestamp, `floor` if nothing was written.

        With `reads`: only if nobody changed them up to the commit timestamp (rule I4).
        Tablets are locked for it, so that no row comes into a table while it is cut anew. With
        `checks` new keys are locked and checked before the end begins, which nothing stops: a
        wait for another transaction can be given up until then. `floor` is an
        oracle timestamp seen before. Raises what kept it from committing;
        StatementCompletionUnknown when nobody can tell.
        """
        await self.drain()
        if not self._written:
            await self.abort(QueryCanceled("nothing was written"))
            return floor
        if checks:
            await self.check(sorted(self._written))
        else:
            await self.lock(self._written, SHARED)
        assert self.home is not None
        tablets = (self.home, *sorted(t for t in self._written if t != self.home))
        self._reads = reads
        answer = await self._end(machine.Commit(tablets, floor, reads is not None))
        self._release([tablet for tablet in self._lanes if tablet not in self._written])
        if answer.error is not None:
            raise answer.error
        assert answer.timestamp is not None
        return answer.timestamp

    async def abort(self, error: DqeError | None = None) -> None:
        """Ends the transaction without effect, unless it has ended already."""
        if self._machine.ended:
            return
        reason = error or InternalError("the statement failed")
        self._fail(reason)
        await self._end(machine.Abort(tuple(sorted(self._lanes)), reason))

    def _release(self, tablets: Sequence[TabletId]) -> None:
        for tablet_id in sorted(tablets):
            self._in_background(machine.SendAbort(tablet_id))

    async def _end(self, event: machine.Event) -> machine.Answer:
        """Runs the end to its answer, whatever becomes of the statement meanwhile."""
        task = self._runtime.spawn(self._drive(event), f"end of transaction {self.id}")
        cancelled = False
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                cancelled = True
        if self._renewal is not None:
            self._renewal.cancel()
        if cancelled and task.result().error is not None:
            raise asyncio.CancelledError
        return task.result()

    async def _drive(self, event: machine.Event) -> machine.Answer:
        events: asyncio.Queue[machine.Event] = asyncio.Queue()
        answer = None
        todo = deque(self._machine.step(event))
        while answer is None:
            if not todo:
                todo.extend(self._machine.step(await events.get()))
                continue
            instruction = todo.popleft()
            if isinstance(instruction, machine.Answer):
                answer = instruction
            elif isinstance(instruction, machine.SendCommit | machine.SendAbort):
                self._in_background(instruction)
            else:
                self._runtime.spawn(
                    self._perform(instruction, events), f"commit of transaction {self.id}"
                )
        for instruction in todo:
            self._in_background(instruction)
        return answer

    async def _perform(
        self, instruction: machine.Instruction, events: asyncio.Queue[machine.Event]
    ) -> None:
        tablet = getattr(instruction, "tablet", None)
        try:
            events.put_nowait(await self._ask(instruction))
        except DqeError as error:
            events.put_nowait(machine.Failed(tablet, error))
        except Exception as error:  # the driver loop: the end waits for every answer
            logger.exception("a step of transaction %d failed", self.id)
            events.put_nowait(machine.Failed(tablet, _unforeseen(instruction, error)))

    async def _ask(self, instruction: machine.Instruction) -> machine.Event:
        deadline_s = COMMIT_DEADLINE_S
        match instruction:
            case machine.SendWrite(tablet, floor):
                written = await self._tablets.write(tablet, self.id, floor, deadline_s)
                return machine.Decided(written)
            case machine.SendPrepare(tablet, floor, home):
                validates = self._reads is not None
                await self._tablets.prepare(tablet, self.id, floor, home, deadline_s, validates)
                return machine.Marked(tablet)
            case machine.SendMarkHome(tablet, floor):
                validates = self._reads is not None
                await self._tablets.mark_home(tablet, self.id, floor, deadline_s, validates)
                return machine.Marked(tablet)
            case machine.ValidateReads(timestamp):
                await self._validate(timestamp)
                return machine.Validated()
            case machine.DrawTimestamp():
                return machine.Drawn(await self._timestamps.commit_timestamp())
            case machine.SendDecide(tablet, timestamp, participants):
                decided = await self._tablets.decide(
                    tablet, self.id, timestamp, participants, deadline_s
                )
                return machine.Decided(decided)
        raise InternalError(f"no event answers {instruction}")

    async def _validate(self, timestamp: Timestamp) -> None:
        assert self._reads is not None
        base = self._reads.base
        found = await asyncio.gather(
            *(
                self._tablets.validate(
                    tablet_id, self.id, tuple(fragments), base, timestamp, COMMIT_DEADLINE_S
                )
                for tablet_id, fragments in self._reads.fragments.items()
            ),
            return_exceptions=True,
        )
        for error in found:
            if error is not None:
                raise error

    def _in_background(self, instruction: machine.Instruction) -> None:
        name = f"outcome of transaction {self.id}"
        match instruction:
            case machine.SendCommit(tablet, timestamp):
                done = self._tablets.commit(tablet, self.id, timestamp, COMMIT_DEADLINE_S)
                self._runtime.spawn(_best_effort(done), name)
            case machine.SendAbort(tablet):
                done = self._tablets.abort(tablet, self.id, COMMIT_DEADLINE_S)
                self._runtime.spawn(_best_effort(done), name)
            case _:
                raise InternalError(f"{instruction} cannot wait behind the answer")


def _unforeseen(instruction: machine.Instruction, error: Exception) -> DqeError:
    """An error that no step should raise; whether a decision was logged cannot be told."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(instruction, machine.SendWrite | machine.SendDecide):
        return StatementCompletionUnknown(
            "it is not known whether the transaction was committed", detail=text
        )
    return InternalError(text)


async def _best_effort(message: Awaitable[None]) -> None:
    """A tablet that does not hear the outcome finds it out: by its lease, or from the home."""
    try:
        await message
    except DqeError:
        return
