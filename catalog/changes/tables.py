"""CREATE TABLE and DROP TABLE, parts attached and detached, a table cut anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from catalog import commands
from catalog.changes.draft import Draft
from catalog.changes.foreign_keys import (
    add_foreign_keys,
    check_still_near,
    dependence,
    drop_with_notice,
    forget_references,
    keys_from_outside,
)
from catalog.changes.schemas import dependent_views, drop_views, refuse_dependents
from catalog.changes.scheme import NO_COLOCATION, Cut, cut_table, place_parts
from catalog.changes.sequences import drop_owned, with_sequences
from catalog.cutting import bounds_of, check_parts
from catalog.definition import CheckDefinition, ColumnDefinition, TableDefinition, UniqueDefinition
from catalog.model import (
    HIDDEN_ROW_ID_NAME,
    AccessMethod,
    CheckConstraint,
    Column,
    ColumnId,
    Durability,
    PartitionMethod,
    Table,
    TableId,
    UniqueConstraint,
    View,
)
from catalog.placement import allowed_nodes
from cluster.errors import (
    DuplicateColumn,
    DuplicateObject,
    DuplicateTable,
    FeatureNotSupported,
    InvalidTableDefinition,
    ObjectNotInPrerequisiteState,
    ProgramLimitExceeded,
    SerializationFailure,
    UndefinedColumn,
    UndefinedTable,
    WrongObjectType,
)
from storage.types import INT8

DEFAULT_ACCESS_METHOD = AccessMethod.HYBRID
MAX_COLUMNS = 1600


def create_table(draft: Draft, command: commands.CreateTable) -> TableId | None:
    """Adds the table; None when IF NOT EXISTS found one."""
    definition = command.definition
    draft.check_writable_schema(definition.schema)
    if command.if_not_exists and draft.relation(definition.schema, definition.name):
        draft.notices.append(f'relation "{definition.name}" already exists, skipping')
        return None
    draft.check_name_free(definition.schema, definition.name)
    shell = with_sequences(draft, _shell(draft, definition), definition.columns)
    table = cut_table(draft, shell, definition.scheme)
    draft.tables[table.id] = table
    add_foreign_keys(draft, table, definition.foreign_keys)
    return table.id


def _shell(draft: Draft, definition: TableDefinition) -> Table:
    """The table without groups and parts."""
    if len(definition.columns) > MAX_COLUMNS:
        raise ProgramLimitExceeded(f"tables can have at most {MAX_COLUMNS} columns")
    table_id = TableId(draft.new_id())
    key_names = definition.primary_key.columns if definition.primary_key else ()
    columns = _columns(draft, definition.columns, key_names)
    hidden = definition.primary_key is None or definition.primary_key.deferrable
    if hidden:
        row_id = Column(ColumnId(draft.new_id()), HIDDEN_ROW_ID_NAME, INT8, not_null=True)
        columns = (row_id, *columns)
    names = _ConstraintNames(definition)
    primary_key = None
    if definition.primary_key:
        primary_key = _unique(columns, definition.primary_key, names, "primary key")
    unique = tuple(_unique(columns, u, names, "unique") for u in definition.unique)
    return Table(
        id=table_id,
        schema=definition.schema,
        name=definition.name,
        columns=columns,
        key=(columns[0].id,) if primary_key is None or hidden else primary_key.columns,
        hidden_row_id=hidden,
        primary_key=primary_key,
        unique=unique,
        checks=tuple(CheckConstraint(names.of_check(c), c.expression) for c in definition.checks),
        method=PartitionMethod.NONE,
        partition_columns=(),
        groups=(),
        parts=(),
        colocation_id=NO_COLOCATION,
        access_method=definition.access_method or DEFAULT_ACCESS_METHOD,
        replicas=1,
        durability=Durability.QUORUM,
    )


def _columns(
    draft: Draft, definitions: Sequence[ColumnDefinition], key_names: Sequence[str]
) -> tuple[Column, ...]:
    seen: set[str] = set()
    columns = []
    for definition in definitions:
        if definition.name in seen:
            raise DuplicateColumn(f'column "{definition.name}" specified more than once')
        seen.add(definition.name)
        columns.append(new_column(draft, definition, definition.name in key_names))
    return tuple(columns)


def new_column(draft: Draft, definition: ColumnDefinition, in_key: bool = False) -> Column:
    """The column with an id of its own."""
    return Column(
        ColumnId(draft.new_id()),
        definition.name,
        definition.type,
        not_null=definition.not_null or in_key,
        default=definition.default,
        generated=definition.generated,
    )


def _unique(
    columns: Iterable[Column],
    definition: UniqueDefinition,
    names: _ConstraintNames,
    kind: str,
) -> UniqueConstraint:
    ids = unique_columns(columns, definition, kind)
    name = names.of_key(definition, is_primary=kind == "primary key")
    return UniqueConstraint(name, ids, definition.deferrable, definition.deferred)


def unique_columns(
    columns: Iterable[Column], definition: UniqueDefinition, kind: str
) -> tuple[ColumnId, ...]:
    """The columns of a key; 42703 and 42701 for wrong ones."""
    by_name = {column.name: column.id for column in columns}
    for place, name in enumerate(definition.columns):
        if name not in by_name:
            raise UndefinedColumn(f'column "{name}" named in key does not exist')
        if name in definition.columns[:place]:
            raise DuplicateColumn(f'column "{name}" appears twice in {kind} constraint')
    return tuple(by_name[name] for name in definition.columns)


class _ConstraintNames:
    """Names as PostgreSQL makes them: t_pkey, t_a_b_key, t_a_check, numbered when taken."""

    def __init__(self, definition: TableDefinition) -> None:
        self._table = definition.name
        given = [u.name for u in (definition.primary_key, *definition.unique) if u and u.name]
        given += [check.name for check in definition.checks if check.name]
        for name in given:
            if given.count(name) > 1:
                raise DuplicateObject(
                    f'constraint "{name}" for relation "{definition.name}" already exists'
                )
        self._taken = set(given)

    def of_key(self, definition: UniqueDefinition, *, is_primary: bool) -> str:
        middle = () if is_primary else definition.columns
        suffix = "pkey" if is_primary else "key"
        return definition.name or self._free("_".join([self._table, *middle]), suffix)

    def of_check(self, definition: CheckDefinition) -> str:
        middle = definition.columns if len(definition.columns) == 1 else ()
        return definition.name or self._free("_".join([self._table, *middle]), "check")

    def _free(self, stem: str, suffix: str) -> str:
        name, number = f"{stem}_{suffix}", 0
        while name in self._taken:
            number += 1
            name = f"{stem}_{suffix}{number}"
        self._taken.add(name)
        return name


# --- Drop ----------------------------------------------------------------------------------


def drop_table(draft: Draft, command: commands.DropTable) -> bool:
    """Drops the tables; False when there was nothing to drop."""
    tables = []
    for schema, name in command.names:
        found = draft.relation(schema, name)
        if isinstance(found, View):
            raise WrongObjectType(
                f'"{name}" is not a table', hint="Use DROP VIEW to remove a view."
            )
        if found is not None:
            tables.append(found)
        elif command.if_exists:
            draft.notices.append(f'table "{name}" does not exist, skipping')
        else:
            raise UndefinedTable(f'table "{name}" does not exist')
    remove_tables(draft, tables, cascade=command.cascade)
    return bool(tables)


def remove_tables(draft: Draft, tables: Sequence[Table], *, cascade: bool) -> None:
    """Takes tables out, with the views over them or (2BP01) not at all."""
    views = dependent_views(draft, [table.id for table in tables])
    keys = keys_from_outside(draft, {table.id for table in tables})
    if (views or keys) and not cascade:
        names = {table.id: table.name for table in tables}
        lines = [dependence(owner, key, f"table {names[key.target]}") for owner, key in keys]
        refuse_dependents(draft, [("table", table.name) for table in tables], views, lines)
    drop_views(draft, views)
    drop_with_notice(draft, keys)
    draft.touch_tablets(*tables)
    for table in tables:
        draft.tables.pop(table.id, None)
        draft.statistics.pop(table.id, None)
        draft.recuts.pop(table.id, None)
    forget_references(draft)
    drop_owned(draft, [table.id for table in tables])
    draft.drop_empty_tablets()


# --- Parts ---------------------------------------------------------------------------------


def attach_part(draft: Draft, command: commands.AttachPart) -> bool:
    """Adds a part, in new tablets; False when IF NOT EXISTS found one of its name."""
    table = draft.table(command.table_id)
    name = command.part.name
    if any(part.name == name for part in table.parts) or draft.relation(table.schema, name):
        if command.if_not_exists:
            draft.notices.append(f'relation "{name}" already exists, skipping')
            return False
        raise DuplicateTable(f'relation "{name}" already exists')
    _check_parts_can_change(draft, table)
    types = [table.column(c).type for c in table.partition_columns]
    bounds = bounds_of(table.method, types, command.part)
    allowed_nodes(draft.nodes.values(), command.part.placement)
    check_parts(
        table.method,
        types,
        [*((part.name, part.bounds) for part in table.parts), (name, bounds)],
        gaps_allowed=True,
    )
    cut = Cut(name, bounds, command.part.placement)
    _alter(draft, place_parts(draft, table, [cut], None))
    draft.statistics.pop(table.id, None)
    return True


def detach_part(draft: Draft, command: commands.DetachPart) -> bool:
    """Drops a part; those behind it move up by one."""
    table = draft.table(command.table_id)
    kept = [part for part in table.parts if part.name != command.part_name]
    if len(kept) == len(table.parts):
        raise UndefinedTable(
            f'relation "{command.part_name}" is not a partition of relation "{table.name}"'
        )
    _check_parts_can_change(draft, table)
    for owner, key in keys_from_outside(draft, {table.id}):
        raise FeatureNotSupported(
            f'cannot drop a part of "{table.name}" because foreign key "{key.name}" on table'
            f' "{owner.name}" may refer to its rows',
            hint="Drop the constraint before.",
        )
    draft.touch_tablets(table)
    parts = tuple(replace(part, ordinal=ordinal) for ordinal, part in enumerate(kept))
    _alter(draft, replace(table, parts=parts))
    draft.statistics.pop(table.id, None)
    draft.drop_empty_tablets()
    return True


def _check_parts_can_change(draft: Draft, table: Table) -> None:
    if table.method in (PartitionMethod.NONE, PartitionMethod.REPLICATED):
        raise WrongObjectType(f'"{table.name}" is not partitioned')
    if table.id in draft.recuts:
        raise ObjectNotInPrerequisiteState(f'table "{table.name}" is being cut anew')
    for other in draft.tables.values():
        if other.id != table.id and other.colocation_id == table.colocation_id:
            raise FeatureNotSupported(
                f'cannot change the partitions of "{table.name}" because it is co-located with'
                f' "{other.name}"',
                hint="Co-located tables have the same partitions; drop the other table first.",
            )


def _alter(draft: Draft, table: Table) -> None:
    draft.tables[table.id] = replace(table, schema_version=table.schema_version + 1)


# --- Cutting anew --------------------------------------------------------------------------


def prepare_recut(draft: Draft, command: commands.PrepareRecut) -> TableId:
    """Makes the table's fragments as they will be; an earlier attempt is dropped."""
    table = draft.table(command.table_id)
    if table.id in draft.recuts:
        draft.touch_tablets(draft.recuts.pop(table.id))
        draft.drop_empty_tablets()
    shell = table
    if command.primary_key is not None:
        shell = _with_primary_key(table, command.primary_key)
    draft.recuts[table.id] = cut_table(draft, shell, command.scheme)
    check_still_near(draft, draft.recuts[table.id])
    return table.id


