"""Statements that change tables with foreign keys: each runs in a transaction, its session's or
one of its own, and ends by looking after the keys (`executor.foreign_keys`).

So does one that changes a table for which its transaction has defined a unique index: the tablets
do not know of it yet.

COPY FROM STDIN ends when its client has sent everything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from catalog.model import Table
from executor.ddl_keys import check_own_indexes, own_indexes
from executor.execution import CopyIn, Execution, Result
from executor.foreign_keys import keep_foreign_keys
from executor.session_transaction import SessionTransaction
from executor.write_settings import lock_deadline_s, max_bytes
from planner.ddl_names import find_relation
from planner.statements import (
    CopyFrom,
    Delete,
    Explain,
    Insert,
    Merge,
    ObjectName,
    Statement,
    Update,
)

Handler = Callable[..., Awaitable[Result]]
_CHANGING = (Insert, Update, Delete, Merge, CopyFrom)


def is_bound(execution: Execution, statement: Statement) -> bool:
    """Whether the statement changes rows that something besides their tablets looks after."""
    name = _changed(statement)
    if name is None:
        return False
    table = find_relation(execution.context, name)
    return isinstance(table, Table) and (table.is_bound or bool(own_indexes(execution, table)))


def _changed(statement: Statement) -> ObjectName | None:
    """The table whose rows it changes; EXPLAIN ANALYZE does what it explains."""
    if isinstance(statement, Explain):
        return _changed(statement.statement) if statement.analyze else None
    return statement.table if isinstance(statement, _CHANGING) else None


async def run_bound(handler: Handler, execution: Execution, statement: Statement) -> Result:
    """Runs such a statement, and what its foreign keys ask for."""
    name = _changed(statement)
    assert name is not None
    ending = _Ending(execution, name)
    async with ending:
        result = await handler(ending.execution, statement)
        if result.copy_in is None:
            await ending.finish()
        else:
            result.copy_in = _BoundCopy(result.copy_in, ending)
            close = result.on_close

            async def close_copy() -> None:
                await close()
                await ending.give_up()

            result.on_close = close_copy
    return result


class _Ending:
    """How such a statement ends; within the block what fails gives it up."""

    def __init__(self, execution: Execution, name: ObjectName) -> None:
        self._name = name
        self._own: SessionTransaction | None = None
        if execution.transaction is None:
            self._own = SessionTransaction(execution.services)
            settings = execution.context.settings
            self._own.lock_deadline_s = lock_deadline_s(settings)
            self._own.max_bytes = max_bytes(settings)
            self._own.begin_command()
            execution = dataclasses.replace(execution, transaction=self._own)
        self.execution = execution

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            await self.give_up()

    async def finish(self) -> None:
        """The statement's own changes are done."""
        await keep_foreign_keys(self.execution)
        table = find_relation(self.execution.context, self._name)
        if isinstance(table, Table):
            await check_own_indexes(self.execution, table)
        own, self._own = self._own, None
        if own is not None:
            await own.commit()

    async def give_up(self) -> None:
        """Nothing of it happened, unless it has ended; in a block that is the session's to do."""
        own, self._own = self._own, None
        if own is not None:
            await own.roll_back()


class _BoundCopy:
    """COPY FROM STDIN whose rows refer to others."""

    def __init__(self, copy: CopyIn, ending: _Ending) -> None:
        self._copy = copy
        self._ending = ending
        self.binary = copy.binary
        self.column_count = copy.column_count

    async def feed(self, data: bytes) -> None:
        async with self._ending:
            await self._copy.feed(data)

    async def finish(self) -> str:
        async with self._ending:
            tag = await self._copy.finish()
            await self._ending.finish()
            return tag

    async def fail(self, message: str) -> None:
        async with self._ending:
            await self._copy.fail(message)
