"""Secondary indexes: made, made ready, renamed and dropped.

An index is part of what a tablet stores: each replica makes it from its own rows where the
tablet's log says so, and keeps it from there on. So no writer has to know of it. A unique index
is checked by the tablets' leaders from that point on, too; rows from before are looked through
by the executor, which then says that it is ready, or drops it.

A unique index holds the partition columns and lies in the first column group, as every
constraint does that one leader checks by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from catalog import commands
from catalog.changes.draft import Draft
from catalog.changes.foreign_keys import (
    dependence,
    drop_with_notice,
    foreign_keys_of,
    unique_column_sets,
)
from catalog.definition import IndexDefinition
from catalog.model import ColumnId, ForeignKey, Index, IndexColumn, Table, TableId
from cluster.errors import (
    DependentObjectsStillExist,
    DuplicateColumn,
    FeatureNotSupported,
    ObjectNotInPrerequisiteState,
    UndefinedColumn,
    UndefinedObject,
    UndefinedTable,
    WrongObjectType,
)

ANCHOR_GROUP = 0


def create_index(draft: Draft, command: commands.CreateIndex) -> TableId | None:
    """Adds the index; None when IF NOT EXISTS found a relation of its name."""
    table = draft.table(command.table_id)
    if table.id in draft.recuts:
        raise ObjectNotInPrerequisiteState(f'table "{table.name}" is being cut anew')
    definition = command.definition
    name = definition.name or _free_name(draft, table, definition)
    if command.if_not_exists and draft.is_taken(table.schema, name):
        draft.notices.append(f'relation "{name}" already exists, skipping')
        return None
    draft.check_name_free(table.schema, name)
    index = Index(
        TableId(draft.new_id()),
        name,
        _columns(table, definition),
        definition.unique,
        ready=not definition.unique,
    )
    _check_placed(table, index)
    _store(draft, table, (*table.indexes, index))
    return index.id


def _free_name(draft: Draft, table: Table, definition: IndexDefinition) -> str:
    """As PostgreSQL's: t_a_b_idx, numbered when taken."""
    stem = "_".join([table.name, *(column.name for column in definition.columns), "idx"])
    name, number = stem, 0
    while draft.is_taken(table.schema, name):
        number += 1
        name = f"{stem}{number}"
    return name


def _columns(table: Table, definition: IndexDefinition) -> tuple[IndexColumn, ...]:
    found: list[IndexColumn] = []
    for each in definition.columns:
        column = table.column_named(each.name)
        if column is None:
            raise UndefinedColumn(f'column "{each.name}" does not exist')
        if any(other.column == column.id for other in found):
            raise DuplicateColumn(
                f'column "{each.name}" appears twice in an index',
                hint="An index that holds a column once finds the same rows.",
            )
        found.append(IndexColumn(column.id, each.descending, each.nulls_first))
    return tuple(found)


def _check_placed(table: Table, index: Index) -> None:
    """Refuses what no single leader could check, or no single fragment keep."""
    if index.unique:
        for column_id in table.partition_columns:
            if column_id not in index.column_ids:
                column = table.column(column_id).name
                raise FeatureNotSupported(
                    "unique constraint on partitioned table must include all partitioning columns",
                    detail=f'UNIQUE index on table "{table.name}" lacks column "{column}" which is'
                    " part of the partition key.",
                    hint=f'Add column "{column}" to the index, or partition by columns of it.',
                    table=table.name,
                    constraint=index.name,
                )
    own = set(index.column_ids) - set(table.key)
    if index.unique and not own <= set(table.groups[ANCHOR_GROUP].columns):
        raise FeatureNotSupported(
            f'columns of unique index "{index.name}" must be in the first column group',
            hint=f'Move them to column group "{table.groups[ANCHOR_GROUP].name}".',
        )
    if table.group_of(index) is None:
        raise FeatureNotSupported(
            f'columns of index "{index.name}" lie in several column groups',
            hint="Make an index for the columns of each group.",
        )


