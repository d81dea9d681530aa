"""Tables, views and schemas as statements other than queries name them."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.model import DEFAULT_SCHEMA, NodeId, Placement, Table, View
from cluster.errors import (
    InsufficientPrivilege,
    InvalidSchemaName,
    InvalidTableDefinition,
    UndefinedTable,
    WrongObjectType,
)
from planner.context import PlannerContext
from planner.statements import ObjectName, PlacementClause
from planner.temporary import named_schema, temporary_schema, with_temporary

SYSTEM_SCHEMAS = ("pg_catalog", "information_schema", "dqe")
_DEFAULT_SEARCH_PATH = '"$user", public'


def search_path(context: PlannerContext) -> tuple[str, ...]:
    """The schemas of `search_path` that exist, in order, the session's temporary one first;
    `$user` is the session's user."""
    text = context.settings.get("search_path", _DEFAULT_SEARCH_PATH)
    names = [piece.strip().strip('"') for piece in text.split(",")]
    user = context.session.get("user", "")
    resolved = [user if name == "$user" else name for name in names]
    return tuple(
        name for name in with_temporary(context, resolved) if name in context.catalog.schemas
    )


def creation_schema(context: PlannerContext, name: ObjectName, *, temporary: bool = False) -> str:
    """Where a new object goes. 3F000 when there is no such schema."""
    own = temporary_schema(context)
    if name.schema is not None and named_schema(context, name.schema) == own:
        return own
    if temporary:
        if name.schema is not None:
            raise InvalidTableDefinition(
                "cannot create temporary relation in non-temporary schema", position=name.position
            )
        return own
    if name.schema is not None:
        if name.schema in SYSTEM_SCHEMAS:
            raise InsufficientPrivilege(
                f"permission denied for schema {name.schema}", position=name.position
            )
        if name.schema not in context.catalog.schemas:
            raise InvalidSchemaName(
                f'schema "{name.schema}" does not exist', position=name.position
            )
        return name.schema
    path = [schema for schema in search_path(context) if schema != own]
    if not path:
        raise InvalidSchemaName("no schema has been selected to create in", position=name.position)
    return path[0]


def find_relation(context: PlannerContext, name: ObjectName) -> Table | View | None:
    """The table or view a name means, along the search path when it has no schema."""
    for schema in _candidates(context, name):
        found = context.catalog.find_table(name.name, schema) or context.catalog.find_view(
            name.name, schema
        )
        if found is not None:
            return found
    return None


def _candidates(context: PlannerContext, name: ObjectName) -> Sequence[str]:
    if name.schema is None:
        return search_path(context)
    return (named_schema(context, name.schema),)


def find_table(context: PlannerContext, name: ObjectName, *, purpose: str = "") -> Table:
    """The table a name means; 42P01 when there is none, 42809 when it is a view.

    `purpose` words the refusal of views, "cannot insert into view".
    """
    found = find_relation(context, name)
    if isinstance(found, Table):
        return found
    if isinstance(found, View):
        raise WrongObjectType(
            f'cannot {purpose} view "{name.name}"' if purpose else f'"{name.name}" is not a table',
            position=name.position,
        )
    if name.schema in SYSTEM_SCHEMAS:
        raise InsufficientPrivilege(
            f"permission denied: {name} is a system table", position=name.position
        )
    raise UndefinedTable(f'relation "{name}" does not exist', position=name.position)


def drop_names(context: PlannerContext, names: Sequence[ObjectName]) -> tuple[tuple[str, str], ...]:
    """(schema, name) of objects to drop; those that do not exist keep the name they would have."""
    return tuple(_drop_name(context, name) for name in names)


def _drop_name(context: PlannerContext, name: ObjectName) -> tuple[str, str]:
    if name.schema in SYSTEM_SCHEMAS:
        raise InsufficientPrivilege(
            f"permission denied: {name} is a system object", position=name.position
        )
    found = find_relation(context, name)
    if found is not None:
        return found.schema, found.name
    own = temporary_schema(context)
    path = [schema for schema in search_path(context) if schema != own]
    return name.schema or (path[0] if path else DEFAULT_SCHEMA), name.name


def placement_of(clause: PlacementClause | None) -> Placement | None:
    """The catalog's placement of a WITH clause; None when it says nothing."""
    if clause is None or clause == PlacementClause():
        return None
    nodes = tuple(NodeId(number) for number in clause.nodes)
    return Placement(clause.region, clause.zone, nodes)
