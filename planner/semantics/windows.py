"""Window functions and frames. DuckDB's defaults are PostgreSQL's; result types are not all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from cluster.errors import FeatureNotSupported
from planner.functions import Catalogue, Role
from planner.semantics import build
from planner.semantics.rules import define
from planner.types import Coercion
from storage.types import INT4, INT8, SqlType

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder


@dataclass(frozen=True, slots=True)
class Parts:
    """PARTITION BY, ORDER BY and frame of a window, as written."""

    partition: tuple[exp.Expr, ...]
    order: exp.Order | None
    frame: exp.WindowSpec | None


@dataclass(frozen=True, slots=True)
class WindowCall:
    """A resolved window function; `wrap` puts OVER around it."""

    name: str
    arguments: tuple[exp.Expr, ...]
    type: SqlType
    ignores_nulls: bool
    wrap: Callable[[exp.Expr], exp.Expr]


Ordered = Callable[[exp.Ordered, exp.Expr, "ExpressionBinder"], exp.Ordered]


def bound_parts(binder: ExpressionBinder, parts: Parts, ordered: Ordered) -> dict[str, Any]:
    """The arguments of the bound `exp.Window`."""
    bound: dict[str, Any] = {"partition_by": [binder.bind(p) for p in parts.partition]}
    if parts.order is not None:
        keys = [ordered(each, binder.bind(each.this), binder) for each in parts.order.expressions]
        bound["order"] = exp.Order(expressions=keys)
    if parts.frame is not None:
        bound["spec"] = _frame(binder, parts.frame)
    return bound


def _frame(binder: ExpressionBinder, frame: exp.WindowSpec) -> exp.WindowSpec:
    arguments: dict[str, Any] = {}
    for key, value in frame.args.items():
        arguments[key] = value
        if isinstance(value, exp.Expr):
            bound = binder.bind(value)
            if build.is_untyped(bound):
                bound = binder.casts.coerce(bound, INT8, Coercion.IMPLICIT)
            arguments[key] = bound
    if str(frame.args.get("kind") or "").upper() not in ("ROWS", "RANGE", "GROUPS"):
        raise FeatureNotSupported("this window frame is not supported")
    return exp.WindowSpec(**arguments)


def write(call: WindowCall) -> exp.Expr:
    """The call in DuckDB; counts that PostgreSQL has as int4 are cast."""
    node: exp.Expr = exp.Anonymous(this=call.name, expressions=list(call.arguments))
    if call.ignores_nulls:
        node = exp.IgnoreNulls(this=node)
    wrapped = build.typed(call.wrap(build.typed(node, call.type)), call.type)
    if call.name == "ntile":
        return build.cast_as(wrapped, INT4)
    return wrapped


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
