"""A session's reads of one row by key, by the shortest way from the client and back.

The row is read in place where this node leads its tablet, and by one question to the leader
elsewhere (`catalog.point_reads`): the newest (rule R2), or in a block that keeps its snapshot the
row of that. Rows that the block has changed itself it knows (`executor.known_rows`). A read
declines in a block that reads the past or has definitions of its own, and wherever
`catalog.point_reads` cannot answer at once, with every error that may pass; which statements come
here at all says `executor.quick_statements`.

`cancel` reaches a read that waits for another node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from catalog.model import Catalog
from catalog.point_reads import Asked, PointReads
from cluster.errors import (
    QueryCanceled,
)
from executor.point_plans import Place, PointPlan
from executor.session_transaction import SERIALIZABLE, SessionTransaction
from executor.short_ways import or_usual_way
from planner.datum import Datum
from storage.fragments import Timestamp, TransactionId
from storage.row_tables import StoredRow

if TYPE_CHECKING:
    from executor.session import Session


Rows: TypeAlias = list[list[Any]]
# Rows, the statement's error, or None for the usual way.
Found: TypeAlias = Rows | Exception | None


class _Question(NamedTuple):
    """Where the rows are (None: nowhere), and whose changes before which command they show; the
    rows themselves where the transaction knows them."""

    place: Place | None
    own: tuple[TransactionId, int] | None = None
    known: Sequence[StoredRow | None] | None = None


class QuickReads:
    """One a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reads: PointReads | None = session.services.point_reads
        self._waits_for: asyncio.Future[Any] | None = None

    @property
    def exist(self) -> bool:
        """Whether there is such a way."""
        return self._reads is not None

    def rows_now(
        self,
        plan: PointPlan,
        values: Sequence[Datum],
        catalog: Catalog,
        then: Callable[[Found], None],
    ) -> Rows | bool:
        """The answer's rows as plain values, where they are at hand; True where they are on their
        way from another node, and `then` is called with them; False where anything else must be
        waited for, or found out. Raises what computing them does. `catalog` as of `rows`."""
        transaction = self._session.state.block.transaction
        timestamp: Timestamp | None = None
        if transaction is not None and transaction.keeps_snapshot:
            timestamp, known = transaction.kept_snapshot or (None, None)
            if known is not catalog:
                return False
        question = self._question(plan, values, transaction)
        if self._reads is None or question is None or question.place is None:
            return False
        with or_usual_way:
            found = self._here(question, timestamp)
            if found is not None:
                return self._answers(plan, found, values)
            asked = self._ask(question, timestamp)
            if asked is not None:
                self._waits_for = asked.answer
                asked.then(lambda rows: then(self._told(rows, plan, values)))
                return True
        return False

    def _told(
        self,
        rows: Callable[[], Sequence[StoredRow | None]],
        plan: PointPlan,
        values: Sequence[Datum],
    ) -> Found:
        """What another node has answered; an error is the statement's, unless it may pass."""
        self._waits_for = None
        try:
            with or_usual_way:
                return self._answers(plan, rows(), values)
            return None
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            return error

    async def rows(self, plan: PointPlan, values: Sequence[Datum], catalog: Catalog) -> Rows | None:
        """The answer's rows as plain values; None where the statement is to go the usual way.
        `catalog` is what the plan was made with."""
        transaction = self._session.state.block.transaction
        timestamp: Timestamp | None = None
        question = self._question(plan, values, transaction)
        if question is None:
            return None
        if transaction is not None and transaction.keeps_snapshot:
            timestamp, known = await transaction.snapshot()
            if known is not catalog:
                return None
        with or_usual_way:
            found = await self._row(question, timestamp)
            return None if found is None else self._answers(plan, found, values)
        return None

    def _question(
        self, plan: PointPlan, values: Sequence[Datum], transaction: SessionTransaction | None
    ) -> _Question | None:
        """What to ask for, as another statement of the transaction; None for the usual way."""
        place = plan.find(values)
        if place is True:
            return None
        where = place or None
        if transaction is None:
            return _Question(where)
        if not _may_read(transaction, plan):
            return None
        transaction.begin_command()
        if where is None:
            return _Question(None)
        for key in where.keys:
            transaction.note_key(where.tablet_id, where.fragment_id, key)
        own = transaction.own_changes()
        if own is None or where.tablet_id not in own.tablets:
            return _Question(where)
        known = transaction.known_rows(where.tablet_id, where.fragment_id, where.keys)
        return _Question(where, (own.transaction_id, own.command), known)

    def _answers(
        self, plan: PointPlan, found: Sequence[StoredRow | None], values: Sequence[Datum]
    ) -> Rows:
        self._session.state.last_read = None
        answers = [plan.answer(row, values) for row in found if row is not None]
        return [answer for answer in answers if answer is not None]

    def _here(
        self, question: _Question, timestamp: Timestamp | None
    ) -> Sequence[StoredRow | None] | None:
        if question.known is not None:
            return question.known
        reads, place = self._reads, question.place
        assert reads is not None
        assert place is not None
        return reads.read_here(
            place.tablet_id, place.fragment_id, place.keys, question.own, timestamp
        )

    def _ask(self, question: _Question, timestamp: Timestamp | None) -> Asked | None:
        reads, place = self._reads, question.place
        assert reads is not None
        assert place is not None
        return reads.ask(place.tablet_id, place.fragment_id, place.keys, question.own, timestamp)

    async def _row(
        self, question: _Question, timestamp: Timestamp | None
    ) -> Sequence[StoredRow | None] | None:
        if question.place is None:
            return ()
        found = self._here(question, timestamp)
        if found is not None:
            return found
        asked = self._ask(question, timestamp)
        if asked is None:
            return None
        self._waits_for = asked.answer
        try:
            return await asked.rows()
        finally:
            self._waits_for = None

    def cancel(self) -> None:
        """Stops a read that waits; it raises 57014."""
        if self._waits_for is not None and not self._waits_for.done():
            self._waits_for.set_exception(QueryCanceled("canceling statement due to user request"))


def _may_read(transaction: SessionTransaction, plan: PointPlan) -> bool:
    """Whether rows at the leader and its own changes are all that the transaction would see."""
    if transaction.is_past or transaction.definitions.any:
        return False
    # Who changes a row is known by its key in the first group alone.
    return transaction.isolation != SERIALIZABLE or len(plan.point.table.groups) == 1
