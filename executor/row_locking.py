"""Rows that a statement changes or locks: read at its snapshot, locked, and read again if they
were changed meanwhile (rules I1 to I3).

    row source at S -> batches -> locks at the leaders -> rows nobody changed since go on
                                                      \\-> rows others changed after S:
        READ COMMITTED   their newest versions, if they still match, by the same plan over only
                         these rows of the relation, at a snapshot taken under the locks; what it
                         joins them with is still read at S
        REPEATABLE READ  40001

A row that has gone to another part meanwhile is 40001 as in PostgreSQL, and so is one that has got
another key in its part, which PostgreSQL follows there.

As in PostgreSQL (EvalPlanQual), a row that does not match any more is left alone, and a row
that matches only now is not looked for. A table that is read at other places of the statement, in
a subquery or joined with itself, is read there at S.

A row of a join may be made of locked rows of several relations. All of them are locked, one
relation after the other, and if any was changed the row is looked at again as made of the newest
versions of the same ones: of what the plan then yields, rows made of others are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.bounds import route
from catalog.fragment_schemas import ANCHOR_GROUP, store_name
from catalog.model import ColumnId, Table
from executor.execution import Execution
from executor.messages import RefreshedRows
from executor.transaction_faces import Changes
from executor.writes_rows import conformed
from executor.writes_stage import fragment_of
from planner.plan import QueryPlan
from storage.conflicts import concurrent_delete, concurrent_update, moved_to_another_part
from storage.lock_driver import WAIT, Fate
from storage.locks import LockMode

Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class LockedRows:
    """Which rows of `table` a plan yields: its columns from place `at` on are `identity`, the
    key and what routes a row. Scans call it `relation`. They are locked in `mode`, or with None
    only told."""

    table: Table
    relation: str
    identity: tuple[ColumnId, ...]
    mode: LockMode | None
    policy: str = WAIT
    at: int = 0

    def column(self, batch: pa.RecordBatch, column_id: ColumnId) -> pa.Array:
        """A column of the identity."""
        place = self.at + self.identity.index(column_id)
        return conformed(batch.column(place), self.table.column(column_id))

    def keys(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows' keys, by the names that stores have for their columns."""
        key = self.table.key
        return pa.RecordBatch.from_arrays(
            [self.column(batch, c) for c in key], names=[store_name(c) for c in key]
        )

    def by_part(self, batch: pa.RecordBatch) -> list[tuple[int, Places]]:
        """The places of the rows of each part, in the order of tablets, so that statements meet
        each other in one order."""
        table = self.table
        columns = [self.column(batch, c) for c in table.partition_columns]
        ordinals = route(table, columns, batch.num_rows)
        found = [(int(o), np.flatnonzero(ordinals == o)) for o in np.unique(ordinals)]
        return sorted(
            found, key=lambda item: fragment_of(table.parts[item[0]], ANCHOR_GROUP).tablet_id
        )


