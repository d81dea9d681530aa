"""A tablet's leadership: whether this replica leads and serves, and what it logs as the leader.

What a leader knows besides its log lives and dies with its term: locks, leases and drafts. A
replica serves from the moment it has applied an entry of its own term (rule C2) until it leads no
more; requests in between wait a moment for it, or are told who leads (`NotLeader`, 57P03).

A transaction here is *spoken for* while a call of its coordinator runs, and holds its lease then.
Above this: `storage.tablet_changes` (locks and drafts), `storage.tablet_commits` (how they end),
`storage.tablet` (reads).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from cluster.errors import CannotConnectNow, DqeError
from cluster.raft.errors import not_leader
from cluster.runtime import Runtime
from storage.closed import ClosedTimestamps
from storage.columnar import ColumnarStore
from storage.deadlocks import WaitEdge
from storage.drafts import Draft
from storage.entries import Abort, TabletEntry, encode_entry
from storage.fragments import Timestamp, TransactionId
from storage.lock_driver import LockDriver
from storage.participant import LEASE_S, LogAbort, Phase, leader_changed
from storage.replica import TabletReplica
from storage.replica_log import LOOKED_INTO_BYTES, Load
from storage.row_side import RowSide
from storage.staging import StagedEntry, Staging
from storage.surroundings import Peers, ReplicationGroup
from storage.tasks import deadline
from storage.transaction_facts import TransactionFacts, facts_of
from storage.unique_checker import UniqueChecker

logger = logging.getLogger(__name__)

DEADLINE_S = 30.0
# While a tablet has no leader its replica looks this often who it has become, for so long.
LEADER_LOOK_S = 0.05
# So soon a replica hears that the term in which it served is over.
TERM_LOOK_S = 0.005
LEADER_WAIT_S = 1.0


class TabletLeader(TabletReplica):
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
            lambda: self._moved,
        )
        self._unique = UniqueChecker(
            runtime, self._applier, lambda: self._schemas, self._load_changes, rows
        )
        self.closed = ClosedTimestamps()

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

    @property
    def term(self) -> int:
        """The term in which this replica serves, 0 if in none: that of its locks and drafts. The
        group's own may be ahead of it for a moment."""
        return self._participant.term or 0

    async def serves(self, deadline_s: float = DEADLINE_S) -> None:
        """Returns once this replica leads and serves; NotLeader where another does."""
        await self._lead(deadline_s)

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

    async def _lead(self, deadline_s: float = DEADLINE_S) -> ReplicationGroup:
        """The group, once this replica serves as its leader; NotLeader where another does, or
        where nobody does for a while: whoever asks looks elsewhere."""
        group = self._group
        if group is None:
            raise CannotConnectNow(f"tablet {self.tablet_id} is not open yet")
        if not self.is_leader:
            await self._await_leadership(group, deadline_s)
        return group

    async def _await_leadership(self, group: ReplicationGroup, deadline_s: float) -> None:
        gives_up_s = self._runtime.monotonic() + LEADER_WAIT_S
        async with deadline(deadline_s, f"tablet {self.tablet_id} did not get a leader here"):
            while not self.is_leader:
                # While nobody is known to lead it may become this replica, or another.
                if group.leader_id not in (None, 0, self._node_id):
                    raise not_leader(self.tablet_id, self._node_id, group.leader_id)
                if group.leader_id == self._node_id and (error := group.out_of_step()) is not None:
                    raise error
                if not group.leader_id and self._runtime.monotonic() >= gives_up_s:
                    raise not_leader(self.tablet_id, self._node_id, None)
                await self._serving_soon()

    async def _serving_soon(self) -> None:
        """Waits a little, until it serves in the group's term: it may not have heard yet that the
        term in which it did so is over."""
        if self._serving.is_set():
            await self._runtime.sleep(TERM_LOOK_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LEADER_LOOK_S):
                await self._serving.wait()

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
        self, index: int, commit_ts: Timestamp, entries: Sequence[StagedEntry], load: Load
    ) -> None:
        if self.is_leader:
            small = sum(entry.length for entry in entries) <= LOOKED_INTO_BYTES
            changes = load() if small else None
            touched = dict.fromkeys(f for entry in entries for f in entry.fragments)
            here = [f for f in touched if f in self._schemas]
            self._unique.committed(index, here, changes)
            self._locks.committed(commit_ts, [self._schemas[f] for f in here], changes)

    # Those who wait for transactions.

    def wait_edges(self) -> list[WaitEdge]:
        """Which transactions wait here for which; none where another replica leads."""
        return self._locks.edges() if self.is_leader else []

    def transaction_facts(self) -> TransactionFacts:
        """Its transactions without outcome, and their locks, as far as this replica knows."""
        return facts_of(self.tablet_id, self._participant, leads=self.is_leader)

    # Time.

    def tick(self) -> None:
        """Called about every second: lapsed leases."""
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

    def forget_orphans(self, is_orphan: Callable[[TransactionId, float], bool]) -> None:
        """Ends transactions whose coordinators are gone, unless they are prepared (then the home
        decides) or being carried out here."""
        if not self.is_leader:
            return
        for transaction in list(self._participant.transactions.values()):
            idle = transaction.id not in self._busy and transaction.phase is not Phase.PREPARED
            if idle and is_orphan(transaction.id, transaction.expires_at - LEASE_S):
                logger.info("transaction %d lost its coordinator", transaction.id)
                self._follow(self._participant.lapse(transaction.id))

    # The coordinator's word.

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
    def _holding(self, transaction_id: TransactionId, *, known: bool = False) -> Iterator[None]:
        """The same for what holds only in this term: `LeaderChanged` where it ended meanwhile,
        and with it what the block has locked or staged (rule C2). Also where this replica has not
        heard of that yet: a lock for which it waited may have been given up by an entry of the
        next leader, and it does not know what that one has committed."""
        term = self._participant.term
        with self._speaking(transaction_id, known=known):
            yield
        if self._participant.term != term or not self.is_leader:
            raise leader_changed()

    @contextmanager
    def _giving_up(self, transaction_id: TransactionId) -> Iterator[None]:
        """Whatever goes wrong in the block, nothing of the transaction was decided."""
        try:
            yield
        except BaseException:
            self._follow(self._participant.abandon(transaction_id))
            raise
