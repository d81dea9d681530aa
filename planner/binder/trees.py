"""Parsed trees taken apart: names, quantifiers, subqueries, calls with a grammar of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlglot import exp

from cluster.errors import DqeError
from planner.semantics.build import error_position


@contextmanager
def errors_at(node: exp.Expr) -> Iterator[None]:
    """Errors inside that have no position get the node's."""
    try:
        yield
    except DqeError as error:
        if error.position is None:
            error.position = error_position(node)
        raise


def keep_position(written: exp.Expr, bound: exp.Expr) -> exp.Expr:
    """The bound node, with the place where it stands in the statement."""
    if not (bound._meta and "start" in bound._meta):
        source = written.this if isinstance(written, exp.Column) else written
        meta = source._meta if isinstance(source, exp.Expr) else None
        if meta and "start" in meta:
            bound.meta["start"] = meta["start"]
            if isinstance(written, exp.Column) and written.args.get("table") is not None:
                table_meta = written.args["table"]._meta
                if table_meta and "start" in table_meta:
                    bound.meta["start"] = table_meta["start"]
    return bound


def fold(identifier: exp.Expr) -> str:
    """The name an identifier means: lower case unless quoted."""
    name = identifier.name
    return name if identifier.args.get("quoted") else name.lower()


def quantifier(node: exp.Expr) -> tuple[str, exp.Expr] | None:
    """("any" or "all", what it ranges over) where the node is a quantified right side."""
    if isinstance(node, exp.Any):
        return "any", node.this
    if isinstance(node, exp.All):
        return "all", node.this
    if isinstance(node, exp.Anonymous) and node.name.lower() in ("any", "some", "all"):
        kind = "all" if node.name.lower() == "all" else "any"
        return kind, node.expressions[0]
    return None


def inner_query(node: exp.Expr) -> exp.Expr | None:
    """The query inside parentheses; None where there is none."""
    inner: exp.Expr = node
    while isinstance(inner, (exp.Paren, exp.Subquery)) and not has_modifiers(inner):
        inner = inner.this
    if isinstance(inner, (exp.Select, exp.SetOperation, exp.Values, exp.Subquery)):
        return inner
    return None


def has_modifiers(node: exp.Expr) -> bool:
    return isinstance(node, exp.Subquery) and any(
        node.args.get(key) for key in ("order", "limit", "offset", "with_")
    )


def as_call(node: exp.Expr) -> exp.Anonymous:
    """SUBSTRING(a FROM b), TRIM(...), ... as the plain call it stands for."""
    arguments: list[Any]
    match node:
        case exp.Extract():
            name, field = "extract", node.this
            arguments = [exp.Literal.string(field.name), node.expression]
        case exp.Substring():
            name = "substring"
            arguments = [node.this, node.args.get("start"), node.args.get("length")]
            pattern, escape = arguments[1], arguments[2]
            if escape is not None and escape.is_string and pattern.is_string:
                name = "substring_similar"
        case exp.Trim():
            side = str(node.args.get("position") or "BOTH").upper()
            name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(side, "btrim")
            arguments = [node.this, node.args.get("expression")]
        case exp.Overlay():
            name = "overlay"
            arguments = [node.this, node.expression, node.args["from_"], node.args.get("for_")]
        case exp.StrPosition():
            name, arguments = "strpos", [node.this, node.args["substr"]]
        case _:
            raise AssertionError(f"not a call with a grammar: {node.key}")
    copied = [a.copy() for a in arguments if a is not None]
    return exp.Anonymous(this=name, expressions=copied)
