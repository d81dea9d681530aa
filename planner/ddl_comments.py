"""COMMENT ON: what it names, as a command."""

from __future__ import annotations

from catalog import commands
from catalog.model import Table, TableId, View
from cluster.errors import FeatureNotSupported, UndefinedColumn, UndefinedTable, WrongObjectType
from planner.context import PlannerContext
from planner.ddl_names import find_relation
from planner.ddl_plan import ChangeCatalog
from planner.ddl_sequences import find_sequence
from planner.statements import Comment


def plan_comment(statement: Comment, context: PlannerContext) -> ChangeCatalog:
    """COMMENT ON."""
    command = commands.SetComment(_named(statement, context), statement.column, statement.comment)
    return ChangeCatalog((command,), "COMMENT", statement.notices)


def _named(statement: Comment, context: PlannerContext) -> TableId:
    name = statement.name
    found = find_relation(context, name)
    sequence = find_sequence(context, name) if found is None else None
    if found is None and sequence is None:
        raise UndefinedTable(f'relation "{name}" does not exist', position=name.position)
    if statement.column is not None:
        return _table_of_column(statement, found)
    kind = "table" if isinstance(found, Table) else "view" if found is not None else "sequence"
    if kind != statement.kind:
        raise WrongObjectType(f'"{name.name}" is not a {statement.kind}', position=name.position)
    if found is not None:
        return found.id
    assert sequence is not None
    return sequence.id


def _table_of_column(statement: Comment, found: Table | View | None) -> TableId:
    if isinstance(found, View):
        raise FeatureNotSupported(
            "comments on columns of views are not supported",
            hint="Comment on the columns of the tables that the view reads.",
        )
    if found is None:
        raise WrongObjectType(f'cannot set comment on relation "{statement.name.name}"')
    column = statement.column
    if column is None or found.column_named(column) is None:
        raise UndefinedColumn(
            f'column "{column}" of relation "{statement.name}" does not exist',
            position=statement.name.position,
        )
    return found.id
