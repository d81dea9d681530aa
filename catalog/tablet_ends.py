"""How a coordinator ends transactions at tablets, and asks how they have ended.

Which requests may be sent again after an answer was lost:

    prepare, mark_home      no: the error goes up to the coordinator, nothing was decided
    write, decide,          no, but the tablet is asked how the transaction ended (rule C5);
      write_rows            40003 only when nobody can say by the deadline
    hold, validate,         yes: doing them again changes nothing
      precommit, abort,
      tell_commits, status
    announce                is not answered
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from catalog import tablet_requests as requests
from catalog.model import CATALOG_TABLET, NodeId, TabletId
from catalog.tablet_calls import DEADLINE_S, RETRY_PAUSE_S, TabletCalls
from catalog.tablet_requests import Done, Status
from catalog.tablet_server import COMMITTING, Handler
from cluster.errors import (
    AnswerLost,
    CannotConnectNow,
    DqeError,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    StatementCompletionUnknown,
)
from cluster.probes import Probe, reached
from storage.fragments import Timestamp, TransactionId
from storage.participant import NO_TABLET
from storage.participant import Outcome as TransactionOutcome
from storage.read_sets import ReadSet

# How long the home of a decision whose answer was lost is looked for: a node restarts in that.
OUTCOME_S = 15.0

A = TypeVar("A")


class TabletEnds(TabletCalls):
    """See the module."""

    # --- On one tablet ---------------------------------------------------------------------

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
        participants: Sequence[int] = (),
    ) -> Timestamp:
        """Commits on this tablet alone, or everywhere by its log, once all other participants
        have prepared; the commit timestamp."""
        term = self._term(transaction_id, tablet_id)
        request = requests.Write(tablet_id, transaction_id, term, floor, tuple(participants))
        return await self._settled(request, self._server.write, deadline_s)

    # --- On several ------------------------------------------------------------------------

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
        reads: ReadSet,
        base: Timestamp,
        commit_ts: Timestamp,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """40001 where what the transaction read there at `base` does not stand."""
        request = requests.Validate(tablet_id, transaction_id, 0, reads, base, commit_ts)
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

    def announce(
        self, transaction_id: TransactionId, commit_ts: Timestamp, tablets: Sequence[int]
    ) -> None:
        """Tells participants the home's decision, without waiting for any: those led by one node
        in one message. One that does not hear it asks the home, or is told by it."""
        by_leader: dict[NodeId, list[TabletId]] = {}
        for tablet_id in map(TabletId, tablets):
            self._terms.pop((transaction_id, tablet_id), None)
            leader = self._leaders.get(tablet_id) or self._tablets.leader_of(tablet_id)
            by_leader.setdefault(leader or NodeId(0), []).append(tablet_id)
        for leader, led in by_leader.items():
            notice = requests.Committing(transaction_id, commit_ts, tuple(led))
            if leader == self._node_id:
                self._server.committing(notice)
            elif not leader or not self._notify(leader, notice):
                for tablet_id in led:
                    told = self.tell_commits(tablet_id, [(transaction_id, commit_ts)])
                    self._runtime.spawn(_or_none(told), f"outcome of {transaction_id}")

    def _notify(self, node_id: NodeId, notice: requests.Committing) -> bool:
        try:
            address = self._catalog.address_of(node_id)
        except CannotConnectNow:
            return False
        return self._rpc.notify_now(address, COMMITTING, notice)

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

    async def abort(
        self, tablet_id: int, transaction_id: TransactionId, deadline_s: float = DEADLINE_S
    ) -> None:
        """Ends the transaction at the tablet without effect."""
        self._terms.pop((transaction_id, TabletId(tablet_id)), None)
        request = requests.Abort(tablet_id, transaction_id, 0)
        await self._ask(request, Done, self._server.abort, deadline_s, again=True)

    # --- How they ended --------------------------------------------------------------------

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
            if outcome.committed:
                return "committed"
            return "aborted" if settles else "unknown"
        request = requests.AskStatus(tablet_id, transaction_id, 0, settles)
        status = await self._ask(request, Status, self._server.status, deadline_s, again=True)
        if not status.known:
            return "unknown"
        if not status.running:
            return "committed" if status.commit_ts else "aborted"
        if status.home in (NO_TABLET, tablet_id):
            return "in progress"
        # Decided already, it may be, and not yet told of it.
        decided = await self.commit_status(status.home, transaction_id, False, deadline_s)
        return "in progress" if decided == "unknown" else decided

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


async def _or_none(answer: Awaitable[A]) -> A | None:
    """The answer, None where there was none in time, or nothing happened."""
    try:
        return await answer
    except DqeError:
        return None
