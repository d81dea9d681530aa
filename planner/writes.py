"""INSERT, UPDATE, DELETE, TRUNCATE and COPY FROM, planned.

A change becomes a query that yields what is to be written, so that expressions, joins and
subqueries in it are planned like any other. Defaults and assignment casts are applied by the
binder (`expected`): a literal takes the type of the column it goes to, as in PostgreSQL.

What ON CONFLICT does is planned once it is known which rows it is about (`write_conflict`).
RETURNING is evaluated over rows at hand: the target's, and those of FROM or USING, which the
query yields beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from catalog.model import Column, ColumnId, Table, TableId
from cluster.errors import FeatureNotSupported, SyntaxError_
from planner.bound import BoundQuery
from planner.context import PlannerContext
from planner.ddl_names import find_table
from planner.ddl_sequences import restarted
from planner.locking import target_relation
from planner.optimizer import plan_query
from planner.plan import ResultColumn
from planner.statements import (
    CopyFrom,
    CopyTo,
    Delete,
    Insert,
    Merge,
    Truncate,
    Update,
    is_default,
)
from planner.write_assignments import (
    Parameters,
    RowChange,
    RowSource,
    Values,
    changed_columns,
    other_columns,
    others_of,
    own_column,
)
from planner.write_conflict import arbiters_of, conflict_parameters
from planner.write_merge import describe_merge
from planner.write_plan import CopyFromPlan, DeletePlan, InsertPlan, TruncatePlan, UpdatePlan
from planner.write_rows import (
    OtherRelation,
    cast_from_text,
    check_expressions,
    check_insertable,
    column_reference,
    default_columns,
    default_tree,
    generated_expressions,
    is_volatile,
    plan_returning,
    row_condition,
    table_reference,
    target_columns,
)
from planner.write_values import matched_columns, value_rows
from storage.types import SqlType

# ---------------------------------------------------------------------------------------
# INSERT


def plan_insert(
    statement: Insert,
    context: PlannerContext,
    *,
    parameters: Parameters = (),
    values: Values = None,
) -> InsertPlan:
    """The plan of INSERT."""
    table, columns, bound = _bind_insert(statement, RowSource(context, parameters, values))
    ids = tuple(column.id for column in columns)
    conflict = statement.on_conflict
    return InsertPlan(
        table,
        ids,
        plan_query(bound, context),
        default_columns(table, ids, context),
        check_expressions(table, context),
        plan_returning(statement.returning, table, statement.alias, context),
        None if conflict is None else arbiters_of(table, conflict),
        generated_expressions(table, context),
    )


def _bind_insert(
    statement: Insert, source: RowSource
) -> tuple[Table, Sequence[Column], BoundQuery]:
    table = find_table(source.context, statement.table, purpose="insert into")
    targets = target_columns(table, statement.columns)
    columns: Sequence[Column]
    tree: exp.Expr
    if statement.source is None:
        columns, tree = _default_row(table)
    elif (rows := value_rows(statement.source)) is not None:
        columns, tree = _rows_with_defaults(table, targets, statement, rows)
    else:
        return _bind_insert_query(statement, table, targets, source)
    return table, columns, source.bind(tree, [column.type for column in columns])


def _default_row(table: Table) -> tuple[Sequence[Column], exp.Query]:
    columns = [c for c in table.visible_columns if c.generated is None][:1]
    trees = [default_tree(column) for column in columns]
    return columns, exp.Select(expressions=list(trees))


def _rows_with_defaults(
    table: Table, targets: Sequence[Column], statement: Insert, rows: list[list[exp.Expr]]
) -> tuple[Sequence[Column], exp.Query | exp.Values]:
    """VALUES rows with DEFAULT replaced and the other columns' defaults added."""
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        raise SyntaxError_("VALUES lists must all be the same length")
    targets = matched_columns(targets, width, statement.columns is None)
    kept = _places_given(targets, rows, statement.overriding)
    given = {column.id for column in targets}
    targets = [targets[place] for place in kept]
    rows = [[row[place] for place in kept] for row in rows]
    others = [
        column
        for column in table.visible_columns
        if column.id not in given
        and column.default is not None
        and not is_volatile(default_tree(column))
    ]
    if not targets and not others:
        # Something must be there to count the rows by.
        targets = [c for c in table.visible_columns if not c.generated][:1]
        rows = [[exp.Var(this="DEFAULT")] for _ in rows]
    full = [_full_row(row, targets, others) for row in rows]
    columns = [*targets, *others]
    if len(full) == 1:
        return columns, exp.Select(expressions=full[0])
    # A bare list: its constants are read as the columns' types, each by itself.
    return columns, exp.Values(expressions=[exp.Tuple(expressions=row) for row in full])


