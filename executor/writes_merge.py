"""MERGE: rows of the join of source and target, each with the clause that applies to it.

The target is locked as a whole, so that what is read is what is changed. A stored row that two
source rows change is error 21000.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import CardinalityViolation, SerializationFailure
from executor.execution import Execution, Result
from executor.transaction_faces import Changes
from executor.writes import (
    StatementRows,
    at_new_snapshot,
    check_rows,
    columns_of,
    completed,
    generated_anew,
    named_batch,
    rows_of,
    transaction,
)
from executor.writes_defaults import DefaultValues
from executor.writes_rows import BATCH_SQL, RowChecker
from executor.writes_stage import TableWriter, tablets_of
from planner.ddl_names import find_table
from planner.parser.expressions import quote_name
from planner.statements import Merge, MergeAction
from planner.write_merge import plan_merge
from planner.write_plan import MergePlan, MergeStep


async def run_merge(execution: Execution, statement: Merge) -> Result:
    """MERGE; the tag is `MERGE n`."""
    table = find_table(execution.context, statement.table, purpose="merge into")
    async with transaction(execution) as opened:
        await opened.lock(tablets_of(table))
        current = await at_new_snapshot(execution)
        if current.context.catalog.tables.get(table.id) is not table:
            raise SerializationFailure(
                f'table "{table.name}" was changed by another session',
                hint="The statement might succeed if retried.",
            )
        plan = plan_merge(
            statement,
            current.context,
            parameters=execution.parameter_types,
            values=execution.values,
        )
        merger = _Merger(current, plan, opened)
        try:
            count = await merger.run()
        finally:
            merger.close()
        await opened.commit(current.timestamp, checks=True)
    return Result(f"MERGE {count}")


class _Merger:
    """One statement's, once its locks are held."""

    def __init__(self, execution: Execution, plan: MergePlan, opened: Changes) -> None:
        services = execution.services
        self._execution = execution
        self._plan = plan
        self._rows = StatementRows(execution, None)
        self._writer = TableWriter(services.runtime, plan.table, opened, services.ids)
        self._checker = RowChecker(plan.table, plan.checks, self._rows.evaluator)
        self._defaults = [DefaultValues(execution, plan.table, s.defaults) for s in plan.steps]
        self._changed: list[pa.RecordBatch] = []

    async def run(self) -> int:
        """Stages everything; how many rows were changed."""
        async with rows_of(self._execution, self._plan.source) as run:
            async for batch in run.batches():
                for place, step in enumerate(self._plan.steps):
                    mine = pc.fill_null(pc.equal(batch.column(0), place), False)
                    rows = batch.filter(mine)
                    if rows.num_rows and step.action is not MergeAction.NOTHING:
                        await self._carry_out(step, self._defaults[place], rows)
        self._check_once()
        await self._writer.finish()
        return self._writer.rows

    async def _carry_out(
        self, step: MergeStep, defaults: DefaultValues, rows: pa.RecordBatch
    ) -> None:
        plan, count = self._plan, rows.num_rows
        width = 1 + len(plan.old)
        if step.action is MergeAction.INSERT:
            arrays = dict(zip(plan.new, rows.columns[width:], strict=True))
            given = {column: arrays[column] for column in step.given}
            given |= await defaults.values(count)
            new = await self._checked(completed(plan.table, given, count))
            await self._writer.insert(new)
            return
        old = named_batch(columns_of(plan.table, plan.old), rows.columns[1:width], count)
        self._changed.append(old)
        if step.action is MergeAction.DELETE:
            await self._writer.delete(old)
            return
        new = named_batch(columns_of(plan.table, plan.new), rows.columns[width:], count)
        new = await self._checked(new)
        if step.moves:
            await self._writer.move(old, new)
        else:
            groups = [group.id for group in plan.table.groups] if plan.generated else step.groups
            await self._writer.update(old, new, groups)

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

    def close(self) -> None:
        self._rows.close()
