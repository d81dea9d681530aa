"""COPY FROM under way: bytes come in, one transaction takes the rows, all or none.

    bytes -> blocks of rows (on a thread) -> WHERE -> defaults -> constraints -> `TableWriter`

Parsing of one block overlaps with sending the one before, because staging only queues; the
transaction bounds what is queued, and a feeder that is ahead waits. Any error ends the
transaction at once, and nothing of the COPY is ever seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import ColumnId
from cluster.errors import DqeError, QueryCanceled
from executor.copy_rows import BLOCK_BYTES, ReadBatch
from executor.execution import Execution
from executor.transaction_faces import Changes
from executor.writes import completed, has_unique
from executor.writes_defaults import DefaultValues, with_generated
from executor.writes_rows import RowChecker, RowEvaluator, true_rows
from executor.writes_stage import TableWriter
from planner.write_plan import CopyFromPlan


class RowReader(Protocol):
    """Bytes to rows of COPY's columns; both methods block."""

    def feed(self, data: bytes) -> Iterator[ReadBatch]: ...

    def finish(self) -> Iterator[ReadBatch]: ...


class CopyLoad:
    """The rows of one COPY on their way into its table."""

    def __init__(
        self,
        execution: Execution,
        plan: CopyFromPlan,
        opened: Changes,
        evaluator: RowEvaluator,
    ) -> None:
        self._execution = execution
        self._plan = plan
        self._transaction = opened
        self._evaluator = evaluator
        services = execution.services
        self._writer = TableWriter(services.runtime, plan.table, opened, services.ids)
        self._checker = RowChecker(plan.table, plan.checks, evaluator)
        self._defaults = DefaultValues(execution, plan.table, plan.defaults)

    async def take(self, batch: ReadBatch) -> None:
        """Stages a batch; raises its own error after those of its rows."""
        if batch.rows:
            await self._take_rows(batch)
        if batch.error is not None:
            raise batch.error

    async def _take_rows(self, batch: ReadBatch) -> None:
        given: dict[ColumnId, pa.Array] = dict(zip(self._plan.columns, batch.arrays, strict=True))
        given |= await self._defaults.values(batch.rows)
        rows = completed(self._plan.table, given, batch.rows)
        if self._plan.where is not None or self._checker.blocks or self._plan.generated:
            runtime = self._execution.services.runtime
            rows = await runtime.run_blocking(self._kept_and_checked, rows, batch)
        else:
            rows = self._kept_and_checked(rows, batch)
        if rows.num_rows:
            await self._writer.insert(rows)

    def _kept_and_checked(self, rows: pa.RecordBatch, batch: ReadBatch) -> pa.RecordBatch:
        places = None
        if self._plan.where is not None:
            mask = true_rows(self._evaluator.evaluate(rows, [self._plan.where])[0])
            places = pc.indices_nonzero(mask)
            rows = rows.filter(mask)
        rows = with_generated(rows, self._plan.table, self._plan.generated, self._evaluator)
        found = self._checker.violation(rows)
        if found is not None:
            row, error = found
            place = row if places is None else places[row].as_py()
            error.where = batch.where(self._plan.table.name, place)
            raise error
        return rows

    async def commit(self) -> str:
        """Makes the rows visible; the command tag."""
        await self._writer.finish()
        checks = has_unique(self._plan.table)
        await self._transaction.commit(self._execution.timestamp, checks=checks)
        return f"COPY {self._writer.rows}"

    async def abort(self, error: DqeError | None) -> None:
        """Nothing of it happened."""
        await self._transaction.abort(error)


class CopyInput:
    """COPY FROM STDIN (`executor.execution.CopyIn`)."""

    def __init__(
        self,
        execution: Execution,
        load: CopyLoad,
        reader: RowReader,
        stack: AsyncExitStack,
        *,
        binary: bool,
        column_count: int,
    ) -> None:
        self._runtime = execution.services.runtime
        self._load = load
        self._reader = reader
        self._stack = stack
        self._transaction_closed = False
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self.binary = binary
        self.column_count = column_count

    async def feed(self, data: bytes) -> None:
        """Takes bytes of the data; raises the first error in them."""
        self._pieces.append(data)
        self._size_bytes += len(data)
        if self._size_bytes >= BLOCK_BYTES:
            await self._work()

    async def _work(self) -> None:
        data = b"".join(self._pieces)
        self._pieces, self._size_bytes = [], 0
        try:
            for batch in await self._runtime.run_blocking(listed, self._reader, data):
                await self._load.take(batch)
        except BaseException as error:
            await self._end(error)
            raise

    async def finish(self) -> str:
        """The data is complete: loads it; the command tag."""
        await self._work()
        try:
            for batch in await self._runtime.run_blocking(listed, self._reader, None):
                await self._load.take(batch)
            tag = await self._load.commit()
        except BaseException as error:
            await self._end(error)
            raise
        await self._end(None)
        return tag

    async def fail(self, message: str) -> None:
        """The client gave up."""
        error = QueryCanceled(f"COPY from stdin failed: {message}")
        await self._end(error)
        raise error

    async def close(self) -> None:
        """The statement is over, finished or not."""
        await self._end(QueryCanceled("COPY was not finished"))

    async def _end(self, error: BaseException | None) -> None:
        """Ends the transaction once; with an error, without effect."""
        if self._transaction_closed:
            return
        self._transaction_closed = True
        if error is not None:
            reason = error if isinstance(error, DqeError) else None
            await self._load.abort(reason)
        await self._stack.aclose()


def listed(reader: RowReader, data: bytes | None) -> list[ReadBatch]:
    """The rows that the data (None: its end) completes, made on the caller's thread."""
    return list(reader.finish() if data is None else reader.feed(data))