def _with_primary_key(table: Table, key: UniqueDefinition) -> Table:
    """The table identified by this key instead of a hidden row id, unless it is deferrable."""
    if table.primary_key is not None:
        raise InvalidTableDefinition(
            f'multiple primary keys for table "{table.name}" are not allowed'
        )
    visible = table.visible_columns
    taken = {u.name for u in table.unique} | {check.name for check in table.checks}
    name = key.name or f"{table.name}_pkey"
    if name in taken:
        raise DuplicateObject(f'constraint "{name}" for relation "{table.name}" already exists')
    ids = unique_columns(visible, key, "primary key")
    primary_key = UniqueConstraint(name, ids, key.deferrable, key.deferred)
    if key.deferrable:
        columns = tuple(replace(c, not_null=True) if c.id in ids else c for c in table.columns)
        return replace(table, columns=columns, primary_key=primary_key)
    columns = tuple(replace(c, not_null=True) if c.id in ids else c for c in visible)
    groups = tuple(
        replace(group, columns=tuple(c for c in group.columns if c not in ids))
        for group in table.groups
    )
    return replace(
        table,
        columns=columns,
        groups=groups,
        key=ids,
        hidden_row_id=False,
        primary_key=primary_key,
    )


def finish_recut(draft: Draft, command: commands.FinishRecut) -> bool:
    """Swaps the prepared fragments in; 55000 when none are, 40001 when the table changed."""
    table = draft.table(command.table_id)
    recut = draft.recuts.pop(table.id, None)
    if recut is None:
        raise ObjectNotInPrerequisiteState(f'table "{table.name}" is not being cut anew')
    if not table.schema_version == recut.schema_version == command.schema_version:
        raise SerializationFailure(f'table "{table.name}" changed while it was cut anew')
    draft.touch_tablets(table, recut)
    _alter(draft, recut)
    forget_references(draft)
    statistics = draft.statistics.get(table.id)
    if statistics is not None:
        kept = {column.id for column in recut.columns}
        columns = {i: c for i, c in statistics.columns.items() if i in kept}
        draft.statistics[table.id] = replace(statistics, part_rows=(), columns=columns)
    draft.drop_empty_tablets()
    return True


def abort_recut(draft: Draft, command: commands.AbortRecut) -> bool:
    """Drops what was prepared, if anything was."""
    recut = draft.recuts.pop(command.table_id, None)
    if recut is None:
        return False
    draft.touch_tablets(recut)
    draft.drop_empty_tablets()
    return True


def check_not_recut(draft: Draft, table: Table) -> None:
    """Refuses other changes to a table while it is cut anew (55000)."""
    if table.id in draft.recuts:
        raise ObjectNotInPrerequisiteState(f'table "{table.name}" is being cut anew')


def check_alterable_key(table: Table, column: Column) -> None:
    """Refuses to drop a column that places or identifies rows."""
    if column.id in table.partition_columns:
        raise InvalidTableDefinition(
            f'cannot drop column "{column.name}" because it is part of the partition key of'
            f' relation "{table.name}"'
        )
    primary_key = table.primary_key.columns if table.primary_key is not None else ()
    if column.id in (*table.key, *primary_key):
        raise FeatureNotSupported(
            f'cannot drop column "{column.name}" because it is part of the primary key of'
            f' relation "{table.name}"',
            hint="Create a new table and copy the rows.",
        )
