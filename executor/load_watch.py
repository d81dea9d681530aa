"""Takes statistics again, in the background, when enough of a table's rows have changed.

The planner orders joins by what ANALYZE measured, so a table that was just loaded must not
wait for somebody to say ANALYZE. As in PostgreSQL's autovacuum the limit is a number of rows
and a part of the table; each node counts what was written through it.

Left out: changes counted over all nodes together.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from catalog.model import TableId
from cluster.errors import DqeError
from executor.analyze import analyze_table
from executor.services import ExecutorServices

if TYPE_CHECKING:
    from executor.coordinator import Coordinator

logger = logging.getLogger(__name__)

LEAST_ROWS = 500
CHANGED_FRACTION = 0.1


class LoadWatch:
    """The changes written through one node since each table was measured."""

    def __init__(self, services: ExecutorServices, coordinator: Coordinator) -> None:
        self._services = services
        self._coordinator = coordinator
        self._changed_rows: dict[TableId, int] = {}
        self._running: dict[TableId, asyncio.Task[None]] = {}

    def changed(self, table_id: TableId, rows: int) -> None:
        """So many rows of the table were inserted, updated or deleted."""
        total = self._changed_rows.get(table_id, 0) + rows
        self._changed_rows[table_id] = total
        known = self._services.catalog.current.statistics.get(table_id)
        known_rows = known.rows if known is not None else 0
        if total >= LEAST_ROWS + CHANGED_FRACTION * known_rows and table_id not in self._running:
            work = self._measure(table_id)
            self._running[table_id] = self._services.runtime.spawn(work, f"analyze {table_id}")

    async def settled(self) -> None:
        """Returns when nothing is being measured."""
        while self._running:
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _measure(self, table_id: TableId) -> None:
        try:
            self._changed_rows[table_id] = 0
            timestamp, version = await self._services.timestamps.snapshot()
            catalog = await self._services.catalog.wait_version(version)
            table = catalog.tables.get(table_id)
            if table is None:
                del self._changed_rows[table_id]
                return
            with self._services.timestamps.held(timestamp):
                await analyze_table(self._services, self._coordinator, table, timestamp)
        except DqeError as error:
            # A node down, a table dropped meanwhile: the next change asks again.
            logger.info("statistics of table %d were not taken: %s", table_id, error.message)
        finally:
            del self._running[table_id]