def _places_given(
    targets: Sequence[Column], rows: list[list[exp.Expr]], overriding: str | None
) -> list[int]:
    """The places whose values are written: not those of columns that make their own."""
    kept = []
    for place, column in enumerate(targets):
        defaults = [is_default(row[place]) for row in rows]
        if column.identity is not None and overriding == "user":
            continue
        if not all(defaults):
            check_insertable(column, overriding)
        elif column.generated is not None or column.sequence is not None:
            continue
        kept.append(place)
    return kept


def _full_row(
    row: Sequence[exp.Expr], targets: Sequence[Column], others: Sequence[Column]
) -> list[exp.Expr]:
    given = [
        default_tree(column) if is_default(value) else value.copy()
        for value, column in zip(row, targets, strict=True)
    ]
    return given + [default_tree(column) for column in others]


def _bind_insert_query(
    statement: Insert, table: Table, targets: Sequence[Column], source: RowSource
) -> tuple[Table, Sequence[Column], BoundQuery]:
    assert statement.source is not None
    tree = statement.source
    width = _width(tree)
    if width is None:
        width = len(source.bind(tree.copy(), None).columns)
    columns = matched_columns(targets, width, statement.columns is None)
    for column in columns:
        if column.identity is not None and statement.overriding == "user":
            raise FeatureNotSupported("OVERRIDING USER VALUE takes VALUES, not a query")
        check_insertable(column, statement.overriding)
    return table, columns, source.bind(tree.copy(), [column.type for column in columns])


def _width(tree: exp.Query) -> int | None:
    """How many columns a query has; None when a star hides it."""
    items = tree.selects
    return None if not items or any(item.is_star for item in items) else len(items)


# ---------------------------------------------------------------------------------------
# UPDATE


def plan_update(
    statement: Update,
    context: PlannerContext,
    *,
    parameters: Parameters = (),
    values: Values = None,
) -> UpdatePlan:
    """The plan of UPDATE."""
    source = RowSource(context, parameters, values)
    table = find_table(context, statement.table, purpose="update")
    change = RowChange(table, statement.assignments, whole=bool(statement.returning))
    others = others_of(statement.source, source) if statement.returning else ()
    bound = source.bind(*_update_query(change, statement, others))
    returning = plan_returning(
        statement.returning, table, statement.alias, context, statement.source, others
    )
    planned = change.plan(plan_query(bound, context), returning, context)
    return replace(planned, others=_width_of(others), relation=target_relation(bound))


def _width_of(others: Sequence[OtherRelation]) -> int:
    return sum(len(columns) for _, columns in others)


def _update_query(
    change: RowChange, statement: Update, others: Sequence[OtherRelation] = ()
) -> tuple[exp.Select, list[SqlType]]:
    """The row source, with the types its columns are to have."""
    alias = statement.alias or change.table.name
    beside, types = other_columns(others)
    expressions = [*change.expressions(alias), *beside]
    key_width = len(change.table.key)
    tree = _row_query(statement.source, change.table, statement.alias, expressions, key_width)
    for item, name in zip(tree.expressions, change.names, strict=False):
        item.set("alias", exp.to_identifier(name, quoted=True))
    return tree, [*change.types, *types]


def _row_query(
    skeleton: exp.Select,
    table: Table,
    alias: str | None,
    expressions: list[exp.Expr],
    key_width: int,
) -> exp.Select:
    """The statement's own FROM and WHERE, with the target in front, yielding `expressions`.

    Where other relations take part, a target row may be met more than once; it is changed once,
    with any one of the matches, as in PostgreSQL.
    """
    tree = skeleton.copy()
    others = tree.args.get("from_")
    target = exp.From(this=table_reference(table, alias))
    if others is not None:
        first = exp.Join(this=others.this)
        tree.set("joins", [first, *(tree.args.get("joins") or [])])
        keys = exp.Tuple(expressions=[key.copy() for key in expressions[:key_width]])
        tree.set("distinct", exp.Distinct(on=keys))
    tree.set("from_", target)
    named = [exp.alias_(value, f"v{place}") for place, value in enumerate(expressions)]
    tree.set("expressions", named)
    return tree


# ---------------------------------------------------------------------------------------
# DELETE, TRUNCATE, COPY


def plan_delete(
    statement: Delete,
    context: PlannerContext,
    *,
    parameters: Parameters = (),
    values: Values = None,
) -> DeletePlan:
    """The plan of DELETE."""
    source = RowSource(context, parameters, values)
    others = others_of(statement.source, source) if statement.returning else ()
    table, old, row, tree = _delete_query(statement, context, others)
    bound = source.bind(tree, None)
    return DeletePlan(
        table,
        plan_query(bound, context),
        old,
        row,
        plan_returning(
            statement.returning, table, statement.alias, context, statement.source, others
        ),
        _width_of(others),
        target_relation(bound),
    )


