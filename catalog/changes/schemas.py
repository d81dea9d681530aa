"""Schemas and views. A view is SQL text, so what it reads cannot be dropped under it.

Left out: PostgreSQL keeps a view as a parsed tree and follows renames; here a table or column
that a view reads cannot be renamed or dropped until the view is (`refuse_dependents`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from catalog import commands
from catalog.changes.draft import SYSTEM_SCHEMAS, Draft
from catalog.model import Table, TableId, View
from cluster.errors import (
    DependentObjectsStillExist,
    DuplicateSchema,
    InsufficientPrivilege,
    InvalidSchemaName,
    InvalidTableDefinition,
    OtherError,
    UndefinedTable,
    WrongObjectType,
)

_RESERVED_NAME = "42939"


def create_schema(draft: Draft, command: commands.CreateSchema) -> bool:
    if command.name in draft.schemas or command.name in SYSTEM_SCHEMAS:
        if not command.if_not_exists:
            raise DuplicateSchema(f'schema "{command.name}" already exists')
        draft.notices.append(f'schema "{command.name}" already exists, skipping')
        return False
    check_not_reserved(command.name)
    draft.schemas.append(command.name)
    return True


def check_not_reserved(name: str) -> None:
    """42939 for a name that only the system may give."""
    if name.startswith("pg_"):
        raise OtherError(
            _RESERVED_NAME,
            f'unacceptable schema name "{name}"',
            detail='The prefix "pg_" is reserved for system schemas.',
        )


def drop_schema(draft: Draft, command: commands.DropSchema) -> list[Table] | None:
    """Takes the schema out; returns the tables to drop with it, None if there was no schema."""
    if command.name in SYSTEM_SCHEMAS:
        raise InsufficientPrivilege(f'permission denied to drop schema "{command.name}"')
    if command.name not in draft.schemas:
        if not command.if_exists:
            raise InvalidSchemaName(f'schema "{command.name}" does not exist')
        draft.notices.append(f'schema "{command.name}" does not exist, skipping')
        return None
    tables = [t for t in draft.tables.values() if t.schema == command.name]
    views = [v for v in draft.views.values() if v.schema == command.name]
    alone = [s for s in draft.sequences.values() if s.schema == command.name and not s.owner]
    if (tables or views or alone) and not command.cascade:
        kinds = [f"table {t.name}" for t in tables] + [f"view {v.name}" for v in views]
        kinds += [f"sequence {s.name}" for s in alone]
        raise DependentObjectsStillExist(
            f"cannot drop schema {command.name} because other objects depend on it",
            detail="\n".join(f"{kind} depends on schema {command.name}" for kind in kinds),
            hint="Use DROP ... CASCADE to drop the dependent objects too.",
        )
    draft.notices.extend(f"drop cascades to table {t.name}" for t in tables)
    draft.sequences = {i: s for i, s in draft.sequences.items() if s.schema != command.name}
    drop_views(draft, [*views, *dependent_views(draft, [v.id for v in views])])
    draft.schemas.remove(command.name)
    return tables


def create_view(draft: Draft, command: commands.CreateView) -> TableId:
    """Adds the view, or puts another query into one that keeps its columns."""
    draft.check_writable_schema(command.schema)
    found = draft.relation(command.schema, command.name)
    if found is not None and not command.or_replace:
        draft.check_name_free(command.schema, command.name)
    if isinstance(found, Table):
        raise WrongObjectType(f'"{command.name}" is not a view')
    if found is not None:
        _check_replacement(found, command)
    view_id = found.id if found else TableId(draft.new_id())
    draft.views[view_id] = View(
        view_id,
        command.schema,
        command.name,
        command.query,
        command.columns,
        tuple(dict.fromkeys(command.depends_on)),
    )
    return view_id


def _check_replacement(view: View, command: commands.CreateView) -> None:
    if view.id in command.depends_on:
        raise InvalidTableDefinition(
            f'infinite recursion detected in rules for relation "{view.name}"'
        )
    if len(command.columns) < len(view.columns):
        raise InvalidTableDefinition("cannot drop columns from view")
    for (name, sql_type), (new_name, new_type) in zip(view.columns, command.columns, strict=False):
        if name != new_name:
            raise InvalidTableDefinition(
                f'cannot change name of view column "{name}" to "{new_name}"',
                hint="Drop the view and create it again.",
            )
        if sql_type != new_type:
            raise InvalidTableDefinition(
                f'cannot change data type of view column "{name}" from {sql_type} to {new_type}'
            )


def drop_view(draft: Draft, command: commands.DropView) -> bool:
    """Drops the views; False when there was nothing to drop."""
    views = []
    for schema, name in command.names:
        found = draft.relation(schema, name)
        if isinstance(found, Table):
            raise WrongObjectType(
                f'"{name}" is not a view', hint="Use DROP TABLE to remove a table."
            )
        if found is not None:
            views.append(found)
        elif command.if_exists:
            draft.notices.append(f'view "{name}" does not exist, skipping')
        else:
            raise UndefinedTable(f'view "{name}" does not exist')
    named = {view.id for view in views}
    dependents = [v for v in dependent_views(draft, list(named)) if v.id not in named]
    if dependents and not command.cascade:
        refuse_dependents(draft, [("view", view.name) for view in views], dependents)
    drop_views(draft, dependents)
    for view in views:
        draft.views.pop(view.id, None)
    return bool(views)


def dependent_views(draft: Draft, ids: Iterable[TableId]) -> list[View]:
    """The views that read one of these, directly or through other views, by id."""
    reached = set(ids)
    found: dict[TableId, View] = {}
    grown = True
    while grown:
        grown = False
        for view in draft.views.values():
            if view.id not in found and not reached.isdisjoint(view.depends_on):
                found[view.id] = view
                reached.add(view.id)
                grown = True
    return [found[i] for i in sorted(found)]


def drop_views(draft: Draft, views: Iterable[View]) -> None:
    """Drops them as a consequence of something else, and says so."""
    for view in views:
        if draft.views.pop(view.id, None) is not None:
            draft.notices.append(f"drop cascades to view {view.name}")


def refuse_dependents(
    draft: Draft,
    dropped: Sequence[tuple[str, str]],
    views: Sequence[View],
    others: Sequence[str] = (),
) -> None:
    """Raises 2BP01 naming what depends on the things to be dropped (kind, name); `others` are
    lines beside those for views."""
    kind, name = dropped[0]
    what = f"{kind} {name}" if len(dropped) == 1 else "desired object(s)"
    raise DependentObjectsStillExist(
        f"cannot drop {what} because other objects depend on it",
        detail="\n".join([*others, *(f"view {view.name} depends on {what}" for view in views)]),
        hint="Use DROP ... CASCADE to drop the dependent objects too.",
    )
