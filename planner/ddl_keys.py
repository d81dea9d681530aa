"""Foreign keys, and CREATE, DROP and ALTER INDEX: from clauses to definitions and commands."""

from __future__ import annotations

from catalog import commands
from catalog.changes.constraints import constraint_names
from catalog.definition import ForeignKeyDefinition, IndexColumnDefinition, IndexDefinition
from catalog.model import DEFAULT_SCHEMA, Table, TableId
from cluster.errors import InvalidSchemaName, UndefinedObject, UndefinedTable, WrongObjectType
from planner.context import PlannerContext
from planner.ddl_names import SYSTEM_SCHEMAS, find_relation, find_table, search_path
from planner.ddl_plan import BuildIndex, ChangeCatalog
from planner.parser.expressions import quote_name
from planner.statements import (
    AlterIndex,
    ConstraintClause,
    CreateIndex,
    DropIndex,
    ObjectName,
    Reindex,
)


def foreign_key_definition(
    clause: ConstraintClause,
    context: PlannerContext,
    own: tuple[str, str],
    *,
    validated: bool = True,
) -> ForeignKeyDefinition:
    """What a FOREIGN KEY or REFERENCES says; `own` is the (schema, name) of its table."""
    references = clause.references
    assert references is not None
    target = find_relation(context, references.target)
    if target is not None:
        named = target.schema, target.name
    elif references.target.name == own[1] and references.target.schema in (None, own[0]):
        named = own  # being created
    else:
        raise UndefinedTable(
            f'relation "{references.target}" does not exist',
            position=references.target.position,
        )
    return ForeignKeyDefinition(
        clause.columns,
        named,
        references.columns,
        clause.name,
        references.on_delete,
        references.on_update,
        references.match_full,
        references.set_columns,
        references.deferrable,
        references.deferred,
        validated,
    )


def deferrable_keys(context: PlannerContext, name: ObjectName) -> list[tuple[TableId, str]]:
    """The constraints of that name that SET CONSTRAINTS may be about: those of the first schema
    of the search path that has some."""
    path = search_path(context) if name.schema is None else (name.schema,)
    for schema in path:
        tables = [table for table in context.catalog.tables.values() if table.schema == schema]
        found = [(t.id, name.name) for t in tables if name.name in _deferrable(t)]
        if found:
            return found
        if any(name.name in constraint_names(table) for table in tables):
            raise WrongObjectType(f'constraint "{name.name}" is not deferrable')
    raise UndefinedObject(f'constraint "{name}" does not exist')


def _deferrable(table: Table) -> set[str]:
    names = {key.name for key in table.deferrable_keys}
    return names | {key.name for key in table.foreign_keys if key.deferrable}


# ---------------------------------------------------------------------------------------
# Indexes


def plan_create_index(statement: CreateIndex, context: PlannerContext) -> BuildIndex:
    """CREATE INDEX."""
    table = find_table(context, statement.table)
    columns = tuple(
        IndexColumnDefinition(each.name, each.descending, each.nulls_first)
        for each in statement.columns
    )
    definition = IndexDefinition(columns, statement.unique, statement.name)
    command = commands.CreateIndex(table.id, definition, statement.if_not_exists)
    notices = statement.notices
    if not table.access_method.in_row_store and not statement.unique:
        notices = (
            *notices,
            f'the index finds no rows as long as table "{table.name}" is columnar: ALTER TABLE'
            f" {quote_name(table.name)} SET ACCESS METHOD hybrid has it used",
        )
    return BuildIndex(table.id, command, "CREATE INDEX", notices, statement.concurrently)


def plan_drop_index(statement: DropIndex, context: PlannerContext) -> ChangeCatalog:
    """DROP INDEX."""
    names = tuple(_index_named(context, name) for name in statement.indexes)
    command = commands.DropIndex(names, statement.if_exists, statement.cascade)
    return ChangeCatalog((command,), "DROP INDEX", statement.notices)


def plan_alter_index(statement: AlterIndex, context: PlannerContext) -> ChangeCatalog:
    """ALTER INDEX ... RENAME."""
    schema, name = _index_named(context, statement.index)
    if statement.if_exists and not _has_index(context, schema, name):
        notice = f'relation "{name}" does not exist, skipping'
        return ChangeCatalog((), "ALTER INDEX", (*statement.notices, notice))
    command = commands.RenameIndex(schema, name, statement.new_name)
    return ChangeCatalog((command,), "ALTER INDEX", statement.notices)


def plan_reindex(statement: Reindex, context: PlannerContext) -> ChangeCatalog:
    """REINDEX: there is nothing to do, once what it names is known to be there.

    A replica makes its indexes from the rows it has, and is made anew when it is damaged.
    """
    name = statement.name
    if statement.kind == "table" and name is not None:
        find_table(context, name)
    elif statement.kind == "index" and name is not None:
        schema, index = _index_named(context, name)
        if not _has_index(context, schema, index):
            raise UndefinedTable(f'relation "{name}" does not exist', position=name.position)
    elif statement.kind == "schema" and name is not None and not _has_schema(context, name.name):
        raise InvalidSchemaName(f'schema "{name}" does not exist')
    return ChangeCatalog((), "REINDEX", statement.notices)


def _has_schema(context: PlannerContext, name: str) -> bool:
    return name in (*context.catalog.schemas, *SYSTEM_SCHEMAS)


def _index_named(context: PlannerContext, name: ObjectName) -> tuple[str, str]:
    """The schema where an index of that name is, along the search path if none is given."""
    if name.schema is not None:
        return name.schema, name.name
    path = search_path(context)
    for schema in path:
        if _has_index(context, schema, name.name) or context.catalog.find_table(name.name, schema):
            return schema, name.name
    return (path[0] if path else DEFAULT_SCHEMA), name.name


def _has_index(context: PlannerContext, schema: str, name: str) -> bool:
    tables = (table for table in context.catalog.tables.values() if table.schema == schema)
    return any(
        name in {*(k.name for k in table.unique_keys), *(i.name for i in table.indexes)}
        for table in tables
    )
