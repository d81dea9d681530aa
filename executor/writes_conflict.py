"""INSERT ... ON CONFLICT: the new rows first, then what of them is there already.

    rows, defaults, constraints -> locks where they would go -> a snapshot under the locks ->
    the stored rows they conflict with -> the others are inserted, those are updated or left

Of new rows that conflict with each other DO NOTHING keeps the first; for DO UPDATE it is error
21000, as it is to update a stored row twice. The new rows are held in memory, up to
`PROPOSED_BYTES`.

Where only the primary key decides what conflicts, the keys of the new rows are locked, whether they
have a row or not. Else the locks are those of whole tablets: every unique constraint holds the
partition key, so a row's conflicts lie where it would go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.bounds import route
from catalog.fragment_schemas import ANCHOR_GROUP, store_name
from catalog.model import ColumnId, Table, UniqueConstraint
from cluster.errors import (
    CardinalityViolation,
    ProgramLimitExceeded,
    SerializationFailure,
)
from executor import writes
from executor.execution import Execution, Result
from executor.given_rows import given
from executor.messages import RefreshedRows
from executor.transaction_faces import Changes, Control
from executor.writes import (
    StatementRows,
    at_new_snapshot,
    check_rows,
    columns_of,
    completed_batches,
    generated_anew,
    named_batch,
    rows_of,
    transaction,
)
from executor.writes_rows import BATCH_SQL, RowChecker, row_batch, true_rows
from executor.writes_stage import TableWriter, fragment_of, tablets_of
from planner.parser.expressions import quote_name
from planner.statements import Insert
from planner.write_conflict import EXCLUDED, ROW_NUMBER, plan_conflict
from planner.write_plan import ConflictPlan, InsertPlan, UpdatePlan
from planner.writes import plan_insert
from storage.conflicts import concurrent_update
from storage.fragments import END_OF_TIME
from storage.lock_driver import Fate
from storage.locks import LockMode
from storage.types import INT8, arrow_type

PROPOSED_BYTES = 256 * 1024 * 1024

# Later rows of equal keys; a key with NULL in it is equal to none.
_REPEATED = """
    SELECT row FROM {rows} WHERE {whole}
    QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY row) > 1
