"""MERGE: rows of the join of source and target, each with the clause that applies to it.

Rows that are to be updated or deleted are locked as they come (`executor.row_locking`). Those that
others changed since the snapshot are looked at again under the lock, in READ COMMITTED: joined in
their newest version with the source row they were found with, which may make another clause
apply, or one for rows without a match. A new row whose key another transaction adds meanwhile is
error 23505, as in PostgreSQL; a stored row that two source rows change is 21000.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import CardinalityViolation
from executor.execution import Execution, Result
from executor.given_rows import given
from executor.messages import RefreshedRows
from executor.row_locking import LockedRows, RowLocker, only
from executor.transaction_faces import Changes
from executor.writes import (
    StatementRows,
    check_rows,
    columns_of,
    completed,
    generated_anew,
    mode_of_update,
    named_batch,
    rows_of,
    run_change,
    with_others,
)
from executor.writes_defaults import DefaultValues
from executor.writes_rows import BATCH_SQL, RowChecker
from executor.writes_stage import TableWriter
from planner.parser.expressions import quote_name
from planner.statements import Merge, MergeAction
from planner.write_merge import Again, plan_merge
from planner.write_plan import MergePlan, MergeStep
from storage.locks import LockMode
from storage.types import SqlType

_ACTIONS = {
    MergeAction.INSERT: "INSERT",
    MergeAction.UPDATE: "UPDATE",
    MergeAction.DELETE: "DELETE",
}


async def run_merge(execution: Execution, statement: Merge) -> Result:
    """MERGE; the tag is `MERGE n`."""
    plan = plan_merge(
        statement,
        execution.context,
        parameters=execution.parameter_types,
        values=execution.values,
    )

    async def merge(
        execution: Execution, opened: Changes, plan: MergePlan, rows: StatementRows
    ) -> int:
        return await _Merger(execution, statement, plan, opened, rows).run()

    return await run_change(execution, plan, merge, "MERGE")


class _Merger:
    """One statement's."""

    def __init__(
        self,
        execution: Execution,
        statement: Merge,
        plan: MergePlan,
        opened: Changes,
        rows: StatementRows,
    ) -> None:
        services = execution.services
        self._execution = execution
        self._statement = statement
        self._plan = plan
        self._opened = opened
        self._rows = rows
        self._writer = TableWriter(services.runtime, plan.table, opened, services.ids)
        self._checker = RowChecker(plan.table, plan.checks, self._rows.evaluator)
        self._defaults = [DefaultValues(execution, plan.table, s.defaults) for s in plan.steps]
        # Keys of stored rows that were changed, and rows to be looked at again.
        self._changed: list[pa.RecordBatch] = []
        self._again: list[pa.RecordBatch] = []

    async def run(self) -> int:
        """Stages everything; how many rows were changed."""
        async with rows_of(self._execution, self._plan.source) as run:
            types = tuple(column.type for column in run.columns)
            async for batch in run.batches():
                await self._carry_out_all(self._execution, batch)
        while self._again:
            again, self._again = pa.Table.from_batches(self._again), []
            await self._look_again(again, types)
        self._check_once()
        await self._writer.finish()
        return self._writer.rows

    async def _carry_out_all(self, execution: Execution, batch: pa.RecordBatch) -> None:
        for place, step in enumerate(self._plan.steps):
            mine = pc.fill_null(pc.equal(batch.column(0), place), False)
            rows = batch.filter(mine)
            if not rows.num_rows or step.action is MergeAction.NOTHING:
                continue
            if step.action is not MergeAction.INSERT:
                rows = await self._locked(execution, step, rows)
            if rows.num_rows:
                await self._carry_out(step, self._defaults[place], rows)

    async def _locked(
        self, execution: Execution, step: MergeStep, rows: pa.RecordBatch
    ) -> pa.RecordBatch:
        """Those that nobody changed since they were read."""
        plan = self._plan
        deletes = step.action is MergeAction.DELETE
        mode = LockMode.FOR_UPDATE if deletes else mode_of_update(plan.table, step)
        locked = LockedRows(plan.table, plan.relation, plan.old, mode, at=1)
        locker = RowLocker(execution, self._opened, plan.source, locked)
        kept = only(rows, await locker.lock(rows))
        self._again += locker.take_changed()
        return kept

    async def _look_again(self, rows: pa.Table, types: Sequence[SqlType]) -> None:
        """The clauses that apply to the newest versions of these rows, which are locked."""
        plan, keys = self._plan, len(self._plan.table.key)
        timestamp, _ = await self._execution.services.timestamps.snapshot()
        (batch,) = rows.combine_chunks().to_batches()
        locked = LockedRows(plan.table, plan.relation, plan.old, None, at=1)
        stored = pa.Table.from_batches([locked.keys(batch)])
        refreshed = (RefreshedRows.of(plan.relation, timestamp, stored),)
        start = 1 + len(plan.old) + len(plan.new)
        places = [*range(1, 1 + keys), *range(start, rows.num_columns)]
        # Without a source row there is nothing to join with: the stored row comes by itself.
        mine = rows.filter(pc.fill_null(rows.column(rows.num_columns - 1), False)).select(places)
        mine = mine.rename_columns([f"c{place}" for place in range(len(places))])
        name, given_types = "merged", tuple(types[place] for place in places)
        with (
            self._execution.services.timestamps.held(timestamp),
            given(self._execution, name, mine, given_types) as current,
        ):
            second = plan_merge(
                self._statement,
                current.context,
                parameters=current.parameter_types,
                values=current.values,
                again=Again(name, plan.beside),
            )
            assert second.relation == plan.relation
            current = dataclasses.replace(current, refreshed=refreshed)
            async with rows_of(current, second.source) as run:
                found = [batch async for batch in run.batches()]
        newest = dataclasses.replace(self._execution, timestamp=timestamp)
        for batch in found:
            await self._carry_out_all(newest, batch)

    async def _carry_out(
        self, step: MergeStep, defaults: DefaultValues, rows: pa.RecordBatch
    ) -> None:
        plan, count = self._plan, rows.num_rows
        width = 1 + len(plan.old)
        if step.action is MergeAction.INSERT:
            arrays = dict(zip(plan.new, rows.columns[width:], strict=False))
            given_columns = {column: arrays[column] for column in step.given}
            given_columns |= await defaults.values(count)
            new = await self._checked(completed(plan.table, given_columns, count))
            await self._writer.insert(new)
            await self._return(step, new, rows)
            return
        old = named_batch(columns_of(plan.table, plan.old), rows.columns[1:width], count)
        self._changed.append(old)
        values = rows.columns[width : width + len(plan.new)]
        new = named_batch(columns_of(plan.table, plan.new), values, count)
        if step.action is MergeAction.DELETE:
            await self._writer.delete(old)
            await self._return(step, new, rows)
            return
        new = await self._checked(new)
        if step.moves:
            await self._writer.move(old, new)
        else:
            groups = [group.id for group in plan.table.groups] if plan.generated else step.groups
            await self._writer.update(old, new, groups)
        await self._return(step, new, rows)

    async def _return(self, step: MergeStep, new: pa.RecordBatch, rows: pa.RecordBatch) -> None:
        """RETURNING over the row, those of the source, and what was done."""
        if self._plan.returning is None:
            return
        width = 1 + len(self._plan.old) + len(self._plan.new)
        beside = rows.columns[width:-1]
        action = pa.array([_ACTIONS[step.action]] * rows.num_rows, pa.string())
        await self._rows.keep_returned(with_others(new, [*beside, action]))

    async def _checked(self, new: pa.RecordBatch) -> pa.RecordBatch:
        plan = self._plan
        new = await generated_anew(
            self._execution, new, plan.table, plan.generated, self._rows.evaluator
        )
        await check_rows(self._execution, self._checker, new)
        return new

    def _check_once(self) -> None:
        """21000 for a stored row that is changed twice."""
        if not self._changed:
            return
        keys = ", ".join(quote_name(self._plan.table.column(c).name) for c in self._plan.table.key)
        rows = pa.Table.from_batches(self._changed)
        sql = f"SELECT 1 FROM {BATCH_SQL} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1 OFFSET 0"
        if self._rows.evaluator.query(rows, sql).num_rows:
            raise CardinalityViolation(
                "MERGE command cannot affect row a second time",
                hint="Ensure that not more than one source row matches any one target row.",
            )
