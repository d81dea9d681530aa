"""ALTER TABLE, action by action.

Changes that the catalog has no command for yet (constraints other than a primary key, another
placement) are refused with 0A000.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from catalog import commands
from catalog.definition import UniqueDefinition
from catalog.drafting import draft
from catalog.model import Table
from cluster.errors import (
    FeatureNotSupported,
    InvalidTableDefinition,
    UndefinedColumn,
    UndefinedObject,
)
from planner.context import PlannerContext
from planner.ddl_keys import foreign_key_definition
from planner.ddl_names import creation_schema, find_relation, find_table, placement_of
from planner.ddl_plan import AddReference, ChangeCatalog, DdlPlan
from planner.ddl_recut import scheme_with_key
from planner.ddl_tables import column_definition, columns_read, default_text
from planner.parser.expressions import parse_expression, rename_in_expression
from planner.statements import (
    AddColumn,
    AddConstraint,
    AlterAction,
    AlterTable,
    ConstraintKind,
    DropColumn,
    DropConstraint,
    ObjectName,
    RenameColumn,
    RenameConstraint,
    RenameTable,
    SetAccessMethod,
    SetDefault,
    SetNotNull,
    SetStorage,
    SetTableSchema,
    StorageClauses,
)


def plan_alter_table(statement: AlterTable, context: PlannerContext) -> DdlPlan:
    """One plan for all actions, each planned for the table as those before leave it."""
    if statement.if_exists and find_relation(context, statement.table) is None:
        notice = f'relation "{statement.table.name}" does not exist, skipping'
        return ChangeCatalog((), "ALTER TABLE", (*statement.notices, notice))
    table = find_table(context, statement.table)
    if len(statement.actions) == 1:
        return _with_notices(_plan_action(table, statement.actions[0], context), statement.notices)
    whole = ChangeCatalog((), "ALTER TABLE", statement.notices)
    for action in statement.actions:
        plan = _plan_action(context.catalog.tables[table.id], action, context)
        if not isinstance(plan, ChangeCatalog):
            raise FeatureNotSupported(
                "this ALTER TABLE action cannot be combined with others",
                hint="Write it as a statement of its own.",
            )
        whole = dataclasses.replace(
            whole,
            commands=(*whole.commands, *plan.commands),
            notices=(*whole.notices, *plan.notices),
            conversions=(*whole.conversions, *plan.conversions),
        )
        context = _drafted(context, plan)
    return whole


def _drafted(context: PlannerContext, plan: ChangeCatalog) -> PlannerContext:
    catalog = context.catalog
    for command in plan.commands:
        catalog = draft(catalog, command).after
    return dataclasses.replace(context, catalog=catalog)


def _with_notices(plan: DdlPlan, notices: tuple[str, ...]) -> DdlPlan:
    if not notices:
        return plan
    return dataclasses.replace(plan, notices=(*notices, *plan.notices))


def _plan_action(table: Table, action: AlterAction, context: PlannerContext) -> DdlPlan:
    return _ACTIONS[type(action)](table, action, context)


def _changed(*found: commands.Command, notices: tuple[str, ...] = ()) -> ChangeCatalog:
    return ChangeCatalog(tuple(found), "ALTER TABLE", notices)


def _rename_table(table: Table, action: RenameTable, context: PlannerContext) -> DdlPlan:
    return _changed(commands.RenameTable(table.schema, table.name, table.schema, action.new_name))


def _set_schema(table: Table, action: SetTableSchema, context: PlannerContext) -> DdlPlan:
    schema = creation_schema(context, ObjectName("", action.schema))
    return _changed(commands.RenameTable(table.schema, table.name, schema, table.name))


def _rename_column(table: Table, action: RenameColumn, context: PlannerContext) -> DdlPlan:
    checks = tuple(
        rename_in_expression(check.expression, action.column, action.new_name)
        for check in table.checks
    )
    return _changed(commands.RenameColumn(table.id, action.column, action.new_name, checks))


def _add_column(table: Table, action: AddColumn, context: PlannerContext) -> DdlPlan:
    if action.constraints:
        raise FeatureNotSupported(
            "ADD COLUMN with a key or CHECK constraint is not supported",
            hint="Create a new table with the constraint and copy the rows.",
        )
    definition = column_definition(action.column, context)
    if definition.sequence is not None or definition.generated is not None:
        raise FeatureNotSupported(
            "ADD COLUMN of a serial, identity or generated column is not supported",
            hint="Create a new table with the column and copy the rows.",
        )
    return _changed(commands.AddColumn(table.id, definition, None, action.if_not_exists))


def _drop_column(table: Table, action: DropColumn, context: PlannerContext) -> DdlPlan:
    checks = tuple(
        check.name
        for check in table.checks
        if action.column in columns_read(parse_expression(check.expression).copy(), table.name)
    )
    return _changed(commands.DropColumn(table.id, action.column, action.if_exists, checks))


def _set_default(table: Table, action: SetDefault, context: PlannerContext) -> DdlPlan:
    column = table.column_named(action.column)
    if column is None:
        raise _no_column(table, action.column)
    text = None
    if action.default is not None:
        text = default_text(action.default, column.type, context)
    return _changed(commands.SetColumnDefault(table.id, action.column, text))


def _set_not_null(table: Table, action: SetNotNull, context: PlannerContext) -> DdlPlan:
    column = table.column_named(action.column)
    if column is None:
        raise _no_column(table, action.column)
    return _changed(commands.SetColumnNotNull(table.id, action.column, action.not_null))


def _add_constraint(table: Table, action: AddConstraint, context: PlannerContext) -> DdlPlan:
    clause = action.constraint
    if clause.kind is ConstraintKind.FOREIGN_KEY:
        definition = foreign_key_definition(clause, context, (table.schema, table.name))
        return AddReference(table.id, definition, "ALTER TABLE")
    if clause.kind is not ConstraintKind.PRIMARY_KEY:
        raise FeatureNotSupported(
            f"ALTER TABLE ... ADD {clause.kind.upper()} is not supported yet",
            hint="Give the constraint when the table is created.",
            position=clause.position,
        )
    if table.primary_key is not None:
        raise InvalidTableDefinition(
            f'multiple primary keys for table "{table.name}" are not allowed',
            position=clause.position,
        )
    for name in clause.columns:
        if table.column_named(name) is None:
            raise UndefinedColumn(
                f'column "{name}" of relation "{table.name}" does not exist',
                position=clause.position,
            )
    key = UniqueDefinition(clause.columns, clause.name)
    scheme = scheme_with_key(table, clause.columns)
    return _changed(commands.PrepareRecut(table.id, scheme, key))


def _refuse_rename_constraint(
    table: Table, action: RenameConstraint, context: PlannerContext
) -> DdlPlan:
    raise FeatureNotSupported("ALTER TABLE ... RENAME CONSTRAINT is not supported yet")


def _drop_constraint(table: Table, action: DropConstraint, context: PlannerContext) -> DdlPlan:
    if any(key.name == action.constraint for key in table.foreign_keys):
        return _changed(commands.DropForeignKey(table.id, action.constraint))
    names = [u.name for u in (*table.unique, table.primary_key) if u]
    names += [check.name for check in table.checks]
    if action.constraint in names:
        raise FeatureNotSupported("ALTER TABLE ... DROP CONSTRAINT is not supported yet")
    message = f'constraint "{action.constraint}" of relation "{table.name}" does not exist'
    if not action.if_exists:
        raise UndefinedObject(message)
    return _changed(notices=(f"{message}, skipping",))


def _set_storage(table: Table, action: SetStorage, context: PlannerContext) -> DdlPlan:
    clauses = action.clauses
    known = dataclasses.replace(clauses, replicas=None, durability=None, placement=None)
    if known != StorageClauses():
        raise FeatureNotSupported(
            "ALTER TABLE ... SET (...) changes replicas, durability and placement only"
        )
    found: list[commands.Command] = []
    if clauses.replicas is not None:
        found.append(commands.SetTableReplicas(table.id, clauses.replicas))
    where = placement_of(clauses.placement)
    if where is not None:
        found.append(commands.SetTablePlacement(table.id, where))
    if clauses.durability is not None:
        found.append(commands.SetTableDurability(table.id, clauses.durability))
    return _changed(*found)


def _set_access_method(table: Table, action: SetAccessMethod, context: PlannerContext) -> DdlPlan:
    return _changed(commands.SetAccessMethod(table.id, action.method))


def _no_column(table: Table, name: str) -> UndefinedColumn:
    return UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')


_ACTIONS: dict[type[AlterAction], Callable[..., DdlPlan]] = {
    RenameTable: _rename_table,
    RenameColumn: _rename_column,
    RenameConstraint: _refuse_rename_constraint,
    SetTableSchema: _set_schema,
    AddColumn: _add_column,
    DropColumn: _drop_column,
    SetDefault: _set_default,
    SetNotNull: _set_not_null,
    AddConstraint: _add_constraint,
    DropConstraint: _drop_constraint,
    SetStorage: _set_storage,
    SetAccessMethod: _set_access_method,
}
