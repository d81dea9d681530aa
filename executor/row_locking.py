"""Rows that a statement changes or locks: read at its snapshot, locked, and read again if they
were changed meanwhile (rules I1 to I3).

    row source at S -> batches -> locks at the leaders -> rows nobody changed since go on
                                                      \\-> rows others changed after S:
        READ COMMITTED   their newest versions, if they still match, by the same plan over only
                         these rows of the table, at a snapshot taken under the locks; what it
                         joins them with is still read at S
        REPEATABLE READ  40001

As in PostgreSQL (EvalPlanQual), a row that does not match any more is left alone, and a row
that matches only now is not looked for. Where the plan reads the table more than once, it cannot
be told which of its readings means the row that is changed: then all of it is read anew, and of
the result the rows that were locked are kept.

Left out: a row that moved to another part meanwhile counts as deleted, where PostgreSQL raises
40001.
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
from cluster.errors import SerializationFailure
from executor.execution import Execution
from executor.messages import RefreshedRows
from executor.transaction_faces import Changes
from executor.writes_rows import conformed
from executor.writes_stage import fragment_of
from planner.plan import QueryPlan
from storage.fragments import FragmentId
from storage.lock_driver import WAIT
from storage.locks import LockMode

Places = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class LockedRows:
    """Which rows of `table` a plan yields: its columns from place `at` on are `identity`, the
    key and what routes a row. They are locked in `mode`."""

    table: Table
    identity: tuple[ColumnId, ...]
    mode: LockMode
    policy: str = WAIT
    at: int = 0


class RowLocker:
    """Locks the rows of one statement as they come."""

    def __init__(
        self,
        execution: Execution,
        opened: Changes,
        plan: QueryPlan,
        rows: LockedRows,
        *,
        newest: bool = False,
    ) -> None:
        """`newest`: rows are taken as they are now, whatever snapshot the transaction keeps, and
        what is concluded from them is to hold when it commits."""
        self._execution = execution
        self._opened = opened
        self._plan = plan
        self._rows = rows
        transaction = execution.transaction
        self._keeps_snapshot = transaction is not None and transaction.keeps_snapshot and not newest
        # Foreign keys rely on these locks: on those of rows that others may refer to, too.
        self._binding = newest or bool(
            rows.table.referenced_by and rows.mode is LockMode.FOR_UPDATE
        )
        # Keys of rows to be read again, by the fragment of the anchor group.
        self._changed: dict[FragmentId, list[pa.RecordBatch]] = {}

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """The plan's rows, locked, each in its newest version."""
        async with _running(self._execution, self._plan) as batches:
            async for batch in batches:
                kept = await self.lock(batch)
                if kept.num_rows:
                    yield kept
        async for batch in self.again():
            yield batch

    async def lock(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Locks the batch's rows; those that may go on at once. The others come `again`."""
        if not batch.num_rows:
            return batch
        goes_on = np.ones(batch.num_rows, dtype=bool)
        for ordinal, places in self._by_part(batch):
            fragment = fragment_of(self._rows.table.parts[ordinal], ANCHOR_GROUP)
            keys = self._keys(batch).take(pa.array(places))
            locked = await self._opened.lock_rows(
                fragment.tablet_id,
                fragment.id,
                keys,
                self._rows.mode,
                self._execution.timestamp,
                self._rows.policy,
                binding=self._binding,
            )
            if locked.changed and self._keeps_snapshot:
                raise SerializationFailure("could not serialize access due to concurrent update")
            if locked.changed:
                again = keys.take(pa.array(locked.changed))
                self._changed.setdefault(fragment.id, []).append(again)
            goes_on[places[[*locked.changed, *locked.skipped]]] = False
        return batch if goes_on.all() else batch.filter(pa.array(goes_on))

    def _by_part(self, batch: pa.RecordBatch) -> list[tuple[int, Places]]:
        table = self._rows.table
        columns = [self._column(batch, c) for c in table.partition_columns]
        ordinals = route(table, columns, batch.num_rows)
        found = [(int(o), np.flatnonzero(ordinals == o)) for o in np.unique(ordinals)]
        # In the order of tablets, so that statements meet each other in one order.
        return sorted(
            found, key=lambda item: fragment_of(table.parts[item[0]], ANCHOR_GROUP).tablet_id
        )

    def _keys(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        key = self._rows.table.key
        return pa.RecordBatch.from_arrays(
            [self._column(batch, c) for c in key], names=[store_name(c) for c in key]
        )

    def _column(self, batch: pa.RecordBatch, column_id: ColumnId) -> pa.Array:
        place = self._rows.at + self._rows.identity.index(column_id)
        return conformed(batch.column(place), self._rows.table.column(column_id))

    async def again(self) -> AsyncIterator[pa.RecordBatch]:
        """The newest versions, where they still match, of locked rows that others changed."""
        if not self._changed:
            return
        timestamp, _ = await self._execution.services.timestamps.snapshot()
        keys = {f: pa.Table.from_batches(batches) for f, batches in self._changed.items()}
        self._changed = {}
        if self._readings() == 1:
            refreshed = RefreshedRows.of(self._rows.table.id, timestamp, keys)
            execution = dataclasses.replace(self._execution, refreshed=refreshed)
        else:
            execution = dataclasses.replace(self._execution, timestamp=timestamp)
        wanted = frozenset(key for table in keys.values() for key in _tuples(table))
        with self._execution.services.timestamps.held(timestamp):
            async with _running(execution, self._plan) as batches:
                async for batch in batches:
                    mine = [key in wanted for key in _tuples(self._keys(batch))]
                    yield batch.filter(pa.array(mine, pa.bool_()))

    def _readings(self) -> int:
        """How often the plan reads the table."""
        return sum(
            scan.table_id == self._rows.table.id
            for stage in self._plan.stages
            for scan in stage.scans
        )


def _tuples(rows: pa.RecordBatch | pa.Table) -> Sequence[tuple[object, ...]]:
    columns = [column.cast(pa.string()).to_pylist() for column in rows.columns]
    return list(zip(*columns, strict=True))


@asynccontextmanager
async def _running(
    execution: Execution, plan: QueryPlan
) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
    run = await execution.run(plan)
    try:
        yield run.batches()
    finally:
        await run.close()