class RowLocker:
    """Locks the rows of one statement as they come."""

    def __init__(
        self,
        execution: Execution,
        opened: Changes,
        plan: QueryPlan,
        rows: LockedRows | Sequence[LockedRows],
        *,
        newest: bool = False,
        only_locks: bool = False,
    ) -> None:
        """`newest`: rows are taken as they are now, whatever snapshot the transaction keeps, and
        what is concluded from them is to hold when it commits. `only_locks`: nothing is to become
        of the rows, which errors tell."""
        self._execution = execution
        self._opened = opened
        self._plan = plan
        self._rows = (rows,) if isinstance(rows, LockedRows) else tuple(rows)
        transaction = execution.transaction
        self._keeps_snapshot = transaction is not None and transaction.keeps_snapshot and not newest
        self._newest = newest
        self._only_locks = only_locks
        # Rows of the plan that are to be made again, of the newest versions.
        self._changed: list[pa.RecordBatch] = []

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """The plan's rows, locked, each in its newest version."""
        async with _running(self._execution, self._plan) as batches:
            async for batch in batches:
                kept = only(batch, await self.lock(batch))
                if kept.num_rows:
                    yield kept
        async for batch in self.again():
            yield batch

    async def lock(self, batch: pa.RecordBatch) -> Mask:
        """Locks what the batch's rows are made of; which of them may go on at once. Those that
        others changed come `again`."""
        alive, changed = np.ones(batch.num_rows, dtype=bool), np.zeros(batch.num_rows, dtype=bool)
        for rows in self._rows:
            if rows.mode is not None:
                await self._lock(rows, batch, alive, changed)
        changed &= alive
        if changed.any():
            self._changed.append(only(batch, changed))
        return alive & ~changed

    async def _lock(
        self, rows: LockedRows, batch: pa.RecordBatch, alive: Mask, changed: Mask
    ) -> None:
        """Locks one relation's rows, and marks which others hold or have changed."""
        assert rows.mode is not None
        still = np.flatnonzero(alive)
        if not len(still):
            return
        batch = batch if len(still) == len(alive) else batch.take(pa.array(still))
        keys = rows.keys(batch)
        for ordinal, places in rows.by_part(batch):
            fragment = fragment_of(rows.table.parts[ordinal], ANCHOR_GROUP)
            locked = await self._opened.lock_rows(
                fragment.tablet_id,
                fragment.id,
                keys.take(pa.array(places)),
                rows.mode,
                self._execution.timestamp,
                rows.policy,
                binding=self._is_binding(rows),
            )
            self._refuse(locked.fates)
            changed[still[places[list(locked.changed)]]] = True
            alive[still[places[list(locked.skipped)]]] = False

    def _refuse(self, fates: Sequence[Fate]) -> None:
        """40001 where rows with such fates cannot be looked at again."""
        if Fate.MOVED_PART in fates and not self._keeps_snapshot:
            raise moved_to_another_part()
        if fates and self._keeps_snapshot:
            is_deleted = fates[0] is Fate.DELETED and not self._only_locks
            raise concurrent_delete() if is_deleted else concurrent_update()
        if Fate.MOVED_KEY in fates:
            raise concurrent_update()

    def take_changed(self) -> list[pa.RecordBatch]:
        """Rows as the plan gave them that others have changed, for a caller who looks at them
        again by itself."""
        changed, self._changed = self._changed, []
        return changed

    def _is_binding(self, rows: LockedRows) -> bool:
        """Foreign keys rely on these locks: on those of rows that others may refer to, too."""
        return self._newest or bool(rows.table.referenced_by and rows.mode is LockMode.FOR_UPDATE)

    async def again(self) -> AsyncIterator[pa.RecordBatch]:
        """The newest versions, where they still match, of locked rows that others changed."""
        if not self._changed:
            return
        timestamp, _ = await self._execution.services.timestamps.snapshot()
        changed, self._changed = pa.Table.from_batches(self._changed), []
        (batch,) = changed.combine_chunks().to_batches()
        refreshed = tuple(
            RefreshedRows.of(rows.relation, timestamp, pa.Table.from_batches([rows.keys(batch)]))
            for rows in self._rows
            if rows.mode is not None
        )
        execution = dataclasses.replace(self._execution, refreshed=refreshed)
        wanted = frozenset(self.made_of(batch))
        with self._execution.services.timestamps.held(timestamp):
            async with _running(execution, self._plan) as batches:
                async for found in batches:
                    mine = [row in wanted for row in self.made_of(found)]
                    yield found.filter(pa.array(mine, pa.bool_()))

    def made_of(self, batch: pa.RecordBatch) -> list[tuple[object, ...]]:
        """The keys of the rows that each row is made of."""
        keys = [column for rows in self._rows for column in rows.keys(batch).columns]
        return list(zip(*(column.cast(pa.string()).to_pylist() for column in keys), strict=True))


def relation_of(plan: QueryPlan, table: Table) -> str:
    """What scans call the table, at the one place where the plan reads it."""
    scans = (scan for stage in plan.stages for scan in stage.scans)
    names = {scan.relation for scan in scans if scan.table_id == table.id}
    assert len(names) <= 1, names
    return names.pop() if names else ""


def only(batch: pa.RecordBatch, mask: Mask) -> pa.RecordBatch:
    """The batch's rows at which the mask is true."""
    return batch if mask.all() else batch.filter(pa.array(mask))


@asynccontextmanager
async def _running(
    execution: Execution, plan: QueryPlan
) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
    run = await execution.run(plan)
    try:
        yield run.batches()
    finally:
        await run.close()
