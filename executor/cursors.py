"""DECLARE, FETCH, MOVE and CLOSE: forward over a query that stays open.

The query runs on as far as its exchange credit lets it and then waits for FETCH, at the
snapshot of DECLARE. Cursors end with their transaction, unless declared WITH HOLD.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pyarrow as pa

from cluster.errors import DuplicateCursor, InvalidCursorName
from executor.execution import Result
from executor.rows import one_batch
from planner.plan import ResultColumn


@dataclass(slots=True)
class OpenCursor:
    """A cursor between its rows."""

    result: Result
    hold: bool
    batches: AsyncIterator[pa.RecordBatch]
    pending: pa.RecordBatch | None = None

    async def take(self, count: int | None) -> list[pa.RecordBatch]:
        """The next rows, `count` of them at most."""
        taken: list[pa.RecordBatch] = []
        wanted = count
        while wanted is None or wanted > 0:
            batch = self.pending if self.pending is not None else await anext(self.batches, None)
            self.pending = None
            if batch is None:
                break
            if wanted is not None and batch.num_rows > wanted:
                self.pending = batch.slice(wanted)
                batch = batch.slice(0, wanted)
            taken.append(batch)
            if wanted is not None:
                wanted -= batch.num_rows
        return taken


@dataclass(slots=True)
class Cursors:
    """A session's cursors by name."""

    _open: dict[str, OpenCursor] = field(default_factory=dict)

    def check_new(self, name: str) -> None:
        if name in self._open:
            raise DuplicateCursor(f'cursor "{name}" already exists')

    def declare(self, name: str, result: Result, *, hold: bool) -> None:
        self.check_new(name)
        self._open[name] = OpenCursor(result, hold, result.batches())

    def columns(self, name: str) -> tuple[ResultColumn, ...]:
        columns = self._find(name).result.columns
        assert columns is not None
        return columns

    async def fetch(self, name: str, count: int | None, *, move: bool) -> Result:
        """FETCH's answer, or MOVE's, which has no rows."""
        cursor = self._find(name)
        batches = await cursor.take(count)
        rows = sum(batch.num_rows for batch in batches)
        if move:
            return Result(f"MOVE {rows}")
        columns = self.columns(name)
        if not batches:
            return Result("FETCH 0", columns)
        table = pa.Table.from_batches(batches).combine_chunks()
        return Result(f"FETCH {rows}", columns, one_batch(table.to_batches()[0]))

    async def close(self, name: str) -> None:
        cursor = self._find(name)
        del self._open[name]
        await cursor.result.close()

    async def close_all(self, *, held: bool) -> None:
        """Closes all, or with `held` false those that end with their transaction."""
        for name in [n for n, cursor in self._open.items() if held or not cursor.hold]:
            await self.close(name)

    def _find(self, name: str) -> OpenCursor:
        if name not in self._open:
            raise InvalidCursorName(f'cursor "{name}" does not exist')
        return self._open[name]
