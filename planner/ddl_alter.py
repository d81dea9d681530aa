"""ALTER TABLE, action by action; those about columns are in `ddl_columns`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from catalog import commands
from catalog.drafting import draft
from catalog.model import Placement, Table, TableId
from cluster.errors import (
    FeatureNotSupported,
    InvalidTableDefinition,
    UndefinedColumn,
)
from planner.context import PlannerContext
from planner.ddl_columns import (
    add_column,
    alter_type,
    changed,
    definitions,
    drop_column,
    drop_origin,
    set_default,
    set_identity,
    set_not_null,
)
from planner.ddl_keys import foreign_key_definition
from planner.ddl_names import creation_schema, find_relation, find_table, placement_of
from planner.ddl_plan import AddReference, ChangeCatalog, DdlPlan, ValidateReference
from planner.ddl_recut import scheme_with_key
from planner.ddl_tables import check_definition, key_definition
from planner.parser.expressions import rename_in_expression
from planner.statements import (
    AddColumn,
    AddConstraint,
    AlterAction,
    AlterTable,
    AlterType,
    ConstraintKind,
    DropColumn,
    DropConstraint,
    DropOrigin,
    ObjectName,
    RenameColumn,
    RenameConstraint,
    RenameTable,
    ResetPlacement,
    SetAccessMethod,
    SetDefault,
    SetIdentity,
    SetNotNull,
    SetStorage,
    SetTableSchema,
    StorageClauses,
    ValidateConstraint,
)


def plan_alter_table(statement: AlterTable, context: PlannerContext) -> DdlPlan:
    """One plan for all actions, each planned for the table as those before leave it."""
    if statement.if_exists and find_relation(context, statement.table) is None:
        notice = f'relation "{statement.table.name}" does not exist, skipping'
        return ChangeCatalog((), "ALTER TABLE", (*statement.notices, notice))
    table = find_table(context, statement.table)
    actions = [each for action in statement.actions for each in _parts(table, action)]
    if len(actions) == 1:
        return _with_notices(_plan_action(table, actions[0], context), statement.notices)
    return _with_notices(_one_by_one(table.id, actions, context), statement.notices)


def _parts(table: Table, action: AlterAction) -> list[AlterAction]:
    """A new column, and then its constraints."""
    if not isinstance(action, AddColumn):
        return [action]
    column = dataclasses.replace(action, constraints=())
    if action.if_not_exists and table.column_named(action.column.name) is not None:
        return [column]
    return [column, *map(AddConstraint, action.constraints)]


def _one_by_one(
    table_id: TableId, actions: Sequence[AlterAction], context: PlannerContext
) -> ChangeCatalog:
    whole = ChangeCatalog((), "ALTER TABLE")
    for action in actions:
        table = context.catalog.tables[table_id]
        plan = _plan_action(table, action, context)
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
    catalog = draft(context.catalog, plan.commands).after
    return dataclasses.replace(context, catalog=catalog)


def _with_notices(plan: DdlPlan, notices: tuple[str, ...]) -> DdlPlan:
    if not notices:
        return plan
    return dataclasses.replace(plan, notices=(*notices, *plan.notices))


def _plan_action(table: Table, action: AlterAction, context: PlannerContext) -> DdlPlan:
    return _ACTIONS[type(action)](table, action, context)


def _rename_table(table: Table, action: RenameTable, context: PlannerContext) -> DdlPlan:
    return changed(commands.RenameTable(table.schema, table.name, table.schema, action.new_name))


def _set_schema(table: Table, action: SetTableSchema, context: PlannerContext) -> DdlPlan:
    schema = creation_schema(context, ObjectName("", action.schema))
    return changed(commands.RenameTable(table.schema, table.name, schema, table.name))


def _rename_column(table: Table, action: RenameColumn, context: PlannerContext) -> DdlPlan:
    checks = tuple(
        rename_in_expression(check.expression, action.column, action.new_name)
        for check in table.checks
    )
    return changed(commands.RenameColumn(table.id, action.column, action.new_name, checks))


def _add_constraint(table: Table, action: AddConstraint, context: PlannerContext) -> DdlPlan:
    clause = action.constraint
    if clause.kind is ConstraintKind.FOREIGN_KEY:
        own = table.schema, table.name
        definition = foreign_key_definition(clause, context, own, validated=action.validated)
        return AddReference(table.id, definition, "ALTER TABLE")
    if clause.kind is ConstraintKind.CHECK:
        check = check_definition(table.name, definitions(table), clause, context)
        return changed(commands.AddCheck(table.id, check, action.validated))
    if clause.kind is ConstraintKind.UNIQUE:
        return changed(commands.AddUnique(table.id, key_definition(clause)))
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
    scheme = scheme_with_key(table, clause.columns)
    return changed(commands.PrepareRecut(table.id, scheme, key_definition(clause)))


def _rename_constraint(table: Table, action: RenameConstraint, context: PlannerContext) -> DdlPlan:
    return changed(commands.RenameConstraint(table.id, action.constraint, action.new_name))


def _drop_constraint(table: Table, action: DropConstraint, context: PlannerContext) -> DdlPlan:
    return changed(
        commands.DropConstraint(table.id, action.constraint, action.if_exists, action.cascade)
    )


def _validate(table: Table, action: ValidateConstraint, context: PlannerContext) -> DdlPlan:
    if any(key.name == action.constraint and not key.validated for key in table.foreign_keys):
        return ValidateReference(table.id, action.constraint, "ALTER TABLE")
    return changed(commands.ValidateConstraint(table.id, action.constraint))


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
    return changed(*found)


def _reset_placement(table: Table, action: ResetPlacement, context: PlannerContext) -> DdlPlan:
    kept = table.placement or Placement()
    kept = Placement(
        None if "region" in action.names else kept.region,
        None if "zone" in action.names else kept.zone,
        () if "nodes" in action.names else kept.nodes,
    )
    where = None if kept == Placement() else kept
    return changed(commands.SetTablePlacement(table.id, where))


def _set_access_method(table: Table, action: SetAccessMethod, context: PlannerContext) -> DdlPlan:
    return changed(commands.SetAccessMethod(table.id, action.method))


_ACTIONS: dict[type[AlterAction], Callable[..., DdlPlan]] = {
    RenameTable: _rename_table,
    RenameColumn: _rename_column,
    RenameConstraint: _rename_constraint,
    SetTableSchema: _set_schema,
    AddColumn: add_column,
    DropColumn: drop_column,
    SetDefault: set_default,
    SetNotNull: set_not_null,
    AlterType: alter_type,
    SetIdentity: set_identity,
    DropOrigin: drop_origin,
    ValidateConstraint: _validate,
    AddConstraint: _add_constraint,
    DropConstraint: _drop_constraint,
    SetStorage: _set_storage,
    ResetPlacement: _reset_placement,
    SetAccessMethod: _set_access_method,
}
