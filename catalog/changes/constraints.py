"""What ALTER TABLE does to constraints, and to what values a column takes.

Rows are none of this module's business: whoever drafts a change (`catalog.drafting`) tests them
or moves them. A constraint that the stores check, a key, comes and goes with new fragments, so
that no row was ever written past it; a CHECK is checked by who writes, and just stands there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from catalog import commands
from catalog.changes.columns import column_to_alter, store, table_to_alter
from catalog.changes.draft import Draft
from catalog.changes.foreign_keys import (
    dependence,
    drop_with_notice,
    keys_on_columns,
    keys_on_constraint,
    remove_foreign_keys,
)
from catalog.changes.schemas import dependent_views, refuse_dependents
from catalog.changes.scheme import check_keys_contain_partition_columns, with_new_fragments
from catalog.changes.sequences import with_sequences
from catalog.changes.tables import unique_columns
from catalog.definition import ColumnDefinition
from catalog.model import (
    HIDDEN_ROW_ID_NAME,
    CheckConstraint,
    Column,
    ColumnGroup,
    ColumnId,
    ForeignKey,
    PartitionMethod,
    Table,
    TableId,
    UniqueConstraint,
)
from cluster.errors import (
    DuplicateObject,
    DuplicateTable,
    FeatureNotSupported,
    InvalidTableDefinition,
    ObjectNotInPrerequisiteState,
    UndefinedObject,
)
from storage import keyhash
from storage.types import INT8

# --- Constraints -----------------------------------------------------------------------------


def constraint_names(table: Table) -> set[str]:
    """All names that a new constraint of the table must not have."""
    names = {constraint.name for constraint in table.unique_keys}
    names |= {key.name for key in table.foreign_keys}
    return names | {check.name for check in table.checks}


def _new_name(table: Table, given: str | None, columns: Iterable[str], suffix: str) -> str:
    taken = constraint_names(table)
    if given is not None:
        if given in taken:
            raise DuplicateObject(
                f'constraint "{given}" for relation "{table.name}" already exists'
            )
        return given
    stem = "_".join([table.name, *columns, suffix])
    name, number = stem, 0
    while name in taken:
        number += 1
        name = f"{stem}{number}"
    return name


def add_check(draft: Draft, command: commands.AddCheck) -> TableId:
    """A CHECK; one that is not validated holds for new rows only."""
    table = table_to_alter(draft, command.table_id)
    definition = command.check
    named = definition.columns if len(definition.columns) == 1 else ()
    name = _new_name(table, definition.name, named, "check")
    check = CheckConstraint(name, definition.expression, command.validated)
    store(draft, replace(table, checks=(*table.checks, check)))
    return table.id


def validate_constraint(draft: Draft, command: commands.ValidateConstraint) -> TableId | None:
    """None where it is valid already."""
    table = table_to_alter(draft, command.table_id)
    if command.name not in constraint_names(table):
        raise _no_constraint(table, command.name)
    if all(each.name != command.name or each.validated for each in _validated_later(table)):
        return None
    checks = tuple(
        replace(check, validated=True) if check.name == command.name else check
        for check in table.checks
    )
    keys = tuple(
        replace(key, validated=True) if key.name == command.name else key
        for key in table.foreign_keys
    )
    store(draft, replace(table, checks=checks, foreign_keys=keys))
    return table.id


def _validated_later(table: Table) -> tuple[CheckConstraint | ForeignKey, ...]:
    return (*table.checks, *table.foreign_keys)


def add_unique(draft: Draft, command: commands.AddUnique) -> TableId:
    """Prepares the table with a unique constraint."""
    table = table_to_alter(draft, command.table_id)
    definition = command.unique
    ids = unique_columns(table.visible_columns, definition, "unique")
    if definition.name is not None:
        _check_key_name_free(draft, table.schema, definition.name)
    name = _new_name(table, definition.name, definition.columns, "key")
    constraint = UniqueConstraint(name, ids, definition.deferrable, definition.deferred)
    grown = replace(table, unique=(*table.unique, constraint))
    check_keys_contain_partition_columns(grown)
    draft.recuts[table.id] = with_new_fragments(draft, grown)
    return table.id


def _check_key_name_free(draft: Draft, schema: str, name: str) -> None:
    """Keys have names among the relations, in PostgreSQL those of their indexes."""
    tables = (table for table in draft.tables.values() if table.schema == schema)
    keys = {key.name for table in tables for key in table.unique_keys}
    if name in keys or draft.is_taken(schema, name):
        raise DuplicateTable(f'relation "{name}" already exists')


def drop_constraint(draft: Draft, command: commands.DropConstraint) -> TableId | None:
    """None where IF EXISTS found none."""
    table = table_to_alter(draft, command.table_id)
    name = command.name
    if any(check.name == name for check in table.checks):
        store(draft, replace(table, checks=tuple(c for c in table.checks if c.name != name)))
        return table.id
    if any(key.name == name for key in table.foreign_keys):
        remove_foreign_keys(draft, table.id, [name])
        return table.id
    keys = (table.primary_key, *table.unique)
    found = next((key for key in keys if key is not None and key.name == name), None)
    if found is not None:
        return _drop_key(draft, table, found, cascade=command.cascade)
    if not command.if_exists:
        raise _no_constraint(table, name)
    draft.notices.append(f'constraint "{name}" of relation "{table.name}" does not exist, skipping')
    return None


def _drop_key(draft: Draft, table: Table, key: UniqueConstraint, *, cascade: bool) -> TableId:
    """Prepares the table without one of its keys."""
    tied = keys_on_constraint(draft, table, key)
    if tied and not cascade:
        index = f"index {key.name}"
        lines = [dependence(owner, reference, index) for owner, reference in tied]
        refuse_dependents(draft, [("constraint", f"{key.name} on table {table.name}")], [], lines)
    drop_with_notice(draft, tied)
    table = draft.table(table.id)
    if key == table.primary_key:
        left = _without_primary_key(draft, table)
    else:
        left = replace(table, unique=tuple(other for other in table.unique if other != key))
    draft.recuts[table.id] = with_new_fragments(draft, left)
    return table.id


def _without_primary_key(draft: Draft, table: Table) -> Table:
    """The table identified by hidden row ids; its columns stay NOT NULL, as PostgreSQL's do."""
    if table.hidden_row_id:
        return replace(table, primary_key=None)
    row_id = Column(ColumnId(draft.new_id()), HIDDEN_ROW_ID_NAME, INT8, not_null=True)
    first = {*table.key, *table.groups[0].columns}
    ordered = tuple(c.id for c in table.columns if c.id in first)
    groups: tuple[ColumnGroup, ...] = (replace(table.groups[0], columns=ordered), *table.groups[1:])
    return replace(
        table,
        columns=(row_id, *table.columns),
        key=(row_id.id,),
        hidden_row_id=True,
        primary_key=None,
        groups=groups,
    )


