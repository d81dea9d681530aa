"""What every kind of write asks of its table: columns by name, defaults, CHECKs, RETURNING."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlglot import exp

from catalog.model import Column, ColumnId, Table
from catalog.system_tables.objects import relation_oid
from cluster.errors import DuplicateColumn, GeneratedAlways, UndefinedColumn
from planner.binder import bind_over_row, bind_query, bind_scalar
from planner.context import PlannerContext
from planner.ddl_tables import columns_read
from planner.dialect import duckdb_sql
from planner.optimizer import plan_query
from planner.parser.expressions import parse_expression, quote_name
from planner.plan import HostOperation
from planner.semantics.numbers import division_operands
from planner.write_plan import (
    DefaultColumns,
    Returning,
    RowExpression,
    row_label,
)
from storage.types import TEXT, SqlType

# Functions whose value differs from row to row.
_VOLATILE = frozenset(
    {"random", "gen_random_uuid", "uuidv4", "uuidv7", "clock_timestamp", "nextval"}
)


def column_named(table: Table, name: str, position: int | None = None) -> Column:
    """42703 in the words of INSERT, UPDATE and COPY when there is none."""
    found = table.column_named(name)
    if found is None:
        raise UndefinedColumn(
            f'column "{name}" of relation "{table.name}" does not exist', position=position
        )
    return found


def check_insertable(column: Column, overriding: str | None = None) -> None:
    """428C9 for a value to a column that makes its own."""
    if column.generated is not None:
        raise GeneratedAlways(
            f'cannot insert a non-DEFAULT value into column "{column.name}"',
            detail=f'Column "{column.name}" is a generated column.',
        )
    if column.identity == "always" and overriding != "system":
        raise GeneratedAlways(
            f'cannot insert a non-DEFAULT value into column "{column.name}"',
            detail=f'Column "{column.name}" is an identity column defined as GENERATED ALWAYS.',
            hint="Use OVERRIDING SYSTEM VALUE to override.",
        )


def target_columns(table: Table, names: Sequence[str] | None) -> tuple[Column, ...]:
    """The columns a list names, all visible ones without a list."""
    if names is None:
        return table.visible_columns
    columns = tuple(column_named(table, name) for name in names)
    for place, name in enumerate(names):
        if name in names[:place]:
            raise DuplicateColumn(f'column "{name}" specified more than once')
    return columns


def default_tree(column: Column) -> exp.Expr:
    """A column's default as a tree of its own, NULL where it has none."""
    if column.sequence is not None:
        oid = exp.Literal.string(str(relation_oid(column.sequence)))
        return exp.Anonymous(this="nextval", expressions=[oid])
    if column.default is None:
        return exp.Null()
    return parse_expression(column.default).copy()


def default_columns(
    table: Table, given: Iterable[ColumnId], context: PlannerContext
) -> DefaultColumns | None:
    """The defaults of columns that are not given; None when there are none to evaluate."""
    present = set(given)
    missing = [c for c in table.visible_columns if c.id not in present and has_default(c)]
    if not missing:
        return None
    trees = {c.id: default_tree(c) for c in missing if c.sequence is None}
    same = [c for c in missing if c.id in trees and not is_volatile(trees[c.id])]
    query = None
    if same:
        select = exp.Select(expressions=[trees[c.id] for c in same])
        bound = bind_query(select, context, expected=[column.type for column in same])
        query = plan_query(bound, context)
    volatile = tuple(
        (c.id, _default_expression(c, trees[c.id], context))
        for c in missing
        if c.id in trees and is_volatile(trees[c.id])
    )
    sequences = tuple((c.id, c.sequence) for c in missing if c.sequence is not None)
    return DefaultColumns(tuple(c.id for c in same), query, volatile, sequences)


def has_default(column: Column) -> bool:
    """Whether a column that is not given has a value other than NULL."""
    return column.default is not None or column.sequence is not None


def _default_expression(column: Column, tree: exp.Expr, context: PlannerContext) -> RowExpression:
    bound = bind_scalar(tree, (), context, expected=column.type)
    return RowExpression(column.name, duckdb_sql(bound))


def is_volatile(tree: exp.Expr) -> bool:
    """Whether an expression may have another value for each row."""
    return any(
        isinstance(call, exp.Rand | exp.Uuid) or call.name.lower() in _VOLATILE
        for call in tree.find_all(exp.Func)
    )


def generated_expressions(
    table: Table, context: PlannerContext, assigned: Iterable[ColumnId] | None = None
) -> tuple[RowExpression, ...]:
    """The table's generated columns over the others; with `assigned` only those of them."""
    columns = [(c.name, c.type) for c in table.visible_columns if c.generated is None]
    wanted = None if assigned is None else set(assigned)
    found = []
    for column in table.visible_columns:
        if column.generated is None or (wanted is not None and column.id not in wanted):
            continue
        tree = parse_expression(column.generated).copy()
        columns_read(tree, table.name)
        bound = bind_scalar(tree, columns, context, label=row_label, expected=column.type)
        found.append(RowExpression(column.name, duckdb_sql(bound)))
    return tuple(found)


