"""Tables, views and system tables as FROM names them: which is meant, and the columns it has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sqlglot import exp

from catalog.model import Table, View
from cluster.errors import UndefinedTable
from planner.binder.scope import ScopeColumn
from planner.bound import GIVEN_SCHEMA, SystemTable, column_labels
from planner.dialect import parse_query
from planner.semantics import build
from planner.semantics.environment import Environment
from planner.semantics.system import table_oid
from planner.semantics.system_relations import system_table
from planner.temporary import named_schema
from storage.types import OID


def find_relation(
    environment: Environment, name: str, schema: str | None, position: int | None
) -> Table | View | SystemTable:
    """The table, view or system table a name means; 42P01 where there is none."""
    catalog = environment.context.catalog
    schemas = environment.search_path
    if schema == GIVEN_SCHEMA:
        return environment.context.given[name]
    if schema is not None:
        schemas = (named_schema(environment.context, schema),)
    for each in schemas:
        found = (
            system_table(each, name)
            or catalog.find_table(name, each)
            or catalog.find_view(name, each)
        )
        if found is not None:
            return found
    shown = f"{schema}.{name}" if schema else name
    raise UndefinedTable(f'relation "{shown}" does not exist', position=position)


@lru_cache(maxsize=256)
def parsed_view(query: str) -> exp.Expr:
    """The tree of a view's query; shared, so whoever changes it copies it first."""
    return parse_query(query)


def relation_columns(found: Table | SystemTable, unique: str) -> tuple[ScopeColumn, ...]:
    """All columns, a hidden row id among them, under the relation's unique name."""
    if isinstance(found, SystemTable):
        return tuple(ScopeColumn(name, t, unique, name) for name, t in found.columns)
    labels = column_labels(found)
    return tuple(ScopeColumn(c.name, c.type, unique, labels[c.id]) for c in found.columns)


def never_null(found: Table | SystemTable) -> int | None:
    """The place of a column that is NULL only where an outer join has no row."""
    if isinstance(found, SystemTable):
        return next((i for i, (name, _) in enumerate(found.columns) if name == "oid"), None)
    return next((i for i, column in enumerate(found.columns) if column.id in found.key), None)


def system_columns(
    found: Table | SystemTable,
    unique: str,
    columns: Sequence[ScopeColumn],
    telling: int | None,
) -> tuple[ScopeColumn, ...]:
    """tableoid: the table's own OID (parts have none), NULL where an outer join has no row."""
    oid = table_oid(found)
    if oid is None or telling is None:
        return ()
    present = build.negation(build.is_null(columns[telling].node()))
    value = build.typed(build.case([(present, build.integer(oid, OID))], None), OID)
    return (ScopeColumn("tableoid", OID, unique, "tableoid", value),)
