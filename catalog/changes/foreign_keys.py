"""Foreign keys: added to a table and dropped from it, and what depends on them.

A foreign key is kept with the referencing table; the referenced one lists who refers to it
(`Table.referenced_by`), so that whoever writes either of them knows that there is something to
check. Both get another schema version when that changes.

Referencing and referenced rows must lie on one tablet, so that a check is a matter of one
leader's locks, or the referenced table on every node. Elsewhere foreign keys are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from catalog import commands
from catalog.changes.draft import Draft
from catalog.definition import ForeignKeyDefinition
from catalog.model import (
    TEMPORARY_SCHEMA_PREFIX,
    Column,
    ColumnId,
    ForeignKey,
    PartitionMethod,
    ReferentialAction,
    Table,
    TableId,
    UniqueConstraint,
)
from cluster.errors import (
    DatatypeMismatch,
    DuplicateObject,
    FeatureNotSupported,
    InvalidForeignKey,
    InvalidTableDefinition,
    ObjectNotInPrerequisiteState,
    SyntaxError_,
    UndefinedColumn,
    UndefinedObject,
    UndefinedTable,
    WrongObjectType,
)
from storage.types import Kind, SqlType

_INTEGERS = (Kind.INT2, Kind.INT4, Kind.INT8)
_FLOATS = (Kind.FLOAT4, Kind.FLOAT8)
_TEXTS = (Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR)
_SETTING = (ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT)


def add_foreign_key(draft: Draft, command: commands.AddForeignKey) -> TableId:
    """ALTER TABLE ... ADD FOREIGN KEY, once the rows are known to keep it."""
    table = draft.table(command.table_id)
    add_foreign_keys(draft, table, (command.definition,))
    return table.id


def add_foreign_keys(
    draft: Draft, table: Table, definitions: Sequence[ForeignKeyDefinition]
) -> None:
    """Gives a table of the draft these foreign keys."""
    for definition in definitions:
        table = draft.tables[table.id]
        key = planned_foreign_key(draft, table, definition)
        altered = replace(table, foreign_keys=(*table.foreign_keys, key))
        draft.tables[table.id] = _next_version(altered)
        target = draft.tables[key.target]
        if table.id not in target.referenced_by:
            referenced = replace(target, referenced_by=(*target.referenced_by, table.id))
            draft.tables[target.id] = _next_version(referenced)


def _next_version(table: Table) -> Table:
    return replace(table, schema_version=table.schema_version + 1)


def planned_foreign_key(draft: Draft, table: Table, definition: ForeignKeyDefinition) -> ForeignKey:
    """The foreign key as it would be; raises what keeps it from being."""
    columns = [_column(table, name) for name in definition.columns]
    target = _target(draft, table, definition)
    target_columns = _target_columns(target, definition)
    if len(columns) != len(target_columns):
        raise InvalidForeignKey(
            "number of referencing and referenced columns for foreign key disagree"
        )
    _check_unique(target, target_columns, given=bool(definition.target_columns))
    name = _name(table, definition)
    _check_types(name, columns, target_columns)
    _check_actions(definition, columns)
    key = ForeignKey(
        name,
        tuple(column.id for column in columns),
        target.id,
        tuple(column.id for column in target_columns),
        definition.on_delete,
        definition.on_update,
        definition.match_full,
        _set_columns(table, definition, columns),
        definition.deferrable,
        definition.deferred,
        definition.validated,
    )
    _check_near(table, target, key)
    return key


# --- What a foreign key names ---------------------------------------------------------------


def _column(table: Table, name: str) -> Column:
    column = table.column_named(name)
    if column is None:
        raise UndefinedColumn(
            f'column "{name}" referenced in foreign key constraint does not exist'
        )
    return column


def _target(draft: Draft, table: Table, definition: ForeignKeyDefinition) -> Table:
    schema, name = definition.target
    found = draft.relation(schema, name)
    if found is None:
        raise UndefinedTable(f'relation "{name}" does not exist')
    if not isinstance(found, Table):
        raise WrongObjectType(f'referenced relation "{name}" is not a table')
    kinds = [t.schema.startswith(TEMPORARY_SCHEMA_PREFIX) for t in (table, found)]
    if kinds[0] != kinds[1]:
        own, other = ("temporary", "temporary") if kinds[0] else ("permanent", "permanent")
        raise InvalidTableDefinition(
            f"constraints on {own} tables may reference only {other} tables"
        )
    return found


def _target_columns(target: Table, definition: ForeignKeyDefinition) -> list[Column]:
    if not definition.target_columns:
        if target.primary_key is None:
            raise UndefinedObject(f'there is no primary key for referenced table "{target.name}"')
        return [target.column(column_id) for column_id in target.primary_key.columns]
    if len(set(definition.target_columns)) != len(definition.target_columns):
        raise InvalidForeignKey("foreign key referenced-columns list must not contain duplicates")
    return [_column(target, name) for name in definition.target_columns]


def _check_unique(target: Table, columns: Sequence[Column], *, given: bool) -> None:
    wanted = {column.id for column in columns}
    if given and not any(set(unique) == wanted for unique in unique_column_sets(target)):
        raise InvalidForeignKey(
            "there is no unique constraint matching given keys for referenced table"
            f' "{target.name}"'
        )
    keys = (target.primary_key, *target.unique)
    found = [key for key in keys if key is not None and set(key.columns) == wanted]
    if found and all(key.deferrable for key in found):
        kind = "unique constraint" if given else "primary key"
        raise ObjectNotInPrerequisiteState(
            f'cannot use a deferrable {kind} for referenced table "{target.name}"'
        )


def unique_column_sets(table: Table) -> Iterator[tuple[ColumnId, ...]]:
    """The columns of everything that keeps rows of the table apart."""
    for constraint in (table.primary_key, *table.unique):
        if constraint is not None:
            yield constraint.columns
    for index in table.indexes:
        if index.unique and index.ready:
            yield index.column_ids


def _name(table: Table, definition: ForeignKeyDefinition) -> str:
    taken = {c.name for c in (table.primary_key, *table.unique) if c is not None}
    taken |= {check.name for check in table.checks} | {key.name for key in table.foreign_keys}
    if definition.name is not None:
        if definition.name in taken:
            raise DuplicateObject(
                f'constraint "{definition.name}" for relation "{table.name}" already exists'
            )
        return definition.name
    stem = "_".join([table.name, *definition.columns, "fkey"])
    name, number = stem, 0
    while name in taken:
        number += 1
        name = f"{stem}{number}"
    return name


def _check_types(name: str, columns: Sequence[Column], targets: Sequence[Column]) -> None:
    for own, other in zip(columns, targets, strict=True):
        if not _comparable(own.type, other.type):
            raise DatatypeMismatch(
                f'foreign key constraint "{name}" cannot be implemented',
                detail=f'Key columns "{own.name}" of the referencing table and "{other.name}" of'
                f" the referenced table are of incompatible types: {_plain(own.type)} and"
                f" {_plain(other.type)}.",
            )


def _plain(sql_type: SqlType) -> str:
    return str(SqlType(sql_type.kind)) if sql_type.kind is not Kind.ARRAY else str(sql_type)


def _comparable(own: SqlType, other: SqlType) -> bool:
    """Whether values compare as those of the referenced column's type, as PostgreSQL casts them
    by itself."""
    if own.kind is other.kind:
        return own.kind is not Kind.ARRAY or own.element == other.element
    for family in (_INTEGERS, _FLOATS, _TEXTS):
        if own.kind in family and other.kind in family:
            return True
    wider = {
        Kind.NUMERIC: _INTEGERS,
        Kind.FLOAT4: (*_INTEGERS, Kind.NUMERIC),
        Kind.FLOAT8: (*_INTEGERS, Kind.NUMERIC),
        Kind.TIMESTAMP: (Kind.DATE,),
        Kind.TIMESTAMPTZ: (Kind.DATE, Kind.TIMESTAMP),
    }
    return own.kind in wider.get(other.kind, ())


def _check_actions(definition: ForeignKeyDefinition, columns: Sequence[Column]) -> None:
    """PostgreSQL's refusals for generated columns, which nobody can set."""
    if all(column.generated is None for column in columns):
        return
    for event, action, refused in (
        ("UPDATE", definition.on_update, (ReferentialAction.CASCADE, *_SETTING)),
        ("DELETE", definition.on_delete, _SETTING),
    ):
        if action in refused:
            raise SyntaxError_(
                f"invalid ON {event} action for foreign key constraint containing generated column"
            )


