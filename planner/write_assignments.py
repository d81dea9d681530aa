"""What SET assigns, and which columns have to be read and written for it.

Shared by UPDATE, ON CONFLICT DO UPDATE and MERGE, like `RowSource`, which binds a statement's
queries with its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from catalog.model import Column, ColumnId, Table
from cluster.errors import FeatureNotSupported, GeneratedAlways, SyntaxError_
from planner.binder import bind_query
from planner.bound import BoundQuery
from planner.context import PlannerContext
from planner.datum import Datum
from planner.parser.expressions import parse_expression
from planner.plan import QueryPlan
from planner.statements import Assignment, is_default
from planner.types import TEXT_KINDS, bare_type
from planner.write_plan import Returning, UpdatePlan
from planner.write_rows import (
    OtherRelation,
    check_expressions,
    column_named,
    column_reference,
    columns_checked,
    columns_generated_from,
    default_tree,
    generated_expressions,
)
from storage.types import SqlType

Parameters = Sequence[SqlType | None]
Values = Sequence[Datum] | None


class RowSource:
    """Binds row sources with the statement's parameters."""

    def __init__(self, context: PlannerContext, parameters: Parameters, values: Values) -> None:
        self.context = context
        self.parameters = parameters
        self.values = values

    def bind(self, tree: exp.Expr, expected: Sequence[SqlType] | None) -> BoundQuery:
        return bind_query(
            tree,
            self.context,
            parameters=self.parameters,
            values=self.values,
            expected=expected,
        )


def others_of(skeleton: exp.Select, source: RowSource) -> tuple[OtherRelation, ...]:
    """The relations of FROM or USING, with all of their columns."""
    first = skeleton.args.get("from_")
    if first is None:
        return ()
    relations = [first.this, *(join.this for join in skeleton.args.get("joins") or [])]
    found: list[OtherRelation] = []
    place = 0
    for relation in relations:
        name = relation.alias_or_name
        tree = skeleton.copy()
        tree.set("where", None)
        star = exp.Column(this=exp.Star(), table=exp.to_identifier(name, quoted=True))
        tree.set("expressions", [star])
        columns = []
        for column in source.bind(tree, None).columns:
            columns.append((column.name, column.type, f"@other:{place}"))
            place += 1
        found.append((name, tuple(columns)))
    return tuple(found)


def other_columns(others: Sequence[OtherRelation]) -> tuple[list[exp.Expr], list[SqlType]]:
    """References to the columns of these relations, and their types."""
    columns = [(name, c, t) for name, columns in others for c, t, _ in columns]
    return [column_reference(c, name) for name, c, _ in columns], [t for _, _, t in columns]


class RowChange:
    """What SET makes of a stored row: the columns that find it (`old`), and those with new
    values (`new`), which are whole column groups, or with `whole` the whole row."""

    def __init__(
        self, table: Table, assignments: Sequence[Assignment], *, whole: bool = False
    ) -> None:
        self.table = table
        self.values = new_values(table, assignments)
        made = columns_generated_from(table, self.values)
        self.assigned = (*self.values, *made)
        self._reads = {column for read in made.values() for column in read}
        placing = {*table.key, *table.partition_columns}
        self.moves = bool(placing.intersection(self.assigned))
        self.groups = touched_groups(table, self.assigned, self.moves)
        self.old = changed_columns(table)
        wanted = (*self.assigned, *sorted(self._reads))
        self.new = new_columns(table, wanted, self.groups, self.moves or whole)

    def expressions(self, alias: str) -> list[exp.Expr]:
        """`old` and `new` over the table under that alias."""
        table = self.table
        found: list[exp.Expr] = [own_column(table, column, alias) for column in self.old]
        return found + [self.values.get(c) or own_column(table, c, alias) for c in self.new]

    @property
    def names(self) -> list[str]:
        """What EXPLAIN calls the expressions: new values go by their columns."""
        named = {c: self.table.column(c).name for c in self.new}
        folded = [name.lower() for name in named.values()]
        unclear = {c for c, name in named.items() if folded.count(name.lower()) > 1}
        new = [f"v~{c}" if c in unclear else name for c, name in named.items()]
        return [f"old~{c}" for c in self.old] + new

    @property
    def types(self) -> list[SqlType]:
        """Those that the expressions are assigned to."""
        return [self.table.column(column).type for column in (*self.old, *self.new)]

    def plan(
        self, source: QueryPlan, returning: Returning | None, context: PlannerContext
    ) -> UpdatePlan:
        """The UPDATE of the rows that the source yields."""
        return UpdatePlan(
            self.table,
            source,
            self.old,
            self.new,
            self.assigned,
            self.groups,
            self.moves,
            check_expressions(self.table, context, self.assigned),
            returning,
            generated_expressions(self.table, context, self.assigned),
        )


