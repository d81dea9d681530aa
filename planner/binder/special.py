"""Calls whose arguments or result follow no signature: COALESCE, NULLIF, GREATEST, ARRAY(...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import GroupingError, SyntaxError_, UndefinedFunction
from planner.binder import operators
from planner.binder.sequence_calls import SEQUENCE_CALLS, Special
from planner.bound import type_of
from planner.functions import Call
from planner.semantics import build, comparison, records, times
from planner.semantics.session_values import schemas_constant
from planner.types import (
    FLOAT_KINDS,
    INTEGER_KINDS,
    NUMBER_KINDS,
    Coercion,
    as_numeric,
    common_type,
)
from storage.types import BOOL, BPCHAR, FLOAT8, INT4, INTERVAL, TEXT, Kind, SqlType, array_of

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder


def _coalesce(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    nodes = binder.unify([binder.bind(a) for a in node.expressions], "COALESCE")
    result = exp.Coalesce(this=nodes[0], expressions=nodes[1:])
    return build.typed(result, common_type([type_of(n) for n in nodes]) or TEXT)


def _extreme(name: str) -> Callable[[ExpressionBinder, exp.Anonymous], exp.Expr]:
    def bind(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
        nodes = binder.unify([binder.bind(a) for a in node.expressions], name.upper())
        return build.call(name, *nodes, type=common_type([type_of(n) for n in nodes]) or TEXT)

    return bind


def _nullif(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    if len(node.expressions) != 2:
        raise SyntaxError_("NULLIF takes two arguments", position=build.error_position(node))
    left, right = (binder.bind(a) for a in node.expressions)
    left, right = comparison.resolve_untyped(left, right, binder.casts)
    equal = comparison.compare("=", left.copy(), right, binder.casts)
    left = binder.casts.coerce(left, _compared_as(type_of(left), type_of(right)), Coercion.IMPLICIT)
    result = build.case([(equal, build.null(type_of(left)))], left)
    return build.typed(result, type_of(left))


def _compared_as(left: SqlType, right: SqlType) -> SqlType:
    """The type that the equality of both takes on its left; NULLIF has it."""
    kinds = {left.kind, right.kind}
    if left.kind is Kind.VARCHAR:
        return BPCHAR if right.kind is Kind.BPCHAR else TEXT
    if kinds == {Kind.BPCHAR, Kind.TEXT}:
        return TEXT
    if kinds <= INTEGER_KINDS or kinds <= FLOAT_KINDS or not kinds <= NUMBER_KINDS:
        return left
    if kinds & FLOAT_KINDS:
        return FLOAT8
    return as_numeric(left)


def _row(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    return records.row([binder.bind(a) for a in node.expressions])


def _array_of_query(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    """ARRAY(SELECT ...)."""
    (query,) = node.expressions
    if binder.block is None or not isinstance(query, exp.Query):
        raise SyntaxError_("ARRAY takes a subquery", position=build.error_position(node))
    block = binder.block.subquery(query, binder.scope)
    if len(block.outputs) != 1:
        raise SyntaxError_("subquery must return only one column")
    output = block.outputs[0]
    subquery = exp.Subquery(this=block.tree)
    result = array_of(output.type)
    # DuckDB's ARRAY(...) keeps the order and is empty, not NULL, over no rows.
    return build.typed(exp.Anonymous(this="ARRAY", expressions=[subquery.this]), result)


def _grouping(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    if not binder.clause.allows_aggregates:
        raise GroupingError(f"grouping operations are not allowed in {binder.clause}")
    if binder.block is not None:
        binder.block.aggregates = True
    arguments = [binder.bind(a) for a in node.expressions]
    call = exp.AnonymousAggFunc(this="GROUPING", expressions=arguments)
    return build.cast_as(build.typed(call, INT4), INT4)


def _schemas(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    flag = node.expressions[0] if node.expressions else exp.Boolean(this=False)
    written = binder.bind(flag)
    implicit = isinstance(written, exp.Boolean) and bool(written.this)
    return schemas_constant(binder.statement.environment, implicit=implicit)


_INTERVAL_ARGUMENTS = ("years", "months", "weeks", "days", "hours", "mins", "secs")


def _make_interval(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    given: dict[str, exp.Expr] = {}
    for place, argument in enumerate(node.expressions):
        if isinstance(argument, (exp.Kwarg, exp.PropertyEQ)):
            given[argument.this.name.lower()] = argument.expression
        else:
            given[_INTERVAL_ARGUMENTS[place]] = argument
    unknown = set(given) - set(_INTERVAL_ARGUMENTS)
    if unknown:
        raise UndefinedFunction(f"make_interval has no argument {sorted(unknown)[0]}")
    arguments = []
    for name in _INTERVAL_ARGUMENTS:
        target = FLOAT8 if name == "secs" else INT4
        value = binder.bind(given[name]) if name in given else build.integer(0)
        arguments.append(binder.casts.coerce(value, target, Coercion.IMPLICIT))
    return build.call("pg_make_interval", *arguments, type=INTERVAL)


def _overlaps(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    if len(node.expressions) != 4:
        raise SyntaxError_("wrong number of parameters on OVERLAPS expression")
    bound = [binder.bind(a) for a in node.expressions]
    starts = binder.unify([bound[0], bound[2]], "OVERLAPS")
    ends = []
    for start, end in ((starts[0], bound[1]), (starts[1], bound[3])):
        if type_of(end) == INTERVAL:
            end = operators.binary(binder, "+", start.copy(), end)
        ends.append(binder.casts.coerce(end, type_of(start), Coercion.ASSIGNMENT))
    arguments = (starts[0], ends[0], starts[1], ends[1])
    return times.overlaps(Call(arguments, BOOL, binder.casts))


def _typeof(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    value = binder.bind(node.expressions[0])
    sql_type = type_of(value)
    return build.text(str(SqlType(sql_type.kind, element=sql_type.element)))


SPECIAL: dict[str, Special] = {
    "coalesce": _coalesce,
    "greatest": _extreme("greatest"),
    "least": _extreme("least"),
    "nullif": _nullif,
    "row": _row,
    "array": _array_of_query,
    "grouping": _grouping,
    "current_schemas": _schemas,
    "make_interval": _make_interval,
    "overlaps": _overlaps,
    "pg_typeof": _typeof,
    **SEQUENCE_CALLS,
}
