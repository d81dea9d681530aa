"""What share of rows conditions let through.

PostgreSQL's textbook rules: an equality keeps one of the distinct values, a range its part of
the span between low and high, and independent conditions multiply. Without statistics: an
equality 1/200 where distinct values are unknown, a range a third, LIKE a tenth.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlglot import exp

from planner.algebra import Scalar
from planner.algebra_scalars import MIRRORED, conjuncts
from planner.optimizer.constants import constant_of

if TYPE_CHECKING:
    from planner.optimizer.statistics import Profile

EQUALITY = 0.005
RANGE = 1.0 / 3.0
BETWEEN = 0.1
LIKE = 0.1
UNKNOWN = 0.3
LEAST = 1e-9
_EPOCH = date(1970, 1, 1).toordinal()


def selectivity(conditions: Iterable[Scalar], profile: Profile) -> float:
    """The share of the profile's rows for which all conditions hold."""
    share = 1.0
    ranges: dict[str, list[float]] = {}
    for condition in conditions:
        for term in conjuncts(condition.node):
            bounded = _one_sided(term, profile)
            if bounded is None:
                share *= _term(term, profile)
            else:
                ranges.setdefault(bounded[0], []).append(bounded[1])
    for parts in ranges.values():
        # Two bounds on one column are an interval: what both leave is their overlap.
        share *= max(sum(parts) - (len(parts) - 1), 0.002) if len(parts) > 1 else parts[0]
    return min(max(share, LEAST), 1.0)


def join_selectivity(conditions: Iterable[Scalar], profile: Profile) -> float:
    """The share of the cross product with this profile that the conditions let through."""
    share = 1.0
    for condition in conditions:
        share *= _term(condition.node, profile)
    return max(share, LEAST * LEAST)


def _term(node: exp.Expr, profile: Profile) -> float:
    if isinstance(node, exp.Paren):
        return _term(node.this, profile)
    if isinstance(node, exp.And):
        return _term(node.this, profile) * _term(node.expression, profile)
    if isinstance(node, exp.Or):
        first, second = _term(node.this, profile), _term(node.expression, profile)
        return first + second - first * second
    if isinstance(node, exp.Not):
        return max(1.0 - _term(node.this, profile), 0.01)
    if isinstance(node, exp.EQ):
        return _equal(node, profile)
    if isinstance(node, exp.NEQ):
        return 1.0 - _equal(node, profile)
    if isinstance(node, exp.LT | exp.LTE | exp.GT | exp.GTE):
        bounded = _one_sided(node, profile)
        return RANGE if bounded is None else bounded[1]
    if isinstance(node, exp.In):
        return min(1.0, len(node.expressions or (1,)) * _distinct_share(node.this, profile))
    if isinstance(node, exp.Between):
        return _between(node, profile)
    if isinstance(node, exp.Is):
        return _is(node, profile)
    if isinstance(node, exp.Like | exp.ILike):
        return LIKE
    if isinstance(node, exp.Boolean):
        return 1.0 if node.this else LEAST
    return UNKNOWN


def _equal(node: exp.Expr, profile: Profile) -> float:
    left, right = _bare(node.this), _bare(node.expression)
    shares = [
        _distinct_share(side, profile)
        for side in (left, right)
        if side.find(exp.Column) is not None
    ]
    return min(shares) if shares else EQUALITY


def _distinct_share(node: exp.Expr, profile: Profile) -> float:
    node = _bare(node)
    while isinstance(node, exp.Cast):
        node = _bare(node.this)
    if isinstance(node, exp.Column):
        column = profile.columns.get(node.name)
        if column is not None:
            return (1.0 - column.null_fraction) / max(column.distinct, 1.0)
    return EQUALITY


def _one_sided(node: exp.Expr, profile: Profile) -> tuple[str, float] | None:
    """Column and share of `column < constant` and its like."""
    node = _bare(node)
    if not isinstance(node, exp.LT | exp.LTE | exp.GT | exp.GTE):
        return None
    operator: type[exp.Expr] = type(node)
    left, right = _bare(node.this), _bare(node.expression)
    if not isinstance(left, exp.Column):
        left, right, operator = right, left, MIRRORED[operator]
    if not isinstance(left, exp.Column):
        return None
    column = profile.columns.get(left.name)
    value = _position(right)
    if column is None or value is None or column.low is None or column.high is None:
        return None
    below = _share_below(value, column.low, column.high)
    share = below if operator in (exp.LT, exp.LTE) else 1.0 - below
    return left.name, min(max(share, 0.0005), 1.0)


def _share_below(value: float, low: float, high: float) -> float:
    if high <= low:
        return 1.0 if value >= high else 0.0
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _between(node: exp.Between, profile: Profile) -> float:
    subject = _bare(node.this)
    column = profile.columns.get(subject.name) if isinstance(subject, exp.Column) else None
    low, high = _position(node.args["low"]), _position(node.args["high"])
    if column is None or low is None or high is None or column.low is None or column.high is None:
        return BETWEEN
    share = _share_below(high, column.low, column.high) - _share_below(low, column.low, column.high)
    return min(max(share, 1.0 / max(column.distinct, 1.0)), 1.0)


def _is(node: exp.Is, profile: Profile) -> float:
    subject = _bare(node.this)
    column = profile.columns.get(subject.name) if isinstance(subject, exp.Column) else None
    share = column.null_fraction if column is not None else 0.05
    if not isinstance(node.expression, exp.Null):
        share = 0.5
    return max(1.0 - share if node.args.get("negate") else share, 0.001)


def _position(node: exp.Expr) -> float | None:
    found = constant_of(node)
    value = found.value if found is not None else None
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float | Decimal):
        return float(value)
    if isinstance(value, datetime):
        days = value.toordinal() - _EPOCH
        return (days * 86400.0 + value.hour * 3600 + value.minute * 60 + value.second) * 1e6
    return float(value.toordinal() - _EPOCH) if isinstance(value, date) else None


def _bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node
