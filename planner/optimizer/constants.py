"""What a constant expression is worth, as far as pruning and estimates need to know.

Numbers, texts, booleans, dates and timestamps, and a date or timestamp plus or minus an
interval; everything else is not known here (`None`), which only costs a pruned part.
"""

from __future__ import annotations

import calendar
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlglot import exp

from storage.decimals import EXACT
from storage.types import Kind

Value = bool | int | Decimal | float | str | date | datetime


@dataclass(frozen=True, slots=True)
class Constant:
    """A known value; `value` is None for NULL. Dates are `date`, timestamps naive."""

    value: Value | None


@dataclass(frozen=True, slots=True)
class _Interval:
    months: int
    days: int
    seconds: float


_TYPE_KINDS = {
    exp.DType.DATE: Kind.DATE,
    exp.DType.TIMESTAMP: Kind.TIMESTAMP,
    exp.DType.TIMESTAMPNTZ: Kind.TIMESTAMP,
    exp.DType.INTERVAL: Kind.INTERVAL,
}
_INTEGER_TYPES = frozenset(
    {exp.DType.INT, exp.DType.BIGINT, exp.DType.SMALLINT, exp.DType.TINYINT, exp.DType.INT128}
)
_TEXT_TYPES = frozenset({exp.DType.TEXT, exp.DType.VARCHAR, exp.DType.CHAR, exp.DType.BPCHAR})
_UNITS: dict[str, tuple[int, int, float]] = {
    "YEAR": (12, 0, 0.0),
    "MONTH": (1, 0, 0.0),
    "MON": (1, 0, 0.0),
    "WEEK": (0, 7, 0.0),
    "DAY": (0, 1, 0.0),
    "HOUR": (0, 0, 3600.0),
    "MINUTE": (0, 0, 60.0),
    "SECOND": (0, 0, 1.0),
}
_AMOUNTS = re.compile(r"\s*([+-]?\d+)\s*([A-Za-z]+)")


def constant_of(node: exp.Expr) -> Constant | None:
    """The value of a constant expression; None where it is not known."""
    try:
        value = _evaluate(node)
    except (ValueError, OverflowError, InvalidOperation):
        return None
    return value if isinstance(value, Constant) else None


_COMPARED: dict[type[exp.Expr], Callable[[Any, Any], bool]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
}


def truth_of(node: exp.Expr) -> bool | None:
    """Whether a condition without columns lets rows through (NULL does not); None: unknown."""
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Boolean | exp.Null):
        return isinstance(node, exp.Boolean) and bool(node.this)
    compare = _COMPARED.get(type(node))
    if compare is None:
        return None
    left, right = constant_of(node.this), constant_of(node.expression)
    if left is None or right is None:
        return None
    if left.value is None or right.value is None:
        return False
    numbers = (int, Decimal)
    if type(left.value) in numbers and type(right.value) in numbers:
        return compare(left.value, right.value)
    return compare(left.value, right.value) if type(left.value) is type(right.value) else None


def _evaluate(node: exp.Expr) -> Constant | _Interval | None:
    if isinstance(node, exp.Paren):
        return _evaluate(node.this)
    if isinstance(node, exp.Literal):
        return Constant(str(node.this) if node.is_string else _number(str(node.this)))
    if isinstance(node, exp.Boolean):
        return Constant(bool(node.this))
    if isinstance(node, exp.Null):
        return Constant(None)
    if isinstance(node, exp.Neg):
        inner = _evaluate(node.this)
        if isinstance(inner, Constant) and isinstance(inner.value, int | Decimal | float):
            return Constant(_negated(inner.value))
        return None
    if isinstance(node, exp.Cast):
        return _cast(node)
    if isinstance(node, exp.Interval):
        return _interval_node(node)
    if isinstance(node, exp.Add | exp.Sub):
        return _sum(_evaluate(node.this), _evaluate(node.expression), isinstance(node, exp.Sub))
    return None


def _number(text: str) -> int | Decimal:
    return int(text) if text.isdigit() else Decimal(text)


