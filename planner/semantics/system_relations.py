"""pg_catalog, information_schema and dqe as relations of a query."""

from __future__ import annotations

from functools import lru_cache

from catalog.system_tables import find_system_table
from planner.bound import SystemTable


@lru_cache(maxsize=1024)
def system_table(schema: str, name: str) -> SystemTable | None:
    """The system table of that name, or None."""
    found = find_system_table(schema, name)
    return None if found is None else SystemTable(found.schema, found.name, found.columns)
