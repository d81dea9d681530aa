"""What ALTER TABLE does to columns and names.

The columns of a fragment never change. So adding or dropping one prepares the table as it will
be, with new fragments, among `Catalog.recuts`, and the executor copies the rows and finishes it
as any re-cut. Other changes show at once.
"""

from __future__ import annotations

from dataclasses import replace

from catalog import commands
from catalog.changes.draft import Draft
from catalog.changes.foreign_keys import dependence, keys_on_columns
from catalog.changes.indexes import without_column
from catalog.changes.schemas import dependent_views, refuse_dependents
from catalog.changes.scheme import with_new_fragments
from catalog.changes.sequences import with_sequences
from catalog.changes.tables import (
    DEFAULT_ACCESS_METHOD,
    MAX_COLUMNS,
    check_alterable_key,
    check_not_recut,
    new_column,
)
from catalog.model import TEMPORARY_SCHEMA_PREFIX, Column, ColumnGroup, Table, TableId
from cluster.errors import (
    DuplicateColumn,
    FeatureNotSupported,
    InvalidTableDefinition,
    ProgramLimitExceeded,
    UndefinedColumn,
    UndefinedObject,
    UndefinedTable,
)


def rename_table(draft: Draft, command: commands.RenameTable) -> TableId:
    """Renames a table or a view, or moves it to another schema."""
    found = draft.relation(command.schema, command.name)
    if found is None:
        raise UndefinedTable(f'relation "{command.name}" does not exist')
    if command.new_schema != command.schema and any(
        schema.startswith(TEMPORARY_SCHEMA_PREFIX)
        for schema in (command.schema, command.new_schema)
    ):
        raise FeatureNotSupported("cannot move objects into or out of temporary schemas")
    draft.check_writable_schema(command.new_schema)
    draft.check_name_free(command.new_schema, command.new_name)
    _refuse_renaming_under_views(draft, found.id, f'"{command.name}"')
    if isinstance(found, Table):
        check_not_recut(draft, found)
        renamed = replace(found, schema=command.new_schema, name=command.new_name)
        store(draft, renamed, stores_change=True)
    else:
        draft.views[found.id] = replace(found, schema=command.new_schema, name=command.new_name)
    return found.id


def rename_column(draft: Draft, command: commands.RenameColumn) -> TableId:
    table = table_to_alter(draft, command.table_id)
    column = column_to_alter(table, command.name)
    _check_new_name(table, command.new_name)
    _refuse_renaming_under_views(draft, table.id, f'column "{command.name}"')
    checks = table.checks
    if command.new_checks is not None:
        pairs = zip(table.checks, command.new_checks, strict=True)
        checks = tuple(replace(check, expression=text) for check, text in pairs)
    columns = _replaced(table, replace(column, name=command.new_name))
    store(draft, replace(table, columns=columns, checks=checks))
    return table.id


def add_column(draft: Draft, command: commands.AddColumn) -> TableId | None:
    """Prepares a column at the end; None when IF NOT EXISTS found one."""
    table = table_to_alter(draft, command.table_id)
    name = command.column.name
    if command.if_not_exists and table.column_named(name):
        draft.notices.append(f'column "{name}" of relation "{table.name}" already exists, skipping')
        return None
    _check_new_name(table, name)
    if len(table.columns) >= MAX_COLUMNS:
        raise ProgramLimitExceeded(f"tables can have at most {MAX_COLUMNS} columns")
    column = new_column(draft, command.column)
    chosen = _group_to_extend(table, command.group)
    groups = tuple(
        replace(group, columns=(*group.columns, column.id)) if group is chosen else group
        for group in table.groups
    )
    grown = replace(table, columns=(*table.columns, column), groups=groups)
    grown = with_sequences(draft, grown, [command.column])
    draft.recuts[table.id] = with_new_fragments(draft, grown)
    return table.id


def _group_to_extend(table: Table, name: str | None) -> ColumnGroup:
    for group in table.groups:
        if name in (None, group.name):
            return group
    raise UndefinedObject(f'column group "{name}" of relation "{table.name}" does not exist')


