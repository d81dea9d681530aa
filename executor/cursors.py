"""DECLARE, FETCH, MOVE and CLOSE over a query that stays open.

The query runs on as far as its exchange credit lets it and then waits for FETCH, at the
snapshot of DECLARE. Rows are numbered from 1; a cursor stands on one, or before the first (0), or
behind the last. It keeps the rows it has read, to go back over them: with SCROLL up to a bound
that is an error, with NO SCROLL not at all, and where neither was said up to a smaller bound,
past which it only goes forward. Cursors end with their transaction, unless declared WITH HOLD.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from cluster.errors import (
    DuplicateCursor,
    InvalidCursorName,
    ObjectNotInPrerequisiteState,
    ProgramLimitExceeded,
)
from executor.execution import Result
from executor.rows import one_batch
from planner.plan import ResultColumn
from planner.statements import Declare, Fetch, FetchDirection

SCROLL_BYTES_KEPT = 256 << 20
UNSAID_BYTES_KEPT = 8 << 20


@dataclass(slots=True)
class OpenCursor:
    """A cursor between its rows."""

    declared: Declare
    result: Result
    created: datetime
    batches: AsyncIterator[pa.RecordBatch]
    position: int = 0
    _kept: list[pa.RecordBatch] = field(default_factory=list)
    _dropped: int = 0  # rows in front of those kept
    _read: int = 0
    _ended: bool = False
    _forgetful: bool = False

    async def take(self, direction: FetchDirection, count: int | None) -> tuple[range, pa.Table]:
        """Moves, and gives the rows that are passed or reached, by number and as a table."""
        rows, position = await self._goal(direction, count)
        if (rows and min(rows) <= self._dropped) or position < self._dropped:
            raise ObjectNotInPrerequisiteState(
                "cursor can only scan forward",
                hint="Declare it with SCROLL option to enable backward scan.",
            )
        self.position = position
        table = self._rows(rows)
        if self.declared.scroll is None and self._bytes() > UNSAID_BYTES_KEPT:
            self._forgetful = True
        if self._forgetful or self.declared.scroll is False:
            self._forget_passed()
        return rows, table

    def _bytes(self) -> int:
        return sum(batch.nbytes for batch in self._kept)

    async def _goal(self, direction: FetchDirection, count: int | None) -> tuple[range, int]:
        """The rows wanted, and where the cursor then stands."""
        if direction in (FetchDirection.ABSOLUTE, FetchDirection.RELATIVE):
            return await self._single(direction, count or 0)
        backward = direction is FetchDirection.BACKWARD
        if count is not None and count < 0:
            backward, count = not backward, -count
        if count == 0:
            return await self._single(FetchDirection.RELATIVE, 0)
        if backward:
            first = 0 if count is None else max(self.position - count, 0)
            # Where fewer rows are left than wanted, the cursor ends before the first.
            return range(self.position - 1, max(first, 1) - 1, -1), first
        last = None if count is None else self.position + count
        await self._read_to(last)
        if last is None or last > self._read:
            return range(self.position + 1, self._read + 1), self._read + 1
        return range(self.position + 1, last + 1), last

    async def _single(self, direction: FetchDirection, count: int) -> tuple[range, int]:
        target = count if direction is FetchDirection.ABSOLUTE else self.position + count
        if direction is FetchDirection.ABSOLUTE and count < 0:
            await self._read_to(None)
            target = self._read + 1 + count
        target = max(target, 0)
        await self._read_to(target)
        target = min(target, self._read + 1)
        exists = 1 <= target <= self._read
        return range(target, target + 1) if exists else range(0), target

    async def _read_to(self, row: int | None) -> None:
        while not self._ended and (row is None or self._read < row):
            batch = await anext(self.batches, None)
            if batch is None:
                self._ended = True
                return
            self._kept.append(batch)
            self._read += batch.num_rows
            self._check_size()

    def _check_size(self) -> None:
        if self.declared.scroll and self._bytes() > SCROLL_BYTES_KEPT:
            raise ProgramLimitExceeded(
                f'cursor "{self.declared.name}" would keep more than {SCROLL_BYTES_KEPT} bytes',
                hint="Declare it with NO SCROLL.",
            )

    def _rows(self, rows: range) -> pa.Table:
        if not self._kept or not rows:
            return pa.table({})
        table = pa.Table.from_batches(self._kept)
        if rows.step == 1:
            return table.slice(rows.start - 1 - self._dropped, len(rows))
        return table.take(pa.array([row - 1 - self._dropped for row in rows], pa.int64()))

    def _forget_passed(self) -> None:
        passed = min(self.position, self._read) - self._dropped
        while self._kept and passed > 0:
            first = self._kept[0]
            gone = min(passed, first.num_rows)
            if gone == first.num_rows:
                self._kept.pop(0)
            else:
                self._kept[0] = first.slice(gone)
            passed -= gone
            self._dropped += gone


@dataclass(slots=True)
class Cursors:
    """A session's cursors by name."""

    _open: dict[str, OpenCursor] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self._open)

    def opened(self) -> tuple[OpenCursor, ...]:
        return tuple(self._open.values())

    def check_new(self, name: str) -> None:
        if name in self._open:
            raise DuplicateCursor(f'cursor "{name}" already exists')

    def declare(self, declared: Declare, result: Result, now: datetime) -> None:
        self.check_new(declared.name)
        self._open[declared.name] = OpenCursor(declared, result, now, result.batches())

    def columns(self, name: str) -> tuple[ResultColumn, ...]:
        columns = self._find(name).result.columns
        assert columns is not None
        return columns

    async def fetch(self, statement: Fetch) -> Result:
        """FETCH's answer, or MOVE's, which has no rows."""
        cursor = self._find(statement.cursor)
        rows, table = await cursor.take(statement.direction, statement.count)
        if statement.move:
            return Result(f"MOVE {len(rows)}")
        columns = self.columns(statement.cursor)
        if not rows:
            return Result("FETCH 0", columns)
        return Result(
            f"FETCH {len(rows)}", columns, one_batch(table.combine_chunks().to_batches()[0])
        )

    async def close(self, name: str) -> None:
        cursor = self._find(name)
        del self._open[name]
        await cursor.result.close()

    async def close_all(self, *, held: bool) -> None:
        """Closes all, or with `held` false those that end with their transaction."""
        ending = [n for n, cursor in self._open.items() if held or not cursor.declared.hold]
        for name in ending:
            await self.close(name)

    def _find(self, name: str) -> OpenCursor:
        if name not in self._open:
            raise InvalidCursorName(f'cursor "{name}" does not exist')
        return self._open[name]