def _cast(node: exp.Cast) -> Constant | _Interval | None:
    inner = _evaluate(node.this)
    target = node.to.this
    if isinstance(inner, _Interval):
        return inner if target is exp.DType.INTERVAL else None
    if inner is None or inner.value is None:
        return inner
    kind = _TYPE_KINDS.get(target)
    if kind is Kind.INTERVAL:
        return _interval_of_text(inner.value) if isinstance(inner.value, str) else None
    if kind is not None:
        return _moment(inner.value, kind)
    if target in _INTEGER_TYPES:
        if isinstance(inner.value, str):
            return Constant(int(inner.value))
        whole = isinstance(inner.value, int) and not isinstance(inner.value, bool)
        return inner if whole else None
    if target is exp.DType.DECIMAL:
        # A cast to a narrower scale rounds; only what stays as it is is known.
        if isinstance(inner.value, int | Decimal) and _keeps_digits(node.to, inner.value):
            return inner
        return None
    return inner if target in _TEXT_TYPES and isinstance(inner.value, str) else None


def _keeps_digits(target: exp.DataType, value: int | Decimal) -> bool:
    sizes = [int(e.name) for e in target.expressions if e.name.isdigit()]
    scale = sizes[1] if len(sizes) > 1 else (0 if sizes else 3)
    exponent = Decimal(value).as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= scale


def _moment(value: Value, kind: Kind) -> Constant | None:
    if isinstance(value, str):
        found: date = datetime.fromisoformat(value.strip())
        if found.tzinfo is not None:  # type: ignore[attr-defined]
            return None
    elif isinstance(value, date):
        found = value
    else:
        return None
    if kind is Kind.DATE:
        return Constant(found.date() if isinstance(found, datetime) else found)
    return Constant(_as_timestamp(found))


def _as_timestamp(value: date) -> datetime:
    return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)


def _interval_node(node: exp.Interval) -> _Interval | None:
    unit = node.args.get("unit")
    amount = node.this
    text = amount.name if isinstance(amount, exp.Literal) else ""
    if unit is None:
        return _interval_of_text(text)
    return _interval_of_text(f"{text} {unit.name}")


def _interval_of_text(text: str) -> _Interval | None:
    months = days = 0
    seconds = 0.0
    end = 0
    for found in _AMOUNTS.finditer(text):
        unit = _UNITS.get(found[2].upper().rstrip("S"))
        if unit is None or found.start() != end:
            return None
        amount, end = int(found[1]), found.end()
        months += amount * unit[0]
        days += amount * unit[1]
        seconds += amount * unit[2]
    return _Interval(months, days, seconds) if end and not text[end:].strip() else None


def _sum(
    left: Constant | _Interval | None, right: Constant | _Interval | None, minus: bool
) -> Constant | None:
    if not isinstance(left, Constant) or left.value is None:
        return None
    if isinstance(right, _Interval) and isinstance(left.value, date):
        return Constant(_shifted(_as_timestamp(left.value), right, -1 if minus else 1))
    if not isinstance(right, Constant) or right.value is None:
        return None
    if type(left.value) is date and type(right.value) is int:
        return Constant(left.value + timedelta(days=-right.value if minus else right.value))
    first, second = left.value, right.value
    if isinstance(first, bool) or isinstance(second, bool):
        return None
    if isinstance(first, int | Decimal) and isinstance(second, int | Decimal):
        if isinstance(first, int) and isinstance(second, int):
            return Constant(first - second if minus else first + second)
        return Constant(EXACT.subtract(first, second) if minus else EXACT.add(first, second))
    return None


def _negated(value: float | Decimal) -> float | Decimal:
    return EXACT.minus(value) if isinstance(value, Decimal) else -value


def _shifted(moment: datetime, interval: _Interval, sign: int) -> datetime:
    month = moment.year * 12 + moment.month - 1 + sign * interval.months
    year, month = divmod(month, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    whole = moment.replace(year=year, month=month + 1, day=day)
    return whole + sign * timedelta(days=interval.days, seconds=interval.seconds)
