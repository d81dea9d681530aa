"""INSERT, UPDATE, DELETE, TRUNCATE and COPY FROM, planned.

A change becomes a query that yields what is to be written, so that expressions, joins and
subqueries in it are planned like any other. Defaults and assignment casts are applied by the
binder (`expected`): a literal takes the type of the column it goes to, as in PostgreSQL.

ON CONFLICT is refused until transactions bring row locks. RETURNING sees the columns of the
target table, not those of FROM or USING.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from catalog.model import Column, ColumnId, Table
from cluster.errors import FeatureNotSupported, SyntaxError_
from planner.binder import bind_query
from planner.bound import BoundQuery
from planner.context import PlannerContext
from planner.datum import Datum
from planner.ddl_names import find_table
from planner.optimizer import plan_query
from planner.plan import ResultColumn
from planner.statements import (
    Assignment,
    CopyFrom,
    CopyTo,
    Delete,
    Insert,
    Truncate,
    Update,
    is_default,
)
from planner.write_plan import CopyFromPlan, DeletePlan, InsertPlan, TruncatePlan, UpdatePlan
from planner.write_rows import (
    cast_from_text,
    check_expressions,
    column_named,
    column_reference,
    columns_checked,
    default_columns,
    default_tree,
    plan_returning,
    row_condition,
    table_reference,
    target_columns,
)
from storage.types import SqlType


class _Source:
    """Binds and plans row sources with the statement's parameters."""

    def __init__(
        self,
        context: PlannerContext,
        parameters: Sequence[SqlType | None],
        values: Sequence[Datum] | None,
    ) -> None:
        self.context = context
        self._parameters = parameters
        self._values = values

    def bind(self, tree: exp.Expr, expected: Sequence[SqlType] | None) -> BoundQuery:
        return bind_query(
            tree,
            self.context,
            parameters=self._parameters,
            values=self._values,
            expected=expected,
        )


Parameters = Sequence[SqlType | None]
Values = Sequence[Datum] | None


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
    table, columns, bound = _bind_insert(statement, _Source(context, parameters, values))
    ids = tuple(column.id for column in columns)
    return InsertPlan(
        table,
        ids,
        plan_query(bound, context),
        default_columns(table, ids, context),
        check_expressions(table, context),
        plan_returning(statement.returning, table, statement.alias, context),
    )


def _bind_insert(statement: Insert, source: _Source) -> tuple[Table, Sequence[Column], BoundQuery]:
    if statement.has_on_conflict:
        raise FeatureNotSupported(
            "INSERT ... ON CONFLICT is not supported yet",
            hint="Look for the key first, or be ready for error 23505.",
        )
    table = find_table(source.context, statement.table, purpose="insert into")
    targets = target_columns(table, statement.columns)
    columns: Sequence[Column]
    tree: exp.Expr
    if statement.source is None:
        columns, tree = _default_row(table)
    elif (rows := value_rows(statement.source)) is not None:
        columns, tree = _rows_with_defaults(table, targets, statement.columns is None, rows)
    else:
        return _bind_insert_query(statement, table, targets, source)
    return table, columns, source.bind(tree, [column.type for column in columns])


def _default_row(table: Table) -> tuple[Sequence[Column], exp.Query]:
    columns = table.visible_columns[:1]
    trees = [default_tree(column) for column in columns]
    return columns, exp.Select(expressions=list(trees))


def value_rows(tree: exp.Query) -> list[list[exp.Expr]] | None:
    """The rows of a bare VALUES list; None for any other query."""
    values = tree.args["from_"].this if tree.args.get("from_") else None
    if not isinstance(values, exp.Values) or values.alias != "*VALUES*":
        return None
    if any(tree.args.get(name) for name in ("where", "order", "limit", "offset", "with_")):
        return None
    return [list(_items(row)) for row in values.expressions]


def _items(row: exp.Expr) -> Sequence[exp.Expr]:
    return row.expressions if isinstance(row, exp.Tuple) else [row]