"""

Rows = npt.NDArray[np.int64]


async def run_insert(execution: Execution, statement: Insert) -> Result:
    """INSERT of either kind; the tag counts rows inserted and updated."""
    if statement.on_conflict is None:
        return await writes.run_insert(execution, statement)
    plan = plan_insert(
        statement,
        execution.context,
        parameters=execution.parameter_types,
        values=execution.values,
    )
    if not plan.arbiters:
        return await writes.run_insert(execution, statement)
    rows = StatementRows(execution, plan.returning)
    try:
        async with transaction(execution) as opened:
            proposed = await _proposed(execution, plan, rows)
            if _is_by_key(execution, plan, statement):
                gone = await _lock_keys(execution, opened, plan.table, proposed)
            else:
                gone = None
                await opened.lock(_tablets_for(plan.table, statement, proposed))
            current = await _under_locks(execution, plan.table)
            upsert = _Upsert(current, statement, plan, rows, proposed, gone)
            count = await upsert.run(opened)
            await opened.commit(current.timestamp, checks=True)
        return rows.result(f"INSERT 0 {count}")
    finally:
        rows.close()


async def _proposed(execution: Execution, plan: InsertPlan, rows: StatementRows) -> pa.RecordBatch:
    """All new rows, complete and checked."""
    checker = RowChecker(plan.table, plan.checks, rows.evaluator)
    kept: list[pa.RecordBatch] = []
    size_bytes = 0
    async with rows_of(execution, plan.source) as run:
        async for whole in completed_batches(execution, plan, run.batches(), rows.evaluator):
            await check_rows(execution, checker, whole)
            kept.append(whole)
            size_bytes += whole.nbytes
            if size_bytes > PROPOSED_BYTES:
                raise ProgramLimitExceeded(
                    "too many rows for ON CONFLICT in one statement",
                    detail=f"They take more than {PROPOSED_BYTES} bytes.",
                    hint="Insert them in several statements.",
                )
    if not kept:
        return row_batch(plan.table.visible_columns, _nothing(plan.table), 0)
    return pa.Table.from_batches(kept).combine_chunks().to_batches()[0]


def _nothing(table: Table) -> list[pa.Array]:
    return [pa.array([], type=arrow_type(column.type)) for column in table.visible_columns]


def _is_by_key(execution: Execution, plan: InsertPlan, statement: Insert) -> bool:
    """Whether a lock on the new rows' keys is enough for what is read then to stay so. Optimistic
    transactions have no such locks."""
    table, transaction = plan.table, execution.transaction
    if transaction is None:
        control = Control.of(execution.context.settings)
    else:
        control = transaction.opened.control
    if table.primary_key is None or control.optimistic or _places_anew(table, statement):
        return False
    return all(set(a.columns) == set(table.key) for a in plan.arbiters or ())


async def _lock_keys(
    execution: Execution, opened: Changes, table: Table, proposed: pa.RecordBatch
) -> pa.Table | None:
    """Locks the keys, in the order of tablets, so that statements meet each other in one order.

    Where the transaction keeps its snapshot: all keys, if rows with some are gone since then, and
    so in nobody's way; 40001 where others have made or changed one.
    """
    if not proposed.num_rows:
        return None
    transaction = execution.transaction
    keeps = transaction is not None and transaction.keeps_snapshot
    # Else, whatever their rows are, they are read once the locks are had.
    base, any_gone = execution.timestamp if keeps else END_OF_TIME, False
    columns = [proposed.column(table.column(c).name) for c in table.partition_columns]
    ordinals = route(table, columns, proposed.num_rows)
    keys = pa.RecordBatch.from_arrays(
        [proposed.column(table.column(c).name) for c in table.key],
        names=[store_name(c) for c in table.key],
    )
    parts = {int(o): fragment_of(table.parts[int(o)], ANCHOR_GROUP) for o in np.unique(ordinals)}
    for ordinal, fragment in sorted(parts.items(), key=lambda item: item[1].tablet_id):
        mine = keys.take(pa.array(np.flatnonzero(ordinals == ordinal)))
        locked = await opened.lock_rows(
            fragment.tablet_id, fragment.id, mine, LockMode.FOR_UPDATE, base
        )
        if keeps and Fate.UPDATED in locked.fates:
            raise concurrent_update()
        any_gone |= keeps and bool(locked.changed)
    return pa.Table.from_batches([keys]) if any_gone else None


def _places_anew(table: Table, statement: Insert) -> bool:
    """Whether an update may give a row another key or part."""
    assert statement.on_conflict is not None
    placing = {table.column(c).name for c in (*table.key, *table.partition_columns)}
    assigned = {n for a in statement.on_conflict.assignments or () for n in a.columns}
    return bool(placing & assigned)


def _tablets_for(table: Table, statement: Insert, proposed: pa.RecordBatch) -> list[int]:
    """Where the rows go, and so where what they conflict with lies; everywhere, where an update
    may move rows to other parts."""
    if _places_anew(table, statement) or not table.partition_columns or not proposed.num_rows:
        return tablets_of(table)
    columns = [proposed.column(table.column(c).name) for c in table.partition_columns]
    ordinals = np.unique(route(table, columns, proposed.num_rows))
    parts = tuple(table.parts[int(ordinal)] for ordinal in ordinals)
    return tablets_of(dataclasses.replace(table, parts=parts))


async def _under_locks(execution: Execution, table: Table) -> Execution:
    current = await at_new_snapshot(execution)
    if current.context.catalog.tables.get(table.id) is not table:
        raise SerializationFailure(
            f'table "{table.name}" was changed while rows for it were computed',
            hint="The statement might succeed if retried.",
        )
    return current


@dataclass(frozen=True, slots=True)
class _Found:
    """The stored rows that new ones conflict with: `rows` are the new ones' numbers; with DO
    UPDATE for each whether it is to be applied, and the update's old and new values."""

    rows: Rows
    applies: npt.NDArray[np.bool_]
    old: pa.RecordBatch
    new: pa.RecordBatch

    @classmethod
    def of(cls, plan: ConflictPlan, batches: Sequence[pa.RecordBatch]) -> _Found:
        """What the plan's source gave."""
        update = plan.update
        if batches:
            arrays = [_whole(c) for c in pa.Table.from_batches(batches).columns]
        else:
            arrays = [pa.array([], type=pa.int64()), pa.array([], type=pa.bool_())]
            arrays += [pa.nulls(0)] * (len(plan.source.columns) - 2)
        rows = arrays[0].to_numpy(zero_copy_only=False).astype(np.int64)
        if update is None:
            nothing = row_batch([], [], len(rows))
            return cls(rows, np.ones(len(rows), dtype=bool), nothing, nothing)
        old_columns = columns_of(update.table, update.old)
        new_columns = columns_of(update.table, update.new)
        old = named_batch(old_columns, arrays[2 : 2 + len(old_columns)], len(rows))
        new = named_batch(new_columns, arrays[2 + len(old_columns) :], len(rows))
        applies = true_rows(arrays[1]).to_numpy(zero_copy_only=False)
        return cls(rows, applies.astype(bool), old, new)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


