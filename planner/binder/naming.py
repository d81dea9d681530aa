"""The name an output column gets when the user gives none (PostgreSQL's FigureColname)."""

from __future__ import annotations

from sqlglot import exp

from planner.binder.trees import fold
from planner.semantics.session_values import SESSION_NODES
from planner.types import declared_type
from storage.types import Kind, SqlType

UNNAMED = "?column?"
_GRAMMAR_NAMES: dict[type[exp.Expr], str] = {
    exp.Extract: "extract",
    exp.Substring: "substring",
    exp.Overlay: "overlay",
    exp.StrPosition: "position",
    exp.AtTimeZone: "timezone",
    exp.Exists: "exists",
    exp.Array: "array",
    exp.Overlaps: "overlaps",
    **SESSION_NODES,
}
_TYPE_NAMES = {Kind.BPCHAR: "bpchar", Kind.CHAR: "char"}


def output_name(node: exp.Expr) -> str:
    """The column's name."""
    return _strong_name(node) or _weak_name(node) or UNNAMED


def _strong_name(node: exp.Expr) -> str | None:
    match node:
        case exp.Column():
            return fold(node.this)
        case exp.Dot():
            return _strong_name(node.expression) or fold(node.expression)
        case exp.Paren() | exp.Collate() | exp.Bracket():
            return _strong_name(node.this)
        case exp.Window() | exp.Filter() | exp.WithinGroup() | exp.IgnoreNulls():
            return _strong_name(node.this)
        case exp.Anonymous():
            name = node.this
            return fold(name) if isinstance(name, exp.Identifier) else str(name).lower()
        case exp.Trim():
            side = str(node.args.get("position") or "").upper()
            return {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(side, "btrim")
        case exp.Cast():
            return _strong_name(node.this)
        case exp.Subquery() | exp.Select():
            return _query_name(node)
        case exp.Case():
            default = node.args.get("default")
            return _strong_name(default) if default is not None else None
    return _GRAMMAR_NAMES.get(type(node))


def _weak_name(node: exp.Expr) -> str | None:
    """Names that a better one inside gives way to: a cast's type, `case`."""
    match node:
        case exp.Paren():
            return _weak_name(node.this)
        case exp.Cast():
            return type_name(declared_type(node.args["to"]))
        case exp.Case():
            return "case"
        case exp.Interval():
            return "interval"
        case exp.Tuple():
            return "row"
        case exp.Concat():
            return None
    return None


def type_name(sql_type: SqlType) -> str:
    """pg_type.typname."""
    if sql_type.kind is Kind.ARRAY and sql_type.element is not None:
        return type_name(sql_type.element)
    return _TYPE_NAMES.get(sql_type.kind, str(sql_type.kind))


def _query_name(node: exp.Expr) -> str | None:
    inner = node.this if isinstance(node, exp.Subquery) else node
    if isinstance(inner, exp.Select) and inner.expressions:
        first = inner.expressions[0]
        return fold(first.args["alias"]) if isinstance(first, exp.Alias) else output_name(first)
    return None