def columns_generated_from(
    table: Table, assigned: Iterable[ColumnId]
) -> dict[ColumnId, tuple[ColumnId, ...]]:
    """The generated columns that read an assigned one, each with all that it reads."""
    names = {table.column(c).name for c in assigned}
    found: dict[ColumnId, tuple[ColumnId, ...]] = {}
    for column in table.visible_columns:
        if column.generated is not None:
            read = columns_read(parse_expression(column.generated).copy(), table.name)
            if names.intersection(read):
                found[column.id] = tuple(column_named(table, name).id for name in read)
    return found


def check_expressions(
    table: Table, context: PlannerContext, assigned: Iterable[ColumnId] | None = None
) -> tuple[RowExpression, ...]:
    """The table's CHECKs in the order of their names, as PostgreSQL tests them.

    With `assigned` only those that read one of these columns.
    """
    columns = [(c.name, c.type) for c in table.visible_columns]
    names = None if assigned is None else {table.column(c).name for c in assigned}
    found = []
    for check in sorted(table.checks, key=lambda check: check.name):
        tree = parse_expression(check.expression).copy()
        read = columns_read(tree, table.name)
        if names is None or names.intersection(read):
            sql = duckdb_sql(bind_scalar(tree, columns, context, label=row_label))
            found.append(RowExpression(check.name, sql))
    return tuple(found)


def columns_checked(table: Table, assigned: Iterable[ColumnId]) -> tuple[ColumnId, ...]:
    """All columns read by CHECKs that read one of the assigned columns."""
    names = {table.column(c).name for c in assigned}
    read: list[str] = []
    for check in table.checks:
        used = columns_read(parse_expression(check.expression).copy(), table.name)
        if names.intersection(used):
            read.extend(used)
    return tuple(column_named(table, name).id for name in dict.fromkeys(read))


def row_condition(tree: exp.Expr, table: Table, context: PlannerContext) -> RowExpression:
    """A condition over a row, such as COPY's WHERE."""
    copied = tree.copy()
    columns_read(copied, table.name)
    columns = [(c.name, c.type) for c in table.visible_columns]
    return RowExpression(
        "where", duckdb_sql(bind_scalar(copied, columns, context, label=row_label))
    )


def cast_from_text(column: Column, context: PlannerContext) -> RowExpression:
    """The column's input function: a cast of a text column of the same name."""
    tree = parse_expression(f"CAST({quote_name(column.name)} AS {column.type})").copy()
    bound = bind_scalar(tree, [(column.name, TEXT)], context, label=row_label)
    return RowExpression(column.name, duckdb_sql(bound))


# A relation beside the target: its name, and its columns with their labels in a row.
OtherRelation = tuple[str, tuple[tuple[str, SqlType, str], ...]]


def plan_returning(
    items: Sequence[exp.Expr],
    table: Table,
    alias: str | None,
    context: PlannerContext,
    skeleton: exp.Select | None = None,
    others: Sequence[OtherRelation] = (),
) -> Returning | None:
    """RETURNING's list over the table's own row and those of the relations that the statement's
    `skeleton` joins it with; None without one.

    Names and types are those of the same list in a SELECT from all of them.
    """
    if not items:
        return None
    own = tuple((c.name, c.type, row_label(c.name)) for c in table.visible_columns)
    relations = [(alias or table.name, own), *others]
    expanded = _expanded(items, relations)
    query = exp.Select() if skeleton is None else skeleton.copy()
    beside = query.args.get("from_")
    if beside is not None:
        query.set("joins", [exp.Join(this=beside.this), *(query.args.get("joins") or [])])
    query.set("from_", exp.From(this=table_reference(table, alias)))
    query.set("where", None)
    query.set("expressions", [item.copy() for item in expanded])
    bound = bind_query(query, context)
    expressions = []
    waits = False
    for item, result in zip(expanded, bound.columns, strict=True):
        value = bind_over_row(item.unalias().copy(), relations, context)
        waits = waits or any(n._meta and n._meta.get("volatile") for n in value.walk())
        divides = result.operation is HostOperation.NUMERIC_DIVIDE
        parts = division_operands(value) if divides else (value,)
        expressions += [
            RowExpression(name, duckdb_sql(part))
            for name, part in zip(result.operands, parts, strict=True)
        ]
    return Returning(bound.columns, tuple(expressions), waits)


def _expanded(items: Sequence[exp.Expr], relations: Sequence[OtherRelation]) -> list[exp.Expr]:
    """The list with stars written out."""
    expanded: list[exp.Expr] = []
    for item in items:
        if isinstance(item, exp.Star):
            wanted = [name for name, _ in relations]
        elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            wanted = [name for name, _ in relations if name == item.table]
        else:
            expanded.append(item)
            continue
        for relation, columns in relations:
            if relation in wanted:
                expanded += [column_reference(name, relation) for name, _, _ in columns]
    return expanded


def column_reference(name: str, relation: str | None = None) -> exp.Column:
    """A column by its exact name."""
    table = exp.to_identifier(relation, quoted=True) if relation is not None else None
    return exp.Column(this=exp.to_identifier(name, quoted=True), table=table)


def table_reference(table: Table, alias: str | None) -> exp.Table:
    """The table in FROM, under the name the statement gives it."""
    return exp.Table(
        this=exp.to_identifier(table.name, quoted=True),
        db=exp.to_identifier(table.schema, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(alias or table.name, quoted=True)),
    )
