"""Window functions and frames. DuckDB's defaults are PostgreSQL's; result types are not all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from cluster.errors import FeatureNotSupported
from planner.bound import type_of
from planner.functions import Catalogue, Role
from planner.semantics import build
from planner.semantics.rules import define
from planner.types import NUMBER_KINDS, Coercion
from storage.types import INT4, INT8, INTERVAL, SqlType

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
        keys_of_order = bound["order"].expressions if "order" in bound else ()
        bound["spec"] = _frame(binder, parts.frame, keys_of_order)
    return bound


def _frame(
    binder: ExpressionBinder, frame: exp.WindowSpec, keys: Sequence[exp.Ordered]
) -> exp.WindowSpec:
    kind = str(frame.args.get("kind") or "").upper()
    if kind not in ("ROWS", "RANGE", "GROUPS"):
        raise FeatureNotSupported("this window frame is not supported")
    offsets_are = _range_offset(keys) if kind == "RANGE" else INT8
    arguments: dict[str, Any] = dict(frame.args)
    for end in ("start", "end"):
        written = frame.args.get(end)
        if not isinstance(written, exp.Expr):
            continue
        offset, side = _without_side(written)
        arguments[f"{end}_side"] = side or frame.args.get(f"{end}_side")
        bound = binder.bind(offset)
        if build.is_untyped(bound):
            bound = binder.casts.coerce(bound, offsets_are, Coercion.IMPLICIT)
        arguments[end] = bound
    if frame.args.get("exclude") is not None:
        arguments["exclude"] = frame.args["exclude"].copy()
    return exp.WindowSpec(**arguments)


def _range_offset(keys: Sequence[exp.Ordered]) -> SqlType:
    """The type that an untyped offset of RANGE has: what can be added to the key."""
    if len(keys) != 1:
        return INT8
    key = type_of(keys[0].this)
    return key if key.kind in NUMBER_KINDS else INTERVAL


def _without_side(offset: exp.Expr) -> tuple[exp.Expr, str | None]:
    """sqlglot takes the word behind `interval '1 day' PRECEDING` for the interval's unit."""
    copied, side = offset.copy(), None
    for interval in copied.find_all(exp.Interval):
        unit = interval.args.get("unit")
        if unit is not None and unit.name.upper() in ("PRECEDING", "FOLLOWING"):
            side = unit.name.upper()
            interval.set("unit", None)
    return copied, side


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
