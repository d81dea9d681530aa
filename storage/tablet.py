"""A tablet: a replica, and, while this node leads it, the transactions that write it.

The leader keeps for each transaction a *draft*: changes that are not logged yet. Small ones
stay in the draft and go into the one entry that commits or prepares them, so a one-row INSERT
is one log entry and one sync; large ones are logged as `ingest` chunks while they come in.

How a transaction on this tablet alone commits (rule C3): validate unique keys under the lock,
mark it, draw C, log `write`. With others (C4): `prepare` here, or `mark_home` and `decide` at
its home, `commit` here. Whatever is cancelled or fails half-way is settled by the log: a mark
stays until an entry, the end of the lease or of the leader's term says how it ended.

Every public coroutine of a transaction renews its lease, and holds it while it runs. Errors:
57P03 when this node does not lead the tablet (`NotLeader`), 40001 when the transaction is lost,
23505, 55P03 when a lock is not had in time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa

from cluster.errors import (
    CannotConnectNow,
    DqeError,
    NotLeader,
    StatementCompletionUnknown,
)
from cluster.raft.errors import not_leader
from cluster.runtime import Runtime
from storage.closed import Closed, ClosedTimestamps
from storage.columnar import ColumnarStore
from storage.columnar_apply import FragmentTables
from storage.conflicts import changed_after, concurrent_update, read_write_conflict
from storage.deadlocks import WaitEdge
from storage.doubts import Doubts
from storage.drafts import (
    Draft,
    check_json,
    encode_with_changes,
    has_json,
    in_shape,
    pieces,
)
from storage.entries import (
    CHUNK_BYTES,
    Abort,
    Alter,
    ChangeHeader,
    Commit,
    Confirm,
    Cut,
    Decision,
    Horizon,
    Ingest,
    Prepare,
    TabletEntry,
    Write,
    decode_changes,
    decode_entry,
    encode_entry,
)
from storage.fragments import (
    END_OF_TIME,
    FragmentChange,
    FragmentId,
    FragmentSchema,
    OwnChanges,
    TabletId,
    Timestamp,
    TransactionId,
)
from storage.lock_driver import WAIT, LockDriver, RowsLocked
from storage.locks import LockMode
from storage.participant import (
    ABORTED,
    LEASE_S,
    LogAbort,
    Outcome,
    Phase,
    lost_transaction,
)
from storage.replica import TabletReplica
from storage.row_checks import Finder, any_changed_after
from storage.row_keys import has_keys
from storage.row_reads import pending_on, read_now
from storage.row_side import RowSide
from storage.row_tables import Plain, RowTables, StoredKey, StoredRow
from storage.snapshot import fragment_gone
from storage.staging import StagedEntry, Staging
from storage.surroundings import Peers, ReplicationGroup
from storage.tasks import deadline, run_to_end
from storage.unique_checker import MANY_ROWS, UniqueChecker

logger = logging.getLogger(__name__)

DEADLINE_S = 30.0
# Locks taken at the commit belong to no statement that could be undone.
LAST_COMMAND = 2**62
# While a tablet has no leader its replica looks this often who it has become, for so long.
LEADER_LOOK_S = 0.05
LEADER_WAIT_S = 1.0
# Chunks of one transaction on their way into the log; more are waited for.
CHUNKS_IN_FLIGHT = 4
# Longer committed entries are not looked into when they are queued for the store.
LOOKED_INTO_BYTES = 256 * 1024
# Larger changes are checked on a thread; a smaller one costs less than the way there.
INLINE_BYTES = 64 * 1024


class Tablet(TabletReplica):
    """See the module. Open it, give it its group with `attach`, then use it."""

    def __init__(
        self,
        runtime: Runtime,
        store: ColumnarStore,
        staging: Staging,
        node_id: int,
        peers: Callable[[], Peers],
        rows: RowSide,
    ) -> None:
        super().__init__(runtime, store, staging, rows)
        self._node_id = node_id
        self._peers = peers
        self._group: ReplicationGroup | None = None
        self._drafts: dict[TransactionId, Draft] = {}
        self._busy: Counter[TransactionId] = Counter()
        self._serving = asyncio.Event()
        self._locks = LockDriver(
            runtime,
            lambda: self._participant,
            self._follow,
            self._lock_waiters,
            self._applier,
            rows,
            peers,
        )
        self._unique = UniqueChecker(
            runtime, self._applier, lambda: self._schemas, self._load_changes, rows
        )
        self.closed = ClosedTimestamps()
        self._doubts = Doubts(runtime, self.tablet_id, self, peers)

    # Leadership.

    def attach(self, group: ReplicationGroup) -> None:
        """Gives the tablet its group; call before the first proposal."""
        self._group = group
        group.on_leadership(self._started, self._stopped)

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads and serves."""
        group = self._group
        return group is not None and group.is_leader and self._participant.term == group.term

    def _started(self, term: int) -> None:
        self._follow(self._participant.end_term())
        self._drafts.clear()
        # What was queued before this term has not been looked into.
        self._unique.begin_term(self._applied_index)
        self._locks.begin_term()
        instructions = self._participant.begin_term(term)
        self._serving.set()
        self._follow(instructions)

    def _stopped(self) -> None:
        self._serving.clear()
        self._follow(self._participant.end_term())
        self._drafts.clear()
        self._doubts.clear()

    async def _lead(self, deadline_s: float = DEADLINE_S) -> ReplicationGroup:
        """The group, once this replica serves as its leader; NotLeader where another does, or
        where nobody does for a while: whoever asks looks elsewhere."""
        group = self._group
        if group is None:
            raise CannotConnectNow(f"tablet {self.tablet_id} is not open yet")
        if self.is_leader:
            return group
        gives_up_s = self._runtime.monotonic() + LEADER_WAIT_S
        async with deadline(deadline_s, f"tablet {self.tablet_id} did not get a leader here"):
            while True:
                # While nobody is known to lead it may become this replica, or another.
                if group.leader_id not in (None, 0, self._node_id):
                    raise not_leader(self.tablet_id, self._node_id, group.leader_id)
                if await self._serving_soon():
                    return group
                if not group.leader_id and self._runtime.monotonic() >= gives_up_s:
                    raise not_leader(self.tablet_id, self._node_id, None)

    async def _serving_soon(self) -> bool:
        try:
            async with asyncio.timeout(LEADER_LOOK_S):
                await self._serving.wait()
        except TimeoutError:
            return False
        return True

    async def _propose(self, entry: TabletEntry) -> object:
        """Logs an entry without changes; its result here."""
        return await self._propose_encoded(encode_entry(entry))

    async def _propose_encoded(self, data: bytes) -> object:
        group = await self._lead()
        return await group.propose(data, deadline_s=DEADLINE_S)

    def _propose_abort(self, instruction: LogAbort) -> None:
        name = f"abort {instruction.transaction_id} on tablet {self.tablet_id}"
        self._runtime.spawn(self._log_abort(instruction), name)

    async def _log_abort(self, instruction: LogAbort) -> None:
        try:
            await self._propose(Abort(instruction.transaction_id, instruction.decided))
        except DqeError as error:
            # The lease's next tick, or the next leader, tries again.
            logger.info("tablet %s: could not log an abort: %s", self.tablet_id, error.message)

    def _committed_here(
        self, index: int, commit_ts: Timestamp, entries: Sequence[StagedEntry]
    ) -> None:
        if self.is_leader:
            small = sum(entry.length for entry in entries) <= LOOKED_INTO_BYTES
            changes = self._load_changes(entries) if small else None
            touched = dict.fromkeys(f for entry in entries for f in entry.fragments)
            here = [f for f in touched if f in self._schemas]
            self._unique.committed(index, here, changes)
            self._locks.committed(commit_ts, [self._schemas[f] for f in here], changes)

    # Transactions: locks and changes.

    async def lock(
        self,
        transaction_id: TransactionId,
        mode: LockMode | str = LockMode.EXCLUSIVE,
        deadline_s: float = DEADLINE_S,
        command: int = 0,
        wait: bool = True,
    ) -> None:
        """Locks the whole tablet until the transaction's outcome. 55P03 when not in time."""
        await self._lead(deadline_s)
        with self._speaking(transaction_id):
            await self._locks.take(
                transaction_id, LockMode(mode), deadline_s, command=command, wait=wait
            )

    def wait_edges(self) -> list[WaitEdge]:
        """Which transactions wait here for which; none where another replica leads."""
        return self._locks.edges() if self.is_leader else []

    async def lock_rows(
        self,
        transaction_id: TransactionId,
        fragment_id: FragmentId,
        keys: pa.RecordBatch,
        mode: LockMode | str,
        base: Timestamp,
        command: int = 0,
        policy: str = WAIT,
        deadline_s: float = DEADLINE_S,
    ) -> RowsLocked:
        """Locks rows of a fragment by key, whether they are there or not; which of them others
        changed after `base`."""
        await self._lead(deadline_s)
        schema = self._schemas.get(fragment_id)
        if schema is None:
            raise fragment_gone(self.tablet_id, fragment_id)
        with self._speaking(transaction_id):
            return await self._locks.take_rows(
                transaction_id, schema, keys, LockMode(mode), base, command, policy, deadline_s
            )

    async def stage(
        self, transaction_id: TransactionId, change: FragmentChange, command: int = 0
    ) -> None:
        """Adds a change of a command to the transaction; others see it after its outcome.

        Changes apply in the order in which they are staged. Returns when the change is kept,
        in memory or on its way into the log; an error of the log comes with a later call.
        """
        await self._lead()
        schema = self._schemas.get(change.fragment_id)
        if schema is None:
            raise fragment_gone(self.tablet_id, change.fragment_id)
        with self._speaking(transaction_id):
            if change.is_empty:
                return  # a word of the coordinator, for the lease
            if change.size_bytes > INLINE_BYTES:
                change = await self._runtime.run_blocking(in_shape, change, schema)
            else:
                change = in_shape(change, schema)
            if change.insert_rows is not None and has_json(schema):
                await self._runtime.run_blocking(self._check_json, change.insert_rows, schema)
            draft = self._drafts.setdefault(transaction_id, Draft())
            for piece in pieces(change):
                if draft.size_bytes and draft.size_bytes + piece.size_bytes > CHUNK_BYTES:
                    await self._log_chunk(transaction_id, draft)
                draft.add(piece, command)
            if draft.error is not None:
                raise draft.error

    async def take_back(self, transaction_id: TransactionId, command: int) -> None:
        """Forgets the transaction's changes of this command and later ones, and gives their
        locks up. Also a word for the lease, and for a transaction that has not begun here."""
        await self._lead()
        with self._speaking(transaction_id):
            draft = self._drafts.get(transaction_id)
            if draft is not None:
                draft.take_back(command)
            self._follow(self._participant.take_back_locks(transaction_id, command))

    async def check(
        self,
        transaction_id: TransactionId,
        base: Timestamp = 0,
        command: int = 0,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Checks the transaction's rows against unique constraints, under the lock that keeps
        what was found so until its outcome. The transaction goes on after a violation.

        With `base`: 40001 where others changed one of these rows after that timestamp (I3).
        """
        await self._lead()
        with self._speaking(transaction_id, known=True):
            draft = self._drafts.setdefault(transaction_id, Draft())
            await self._logged(draft)
            await self._check_unique(transaction_id, draft, command, deadline_s)
            if base:
                await self._check_versions(transaction_id, draft, base)

    async def _check_versions(
        self, transaction_id: TransactionId, draft: Draft, base: Timestamp
    ) -> None:
        chunks = self._participant.transactions[transaction_id].chunks
        ordered = sorted(chunks, key=lambda entry: entry.sequence)
        changes, cuts = list(draft.changes), draft.every_cut

        def find() -> bool:
            store = self._applier.store
            with store.cursor() as cursor:
                every = [*self._load_changes(ordered, cuts), *changes]
                return changed_after(cursor, store, every, base)

        if await self._changed_rows(ordered, cuts, changes, base) or await self._applier.run(find):
            raise concurrent_update()

    async def _changed_rows(
        self,
        chunks: Sequence[StagedEntry],
        cuts: Sequence[Cut],
        changes: Sequence[FragmentChange],
        base: Timestamp,
    ) -> bool:
        """The same of fragments that only the row store has."""
        touched = {f for entry in chunks for f in entry.fragments}
        touched |= {change.fragment_id for change in changes}
        fragment_ids = sorted(f for f in touched if self._only_in_rows(f))
        if not fragment_ids:
            return False

        def find(finder: Finder) -> bool:
            every = [*self._load_changes(chunks, cuts), *changes]
            return any(
                any_changed_after(finder, f, [c for c in every if c.fragment_id == f], base)
                for f in fragment_ids
            )

        return await self._rows.look_up(fragment_ids, MANY_ROWS, find)

    async def own_changes(
        self, transaction_id: TransactionId, fragment_ids: Sequence[FragmentId], command: int
    ) -> list[FragmentChange]:
        """What the transaction's earlier commands did to these fragments (rule R5)."""
        await self._lead()
        with self._speaking(transaction_id, known=True):
            draft = self._drafts.get(transaction_id)
            if draft is None:
                return []
            await self._logged(draft)
            cuts = draft.cuts_before(command)
            chunks = self._participant.transactions[transaction_id].chunks
            changes = [
                change
                for place, change in enumerate(draft.changes)
                if all(cut.keeps(draft.chunks, place) for cut in cuts)
            ]
            if chunks:
                chunks = sorted(chunks, key=lambda entry: entry.sequence)
                logged = await self._runtime.run_blocking(self._load_changes, chunks, cuts)
                changes = [*logged, *changes]
        wanted = frozenset(fragment_ids)
        return [change for change in changes if change.fragment_id in wanted]

    def _check_json(self, rows: pa.RecordBatch, schema: FragmentSchema) -> None:
        with self._applier.store.cursor() as cursor:
            check_json(cursor, rows, schema)

    async def _log_chunk(self, transaction_id: TransactionId, draft: Draft) -> None:
        sequence, changes = draft.chunks, draft.take()
        draft.chunks += 1
        term = self._participant.transactions[transaction_id].term
        while len(draft.in_flight) >= CHUNKS_IN_FLIGHT:
            await draft.in_flight.pop(0)
        chunk = self._propose_chunk(transaction_id, term, sequence, changes, draft)
        name = f"chunk {sequence} of {transaction_id} on tablet {self.tablet_id}"
        draft.in_flight.append(self._runtime.spawn(chunk, name))

    async def _propose_chunk(
        self,
        transaction_id: TransactionId,
        term: int,
        sequence: int,
        changes: Sequence[FragmentChange],
        draft: Draft,
    ) -> None:
        def make(headers: tuple[ChangeHeader, ...]) -> TabletEntry:
            return Ingest(transaction_id, term, sequence, headers)

        try:
            data = await self._runtime.run_blocking(encode_with_changes, make, changes)
            result = await self._propose_encoded(data)
        except DqeError as error:
            draft.error = draft.error or error
            return
        if result == ABORTED and draft.error is None:
            draft.error = lost_transaction("its chunks came to another leader's log")

    # Transactions: one tablet.

    async def write(
        self,
        transaction_id: TransactionId,
        floor: Timestamp,
        draw_timestamp: Callable[[], Awaitable[Timestamp]],
    ) -> Timestamp:
        """Commits a transaction that changes this tablet alone; its commit timestamp.

        `floor` is an oracle timestamp seen before the call. 40003 when the answer was lost.
        """
        await self._lead()
        with self._speaking(transaction_id, known=True):
            draft = await self._validated(transaction_id)
            commit = self._write(transaction_id, floor, draft, draw_timestamp)
            name = f"write {transaction_id} on tablet {self.tablet_id}"
            return await run_to_end(self._runtime, commit, name)

    async def _write(
        self,
        transaction_id: TransactionId,
        floor: Timestamp,
        draft: Draft,
        draw_timestamp: Callable[[], Awaitable[Timestamp]],
    ) -> Timestamp:
        term = self._mark(transaction_id, floor)
        with self._giving_up(transaction_id):
            commit_ts = await draw_timestamp()
            self._refuse_closed(commit_ts)

        def make(headers: tuple[ChangeHeader, ...]) -> TabletEntry:
            return Write(transaction_id, term, commit_ts, draft.chunks, headers, draft.every_cut)

        return _committed(await self._propose_last(transaction_id, make, draft))

    def _refuse_closed(self, commit_ts: Timestamp) -> None:
        if self.closed.refuses(commit_ts):
            raise lost_transaction("its timestamp was closed already")

    # Transactions: several tablets.

    async def prepare(
        self,
        transaction_id: TransactionId,
        floor: Timestamp,
        home_tablet: TabletId,
        validates: bool = False,
    ) -> None:
        """Promises, in the log, to do what the home decides."""
        await self._lead()
        with self._speaking(transaction_id, known=True):
            if self._participant.transactions[transaction_id].phase is Phase.PREPARED:
                return
            draft = await self._validated(transaction_id)
            prepare = self._prepare(transaction_id, floor, home_tablet, draft, validates)
            name = f"prepare {transaction_id} on tablet {self.tablet_id}"
            await run_to_end(self._runtime, prepare, name)

    async def _prepare(
        self,
        transaction_id: TransactionId,
        floor: Timestamp,
        home_tablet: TabletId,
        draft: Draft,
        validates: bool,
    ) -> None:
        term = self._mark(transaction_id, floor, validates)
        exclusive, locked = self._locks.image(transaction_id)

        def make(headers: tuple[ChangeHeader, ...]) -> TabletEntry:
            return Prepare(
                transaction_id,
                term,
                floor,
                home_tablet,
                exclusive,
                draft.chunks,
                headers,
                draft.every_cut,
                locked,
            )

        result = await self._propose_last(transaction_id, make, draft)
        if isinstance(result, Outcome) and not result.committed:
            raise lost_transaction("it was aborted before it was prepared")

    async def mark_home(
        self, transaction_id: TransactionId, floor: Timestamp, validates: bool = False
    ) -> None:
        """Validates and marks the transaction where its decision will be logged."""
        await self._lead()
        with self._speaking(transaction_id, known=True):
            await self._validated(transaction_id)
            self._mark(transaction_id, floor, validates)

    async def validate(
        self,
        transaction_id: TransactionId,
        fragment_ids: Sequence[FragmentId],
        base: Timestamp,
        commit_ts: Timestamp,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """40001 where others have committed to the fragments after `base`, or may yet do so at
        or below the commit timestamp that the transaction has drawn (rule I4).

        Who is marked after this look draws a later timestamp. Those marked before are waited
        for; but of two that validate the younger ends instead, so nobody waits in a circle.
        """
        group = await self._lead(deadline_s)
        await group.read_barrier(deadline_s=deadline_s)
        async with deadline(deadline_s, f"tablet {self.tablet_id} has transactions in doubt"):
            for other in self._participant.pending_below(commit_ts):
                pending = self._participant.transactions.get(other)
                if other == transaction_id or pending is None:
                    continue
                if pending.validates and other < transaction_id:
                    raise read_write_conflict()
                await self._end_waiter(other)
        if not self.is_leader:
            raise not_leader(self.tablet_id, self._node_id, group.leader_id)
        if any(self._locks.newest(f) > base for f in fragment_ids):
            raise read_write_conflict()

    async def decide(
        self,
        transaction_id: TransactionId,
        commit_ts: Timestamp,
        participants: Sequence[TabletId],
    ) -> Timestamp:
        """Commits the transaction everywhere: once this is logged, it has happened."""
        await self._lead()
        with self._speaking(transaction_id, known=True):
            transaction = self._participant.transactions[transaction_id]
            if transaction.phase is not Phase.MARKED:
                raise lost_transaction("its home was not marked")
            self._refuse_closed(commit_ts)
            draft = self._drafts.setdefault(transaction_id, Draft())
            others = tuple(t for t in participants if t != self.tablet_id)
            decide = self._decide(transaction_id, transaction.term, commit_ts, others, draft)
            name = f"decide {transaction_id} on tablet {self.tablet_id}"
            return await run_to_end(self._runtime, decide, name)

    async def _decide(
        self,
        transaction_id: TransactionId,
        term: int,
        commit_ts: Timestamp,
        participants: tuple[TabletId, ...],
        draft: Draft,
    ) -> Timestamp:
        def make(headers: tuple[ChangeHeader, ...]) -> TabletEntry:
            return Decision(
                transaction_id,
                term,
                commit_ts,
                participants,
                draft.chunks,
                headers,
                draft.every_cut,
            )

        return _committed(await self._propose_last(transaction_id, make, draft))

    async def commit(self, transaction_id: TransactionId, commit_ts: Timestamp) -> None:
        """Does what the home decided with what is prepared here. May be called again."""
        await self._lead()
        outcome = self._participant.outcome(transaction_id)
        if outcome is None:
            logged = self._propose(Commit(transaction_id, commit_ts))
            outcome = _as_outcome(await run_to_end(self._runtime, logged, "commit"))
        if outcome.commit_ts != commit_ts:
            raise lost_transaction("it ended otherwise here")

    async def abort(self, transaction_id: TransactionId) -> None:
        """Ends the transaction without effect.

        For a coordinator that has not asked the home to decide, or was told that the home
        aborted. A transaction that ended already, either way, is left as it is.
        """
        await self._lead()
        draft = self._drafts.pop(transaction_id, None)
        if draft is not None and draft.in_flight:
            # Chunks on their way would come to the log behind the end of their transaction.
            await asyncio.wait(draft.in_flight)
        for instruction in self._participant.abandon(transaction_id):
            if isinstance(instruction, LogAbort):
                abort = self._propose(Abort(transaction_id, instruction.decided))
                await run_to_end(self._runtime, abort, "abort")
            else:
                self._follow([instruction])

    async def log_decided_abort(self, transaction_id: TransactionId) -> None:
        """Ends what is prepared here, since its home said that it aborted."""
        await self._propose(Abort(transaction_id, decided=True))

    async def release(self, transaction_id: TransactionId) -> None:
        """The same as `abort`, for a transaction that only locked."""
        await self.abort(transaction_id)

    async def status(self, transaction_id: TransactionId) -> Outcome | None:
        """How the transaction ended, None while it runs (rule C5).

        One that nobody speaks for is aborted in the log before it is said to be.
        """
        await self._lead()
        outcome = self._participant.outcome(transaction_id)
        if outcome is not None or transaction_id in self._participant.transactions:
            return outcome
        abort = self._propose(Abort(transaction_id, decided=False))
        return _as_outcome(await run_to_end(self._runtime, abort, "status"))

    async def remembers(self, transaction_id: TransactionId) -> bool:
        """Whether the transaction runs here, or its outcome is known."""
        await self._lead()
        known = self._participant.outcome(transaction_id) is not None
        return known or transaction_id in self._participant.transactions

    async def confirm(self, transaction_id: TransactionId, tablets: Sequence[TabletId]) -> None:
        """These participants have committed; the home may forget them (rule C6)."""
        if transaction_id in self._participant.unconfirmed():
            await self._propose(Confirm(transaction_id, tuple(tablets)))

    # Definition.

    async def alter(self, fragments: Sequence[FragmentSchema], schema_version: int) -> None:
        """From here on the tablet holds exactly these fragments."""
        await self._propose(Alter(tuple(fragments), schema_version))

    async def set_horizon(self, horizon: Timestamp) -> None:
        """Lets history go that ended at or before the timestamp (rule L7)."""
        await self._propose(Horizon(horizon))

    # Reading.

    async def prepare_read(
        self,
        fragment_ids: Sequence[FragmentId],
        timestamp: Timestamp,
        deadline_s: float = DEADLINE_S,
    ) -> dict[FragmentId, FragmentTables]:
        """Makes a read at the timestamp possible here (rules R1, R3); the tables to read.

        On the leader that is waiting for what may commit at or below it; elsewhere, asking the
        leader how far to follow, and following.
        """
        async with deadline(deadline_s, f"tablet {self.tablet_id} could not be read"):
            if not await self._index_led_here(timestamp, deadline_s):
                await self._follow_to(timestamp, deadline_s)
            return await self._bring_up(fragment_ids, timestamp)

    async def _follow_to(self, timestamp: Timestamp, deadline_s: float) -> None:
        """Applies all commits at or below the timestamp, asking the leader where nothing that
        was closed says how far that is."""
        index = self.closed.index_for(timestamp)
        if index is None:
            index = await self._peers().ask_read_index(self.tablet_id, timestamp, deadline_s)
            self.closed.learn(Closed(0, index, timestamp))
        await self.wait_applied(index, deadline_s)

    def close_timestamp(self, issued: Timestamp) -> Closed | None:
        """What followers may be told now (rule R4); None where this replica cannot say.

        `issued` is a timestamp that the oracle has handed out.
        """
        group = self._group
        if group is None or not self.is_leader:
            return None
        floors = self._participant.pending_floors()
        closed = self.closed.close(issued, floors, group.term, self._applied_index)
        return closed if group.lease_valid() else None

    def forget_orphans(self, is_orphan: Callable[[TransactionId, float], bool]) -> None:
        """Ends transactions whose coordinators are gone, unless they are prepared (then the home
        decides) or being carried out here."""
        if not self.is_leader:
            return
        for transaction in list(self._participant.transactions.values()):
            idle = transaction.id not in self._busy and transaction.phase is not Phase.PREPARED
            if idle and is_orphan(transaction.id, transaction.expires_at - LEASE_S):
                logger.info("transaction %d lost its coordinator", transaction.id)
                self._follow(self._participant.abandon(transaction.id))

    async def _index_led_here(self, timestamp: Timestamp, deadline_s: float) -> bool:
        """`read_index`, if this replica leads all the while."""
        if not (self.is_leader or self._leads_soon()):
            return False
        try:
            await self.read_index(timestamp, deadline_s)
        except NotLeader:
            return False
        return True

    async def read_own(
        self, own: OwnChanges, fragment_ids: Sequence[FragmentId]
    ) -> list[FragmentChange]:
        """`own_changes` from wherever the tablet is led."""
        if self.is_leader:
            return await self.own_changes(own.transaction_id, fragment_ids, own.command)
        data = await self._peers().ask_own_changes(
            self.tablet_id, own.transaction_id, fragment_ids, own.command
        )
        entry, bodies = decode_entry(data)
        assert isinstance(entry, Ingest)
        return decode_changes(entry.changes, bodies, self._schemas.get)

    async def read_rows(
        self,
        fragment_id: FragmentId,
        keys: Sequence[Sequence[Any]],
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> list[Plain | None]:
        """Rows by key, None for a key without one; leader only. See `storage.row_reads`."""
        tables = self._row_tables(fragment_id)
        places: dict[int, StoredKey] = {}
        for place, key in enumerate(keys):
            with suppress(ValueError):  # no row can have it
                places[place] = tables.encode_key(key)
        stored = await self.read_stored(
            fragment_id, list(places.values()), timestamp, own, deadline_s
        )
        found = dict(zip(places, stored, strict=True))
        rows = [found.get(place) for place in range(len(keys))]
        return [None if row is None else tables.decode_row(row) for row in rows]

    async def read_stored(
        self,
        fragment_id: FragmentId,
        keys: Sequence[StoredKey],
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> list[StoredRow | None]:
        """`read_rows` with keys and rows as SQLite has them."""
        group = await self._lead(deadline_s)
        changes = await self.read_own(own, [fragment_id]) if own is not None else []
        async with deadline(deadline_s, f"tablet {self.tablet_id} could not be read"):
            while True:
                tables = self._row_tables(fragment_id)
                at = END_OF_TIME if timestamp is None else timestamp
                if pending := pending_on(self._participant, tables, keys, timestamp):
                    await self._wait_ends(pending)
                elif not self._rows.is_current([fragment_id], at):
                    await self._rows.bring_up([fragment_id], at)
                else:
                    found = read_now(self._rows, tables, keys, timestamp, changes)
                    if group.lease_valid():
                        return found
                    await group.read_barrier(deadline_s=deadline_s)

    def _row_tables(self, fragment_id: FragmentId) -> RowTables:
        store = self._rows.store
        schema = self._schemas.get(fragment_id)
        if schema is None or not schema.method.in_row_store or store is None:
            raise fragment_gone(self.tablet_id, fragment_id)
        return store.tables(fragment_id) if fragment_id in store else RowTables(schema)

    async def read_index(self, timestamp: Timestamp, deadline_s: float = DEADLINE_S) -> int:
        """The log index that holds every commit at or below the timestamp. Leader only."""
        group = await self._lead(deadline_s)
        await group.read_barrier(deadline_s=deadline_s)
        async with deadline(deadline_s, f"tablet {self.tablet_id} has transactions in doubt"):
            await self._wait_pending(timestamp)
        if not self.is_leader:
            raise not_leader(self.tablet_id, self._node_id, group.leader_id)
        return self._applied_index

    def _leads_soon(self) -> bool:
        group = self._group
        return group is not None and group.leader_id == self._node_id

    def doubt_stays(self, transaction_id: TransactionId, error: DqeError) -> None:
        """Reads that wait for the transaction fail: its home cannot be asked now."""
        for waiter in self._end_waiters.pop(transaction_id, []):
            if not waiter.done():
                reason = CannotConnectNow(
                    f"tablet {self.tablet_id} has a transaction in doubt: {error.message}",
                    detail=error.detail,
                )
                waiter.set_exception(reason)
                waiter.exception()  # seen: a reader that failed already does not ask

    # Time.

    async def checkpoint(self) -> None:
        """Makes everything applied durable and lets the log be cut."""
        await super().checkpoint()
        self.compact_log()

    def compact_log(self) -> None:
        """Lets the log be cut up to what is durable here."""
        if self._group is not None:
            self._group.compact_log()

    def tick(self) -> None:
        """Called about every second: lapsed leases, and transactions in doubt."""
        if not self.is_leader:
            return
        now = self._runtime.monotonic()
        for transaction_id in list(self._busy):
            transaction = self._participant.transactions.get(transaction_id)
            if transaction is not None:
                self._participant.touch(transaction_id, now)
        self._follow(self._participant.expire(now))
        open_ones = self._participant.transactions
        for transaction_id in [t for t in self._drafts if t not in open_ones]:
            del self._drafts[transaction_id]
        self._doubts.settle_due(self._participant, now)

    # Helpers of transactions.

    @contextmanager
    def _speaking(self, transaction_id: TransactionId, *, known: bool = False) -> Iterator[None]:
        """The coordinator speaks for the transaction: its lease holds during the block."""
        now = self._runtime.monotonic()
        if known:
            self._participant.known(transaction_id, now)
        else:
            self._participant.touch(transaction_id, now)
        self._busy[transaction_id] += 1
        try:
            yield
        finally:
            self._busy[transaction_id] -= 1
            if not self._busy[transaction_id]:
                del self._busy[transaction_id]

    @contextmanager
    def _giving_up(self, transaction_id: TransactionId) -> Iterator[None]:
        """Whatever goes wrong in the block, nothing of the transaction was decided."""
        try:
            yield
        except BaseException:
            self._follow(self._participant.abandon(transaction_id))
            raise

    def _mark(
        self, transaction_id: TransactionId, floor: Timestamp, validates: bool = False
    ) -> int:
        now = self._runtime.monotonic()
        return self._participant.mark(transaction_id, floor, now, validates).term

    async def _validated(self, transaction_id: TransactionId) -> Draft:
        """The draft, once its chunks are logged and its rows keep the unique constraints.

        A transaction that cannot commit ends here, so that others need not wait for its lease.
        """
        with self._giving_up(transaction_id):
            return await self._validate(transaction_id)

    async def _validate(self, transaction_id: TransactionId) -> Draft:
        draft = self._drafts.setdefault(transaction_id, Draft())
        await self._logged(draft)
        await self._check_unique(transaction_id, draft, LAST_COMMAND, DEADLINE_S)
        self._refuse_gone(draft)
        # Other calls may have run meanwhile.
        self._participant.known(transaction_id, self._runtime.monotonic())
        return draft

    async def _logged(self, draft: Draft) -> None:
        """Returns when no chunk of the draft is on its way; raises what went wrong with one."""
        while draft.in_flight:
            await draft.in_flight.pop(0)
        if draft.error is not None:
            raise draft.error

    async def _check_unique(
        self, transaction_id: TransactionId, draft: Draft, command: int, deadline_s: float
    ) -> None:
        checked = [f for f in draft.inserts_into if self._unique.checks(f)]
        if not checked or not draft.unchecked_rows:
            return
        many = not draft.unchecked
        for fragment_id in checked:
            schema = self._schemas.get(fragment_id)
            new = [change for change in draft.unchecked if change.fragment_id == fragment_id]
            if schema is not None and (new or many):
                await self._locks.take_new_keys(
                    transaction_id, schema, new, many, command, deadline_s
                )
        self._refuse_gone(draft)
        chunks = self._participant.transactions[transaction_id].chunks
        changes = draft.changes
        if not chunks and not many:
            checked = list(dict.fromkeys(change.fragment_id for change in draft.unchecked))
            checked = [f for f in checked if self._unique.checks(f)]
            changes = [c for f in checked for c in self._to_check(draft, f)]
        try:
            await self._unique.check(chunks, changes, checked, draft.cuts)
        except Exception:
            self._refuse_gone(draft)
            raise
        draft.checked()

    def _to_check(self, draft: Draft, fragment_id: FragmentId) -> list[FragmentChange]:
        """What tells whether the draft's unchecked rows of a fragment conflict."""
        schema = self._schemas[fragment_id]
        of_fragment = [c for c in draft.unchecked if c.fragment_id == fragment_id]
        by_key = all(set(unique.columns) == set(schema.key) for unique in schema.unique)
        if by_key and has_keys(schema, schema.key):
            return draft.touching(schema, of_fragment)
        return [c for c in draft.changes if c.fragment_id == fragment_id]

    def _refuse_gone(self, draft: Draft) -> None:
        """Raises when a table was cut anew or dropped, which waits for nobody, meanwhile."""
        for fragment_id in draft.inserts_into:
            if fragment_id not in self._schemas:
                raise fragment_gone(self.tablet_id, fragment_id)

    async def _propose_last(
        self,
        transaction_id: TransactionId,
        make: Callable[[tuple[ChangeHeader, ...]], TabletEntry],
        draft: Draft,
    ) -> object:
        """Logs the entry that settles the transaction, with what is left in its draft."""
        self._drafts.pop(transaction_id, None)
        data = encode_with_changes(make, draft.changes)
        try:
            return await self._propose_encoded(data)
        except StatementCompletionUnknown:
            raise  # the mark stays until the log says how it ended
        except DqeError:
            self._follow(self._participant.abandon(transaction_id))
            raise


def _as_outcome(result: object) -> Outcome:
    if isinstance(result, Outcome):
        return result
    assert isinstance(result, DqeError) or result is None, result
    raise result if isinstance(result, DqeError) else lost_transaction("it is still prepared")


def _committed(result: object) -> Timestamp:
    outcome = _as_outcome(result)
    if not outcome.committed:
        raise lost_transaction("another outcome was logged before")
    return outcome.commit_ts
