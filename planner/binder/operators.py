"""Operators: arithmetic, comparison, and those that the catalogue knows by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import FeatureNotSupported
from planner.binder.trees import errors_at, inner_query
from planner.bound import type_of
from planner.functions import Call, resolve
from planner.semantics import build, comparison, numbers, patterns
from planner.semantics.catalogue import CATALOGUE
from planner.types import NUMBER_KINDS, Coercion, bare_type
from storage.types import ANY, Kind

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder, Rules

_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.Pow: "^",
}
# What arithmetic is where only DuckDB knows a side's type.
_NODES_OF_ANY: dict[str, type[exp.Binary]] = {"+": exp.Add, "-": exp.Sub, "*": exp.Mul}
_CALLS_OF_ANY = {"/": "pg_divide_float", "%": "mod", "^": "pow"}
# Operators that are looked up in the catalogue by name.
_NAMED: dict[type[exp.Expr], str] = {
    exp.BitwiseAnd: "&",
    exp.BitwiseOr: "|",
    exp.BitwiseXor: "#",
    exp.BitwiseLeftShift: "<<",
    exp.BitwiseRightShift: ">>",
    exp.DPipe: "||",
    exp.JSONExtract: "->",
    exp.JSONExtractScalar: "->>",
    exp.JSONBExtract: "#>",
    exp.JSONBExtractScalar: "#>>",
    exp.JSONBContainsTopKey: "?",
    exp.JSONBContainsAnyTopKeys: "?|",
    exp.JSONBContainsAllTopKeys: "?&",
    exp.JSONBDeleteAtPath: "#-",
    exp.ArrayContainsAll: "@>",
    exp.ArrayContainedBy: "<@",
    exp.ArrayOverlaps: "&&",
    exp.StartsWith: "^@",
}


def arithmetic(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    left, right = binder.bind(node.this), binder.bind(node.expression)
    return binary(binder, _ARITHMETIC[type(node)], left, right)


def binary(binder: ExpressionBinder, name: str, left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """`left name right`, both bound; a pattern's operator may be negated by `!`."""
    if name.removeprefix("!") in patterns.OPERATORS:
        return patterns.match(name, left, right, None, binder.casts)
    if name in comparison.NODES:
        return comparison.compare(name, left, right, binder.casts)
    if name in _ARITHMETIC.values():
        done = _on_numbers(binder, name, left, right)
        if done is not None:
            return done
    return _from_catalogue(binder, name, left, right)


def _on_numbers(
    binder: ExpressionBinder, name: str, left: exp.Expr, right: exp.Expr
) -> exp.Expr | None:
    kinds = [type_of(left).kind, type_of(right).kind]
    if kinds[0] in NUMBER_KINDS and kinds[1] is Kind.UNKNOWN:
        right = binder.casts.coerce(right, bare_type(type_of(left)), Coercion.IMPLICIT)
    elif kinds[1] in NUMBER_KINDS and kinds[0] is Kind.UNKNOWN:
        left = binder.casts.coerce(left, bare_type(type_of(right)), Coercion.IMPLICIT)
    if type_of(left).kind in NUMBER_KINDS and type_of(right).kind in NUMBER_KINDS:
        return numbers.arithmetic(name, left, right, binder.casts)
    if Kind.ANY not in kinds:
        return None
    if name in _NODES_OF_ANY:
        return build.binary(_NODES_OF_ANY[name], left, right, ANY)
    return build.call(_CALLS_OF_ANY[name], left, right, type=ANY)


def _from_catalogue(
    binder: ExpressionBinder, name: str, left: exp.Expr | None, right: exp.Expr
) -> exp.Expr:
    """An operator from the catalogue; 42883 where there is none."""
    sides = [side for side in (left, right) if side is not None]
    types = [type_of(side) for side in sides]
    found = resolve(CATALOGUE.named(name), types, operator=True)
    if isinstance(found, list):
        found = found[0]
    if found is None:
        raise comparison.no_operator(name, left, right)
    arguments = tuple(
        binder.casts.coerce(side, target, Coercion.IMPLICIT)
        for side, target in zip(sides, found.arguments, strict=True)
    )
    return found.signature.emit(Call(arguments, found.result, binder.casts))


def named_operator(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    left, right = binder.bind(node.this), binder.bind(node.expression)
    return _from_catalogue(binder, _NAMED[type(node)], left, right)


def spelled_operator(binder: ExpressionBinder, node: exp.Operator) -> exp.Expr:
    """a OPERATOR(schema.op) b."""
    name = str(node.args["operator"]).rpartition(".")[2]
    left, right = binder.bind(node.this), binder.bind(node.expression)
    return binary(binder, "<>" if name == "!=" else name, left, right)


def negative(binder: ExpressionBinder, node: exp.Neg) -> exp.Expr:
    inner = node.this
    if isinstance(inner, exp.Literal) and not inner.is_string:
        # -9223372036854775808 is a bigint though its digits alone are not.
        return numbers.negative(numbers.number_literal(str(inner.this)))
    value = binder.bind(inner)
    if type_of(value).kind in NUMBER_KINDS:
        return numbers.negative(value)
    return _from_catalogue(binder, "-", None, value)


def bitwise_not(binder: ExpressionBinder, node: exp.BitwiseNot) -> exp.Expr:
    return _from_catalogue(binder, "~", None, binder.bind(node.this))


def root(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    """|/ and ||/."""
    name = "sqrt" if isinstance(node, exp.Sqrt) else "cbrt"
    return binder.bind(exp.Anonymous(this=name, expressions=[node.this]))


def compared(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    """A comparison of two values; those with ANY and ALL are in `quantifiers`."""
    if isinstance(node.this, exp.Tuple) and inner_query(node.expression) is not None:
        raise FeatureNotSupported(
            "comparing a row with a subquery is not supported",
            hint="Use IN or = ANY with the subquery.",
            position=build.error_position(node),
        )
    left, right = binder.bind(node.this), binder.bind(node.expression)
    with errors_at(node):
        return comparison.compare(comparison.NAMES[type(node)], left, right, binder.casts)


def distinct_from(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    negated = isinstance(node, exp.NullSafeEQ)
    left, right = binder.bind(node.this), binder.bind(node.expression)
    return comparison.distinct(left, right, binder.casts, negated=negated)


RULES: Rules = {
    **dict.fromkeys(_ARITHMETIC, arithmetic),
    **dict.fromkeys(_NAMED, named_operator),
    exp.Operator: spelled_operator,
    exp.Neg: negative,
    exp.BitwiseNot: bitwise_not,
    exp.Sqrt: root,
    exp.Cbrt: root,
    exp.NullSafeEQ: distinct_from,
    exp.NullSafeNEQ: distinct_from,
}
