"""Statements that define things, planned: `plan_ddl`.

CREATE TABLE is in `ddl_tables`, ALTER TABLE in `ddl_alter`, tables cut anew in `ddl_recut`, what
a plan looks like in `ddl_plan`; schemas, views and DROP are here.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from catalog import commands
from catalog.model import (
    PartitionMethod,
    Table,
    TableId,
)
from cluster.errors import (
    DuplicateColumn,
    DuplicateSchema,
    InvalidTableDefinition,
    OtherError,
    UndefinedObject,
)
from planner.binder import bind_query
from planner.context import PlannerContext
from planner.ddl_alter import plan_alter_table
from planner.ddl_comments import plan_comment
from planner.ddl_keys import (
    plan_alter_index,
    plan_create_index,
    plan_drop_index,
    plan_reindex,
)
from planner.ddl_names import (
    SYSTEM_SCHEMAS,
    creation_schema,
    drop_names,
    find_relation,
    search_path,
)
from planner.ddl_plan import ChangeCatalog, DdlPlan
from planner.ddl_recut import plan_distribute
from planner.ddl_sequences import (
    plan_alter_sequence,
    plan_create_sequence,
    plan_drop_sequence,
)
from planner.ddl_tables import (
    folded_name,
    plan_create_partition,
    plan_create_table,
    plan_create_table_as,
)
from planner.parser.expressions import quote_name
from planner.statements import (
    AlterIndex,
    AlterSequence,
    AlterTable,
    Comment,
    CreateIndex,
    CreatePartition,
    CreateSchema,
    CreateSequence,
    CreateTable,
    CreateTableAs,
    CreateView,
    Distribute,
    DropIndex,
    DropSchema,
    DropSequence,
    DropTable,
    DropView,
    ObjectName,
    Reindex,
    RenameSchema,
    Statement,
)
from planner.temporary import temporary_schema
from storage.types import TEXT, Kind


def plan_ddl(statement: Statement, context: PlannerContext) -> DdlPlan:
    """The plan of one of `DDL_STATEMENTS`."""
    return _PLANNERS[type(statement)](statement, context)


# ---------------------------------------------------------------------------------------
# Schemas


def _create_schema(statement: CreateSchema, context: PlannerContext) -> DdlPlan:
    if statement.name.startswith("pg_") or statement.name in SYSTEM_SCHEMAS:
        if statement.name in SYSTEM_SCHEMAS and statement.if_not_exists:
            return ChangeCatalog(
                (),
                "CREATE SCHEMA",
                (*statement.notices, f'schema "{statement.name}" already exists, skipping'),
            )
        if statement.name in SYSTEM_SCHEMAS:
            raise DuplicateSchema(f'schema "{statement.name}" already exists')
        raise OtherError(
            "42939",
            f'unacceptable schema name "{statement.name}"',
            detail='The prefix "pg_" is reserved for system schemas.',
        )
    command = commands.CreateSchema(statement.name, statement.if_not_exists)
    return ChangeCatalog((command,), "CREATE SCHEMA", statement.notices)


def _rename_schema(statement: RenameSchema, context: PlannerContext) -> DdlPlan:
    command = commands.RenameSchema(statement.name, statement.new_name)
    return ChangeCatalog((command,), "ALTER SCHEMA", statement.notices)


def _drop_schema(statement: DropSchema, context: PlannerContext) -> DdlPlan:
    dropped = tuple(
        commands.DropSchema(name, statement.if_exists, statement.cascade)
        for name in statement.names
    )
    return ChangeCatalog(dropped, "DROP SCHEMA", statement.notices)


# ---------------------------------------------------------------------------------------
# Views


def _create_view(statement: CreateView, context: PlannerContext) -> DdlPlan:
    notices = list(statement.notices)
    schema = creation_schema(context, statement.view, temporary=statement.temporary)
    bound = bind_query(statement.query, context)
    if bound.parameters:
        raise UndefinedObject("there is no parameter $1")
    names = [column.name for column in bound.columns]
    if statement.columns is not None:
        if len(statement.columns) > len(names):
            raise InvalidTableDefinition("CREATE VIEW specifies more column names than columns")
        names[: len(statement.columns)] = statement.columns
    for place, name in enumerate(names):
        if name in names[:place]:
            raise DuplicateColumn(f'column "{name}" specified more than once')
    types = [TEXT if c.type.kind is Kind.UNKNOWN else c.type for c in bound.columns]
    text, depends_on = _qualified_view(statement, context)
    own = temporary_schema(context)
    if schema != own and any(_schema_of(context, each) == own for each in depends_on):
        notices.append(f'view "{statement.view.name}" will be a temporary view')
        schema = own
    command = commands.CreateView(
        schema,
        statement.view.name,
        text,
        tuple(zip(names, types, strict=True)),
        statement.or_replace,
        depends_on,
    )
    return ChangeCatalog((command,), "CREATE VIEW", tuple(notices))


def _schema_of(context: PlannerContext, relation_id: TableId) -> str:
    catalog = context.catalog
    return (catalog.tables.get(relation_id) or catalog.views[relation_id]).schema


def _qualified_view(
    statement: CreateView, context: PlannerContext
) -> tuple[str, tuple[TableId, ...]]:
    """The query's text with every relation's schema written out, and what it reads.

    So a view means the same whatever `search_path` its users have.
    """
    start = statement.offset + statement.text.index(statement.query_text)
    common = {cte.alias_or_name for cte in statement.query.find_all(exp.CTE)}
    insertions: list[tuple[int, str]] = []
    depends_on: list[TableId] = []
    for reference in statement.query.find_all(exp.Table):
        identifier = reference.this
        if not isinstance(identifier, exp.Identifier):
            continue
        name = folded_name(identifier)
        schema = reference.args.get("db")
        if schema is None and name in common:
            continue
        found = find_relation(context, ObjectName(name, folded_name(schema) if schema else None))
        if found is None:
            continue
        if found.id not in depends_on:
            depends_on.append(found.id)
        if schema is None and "start" in identifier.meta:
            insertions.append((identifier.meta["start"] - start, quote_name(found.schema)))
    text = statement.query_text
    for place, schema_name in sorted(insertions, reverse=True):
        text = f"{text[:place]}{schema_name}.{text[place:]}"
    return text, tuple(depends_on)


def _drop_view(statement: DropView, context: PlannerContext) -> DdlPlan:
    names = drop_names(context, statement.views)
    command = commands.DropView(names, statement.if_exists, statement.cascade)
    return ChangeCatalog((command,), "DROP VIEW", statement.notices)


# ---------------------------------------------------------------------------------------
# DROP TABLE


def _drop_table(statement: DropTable, context: PlannerContext) -> DdlPlan:
    """DROP TABLE of tables, and of parts by their names."""
    parts = []
    tables = []
    for name in statement.tables:
        owner = None if find_relation(context, name) else _owner_of_part(context, name)
        if owner is None:
            tables.append(name)
        else:
            parts.append(commands.DetachPart(owner.id, name.name))
    found: list[commands.Command] = [*parts]
    if tables:
        names = drop_names(context, tables)
        found.append(commands.DropTable(names, statement.if_exists, statement.cascade))
    return ChangeCatalog(tuple(found), "DROP TABLE", statement.notices)


def _owner_of_part(context: PlannerContext, name: ObjectName) -> Table | None:
    schemas = (name.schema,) if name.schema else search_path(context)
    for table in context.catalog.tables.values():
        named = table.method in (PartitionMethod.RANGE, PartitionMethod.LIST)
        if named and table.schema in schemas and any(p.name == name.name for p in table.parts):
            return table
    return None


_PLANNERS: dict[type[Statement], Callable[..., DdlPlan]] = {
    CreateTable: plan_create_table,
    CreateTableAs: plan_create_table_as,
    CreatePartition: plan_create_partition,
    AlterTable: plan_alter_table,
    DropTable: _drop_table,
    CreateSchema: _create_schema,
    RenameSchema: _rename_schema,
    Comment: plan_comment,
    DropSchema: _drop_schema,
    CreateView: _create_view,
    DropView: _drop_view,
    CreateIndex: plan_create_index,
    DropIndex: plan_drop_index,
    AlterIndex: plan_alter_index,
    Reindex: plan_reindex,
    CreateSequence: plan_create_sequence,
    AlterSequence: plan_alter_sequence,
    DropSequence: plan_drop_sequence,
    Distribute: plan_distribute,
}

# The kinds of statements `plan_ddl` plans.
DDL_STATEMENTS = tuple(_PLANNERS)
