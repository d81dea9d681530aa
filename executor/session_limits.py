"""What can stop a session's statement: its time limit and a cancel request.

A statement has a `Limit` from its start until its rows are read. Whatever of it is awaited is
awaited within `StatementLimits.within`, where the end of its time or `cancel` raises 57014.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from cluster.errors import DqeError, QueryCanceled
from cluster.runtime import Runtime
from executor.setting_kinds import milliseconds_of
from executor.settings import SessionSettings

T = TypeVar("T")


@dataclass(slots=True)
class Limit:
    """What can stop one statement, from its start until its rows are read."""

    deadline_s: float | None = None
    cancelled: bool = False
    done: bool = False
    scope: asyncio.Timeout | None = None


class StatementLimits:
    """One session's; `current` is of the statement under way, or of the last one."""

    def __init__(self, runtime: Runtime, settings: SessionSettings) -> None:
        self._runtime = runtime
        self._settings = settings
        self.current = Limit(done=True)

    def new(self) -> Limit:
        """For a statement that begins now."""
        timeout_ms = milliseconds_of(self._settings["statement_timeout"])
        return Limit(self._runtime.monotonic() + timeout_ms / 1000 if timeout_ms else None)

    def remaining_s(self, limit: Limit | None = None) -> float | None:
        """How long the statement may still take, the one under way if none is named; None
        without a limit."""
        limit = limit or self.current
        if limit.deadline_s is None:
            return None
        return max(0.0, limit.deadline_s - self._runtime.monotonic())

    def cancel(self) -> None:
        """Stops the statement under way, if there is one; it raises 57014."""
        limit = self.current
        if limit.done:
            return
        limit.cancelled = True
        if limit.scope is not None and not limit.scope.expired():
            limit.scope.reschedule(0.0)

    async def within(self, limit: Limit, work: Callable[[], Awaitable[T]]) -> T:
        """Runs a part of a statement under its time limit, within reach of `cancel`."""
        self.current = limit
        if limit.cancelled:
            raise _stopped(limit)
        limit.scope = asyncio.timeout(self.remaining_s(limit))
        try:
            async with limit.scope:
                return await work()
        except TimeoutError:
            if not limit.scope.expired():
                raise
            raise _stopped(limit) from None
        finally:
            limit.scope = None

    async def rows(
        self, limit: Limit, rows: AsyncIterator[pa.RecordBatch], failed: Callable[[], None]
    ) -> AsyncIterator[pa.RecordBatch]:
        """The rows of a statement's answer, the same way; `failed` is called for an error."""

        async def next_batch() -> pa.RecordBatch | None:
            return await anext(rows, None)

        try:
            while (batch := await self.within(limit, next_batch)) is not None:
                yield batch
        except DqeError:
            failed()
            raise
        finally:
            limit.done = True


def _stopped(limit: Limit) -> QueryCanceled:
    why = "user request" if limit.cancelled else "statement timeout"
    return QueryCanceled(f"canceling statement due to {why}")