def _set_columns(
    table: Table, definition: ForeignKeyDefinition, columns: Sequence[Column]
) -> tuple[ColumnId, ...]:
    by_name = {column.name: column.id for column in columns}
    for name in definition.set_columns:
        if _column(table, name).id not in by_name.values():
            raise InvalidForeignKey(
                f'column "{name}" referenced in ON DELETE SET action must be part of foreign key'
            )
    return tuple(by_name[name] for name in definition.set_columns)


# --- Where the rows lie ---------------------------------------------------------------------


def _check_near(table: Table, target: Table, key: ForeignKey) -> None:
    if is_near(table, target, key):
        return
    raise FeatureNotSupported(
        f'foreign key "{key.name}" refers to rows that lie elsewhere',
        detail=f'A row of "{table.name}" and the row of "{target.name}" that it refers to must lie'
        f' on one tablet, or all of "{target.name}" on every node.',
        hint=_hint(table, target, key),
        table=table.name,
        constraint=key.name,
    )


def _hint(table: Table, target: Table, key: ForeignKey) -> str:
    everywhere = f'make "{target.name}" REPLICATED'
    if table.method is PartitionMethod.REPLICATED:
        return f"M{everywhere[1:]}."
    pairs = dict(zip(key.target_columns, key.columns, strict=True))
    wanted = [pairs.get(column) for column in target.partition_columns]
    if table.id == target.id or None in wanted:
        return f"M{everywhere[1:]}."
    names = ", ".join(table.column(column).name for column in wanted if column is not None)
    return (
        f'Partition "{table.name}" by {target.method.upper()} ({names}) and COLOCATE WITH'
        f' "{target.name}", or {everywhere}.'
    )


