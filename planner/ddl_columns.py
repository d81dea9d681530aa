"""ALTER TABLE: what becomes of columns."""

from __future__ import annotations

from sqlglot import exp

from catalog import commands
from catalog.definition import ColumnDefinition
from catalog.model import Column, Table
from cluster.errors import (
    DatatypeMismatch,
    FeatureNotSupported,
    InvalidParameterValue,
    UndefinedColumn,
)
from planner.binder import bind_query
from planner.context import PlannerContext
from planner.ddl_plan import ChangeCatalog, Conversion
from planner.ddl_sequences import sequence_definition
from planner.ddl_tables import check_generated, column_definition, columns_read, default_text
from planner.ddl_types import column_type
from planner.parser.expressions import parse_expression, quote_name
from planner.statements import (
    AddColumn,
    AlterType,
    DropColumn,
    DropOrigin,
    SetDefault,
    SetIdentity,
    SetNotNull,
)
from planner.write_rows import column_reference, table_reference
from storage.types import Kind, SqlType


def changed(*found: commands.Command, notices: tuple[str, ...] = ()) -> ChangeCatalog:
    """Commands alone."""
    return ChangeCatalog(tuple(found), "ALTER TABLE", notices)


def add_column(table: Table, action: AddColumn, context: PlannerContext) -> ChangeCatalog:
    """Its constraints are actions of their own."""
    definition = column_definition(action.column, context)
    if definition.generated is not None:
        check_generated([*definitions(table), definition], table.name, context)
    return changed(commands.AddColumn(table.id, definition, None, action.if_not_exists))


def definitions(table: Table) -> list[ColumnDefinition]:
    """The columns as if they were to be made."""
    return [
        ColumnDefinition(column.name, column.type, generated=column.generated)
        for column in table.visible_columns
    ]


def drop_column(table: Table, action: DropColumn, context: PlannerContext) -> ChangeCatalog:
    checks = tuple(
        check.name
        for check in table.checks
        if action.column in columns_read(parse_expression(check.expression).copy(), table.name)
    )
    return changed(commands.DropColumn(table.id, action.column, action.if_exists, checks))


def set_default(table: Table, action: SetDefault, context: PlannerContext) -> ChangeCatalog:
    column = table.column_named(action.column)
    if column is None:
        raise _no_column(table, action.column)
    text = None
    if action.default is not None:
        text = default_text(action.default, column.type, context)
    return changed(commands.SetColumnDefault(table.id, action.column, text))


def set_not_null(table: Table, action: SetNotNull, context: PlannerContext) -> ChangeCatalog:
    column = table.column_named(action.column)
    if column is None:
        raise _no_column(table, action.column)
    return changed(commands.SetColumnNotNull(table.id, action.column, action.not_null))


def alter_type(table: Table, action: AlterType, context: PlannerContext) -> ChangeCatalog:
    column = table.column_named(action.column)
    if column is None:
        raise _no_column(table, action.column)
    if column.generated is not None:
        raise FeatureNotSupported(
            "ALTER TYPE of a generated column is not supported",
            hint="Drop the column and add it again.",
            position=action.position,
        )
    readers = [
        c.name
        for c in table.visible_columns
        if c.generated is not None
        and column.name in columns_read(parse_expression(c.generated).copy(), table.name)
    ]
    if readers:
        raise FeatureNotSupported(
            "cannot alter type of a column used by a generated column",
            detail=f'Column "{column.name}" is used by generated column "{readers[0]}".',
        )
    new_type = column_type(action.type, action.column)
    _check_default(column, new_type, context)
    value = column_reference(column.name, table.name) if action.using is None else action.using.tree
    conversion = Conversion(column.id, _checked(table, column, new_type, value, action, context))
    command = commands.AlterColumnType(table.id, column.name, new_type)
    return ChangeCatalog((command,), "ALTER TABLE", conversions=(conversion,))


def _checked(
    table: Table,
    column: Column,
    new_type: SqlType,
    value: exp.Expr,
    action: AlterType,
    context: PlannerContext,
) -> exp.Expr:
    """The value once it is known to be assignable to the column's new type."""
    if value.find(exp.Query):
        raise FeatureNotSupported("cannot use subquery in transform expression")
    query = exp.Select(
        expressions=[value.copy()], from_=exp.From(this=table_reference(table, None))
    )
    try:
        bind_query(query, context, expected=[new_type])
    except DatatypeMismatch as error:
        if action.using is not None:
            raise DatatypeMismatch(
                f'result of USING clause for column "{column.name}" cannot be cast automatically'
                f" to type {new_type}",
                hint="You might need to add an explicit cast.",
            ) from error
        raise DatatypeMismatch(
            f'column "{column.name}" cannot be cast automatically to type {new_type}',
            hint=f'You might need to specify "USING {quote_name(column.name)}::{new_type}".',
        ) from error
    return value


def _check_default(column: Column, new_type: SqlType, context: PlannerContext) -> None:
    if column.default is None:
        return
    select = exp.Select(expressions=[parse_expression(column.default).copy()])
    try:
        bind_query(select, context, expected=[new_type])
    except DatatypeMismatch as error:
        raise DatatypeMismatch(
            f'default for column "{column.name}" cannot be cast automatically to type {new_type}'
        ) from error


def set_identity(table: Table, action: SetIdentity, context: PlannerContext) -> ChangeCatalog:
    column = table.column_named(action.column)
    if column is None:
        raise _no_column(table, action.column)
    sequence = None
    if action.sequence is not None:
        if column.type.kind not in (Kind.INT2, Kind.INT4, Kind.INT8):
            raise InvalidParameterValue("identity column type must be smallint, integer, or bigint")
        sequence = sequence_definition(action.sequence, column.type)
    return changed(commands.SetColumnOrigin(table.id, action.column, action.identity, sequence))


def drop_origin(table: Table, action: DropOrigin, context: PlannerContext) -> ChangeCatalog:
    expression = action.what == "expression"
    return changed(
        commands.SetColumnOrigin(
            table.id, action.column, expression=expression, if_exists=action.if_exists
        )
    )


def _no_column(table: Table, name: str) -> UndefinedColumn:
    return UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')
