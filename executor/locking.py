"""Runs SELECT ... FOR UPDATE / NO KEY UPDATE / SHARE / KEY SHARE, with NOWAIT or SKIP LOCKED, and
LOCK TABLE.

Rows are locked as they come, in their newest versions (`executor.row_locking`), and no more of
them than LIMIT and OFFSET ask for; with SKIP LOCKED the next rows take the place of those that
others hold. All of them are read before the first is given out. Outside of a transaction the
locks are given back with the statement.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
import pyarrow as pa
from sqlglot import exp

from cluster.errors import (
    InvalidRowCountInLimitClause,
    LockNotAvailable,
    ProgramLimitExceeded,
)
from executor.execution import Execution, Result
from executor.row_locking import LockedRows, Mask, RowLocker, only
from executor.transaction_faces import Changes
from executor.writes import RETURNED_BYTES, rows_of, transaction
from executor.writes_stage import tablets_of
from planner.ddl_names import find_table
from planner.locking import LockedRelation, LockingPlan, plan_locking
from planner.plan import ResultColumn
from planner.statements import LockTable, Query
from storage.lock_driver import WAIT
from storage.locks import LockMode


async def run_locking(execution: Execution, statement: Query) -> Result:
    """The rows of a query with a locking clause, locked."""
    async with transaction(execution) as opened:
        columns, batches = await locked_rows(execution, opened, statement.tree)
        if execution.transaction is None:
            await opened.abort()
    count = sum(batch.num_rows for batch in batches)
    return Result(f"SELECT {count}", columns, _each(batches))


async def locked_rows(
    execution: Execution, opened: Changes, tree: exp.Query
) -> tuple[tuple[ResultColumn, ...], list[pa.RecordBatch]]:
    """The columns and rows of a query with a locking clause, locked."""
    plan = plan_locking(
        tree,
        execution.context,
        parameters=execution.parameter_types,
        values=execution.values if execution.parameter_types else None,
    )
    limit, offset = await _limits(execution, plan)
    rows = [_locked_rows(each) for each in plan.relations]
    locker = RowLocker(execution, opened, plan.source, rows, only_locks=True)
    return await _locked(execution, plan, locker, limit, offset)


def _locked_rows(each: LockedRelation) -> LockedRows:
    clause = each.clause
    mode, policy = (None, WAIT) if clause is None else (LockMode(clause.mode), clause.policy)
    return LockedRows(each.table, each.relation, each.identity, mode, policy, each.at)


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
    kept = _Kept(locker)
    wanted = None if limit is None else offset + limit
    async with rows_of(execution, plan.source) as run:
        columns = run.columns[: plan.visible]
        async for batch in run.batches():
            while batch.num_rows and (wanted is None or kept.rows < wanted):
                size = batch.num_rows if wanted is None else wanted - kept.rows
                piece, batch = batch.slice(0, size), batch.slice(size)
                kept.add(piece, await locker.lock(piece))
                if wanted is not None:
                    await kept.add_again()
            if wanted is not None and kept.rows >= wanted:
                break
    await kept.add_again()
    return columns, _shown(kept.in_order(), plan.visible, limit, offset)


class _Kept:
    """The locked rows, and where each stood in the query's order: one that others changed keeps
    the place that it had by its former version, as in PostgreSQL."""

    def __init__(self, locker: RowLocker) -> None:
        self._locker = locker
        self._batches: list[pa.RecordBatch] = []
        self._places: list[int] = []
        # Of those to come again, by what they are made of.
        self._awaited: dict[tuple[object, ...], list[int]] = {}
        self._read = 0
        self._bytes = 0

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self._places)

    def add(self, piece: pa.RecordBatch, goes_on: Mask) -> None:
        """Some of the query's rows, and which of them are locked as they are."""
        places = range(self._read, self._read + piece.num_rows)
        self._read += piece.num_rows
        self._add(only(piece, goes_on), [p for p, on in zip(places, goes_on, strict=True) if on])
        if not goes_on.all():
            for place, on, row in zip(places, goes_on, self._locker.made_of(piece), strict=True):
                if not on:
                    self._awaited.setdefault(row, []).append(place)

    async def add_again(self) -> None:
        """Those that others changed, where they still match."""
        async for found in self._locker.again():
            self._add(found, [self._awaited[row].pop(0) for row in self._locker.made_of(found)])
        self._awaited.clear()

    def _add(self, batch: pa.RecordBatch, places: Sequence[int]) -> None:
        if not batch.num_rows:
            return
        self._batches.append(batch)
        self._places += places
        self._bytes += batch.nbytes
        if self._bytes > RETURNED_BYTES:
            raise ProgramLimitExceeded(
                "too many rows to lock in one statement",
                detail=f"They take more than {RETURNED_BYTES} bytes.",
            )

    def in_order(self) -> pa.Table | None:
        """All of them; None without any."""
        if not self._batches:
            return None
        table = pa.Table.from_batches(self._batches)
        order = np.argsort(np.array(self._places), kind="stable")
        return table if bool((np.diff(order) == 1).all()) else table.take(pa.array(order))


def _shown(
    table: pa.Table | None, visible: int, limit: int | None, offset: int
) -> list[pa.RecordBatch]:
    if table is None:
        return []
    return list(table.slice(offset, limit).select(list(range(visible))).to_batches())


async def _each(batches: Sequence[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
