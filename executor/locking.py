"""Runs SELECT ... FOR UPDATE / NO KEY UPDATE / SHARE / KEY SHARE, with NOWAIT or SKIP LOCKED, and
LOCK TABLE.

Rows are locked as they come, in their newest versions (`executor.row_locking`), and no more of
them than LIMIT and OFFSET ask for; with SKIP LOCKED the next rows take the place of those that
others hold. All of them are read before the first is given out. Outside of a transaction the
locks are given back with the statement.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pyarrow as pa

from cluster.errors import (
    InvalidRowCountInLimitClause,
    LockNotAvailable,
    ProgramLimitExceeded,
)
from executor.execution import Execution, Result
from executor.row_locking import LockedRows, RowLocker
from executor.writes import RETURNED_BYTES, rows_of, transaction
from executor.writes_stage import tablets_of
from planner.ddl_names import find_table
from planner.locking import LockingPlan, plan_locking
from planner.plan import ResultColumn
from planner.statements import LockTable, Query
from storage.locks import LockMode


async def run_locking(execution: Execution, statement: Query) -> Result:
    """The rows of a query with a locking clause, locked."""
    plan = plan_locking(
        statement.tree,
        execution.context,
        parameters=execution.parameter_types,
        values=execution.values if execution.parameter_types else None,
    )
    limit, offset = await _limits(execution, plan)
    async with transaction(execution) as opened:
        rows = LockedRows(
            plan.table, plan.identity, LockMode(plan.mode), plan.policy, at=plan.visible
        )
        locker = RowLocker(execution, opened, plan.source, rows)
        columns, batches = await _locked(execution, plan, locker, limit, offset)
        if execution.transaction is None:
            await opened.abort()
    count = sum(batch.num_rows for batch in batches)
    return Result(f"SELECT {count}", columns, _each(batches))


async def run_lock_table(execution: Execution, statement: LockTable) -> Result:
    """LOCK TABLE: whole tablets, so that tables which share them are locked with it."""
    tables = [find_table(execution.context, name, purpose="lock") for name in statement.tables]
    async with transaction(execution) as opened:
        for table in tables:
            try:
                await opened.lock(tablets_of(table), statement.mode, wait=not statement.nowait)
            except LockNotAvailable as error:
                if not statement.nowait:
                    raise
                raise LockNotAvailable(
                    f'could not obtain lock on relation "{table.name}"'
                ) from error
    return Result("LOCK TABLE")


async def _limits(execution: Execution, plan: LockingPlan) -> tuple[int | None, int]:
    async with rows_of(execution, plan.limits) as run:
        batches = [batch async for batch in run.batches()]
    limit, offset = (column[0].as_py() for column in batches[0].columns)
    for count, clause in ((limit, "LIMIT"), (offset, "OFFSET")):
        if count is not None and count < 0:
            raise InvalidRowCountInLimitClause(f"{clause} must not be negative")
    return limit, offset or 0


async def _locked(
    execution: Execution, plan: LockingPlan, locker: RowLocker, limit: int | None, offset: int
) -> tuple[tuple[ResultColumn, ...], list[pa.RecordBatch]]:
    """The query's columns and its rows, without those that identify them."""
    kept: list[pa.RecordBatch] = []
    wanted = None if limit is None else offset + limit
    count = size_bytes = 0
    async with rows_of(execution, plan.source) as run:
        columns = run.columns[: plan.visible]
        async for batch in run.batches():
            while batch.num_rows and (wanted is None or count < wanted):
                size = batch.num_rows if wanted is None else wanted - count
                piece, batch = batch.slice(0, size), batch.slice(size)
                async for found in _newest(locker, piece, at_once=wanted is not None):
                    kept.append(found)
                    count += found.num_rows
                    size_bytes += found.nbytes
                if size_bytes > RETURNED_BYTES:
                    raise ProgramLimitExceeded(
                        "too many rows to lock in one statement",
                        detail=f"They take more than {RETURNED_BYTES} bytes.",
                    )
            if wanted is not None and count >= wanted:
                break
    async for found in locker.again():
        kept.append(found)
    return columns, _shown(kept, plan.visible, limit, offset)


async def _newest(
    locker: RowLocker, piece: pa.RecordBatch, *, at_once: bool
) -> AsyncIterator[pa.RecordBatch]:
    """The piece's rows, locked; those that others changed now, or behind all others."""
    yield await locker.lock(piece)
    if at_once:
        async for batch in locker.again():
            yield batch


def _shown(
    batches: Sequence[pa.RecordBatch], visible: int, limit: int | None, offset: int
) -> list[pa.RecordBatch]:
    if not batches:
        return []
    table = pa.Table.from_batches(batches).slice(offset, limit)
    return list(table.select(list(range(visible))).to_batches())


async def _each(batches: Sequence[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
