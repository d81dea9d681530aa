"""Defaults of columns that a row source does not give.

What is the same for all rows is computed once; what differs (random(), gen_random_uuid())
comes in blocks from a query that yields as many rows as it says.
"""

from __future__ import annotations

import pyarrow as pa

from catalog.model import ColumnId, Table
from executor.execution import Execution
from executor.writes_rows import conformed
from planner.write_plan import DefaultColumns


class DefaultValues:
    """One statement's."""

    def __init__(self, execution: Execution, table: Table, defaults: DefaultColumns | None) -> None:
        self._execution = execution
        self._table = table
        self._defaults = defaults
        self._block: pa.Table | None = None

    async def values(self, rows: int) -> dict[ColumnId, pa.Array]:
        """Arrays of so many values, by column."""
        defaults = self._defaults
        if defaults is None or not rows:
            return {}
        taken = await (self._next_rows(rows) if defaults.volatile else self._repeated(rows))
        return dict(zip(defaults.columns, taken, strict=True))

    async def _repeated(self, rows: int) -> list[pa.Array]:
        if self._block is None:
            self._block = await self._run()
        return [pa.repeat(column[0], rows) for column in self._block.columns]

    async def _next_rows(self, rows: int) -> list[pa.Array]:
        block = self._block
        while block is None or block.num_rows < rows:
            more = await self._run()
            block = more if block is None else pa.concat_tables([block, more])
        self._block = block.slice(rows)
        return [column.combine_chunks() for column in block.slice(0, rows).columns]

    async def _run(self) -> pa.Table:
        assert self._defaults is not None
        run = await self._execution.run(self._defaults.query)
        try:
            batches = [batch async for batch in run.batches()]
        finally:
            await run.close()
        columns = [self._table.column(c) for c in self._defaults.columns]
        arrays = [
            pa.chunked_array([conformed(batch.column(place), column) for batch in batches])
            for place, column in enumerate(columns)
        ]
        return pa.table(arrays, names=[f"d{place}" for place in range(len(columns))])
