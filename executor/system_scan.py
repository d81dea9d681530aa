"""The rows of system tables, as a stage reads them."""

from __future__ import annotations

import pyarrow as pa

from catalog.system_tables import rows
from executor.services import ExecutorServices
from planner.plan import SystemScan


def system_rows(services: ExecutorServices, scan: SystemScan) -> pa.Table:
    """The table's rows now, with the scan's columns under the scan's names."""
    table = rows(services.catalog.current, scan.schema, scan.table)
    picked = table.select([column.store_name for column in scan.columns])
    return picked.rename_columns([column.name for column in scan.columns])