def _rows_with_defaults(
    table: Table, targets: Sequence[Column], implicit: bool, rows: list[list[exp.Expr]]
) -> tuple[Sequence[Column], exp.Query | exp.Values]:
    """VALUES rows with DEFAULT replaced and the other columns' defaults added."""
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        raise SyntaxError_("VALUES lists must all be the same length")
    targets = _matched(targets, width, implicit)
    given = {column.id for column in targets}
    others = [
        column
        for column in table.visible_columns
        if column.id not in given and column.default is not None
    ]
    full = [_full_row(row, targets, others) for row in rows]
    columns = [*targets, *others]
    if len(full) == 1:
        return columns, exp.Select(expressions=full[0])
    # A bare list: its constants are read as the columns' types, each by itself.
    return columns, exp.Values(expressions=[exp.Tuple(expressions=row) for row in full])


def _full_row(
    row: Sequence[exp.Expr], targets: Sequence[Column], others: Sequence[Column]
) -> list[exp.Expr]:
    given = [
        default_tree(column) if is_default(value) else value.copy()
        for value, column in zip(row, targets, strict=True)
    ]
    return given + [default_tree(column) for column in others]


def _matched(targets: Sequence[Column], width: int, implicit: bool) -> Sequence[Column]:
    """The columns that `width` expressions go to; without a column list, fewer are allowed."""
    if width > len(targets):
        raise SyntaxError_("INSERT has more expressions than target columns")
    if width < len(targets) and not implicit:
        raise SyntaxError_("INSERT has more target columns than expressions")
    return targets[:width]


def _bind_insert_query(
    statement: Insert, table: Table, targets: Sequence[Column], source: _Source
) -> tuple[Table, Sequence[Column], BoundQuery]:
    assert statement.source is not None
    tree = statement.source
    width = _width(tree)
    if width is None:
        width = len(source.bind(tree.copy(), None).columns)
    columns = _matched(targets, width, statement.columns is None)
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
    source = _Source(context, parameters, values)
    changes = _Changes(statement, context)
    table = changes.table
    return UpdatePlan(
        table,
        plan_query(source.bind(*changes.query(statement)), context),
        changes.old,
        changes.new,
        changes.assigned,
        changes.groups,
        changes.moves,
        check_expressions(table, context, changes.assigned),
        plan_returning(statement.returning, table, statement.alias, context),
    )


class _Changes:
    """What an UPDATE assigns, and which columns have to be read and written for it."""

    def __init__(self, statement: Update, context: PlannerContext) -> None:
        self.table = find_table(context, statement.table, purpose="update")
        self._values = _new_values(self.table, statement.assignments)
        self.assigned = tuple(self._values)
        placing = {*self.table.key, *self.table.partition_columns}
        self.moves = bool(placing.intersection(self.assigned))
        self.groups = _touched_groups(self.table, self.assigned, self.moves)
        self.old = _routing_columns(self.table)
        whole = self.moves or bool(statement.returning)
        self.new = _new_columns(self.table, self.assigned, self.groups, whole)

    def query(self, statement: Update) -> tuple[exp.Select, list[SqlType]]:
        """The row source, with the types its columns are to have."""
        table, alias = self.table, statement.alias or self.table.name
        expressions = [_own(table, column, alias) for column in self.old]
        expressions += [self._values.get(c) or _own(table, c, alias) for c in self.new]
        tree = _row_query(statement.source, table, statement.alias, expressions, len(table.key))
        return tree, [table.column(column).type for column in (*self.old, *self.new)]


def _new_values(table: Table, assignments: Sequence[Assignment]) -> dict[ColumnId, exp.Expr]:
    found: dict[ColumnId, exp.Expr] = {}
    for assignment in assignments:
        columns = [column_named(table, n, assignment.position) for n in assignment.columns]
        for column, value in zip(columns, _assigned(assignment, columns), strict=True):
            if column.id in found:
                raise SyntaxError_(
                    f'multiple assignments to same column "{column.name}"',
                    position=assignment.position,
                )
            found[column.id] = value
    return found


def _assigned(assignment: Assignment, columns: Sequence[Column]) -> list[exp.Expr]:
    """One value a column, of a single value, a row or a subquery."""
    value = assignment.value
    if value is None or is_default(value):
        return [default_tree(columns[0])]
    if len(columns) == 1 and not isinstance(value, exp.Tuple):
        return [value.copy()]
    items = _row_items(value, assignment)
    if len(items) != len(columns):
        raise SyntaxError_(
            "number of columns does not match number of values", position=assignment.position
        )
    return [
        default_tree(column) if is_default(item) else item
        for item, column in zip(items, columns, strict=True)
    ]


