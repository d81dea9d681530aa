"""Rows and arrays inside expressions: whole-row references, fields, subscripts, ANY and ALL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import DatatypeMismatch, UndefinedColumn
from planner.bound import type_of
from planner.semantics import build
from planner.types import Coercion
from storage.types import ANY, INT4, JSONB, RECORD, TEXT, Kind

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