class _Upsert:
    """One statement's, once its locks are held."""

    def __init__(
        self,
        execution: Execution,
        statement: Insert,
        plan: InsertPlan,
        rows: StatementRows,
        proposed: pa.RecordBatch,
        gone: pa.Table | None = None,
    ) -> None:
        """`gone`: keys by which rows are looked for as they are now, not at the snapshot."""
        self._execution = execution
        self._gone = gone
        self._statement = statement
        self._plan = plan
        self._rows = rows
        self._proposed = proposed
        self._update: UpdatePlan | None = None

    async def run(self, opened: Changes) -> int:
        """Stages everything; how many rows were inserted or updated."""
        plan, services = self._plan, self._execution.services
        assert plan.arbiters is not None
        assert self._statement.on_conflict is not None
        if not self._proposed.num_rows:
            return 0
        writer = TableWriter(services.runtime, plan.table, opened, services.ids)
        if self._statement.on_conflict.assignments is None:
            inserted = await self._insertable(plan.arbiters)
            await writer.insert(inserted)
            await self._rows.keep_returned(inserted)
        else:
            await self._insert_or_update(writer, plan.arbiters[0])
        await writer.finish()
        return writer.rows

    # -- DO NOTHING

    async def _insertable(self, arbiters: Sequence[UniqueConstraint]) -> pa.RecordBatch:
        """The new rows that conflict with nothing, nor with one before them."""
        free = np.ones(self._proposed.num_rows, dtype=bool)
        for arbiter in arbiters:
            found = await self._find(arbiter)
            free[found.rows] = False
        return self._proposed.filter(pa.array(self._first_of_each(arbiters, free)))

    def _first_of_each(
        self, arbiters: Sequence[UniqueConstraint], free: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Of the rows that are free those that would be inserted one after the other."""
        if all(not self._repeats(arbiter, free).any() for arbiter in arbiters):
            return free
        if len(arbiters) == 1:
            return free & ~self._repeats(arbiters[0], free)
        keys = [self._keys(arbiter) for arbiter in arbiters]
        seen: list[set[tuple[object, ...]]] = [set() for _ in arbiters]
        kept = free.copy()
        for row in np.flatnonzero(free):
            mine = [key[row] for key in keys]
            whole = [None not in key for key in mine]
            if any(w and key in s for key, w, s in zip(mine, whole, seen, strict=True)):
                kept[row] = False
                continue
            for key, known in zip(mine, seen, strict=True):
                known.add(key)
        return kept

    def _keys(self, arbiter: UniqueConstraint) -> list[tuple[object, ...]]:
        columns = [self._column(c).to_pylist() for c in arbiter.columns]
        return list(zip(*columns, strict=True))

    def _repeats(
        self, arbiter: UniqueConstraint, among: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Which of these rows have the constraint's values of an earlier one of them."""
        rows = np.flatnonzero(among)
        numbered = pa.table(
            {f"k{place}": self._column(c) for place, c in enumerate(arbiter.columns)}
        ).take(pa.array(rows))
        keys = [quote_name(name) for name in numbered.schema.names]
        numbered = numbered.append_column("row", pa.array(rows))
        whole = " AND ".join(f"{key} IS NOT NULL" for key in keys)
        sql = _REPEATED.format(rows=BATCH_SQL, keys=", ".join(keys), whole=whole)
        again = self._rows.evaluator.query(numbered, sql)
        found = np.zeros(self._proposed.num_rows, dtype=bool)
        found[again.column(0).to_numpy()] = True
        return found

    def _column(self, column_id: int) -> pa.Array:
        return self._proposed.column(self._plan.table.column(ColumnId(column_id)).name)

    # -- DO UPDATE

    async def _insert_or_update(self, writer: TableWriter, arbiter: UniqueConstraint) -> None:
        found = await self._find(arbiter)
        free = np.ones(self._proposed.num_rows, dtype=bool)
        free[found.rows] = False
        if self._repeats(arbiter, free).any() or _twice(found):
            raise CardinalityViolation(
                "ON CONFLICT DO UPDATE command cannot affect row a second time",
                hint="Ensure that no rows proposed for insertion within the same command have"
                " duplicate constrained values.",
            )
        inserted = self._proposed.filter(pa.array(free))
        applied = pa.array(found.applies)
        old, new = found.old.filter(applied), found.new.filter(applied)
        update = self._update
        assert update is not None
        new = await generated_anew(
            self._execution, new, self._plan.table, update.generated, self._rows.evaluator
        )
        checker = RowChecker(self._plan.table, update.checks, self._rows.evaluator)
        await check_rows(self._execution, checker, new)
        await writer.insert(inserted)
        if update.moves:
            await writer.move(old, new)
        else:
            await writer.update(old, new, update.groups)
        await self._keep_returned(inserted, np.flatnonzero(free), new, found.rows[found.applies])

    async def _keep_returned(
        self, inserted: pa.RecordBatch, first: Rows, updated: pa.RecordBatch, second: Rows
    ) -> None:
        """RETURNING, in the order of the new rows."""
        if self._plan.returning is None:
            return
        together = pa.Table.from_batches([inserted, updated.select(inserted.schema.names)])
        order = np.argsort(np.concatenate([first, second]), kind="stable")
        for batch in together.take(pa.array(order)).combine_chunks().to_batches():
            await self._rows.keep_returned(batch)

    # -- what is there

    async def _find(self, arbiter: UniqueConstraint) -> _Found:
        """The stored rows that the new ones conflict with by one constraint."""
        table, execution = self._plan.table, self._execution
        columns = table.visible_columns
        numbers = pa.array(range(self._proposed.num_rows), type=pa.int64())
        rows = pa.Table.from_batches([self._proposed]).append_column(ROW_NUMBER, numbers)
        types = (*(column.type for column in columns), INT8)
        with given(execution, EXCLUDED, rows, types) as current:
            plan = plan_conflict(
                self._statement,
                table,
                arbiter,
                current.context,
                parameters=execution.parameter_types,
                values=execution.values,
            )
            self._update = plan.update
            async with (
                self._without_gone(current, plan) as current,
                rows_of(current, plan.source) as run,
            ):
                batches = [batch async for batch in run.batches()]
        return _Found.of(plan, batches)

    @asynccontextmanager
    async def _without_gone(
        self, execution: Execution, plan: ConflictPlan
    ) -> AsyncIterator[Execution]:
        """The execution that finds no row which is gone; all else it reads at its snapshot."""
        if self._gone is None:
            yield execution
            return
        scans = (scan for stage in plan.source.stages for scan in stage.scans)
        relations = {s.relation for s in scans if s.table_id == self._plan.table.id}
        if len(relations) > 1:
            raise concurrent_update()  # it reads the table in a subquery, too
        timestamps = execution.services.timestamps
        timestamp, _ = await timestamps.snapshot()
        refreshed = (RefreshedRows.of(relations.pop(), timestamp, self._gone),)
        with timestamps.held(timestamp):
            yield dataclasses.replace(execution, refreshed=refreshed)


def _twice(found: _Found) -> bool:
    """Whether a stored row comes again after it was updated."""
    keys = list(zip(*(column.to_pylist() for column in found.old.columns), strict=True))
    updated: set[tuple[object, ...]] = set()
    for place in np.argsort(found.rows, kind="stable"):
        if keys[place] in updated:
            return True
        if found.applies[place]:
            updated.add(keys[place])
    return False
