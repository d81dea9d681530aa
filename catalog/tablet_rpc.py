"""Tablets wherever they are led: requests find the leader, and are repeated only where safe.

    TabletClient --(leader here)--> TabletServer method --> storage Tablet (`tablet_server`)
                 --(elsewhere)----> RPC --> the same method at the leader's node

Which requests may be sent again after an answer was lost:

    lock, lock_rows,        yes
      take_back, check,
      hold, ask_own_changes
    stage, prepare,         no: the error goes up to the coordinator, nothing was decided
      mark_home
    change_rows             no, as stage; one that commits at once as write
    write, decide           no, but the tablet is asked how the transaction ended (rule C5);
                            40003 only when nobody can say by the deadline
    precommit, commit,      yes: doing them again changes nothing
      tell_commits, abort,
      status, read_index,
      read_rows

A request that surely was not carried out (no connection, not the leader) is sent again, to
whoever leads by then, with the term of `tablet_requests` in it; but a tablet that nobody leads
for `LEADERLESS_S` is given up, whatever the deadline: a statement waits long for a lock, not for
a node that is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
import pyarrow as pa

from catalog import tablet_requests as requests
from catalog.leader_search import LeaderSearch, LeaderWatch, is_leaderless, leaderless
from catalog.model import CATALOG_TABLET, Durability, NodeId, Tablet, TabletId
from catalog.service import CatalogService
from catalog.tablet_requests import Done, Status
from catalog.tablet_server import ASK_WAITS, Handler, Request, TabletServer, method_name
from catalog.tablets import TabletManager
from cluster.errors import (
    AnswerLost,
    CannotConnectNow,
    DqeError,
    ObjectNotInPrerequisiteState,
    Outcome,
    SerializationFailure,
    StatementCompletionUnknown,
)
from cluster.probes import Probe, reached
from cluster.rpc import RpcNode
from cluster.runtime import Runtime
from storage.deadlocks import WaitEdge
from storage.drafts import NO_COMMAND
from storage.fragments import FragmentChange, OwnChanges, Timestamp, TransactionId
from storage.index_reads import IndexScan
from storage.lock_driver import RowsLocked
from storage.participant import Outcome as TransactionOutcome
from storage.row_tables import StoredKey, StoredRow

RETRY_PAUSE_S = 0.05
DEADLINE_S = 30.0
# Long enough for an election, with votes that split; too short for a node that starts again.
LEADERLESS_S = 5.0
# A node that does not say soon who waits there is left out of a round.
WAITS_DEADLINE_S = 1.0
# How long the home of a decision whose answer was lost is looked for: a node restarts in that.
OUTCOME_S = 15.0

R = TypeVar("R", bound=msgspec.Struct)


class TabletClient:
    """Speaks to tablet leaders for this node's coordinators, and for its tablets' peers."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        catalog: CatalogService,
        tablets: TabletManager,
        server: TabletServer,
        node_id: NodeId,
    ) -> None:
        self._runtime = runtime
        self._rpc = rpc
        self._catalog = catalog
        self._tablets = tablets
        self._server = server
        self._node_id = node_id
        liveness = catalog.liveness
        self._watch = LeaderWatch(
            runtime, node_id, tablets.leader_of, liveness.is_live, liveness.leader_of
        )
        # Where a request was served last, and the term a transaction began with at a tablet.
        self._leaders: dict[TabletId, NodeId] = {}
        self._terms: dict[tuple[TransactionId, TabletId], int] = {}
        self._waits_turn = asyncio.Lock()
        self._waits_next: asyncio.Task[list[WaitEdge]] | None = None

    @property
    def watch(self) -> LeaderWatch:
        """Looks at requests that are out."""
        return self._watch

    # --- Transactions ------------------------------------------------------------------------

    async def lock(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        mode: str,
        deadline_s: float = DEADLINE_S,
        command: int = 0,
        wait: bool = True,
        base: Timestamp | None = None,
    ) -> Timestamp:
        """Locks the tablet for the transaction; the newest commit's timestamp there, 40001 where
        that is above a `base`."""
        term = self._term(transaction_id, tablet_id)
        request = requests.Lock(tablet_id, transaction_id, term, mode, command, wait, base)
        done = await self._ask(request, Done, self._server.lock, deadline_s, again=True)
        self._begun(request, done)
        return done.value

    async def lock_rows(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        fragment_id: int,
        keys: pa.RecordBatch,
        mode: str,
        base: Timestamp,
        command: int,
        policy: str,
        deadline_s: float = DEADLINE_S,
    ) -> RowsLocked:
        """Locks rows of a fragment by key; which of them others changed after `base`."""
        term = self._term(transaction_id, tablet_id)
        request = requests.LockRows(
            tablet_id, transaction_id, term, fragment_id, mode, base, command, policy
        )

        async def here(_: requests.LockRows, deadline_s: float) -> requests.RowsAnswer:
            return await self._server.lock_rows(request, keys, deadline_s)

        answer = await self._ask(
            request, requests.RowsAnswer, here, deadline_s, again=True, keys=keys
        )
        self._begun(request, Done(answer.term))
        return RowsLocked(answer.changed, answer.skipped, answer.as_of)

    async def stage(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        change: FragmentChange,
        deadline_s: float = DEADLINE_S,
        command: int = 0,
        number: int = 0,
    ) -> None:
        """Adds a change of a command to the transaction, behind those staged before."""
        request = requests.Stage(
            tablet_id,
            transaction_id,
            self._term(transaction_id, tablet_id),
            change.fragment_id,
            change.truncate,
            0,
            command,
            number,
            change.definition,
        )

        async def here(_: requests.Stage, deadline_s: float) -> Done:
            return await self._server.stage(request, change)

        self._begun(request, await self._ask(request, Done, here, deadline_s, change=change))

    async def take_back(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        command: int,
        deadline_s: float = DEADLINE_S,
        number: int = 0,
    ) -> None:
        """Forgets the transaction's changes of this command and later ones; refuses those up to
        `number` that have not come yet."""
        term = self._term(transaction_id, tablet_id)
        request = requests.TakeBack(tablet_id, transaction_id, term, command, number)
        await self._ask(request, Done, self._server.take_back, deadline_s, again=True)

    async def begin_again(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        number: int,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """The transaction, which began at another leader, begins at this one, with nothing. What
        it has changed is told to its statements after `has_come_along`."""
        self._terms.pop((transaction_id, TabletId(tablet_id)), None)
        request = requests.TakeBack(tablet_id, transaction_id, 0, 0, number, is_whole=False)
        done = await self._ask(request, Done, self._server.take_back, deadline_s, again=True)
        self._begun(request, done)

    async def has_come_along(
        self, tablet_id: int, transaction_id: TransactionId, deadline_s: float = DEADLINE_S
    ) -> None:
        """All that the transaction had at its leader before is at this one."""
        term = self._term(transaction_id, tablet_id)
        request = requests.TakeBack(tablet_id, transaction_id, term, NO_COMMAND, is_whole=True)
        await self._ask(request, Done, self._server.take_back, deadline_s, again=True)

    def is_async(self, tablet_id: int) -> bool:
        """Whether what the tablet's leader acknowledges may be lost with its node (rule G5)."""
        tablet = self._catalog.current.tablets.get(TabletId(tablet_id))
        return tablet is not None and tablet.durability is Durability.ASYNC

    def is_led_on(self, tablet_id: int, transaction_id: TransactionId) -> bool:
        """Whether the leader that the transaction began with still leads, by all that this node
        knows: a hint."""
        term = self._term(transaction_id, tablet_id)
        group = self._tablets.group(TabletId(tablet_id))
        return not term or group is None or not group.leader_id or group.term == term

    async def check(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        base: Timestamp = 0,
        command: int = 0,
        deadline_s: float = DEADLINE_S,
        locks: bool = True,
        anew: bool = False,
    ) -> None:
        """Checks unique constraints over what the transaction has changed so far, and with
        `base` that others changed none of these rows after it."""
        term = self._term(transaction_id, tablet_id)
        request = requests.Check(tablet_id, transaction_id, term, base, command, locks, anew)
        await self._ask(request, Done, self._server.check, deadline_s, again=True)

    async def change_rows(self, request: requests.ChangeRows) -> requests.RowsChanged:
        """Changes rows by key as part of a transaction, whose `term` is filled in here."""
        deadline_s = request.lock_s + DEADLINE_S
        term = self._term(request.transaction_id, request.tablet_id)
        request = msgspec.structs.replace(request, term=term)
        here = self._server.change_rows
        answer = await self._ask(request, requests.RowsChanged, here, deadline_s)
        self._begun(request, Done(answer.term))
        return answer

    async def write_rows(self, request: requests.ChangeRows) -> requests.RowsChanged:
        """The same as a transaction of its own. Where the answer is lost, or is not waited for
        any more, the tablet's log is asked: what it committed changed all of the rows, but
        which ones they were is not known any more (40003 where they are to be shown)."""
        here, deadline_s = self._server.change_rows, request.lock_s + DEADLINE_S
        ends_s = self._runtime.monotonic() + deadline_s
        try:
            return await self._ask(request, requests.RowsChanged, here, deadline_s)
        except (AnswerLost, StatementCompletionUnknown) as lost:
            return await self._rows_after(request, lost, ends_s)
        except asyncio.CancelledError:
            asked = self._rows_after(request, AnswerLost("it was cancelled"), ends_s)
            task = self._runtime.spawn(_or_none(asked), "outcome of a statement that was cancelled")
            found = await asyncio.shield(task)
            if found is None:
                raise
            return found

    async def _rows_after(
        self, request: requests.ChangeRows, lost: DqeError, ends_s: float
    ) -> requests.RowsChanged:
        commit_ts = await self._outcome_after(request, lost, ends_s)
        if request.shows or request.scan is not None:
            raise StatementCompletionUnknown(
                "the rows that the statement changed are not known",
                detail="It was committed, but its answer was lost.",
            ) from lost
        return requests.RowsChanged(0, len(request.keys), commit_ts=commit_ts)

    async def write(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        floor: Timestamp,
        deadline_s: float = DEADLINE_S,
    ) -> Timestamp:
        """Commits on this tablet alone; the commit timestamp."""
        term = self._term(transaction_id, tablet_id)
        request = requests.Write(tablet_id, transaction_id, term, floor)
        return await self._settled(request, self._server.write, deadline_s)

    async def prepare(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        floor: Timestamp,
        home_tablet: int,
        deadline_s: float = DEADLINE_S,
        validates: bool = False,
    ) -> None:
        """The tablet will do what the home decides."""
        term = self._term(transaction_id, tablet_id)
        request = requests.Prepare(tablet_id, transaction_id, term, floor, home_tablet, validates)
        await self._ask(request, Done, self._server.prepare, deadline_s)

    async def precommit(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        commit_ts: Timestamp,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Tells a participant that has prepared what the home is about to decide."""
        request = requests.Precommit(tablet_id, transaction_id, 0, commit_ts)
        await self._ask(request, Done, self._server.precommit, deadline_s, again=True)

    async def mark_home(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        floor: Timestamp,
        deadline_s: float = DEADLINE_S,
        validates: bool = False,
    ) -> None:
        """Marks the transaction at the tablet that will decide."""
        term = self._term(transaction_id, tablet_id)
        request = requests.MarkHome(tablet_id, transaction_id, term, floor, validates)
        await self._ask(request, Done, self._server.mark_home, deadline_s)

    async def validate(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        fragment_ids: Sequence[int],
        base: Timestamp,
        commit_ts: Timestamp,
        deadline_s: float = DEADLINE_S,
        keys: Sequence[tuple[int, Sequence[StoredKey]]] = (),
    ) -> None:
        """40001 where what the transaction read there at `base` does not stand."""
        listed = tuple((fragment_id, tuple(of_fragment)) for fragment_id, of_fragment in keys)
        request = requests.Validate(
            tablet_id, transaction_id, 0, tuple(fragment_ids), base, commit_ts, listed
        )
        await self._ask(request, Done, self._server.validate, deadline_s, again=True)

    async def hold(
        self, tablet_id: int, transaction_id: TransactionId, deadline_s: float = DEADLINE_S
    ) -> None:
        """40001 where the transaction has lost what it locked there."""
        term = self._term(transaction_id, tablet_id)
        request = requests.Hold(tablet_id, transaction_id, term)
        await self._ask(request, Done, self._server.hold, deadline_s, again=True)

    async def decide(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        commit_ts: Timestamp,
        participants: Sequence[int],
        deadline_s: float = DEADLINE_S,
    ) -> Timestamp:
        """Commits everywhere, by the home's log."""
        term = self._term(transaction_id, tablet_id)
        request = requests.Decide(tablet_id, transaction_id, term, commit_ts, tuple(participants))
        return await self._settled(request, self._server.decide, deadline_s)

    async def commit(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        commit_ts: Timestamp,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Tells a participant the home's decision."""
        self._terms.pop((transaction_id, TabletId(tablet_id)), None)
        request = requests.Commit(tablet_id, transaction_id, 0, commit_ts)
        await self._ask(request, Done, self._server.commit, deadline_s, again=True)

    async def abort(
        self, tablet_id: int, transaction_id: TransactionId, deadline_s: float = DEADLINE_S
    ) -> None:
        """Ends the transaction at the tablet without effect."""
        self._terms.pop((transaction_id, TabletId(tablet_id)), None)
        request = requests.Abort(tablet_id, transaction_id, 0)
        await self._ask(request, Done, self._server.abort, deadline_s, again=True)

    async def status(
        self, tablet_id: int, transaction_id: TransactionId, deadline_s: float = DEADLINE_S
    ) -> TransactionOutcome | None:
        """How the transaction ended by that tablet's log, None while it runs there."""
        if tablet_id == CATALOG_TABLET:
            return await self._catalog.definitions.outcome(transaction_id, deadline_s)
        request = requests.AskStatus(tablet_id, transaction_id, 0)
        status = await self._ask(request, Status, self._server.status, deadline_s, again=True)
        return None if status.running else TransactionOutcome(status.commit_ts)

    async def commit_status(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        settles: bool,
        deadline_s: float = DEADLINE_S,
    ) -> str:
        """The same in words; "unknown" where the tablet does not remember and is not to settle."""
        if tablet_id == CATALOG_TABLET:
            outcome = await self._catalog.definitions.outcome(transaction_id, deadline_s)
            if outcome is None:
                return "in progress"
            return "committed" if outcome.committed else "aborted"
        request = requests.AskStatus(tablet_id, transaction_id, 0, settles)
        status = await self._ask(request, Status, self._server.status, deadline_s, again=True)
        if not status.known:
            return "unknown"
        if status.running:
            return "in progress"
        return "committed" if status.commit_ts else "aborted"

    async def _settled(
        self,
        request: requests.Write | requests.Decide,
        here: Handler,
        deadline_s: float,
    ) -> Timestamp:
        """The commit timestamp; when the answer is lost, what the tablet's log says."""
        ends_s = self._runtime.monotonic() + deadline_s
        try:
            done = await self._ask(request, Done, here, deadline_s)
            return done.value
        except (AnswerLost, StatementCompletionUnknown) as lost:
            return await self._outcome_after(request, lost, ends_s)
        finally:
            self._terms.pop((request.transaction_id, TabletId(request.tablet_id)), None)

    async def _outcome_after(
        self,
        request: requests.Write | requests.Decide | requests.ChangeRows,
        lost: DqeError,
        ends_s: float,
    ) -> Timestamp:
        ends_s = min(ends_s, self._runtime.monotonic() + OUTCOME_S)
        while (left_s := ends_s - self._runtime.monotonic()) > 0:
            outcome = None
            try:
                outcome = await self.status(request.tablet_id, request.transaction_id, left_s)
            except (CannotConnectNow, ObjectNotInPrerequisiteState):
                if self._is_dropped(TabletId(request.tablet_id)):
                    break
            if outcome is not None and outcome.committed:
                return outcome.commit_ts
            if outcome is not None:
                reached(Probe.LEADER_CHANGED_IN_TRANSACTION)
                raise SerializationFailure(
                    "could not serialize access because a tablet changed its leader",
                    detail=lost.message,
                    hint="The transaction might succeed if retried.",
                ) from lost
            await self._runtime.sleep(RETRY_PAUSE_S)
        raise StatementCompletionUnknown(
            "it is not known whether the transaction was committed", detail=lost.message
        ) from lost

    # --- Reads, and what tablets ask each other (`storage.tablet.Peers`) -----------------------

    async def read_stored(
        self,
        tablet_id: int,
        fragment_id: int,
        keys: tuple[StoredKey, ...],
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> Sequence[StoredRow | None]:
        """Rows of a fragment by key, as `storage.row_reads` says, from the tablet's leader.

        Keys and rows are as SQLite has them (`storage.row_tables.RowTables` of the fragment's
        definition); None for a key without a row. 55000 where the tablet has the fragment no
        more, or not in a row store.
        """
        request = requests.ReadRows(
            tablet_id,
            fragment_id,
            keys,
            timestamp,
            own.transaction_id if own is not None else 0,
            own.command if own is not None else 0,
        )
        here = self._server.read_rows
        reply = await self._ask(request, requests.Rows, here, deadline_s, again=True)
        return reply.rows

    async def scan_stored(
        self,
        tablet_id: int,
        fragment_id: int,
        scan: IndexScan,
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> Sequence[StoredRow] | None:
        """Rows of a fragment by an index, as `storage.index_reads` says, from the tablet's
        leader; None where the index is not the way to them."""
        mine = () if own is None else (own.transaction_id, own.command)
        request = requests.ScanRows(tablet_id, fragment_id, scan, timestamp, *mine)
        here = self._server.scan_rows
        reply = await self._ask(request, requests.ScannedRows, here, deadline_s, again=True)
        return reply.rows

    async def ask_read_index(self, tablet_id: int, timestamp: Timestamp, deadline_s: float) -> int:
        """How far a replica must follow to serve a read at the timestamp (rule R3)."""
        request = requests.AskReadIndex(tablet_id, timestamp)
        done = await self._ask(request, Done, self._server.read_index, deadline_s, again=True)
        return done.value

    async def wait_edges(self) -> list[WaitEdge]:
        """Who waits for whom on all nodes that answer. Those who ask while the nodes are being
        asked share the next round."""
        if self._waits_next is None:
            self._waits_next = self._runtime.spawn(self._gather_waits(), "waits of all nodes")
        return await asyncio.shield(self._waits_next)

    async def _gather_waits(self) -> list[WaitEdge]:
        async with self._waits_turn:
            self._waits_next = None  # who comes from here on needs a newer answer
            nodes = self._catalog.liveness.live_nodes()
            answers = await asyncio.gather(*map(self._waits_of, nodes))
        return [edge for edges in answers for edge in edges]

    async def _waits_of(self, node_id: NodeId) -> Sequence[WaitEdge]:
        try:
            answer = await self._rpc.call(
                self._catalog.address_of(node_id),
                ASK_WAITS,
                requests.AskWaits(),
                requests.Waits,
                deadline_s=WAITS_DEADLINE_S,
            )
        except DqeError:
            return ()  # what waits there is seen in a later round, or its node is gone
        return answer.header.edges

    async def ask_own_changes(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        fragment_ids: Sequence[int],
        command: int,
    ) -> bytes:
        """The transaction's own changes, from the leader, for a replica that reads for it."""
        request = requests.AskOwnChanges(tablet_id, transaction_id, 0, tuple(fragment_ids), command)
        found = b""

        async def here(_: requests.AskOwnChanges, deadline_s: float) -> Done:
            nonlocal found
            done, found = await self._server.own_changes(request)
            return done

        def take(body: bytes | memoryview) -> None:
            nonlocal found
            found = bytes(body)

        await self._ask(request, Done, here, DEADLINE_S, again=True, take_body=take)
        return found

    async def ask_home(
        self, tablet_id: int, transaction_id: TransactionId
    ) -> TransactionOutcome | None:
        """What the home says of a transaction in doubt."""
        return await self.status(tablet_id, transaction_id)

    async def tell_commits(
        self, tablet_id: int, commits: Sequence[tuple[TransactionId, Timestamp]]
    ) -> Sequence[TransactionId]:
        """Repeats decisions to a participant; what it has committed, all where it was dropped."""
        if self._is_dropped(TabletId(tablet_id)):
            return [transaction_id for transaction_id, _ in commits]
        request = requests.CommitAll(tablet_id, tuple(commits))
        here, reply = self._server.commit_all, requests.Committed
        answer = await self._ask(request, reply, here, DEADLINE_S, again=True)
        return answer.transaction_ids

    def _is_dropped(self, tablet_id: TabletId) -> bool:
        catalog = self._catalog.current
        return tablet_id not in catalog.tablets and tablet_id < catalog.next_id

    # --- Finding the leader --------------------------------------------------------------------

    async def _ask(
        self,
        request: Request,
        reply_type: type[R],
        here: Handler,
        deadline_s: float,
        *,
        again: bool = False,
        change: FragmentChange | None = None,
        take_body: Callable[[bytes | memoryview], None] | None = None,
        keys: pa.RecordBatch | None = None,
    ) -> R:
        """Sends the request to the leader, and `again` also after a lost answer."""
        ends_s = self._runtime.monotonic() + deadline_s
        failing_since_s: float | None = None
        tablet_id = TabletId(request.tablet_id)
        search: LeaderSearch | None = None
        while True:
            tablet = self._record(tablet_id)
            if search is None:
                hint = self._leaders.get(tablet_id) or self._tablets.leader_of(tablet_id)
                search = LeaderSearch(tablet, hint, self._catalog.liveness.is_live)
            left_s = max(ends_s - self._runtime.monotonic(), 0.001)
            node_id = search.candidate
            try:
                async with self._watch.watched(tablet_id, node_id):
                    reply = await self._send(
                        node_id, request, reply_type, here, left_s, change, take_body, keys
                    )
            except CannotConnectNow as error:
                self._leaders.pop(tablet_id, None)
                now_s = self._runtime.monotonic()
                failing_since_s = now_s if failing_since_s is None else failing_since_s
                over = now_s - failing_since_s >= LEADERLESS_S or ends_s - now_s <= RETRY_PAUSE_S
                if is_leaderless(error) or (error.outcome is Outcome.UNKNOWN and not again):
                    raise
                if self._is_dropped(tablet_id):
                    raise _gone(tablet_id) from error
                if over:
                    raise leaderless(tablet, error) from error
                if search.refused(error):
                    await self._runtime.sleep(RETRY_PAUSE_S)
            else:
                self._leaders[tablet_id] = node_id
                return reply

    def _record(self, tablet_id: TabletId) -> Tablet:
        tablet = self._catalog.current.tablets.get(tablet_id)
        if tablet is None:
            raise _gone(tablet_id)
        return tablet

    async def _send(
        self,
        node_id: NodeId,
        request: Request,
        reply_type: type[R],
        here: Handler,
        deadline_s: float,
        change: FragmentChange | None,
        take_body: Callable[[bytes | memoryview], None] | None,
        keys: pa.RecordBatch | None,
    ) -> R:
        if node_id == self._node_id:
            reply = await here(request, deadline_s)
            assert isinstance(reply, reply_type)
            return reply
        body = b"" if keys is None else requests.encode_keys(keys)
        if change is not None:
            assert isinstance(request, requests.Stage)
            length, body = requests.encode_change(change)
            request = msgspec.structs.replace(request, delete_bytes=length)
        address = self._catalog.address_of(node_id)
        try:
            answer = await self._rpc.call(
                address,
                method_name(type(request)),
                request,
                reply_type,
                body=body,
                deadline_s=deadline_s,
            )
        except CannotConnectNow as error:
            raise _naming(node_id, address, error) from error
        if take_body is not None:
            take_body(answer.body)
        return answer.header

    def _term(self, transaction_id: TransactionId, tablet_id: int) -> int:
        return self._terms.get((transaction_id, TabletId(tablet_id)), 0)

    def _begun(self, request: requests.TransactionRequest, done: Done) -> None:
        self._terms.setdefault((request.transaction_id, TabletId(request.tablet_id)), done.term)


async def _or_none(answer: Awaitable[R]) -> R | None:
    """The answer, None where there was none in time, or nothing happened."""
    try:
        return await answer
    except DqeError:
        return None


def _gone(tablet_id: TabletId) -> ObjectNotInPrerequisiteState:
    return ObjectNotInPrerequisiteState(
        f"tablet {tablet_id} does not exist (any more)",
        hint="The table was changed while the statement was planned; run it again.",
    )


def _naming(node_id: NodeId, address: str, error: CannotConnectNow) -> CannotConnectNow:
    """The same error; where it speaks of an address, it names the node as users know it."""
    message = error.message.replace(f"node at {address}", f"node {node_id} at {address}")
    return type(error)(message, detail=error.detail, hint=error.hint)
