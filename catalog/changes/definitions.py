"""Definitions of transactions: staged while they are open, in force with one entry (rule S1).

    StageDefinitions --> `Catalog.staged` --CommitDefinitions--> tables, views, sequences
                              |                 (and `CatalogState.decisions`)
                              \\--AbortDefinitions--> nothing

An open transaction that defines something is *staged*: its coordinator is known, its new
fragments are held by tablets, its new sequences hand out numbers. Only what is staged can
commit; both ends take it out. So the first of them in the catalog's log decides, and whoever
finds a transaction neither staged nor among the decisions knows that it never will commit.

The commit checks what the transaction could not: that nothing it changes is another by now, that
its names are still free, and that what it refers to is still there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from catalog import commands
from catalog.changes.draft import Draft
from catalog.fragment_schemas import fragment_schema
from catalog.model import StagedDefinitions, Table, TableId
from catalog.patches import Changes, Patch, fragments_of
from cluster.errors import DuplicateTable, SerializationFailure
from storage.fragments import FragmentSchema

T = TypeVar("T")


def reserve_ids(draft: Draft, command: commands.ReserveIds) -> bool:
    """The ids are those from the former `next_id` on."""
    for _ in range(command.count):
        draft.new_id()
    return True


def stage_definitions(draft: Draft, command: commands.StageDefinitions) -> bool:
    """Registers the transaction, or adds to what it has staged; a sequence that it has staged
    before is another one from now on."""
    for tablet in command.tablets:
        if not set(tablet.replicas) <= draft.nodes.keys():
            raise _conflict("a node left the cluster")
        draft.add_tablet(tablet)
    for fragment in (f for table in command.tables for f in fragments_of(table).values()):
        if fragment.tablet_id not in draft.tablets:
            raise _conflict("tablets that it was to share are gone")
    staged = draft.staged.get(command.transaction_id, StagedDefinitions(command.node_id))
    anew = {sequence.id for sequence in command.sequences}
    kept = (sequence for sequence in staged.sequences if sequence.id not in anew)
    draft.staged[command.transaction_id] = replace(
        staged,
        tables=(*staged.tables, *command.tables),
        sequences=(*kept, *command.sequences),
    )
    draft.touch_tablets(*command.tables)
    return True


def abort_definitions(draft: Draft, command: commands.AbortDefinitions) -> bool:
    """Drops what was staged, if anything was."""
    staged = draft.staged.pop(command.transaction_id, None)
    if staged is None:
        return False
    draft.touch_tablets(*staged.tables)
    draft.drop_empty_tablets()
    return True


def commit_definitions(draft: Draft, command: commands.CommitDefinitions) -> bool:
    """Applies the patch; 40001 and 42P07 where it cannot be any more."""
    staged = draft.staged.pop(command.transaction_id, None)
    if staged is None and command.staged:
        raise _conflict("its coordinator was not heard of for too long")
    patch = command.patch
    _replace_all(draft.tables, patch.tables, "table")
    _replace_all(draft.views, patch.views, "view")
    _replace_all(draft.sequences, patch.sequences, "sequence")
    draft.schemas = [n for n in draft.schemas if n not in patch.schemas_dropped]
    draft.schemas += [n for n in patch.schemas_made if n not in draft.schemas]
    _check_names(draft, patch)
    _check_references(draft)
    _forget_statistics(draft, patch)
    draft.touch_tablets(*_touched(staged, patch))
    draft.drop_empty_tablets()
    return True


def _replace_all(present: dict[TableId, T], changes: Changes[T], kind: str) -> None:
    for i, (before, after) in changes.items():
        if present.get(i) != before:
            name = getattr(before or after, "name", "")
            raise _conflict(f'{kind} "{name}" was changed by another transaction')
        if after is None:
            del present[i]
        else:
            present[i] = after


def _check_names(draft: Draft, patch: Patch) -> None:
    taken: dict[tuple[str, str], int] = {}
    for relations in (draft.tables, draft.views, draft.sequences):
        for relation in relations.values():
            place = (relation.schema, relation.name)
            taken[place] = taken.get(place, 0) + 1
    for table in draft.tables.values():
        for index in table.indexes:
            place = (table.schema, index.name)
            taken[place] = taken.get(place, 0) + 1
    for (_, name), count in taken.items():
        if count > 1:
            raise DuplicateTable(f'relation "{name}" already exists')
    changed: list[Mapping[TableId, tuple[object, object]]] = [patch.tables, patch.views]
    for changes in (*changed, patch.sequences):
        for _, after in changes.values():
            schema = getattr(after, "schema", None)
            if schema is not None and schema not in draft.schemas:
                raise _conflict(f'schema "{schema}" was dropped by another transaction')


def _check_references(draft: Draft) -> None:
    """That views, sequences, columns and foreign keys refer to what is there."""
    for view in draft.views.values():
        for i in view.depends_on:
            if i not in draft.tables and i not in draft.views:
                raise _dependency(f'what view "{view.name}" reads')
    for sequence in draft.sequences.values():
        if sequence.owner is not None and sequence.owner[0] not in draft.tables:
            raise _dependency(f'the owner of sequence "{sequence.name}"')
        if sequence.schema not in draft.schemas:
            raise _dependency(f'schema "{sequence.schema}"')
    for table in draft.tables.values():
        if any(c.sequence is not None and c.sequence not in draft.sequences for c in table.columns):
            raise _dependency(f'a sequence of table "{table.name}"')
        if any(key.target not in draft.tables for key in table.foreign_keys):
            raise _dependency(f'what table "{table.name}" refers to')
        if table.schema not in draft.schemas:
            raise _dependency(f'schema "{table.schema}"')


def _forget_statistics(draft: Draft, patch: Patch) -> None:
    for i, (before, after) in patch.tables.items():
        known = draft.statistics.get(i)
        if known is None or fragments_of(before) == fragments_of(after):
            continue
        if after is None:
            del draft.statistics[i]
            continue
        kept = {column.id for column in after.columns}
        columns = {c: found for c, found in known.columns.items() if c in kept}
        draft.statistics[i] = replace(known, part_rows=(), columns=columns)


def _touched(staged: StagedDefinitions | None, patch: Patch) -> list[Table]:
    """Tables whose tablets are to hold other fragments, or the same ones otherwise."""
    found = list(staged.tables) if staged is not None else []
    for before, after in patch.tables.values():
        if _stored(before) != _stored(after):
            found += [table for table in (before, after) if table is not None]
    return found


def _stored(table: Table | None) -> list[FragmentSchema]:
    if table is None:
        return []
    return [fragment_schema(table, fragment) for fragment in fragments_of(table).values()]


def _conflict(why: str) -> SerializationFailure:
    return SerializationFailure(
        "could not serialize access due to concurrent definitions",
        detail=f"{why[0].upper()}{why[1:]}.",
        hint="The transaction might succeed if retried.",
    )


def _dependency(what: str) -> SerializationFailure:
    return _conflict(f"{what} was dropped by another transaction")
