"""A session's short statements by the shortest way from the client and back.

    plan_of(prepared)  or  plan_of_text(sql)   whether the statement may go this way, just now
    run(plan, values)                          its tag and rows, or None: go the usual way
    run_now(plan, values, then)                the same without a task, where that can be

    a read of one row by key                   `executor.quick_reads`
    a prepared one of rows by an index         `executor.index_queries`
    a change of single rows by key, FOR UPDATE `executor.point_writes`
    BEGIN, COMMIT, ROLLBACK of no special kind the handlers of `executor.session_statements`

A statement that comes this way meets no parser, planner, stage or time limit. It answers exactly
what `Session.execute` would, or declines; so nothing needs to be right here but the reasons to
decline:

- settings that say more of a statement than what it means: a time limit, stale reads, read-only
  and optimistic transactions; outside of a block, an isolation level above READ COMMITTED;
- a block that has failed (but for its end), an implicit transaction, an end where there is no
  block: whatever is told by a notice.

What of that changes seldom is looked at once for each state of settings and catalog; what BEGIN
says of its block alone is not part of that. `cancel` reaches a statement that waits.

Left out: time limits; who sets one goes the usual way. Reads by an index with literals, which are
not told by their shape; what shows many rows is faster by batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from catalog.model import Catalog
from cluster.errors import QueryCanceled
from executor import session_statements
from executor.index_answers import IndexAnswer
from executor.lifted_literals import lifted
from executor.point_plans import NamesMeant, PointPlan, names_meant
from executor.quick_reads import Found, QuickReads, Rows
from executor.session_transaction import READ_COMMITTED
from executor.settings import ISOLATION_LEVELS
from executor.transaction_block import Status
from executor.write_runs import Changed, Write
from executor.write_settings import WriteSettings
from planner.context import PlannerContext
from planner.datum import Datum
from planner.locking import locks_rows
from planner.parser import parse
from planner.point_writes import may_be_by_row
from planner.statements import Begin, Commit, Query, Rollback, Statement, TransactionModes

if TYPE_CHECKING:
    from executor.session import Session
    from executor.session_state import Prepared

# Of one session; more of them are found again among those of the node.
SHAPES_KEPT = 128
_LONGEST_BLOCK_TEXT = 64


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """A statement that begins or ends a block, without more to it."""

    statement: Begin | Commit | Rollback
    columns: None = None
    # The same where it is a BEGIN that says nothing of its block, which nothing can refuse.
    plain_begin: Begin | None = None
    # What a layer above keeps with it.
    kept: dict[Hashable, Any] = field(default_factory=dict)


Plan = PointPlan | IndexAnswer | Write | BlockPlan
_READS = (PointPlan, IndexAnswer)


class Answered(NamedTuple):
    """What a statement answered: plain values (`storage.row_values`), None without columns."""

    tag: str
    rows: Rows | None


# What became of a statement that was on its way: its answer, its error, or None where it is to go
# the usual way.
Told: TypeAlias = Answered | Exception | None


class Surroundings(NamedTuple):
    """A state of settings and catalog: which statements may go this way in it."""

    plain: bool
    reads: bool
    reads_alone: bool
    writes: bool
    writes_alone: bool
    settings: WriteSettings
    names: NamesMeant
    zone: str
    # In a block, for as long as its client likes: the wire need not be told of the block's begin.
    may_idle: bool


@dataclass(slots=True)
class PlanHold:
    """The plan of a prepared statement in certain surroundings, and the catalog that its
    description holds with."""

    catalog: Catalog | None = None
    surroundings: Surroundings | None = None
    plan: Plan | None = None


def _plain_block(statement: Statement) -> BlockPlan | None:
    plain = (isinstance(statement, Begin) and statement.modes.as_of is None) or (
        isinstance(statement, Commit | Rollback) and not statement.chain
    )
    if not plain:
        return None
    assert isinstance(statement, Begin | Commit | Rollback)
    if isinstance(statement, Begin) and statement.modes == TransactionModes():
        return BlockPlan(statement, plain_begin=statement)
    return BlockPlan(statement)


def _texts(*texts: str) -> dict[str, BlockPlan]:
    plans = {text: _plain_block(parse(text)[0]) for text in texts}
    return {text: plan for text, plan in plans.items() if plan is not None}


_BEGINS = ("begin", "begin work", "begin transaction", "start transaction")
_BLOCKS = _texts(
    *_BEGINS,
    *(f"{begin} isolation level {level}" for begin in _BEGINS for level in ISOLATION_LEVELS),
    *("commit", "commit work", "commit transaction", "end", "end work", "end transaction"),
    *("rollback", "rollback work", "rollback transaction", "abort"),
)


class QuickStatements:
    """One a session. `context` gives the planner's view of its session as it is now."""

    def __init__(self, session: Session, context: Callable[[], PlannerContext]) -> None:
        self._session = session
        self._context = context
        self._reads = QuickReads(session)
        self._plans = session.coordinator.points.plans
        self._indexes = session.coordinator.indexes
        self._writes = session.coordinator.point_writes
        self._surroundings: Surroundings | None = None
        self._settings_version = -1
        self._catalog: object = None
        self._by_shape: dict[str, Plan | None] = {}
        # What a block's changes are computed with: their clock stands still (`_block_context`).
        self._kept_context: PlannerContext | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    # Which statements.

    def plan_of(self, prepared: Prepared) -> Plan | None:
        """The plan of a prepared statement that may go this way."""
        now = self._now()
        hold = prepared.hold
        if hold.surroundings is not now:
            hold.surroundings, hold.plan = now, self._look_up(prepared)
        plan = hold.plan
        return plan if plan is not None and self._may(plan, now) else None

    def _look_up(self, prepared: Prepared) -> Plan | None:
        statement, types = prepared.statement, prepared.parameters
        if statement.notices:
            return None
        plan: Plan | None = None
        if isinstance(statement, Query) and not locks_rows(statement.tree):
            context = self._context()
            plan = self._plans.of_tree(statement, types, context)
            plan = plan or self._indexes.answer_of(statement, types, context)
        elif may_be_by_row(statement):
            plan = self._writes.of_statement(statement, types, self._context())
        else:
            plan = _plain_block(statement)
        # What was described must be what comes.
        return plan if plan is not None and plan.columns == prepared.columns else None

    def plan_of_text(self, sql: str) -> tuple[Plan, Sequence[Datum]] | None:
        """The same of a query string, with the values of its literals."""
        now = self._now()
        values: Sequence[Datum] = ()
        plan: Plan | None = None
        if len(sql) <= _LONGEST_BLOCK_TEXT:
            plan = _BLOCKS.get(sql.rstrip("; ").lower())
        if plan is None:
            found = lifted(sql)
            if found is None:
                return None
            shape, kinds, values = found
            if shape in self._by_shape:
                plan = self._by_shape[shape]
            else:
                if len(self._by_shape) >= SHAPES_KEPT:
                    self._by_shape.clear()
                names, zone = now.names, now.zone
                plan = self._plans.of_shape(shape, kinds, names, self._context)
                plan = plan or self._writes.of_shape(shape, kinds, names, zone, self._context)
                self._by_shape[shape] = plan
        return (plan, values) if plan is not None and self._may(plan, now) else None

    def _may(self, plan: Plan, now: Surroundings) -> bool:
        block = self._session.state.block
        kind = type(plan)
        if kind is BlockPlan:
            begins = type(plan.statement) is Begin  # type: ignore[union-attr]
            return now.plain and (block.transaction is None if begins else block.open)
        if kind is IndexAnswer and not plan.shows_few:  # type: ignore[union-attr]
            return False
        if block.transaction is None:
            return now.reads_alone if kind in _READS else now.writes_alone
        if block.status is not Status.ACTIVE:
            return False
        if kind in _READS:
            return now.reads
        return now.writes and self._session.state.settings["transaction_read_only"] == "off"

    def _now(self) -> Surroundings:
        session = self._session
        settings, catalog = session.state.settings, session.services.catalog.current
        found = self._surroundings
        if (
            found is None
            or settings.version != self._settings_version
            or catalog is not self._catalog
        ):
            self._settings_version = settings.version
            looked_at = self._looked_at()
            if found is None or catalog is not self._catalog or looked_at != found:
                found = self._surroundings = looked_at
                self._by_shape.clear()
            self._catalog = catalog
        return found

    def _looked_at(self) -> Surroundings:
        settings = self._session.state.settings
        plain = settings["statement_timeout"] == "0"
        alone = settings["default_transaction_isolation"] in READ_COMMITTED
        newest = plain and settings["dqe.read_staleness"] == "0"
        written = WriteSettings.of(settings)
        reads = newest and self._reads.exist
        writes = newest and not written.control.optimistic
        return Surroundings(
            plain=plain,
            reads=reads,
            reads_alone=reads and alone,
            writes=writes,
            writes_alone=writes and alone and settings["default_transaction_read_only"] == "off",
            settings=written,
            names=names_meant(self._context()),
            zone=settings["timezone"],
            may_idle=settings["idle_in_transaction_session_timeout"] == "0",
        )

    @property
    def in_block(self) -> bool:
        """Whether there is a transaction that statements are part of."""
        return self._session.state.block.transaction is not None

    # Running them.

    def run_now(
        self, plan: Plan, values: Sequence[Datum], then: Callable[[Told], None]
    ) -> Answered | bool:
        """The answer of a read, or of a BEGIN, that needs no task; True where a read's row is on
        its way, and `then` is called with what becomes of it; False for any other."""
        if type(plan) is PointPlan:
            self._settle_isolation()
            planned_with = self._now().names.catalog
            rows = self._reads.rows_now(
                plan, values, planned_with, lambda found: then(_told(found))
            )
            return rows if isinstance(rows, bool) else _selected(rows)
        begins = plan.plain_begin if type(plan) is BlockPlan else None
        if begins is None or not self._now().may_idle:
            return False
        return Answered(session_statements.begin_now(self._session, begins).tag, None)

    def _settle_isolation(self) -> None:
        transaction = self._session.state.block.transaction
        if transaction is not None:
            transaction.isolation = self._session.state.settings["transaction_isolation"]

    async def run(self, plan: Plan, values: Sequence[Datum]) -> Answered | None:
        """The answer; None where the statement is to go the usual way, nothing of it having
        happened. An error leaves it to the caller to fail the transaction."""
        if type(plan) is PointPlan and not self.in_block:
            return await self._read(plan, values)
        self._settle_isolation()
        task = self._task = asyncio.current_task()
        assert task is not None
        others, self._cancelled = task.cancelling(), False
        try:
            return await self._run(plan, values)
        except asyncio.CancelledError:
            if self._cancelled and task.cancelling() - 1 <= others:
                raise _cancelled() from None
            raise
        finally:
            self._task = None
            if self._cancelled:
                task.uncancel()

    async def _run(self, plan: Plan, values: Sequence[Datum]) -> Answered | None:
        if type(plan) is PointPlan:
            return await self._read(plan, values)
        if type(plan) is IndexAnswer:
            return await self._read_by_index(plan, values)
        if type(plan) is BlockPlan:
            handler = session_statements.HANDLERS[type(plan.statement)]
            return Answered((await handler(self._session, plan.statement)).tag, None)
        changed = await self._write(plan, values)  # type: ignore[arg-type]
        return None if changed is None else Answered(*changed)

    async def _read(self, plan: PointPlan, values: Sequence[Datum]) -> Answered | None:
        assert self._surroundings is not None
        rows = await self._reads.rows(plan, values, self._surroundings.names.catalog)
        return None if rows is None else _selected(rows)

    async def _read_by_index(self, plan: IndexAnswer, values: Sequence[Datum]) -> Answered | None:
        assert self._surroundings is not None
        state, catalog = self._session.state, self._surroundings.names.catalog
        transaction = state.block.transaction
        if transaction is not None:
            if transaction.is_past:
                return None
            transaction.begin_command()
        rows = await self._indexes.plain(plan, values, catalog, transaction)
        if rows is None:
            return None
        state.last_read = None
        return _selected(rows)

    async def _write(self, plan: Write, values: Sequence[Datum]) -> Changed | None:
        state, now = self._session.state, self._surroundings
        assert now is not None
        transaction = state.block.transaction
        if transaction is not None:
            transaction.begin_command()
            transaction.settle(now.settings)
        context = self._context() if transaction is None else self._block_context()
        changed = await self._writes.run(plan, values, context, transaction, now.settings)
        if changed is not None:
            state.last_read = None
        return changed

    def _block_context(self) -> PlannerContext:
        """The planner's view of the session, made once a block: single rows are computed with the
        transaction's clock, never the statement's, and the session's settings as they are."""
        kept, began = self._kept_context, self._session.state.block.started
        catalog = self._session.services.catalog.current
        if kept is None or kept.now is not began or kept.catalog is not catalog:
            kept = self._kept_context = self._context()
        return kept

    def cancel(self) -> None:
        """Stops a statement that waits; it raises 57014."""
        self._reads.cancel()
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()


def _selected(rows: Rows) -> Answered:
    return Answered(f"SELECT {len(rows)}", rows)


def _told(found: Found) -> Told:
    return _selected(found) if isinstance(found, list) else found


def _cancelled() -> QueryCanceled:
    return QueryCanceled("canceling statement due to user request")