def new_values(table: Table, assignments: Sequence[Assignment]) -> dict[ColumnId, exp.Expr]:
    found: dict[ColumnId, exp.Expr] = {}
    for assignment in assignments:
        columns = [column_named(table, n, assignment.position) for n in assignment.columns]
        for column, value in zip(columns, _assigned(assignment, columns), strict=True):
            if column.id in found:
                raise SyntaxError_(
                    f'multiple assignments to same column "{column.name}"',
                    position=assignment.position,
                )
            if column.generated is None:
                found[column.id] = typed_constant(value, column)
    return found


def typed_constant(value: exp.Expr, column: Column) -> exp.Expr:
    """A bare NULL, string or parameter as one of the column's type: among DISTINCT rows, and as the
    one result of a CASE, it would be a text."""
    if isinstance(value, exp.Null):
        return parse_expression(f"CAST(NULL AS {column.type})").copy()
    is_string = isinstance(value, exp.Literal) and value.is_string
    if column.type.kind in TEXT_KINDS or not (is_string or isinstance(value, exp.Parameter)):
        return value
    cast = parse_expression(f"CAST(NULL AS {bare_type(column.type)})").copy()
    cast.set("this", value.copy())
    return cast


def _check_assignable(column: Column, value: exp.Expr | None) -> None:
    """428C9 for a value to a column that makes its own."""
    if is_default(value):
        return
    if column.generated is not None:
        detail = f'Column "{column.name}" is a generated column.'
    elif column.identity == "always":
        detail = f'Column "{column.name}" is an identity column defined as GENERATED ALWAYS.'
    else:
        return
    raise GeneratedAlways(f'column "{column.name}" can only be updated to DEFAULT', detail=detail)


def _assigned(assignment: Assignment, columns: Sequence[Column]) -> list[exp.Expr]:
    """One value a column, of a single value, a row or a subquery."""
    value = assignment.value
    if value is None or is_default(value):
        return [default_tree(columns[0])]
    row = value.expressions if isinstance(value, exp.Tuple) else [None] * len(columns)
    for column, item in zip(columns, row, strict=False):
        _check_assignable(column, item)
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


def touched_groups(table: Table, assigned: Sequence[ColumnId], moves: bool) -> tuple[int, ...]:
    """The column groups to be rewritten: those of the assigned columns, all for a moved row."""
    if moves:
        return tuple(group.id for group in table.groups)
    return tuple(g.id for g in table.groups if set(g.columns).intersection(assigned))


def routing_columns(table: Table) -> tuple[ColumnId, ...]:
    """What finds a stored row: its key, and the partition columns that are not in it."""
    return (*table.key, *(c for c in table.partition_columns if c not in table.key))


def changed_columns(table: Table) -> tuple[ColumnId, ...]:
    """What is read of a stored row that is changed: what finds it, and what ties it to others."""
    found = routing_columns(table)
    return (*found, *(c for c in table.tied_columns if c not in found))


def new_columns(
    table: Table, assigned: Sequence[ColumnId], groups: Sequence[int], whole: bool
) -> tuple[ColumnId, ...]:
    wanted = {*assigned, *columns_checked(table, assigned)}
    for group_id in groups:
        wanted.update(table.groups[group_id].columns)
    if whole:
        wanted.update(column.id for column in table.visible_columns)
    return tuple(c.id for c in table.visible_columns if c.id in wanted)


def own_column(table: Table, column: ColumnId, alias: str) -> exp.Expr:
    return column_reference(table.column(column).name, alias)
