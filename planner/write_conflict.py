"""INSERT ... ON CONFLICT: which constraints decide, and what becomes of the rows that are there.

The executor has the new rows at hand when it knows their values, and gives them to a query as
relation `excluded`, which is what they are called in SET and WHERE. The query joins them with
the table on a constraint's columns, so that it finds each new row's conflict and computes the
update in one go, wherever the stored rows lie.

Left out: expressions and predicates of indexes as conflict targets (there are no such indexes).
"""

from __future__ import annotations

import dataclasses

from sqlglot import exp

from catalog.model import Table, UniqueConstraint
from cluster.errors import (
    InvalidColumnReference,
    ObjectNotInPrerequisiteState,
    SyntaxError_,
    UndefinedObject,
)
from planner.bound import GIVEN_SCHEMA, BoundQuery, SystemTable
from planner.context import PlannerContext
from planner.optimizer import plan_query
from planner.statements import Insert, OnConflict
from planner.write_assignments import Parameters, RowChange, RowSource, Values, own_column
from planner.write_plan import ConflictPlan
from planner.write_rows import column_named, column_reference, table_reference
from storage.types import BOOL, INT8, SqlType

EXCLUDED = "excluded"
# The column with a new row's number.
ROW_NUMBER = "~row"


def arbiters_of(table: Table, conflict: OnConflict) -> tuple[UniqueConstraint, ...]:
    """The constraints that the clause means; 42P10 or 42704 where there is none, 55000 where one
    is deferrable: whether a row is in conflict is not known at once."""
    arbiters = _meant_arbiters(table, conflict)
    if any(arbiter.deferrable for arbiter in arbiters):
        raise ObjectNotInPrerequisiteState(
            "ON CONFLICT does not support deferrable unique constraints/exclusion constraints as"
            " arbiters"
        )
    return arbiters


def _meant_arbiters(table: Table, conflict: OnConflict) -> tuple[UniqueConstraint, ...]:
    building = {index.name for index in table.indexes if not index.ready}
    known = tuple(c for c in table.unique_keys if c.name not in building)
    if conflict.constraint is not None:
        named = tuple(c for c in known if c.name == conflict.constraint)
        if not named:
            raise UndefinedObject(
                f'constraint "{conflict.constraint}" for table "{table.name}" does not exist'
            )
        return named
    if conflict.columns is None:
        if conflict.assignments is not None:
            raise SyntaxError_(
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                hint="For example, ON CONFLICT (column_name).",
                position=conflict.position,
            )
        return known
    wanted = {column_named(table, name).id for name in conflict.columns}
    inferred = tuple(c for c in known if set(c.columns) == wanted)
    if not inferred:
        raise InvalidColumnReference(
            "there is no unique or exclusion constraint matching the ON CONFLICT specification"
        )
    return inferred


def plan_conflict(
    statement: Insert,
    table: Table,
    arbiter: UniqueConstraint,
    context: PlannerContext,
    *,
    parameters: Parameters = (),
    values: Values = None,
) -> ConflictPlan:
    """The plan over the new rows, which the context has as relation `excluded`."""
    source = RowSource(context, parameters, values)
    bound, change = _bound(statement, table, arbiter, source)
    planned = plan_query(bound, context)
    return ConflictPlan(planned, None if change is None else change.plan(planned, None, context))


def _bound(
    statement: Insert, table: Table, arbiter: UniqueConstraint, source: RowSource
) -> tuple[BoundQuery, RowChange | None]:
    conflict = statement.on_conflict
    assert conflict is not None
    alias = statement.alias or table.name
    number: exp.Expr = column_reference(ROW_NUMBER, EXCLUDED)
    if conflict.assignments is None:
        tree = _conflicts(table, statement.alias, arbiter, [number])
        return source.bind(tree, [INT8]), None
    change = RowChange(table, conflict.assignments, whole=bool(statement.returning))
    where = conflict.where.copy() if conflict.where is not None else exp.true()
    if conflict.where is not None:
        for column, value in change.values.items():
            # Not evaluated for rows that are left as they are.
            case = exp.Case(ifs=[exp.If(this=exp.Paren(this=where.copy()), true=value)])
            change.values[column] = case
    applies = exp.Anonymous(this="coalesce", expressions=[exp.Paren(this=where), exp.false()])
    expressions = [number, applies, *change.expressions(alias)]
    tree = _conflicts(table, statement.alias, arbiter, expressions)
    return source.bind(tree, [INT8, BOOL, *change.types]), change


def _conflicts(
    table: Table, alias: str | None, arbiter: UniqueConstraint, expressions: list[exp.Expr]
) -> exp.Select:
    """The stored rows that new ones are equal to by the constraint."""
    name = alias or table.name
    equalities = [
        exp.EQ(
            this=own_column(table, column, name),
            expression=own_column(table, column, EXCLUDED),
        )
        for column in arbiter.columns
    ]
    new = exp.Table(
        this=exp.to_identifier(EXCLUDED, quoted=True),
        db=exp.to_identifier(GIVEN_SCHEMA, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(EXCLUDED, quoted=True)),
    )
    return exp.Select(
        expressions=[exp.alias_(e, f"v{place}") for place, e in enumerate(expressions)],
        from_=exp.From(this=table_reference(table, alias)),
        joins=[exp.Join(this=new, on=exp.and_(*equalities))],
    )


def excluded_relation(table: Table) -> SystemTable:
    """What the new rows look like, without any."""
    columns = [(c.name, c.type) for c in table.visible_columns]
    return SystemTable(GIVEN_SCHEMA, EXCLUDED, (*columns, (ROW_NUMBER, INT8)), 0.0)


def conflict_parameters(
    statement: Insert, table: Table, bound: BoundQuery, source: RowSource
) -> tuple[SqlType, ...] | None:
    """The statement's parameters, those in SET and WHERE included; None without ON CONFLICT."""
    conflict = statement.on_conflict
    if conflict is None:
        return None
    given = {**source.context.given, EXCLUDED: excluded_relation(table)}
    context = dataclasses.replace(source.context, given=given)
    arbiter = arbiters_of(table, conflict)
    own = RowSource(context, source.parameters, source.values)
    mine = bound.parameters
    if arbiter:
        theirs = _bound(statement, table, arbiter[0], own)[0].parameters
        named = _numbers(statement.source)
        count = max(len(mine), len(theirs))
        return tuple(
            mine[n] if n < len(mine) and (n + 1 in named or n >= len(theirs)) else theirs[n]
            for n in range(count)
        )
    return mine


def _numbers(tree: exp.Expr | None) -> set[int]:
    """Which parameters the tree names."""
    if tree is None:
        return set()
    return {int(p.name) for p in tree.find_all(exp.Parameter)}
