"""The time at which a statement that does not read the present reads.

    AS OF SYSTEM TIME expression  --evaluated once--> timestamp --checked--> snapshot
    dqe.read_staleness            --the oracle's time less that-->

The expression is a constant: a time (in the session's time zone, where it names none), a
negative interval from now, or a number as `past_times` shows them. "Now" is the oracle's time,
which a node knows from the last answer it got and the time that has passed since, so that a
node whose clock is off still goes back by what it was asked.

A timestamp may be read when the oracle has issued it (rule T4), when history reaches back to it
(L7), and in tables that have lain as they do since before it (S1). The first two are seen to
here, the last when the plan is known (`past_tables`); each tablet checks its own horizon again
inside its store's transaction.

Left out: definitions as they were. The past is read with the tables and views of today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from catalog.oracle import milliseconds_of, timestamp_at
from cluster.errors import (
    DqeError,
    InvalidParameterValue,
    ReadOnlySqlTransaction,
    SnapshotTooOld,
    SyntaxError_,
    UndefinedTable,
)
from executor.execution import Execution
from executor.locking_subqueries import locking_clause
from executor.past_times import at_microsecond, duration_us, numbered, shown_time
from executor.queries import run_select
from executor.services import ExecutorServices
from executor.setting_kinds import milliseconds_of as milliseconds_of_setting
from planner.binder import bind_query
from planner.context import PlannerContext
from planner.datum import Datum
from planner.statements import CopyTo, Explain, Query, SourceExpression, Statement
from storage.fragments import Timestamp
from storage.types import Kind, SqlType

if TYPE_CHECKING:
    from executor.session import Session

# A clock of this node's that runs ahead of the oracle's by less is waited for.
AHEAD_MS = 500
# How far back `follower_read_timestamp()` goes: closed timestamps are younger almost always.
FOLLOWER_LAG_MS = 5000

_TIMES = frozenset({Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.DATE})
_NUMBERS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8, Kind.NUMERIC})
_TEXTS = frozenset({Kind.TEXT, Kind.VARCHAR, Kind.UNKNOWN, Kind.ANY, Kind.BPCHAR})


def asked_time(statement: Statement) -> SourceExpression | None:
    """What stands behind AS OF SYSTEM TIME in the statement, or in what it explains."""
    if isinstance(statement, Explain):
        return asked_time(statement.statement)
    return statement.as_of if isinstance(statement, Query | CopyTo) else None


# -- from the expression ------------------------------------------------------------------------


async def asked_timestamp(execution: Execution, time: SourceExpression) -> Timestamp:
    """The timestamp that the expression names, checked. `execution` evaluates it.

    22023 for what names none or one in the future, 72000 for one below the horizon.
    """
    timestamp = await _named(execution, time)
    return await _readable(execution.services, timestamp)


async def _named(execution: Execution, time: SourceExpression) -> Timestamp:
    if any(time.tree.find_all(exp.Column, exp.Query)):
        raise SyntaxError_(
            "AS OF SYSTEM TIME: only constant expressions are allowed", position=time.position
        )
    now_ms = await execution.services.timestamps.now_ms()
    tree = time.tree
    if isinstance(tree, exp.Anonymous) and tree.name.lower() == "follower_read_timestamp":
        return timestamp_at(now_ms - FOLLOWER_LAG_MS)
    try:
        return await _evaluated(execution, tree, now_ms)
    except DqeError as error:
        if not error.sqlstate.startswith("22"):
            raise
        raise _no_time(time, error.message) from error


async def _evaluated(execution: Execution, tree: exp.Expr, now_ms: int) -> Timestamp:
    kind = _kind(execution, tree)
    if kind in _TEXTS:
        text = tree.name if tree.is_string else await _value(execution, _cast(tree, "text"))
        if not isinstance(text, str):
            raise InvalidParameterValue("it is null")
        return await _of_text(execution, text, now_ms)
    if kind in _NUMBERS:
        text = await _value(execution, _cast(tree, "text"))
        found = numbered(str(text))
        if found is None:
            raise InvalidParameterValue("it is not a number of nanoseconds since 1970")
        return found
    if kind is Kind.INTERVAL:
        return await _back(execution, tree, now_ms)
    if kind in _TIMES:
        return await _moment(execution, tree)
    raise InvalidParameterValue(f"it has type {kind.value}")


async def _of_text(execution: Execution, text: str, now_ms: int) -> Timestamp:
    back_us = duration_us(text)
    if back_us is not None:
        return _before(now_ms, at_microsecond(now_ms * 1000 + back_us))
    found = numbered(text)
    if found is not None:
        return found
    literal = exp.Literal.string(text)
    if text.strip().startswith("-"):
        return await _back(execution, _cast(literal, "interval"), now_ms)
    return await _moment(execution, literal)


async def _back(execution: Execution, interval: exp.Expr, now_ms: int) -> Timestamp:
    now = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat()
    base = _cast(exp.Literal.string(now), "timestamptz")
    moved = exp.Add(this=base, expression=exp.paren(interval.copy()))
    return _before(now_ms, await _moment(execution, moved))


def _before(now_ms: int, timestamp: Timestamp) -> Timestamp:
    if timestamp >= timestamp_at(now_ms):
        raise InvalidParameterValue("an interval must be negative")
    return timestamp


async def _moment(execution: Execution, tree: exp.Expr) -> Timestamp:
    value = await _value(execution, _cast(tree, "timestamptz"))
    if not isinstance(value, int):
        raise InvalidParameterValue("it is null or infinite")
    return at_microsecond(value)


def _cast(tree: exp.Expr, type_name: str) -> exp.Expr:
    return exp.cast(tree.copy(), type_name, dialect="postgres")


def _no_time(time: SourceExpression, detail: str) -> InvalidParameterValue:
    return InvalidParameterValue(
        f"AS OF SYSTEM TIME {time.text}: value is neither timestamp, decimal, nor interval",
        detail=detail,
        hint="Such as '2026-01-31 12:00:00+00', '-10s', or now() - interval '10 s'.",
        position=time.position,
    )


def _select(tree: exp.Expr) -> exp.Select:
    return exp.Select(expressions=[exp.alias_(tree.copy(), "at")])


def _kind(execution: Execution, tree: exp.Expr) -> Kind:
    types, values = execution.parameter_types, execution.values
    bound = bind_query(
        _select(tree), execution.context, parameters=types, values=values if types else None
    )
    return bound.columns[0].type.kind


async def _value(execution: Execution, tree: exp.Expr) -> object:
    """Of a constant; of a time its microseconds since 1970."""
    result = await run_select(execution, Query(text="", offset=0, tree=_select(tree)))
    try:
        batches = [batch async for batch in result.batches()]
    finally:
        await result.close()
    value = batches[0].column(0)
    if pa.types.is_timestamp(value.type):
        value = value.cast(pa.timestamp("us", value.type.tz)).cast(pa.int64())
    return value[0].as_py()


# -- checks -------------------------------------------------------------------------------------


async def _readable(services: ExecutorServices, timestamp: Timestamp) -> Timestamp:
    check_history(services, timestamp)
    timestamps = services.timestamps
    if timestamp <= timestamps.newest:
        return timestamp
    issued, _ = await timestamps.snapshot()
    ahead_ms = milliseconds_of(timestamp) - milliseconds_of(issued)
    if timestamp > issued and ahead_ms <= AHEAD_MS:
        await services.runtime.sleep((ahead_ms + 1) / 1000)
        issued, _ = await timestamps.snapshot()
    if timestamp > issued:
        raise InvalidParameterValue(
            "cannot specify timestamp in the future"
            f" ({shown_time(timestamp)} > {shown_time(issued)})"
        )
    return timestamp


def check_history(services: ExecutorServices, timestamp: Timestamp) -> None:
    """Raises 72000 for a timestamp below the horizon of the cluster."""
    horizon = services.catalog.horizon
    if timestamp < horizon:
        raise SnapshotTooOld(
            f"cannot read as of {shown_time(timestamp)}, history is kept from"
            f" {shown_time(horizon)} on",
            hint="How long it is kept is the cluster's setting dqe.history_retention.",
        )


# -- what a statement reads at ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PastRead:
    """Where a statement reads instead of at a fresh snapshot; `bounded`: a later time will do."""

    timestamp: Timestamp
    bounded: bool = False

    def may_be_newer(self, error: DqeError) -> bool:
        """Whether the error is that of a time too long ago, and a later one will do."""
        return self.bounded and isinstance(error, UndefinedTable | SnapshotTooOld)


async def past_of(
    session: Session,
    statement: Statement,
    types: tuple[SqlType, ...],
    values: Sequence[Datum],
) -> PastRead | None:
    """Where the statement reads by its own word or the session's; None for the present, and in
    a transaction that reads the past as a whole."""
    time = asked_time(statement)
    if time is not None:
        _check_locks(statement)
        return PastRead(await asked_timestamp(session.surroundings.evaluation(types, values), time))
    staleness_ms = milliseconds_of_setting(session.state.settings["dqe.read_staleness"])
    transaction = session.state.block.transaction
    if not staleness_ms or not _only_reads(statement):
        return None
    if transaction is None:
        return PastRead(await _stale(session.services, staleness_ms), bounded=True)
    read_only = session.state.settings["transaction_read_only"] == "on"
    if read_only and not transaction.is_past and not transaction.has_snapshot:
        transaction.read_past(await _stale(session.services, staleness_ms))
    return None


async def _stale(services: ExecutorServices, staleness_ms: int) -> Timestamp:
    """The oracle's time so long ago; the oracle is asked only if it may not have got there."""
    timestamps = services.timestamps
    wanted = timestamp_at(await timestamps.now_ms() - staleness_ms)
    if wanted > timestamps.newest:
        await timestamps.snapshot()
    return min(wanted, timestamps.newest)


def _check_locks(statement: Statement) -> None:
    if isinstance(statement, Query) and locking_clause(statement) is not None:
        raise ReadOnlySqlTransaction("cannot lock rows with AS OF SYSTEM TIME")


def _only_reads(statement: Statement) -> bool:
    if isinstance(statement, Explain):
        return _only_reads(statement.statement)
    if isinstance(statement, Query):
        return locking_clause(statement) is None
    return isinstance(statement, CopyTo)


def told_of_past(error: DqeError, execution: Execution) -> DqeError:
    """The error; where the past was read and a table is missing today, with a hint."""
    if not execution.is_past or not isinstance(error, UndefinedTable) or error.detail is not None:
        return error
    return UndefinedTable(
        error.message,
        hint="The past is read with the tables of today; a table dropped since cannot be read.",
        position=error.position,
    )


def time_parameters(
    context: PlannerContext, time: SourceExpression, known: tuple[SqlType, ...]
) -> tuple[SqlType, ...]:
    """The parameters' types of a statement, whose other parts tell `known`."""
    return bind_query(_select(time.tree), context, parameters=known).parameters
