"""Window functions. DuckDB's defaults are PostgreSQL's; result types are not all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from cluster.errors import InvalidArgumentForNthValue
from planner.functions import Catalogue, Role
from planner.semantics import build, literals
from planner.semantics.rules import define
from storage.types import INT4, SqlType


@dataclass(frozen=True, slots=True)
class WindowCall:
    """A resolved window function; `wrap` puts OVER around it."""

    name: str
    arguments: tuple[exp.Expr, ...]
    type: SqlType
    ignores_nulls: bool
    wrap: Callable[[exp.Expr], exp.Expr]


def write(call: WindowCall) -> exp.Expr:
    """The call in DuckDB; counts that PostgreSQL has as int4 are cast."""
    _check_count(call)
    node: exp.Expr = exp.Anonymous(this=call.name, expressions=list(call.arguments))
    if call.ignores_nulls:
        node = exp.IgnoreNulls(this=node)
    wrapped = build.typed(call.wrap(build.typed(node, call.type)), call.type)
    if call.name == "ntile":
        return build.cast_as(wrapped, INT4)
    return wrapped


def _check_count(call: WindowCall) -> None:
    """DuckDB takes the zeroth value for NULL; what is no constant it takes as it is."""
    if call.name == "nth_value":
        count = literals.constant_of(call.arguments[1])
        if isinstance(count, int) and count <= 0:
            raise InvalidArgumentForNthValue("argument of nth_value must be greater than zero")


def register(catalogue: Catalogue) -> None:
    """Window functions."""
    for name in ("row_number", "rank", "dense_rank"):
        define(catalogue, f"{name}() -> int8", None, Role.WINDOW)
    for name in ("percent_rank", "cume_dist"):
        define(catalogue, f"{name}() -> float8", None, Role.WINDOW)
    define(catalogue, "ntile(int4) -> int4", None, Role.WINDOW)
    for name in ("lag", "lead"):
        define(catalogue, f"{name}(anyelement) -> anyelement", None, Role.WINDOW)
        define(catalogue, f"{name}(anyelement, int4) -> anyelement", None, Role.WINDOW)
        define(
            catalogue,
            f"{name}(anycompatible, int4, anycompatible) -> anycompatible",
            None,
            Role.WINDOW,
        )
    for name in ("first_value", "last_value"):
        define(catalogue, f"{name}(anyelement) -> anyelement", None, Role.WINDOW)
    define(catalogue, "nth_value(anyelement, int4) -> anyelement", None, Role.WINDOW)