def rename_constraint(draft: Draft, command: commands.RenameConstraint) -> TableId:
    table = table_to_alter(draft, command.table_id)
    name, new = command.name, command.new_name
    if name not in constraint_names(table):
        raise UndefinedObject(f'constraint "{name}" for table "{table.name}" does not exist')
    keys = [key.name for key in (table.primary_key, *table.unique) if key is not None]
    if name in keys:
        _check_key_name_free(draft, table.schema, new)
    if new in constraint_names(table):
        raise DuplicateObject(f'constraint "{new}" for relation "{table.name}" already exists')
    primary = table.primary_key
    if primary is not None and primary.name == name:
        primary = replace(primary, name=new)
    renamed = replace(
        table,
        primary_key=primary,
        unique=tuple(replace(u, name=new) if u.name == name else u for u in table.unique),
        checks=tuple(replace(c, name=new) if c.name == name else c for c in table.checks),
        foreign_keys=tuple(
            replace(k, name=new) if k.name == name else k for k in table.foreign_keys
        ),
    )
    store(draft, renamed, stores_change=True)
    return table.id


def _no_constraint(table: Table, name: str) -> UndefinedObject:
    return UndefinedObject(f'constraint "{name}" of relation "{table.name}" does not exist')


# --- Columns ---------------------------------------------------------------------------------


