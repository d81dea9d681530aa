"""Rows and arrays inside expressions: whole-row references, fields, subscripts, ANY and ALL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import DatatypeMismatch, UndefinedColumn
from planner.bound import type_of
from planner.semantics import build, comparison, patterns
from planner.types import Coercion
from storage.types import ANY, BOOL, INT4, JSONB, RECORD, TEXT, Kind, SqlType, array_of

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder
    from planner.binder.scope import ScopeColumn


def whole_row(columns: Sequence[ScopeColumn]) -> exp.Expr:
    """A relation's row as one value: a DuckDB struct with the columns' names."""
    pairs = [
        exp.PropertyEQ(this=build.identifier(column.name), expression=column.node())
        for column in columns
    ]
    return build.typed(exp.Struct(expressions=pairs), RECORD)


def row(nodes: Sequence[exp.Expr]) -> exp.Expr:
    """ROW(...) or (a, b)."""
    return build.typed(exp.Tuple(expressions=list(nodes)), RECORD)


def fields(value: exp.Expr) -> list[exp.Expr]:
    """The expressions a row was made of."""
    if isinstance(value, exp.Struct):
        return [pair.expression for pair in value.expressions]
    return list(value.expressions)


def field(value: exp.Expr, name: str, position: int | None) -> exp.Expr:
    """`(row).name`."""
    if type_of(value).kind not in (Kind.RECORD, Kind.ANY):
        raise DatatypeMismatch(
            f"column notation .{name} applied to type {type_of(value)}, which is not a "
            "composite type",
            position=position,
        )
    if isinstance(value, exp.Struct):
        for pair in value.expressions:
            if pair.this.name == name:
                return pair.expression  # type: ignore[no-any-return]
        raise UndefinedColumn(f'column "{name}" not found in record', position=position)
    return build.call("struct_extract", value, build.text(name), type=ANY)


def subscript(value: exp.Expr, indexes: Sequence[exp.Expr], binder: ExpressionBinder) -> exp.Expr:
    """`value[i]` or `value[i:j]`; past the ends it is NULL, or empty for a slice."""
    (index,) = indexes
    source = type_of(value)
    if source.kind is Kind.JSONB:
        key = binder.casts.coerce(binder.bind(index), TEXT, Coercion.EXPLICIT)
        return build.call("pg_json_get_text_key", value, key, type=JSONB)
    if source.kind not in (Kind.ARRAY, Kind.ANY):
        raise DatatypeMismatch(
            f"cannot subscript type {source} because it does not support subscripting"
        )
    element = source.element or ANY
    if isinstance(index, exp.Slice):
        low = (
            binder.bind_as(index.this, INT4, Coercion.ASSIGNMENT)
            if index.this
            else build.integer(1)
        )
        upper = index.expression
        high = (
            binder.bind_as(upper, INT4, Coercion.ASSIGNMENT)
            if isinstance(upper, exp.Expr) and upper
            else build.call("len", value.copy(), type=INT4)
        )
        return build.call("pg_slice", value, low, high, type=source)
    at = binder.bind_as(index, INT4, Coercion.ASSIGNMENT)
    return build.call("pg_subscript", value, at, type=element)


def lambda_over(variable: str, body: exp.Expr) -> exp.Lambda:
    """`lambda variable: body`."""
    return exp.Lambda(this=body, expressions=[build.identifier(variable)])


def lambda_variable(name: str, sql_type: SqlType) -> exp.Expr:
    return build.typed(build.identifier(name), sql_type)


def any_element(
    name: str,
    left: exp.Expr,
    kind: str,
    array: exp.Expr,
    element: SqlType,
    binder: ExpressionBinder,
) -> exp.Expr:
    """`left name ANY/ALL (array)`; over a written-out array it is IN or a chain of tests."""
    items = _written_items(array)
    if items is not None:
        return _over_items(name, left, kind, items, binder)
    variable = binder.statement.unique_name("e")
    test = _test(name, left, lambda_variable(variable, element), binder)
    tests = build.call("list_transform", array, lambda_over(variable, test), type=array_of(BOOL))
    return build.call(f"pg_{kind}_true", tests, type=BOOL)


def _over_items(
    name: str, left: exp.Expr, kind: str, items: list[exp.Expr], binder: ExpressionBinder
) -> exp.Expr:
    if items and name == "=" and kind == "any":
        return binder.membership_of(left, items)
    if items and name == "<>" and kind == "all":
        return build.negation(binder.membership_of(left, items))
    tests = [_test(name, left.copy(), item, binder) for item in items]
    return build.conjunction(tests, exp.Or if kind == "any" else exp.And)


def _written_items(array: exp.Expr) -> list[exp.Expr] | None:
    inner = array.this if isinstance(array, exp.Cast) else array
    if isinstance(inner, exp.Array) and type_of(array).kind is Kind.ARRAY:
        element = type_of(array).element or ANY
        return [
            build.typed(item, element) if type_of(item) is ANY else item
            for item in inner.expressions
        ]
    return None


def _test(name: str, left: exp.Expr, right: exp.Expr, binder: ExpressionBinder) -> exp.Expr:
    if name.lstrip("!") in patterns.OPERATORS:
        return patterns.match(name, left, right, None, binder.casts)
    if name in comparison.NODES:
        return comparison.compare(name, left, right, binder.casts)
    return binder.binary(name, left, right)
