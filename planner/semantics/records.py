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
    from planner.binder.scope import Source

# Marks the CASE around the whole row of a relation that an outer join may find no row of.
_WHOLE_ROW = "whole row"


def whole_row(source: Source) -> exp.Expr:
    """A relation's row as one value: a DuckDB struct with the columns' names.

    It is NULL where an outer join has no row. Of a relation that has no column to tell, such as a
    subquery, a row of NULLs counts as none.
    """
    pairs = [
        exp.PropertyEQ(this=build.identifier(column.name), expression=column.node())
        for column in source.visible
    ]
    struct = build.typed(exp.Struct(expressions=pairs), RECORD)
    if not source.nullable:
        return struct
    telling = source.visible if source.never_null is None else (source.columns[source.never_null],)
    tests = [build.negation(build.is_null(column.node())) for column in telling]
    present = build.case([(build.conjunction(tests, exp.Or), struct)], None)
    present.meta[_WHOLE_ROW] = True
    return present


def written_row(value: exp.Expr) -> exp.Expr | None:
    """The row constructor or the whole row that a value is; None where it is computed."""
    if isinstance(value, exp.Case) and value.meta.get(_WHOLE_ROW):
        return value.args["ifs"][0].args["true"]  # type: ignore[no-any-return]
    return value if isinstance(value, (exp.Struct, exp.Tuple)) else None


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
    written = written_row(value)
    if isinstance(written, exp.Struct):
        for pair in written.expressions:
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
