"""Predicates: AND, OR, NOT, IS, BETWEEN, LIKE and the other patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from planner.binder.quantifiers import quantified
from planner.binder.trees import quantifier
from planner.bound import type_of
from planner.semantics import build, comparison, patterns, records
from planner.types import Coercion, common_type
from storage.types import BOOL, TEXT, Kind

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder, Rules

_PATTERNS: dict[type[exp.Expr], str] = {
    exp.Like: "~~",
    exp.ILike: "~~*",
    exp.SimilarTo: "similar to",
    exp.RegexpLike: "~",
    exp.RegexpILike: "~*",
}


def logical(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    kind = exp.And if isinstance(node, exp.And) else exp.Or
    parts = [binder.bind_boolean(part, kind.__name__.upper()) for part in node.flatten()]
    return build.conjunction(parts, kind)


def negation(binder: ExpressionBinder, node: exp.Not) -> exp.Expr:
    return build.negation(binder.bind_boolean(node.this, "NOT"))


def is_test(binder: ExpressionBinder, node: exp.Is) -> exp.Expr:
    right = node.expression
    if isinstance(right, exp.JSON):
        test = _is_json(binder, node)
    elif isinstance(right, exp.Boolean):
        words = "IS NOT" if node.args.get("negate") else "IS"
        left = binder.bind_boolean(node.this, f"{words} {str(right.this).upper()}")
        same = exp.NullSafeEQ(this=build.operand(left), expression=build.boolean(right.this))
        test = build.typed(same, BOOL)
    else:
        return _is_null(binder, binder.bind(node.this), negate=bool(node.args.get("negate")))
    return build.negation(test) if node.args.get("negate") else test


def _is_null(binder: ExpressionBinder, value: exp.Expr, *, negate: bool) -> exp.Expr:
    row = records.written_row(value)
    if row is not None:  # every field is (not) null
        tests = [_is_null(binder, field, negate=negate) for field in records.fields(row)]
        return build.conjunction(tests)
    if build.is_untyped(value):
        value = binder.casts.coerce(value, TEXT, Coercion.IMPLICIT)
    test = build.is_null(value)
    return build.negation(test) if negate else test


def _is_json(binder: ExpressionBinder, node: exp.Is) -> exp.Expr:
    value = binder.bind_as(node.this, TEXT, Coercion.EXPLICIT)
    kind = build.text(str(node.expression.args.get("this") or "value").lower())
    return build.call("pg_is_json", value, kind, type=BOOL)


def between(binder: ExpressionBinder, node: exp.Between) -> exp.Expr:
    value = binder.bind(node.this)
    low, high = binder.bind(node.args["low"]), binder.bind(node.args["high"])
    if build.is_untyped(value):
        target = common_type([type_of(low), type_of(high)]) or TEXT
        value = binder.casts.coerce(value, target, Coercion.IMPLICIT)
    inside = _inside(binder, value, low, high)
    if not node.args.get("symmetric"):
        return inside
    return build.conjunction(
        [inside, _inside(binder, value.copy(), high.copy(), low.copy())], exp.Or
    )


def _inside(binder: ExpressionBinder, value: exp.Expr, low: exp.Expr, high: exp.Expr) -> exp.Expr:
    left, lower = comparison.unified(">=", value, low, binder.casts)
    right, upper = comparison.unified("<=", value, high, binder.casts)
    # DuckDB has no BETWEEN for lists.
    if left is value and right is value and type_of(value).kind is not Kind.ARRAY:
        low_side, high_side = build.operand(lower), build.operand(upper)
        return build.typed(
            exp.Between(this=build.operand(value), low=low_side, high=high_side), BOOL
        )
    return build.conjunction(
        [
            build.binary(exp.GTE, left, lower, BOOL),
            comparison.ordered("<=", right.copy(), upper),
        ]
    )


def pattern(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    return _matched(binder, node, None)


def escape(binder: ExpressionBinder, node: exp.Escape) -> exp.Expr:
    return _matched(binder, node.this, binder.bind(node.expression))


def _matched(binder: ExpressionBinder, node: exp.Expr, escaped_by: exp.Expr | None) -> exp.Expr:
    name = _PATTERNS[type(node)]
    left = binder.bind(node.this)
    over = quantifier(node.expression)
    negate = bool(node.args.get("negate"))
    if over is not None:
        kind, inner = over
        return quantified(binder, ("!" if negate else "") + name, left, kind, inner)
    result = patterns.match(name, left, binder.bind(node.expression), escaped_by, binder.casts)
    return build.negation(result) if negate else result


RULES: Rules = {
    exp.And: logical,
    exp.Or: logical,
    exp.Not: negation,
    exp.Is: is_test,
    exp.Between: between,
    exp.Escape: escape,
    **dict.fromkeys(_PATTERNS, pattern),
}
