"""Making typed nodes: the vocabulary in which the rules write DuckDB's SQL.

sqlglot writes a tree as it stands and adds no parentheses, so operators are built by `binary`
alone, which wraps operands that bind less tightly. A node used in two places must be copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from sqlglot import exp

from planner.bound import type_of
from storage.types import BOOL, INT4, INT8, TEXT, UNKNOWN, Kind, SqlType, array_of, duckdb_type

N = TypeVar("N", bound=exp.Expr)


def typed(node: N, sql_type: SqlType) -> N:
    """The node, with its type noted."""
    node.meta["type"] = sql_type
    return node


@lru_cache(maxsize=512)
def _data_type(name: str) -> exp.DataType:
    return exp.DataType.build(name, dialect="duckdb")


def data_type(sql_type: SqlType) -> exp.DataType:
    """The node of the type that holds it in DuckDB."""
    return _data_type(duckdb_type(sql_type)).copy()


def cast_as(node: exp.Expr, sql_type: SqlType, duckdb_name: str | None = None) -> exp.Cast:
    """DuckDB's CAST, without PostgreSQL's checks (those are in `casts`)."""
    target = _data_type(duckdb_name).copy() if duckdb_name else data_type(sql_type)
    return typed(exp.Cast(this=node, to=target), sql_type)


def call(name: str, *arguments: exp.Expr, type: SqlType) -> exp.Anonymous:
    """A call of a DuckDB function or of one of our macros."""
    return typed(exp.Anonymous(this=name, expressions=list(arguments)), type)


def text(value: str, sql_type: SqlType = TEXT) -> exp.Literal:
    return typed(exp.Literal.string(value), sql_type)


def integer(value: int, sql_type: SqlType = INT4) -> exp.Expr:
    """An integer constant; DuckDB types it by its value, so other widths are cast."""
    node: exp.Expr = exp.Literal.number(abs(value))
    if value < 0:
        node = exp.Neg(this=node)
    natural = INT4 if -(2**31) <= value < 2**31 else INT8
    if sql_type != natural:
        return cast_as(node, sql_type)
    return typed(node, sql_type)


def boolean(value: bool) -> exp.Boolean:
    return typed(exp.Boolean(this=value), BOOL)


def null(sql_type: SqlType = UNKNOWN) -> exp.Expr:
    if sql_type.kind in (Kind.UNKNOWN, Kind.ANY):
        return typed(exp.Null(), sql_type)
    return cast_as(exp.Null(), sql_type)


_ATOMS = (
    exp.Column,
    exp.Literal,
    exp.Cast,
    exp.Anonymous,
    exp.AnonymousAggFunc,
    exp.AggFunc,
    exp.Paren,
    exp.Case,
    exp.Boolean,
    exp.Null,
    exp.Subquery,
    exp.Identifier,
    exp.Window,
    exp.Tuple,
    exp.Parameter,
    exp.Coalesce,
)


def operand(node: exp.Expr) -> exp.Expr:
    """The node, in parentheses where an operator beside it could tear it apart."""
    if isinstance(node, _ATOMS):
        return node
    return typed(exp.Paren(this=node), type_of(node))


def binary(kind: type[exp.Expr], left: exp.Expr, right: exp.Expr, sql_type: SqlType) -> exp.Expr:
    return typed(kind(this=operand(left), expression=operand(right)), sql_type)


def unary(kind: type[exp.Expr], node: exp.Expr, sql_type: SqlType) -> exp.Expr:
    return typed(kind(this=operand(node)), sql_type)


def negation(node: exp.Expr) -> exp.Expr:
    return unary(exp.Not, node, BOOL)


def conjunction(nodes: Sequence[exp.Expr], kind: type[exp.Expr] = exp.And) -> exp.Expr:
    """All of them joined by AND (or OR); TRUE for none."""
    if not nodes:
        return boolean(kind is exp.And)
    result = nodes[0]
    for node in nodes[1:]:
        # A chain of the same connector needs no parentheses on its left.
        left = result if isinstance(result, kind) else operand(result)
        result = typed(kind(this=left, expression=operand(node)), BOOL)
    return result


def is_null(node: exp.Expr) -> exp.Expr:
    return typed(exp.Is(this=operand(node), expression=exp.Null()), BOOL)


def case(whens: Sequence[tuple[exp.Expr, exp.Expr]], default: exp.Expr | None) -> exp.Expr:
    """CASE WHEN ...; the type is that of the first branch."""
    ifs = [exp.If(this=condition, true=value) for condition, value in whens]
    return typed(exp.Case(ifs=ifs, default=default), type_of(whens[0][1]))


def column(name: str, relation: str | None, sql_type: SqlType) -> exp.Column:
    """A column of a relation (or, without one, of the block's own output)."""
    table = exp.Identifier(this=relation, quoted=True) if relation else None
    this = exp.Identifier(this=name, quoted=True)
    return typed(exp.Column(this=this, table=table), sql_type)


def identifier(name: str) -> exp.Identifier:
    return exp.Identifier(this=name, quoted=True)


def aliased(node: exp.Expr, name: str) -> exp.Alias:
    return typed(exp.Alias(this=node, alias=identifier(name)), type_of(node))


def list_of(nodes: Sequence[exp.Expr], sql_type: SqlType) -> exp.Expr:
    """A DuckDB list of the array type `sql_type`."""
    if not nodes:
        return cast_as(typed(exp.Array(expressions=[]), sql_type), sql_type)
    return typed(exp.Array(expressions=list(nodes)), sql_type)


def texts(values: Sequence[str]) -> exp.Expr:
    """A constant list of texts."""
    return list_of([text(value) for value in values], array_of(TEXT))


def literal_text(node: exp.Expr) -> str | None:
    """The text of a string literal, typed or not; None for anything else."""
    inner = node.this if isinstance(node, exp.Cast) else node
    if isinstance(inner, exp.Literal) and inner.is_string:
        return str(inner.this)
    return None


def is_untyped(node: exp.Expr) -> bool:
    """Whether the node is a literal, NULL or parameter that takes its type from its place."""
    return type_of(node).kind is Kind.UNKNOWN


def error_position(node: exp.Expr) -> int | None:
    """Where the node stands in the statement, counting characters from 1."""
    for candidate in node.walk(bfs=False):
        meta = candidate._meta
        if meta and "start" in meta:
            return int(meta["start"]) + 1
    return None
