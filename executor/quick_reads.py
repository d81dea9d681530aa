"""A session's reads of one row by key, by the shortest way from the client and back.

The row is read in place where this node leads its tablet, and by one question to the leader
elsewhere (`catalog.point_reads`): the newest (rule R2), or in a block that keeps its snapshot the
row of that. A read declines in a block that reads the past or has definitions of its own, and
wherever `catalog.point_reads` cannot answer at once, with every error that may pass; which
statements come here at all says `executor.quick_statements`.

`cancel` reaches a read that waits for another node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from catalog.leader_search import is_leaderless
from catalog.model import Catalog
from catalog.point_reads import PointReads
from cluster.errors import (
    CannotConnectNow,
    ObjectNotInPrerequisiteState,
    QueryCanceled,
    SerializationFailure,
)
from executor.point_plans import Place, PointPlan
from executor.session_transaction import SERIALIZABLE, SessionTransaction
from planner.datum import Datum
from storage.fragments import Timestamp
from storage.row_closures import NotByRow
from storage.row_tables import StoredRow

if TYPE_CHECKING:
    from executor.session import Session

_MAY_PASS = (CannotConnectNow, ObjectNotInPrerequisiteState, SerializationFailure)


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

    def rows_now(self, plan: PointPlan, values: Sequence[Datum]) -> list[list[Any]] | None:
        """The answer's rows as plain values, where the statement is alone and they are at hand;
        None where anything must be waited for, or found out. Raises what computing them does."""
        place = plan.find(values)
        reads = self._reads
        if reads is None or not isinstance(place, Place):
            return None
        try:
            found = reads.read_here(place.tablet_id, place.fragment_id, place.keys)
        except _MAY_PASS:
            return None
        return None if found is None else self._answers(plan, found, values)

    async def rows(
        self, plan: PointPlan, values: Sequence[Datum], catalog: Catalog
    ) -> list[list[Any]] | None:
        """The answer's rows as plain values; None where the statement is to go the usual way.
        `catalog` is what the plan was made with."""
        place = plan.find(values)
        transaction = self._session.state.block.transaction
        if place is True:
            return None
        own: tuple[int, int] | None = None
        timestamp: Timestamp | None = None
        if transaction is not None:
            if not _may_read(transaction, plan):
                return None
            transaction.begin_command()
            if transaction.keeps_snapshot:
                timestamp, known = await transaction.snapshot()
                if known is not catalog:
                    return None
            own = _own_changes(transaction, place)
            if isinstance(place, Place):
                for key in place.keys:
                    transaction.note_key(place.tablet_id, place.fragment_id, key)
        try:
            found = await self._row(place, own, timestamp) if isinstance(place, Place) else ()
        except _MAY_PASS as error:
            if is_leaderless(error):
                raise
            return None
        return None if found is None else self._answers(plan, found, values)

    def _answers(
        self, plan: PointPlan, found: Sequence[StoredRow | None], values: Sequence[Datum]
    ) -> list[list[Any]] | None:
        self._session.state.last_read = None
        try:
            answers = [plan.answer(row, values) for row in found if row is not None]
        except NotByRow:
            return None
        return [answer for answer in answers if answer is not None]

    async def _row(
        self, place: Place, own: tuple[int, int] | None, timestamp: Timestamp | None
    ) -> Sequence[StoredRow | None] | None:
        reads = self._reads
        assert reads is not None
        found = reads.read_here(place.tablet_id, place.fragment_id, place.keys, own, timestamp)
        if found is not None:
            return found
        asked = reads.ask(place.tablet_id, place.fragment_id, place.keys, own, timestamp)
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


def _own_changes(transaction: SessionTransaction, place: Place | bool) -> tuple[int, int] | None:
    """The transaction and its command, where it has changed something in that tablet."""
    own = transaction.own_changes()
    if own is None or not isinstance(place, Place) or place.tablet_id not in own.tablets:
        return None
    return own.transaction_id, own.command
