"""What a transaction holds at a tablet, and how it comes along when the tablet changes its leader.

Locks and uncommitted changes are in the memory of a tablet's leader, and end with its term
(rule C2). The coordinator keeps what each call took there, with the version that the locked rows
had (rule C9):

    ask -> call at the leader -> its answer, and what it took is kept
                \\-> LeaderChanged, or no answer and the leader is another now:
                       all calls there are waited for -> begin again at the new leader ->
                       what was kept is taken again, changes first -> the call again

Taken again, a lock asks whether its rows have changed since it was had first. If not, nobody can
tell that there was a gap; else the transaction ends with 40001, as it does for a new key that
somebody else has taken meanwhile. A move of leaders, wanted or not, ends no transaction but those.

Each change carries a number, so that one which is still on its way when its answer is given up
counts neither twice nor late.

Invariants: nothing is asked at a tablet while it is begun again there; what is kept is what was
answered, in the order of the answers. Bounds: `KEPT_BYTES` of keys a tablet, and of changes what
its leader keeps out of the log (`CHUNK_BYTES`): what is in the log ends with the leader that
logged it. A transaction that holds more ends with 40001 when the leader changes, and keeps
nothing.

What foreign keys rely on cannot come along: who deletes a row has seen that none refers to it, and
in the gap another could have locked the row, referred to it and committed, which does not change
the row. Such a transaction ends with 40001 (`is_binding`).

**Optimistic transactions** lock nothing until they commit. What they would have locked is
*deferred* here with the snapshot at which the rows were read, and locked at the end by the same
question: whether a row has changed since. Of two that changed one row the first to commit wins.

Whoever changes rows by another request than these asks through `TabletPlace.ask`, and says by
`keep` what the answer means: `KeptRows` for what was locked, `KeptChange` for what was changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec
import pyarrow as pa

from catalog.tablet_requests import ChangeRows, RowsChanged
from cluster.errors import (
    AnswerLost,
    DqeError,
    LeaderChanged,
    ProgramLimitExceeded,
    SerializationFailure,
    UniqueViolation,
)
from cluster.probes import Probe, reached
from cluster.runtime import Runtime
from executor.known_rows import KnownRows
from executor.transaction_faces import TabletAccess
from storage import row_programs
from storage.drafts import NO_COMMAND
from storage.entries import CHUNK_BYTES
from storage.fragments import (
    FragmentChange,
    FragmentId,
    TabletId,
    Timestamp,
    TransactionId,
)
from storage.lock_driver import WAIT
from storage.locks import CONFLICTS, LockMode
from storage.open_checks import Deferred
from storage.row_tables import RowTables, StoredKey
from storage.stored_changes import StoredChange, size_bytes

T = TypeVar("T")

KEPT_BYTES = 4 * 1024 * 1024
# Keys that an optimistic transaction is to validate at a tablet.
DEFERRED_BYTES = 64 * 1024 * 1024
ASK_DEADLINE_S = 30.0
# Who was waiting for a lock lets those who held it come along first; they look for new leaders
# twice as often (`executor.transaction_driver`). A leader that goes says who was waiting; where its
# answer is lost, or another waited for than locks, a call that took so long may have been.
WAITED_S = 0.1
HOLDERS_FIRST_S = 1.0
# A tablet that changes its leader more often than this while it is begun again is given up.
TRIES = 5


@dataclass(frozen=True, slots=True)
class KeptLock:
    """The tablet's lock; where it keeps writers away, no commit there was above `as_of`."""

    command: int
    mode: str
    as_of: Timestamp

    @property
    def size_bytes(self) -> int:
        return 0

    async def repeat(self, place: TabletPlace) -> None:
        base = self.as_of if _keeps_writers_away(self.mode) else None
        await place.tablets.lock(
            place.tablet_id, place.id, self.mode, place.lock_deadline_s, self.command, True, base
        )


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Rows of a fragment locked by key; none of them was changed after `as_of`."""

    command: int
    fragment_id: FragmentId
    keys: pa.RecordBatch
    mode: LockMode
    as_of: Timestamp

    @property
    def size_bytes(self) -> int:
        return int(self.keys.nbytes)

    async def repeat(self, place: TabletPlace) -> None:
        found = await place.tablets.lock_rows(
            place.tablet_id,
            place.id,
            self.fragment_id,
            self.keys,
            self.mode,
            self.as_of,
            self.command,
            WAIT,
            place.lock_deadline_s,
        )
        if found.changed:
            raise SerializationFailure("could not serialize access due to concurrent update")


@dataclass(frozen=True, slots=True)
class KeptChange:
    """A change that the leader has in its draft."""

    command: int
    change: FragmentChange

    @property
    def size_bytes(self) -> int:
        return self.change.size_bytes

    async def repeat(self, place: TabletPlace) -> None:
        await place.stage_now(self.command, self.change)


@dataclass(frozen=True, slots=True)
class KeptCheck:
    """New keys, which are locked and checked by it."""

    command: int
    base: Timestamp

    @property
    def size_bytes(self) -> int:
        return 0

    async def repeat(self, place: TabletPlace) -> None:
        try:
            await place.tablets.check(
                place.tablet_id,
                place.id,
                self.base,
                self.command,
                place.lock_deadline_s,
                deferred=place.left_open,
            )
        except UniqueViolation as error:
            raise SerializationFailure(
                "could not serialize access due to concurrent update", detail=error.detail
            ) from error


@dataclass(frozen=True, slots=True)
class KeptStatement:
    """What a statement over single rows locked and changed; nearly always nobody asks for it
    again, so it is kept as it came."""

    request: ChangeRows
    tables: RowTables
    answer: RowsChanged

    @property
    def command(self) -> int:
        return self.request.command

    @property
    def size_bytes(self) -> int:
        keys: Sequence[StoredKey] = self.request.keys
        if self.request.scan is not None:
            rows = [after if before is None else before for before, after in self.answer.rows]
            keys = [self.tables.key_of(row) for row in rows if row is not None]
        return size_bytes(keys)

    def parts(self) -> list[KeptRows | KeptChange | KeptCheck]:
        """The same as what is taken again."""
        request, tables, answer = self.request, self.tables, self.answer
        command, fragment_id = request.command, request.fragment_id
        keys = [tables.key_of(before) for before, _ in answer.rows if before is not None]
        rows = [after for _, after in answer.rows if after is not None]
        only_locks = row_programs.compiled(request.program).only_locks
        if only_locks:
            keys = [tables.key_of(row) for row in rows]
        parts: list[KeptRows | KeptChange | KeptCheck] = []
        if keys:
            batch = tables.to_batch(keys, tables.schema.key)
            mode = LockMode(request.mode)
            parts.append(KeptRows(command, fragment_id, batch, mode, answer.as_of))
        if only_locks:
            return parts
        if answer.rows:
            # The tables may be those of another part.
            parts.append(KeptChange(command, StoredChange(tables, keys, rows, fragment_id)))
        if rows:
            parts.append(KeptCheck(command, 0))
        return parts


Kept = KeptLock | KeptRows | KeptChange | KeptCheck
Taken = Kept | KeptStatement


class TabletPlace:
    """One transaction at one tablet."""

    def __init__(
        self,
        runtime: Runtime,
        tablets: TabletAccess,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        lock_deadline_s: float = ASK_DEADLINE_S,
    ) -> None:
        self._runtime = runtime
        self.tablets = tablets
        self.tablet_id = tablet_id
        self.id = transaction_id
        # How long to wait for one lock.
        self.lock_deadline_s = lock_deadline_s
        self.known = KnownRows()
        self._kept: list[Taken] = []
        self._kept_bytes = 0
        # Unique constraints that the last check of new keys left for later.
        self.left_open: Sequence[Deferred] = ()
        self._deferred: list[KeptRows] = []
        self._deferred_bytes = 0
        self._too_much = False
        # It has found something under its locks that nobody can tell of a lock taken again.
        self.is_binding = False
        self._staged_bytes = 0
        self._number = 0
        # How often it was begun again; who asks and who may not meanwhile.
        self._begun = 0
        # It could not be begun again: not yet, or not at all.
        self._is_half = False
        self._lost: DqeError | None = None
        self._asking = 0
        self._quiet = asyncio.Event()
        self._beginning = asyncio.Lock()

    @property
    def is_beginning(self) -> bool:
        """Whether it is being begun again now."""
        return self._beginning.locked()

    async def ask(
        self,
        call: Callable[[], Awaitable[T]],
        keep: Callable[[T], Sequence[Taken]] = lambda _: (),
        *,
        waits: bool = False,
    ) -> T:
        """The call's answer, from whatever leader the tablet has; `keep` says what it took,
        `waits` that it may have waited for another transaction's lock."""
        while True:
            async with self._beginning:
                if self._lost is not None:
                    raise self._lost
                if self._is_half:
                    await self._come_along()
                begun = self._begun
                self._asking += 1
            asked_s = self._runtime.monotonic()
            try:
                answer = await call()
                self._keep(keep(answer))
                return answer
            except (LeaderChanged, AnswerLost) as error:
                changed: DqeError = error
            finally:
                self._asking -= 1
                if not self._asking:
                    self._quiet.set()
            if isinstance(changed, AnswerLost) and not await self._has_moved():
                raise changed
            long = waits and self._runtime.monotonic() - asked_s >= WAITED_S
            if long or (isinstance(changed, LeaderChanged) and changed.waited):
                await self._runtime.sleep(HOLDERS_FIRST_S)
            await self._begin_again(begun, changed)

    async def stage(self, command: int, change: FragmentChange) -> None:
        """Sends a change of a command to the leader; the ones before have been answered."""
        self._staged_bytes += change.size_bytes
        self.known.forget()
        await self.ask(
            lambda: self.stage_now(command, change), lambda _: [KeptChange(command, change)]
        )

    async def stage_now(self, command: int, change: FragmentChange) -> None:
        """The same for the leader that it began at."""
        self._number += 1
        await self.tablets.stage(
            self.tablet_id, self.id, change, ASK_DEADLINE_S, command, self._number
        )

    async def change_rows(self, request: ChangeRows, tables: RowTables) -> RowsChanged:
        """Changes rows by key; what became of them is kept as locked and staged."""

        async def call() -> RowsChanged:
            self._number += 1
            return await self.tablets.change_rows(
                msgspec.structs.replace(request, number=self._number)
            )

        def keep(answer: RowsChanged) -> Sequence[Taken]:
            if not answer.rows:
                return ()
            if not row_programs.compiled(request.program).only_locks:
                keys = [tables.key_of(before) for before, _ in answer.rows if before is not None]
                rows = [after for _, after in answer.rows if after is not None]
                self._staged_bytes += size_bytes(keys) + size_bytes(rows)
                self.known.note(request.fragment_id, tables, keys, rows)
            return [KeptStatement(request, tables, answer)]

        return await self.ask(call, keep, waits=True)

    async def take_back(self, command: int) -> None:
        """Gives up what this command and later ones took, also what is still on its way."""
        self.known.forget()
        await self.ask(
            lambda: self.tablets.take_back(
                self.tablet_id, self.id, command, ASK_DEADLINE_S, self._number
            )
        )
        self._kept = [kept for kept in self._kept if kept.command < command]
        self._kept_bytes = sum(map(_key_bytes, self._kept))
        self._deferred = [rows for rows in self._deferred if rows.command < command]

    def defer(self, rows: KeptRows) -> None:
        """These rows are to be locked at the end, as they were then; 54000 for too many."""
        self._deferred.append(rows)
        self._deferred_bytes += rows.size_bytes
        if self._deferred_bytes > DEFERRED_BYTES:
            raise ProgramLimitExceeded(
                "the transaction touches too many rows to validate them at its end",
                hint="SET dqe.concurrency_control = 'pessimistic' locks them as it goes on.",
            )

    async def lock_deferred(self) -> None:
        """40001 where others have changed one of these rows since it was read."""
        deferred, self._deferred = self._deferred, []
        for rows in deferred:
            await self.ask(partial(rows.repeat, self), partial(_these, rows), waits=True)

    async def speak(self, deadline_s: float) -> None:
        """A word for the lease; begins again where the leader is another."""
        await self.ask(
            lambda: self.tablets.take_back(self.tablet_id, self.id, NO_COMMAND, deadline_s)
        )

    def _keep(self, taken: Sequence[Taken]) -> None:
        if self._too_much:
            self.known.forget()
        if self._too_much or not taken:
            return
        self._kept += taken
        self._kept_bytes += sum(map(_key_bytes, taken))
        if self._kept_bytes > KEPT_BYTES or self._staged_bytes > CHUNK_BYTES:
            self._too_much = True
            self._kept.clear()
            self.known.forget()

    async def _has_moved(self) -> bool:
        """Whether the leader is another than the one that did not answer."""
        try:
            await self.tablets.take_back(self.tablet_id, self.id, NO_COMMAND, ASK_DEADLINE_S)
        except LeaderChanged:
            return True
        return False

    async def _begin_again(self, begun: int, changed: DqeError) -> None:
        async with self._beginning:
            if self._begun != begun:
                return  # another call has done it
            if self._too_much:
                raise _too_much_to_bring(changed) from changed
            if self.is_binding:
                raise _cannot_be_taken_again() from changed
            await self._come_along()

    async def _come_along(self) -> None:
        """Begins again at the leader that there is now; nothing else is asked meanwhile.

        Where it fails the leader knows the transaction and may hold part of what it held: whoever
        asks next must not find that enough.
        """
        self._is_half = True
        while self._asking:
            self._quiet.clear()
            await self._quiet.wait()
        for left in reversed(range(TRIES)):
            try:
                await self._take_again()
                break
            except (LeaderChanged, AnswerLost):
                if not left:
                    raise
            except DqeError as error:
                self._lost = error
                raise
        self._is_half = False
        self._begun += 1
        reached(Probe.LEADER_FOLLOWED_IN_TRANSACTION)

    async def _take_again(self) -> None:
        self._number += 1
        await self.tablets.begin_again(self.tablet_id, self.id, self._number, ASK_DEADLINE_S)
        # Changes first: a row that the transaction has made is not there yet, rather than gone.
        parts = [part for taken in self._kept for part in _parts(taken)]
        for kept in sorted(parts, key=_turn):
            await kept.repeat(self)
        await self.tablets.has_come_along(self.tablet_id, self.id, ASK_DEADLINE_S)


def _parts(taken: Taken) -> Sequence[Kept]:
    return taken.parts() if isinstance(taken, KeptStatement) else [taken]


def _key_bytes(taken: Taken) -> int:
    return 0 if isinstance(taken, KeptChange) else taken.size_bytes


def _turn(kept: Kept) -> int:
    if isinstance(kept, KeptChange):
        return 0
    return 2 if isinstance(kept, KeptCheck) else 1


def _these(rows: KeptRows, _: None) -> list[Kept]:
    return [rows]


def _keeps_writers_away(mode: str) -> bool:
    conflicts = CONFLICTS[LockMode(mode)]
    return bool(conflicts & LockMode.ROW_EXCLUSIVE.bit)


def _cannot_be_taken_again() -> SerializationFailure:
    return SerializationFailure(
        "could not serialize access because a tablet changed its leader",
        detail="Foreign keys were checked under locks that the transaction held there.",
        hint="The transaction might succeed if retried.",
    )


def _too_much_to_bring(changed: DqeError) -> SerializationFailure:
    return SerializationFailure(
        "could not serialize access because a tablet changed its leader",
        detail="The transaction holds more there than is kept for another leader.",
        hint="The transaction might succeed if retried.",
    )
