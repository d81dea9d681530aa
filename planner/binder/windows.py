"""Windows of calls: named ones and what may be added to them, their order, their frame.

What PostgreSQL refuses of a frame as it reads the statement is refused here, with 42P20; offsets
that turn out NULL or negative fail as the query runs (`semantics.errors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from cluster.errors import FeatureNotSupported, UndefinedObject, WindowingError
from planner.binder.sort_keys import sort_keys
from planner.bound import type_of
from planner.semantics import build
from planner.types import NUMBER_KINDS, Coercion
from storage.types import INT8, INTERVAL, SqlType

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder


@dataclass(frozen=True, slots=True)
class _Parts:
    """PARTITION BY, ORDER BY and frame of a window, as written."""

    partition: tuple[exp.Expr, ...]
    order: exp.Order | None
    frame: exp.WindowSpec | None


def bound_window(binder: ExpressionBinder, window: exp.Window) -> dict[str, Any]:
    """The arguments of the bound `exp.Window`."""
    parts = _parts(binder, window)
    binder.inside_window = True
    try:
        bound: dict[str, Any] = {"partition_by": [binder.bind(p) for p in parts.partition]}
        keys = sort_keys(binder, parts.order)
        if keys:
            bound["order"] = exp.Order(expressions=list(keys))
        if parts.frame is not None:
            bound["spec"] = _frame(binder, parts.frame, keys, build.error_position(window))
        return bound
    finally:
        binder.inside_window = False


# Named windows


def _parts(binder: ExpressionBinder, window: exp.Window) -> _Parts:
    """A window's parts, those of the named window it builds on included."""
    alias = window.args.get("alias")
    own = _Parts(
        tuple(window.args.get("partition_by") or ()),
        window.args.get("order"),
        window.args.get("spec"),
    )
    if alias is None:
        return own
    named = binder.block.named_window(alias.name) if binder.block is not None else None
    if named is None:
        raise UndefinedObject(
            f'window "{alias.name}" does not exist', position=build.error_position(alias)
        )
    base = _parts(binder, named)
    _check_copy(alias, own, base)
    return _Parts(base.partition, own.order or base.order, own.frame or base.frame)


def _check_copy(alias: exp.Expr, own: _Parts, base: _Parts) -> None:
    """A named window may be given an order and a frame where it has none."""
    name, problem = alias.name, None
    if own.partition:
        problem = f'cannot override PARTITION BY clause of window "{name}"'
    elif own.order is not None and base.order is not None:
        problem = f'cannot override ORDER BY clause of window "{name}"'
    elif base.frame is not None and (own.order is not None or own.frame is not None):
        problem = f'cannot copy window "{name}" because it has a frame clause'
    if problem is not None:
        raise WindowingError(problem, position=build.error_position(alias))


# Frames


def _frame(
    binder: ExpressionBinder,
    frame: exp.WindowSpec,
    keys: Sequence[exp.Ordered],
    position: int | None,
) -> exp.WindowSpec:
    kind = str(frame.args.get("kind") or "").upper()
    if kind not in ("ROWS", "RANGE", "GROUPS"):
        raise FeatureNotSupported("this window frame is not supported")
    arguments: dict[str, Any] = dict(frame.args)
    for end in ("start", "end"):
        written = frame.args.get(end)
        if isinstance(written, exp.Expr):
            offset, side = _without_side(written)
            arguments[end] = offset
            arguments[f"{end}_side"] = side or frame.args.get(f"{end}_side")
    problem = _frame_problem(kind, arguments, len(keys))
    if problem is not None:
        raise WindowingError(problem, position=position)
    offsets_are = _range_offset(keys) if kind == "RANGE" else INT8
    for end in ("start", "end"):
        if isinstance(arguments.get(end), exp.Expr):
            arguments[end] = _offset(binder, arguments[end], offsets_are)
    if frame.args.get("exclude") is not None:
        arguments["exclude"] = frame.args["exclude"].copy()
    return exp.WindowSpec(**arguments)


def _without_side(offset: exp.Expr) -> tuple[exp.Expr, str | None]:
    """sqlglot takes the word behind `interval '1 day' PRECEDING` for the interval's unit."""
    copied, side = offset.copy(), None
    for interval in copied.find_all(exp.Interval):
        unit = interval.args.get("unit")
        if unit is not None and unit.name.upper() in ("PRECEDING", "FOLLOWING"):
            side = unit.name.upper()
            interval.set("unit", None)
    return copied, side


def _frame_problem(kind: str, arguments: dict[str, Any], key_count: int) -> str | None:
    """What PostgreSQL says of a frame that cannot be."""
    start, end = _edge(arguments, "start"), _edge(arguments, "end")
    if kind == "GROUPS" and key_count == 0:
        return "GROUPS mode requires an ORDER BY clause"
    has_offset = any(isinstance(arguments.get(side), exp.Expr) for side in ("start", "end"))
    if kind == "RANGE" and has_offset and key_count != 1:
        return "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column"
    if start == "UNBOUNDED FOLLOWING":
        return "frame start cannot be UNBOUNDED FOLLOWING"
    if end == "UNBOUNDED PRECEDING":
        return "frame end cannot be UNBOUNDED PRECEDING"
    if start == "CURRENT ROW" and end == "PRECEDING":
        return "frame starting from current row cannot have preceding rows"
    if start == "FOLLOWING" and end in ("PRECEDING", "CURRENT ROW"):
        return "frame starting from following row cannot have preceding rows"
    return None


def _edge(arguments: dict[str, Any], end: str) -> str:
    """Where a frame starts or ends, without its offset; a frame of one edge ends here."""
    value, side = arguments.get(end), str(arguments.get(f"{end}_side") or "").upper()
    if value is None or str(value).upper() == "CURRENT ROW":
        return "CURRENT ROW"
    return side if isinstance(value, exp.Expr) else f"UNBOUNDED {side}"


def _range_offset(keys: Sequence[exp.Ordered]) -> SqlType:
    """The type that an untyped offset of RANGE has: what can be added to the key."""
    if len(keys) != 1:
        return INT8
    key = type_of(keys[0].this)
    return key if key.kind in NUMBER_KINDS else INTERVAL


def _offset(binder: ExpressionBinder, written: exp.Expr, sql_type: SqlType) -> exp.Expr:
    bound = binder.bind(written)
    if build.is_untyped(bound):
        return binder.casts.coerce(bound, sql_type, Coercion.IMPLICIT)
    return bound
