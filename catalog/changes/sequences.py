"""Sequences: made, changed, dropped; those of a table's serial and identity columns with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from catalog import commands
from catalog.changes.draft import Draft
from catalog.definition import ColumnDefinition, SequenceDefinition
from catalog.model import Column, ColumnId, Sequence, Table, TableId
from cluster.errors import DependentObjectsStillExist, UndefinedTable, WrongObjectType


def create_sequence(draft: Draft, command: commands.CreateSequence) -> bool:
    """Adds the sequence; False when IF NOT EXISTS found a relation of its name."""
    schema, name = command.schema, command.name
    draft.check_writable_schema(schema)
    taken = draft.relation(schema, name) or draft.sequence(schema, name)
    if command.if_not_exists and taken is not None:
        draft.notices.append(f'relation "{name}" already exists, skipping')
        return False
    draft.check_name_free(schema, name)
    _add(draft, schema, name, command.definition, command.owner)
    return True


def _add(
    draft: Draft,
    schema: str,
    name: str,
    definition: SequenceDefinition,
    owner: tuple[TableId, ColumnId] | None,
) -> TableId:
    sequence_id = TableId(draft.new_id())
    draft.sequences[sequence_id] = Sequence(
        sequence_id,
        schema,
        name,
        definition.type,
        definition.start,
        definition.increment,
        definition.minimum,
        definition.maximum,
        definition.cycle,
        definition.cache,
        first=definition.start,
        owner=owner,
    )
    return sequence_id


def alter_sequence(draft: Draft, command: commands.AlterSequence) -> bool:
    """Changes what it hands out, where it is, whose it is."""
    sequence = _known(draft, command.sequence_id)
    definition = command.definition
    changed = replace(
        sequence,
        type=definition.type,
        start=definition.start,
        increment=definition.increment,
        minimum=definition.minimum,
        maximum=definition.maximum,
        cycle=definition.cycle,
        cache=definition.cache,
        owner=None if command.disowned else command.owner or sequence.owner,
    )
    if command.restart is not None:
        changed = replace(changed, first=command.restart, epoch=sequence.epoch + 1)
    draft.sequences[sequence.id] = changed
    return True


def rename_sequence(draft: Draft, command: commands.RenameSequence) -> bool:
    sequence = _known(draft, command.sequence_id)
    draft.check_name_free(sequence.schema, command.name)
    draft.sequences[sequence.id] = replace(sequence, name=command.name)
    return True


def _known(draft: Draft, sequence_id: TableId) -> Sequence:
    found = draft.sequences.get(sequence_id)
    if found is None:
        raise UndefinedTable(f"relation with OID {sequence_id} does not exist")
    return found


def drop_sequence(draft: Draft, command: commands.DropSequence) -> bool:
    """Drops them; 2BP01 for one that a column takes its values from, unless CASCADE."""
    found: list[Sequence] = []
    for schema, name in command.names:
        sequence = draft.sequence(schema, name)
        if sequence is not None:
            found.append(sequence)
        elif draft.relation(schema, name) is not None:
            raise WrongObjectType(f'"{name}" is not a sequence')
        elif command.if_exists:
            draft.notices.append(f'sequence "{name}" does not exist, skipping')
        else:
            raise UndefinedTable(f'sequence "{name}" does not exist')
    for sequence in found:
        _forsake(draft, sequence, cascade=command.cascade)
        del draft.sequences[sequence.id]
    return bool(found)


def _forsake(draft: Draft, sequence: Sequence, *, cascade: bool) -> None:
    """Takes the sequence from the columns that have it."""
    for table in list(draft.tables.values()):
        used = [c for c in table.columns if c.sequence == sequence.id]
        if not used:
            continue
        if used[0].identity is not None or not cascade:
            raise DependentObjectsStillExist(
                f"cannot drop sequence {sequence.name} because other objects depend on it",
                detail=f"default value for column {used[0].name} of table {table.name}"
                f" depends on sequence {sequence.name}",
                hint="Use DROP ... CASCADE to drop the dependent objects too.",
            )
        columns = tuple(
            replace(c, sequence=None) if c.sequence == sequence.id else c for c in table.columns
        )
        version = table.schema_version + 1
        draft.tables[table.id] = replace(table, columns=columns, schema_version=version)


def drop_owned(draft: Draft, tables: Iterable[TableId]) -> None:
    """Drops the sequences that go with columns of these tables."""
    gone = set(tables)
    draft.sequences = {
        i: s for i, s in draft.sequences.items() if s.owner is None or s.owner[0] not in gone
    }


def with_sequences(draft: Draft, table: Table, definitions: Iterable[ColumnDefinition]) -> Table:
    """The table with the sequences of its serial and identity columns."""
    by_name = {d.name: d for d in definitions if d.sequence is not None}
    columns = tuple(_with_sequence(draft, table, c, by_name.get(c.name)) for c in table.columns)
    return replace(table, columns=columns)


def _with_sequence(
    draft: Draft, table: Table, column: Column, definition: ColumnDefinition | None
) -> Column:
    if definition is None or definition.sequence is None:
        return column
    name = _free_name(draft, table.schema, f"{table.name}_{column.name}_seq")
    owner = (table.id, column.id)
    sequence_id = _add(draft, table.schema, name, definition.sequence, owner)
    return replace(column, sequence=sequence_id, identity=definition.identity)


def _free_name(draft: Draft, schema: str, wanted: str) -> str:
    name, number = wanted, 0
    while draft.relation(schema, name) or draft.sequence(schema, name):
        number += 1
        name = f"{wanted}{number}"
    return name
