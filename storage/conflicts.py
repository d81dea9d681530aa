"""Whether rows that a transaction changes were changed by others after its snapshot (rule I3).

A row that is deleted or updated was read at the snapshot. If the current table has it no more,
or has it with a later beginning, another transaction has changed it since. Rows that the
transaction itself made are no concern, nor is anything behind a TRUNCATE of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from cluster.errors import RowMoved, SerializationFailure
from storage.columnar import ColumnarStore
from storage.columnar_apply import BEGIN, FragmentTables, Segment, registered
from storage.duckdb_node import quote_name
from storage.fragments import FragmentChange, FragmentId, Timestamp


def changed_after(
    cursor: duckdb.DuckDBPyConnection,
    store: ColumnarStore,
    changes: Sequence[FragmentChange],
    base: Timestamp,
) -> bool:
    """Whether any row deleted or updated by these changes, one transaction's in their order,
    has a committed change after `base`. Blocks; the store is up to date."""
    fragments: dict[FragmentId, list[FragmentChange]] = {}
    for change in changes:
        fragments.setdefault(change.fragment_id, []).append(change)
    return any(
        store.recency(fragment_id) > base and _changed(cursor, store.tables(fragment_id), own, base)
        for fragment_id, own in fragments.items()
        if fragment_id in store.fragments
    )


def _changed(
    cursor: duckdb.DuckDBPyConnection,
    tables: FragmentTables,
    changes: Sequence[FragmentChange],
    base: Timestamp,
) -> bool:
    segment = Segment(tables.schema)
    for position, change in enumerate(changes):
        if change.truncate:
            break
        segment.add(change, position)
    if not segment.deletes:
        return False
    keys = [quote_name(name) for name in tables.schema.key]
    listed = ", ".join(keys)
    found = f"SELECT {listed}, min(sequence) AS first FROM"
    met = f"({found} deleted_keys GROUP BY ALL)"
    with registered(cursor, "deleted_keys", segment.deletes.table(numbered=True)):
        if not segment.inserts:
            return _any_newer(cursor, tables, met, keys, base)
        made = f"({found} made_rows GROUP BY ALL)"
        same = " AND ".join(f"d.{key} = m.{key}" for key in keys)
        met = f"(SELECT d.* FROM {met} d ANTI JOIN {made} m ON {same} AND m.first < d.first)"
        with registered(cursor, "made_rows", segment.inserts.table(numbered=True)):
            return _any_newer(cursor, tables, met, keys, base)


def _any_newer(
    cursor: duckdb.DuckDBPyConnection,
    tables: FragmentTables,
    met: str,
    keys: Sequence[str],
    base: Timestamp,
) -> bool:
    same = " AND ".join(f"d.{key} = f.{key}" for key in keys)
    found = cursor.execute(
        f"SELECT 1 FROM {met} d LEFT JOIN {tables.current} f ON {same}"
        f" WHERE f.{BEGIN} IS NULL OR f.{BEGIN} > {base} LIMIT 1"
    ).fetchall()
    return bool(found)


def read_write_conflict() -> SerializationFailure:
    """The error of a SERIALIZABLE transaction whose reads do not stand, as PostgreSQL's."""
    return SerializationFailure(
        "could not serialize access due to read/write dependencies among transactions",
        hint="The transaction might succeed if retried.",
    )


def concurrent_update() -> SerializationFailure:
    """The error as PostgreSQL words it."""
    return SerializationFailure("could not serialize access due to concurrent update")


def concurrent_delete() -> SerializationFailure:
    """The same where the row is gone."""
    return SerializationFailure("could not serialize access due to concurrent delete")


def moved_to_another_part() -> RowMoved:
    """The same where the row has gone to another part, and with it its newest version."""
    return RowMoved(
        "tuple to be locked was already moved to another partition due to concurrent update"
    )
