"""A session's reads of one row by key, by the shortest way from the client and back.

    plan_of(prepared)  or  plan_of_text(sql)   whether the statement may go this way, just now
    rows(plan, values)                         its row, or None: go the usual way

A statement that comes this way meets no planner, no settings, no transaction's bookkeeping and no
stage: its row is read in place where this node leads the tablet, and by one question to the
leader elsewhere (`catalog.point_reads`). It answers exactly what `Session.execute` would, or
declines; so nothing needs to be right here but the reasons to decline:

- settings that say more of a read than where it looks: a time limit, an isolation level above
  READ COMMITTED, stale reads;
- a block that has failed, that keeps its snapshot or has definitions of its own, an implicit
  transaction;
- whatever `catalog.point_reads` cannot answer at once, and every error that may pass.

What of that changes seldom is looked at once for each state of settings and catalog. `cancel`
reaches a read that waits for another node.

Left out: time limits; who sets one goes the usual way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.point_reads import PointReads
from cluster.errors import (
    CannotConnectNow,
    ObjectNotInPrerequisiteState,
    QueryCanceled,
    SerializationFailure,
)
from executor.lifted_literals import lifted
from executor.point_plans import NamesMeant, Place, PointPlan, names_meant
from executor.session_transaction import READ_COMMITTED, SessionTransaction
from executor.transaction_block import Status
from planner.context import PlannerContext
from planner.datum import Datum
from planner.statements import Query
from storage.row_closures import NotByRow
from storage.row_tables import StoredRow

if TYPE_CHECKING:
    from executor.session import Prepared, Session


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """A state of settings and catalog: which statements may go this way in it."""

    alone: bool
    in_block: bool


@dataclass(slots=True)
class PlanHold:
    """The plan of a prepared statement in certain surroundings."""

    surroundings: Surroundings | None = None
    plan: PointPlan | None = None


class QuickReads:
    """One a session. `context` gives the planner's view of its session as it is now."""

    def __init__(self, session: Session, context: Callable[[], PlannerContext]) -> None:
        self._session = session
        self._context = context
        self._reads: PointReads | None = session.services.point_reads
        self._plans = session.coordinator.points.plans
        self._surroundings = Surroundings(alone=False, in_block=False)
        self._settings_version = -1
        self._catalog: object = None
        self._names: NamesMeant | None = None
        self._waits_for: asyncio.Future[Any] | None = None

    # Which statements.

    def plan_of(self, prepared: Prepared) -> PointPlan | None:
        """The plan of a prepared statement that may go this way."""
        if not self._allowed():
            return None
        hold = prepared.hold
        if hold.surroundings is not self._surroundings:
            hold.surroundings, hold.plan = self._surroundings, self._look_up(prepared)
        return hold.plan

    def _look_up(self, prepared: Prepared) -> PointPlan | None:
        statement = prepared.statement
        if not isinstance(statement, Query) or statement.notices:
            return None
        plan = self._plans.of_tree(statement, prepared.parameters, self._context())
        # What was described must be what comes.
        return plan if plan is not None and plan.columns == prepared.columns else None

    def plan_of_text(self, sql: str) -> tuple[PointPlan, Sequence[Datum]] | None:
        """The same of a query string, with the values of its literals."""
        if not self._allowed():
            return None
        found = lifted(sql)
        if found is None:
            return None
        shape, kinds, values = found
        assert self._names is not None
        plan = self._plans.of_shape(shape, kinds, self._names, self._context)
        return None if plan is None else (plan, values)

    def _allowed(self) -> bool:
        state = self._session.state
        settings = state.settings
        catalog = self._session.services.catalog.current
        if settings.version != self._settings_version or catalog is not self._catalog:
            self._settings_version, self._catalog = settings.version, catalog
            plain = (
                self._reads is not None
                and settings["statement_timeout"] == "0"
                and settings["dqe.read_staleness"] == "0"
            )
            alone = plain and settings["default_transaction_isolation"] in READ_COMMITTED
            in_block = plain and settings["transaction_isolation"] in READ_COMMITTED
            self._surroundings = Surroundings(alone=alone, in_block=in_block)
            self._names = names_meant(self._context())
        if state.block.transaction is None:
            return self._surroundings.alone
        return self._surroundings.in_block and state.block.status is Status.ACTIVE

    @property
    def in_block(self) -> bool:
        """Whether there is a transaction that statements are part of."""
        return self._session.state.block.transaction is not None

    # Reading.

    async def rows(self, plan: PointPlan, values: Sequence[Datum]) -> list[list[Any]] | None:
        """The answer's rows as plain values; None where the statement is to go the usual way."""
        place = plan.find(values)
        transaction = self._session.state.block.transaction
        if place is True:
            return None
        own: tuple[int, int] | None = None
        if transaction is not None:
            if not _reads_newest(transaction):
                return None
            transaction.begin_command()
            own = _own_changes(transaction, place)
        try:
            found = await self._row(place, own) if isinstance(place, Place) else ()
        except (CannotConnectNow, ObjectNotInPrerequisiteState, SerializationFailure):
            return None
        if found is None:
            return None
        self._session.state.last_read = None
        try:
            answers = [plan.answer(row, values) for row in found if row is not None]
        except NotByRow:
            return None
        return [answer for answer in answers if answer is not None]

    async def _row(
        self, place: Place, own: tuple[int, int] | None
    ) -> Sequence[StoredRow | None] | None:
        reads = self._reads
        assert reads is not None
        found = reads.read_here(place.tablet_id, place.fragment_id, place.keys, own)
        if found is not None:
            return found
        asked = reads.ask(place.tablet_id, place.fragment_id, place.keys, own)
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


def _reads_newest(transaction: SessionTransaction) -> bool:
    """Whether committed rows and its own changes are all that the transaction would see."""
    return not (transaction.is_past or transaction.keeps_snapshot or transaction.definitions.any)


def _own_changes(transaction: SessionTransaction, place: Place | bool) -> tuple[int, int] | None:
    """The transaction and its command, where it has changed something in that tablet."""
    own = transaction.own_changes()
    if own is None or not isinstance(place, Place) or place.tablet_id not in own.tablets:
        return None
    return own.transaction_id, own.command