def is_near(table: Table, target: Table, key: ForeignKey) -> bool:
    """Whether a row and the one it refers to always lie on one tablet, or the latter's table on
    every node."""
    if target.method is PartitionMethod.REPLICATED:
        return True
    if table.colocation_id != target.colocation_id:
        return False
    if len(table.parts) == len(target.parts) == 1:
        return True
    pairs = set(zip(key.columns, key.target_columns, strict=True))
    own, other = table.partition_columns, target.partition_columns
    return len(own) == len(other) > 0 and pairs.issuperset(zip(own, other, strict=True))


def check_still_near(draft: Draft, table: Table) -> None:
    """Refuses (0A000) another cut of a table that would tear rows from those they refer to."""
    tables = {**draft.tables, table.id: table}
    for owner, key in foreign_keys_of(tables.values()):
        target = tables.get(key.target)
        if target is None or table.id not in (owner.id, target.id):
            continue
        if not is_near(owner, target, key):
            raise FeatureNotSupported(
                f'cannot cut table "{table.name}" anew because of foreign key "{key.name}" on table'
                f' "{owner.name}"',
                detail="Rows and those that they refer to would lie on different tablets.",
                hint="Drop the constraint before.",
            )


# --- Dropping -------------------------------------------------------------------------------


def drop_foreign_key(draft: Draft, command: commands.DropForeignKey) -> TableId:
    """ALTER TABLE ... DROP CONSTRAINT."""
    table = draft.table(command.table_id)
    if all(key.name != command.name for key in table.foreign_keys):
        raise UndefinedObject(
            f'constraint "{command.name}" of relation "{table.name}" does not exist'
        )
    remove_foreign_keys(draft, table.id, [command.name])
    return table.id


def remove_foreign_keys(draft: Draft, table_id: TableId, names: Collection[str]) -> None:
    """Takes these off a table of the draft."""
    table = draft.tables[table_id]
    kept = tuple(key for key in table.foreign_keys if key.name not in names)
    draft.tables[table_id] = _next_version(replace(table, foreign_keys=kept))
    forget_references(draft)


def forget_references(draft: Draft) -> None:
    """Brings `referenced_by` of every table up to the foreign keys that are left."""
    referring: dict[TableId, dict[TableId, None]] = {}
    for owner, key in foreign_keys_of(draft.tables.values()):
        referring.setdefault(key.target, {})[owner.id] = None
    for table in list(draft.tables.values()):
        left = tuple(i for i in table.referenced_by if i in referring.get(table.id, {}))
        if left != table.referenced_by:
            draft.tables[table.id] = _next_version(replace(table, referenced_by=left))


def foreign_keys_of(tables: Iterable[Table]) -> Iterator[tuple[Table, ForeignKey]]:
    """Every foreign key with the table that has it."""
    for table in tables:
        for key in table.foreign_keys:
            yield table, key


def keys_from_outside(draft: Draft, dropped: Collection[TableId]) -> list[tuple[Table, ForeignKey]]:
    """Foreign keys of other tables that refer to one of these."""
    return [
        (owner, key)
        for owner, key in foreign_keys_of(draft.tables.values())
        if key.target in dropped and owner.id not in dropped
    ]


def keys_on_columns(
    draft: Draft, table: Table, columns: Collection[ColumnId]
) -> list[tuple[Table, ForeignKey]]:
    """Foreign keys, the table's own or others', that name one of its columns."""
    return [
        (owner, key)
        for owner, key in foreign_keys_of(draft.tables.values())
        if (owner.id == table.id and not set(columns).isdisjoint(key.columns))
        or (key.target == table.id and not set(columns).isdisjoint(key.target_columns))
    ]


def keys_on_constraint(
    draft: Draft, table: Table, constraint: UniqueConstraint
) -> list[tuple[Table, ForeignKey]]:
    """Foreign keys that would have nothing to refer to without the constraint."""
    left = [set(c) for c in unique_column_sets(table)]
    left.remove(set(constraint.columns))
    return [
        (owner, key)
        for owner, key in foreign_keys_of(draft.tables.values())
        if key.target == table.id and set(key.target_columns) not in left
    ]


def dependence(owner: Table, key: ForeignKey, what: str) -> str:
    """A line of the DETAIL of 2BP01."""
    return f"constraint {key.name} on table {owner.name} depends on {what}"


def drop_with_notice(draft: Draft, found: Iterable[tuple[Table, ForeignKey]]) -> None:
    """Drops them as a consequence of something else, and says so."""
    for owner, key in found:
        draft.notices.append(f"drop cascades to constraint {key.name} on table {owner.name}")
        remove_foreign_keys(draft, owner.id, [key.name])