def finish_index(draft: Draft, command: commands.FinishIndex) -> bool:
    """No row contradicts the unique index."""
    table = draft.table(command.table_id)
    if all(index.id != command.index_id for index in table.indexes):
        raise UndefinedObject("the index was dropped while it was built")
    indexes = tuple(
        replace(index, ready=True) if index.id == command.index_id else index
        for index in table.indexes
    )
    _store(draft, table, indexes, stores_change=False)
    return True


def rename_index(draft: Draft, command: commands.RenameIndex) -> bool:
    """ALTER INDEX ... RENAME; that of a constraint takes the constraint's name along."""
    table, index = find_index(draft, command.schema, command.name)
    draft.check_name_free(command.schema, command.new_name)
    if index is not None:
        renamed = replace(index, name=command.new_name)
        indexes = tuple(renamed if each.id == index.id else each for each in table.indexes)
        _store(draft, table, indexes)
        return True
    key = table.primary_key
    if key is not None and key.name == command.name:
        table = replace(table, primary_key=replace(key, name=command.new_name))
    unique = tuple(
        replace(each, name=command.new_name) if each.name == command.name else each
        for each in table.unique
    )
    _store(draft, replace(table, unique=unique), table.indexes)
    return True


def find_index(draft: Draft, schema: str, name: str) -> tuple[Table, Index | None]:
    """The index of that name with its table, None for one that is a constraint's."""
    for table in draft.tables.values():
        if table.schema != schema:
            continue
        for index in table.indexes:
            if index.name == name:
                return table, index
        for constraint in (table.primary_key, *table.unique):
            if constraint is not None and constraint.name == name:
                return table, None
    if draft.relation(schema, name) is not None or draft.sequence(schema, name) is not None:
        raise WrongObjectType(f'"{name}" is not an index')
    raise UndefinedTable(f'relation "{name}" does not exist')


def drop_index(draft: Draft, command: commands.DropIndex) -> bool:
    """Drops the indexes; False when there was nothing to drop."""
    changed = False
    for schema, name in command.names:
        try:
            table, index = find_index(draft, schema, name)
        except UndefinedTable:
            if not command.if_exists:
                raise UndefinedObject(f'index "{name}" does not exist') from None
            draft.notices.append(f'index "{name}" does not exist, skipping')
            continue
        if index is None:
            raise DependentObjectsStillExist(
                f"cannot drop index {name} because constraint {name} on table {table.name}"
                " requires it",
                hint=f"You can drop constraint {name} on table {table.name} instead.",
            )
        _drop_dependents(draft, table, index, cascade=command.cascade)
        remove_index(draft, table.id, index.id)
        changed = True
    return changed


def _drop_dependents(draft: Draft, table: Table, index: Index, *, cascade: bool) -> None:
    found = _keys_on_index(draft, table, index)
    if not found:
        return
    if not cascade:
        what = f"index {index.name}"
        raise DependentObjectsStillExist(
            f"cannot drop {what} because other objects depend on it",
            detail="\n".join(dependence(owner, key, what) for owner, key in found),
            hint="Use DROP ... CASCADE to drop the dependent objects too.",
        )
    drop_with_notice(draft, found)


def _keys_on_index(draft: Draft, table: Table, index: Index) -> list[tuple[Table, ForeignKey]]:
    if not index.unique or not index.ready:
        return []
    left = [set(columns) for columns in unique_column_sets(table)]
    left.remove(set(index.column_ids))
    return [
        (owner, key)
        for owner, key in foreign_keys_of(draft.tables.values())
        if key.target == table.id and set(key.target_columns) not in left
    ]


def remove_index(draft: Draft, table_id: TableId, index_id: TableId) -> None:
    """Takes it off a table of the draft."""
    table = draft.tables[table_id]
    _store(draft, table, tuple(index for index in table.indexes if index.id != index_id))


def without_column(table: Table, column_id: ColumnId) -> tuple[Index, ...]:
    """The indexes that stay when a column goes: those over it go along."""
    return tuple(index for index in table.indexes if column_id not in index.column_ids)


def _store(
    draft: Draft, table: Table, indexes: Sequence[Index], *, stores_change: bool = True
) -> None:
    altered = replace(table, indexes=tuple(indexes), schema_version=table.schema_version + 1)
    draft.tables[table.id] = altered
    if stores_change:
        draft.touch_tablets(altered)
