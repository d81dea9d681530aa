"""How transactions end at a tablet's leader: by the log.

On this tablet alone (rule C3): validate unique keys under the lock, mark it, draw C, log
`write`. With others (C4): `prepare` here, or at its home the same as alone, but log `decision`;
`mark_home` and `decide` where C is drawn apart. Then `commit` here.
Whatever is cancelled or fails half-way is settled by the log: a mark stays until an entry or the
end of the leader's term says how it ended; one that nobody speaks for any more gets an abort there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from cluster.errors import CannotConnectNow, DqeError, StatementCompletionUnknown
from cluster.raft.errors import not_leader
from cluster.runtime import Runtime
from storage.columnar import ColumnarStore
from storage.doubts import Doubts
from storage.drafts import LAST_COMMAND, Draft, encode_with_changes
from storage.entries import (
    Abort,
    ChangeHeader,
    Commit,
    Confirmed,
    Decision,
    Precommit,
    Prepare,
    TabletEntry,
    Write,
)
from storage.fragments import TabletId, Timestamp, TransactionId
from storage.participant import NO_TABLET, LogAbort, Outcome, Phase, lost_transaction
from storage.row_side import RowSide
from storage.staging import Staging
from storage.surroundings import Peers
from storage.tablet_changes import TabletChanges
from storage.tablet_leader import DEADLINE_S
from storage.tasks import run_to_end

logger = logging.getLogger(__name__)


class TabletCommits(TabletChanges):
    """See the module."""

    def __init__(
        self,
        runtime: Runtime,
        store: ColumnarStore,
        staging: Staging,
        node_id: int,
        peers: Callable[[], Peers],
        rows: RowSide,
    ) -> None:
        super().__init__(runtime, store, staging, node_id, peers, rows)
        self._doubts = Doubts(runtime, self.tablet_id, self, peers)

    def _stopped(self) -> None:
        super()._stopped()
        self._doubts.clear()

    def tick(self) -> None:
        """Called about every second: lapsed leases, and transactions in doubt."""
        super().tick()
        if self.is_leader:
            self._doubts.settle_due(self._participant, self._runtime.monotonic())

    # One tablet.

    async def write(
        self,
        transaction_id: TransactionId,
        floor: Timestamp,
        draw_timestamp: Callable[[], Awaitable[Timestamp]],
        participants: Sequence[TabletId] = (),
    ) -> Timestamp:
        """Commits a transaction that changes this tablet alone; its commit timestamp. With
        `participants`, which have all prepared, it is committed everywhere (rule C4).

        `floor` is an oracle timestamp seen before the call. 40003 when the answer was lost.
        """
        await self._lead()
        with self._speaking(transaction_id, known=True):
            draft = await self._validated(transaction_id)
            others = tuple(t for t in participants if t != self.tablet_id)
            commit = self._write(transaction_id, floor, draft, draw_timestamp, others)
            name = f"write {transaction_id} on tablet {self.tablet_id}"
            return await run_to_end(self._runtime, commit, name)

    async def _write(
        self,
        transaction_id: TransactionId,
        floor: Timestamp,
        draft: Draft,
        draw_timestamp: Callable[[], Awaitable[Timestamp]],
        participants: tuple[TabletId, ...],
    ) -> Timestamp:
        term = self._mark(transaction_id, floor, draft)
        with self._giving_up(transaction_id):
            commit_ts = await draw_timestamp()
            self._refuse_closed(commit_ts)
        if participants:
            return await self._decide(transaction_id, term, commit_ts, participants, draft)

        def make(headers: tuple[ChangeHeader, ...]) -> TabletEntry:
            return Write(transaction_id, term, commit_ts, draft.chunks, headers, draft.every_cut)

        return _committed(await self._propose_last(transaction_id, make, draft))

    def _refuse_closed(self, commit_ts: Timestamp) -> None:
        if self.closed.refuses(commit_ts):
            raise lost_transaction("its timestamp was closed already")

    # Several tablets.

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
        term = self._mark(transaction_id, floor, draft, validates)
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

    async def precommit(self, transaction_id: TransactionId, commit_ts: Timestamp) -> None:
        """Takes note, in the log, that the home is about to decide to commit (rule C11). May be
        called again."""
        await self._lead()
        ended: object = self._participant.outcome(transaction_id)
        if ended is None:
            logged = self._propose(Precommit(transaction_id, commit_ts))
            ended = await run_to_end(self._runtime, logged, "precommit")
        if isinstance(ended, DqeError):
            raise ended
        if isinstance(ended, Outcome) and not ended.committed:
            raise lost_transaction("it was aborted before it was pre-committed")

    async def mark_home(
        self, transaction_id: TransactionId, floor: Timestamp, validates: bool = False
    ) -> None:
        """Validates and marks the transaction where its decision will be logged."""
        await self._lead()
        with self._speaking(transaction_id, known=True):
            draft = await self._validated(transaction_id)
            self._mark(transaction_id, floor, draft, validates)

    async def hold(self, transaction_id: TransactionId, deadline_s: float = DEADLINE_S) -> None:
        """Returns if this replica leads now, and the transaction has here what it locked in this
        term: nobody else has had it since. 40001 where it was lost."""
        group = await self._lead(deadline_s)
        with self._speaking(transaction_id, known=True):
            await group.read_barrier(deadline_s=deadline_s)
        self._participant.known(transaction_id, self._runtime.monotonic())
        if not self.is_leader:
            raise not_leader(self.tablet_id, self._node_id, group.leader_id)

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
        await run_to_end(self._runtime, self._commit(transaction_id, commit_ts), "commit")

    async def _commit(self, transaction_id: TransactionId, commit_ts: Timestamp) -> None:
        await self._lead()
        outcome = self._participant.outcome(transaction_id)
        if outcome is None:
            outcome = _as_outcome(await self._propose(Commit(transaction_id, commit_ts)))
        if outcome.commit_ts != commit_ts:
            raise lost_transaction("it ended otherwise here")

    def learn_commit(self, transaction_id: TransactionId, commit_ts: Timestamp) -> None:
        """The same for who does not wait for it. If another replica leads by now it is told; if
        that fails too, the home settles it."""
        learnt = self._learn_commit(transaction_id, commit_ts)
        self._runtime.spawn(learnt, f"commit {transaction_id} on tablet {self.tablet_id}")

    async def _learn_commit(self, transaction_id: TransactionId, commit_ts: Timestamp) -> None:
        try:
            if self.is_leader:
                await self._commit(transaction_id, commit_ts)
            else:
                await self._peers().tell_commits(self.tablet_id, [(transaction_id, commit_ts)])
        except DqeError as error:
            logger.info("tablet %s: a commit is put off: %s", self.tablet_id, error.message)

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

    def home_of(self, transaction_id: TransactionId) -> TabletId:
        """The tablet whose word a prepared transaction waits for here."""
        transaction = self._participant.transactions.get(transaction_id)
        return NO_TABLET if transaction is None else transaction.home_tablet

    async def remembers(self, transaction_id: TransactionId) -> bool:
        """Whether the transaction runs here, or its outcome is known."""
        await self._lead()
        known = self._participant.outcome(transaction_id) is not None
        return known or transaction_id in self._participant.transactions

    async def commit_all(
        self, commits: Sequence[tuple[TransactionId, Timestamp]]
    ) -> list[TransactionId]:
        """`commit` for many that a home has decided; those that are committed in the log here.

        Of others it is logged why not, and their home tells again.
        """
        await self._lead()
        committed = [t for t, ts in commits if self._participant.outcome(t) == Outcome(ts)]
        known = frozenset(committed)
        found = await asyncio.gather(
            *(self._has_committed(t, ts) for t, ts in commits if t not in known)
        )
        return [*committed, *(t for t in found if t is not None)]

    async def _has_committed(
        self, transaction_id: TransactionId, commit_ts: Timestamp
    ) -> TransactionId | None:
        try:
            await self.commit(transaction_id, commit_ts)
        except DqeError as error:
            logger.info(
                "tablet %s: transaction %s is not committed: %s",
                self.tablet_id,
                transaction_id,
                error.message,
            )
            return None
        return transaction_id

    async def confirm(self, confirmed: Mapping[TabletId, Sequence[TransactionId]]) -> None:
        """These participants have committed these; the home may forget them (rule C6)."""
        decided = self._participant.unconfirmed()
        by_tablet = []
        for tablet_id, transaction_ids in confirmed.items():
            news = tuple(t for t in transaction_ids if t in decided and tablet_id in decided[t][1])
            if news:
                by_tablet.append((tablet_id, news))
        if by_tablet:
            await self._propose(Confirmed(tuple(by_tablet)))

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

    # Steps that several of these share.

    def _mark(
        self,
        transaction_id: TransactionId,
        floor: Timestamp,
        draft: Draft,
        validates: bool = False,
    ) -> int:
        now = self._runtime.monotonic()
        changes = None if draft.chunks else tuple(draft.changes)
        return self._participant.mark(transaction_id, floor, now, validates, changes).term

    async def _validated(self, transaction_id: TransactionId) -> Draft:
        """The draft, once its chunks are logged and its rows keep the unique constraints.

        A transaction that cannot commit ends here, so that others need not wait for its lease.
        """
        with self._giving_up(transaction_id):
            return await self._validate(transaction_id)

    async def _validate(self, transaction_id: TransactionId) -> Draft:
        draft = self._drafts.setdefault(transaction_id, Draft())
        await self._logged(draft)
        await self._check_unique(transaction_id, draft, LAST_COMMAND, DEADLINE_S, deferred=())
        self._refuse_gone(draft)
        # Other calls may have run meanwhile.
        self._participant.known(transaction_id, self._runtime.monotonic())
        return draft

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
