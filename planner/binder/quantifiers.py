"""One value against many: IN, and ANY and ALL over arrays and subqueries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import DatatypeMismatch, FeatureNotSupported
from planner.binder.operators import binary, compared
from planner.binder.trees import inner_query, quantifier
from planner.bound import type_of
from planner.semantics import build, comparison
from planner.types import Coercion, bare_type, common_type
from storage.types import ANY, BOOL, TEXT, Kind, array_of

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder, Rules


def membership(binder: ExpressionBinder, node: exp.In) -> exp.Expr:
    query = node.args.get("query")
    if query is not None:
        inner = inner_query(query)
        assert inner is not None
        return _subquery_comparison(binder, "=", binder.bind(node.this), "any", inner)
    left = binder.bind(node.this)
    items = [binder.bind(item) for item in node.expressions]
    if isinstance(left, exp.Tuple) or any(isinstance(i, exp.Tuple) for i in items):
        tests = [comparison.compare("=", left.copy(), i, binder.casts) for i in items]
        return build.conjunction(tests, exp.Or)
    return _membership_of(binder, left, items)


def _membership_of(binder: ExpressionBinder, left: exp.Expr, items: list[exp.Expr]) -> exp.Expr:
    if build.is_untyped(left):
        target = common_type([type_of(i) for i in items]) or TEXT
        left = binder.casts.coerce(left, target, Coercion.IMPLICIT)
    results = []
    for item in items:
        first, second = comparison.unified("=", left, item, binder.casts)
        if first is not left:  # the sides met at a third type: compare one by one
            tests = [comparison.compare("=", left.copy(), i, binder.casts) for i in items]
            return build.conjunction(tests, exp.Or)
        results.append(second)
    return build.typed(exp.In(this=build.operand(left), expressions=results), BOOL)


def compared_with_many(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    """`left = ANY (...)` and its like; a comparison of two values where there is no quantifier."""
    over = quantifier(node.expression)
    if over is None:
        return compared(binder, node)
    return quantified(binder, comparison.NAMES[type(node)], binder.bind(node.this), *over)


def quantified(
    binder: ExpressionBinder, name: str, left: exp.Expr, kind: str, inner: exp.Expr
) -> exp.Expr:
    """`left name ANY/ALL (array or subquery)`."""
    query = inner_query(inner)
    if query is not None:
        return _subquery_comparison(binder, name, left, kind, query)
    return _array_comparison(binder, name, left, kind, binder.bind(inner))


def _subquery_comparison(
    binder: ExpressionBinder, name: str, left: exp.Expr, kind: str, query: exp.Expr
) -> exp.Expr:
    left, subquery = binder.enclosing_block.comparable_subquery(left, query, binder.scope)
    if name in ("=", "<>") and (kind == "any") == (name == "="):
        member = build.typed(exp.In(this=build.operand(left), query=subquery), BOOL)
        return member if name == "=" else build.negation(member)
    if name not in comparison.NODES:
        raise FeatureNotSupported(f"{name} {kind.upper()} (subquery) is not supported")
    values = (exp.Any if kind == "any" else exp.All)(this=subquery)
    node = comparison.NODES[name](this=build.operand(left), expression=values)
    return build.typed(node, BOOL)


def _array_comparison(
    binder: ExpressionBinder, name: str, left: exp.Expr, kind: str, array: exp.Expr
) -> exp.Expr:
    """`left name ANY/ALL (array)`; over a written-out array it is IN or a chain of tests."""
    element = type_of(array).element
    if build.is_untyped(array):
        wanted = type_of(left) if not build.is_untyped(left) else TEXT
        array = binder.casts.coerce(array, array_of(bare_type(wanted)), Coercion.IMPLICIT)
        element = type_of(array).element
    if element is None and type_of(array).kind is not Kind.ANY:
        raise DatatypeMismatch("op ANY/ALL (array) requires array on right side")
    items = _written_items(binder, array)
    if items is not None:
        return _over_items(binder, name, left, kind, items)
    variable = binder.statement.unique_name("e")
    value = build.typed(build.identifier(variable), element or ANY)
    test = exp.Lambda(
        this=binary(binder, name, left, value), expressions=[build.identifier(variable)]
    )
    tests = build.call("list_transform", array, test, type=array_of(BOOL))
    return build.call(f"pg_{kind}_true", tests, type=BOOL)


def _over_items(
    binder: ExpressionBinder, name: str, left: exp.Expr, kind: str, items: list[exp.Expr]
) -> exp.Expr:
    if items and name == "=" and kind == "any":
        return _membership_of(binder, left, items)
    if items and name == "<>" and kind == "all":
        return build.negation(_membership_of(binder, left, items))
    tests = [binary(binder, name, left.copy(), item) for item in items]
    return build.conjunction(tests, exp.Or if kind == "any" else exp.And)


def _written_items(binder: ExpressionBinder, array: exp.Expr) -> list[exp.Expr] | None:
    """The elements of `ARRAY[...]`, as a cast of it makes them; None of any other array."""
    inner = array.this if isinstance(array, exp.Cast) else array
    element = type_of(array).element
    if not isinstance(inner, exp.Array) or element is None:
        return None
    if inner is not array:
        return [binder.casts.coerce(i, element, Coercion.EXPLICIT) for i in inner.expressions]
    return [build.typed(i, element) if type_of(i) is ANY else i for i in inner.expressions]


RULES: Rules = {
    exp.In: membership,
    **dict.fromkeys(comparison.NAMES, compared_with_many),
}