def alter_column_type(draft: Draft, command: commands.AlterColumnType) -> TableId:
    """Prepares the table with the column in another type."""
    table = table_to_alter(draft, command.table_id)
    column = column_to_alter(table, command.name)
    if dependent_views(draft, [table.id]):
        raise FeatureNotSupported(
            "cannot alter type of a column used by a view or rule",
            hint="Drop the views and create them again afterwards.",
        )
    if keys_on_columns(draft, table, [column.id]):
        raise FeatureNotSupported(
            "cannot alter type of a column used by a foreign key",
            hint="Drop the foreign key and add it again afterwards.",
        )
    _check_still_placed(table, column, command)
    changed = replace(column, type=command.new_type)
    columns = tuple(changed if c.id == column.id else c for c in table.columns)
    draft.recuts[table.id] = with_new_fragments(draft, replace(table, columns=columns))
    return table.id


def _check_still_placed(table: Table, column: Column, command: commands.AlterColumnType) -> None:
    if column.id not in table.partition_columns:
        return
    if table.method is not PartitionMethod.HASH or not keyhash.is_hashable(command.new_type):
        raise InvalidTableDefinition(
            f'cannot alter column "{column.name}" because it is part of the partition key of'
            f' relation "{table.name}"'
        )


def set_column_origin(draft: Draft, command: commands.SetColumnOrigin) -> TableId | None:
    """Makes it an identity column or none, or one that is not generated any more."""
    table = table_to_alter(draft, command.table_id)
    column = column_to_alter(table, command.name)
    if command.identity is None:
        return _drop_origin(draft, table, column, command)
    if command.sequence is None:
        if column.identity is None:
            raise _not_identity(table, column)
        changed = replace(column, identity=command.identity)
        store(draft, replace(table, columns=_with(table, changed)))
        return table.id
    _check_can_be_identity(table, column)
    definition = ColumnDefinition(
        column.name, column.type, sequence=command.sequence, identity=command.identity
    )
    store(draft, with_sequences(draft, table, [definition]))
    return table.id


def _check_can_be_identity(table: Table, column: Column) -> None:
    what = f'column "{column.name}" of relation "{table.name}"'
    if column.identity is not None:
        raise ObjectNotInPrerequisiteState(f"{what} is already an identity column")
    if column.default is not None or column.sequence is not None:
        raise ObjectNotInPrerequisiteState(f"{what} already has a default value")
    if not column.not_null:
        raise ObjectNotInPrerequisiteState(
            f"{what} must be declared NOT NULL before identity can be added"
        )


def _drop_origin(
    draft: Draft, table: Table, column: Column, command: commands.SetColumnOrigin
) -> TableId | None:
    there = column.generated if command.expression else column.identity
    if there is None:
        error = (
            _not_generated(table, column) if command.expression else _not_identity(table, column)
        )
        if not command.if_exists:
            raise error
        draft.notices.append(f"{error.message}, skipping")
        return None
    if command.expression:
        changed = replace(column, generated=None)
    else:
        changed = replace(column, identity=None, sequence=None)
        draft.sequences = {i: s for i, s in draft.sequences.items() if i != column.sequence}
    store(draft, replace(table, columns=_with(table, changed)))
    return table.id


def _with(table: Table, changed: Column) -> tuple[Column, ...]:
    return tuple(changed if c.id == changed.id else c for c in table.columns)


def _not_identity(table: Table, column: Column) -> ObjectNotInPrerequisiteState:
    return ObjectNotInPrerequisiteState(
        f'column "{column.name}" of relation "{table.name}" is not an identity column'
    )


def _not_generated(table: Table, column: Column) -> ObjectNotInPrerequisiteState:
    return ObjectNotInPrerequisiteState(
        f'column "{column.name}" of relation "{table.name}" is not a generated column'
    )