def _row_items(value: exp.Expr, assignment: Assignment) -> list[exp.Expr]:
    if isinstance(value, exp.Tuple):
        return [item.copy() for item in value.expressions]
    if isinstance(value, exp.Paren):
        return [value.this.copy()]
    if isinstance(value, exp.Anonymous) and value.name.lower() == "row":
        return [item.copy() for item in value.expressions]
    if isinstance(value, exp.Subquery) and isinstance(value.this, exp.Select):
        return [_one_column(value, place) for place in range(len(value.this.expressions))]
    raise FeatureNotSupported(
        "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
        position=assignment.position,
    )


def _one_column(subquery: exp.Subquery, place: int) -> exp.Expr:
    copied = subquery.copy()
    copied.this.set("expressions", [copied.this.expressions[place]])
    return copied


def _touched_groups(table: Table, assigned: Sequence[ColumnId], moves: bool) -> tuple[int, ...]:
    """The column groups to be rewritten: those of the assigned columns, all for a moved row."""
    if moves:
        return tuple(group.id for group in table.groups)
    return tuple(g.id for g in table.groups if set(g.columns).intersection(assigned))


def _routing_columns(table: Table) -> tuple[ColumnId, ...]:
    """What finds a stored row: its key, and the partition columns that are not in it."""
    return (*table.key, *(c for c in table.partition_columns if c not in table.key))


def _new_columns(
    table: Table, assigned: Sequence[ColumnId], groups: Sequence[int], whole: bool
) -> tuple[ColumnId, ...]:
    wanted = {*assigned, *columns_checked(table, assigned)}
    for group_id in groups:
        wanted.update(table.groups[group_id].columns)
    if whole:
        wanted.update(column.id for column in table.visible_columns)
    return tuple(c.id for c in table.visible_columns if c.id in wanted)


def _own(table: Table, column: ColumnId, alias: str) -> exp.Expr:
    return column_reference(table.column(column).name, alias)


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
    source = _Source(context, parameters, values)
    table, old, row, tree = _delete_query(statement, context)
    return DeletePlan(
        table,
        plan_query(source.bind(tree, None), context),
        old,
        row,
        plan_returning(statement.returning, table, statement.alias, context),
    )


def _delete_query(
    statement: Delete, context: PlannerContext
) -> tuple[Table, tuple[ColumnId, ...], tuple[ColumnId, ...], exp.Select]:
    table = find_table(context, statement.table, purpose="delete from")
    old = _routing_columns(table)
    row: tuple[ColumnId, ...] = ()
    if statement.returning:
        row = tuple(column.id for column in table.visible_columns)
    alias = statement.alias or table.name
    expressions = [_own(table, column, alias) for column in (*old, *row)]
    tree = _row_query(statement.source, table, statement.alias, expressions, len(table.key))
    return table, old, row, tree


def plan_truncate(statement: Truncate, context: PlannerContext) -> TruncatePlan:
    """The plan of TRUNCATE."""
    tables = [find_table(context, name, purpose="truncate") for name in statement.tables]
    return TruncatePlan(tuple({table.id: table for table in tables}.values()))


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
    statement: Insert | Update | Delete,
    context: PlannerContext,
    parameters: Parameters = (),
) -> tuple[tuple[SqlType, ...], tuple[ResultColumn, ...] | None]:
    """The types of `$1`, `$2`, ... as given or implied, and the columns of RETURNING."""
    source = _Source(context, parameters, None)
    if isinstance(statement, Insert):
        table, _, bound = _bind_insert(statement, source)
    elif isinstance(statement, Update):
        changes = _Changes(statement, source.context)
        table, bound = changes.table, source.bind(*changes.query(statement))
    else:
        table, _, _, tree = _delete_query(statement, context)
        bound = source.bind(tree, None)
    returning = plan_returning(statement.returning, table, statement.alias, context)
    return bound.parameters, returning.columns if returning else None
