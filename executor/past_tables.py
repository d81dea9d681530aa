"""Whether tables can be read at a timestamp: they lay then as they do now (rule S1)."""

from __future__ import annotations

from collections.abc import Iterable

from catalog.model import Catalog, TableId
from cluster.errors import SnapshotTooOld, UndefinedTable
from executor.past_times import shown_time
from storage.fragments import Timestamp


def check_tables(catalog: Catalog, tables: Iterable[TableId], timestamp: Timestamp) -> None:
    """Raises 42P01 or 72000 for a table that was not there then as it is now."""
    for table_id in tables:
        since = catalog.readable_from.get(table_id, 0)
        if timestamp >= since:
            continue
        table = catalog.tables[table_id]
        name, moment = f'"{table.name}"', shown_time(timestamp)
        if table.schema_version == 1:
            raise UndefinedTable(
                f"relation {name} did not exist at {moment}",
                detail=f"It was created at {shown_time(since)}.",
            )
        raise SnapshotTooOld(
            f"relation {name} cannot be read as of {moment}, it was rewritten later",
            detail=f"Its definition is from {shown_time(since)}.",
            hint="ALTER TABLE that adds or drops columns or cuts a table anew keeps no history.",
        )
