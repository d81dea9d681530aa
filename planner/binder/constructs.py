"""CASE, casts, arrays, rows, subqueries as values, calls, and forms that stand for calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import DatatypeMismatch, FeatureNotSupported, SyntaxError_
from planner.binder.calls import bind_call
from planner.binder.operators import binary
from planner.binder.trees import as_call, errors_at, inner_query
from planner.bound import type_of
from planner.semantics import build, records
from planner.semantics.relation_names import name_cast
from planner.semantics.system import registered_cast
from planner.types import Coercion, common_type, declared_type
from storage.types import ANY, BOOL, TEXT, UNKNOWN, Kind, SqlType, array_of

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder, Rules


def paren(binder: ExpressionBinder, node: exp.Paren) -> exp.Expr:
    return binder.bind(node.this)


def case(binder: ExpressionBinder, node: exp.Case) -> exp.Expr:
    subject = node.this
    conditions, values = [], []
    for branch in node.args["ifs"]:
        if subject is not None:
            test = binary(binder, "=", binder.bind(subject), binder.bind(branch.this))
        else:
            test = binder.bind_boolean(branch.this, "CASE/WHEN")
        conditions.append(test)
        values.append(binder.bind(branch.args["true"]))
    default = node.args.get("default")
    otherwise = binder.bind(default) if default is not None else build.null()
    # ELSE comes first where the types are settled (manual 10.5 takes the first type).
    otherwise, *values = binder.unify([otherwise, *values], "CASE")
    pairs = list(zip(conditions, values, strict=True))
    result = build.case(pairs, otherwise if default is not None else None)
    return build.typed(result, _common([otherwise, *values]))


def cast(binder: ExpressionBinder, node: exp.Cast) -> exp.Expr:
    target = declared_type(node.args["to"])
    inner = node.this
    if isinstance(inner, exp.Array) and target.element is not None:
        elements = [
            binder.bind_as(item, target.element, Coercion.EXPLICIT)
            for item in inner.expressions
            if not isinstance(item, exp.Array)
        ]
        if len(elements) == len(inner.expressions):
            return build.cast_as(build.list_of(elements, target), target)
    value = binder.bind(inner)
    if type_of(value) == target and target.kind is not Kind.NUMERIC:
        return value
    environment = binder.statement.environment
    special = registered_cast(value, target, environment) or name_cast(value, target, environment)
    if special is not None:
        return special
    with errors_at(node):
        result = binder.casts.coerce(value, target, Coercion.EXPLICIT)
    if target.kind is Kind.NUMERIC and type_of(result) != target and target.precision:
        return build.cast_as(result, target)
    return result


def collate(binder: ExpressionBinder, node: exp.Collate) -> exp.Expr:
    name = node.expression.name
    if name.lower() not in ("c", "posix", "default", "ucs_basic", "c.utf-8", "c.utf8"):
        raise FeatureNotSupported(f'collation "{name}" is not supported (only "C")')
    return binder.bind(node.this)


def array(binder: ExpressionBinder, node: exp.Array) -> exp.Expr:
    items = [binder.bind(item) for item in node.expressions]
    if not items:
        return build.typed(exp.Literal.string("{}"), UNKNOWN)
    unified = binder.unify(items, "ARRAY")
    element = _common(unified)
    if element.kind is Kind.ARRAY:
        return build.typed(exp.Array(expressions=unified), ANY)
    if element.kind is Kind.NUMERIC:
        unified = [build.cast_as(item, element) for item in unified]
    return build.list_of(unified, array_of(element))


def bracket(binder: ExpressionBinder, node: exp.Bracket) -> exp.Expr:
    value = binder.bind(node.this)
    if build.is_untyped(value):
        raise DatatypeMismatch("cannot subscript an untyped literal")
    return records.subscript(value, node.expressions, binder)


def row(binder: ExpressionBinder, node: exp.Tuple) -> exp.Expr:
    return records.row([binder.bind(item) for item in node.expressions])


def exists(binder: ExpressionBinder, node: exp.Exists) -> exp.Expr:
    query = inner_query(node.this)
    assert query is not None
    tree = binder.enclosing_block.subquery(query, binder.scope).tree
    return build.typed(exp.Exists(this=tree), BOOL)


def scalar_subquery(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    """A scalar subquery; DuckDB is told to fail, as PostgreSQL, on more than one row."""
    query = inner_query(node)
    assert query is not None
    block = binder.enclosing_block.subquery(query, binder.scope)
    if len(block.outputs) != 1:
        raise SyntaxError_("subquery must return only one column")
    return build.typed(exp.Subquery(this=block.tree), block.outputs[0].type)


def grammar_call(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    return binder.bind(as_call(node))


def time_zone(binder: ExpressionBinder, node: exp.AtTimeZone) -> exp.Expr:
    return binder.bind(exp.Anonymous(this="timezone", expressions=[node.args["zone"], node.this]))


def overlaps(binder: ExpressionBinder, node: exp.Overlaps) -> exp.Expr:
    parts = [*node.this.expressions, *node.expression.expressions]
    return binder.bind(exp.Anonymous(this="overlaps", expressions=parts))


def _common(nodes: Sequence[exp.Expr]) -> SqlType:
    return common_type([type_of(node) for node in nodes]) or TEXT


RULES: Rules = {
    exp.Paren: paren,
    exp.Case: case,
    exp.Cast: cast,
    exp.Collate: collate,
    exp.Array: array,
    exp.Bracket: bracket,
    exp.Tuple: row,
    exp.Exists: exists,
    exp.Subquery: scalar_subquery,
    exp.Select: scalar_subquery,
    **dict.fromkeys(
        (exp.Extract, exp.Substring, exp.Trim, exp.Overlay, exp.StrPosition), grammar_call
    ),
    exp.AtTimeZone: time_zone,
    exp.Overlaps: overlaps,
    **dict.fromkeys(
        (exp.Anonymous, exp.Filter, exp.WithinGroup, exp.Window, exp.IgnoreNulls, exp.RespectNulls),
        bind_call,
    ),
}