def _delete_query(
    statement: Delete, context: PlannerContext, others: Sequence[OtherRelation] = ()
) -> tuple[Table, tuple[ColumnId, ...], tuple[ColumnId, ...], exp.Select]:
    table = find_table(context, statement.table, purpose="delete from")
    old = changed_columns(table)
    row: tuple[ColumnId, ...] = ()
    if statement.returning:
        row = tuple(column.id for column in table.visible_columns)
    alias = statement.alias or table.name
    expressions: list[exp.Expr] = [own_column(table, c, alias) for c in (*old, *row)]
    expressions += other_columns(others)[0]
    tree = _row_query(statement.source, table, statement.alias, expressions, len(table.key))
    return table, old, row, tree


def plan_truncate(statement: Truncate, context: PlannerContext) -> TruncatePlan:
    """The plan of TRUNCATE."""
    found = [find_table(context, name, purpose="truncate") for name in statement.tables]
    tables = {table.id: table for table in found}
    notices = _truncate_referring(statement, tables, context)
    restarts = [
        restarted(sequence)
        for sequence in context.catalog.sequences.values()
        if statement.restart_identity and sequence.owner and sequence.owner[0] in tables
    ]
    return TruncatePlan(tuple(tables.values()), tuple(restarts), notices)


def _truncate_referring(
    statement: Truncate, tables: dict[TableId, Table], context: PlannerContext
) -> tuple[str, ...]:
    """Adds the tables whose foreign keys refer to these, or refuses that."""
    notices = []
    left = list(tables.values())
    while left:
        target = left.pop(0)
        for table_id in target.referenced_by:
            table = context.catalog.tables[table_id]
            if table_id in tables:
                continue
            if not statement.cascade:
                raise FeatureNotSupported(
                    "cannot truncate a table referenced in a foreign key constraint",
                    detail=f'Table "{table.name}" references "{target.name}".',
                    hint=f'Truncate table "{table.name}" at the same time, or use TRUNCATE ...'
                    " CASCADE.",
                )
            notices.append(f'truncate cascades to table "{table.name}"')
            tables[table_id] = table
            left.append(table)
    return tuple(notices)


def plan_copy_from(statement: CopyFrom, context: PlannerContext) -> CopyFromPlan:
    """The plan of COPY FROM."""
    table = find_table(context, statement.table, purpose="copy to")
    columns = target_columns(table, statement.columns)
    ids = tuple(column.id for column in columns)
    where = None
    if statement.where is not None:
        where = row_condition(statement.where.tree, table, context)
    return CopyFromPlan(
        table,
        ids,
        tuple(cast_from_text(column, context) for column in columns),
        default_columns(table, ids, context),
        check_expressions(table, context),
        where,
        generated_expressions(table, context),
    )


def copied_query(statement: CopyTo, context: PlannerContext) -> exp.Query:
    """The query whose rows COPY TO writes."""
    if statement.query is not None:
        return statement.query.copy()
    assert statement.table is not None
    table = find_table(context, statement.table, purpose="copy from")
    columns = target_columns(table, statement.columns)
    items = [column_reference(column.name, table.name) for column in columns]
    relation = table_reference(table, None)
    return exp.Select(expressions=list(items), from_=exp.From(this=relation))


# ---------------------------------------------------------------------------------------
# Describe


def describe_write(
    statement: Insert | Update | Delete | Merge,
    context: PlannerContext,
    parameters: Parameters = (),
) -> tuple[tuple[SqlType, ...], tuple[ResultColumn, ...] | None]:
    """The types of `$1`, `$2`, ... as given or implied, and the columns of RETURNING."""
    if isinstance(statement, Merge):
        return describe_merge(statement, context, parameters)
    source = RowSource(context, parameters, None)
    types: tuple[SqlType, ...] | None = None
    if isinstance(statement, Insert):
        table, _, bound = _bind_insert(statement, source)
        types = conflict_parameters(statement, table, bound, source)
    elif isinstance(statement, Update):
        table = find_table(context, statement.table, purpose="update")
        change = RowChange(table, statement.assignments, whole=bool(statement.returning))
        bound = source.bind(*_update_query(change, statement))
    else:
        table, _, _, tree = _delete_query(statement, context)
        bound = source.bind(tree, None)
    skeleton: exp.Select | None = None
    others: tuple[OtherRelation, ...] = ()
    if not isinstance(statement, Insert):
        skeleton = statement.source
        others = others_of(skeleton, source) if statement.returning else ()
    returning = plan_returning(
        statement.returning, table, statement.alias, context, skeleton, others
    )
    return types or bound.parameters, returning.columns if returning else None
