"""Sort keys of ORDER BY, wherever it stands: direction and the place of NULLs spelled out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from planner.semantics import build
from planner.types import Coercion
from storage.types import TEXT

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder


def sort_keys(binder: ExpressionBinder, order: exp.Order | None) -> tuple[exp.Ordered, ...]:
    """The bound sort keys of a window or an aggregate."""
    if order is None:
        return ()
    return tuple(sort_key(binder, each, binder.bind(each.this)) for each in order.expressions)


def sort_key(binder: ExpressionBinder, written: exp.Ordered, key: exp.Expr) -> exp.Ordered:
    """One sort key over a bound expression; NULLs come first where it descends."""
    if build.is_untyped(key):
        key = binder.casts.coerce(key, TEXT, Coercion.IMPLICIT)
    descending = bool(written.args.get("desc"))
    nulls_first = written.args.get("nulls_first")
    return exp.Ordered(
        this=key,
        desc=descending,
        nulls_first=descending if nulls_first is None else bool(nulls_first),
    )
