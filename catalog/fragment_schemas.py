"""What a tablet is to store, from the catalog: one `FragmentSchema` a fragment.

Store columns are named by column id (`c7`), so that renames touch no store; the user's names
go along for messages. Unique constraints, the primary key first, are checked in the anchor
group alone.
"""

from __future__ import annotations

from catalog.model import Catalog, ColumnGroup, ColumnId, Fragment, Table, TabletId
from storage.fragments import FragmentSchema, StoreColumn, StoreIndex, UniqueKey

ANCHOR_GROUP = 0


def store_name(column_id: ColumnId) -> str:
    """The name of a column in stores and in batches of rows for them."""
    return f"c{column_id}"


def fragment_schema(table: Table, fragment: Fragment) -> FragmentSchema:
    """How one fragment of the table is stored."""
    group = table.groups[fragment.group_id]
    return FragmentSchema(
        fragment.id,
        tuple(StoreColumn(store_name(c.id), c.type, c.name) for c in table.group_columns(group.id)),
        _store_names(table.key),
        _unique_keys(table, group),
        table.name,
        table.access_method,
        _indexes(table, group),
        table.schema_version,
    )


def _unique_keys(table: Table, group: ColumnGroup) -> tuple[UniqueKey, ...]:
    if group.id != ANCHOR_GROUP:
        return ()
    return tuple(UniqueKey(c.name, _store_names(c.columns)) for c in table.unique_keys)


def _indexes(table: Table, group: ColumnGroup) -> tuple[StoreIndex, ...]:
    return tuple(
        StoreIndex(index.name, _store_names(index.column_ids))
        for index in table.indexes
        if table.group_of(index) == group.id
    )


def _store_names(columns: tuple[ColumnId, ...]) -> tuple[str, ...]:
    return tuple(store_name(column_id) for column_id in columns)


def tablet_schemas(catalog: Catalog, tablet_id: TabletId) -> tuple[FragmentSchema, ...]:
    """All that the tablet holds, what transactions have only staged included, by fragment id.

    A fragment of several versions of a table is as the catalog has it.
    """
    staged = (table for each in catalog.staged.values() for table in each.tables)
    found = {
        fragment.id: fragment_schema(table, fragment)
        for table in (*staged, *catalog.recuts.values(), *catalog.tables.values())
        for part in table.parts
        for fragment in part.fragments
        if fragment.tablet_id == tablet_id
    }
    return tuple(found[fragment_id] for fragment_id in sorted(found))
