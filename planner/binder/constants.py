"""Constants in all their written forms, and what the session says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import SyntaxError_
from planner.semantics import build, literals, numbers, patterns
from planner.semantics.session_values import SESSION_NODES, session_value
from planner.semantics.text_intervals import read_interval
from storage.types import UNKNOWN

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder, Rules


def literal(_binder: ExpressionBinder, node: exp.Literal) -> exp.Expr:
    if node.is_string:
        return build.typed(exp.Literal.string(node.this), UNKNOWN)
    return numbers.number_literal(str(node.this))


def text_form(_binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    """E'...', $$...$$ and their like: the text as the tokenizer read it."""
    return build.typed(exp.Literal.string(str(node.this)), UNKNOWN)


def unicode_form(_binder: ExpressionBinder, node: exp.UnicodeString) -> exp.Expr:
    return build.typed(exp.Literal.string(patterns.unescape_unicode(str(node.this))), UNKNOWN)


def hex_form(_binder: ExpressionBinder, node: exp.HexString) -> exp.Expr:
    return numbers.number_literal(str(int(str(node.this) or "0", 16)))


def adjacent(binder: ExpressionBinder, node: exp.Concat) -> exp.Expr:
    """'a' 'b', which is one constant."""
    parts = [build.literal_text(binder.bind(part)) or "" for part in node.expressions]
    return build.typed(exp.Literal.string("".join(parts)), UNKNOWN)


def boolean(_binder: ExpressionBinder, node: exp.Boolean) -> exp.Expr:
    return literals.constant(build.boolean(bool(node.this)), bool(node.this))


def null(_binder: ExpressionBinder, _node: exp.Null) -> exp.Expr:
    return build.null()


def parameter(binder: ExpressionBinder, node: exp.Parameter) -> exp.Expr:
    return binder.statement.parameter(int(node.name))


def interval(_binder: ExpressionBinder, node: exp.Interval) -> exp.Expr:
    unit = node.args.get("unit")
    written = build.literal_text(node.this) if node.this is not None else None
    if written is None:
        raise SyntaxError_("an interval constant needs a text")
    if isinstance(unit, exp.IntervalSpan):
        unit = unit.expression
    name = unit.name.lower() if unit is not None else None
    return literals.interval_constant(read_interval(written, name))


def session_constant(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    return session_value(SESSION_NODES[type(node)], binder.statement.environment)


RULES: Rules = {
    exp.Literal: literal,
    exp.RawString: text_form,
    exp.ByteString: text_form,
    exp.National: text_form,
    exp.UnicodeString: unicode_form,
    exp.HexString: hex_form,
    exp.Concat: adjacent,
    exp.Boolean: boolean,
    exp.Null: null,
    exp.Parameter: parameter,
    exp.Interval: interval,
    **dict.fromkeys(SESSION_NODES, session_constant),
}