def drop_column(draft: Draft, command: commands.DropColumn) -> TableId | None:
    """Prepares the table without a column and the constraints that name it; None when IF
    EXISTS found none."""
    table = table_to_alter(draft, command.table_id)
    if command.if_exists and table.column_named(command.name) is None:
        draft.notices.append(
            f'column "{command.name}" of relation "{table.name}" does not exist, skipping'
        )
        return None
    column = column_to_alter(table, command.name)
    check_alterable_key(table, column)
    views = dependent_views(draft, [table.id])
    if views:
        refuse_dependents(draft, [("column", f"{column.name} of table {table.name}")], views)
    keys = keys_on_columns(draft, table, [column.id])
    what = f"column {column.name} of table {table.name}"
    lines = [dependence(owner, key, what) for owner, key in keys if column.id in key.target_columns]
    if lines:
        refuse_dependents(draft, [("column", f"{column.name} of table {table.name}")], [], lines)
    lost = [key for owner, key in keys if owner.id == table.id]
    groups = tuple(
        replace(group, columns=tuple(c for c in group.columns if c != column.id))
        for group in table.groups
    )
    shrunk = replace(
        table,
        columns=tuple(c for c in table.columns if c.id != column.id),
        groups=groups,
        unique=tuple(u for u in table.unique if column.id not in u.columns),
        checks=tuple(c for c in table.checks if c.name not in command.drop_checks),
        foreign_keys=tuple(key for key in table.foreign_keys if key not in lost),
        indexes=without_column(table, column.id),
    )
    draft.recuts[table.id] = with_new_fragments(draft, shrunk)
    return table.id


def set_column_default(draft: Draft, command: commands.SetColumnDefault) -> TableId:
    table = table_to_alter(draft, command.table_id)
    column = replace(column_to_alter(table, command.name), default=command.default)
    store(draft, replace(table, columns=_replaced(table, column)))
    return table.id


def set_column_not_null(draft: Draft, command: commands.SetColumnNotNull) -> TableId:
    table = table_to_alter(draft, command.table_id)
    column = column_to_alter(table, command.name)
    key = table.primary_key.columns if table.primary_key is not None else ()
    if column.id in key and not command.not_null:
        raise InvalidTableDefinition(f'column "{column.name}" is in a primary key')
    changed = replace(column, not_null=command.not_null)
    store(draft, replace(table, columns=_replaced(table, changed)))
    return table.id


def set_access_method(draft: Draft, command: commands.SetAccessMethod) -> TableId | None:
    """None where the table has that method already."""
    table = table_to_alter(draft, command.table_id)
    method = command.method or DEFAULT_ACCESS_METHOD
    if table.access_method is method:
        return None
    store(draft, replace(table, access_method=method), stores_change=True)
    return table.id


def table_to_alter(draft: Draft, table_id: TableId) -> Table:
    """The table; 42P01 and 55000 where it cannot be changed."""
    table = draft.table(table_id)
    check_not_recut(draft, table)
    return table


def column_to_alter(table: Table, name: str) -> Column:
    """The column of that name; 42703 without one."""
    column = table.column_named(name)
    if column is None:
        raise UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')
    return column


def _check_new_name(table: Table, name: str) -> None:
    if table.column_named(name) is not None:
        raise DuplicateColumn(f'column "{name}" of relation "{table.name}" already exists')


def _replaced(table: Table, column: Column) -> tuple[Column, ...]:
    return tuple(column if c.id == column.id else c for c in table.columns)


def _refuse_renaming_under_views(draft: Draft, table_id: TableId, what: str) -> None:
    views = dependent_views(draft, [table_id])
    if views:
        raise FeatureNotSupported(
            f"cannot rename {what} because views read it",
            detail="\n".join(f"view {view.name} reads it" for view in views),
            hint="Drop the views and create them again over the new name.",
        )


def store(draft: Draft, table: Table, *, stores_change: bool = False) -> None:
    """The table as it is from now on, in its next version."""
    draft.tables[table.id] = replace(table, schema_version=table.schema_version + 1)
    if stores_change:
        draft.touch_tablets(table)
