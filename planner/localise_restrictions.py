"""From conditions to one restriction a partition column, as `catalog.pruning` takes them.

Read are comparisons of a column with constants, IN, BETWEEN, IS NULL, and disjunctions of
equalities on one column; also through casts that keep order and equality (an integer widened,
a date as timestamp). What is not understood restricts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlglot import exp

from catalog.datums import datum_of
from catalog.model import Column, ColumnId
from catalog.pruning import Interval, Restriction, ValueSet
from cluster.errors import DqeError
from planner.algebra import Scalar
from planner.algebra_scalars import MIRRORED, conjuncts, disjuncts
from planner.optimizer.constants import constant_of
from storage.types import Kind, SqlType

_NUMBERS = frozenset(
    {Kind.INT2, Kind.INT4, Kind.INT8, Kind.NUMERIC, Kind.FLOAT4, Kind.FLOAT8, Kind.OID}
)
_TEXTS = frozenset({Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME})
_WIDER = frozenset(
    {exp.DType.INT, exp.DType.BIGINT, exp.DType.SMALLINT, exp.DType.INT128, exp.DType.DECIMAL}
)


@dataclass(frozen=True, slots=True)
class _Bound:
    """One end of an interval: the value for `prune`, and what it is compared by."""

    value: object
    inclusive: bool


def restrictions_of(
    conditions: Sequence[Scalar], columns: Mapping[str, Column]
) -> tuple[dict[ColumnId, Restriction], list[Scalar]]:
    """The restrictions on the columns (by unique name), and the conditions that made them."""
    found: dict[ColumnId, Restriction] = {}
    used: list[Scalar] = []
    for condition in conditions:
        if condition.volatile or condition.columns.isdisjoint(columns):
            continue
        understood = False
        for term in conjuncts(condition.node):
            read = _restriction(term, columns)
            if read is not None:
                column, restriction = read
                found[column.id] = _both(column.type, found.get(column.id), restriction)
                understood = True
        if understood:
            used.append(condition)
    return found, used


def _restriction(
    node: exp.Expr, columns: Mapping[str, Column]
) -> tuple[Column, Restriction] | None:
    if isinstance(node, exp.Or):
        return _disjunction(node, columns)
    if isinstance(node, exp.EQ | exp.LT | exp.LTE | exp.GT | exp.GTE):
        column = _column(node.this, columns)
        if column is not None:
            return _compared(type(node), column, node.expression)
        column = _column(node.expression, columns)
        return None if column is None else _compared(MIRRORED[type(node)], column, node.this)
    column = _column(node.this, columns) if isinstance(node.this, exp.Expr) else None
    if column is None:
        return None
    if isinstance(node, exp.In) and node.expressions:
        values = [_value(column.type, e) for e in node.expressions]
        if any(v is None for v in values):
            return None
        return column, ValueSet(tuple(v.value for v in values if v is not None))
    if isinstance(node, exp.Between):
        low = _compared(exp.GTE, column, node.args["low"])
        high = _compared(exp.LTE, column, node.args["high"])
        if low is None or high is None:
            return low or high
        return column, _both(column.type, low[1], high[1])
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        return column, Interval() if node.args.get("negate") else ValueSet((None,))
    return None


def _disjunction(
    node: exp.Expr, columns: Mapping[str, Column]
) -> tuple[Column, Restriction] | None:
    values: list[object] = []
    column: Column | None = None
    for term in disjuncts(node):
        read = _restriction(term, columns)
        if read is None or not isinstance(read[1], ValueSet):
            return None
        if column is not None and read[0].id != column.id:
            return None
        column = read[0]
        values += read[1].values
    return None if column is None else (column, ValueSet(tuple(values)))


def _column(node: exp.Expr, columns: Mapping[str, Column]) -> Column | None:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Cast):
        column = _column(node.this, columns)
        if column is None:
            return None
        target = node.to.this
        whole = column.type.kind in (Kind.INT2, Kind.INT4, Kind.INT8)
        widened = whole and target in _WIDER and not node.to.expressions
        midnight = column.type.kind is Kind.DATE and target in (
            exp.DType.TIMESTAMP,
            exp.DType.TIMESTAMPNTZ,
        )
        text = column.type.kind in (Kind.TEXT, Kind.VARCHAR) and target in (
            exp.DType.TEXT,
            exp.DType.VARCHAR,
        )
        return column if widened or midnight or text else None
    return columns.get(node.name) if isinstance(node, exp.Column) else None


@dataclass(frozen=True, slots=True)
class _Known:
    """A constant as a value of a column's type. `above` says that the constant lies between
    the value and the next one (a time of day against a date)."""

    value: object
    above: bool = False


def _value(sql_type: SqlType, node: exp.Expr) -> _Known | None:
    constant = constant_of(node)
    if constant is None:
        return None
    known = _fitted(sql_type, constant.value)
    if known is None or known.value is None:
        return None
    try:
        datum_of(sql_type, known.value)
    except DqeError:
        return None
    return known


def _fitted(sql_type: SqlType, value: object) -> _Known | None:
    kind = sql_type.kind
    if kind in _NUMBERS:
        fits = isinstance(value, int | Decimal | float) and not isinstance(value, bool)
        return _Known(value) if fits else None
    if kind in _TEXTS or kind is Kind.UUID:
        return _Known(value) if isinstance(value, str) else None
    if kind is Kind.BOOL:
        return _Known(value) if isinstance(value, bool) else None
    if kind is Kind.DATE and isinstance(value, datetime):
        day = value.date()
        return _Known(day, above=value != datetime(day.year, day.month, day.day))
    if kind is Kind.DATE and isinstance(value, date):
        return _Known(value)
    if kind is Kind.TIMESTAMP and isinstance(value, date):
        if isinstance(value, datetime):
            return _Known(value)
        return _Known(datetime(value.year, value.month, value.day))
    return None


def _compared(
    operator: type[exp.Expr], column: Column, node: exp.Expr
) -> tuple[Column, Restriction] | None:
    known = _value(column.type, node)
    if known is None:
        return None
    if operator is exp.EQ:
        return column, ValueSet(() if known.above else (known.value,))
    if operator in (exp.LT, exp.LTE):
        inclusive = operator is exp.LTE or known.above
        return column, Interval(high=known.value, high_inclusive=inclusive)
    inclusive = operator is exp.GTE and not known.above
    return column, Interval(low=known.value, low_inclusive=inclusive)


def _both(sql_type: SqlType, first: Restriction | None, second: Restriction) -> Restriction:
    """A restriction that allows at least what both allow, and hardly more."""
    if first is None:
        return second
    if isinstance(first, ValueSet) and isinstance(second, ValueSet):
        allowed = {_datum(sql_type, v) for v in second.values}
        return ValueSet(tuple(v for v in first.values if _datum(sql_type, v) in allowed))
    if isinstance(first, ValueSet):
        return first
    if isinstance(second, ValueSet):
        return second
    low = _stricter(sql_type, _low(first), _low(second), 1)
    high = _stricter(sql_type, _high(first), _high(second), -1)
    return Interval(
        low.value if low else None,
        high.value if high else None,
        low.inclusive if low else True,
        high.inclusive if high else True,
    )


def _datum(sql_type: SqlType, value: object) -> object:
    return None if value is None else datum_of(sql_type, value)


def _low(interval: Interval) -> _Bound | None:
    return None if interval.low is None else _Bound(interval.low, interval.low_inclusive)


def _high(interval: Interval) -> _Bound | None:
    return None if interval.high is None else _Bound(interval.high, interval.high_inclusive)


def _stricter(
    sql_type: SqlType, first: _Bound | None, second: _Bound | None, sign: int
) -> _Bound | None:
    """The higher (sign 1) or lower (-1) of two bounds; of equal ones that which excludes."""
    if first is None or second is None:
        return first or second
    mine, other = datum_of(sql_type, first.value), datum_of(sql_type, second.value)
    if mine == other:
        return first if not first.inclusive else second
    greater = mine > other  # type: ignore[operator]
    return first if greater is (sign == 1) else second
