"""One transaction at its coordinator: its locks and changes, and where they are.

While a transaction is open its coordinator renews the leases it holds on tablets; when the
coordinator dies they lapse and the tablets forget it, unless it is prepared: then they ask the
home (rule C5). When a tablet changes its leader, what the transaction holds there comes along
(C9, `executor.transaction_places`). Locks of whole tablets are taken in ascending order by
everybody, so no two transactions wait for each other.

Invariants: changes of one tablet arrive in the order they were staged; at most
`IN_FLIGHT_BYTES` of changes are on their way; after `commit` or `abort` nothing more is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Self

import pyarrow as pa

from catalog.model import CATALOG_TABLET, Table
from catalog.tablet_requests import ChangeRows, RowsChanged
from cluster.errors import (
    DeadlockDetected,
    DqeError,
    InternalError,
    ProgramLimitExceeded,
    QueryCanceled,
    SerializationFailure,
    UniqueViolation,
)
from cluster.probes import Probe, reached
from cluster.runtime import Runtime
from executor.services import ExecutorServices
from executor.transaction_end import TransactionEnd
from executor.transaction_faces import (
    CatalogHome,
    Control,
    TabletAccess,
    TimestampSource,
)
from executor.transaction_places import KeptCheck, KeptLock, KeptRows, TabletPlace
from executor.transaction_reads import Reads
from executor.write_settings import LOCK_DEADLINE_S, WriteSettings
from storage import row_programs
from storage.drafts import LAST_COMMAND
from storage.fragments import (
    FragmentChange,
    FragmentId,
    TabletId,
    Timestamp,
    TransactionId,
)
from storage.lock_driver import WAIT, RowsLocked
from storage.locks import LockMode
from storage.open_checks import Deferred
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.stored_changes import size_bytes

logger = logging.getLogger(__name__)

PESSIMISTIC = Control()

EXCLUSIVE = LockMode.EXCLUSIVE.value
# Of those who change rows: it keeps tables from being cut anew meanwhile, not each other.
SHARED = LockMode.ROW_EXCLUSIVE.value

IN_FLIGHT_BYTES = 64 * 1024 * 1024
# The tablets' lease is 10 s (storage.participant); this leaves room for two lost messages.
RENEW_EVERY_S = 3.0
# New leaders are followed sooner, before those that waited for its locks ask again.
LOOK_EVERY_S = 0.5


class _Lane:
    """One tablet, and the changes on their way to it, first come first served."""

    def __init__(self, place: TabletPlace) -> None:
        self.place = place
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
        control: Control = PESSIMISTIC,
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
        self.control = control
        self._staged_bytes = 0
        self._end = TransactionEnd(runtime, tablets, timestamps, transaction_id, self.place)
        # The table modes held at each tablet, with the commands that took them.
        self._locked: dict[TabletId, dict[str, int]] = {}
        self._written: dict[TabletId, None] = {}
        # Takes part in the end whether or not it was written.
        self._witness: TabletId | None = None
        self._lanes: dict[TabletId, _Lane] = {}
        self._bytes = 0
        self._room = asyncio.Event()
        self._error: DqeError | None = None
        # When it looks next after the tablets where it holds something, or is speaking to them,
        # and when it spoke last to all of them.
        self._renewal: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._spoken_s = 0.0
        # Where it has locks that others rely on.
        self._bound: dict[TabletId, None] = {}

    @classmethod
    def opened_by(cls, services: ExecutorServices, settings: WriteSettings) -> Self:
        """A new one, by a session's settings."""
        return cls(
            services.runtime,
            services.tablets,
            services.timestamps,
            services.ids.next(),
            lock_deadline_s=settings.lock_deadline_s,
            max_bytes=settings.max_bytes,
            control=settings.control,
        )

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
            await self._lock_one(tablet_id, mode, command, wait)
            self._locked.setdefault(tablet_id, {})[mode] = command

    async def _lock_one(self, tablet_id: TabletId, mode: str, command: int, wait: bool) -> None:
        await self.place(tablet_id).ask(
            lambda: self._tablets.lock(
                tablet_id, self.id, mode, self.lock_deadline_s, command, wait
            ),
            lambda newest: [KeptLock(command, mode, newest)],
            waits=True,
        )

    async def lock_rows(
        self,
        tablet_id: TabletId,
        fragment_id: FragmentId,
        keys: pa.RecordBatch,
        mode: LockMode,
        base: Timestamp,
        policy: str = WAIT,
        command: int = 0,
        binding: bool = False,
    ) -> RowsLocked:
        """Locks rows by key; which of them others changed after `base`, or hold. An optimistic
        transaction does so at its end, and takes none for changed until then.

        `binding` locks are taken at once by everybody, and must still be had when the commit
        timestamp is drawn: what was found under them holds up to that (rule I5)."""
        if binding:
            self._bound[tablet_id] = None
        elif self.control.optimistic:
            self.place(tablet_id).defer(KeptRows(command, fragment_id, keys, mode, base))
            return RowsLocked()

        def keep(locked: RowsLocked) -> list[KeptRows]:
            mine = keys
            if locked.skipped:
                places = set(range(keys.num_rows)).difference(locked.skipped)
                mine = keys.take(pa.array(sorted(places), pa.int64()))
            return [KeptRows(command, fragment_id, mine, mode, locked.as_of)]

        place = self.place(tablet_id)
        locked = await place.ask(
            lambda: self._tablets.lock_rows(
                tablet_id,
                self.id,
                fragment_id,
                keys,
                mode,
                base,
                command,
                policy,
                self.lock_deadline_s,
            ),
            keep,
            waits=True,
        )
        place.is_binding |= binding
        return locked

    def place(self, tablet_id: TabletId) -> TabletPlace:
        """The transaction at a tablet, where something is about to be locked or changed."""
        return self._lane(tablet_id).place

    def _lane(self, tablet_id: TabletId) -> _Lane:
        lane = self._lanes.get(tablet_id)
        if lane is None:
            place = TabletPlace(self._runtime, self._tablets, tablet_id, self.id)
            lane = self._lanes[tablet_id] = _Lane(place)
        lane.place.lock_deadline_s = self.lock_deadline_s
        if self._renewal is None:
            self._spoken_s = self._runtime.monotonic()
            self._look_later()
        return lane

    def _look_later(self) -> None:
        self._renewal = self._runtime.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        """Has the transaction spoken for where it holds something, so that it does not lapse, and
        leaders followed that have moved. Most transactions end before the first look."""
        now_s = self._runtime.monotonic()
        due = now_s - self._spoken_s >= RENEW_EVERY_S
        if due:
            self._spoken_s = now_s
        # While it is begun again, that holds the lease.
        places = [
            lane.place
            for tablet_id, lane in self._lanes.items()
            if due or not self._tablets.is_led_on(tablet_id, self.id)
            if not lane.place.is_beginning
        ]
        if places:
            name = f"leases of transaction {self.id}"
            self._renewal = self._runtime.spawn(self._speak(places), name)
        else:
            self._look_later()

    async def _speak(self, places: Iterable[TabletPlace]) -> None:
        try:
            for place in places:
                await place.speak(RENEW_EVERY_S)
        except DqeError as error:
            self._fail(error)
        else:
            self._look_later()

    # -- changes

    def writes_deferrable(self, table: Table) -> None:
        """A statement that commits by itself defers nothing."""

    async def stage(self, tablet_id: TabletId, change: FragmentChange, command: int = 0) -> None:
        """Sends a change of a command on its way; waits while too much is. Raises what went
        wrong before, and 54000 for a transaction that grows too large."""
        self._grow(change.size_bytes)
        while self._bytes >= self._in_flight_bytes and self._error is None:
            self._room.clear()
            await self._room.wait()
        self._raise()
        lane = self._lane(tablet_id)
        self._written.setdefault(tablet_id)
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
                await lane.place.stage(command, change)
                self._bytes -= change.size_bytes
                self._room.set()
        except DqeError as error:
            self._fail(error)
        except Exception as error:  # the driver loop: a lost change must not be committed
            logger.exception("a change of transaction %d was lost", self.id)
            self._fail(InternalError(f"{type(error).__name__}: {error}"))
        finally:
            lane.task = None

    def _grow(self, size_bytes: int) -> None:
        self._staged_bytes += size_bytes
        if self.max_bytes is not None and self._staged_bytes > self.max_bytes:
            raise ProgramLimitExceeded(
                "the transaction is too large",
                detail=f"It changes more than {self.max_bytes} bytes.",
                hint="Change less at once, or raise dqe.max_transaction_bytes.",
            )

    async def change_rows(
        self, request: ChangeRows, tables: RowTables, *, binding: bool = False
    ) -> RowsChanged:
        """Changes rows by key in one call to their tablet's leader, behind what was staged.
        `binding` as of `lock_rows`."""
        if binding:
            self._bound[request.tablet_id] = None
        self._raise()
        lane = self._lane(request.tablet_id)
        while lane.task is not None:
            await asyncio.wait([lane.task])
        self._raise()
        answer = await lane.place.change_rows(request, tables)
        lane.place.is_binding |= binding
        if row_programs.compiled(request.program).only_locks:
            return answer
        self._locked.setdefault(request.tablet_id, {}).setdefault(SHARED, request.command)
        if answer.changed:
            self._written.setdefault(request.tablet_id)
            rows = [after for _, after in answer.rows if after is not None]
            self._grow(size_bytes(rows))
        return answer

    def known_rows(
        self, tablet_id: TabletId, fragment_id: FragmentId, keys: Sequence[StoredKey]
    ) -> Sequence[StoredRow | None] | None:
        """Rows by key as this transaction has left them; None where the tablet must be asked."""
        lane = self._lanes.get(tablet_id)
        if lane is None or lane.task is not None or self._error is not None:
            return None
        return lane.place.known.find(fragment_id, keys)

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
        deferred: Mapping[TabletId, Sequence[Deferred]] = MappingProxyType({}),
    ) -> list[Deferred]:
        """Checks there what was changed so far: unique constraints, and with `base` that no row
        was changed by others after it. Which of the deferred ones are left to be checked."""
        left: list[Deferred] = []
        locks = not self.control.optimistic
        for tablet_id in tablets:
            here = deferred.get(tablet_id, ())
            left += await self._check_one(tablet_id, base, command, locks=locks, deferred=here)
        return left

    async def _check_one(
        self,
        tablet_id: TabletId,
        base: Timestamp,
        command: int,
        *,
        locks: bool,
        anew: bool = False,
        deferred: Sequence[Deferred] = (),
    ) -> Sequence[Deferred]:
        place = self.place(tablet_id)
        place.left_open = deferred
        return await place.ask(
            lambda: self._tablets.check(
                tablet_id, self.id, base, command, self.lock_deadline_s, locks, anew, deferred
            ),
            lambda _: [KeptCheck(command, base)] if locks else [],
            waits=True,
        )

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
            await self._lanes[tablet_id].place.take_back(command)

    def _fail(self, error: DqeError) -> None:
        self._error = self._error or error
        self._room.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    # -- the end

    async def __aenter__(self) -> Self:
        """For who ends it within a block: what leaves the block as an error aborts it."""
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            await self.abort(error if isinstance(error, DqeError) else None)

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._written)

    async def take_part(self, tablet_id: TabletId) -> None:
        """Has the tablet decide or be told how this ends as if it had been changed: its log can be
        asked then."""
        await self.lock([tablet_id], SHARED)
        self._witness = tablet_id

    @property
    def home(self) -> TabletId | None:
        """The tablet whose log decides: the first that was written, of those whose acknowledged
        decisions outlive a node if there are any (rule C10)."""
        firm = (t for t in self._participants if not self._tablets.is_async(t))
        return next(firm, next(iter(self._participants), None))

    @property
    def _participants(self) -> dict[TabletId, None]:
        """Who takes part in the commit, the first to be asked first."""
        if self._witness is None or self._witness in self._written:
            return self._written
        return {self._witness: None, **self._written}

    @property
    def written(self) -> tuple[TabletId, ...]:
        """The tablets that got changes."""
        return tuple(sorted(self._written))

    async def commit(
        self,
        floor: Timestamp,
        *,
        checks: bool,
        reads: Reads | None = None,
        catalog: CatalogHome | None = None,
    ) -> Timestamp:
        """Commits everywhere or nowhere; the commit timestamp, `floor` if nothing was written.

        With `reads`: only if nobody changed them up to the commit timestamp (rule I4).
        Tablets are locked for it, so that no row comes into a table while it is cut anew. With
        `checks` new keys are locked and checked before the end begins, which nothing stops: a
        wait for another transaction can be given up until then. `catalog` is the home of one that
        defines something. `floor` is an oracle timestamp seen before. Raises what kept it from
        committing; StatementCompletionUnknown when nobody can tell.
        """
        await self.drain()
        if not self._participants and catalog is None:
            await self.abort(QueryCanceled("nothing was written"))
            return floor
        if self.control.optimistic:
            if checks:
                # What is there now is a violation, what comes from here on a conflict.
                await self.check(sorted(self._participants))
            await self._validate_changes()
        elif checks:
            await self.check(sorted(self._participants))
        else:
            await self.lock(self._participants, SHARED)
        await self._hold_where_only_locked()
        home = self.home if catalog is None else CATALOG_TABLET
        assert home is not None
        tablets = (home, *sorted(t for t in self._participants if t != home))
        try:
            three_phase = self.control.three_phase and catalog is None
            return await self._end.commit(
                tablets,
                floor,
                reads,
                three_phase=three_phase,
                catalog=catalog,
                held=[t for t in sorted(self._bound) if t not in self._participants],
            )
        finally:
            self._stop_renewing()
            self._end.release([t for t in sorted(self._lanes) if t not in self._participants])

    async def _validate_changes(self) -> None:
        """Locks at last what was changed or locked; 40001 where others came first."""
        reached(Probe.OPTIMISTIC_VALIDATED)
        try:
            await self.lock(self._participants, SHARED)
            for tablet_id in sorted(self._lanes):
                await self._lanes[tablet_id].place.lock_deferred()
            for tablet_id in sorted(self._participants):
                await self._check_one(tablet_id, 0, LAST_COMMAND, locks=True, anew=True)
        except (UniqueViolation, DeadlockDetected) as error:
            reached(Probe.OPTIMISTIC_REFUSED)
            raise SerializationFailure(
                "could not serialize access due to concurrent update",
                detail=error.detail,
                hint="The transaction might succeed if retried.",
            ) from error

    async def _hold_where_only_locked(self) -> None:
        """Rows that are locked at tablets which take no part in the commit are still held."""
        only_locked = [lane for t, lane in self._lanes.items() if t not in self._participants]
        await asyncio.gather(*(lane.place.speak(RENEW_EVERY_S) for lane in only_locked))

    async def abort(self, error: DqeError | None = None) -> None:
        """Ends the transaction without effect, unless it has ended already."""
        if self._end.ended:
            return
        reason = error or InternalError("the statement failed")
        self._fail(reason)
        await self._end.abort(sorted(self._lanes), reason)
        self._stop_renewing()

    def _stop_renewing(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
