"""How many rows of which table a statement changed, told to the `LoadWatch` once it is done."""

from __future__ import annotations

from collections.abc import Callable

from executor.execution import CopyIn, Execution, Result
from planner.ddl_names import find_relation
from planner.statements import (
    CopyFrom,
    CreateTableAs,
    Delete,
    Insert,
    Merge,
    ObjectName,
    Statement,
    Truncate,
    Update,
)


def report_changes(execution: Execution, statement: Statement, result: Result) -> None:
    """Reports what the statement changed, at once, or when its COPY data has all come."""
    names = _changed_tables(statement)
    if not names:
        return

    def report(tag: str) -> None:
        rows = _rows_of(tag)
        for name in names:
            _report(execution, name, rows)

    if result.copy_in is not None:
        result.copy_in = _ReportedCopy(result.copy_in, report)
    else:
        report(result.tag)


def _changed_tables(statement: Statement) -> tuple[ObjectName, ...]:
    if isinstance(statement, Insert | Update | Delete | Merge | CopyFrom | CreateTableAs):
        return (statement.table,)
    return statement.tables if isinstance(statement, Truncate) else ()


def _rows_of(tag: str) -> int | None:
    """The number at the end of a command tag, None for a tag without one."""
    last = tag.split()[-1]
    return int(last) if last.isdigit() else None


def _report(execution: Execution, name: ObjectName, rows: int | None) -> None:
    catalog = execution.services.catalog.current
    known = find_relation(execution.context, name)
    if known is None:  # made by the statement itself
        known = catalog.find_table(name.name, name.schema)
    if known is None:
        return
    if rows is None:  # TRUNCATE: all there were
        statistics = catalog.statistics.get(known.id)
        rows = 0 if statistics is None else statistics.rows
    execution.coordinator.load_watch.changed(known.id, rows)


class _ReportedCopy:
    """COPY FROM STDIN that tells how many rows it loaded."""

    def __init__(self, copy: CopyIn, report: Callable[[str], None]) -> None:
        self._copy = copy
        self._report = report
        self.binary = copy.binary
        self.column_count = copy.column_count

    async def feed(self, data: bytes) -> None:
        await self._copy.feed(data)

    async def finish(self) -> str:
        tag = await self._copy.finish()
        self._report(tag)
        return tag

    async def fail(self, message: str) -> None:
        await self._copy.fail(message)
