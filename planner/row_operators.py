"""Arithmetic and comparisons for `planner.row_expressions`, with the binder's result types.

The shapes of numeric results are those of `planner.semantics.numbers`, so that a value has the
same digits whichever way it was computed.
"""

from __future__ import annotations

from decimal import Decimal

from planner.row_casts import WIDE, Typed, cast, constant, numeric_operand
from planner.types import FLOAT_KINDS, INTEGER_KINDS, NUMBER_KINDS, Coercion
from storage.row_closures import Code, NotByRow
from storage.types import BOOL, FLOAT8, NUMERIC, Kind, SqlType, numeric_shape

_WIDTHS = {Kind.INT2: 0, Kind.INT4: 1, Kind.INT8: 2}
# As in `planner.semantics.numbers`.
_MINIMUM_WHOLE_DIGITS = 16
_NARROW_DIGITS = 18


def arithmetic(name: str, left: Typed, right: Typed) -> Typed:
    """`left name right` for two numbers."""
    kinds = {left.type.kind, right.type.kind}
    if not kinds <= NUMBER_KINDS or Kind.FLOAT4 in kinds:
        raise NotByRow(f"{name} of {left.type} and {right.type}")
    if kinds <= INTEGER_KINDS:
        wider = max(left.type, right.type, key=lambda t: _WIDTHS[t.kind])
        return Typed(wider, ("integers", wider.kind.value, name, left.code, right.code))
    if kinds & FLOAT_KINDS:
        if name == "%":
            raise NotByRow("% of floats")
        sides = [cast(side, FLOAT8, Coercion.IMPLICIT).code for side in (left, right)]
        return Typed(FLOAT8, ("floats", name, *sides))
    return _numerics(name, numeric_operand(left), numeric_operand(right))


def _numerics(name: str, left: Typed, right: Typed) -> Typed:
    if name == "/":
        raise NotByRow("a division of numerics")
    if name == "*":
        return _product(left, right)
    result = _sum_shape(left.type, right.type, carry=0 if name == "%" else 1)
    if name != "%" and _is_widened(left.type, right.type, numeric_shape(result)[0]):
        wide = SqlType(
            Kind.NUMERIC, precision=_NARROW_DIGITS + 1, scale=numeric_shape(left.type)[1]
        )
        result = _sum_shape(wide, right.type, carry=1)
    return Typed(result, _checked(name, left, right, result))


def _checked(name: str, left: Typed, right: Typed, result: SqlType) -> Code:
    precision, scale = numeric_shape(result)
    code: Code = ("decimals", name, precision - scale, left.code, right.code)
    if scale < max(numeric_shape(left.type)[1], numeric_shape(right.type)[1]):
        raise NotByRow("more digits than a numeric has")
    return code


def _sum_shape(left: SqlType, right: SqlType, carry: int) -> SqlType:
    (lp, ls), (rp, rs) = numeric_shape(left), numeric_shape(right)
    scale = max(ls, rs)
    precision = min(max(lp - ls, rp - rs) + scale + carry, WIDE)
    if NUMERIC in (left, right) and scale == 16:
        return NUMERIC
    return SqlType(Kind.NUMERIC, precision=precision, scale=scale)


def _is_widened(left: SqlType, right: SqlType, precision: int) -> bool:
    """Whether the left side is computed with more digits, so that DuckDB has room."""
    widest = max(numeric_shape(left)[0], numeric_shape(right)[0])
    return widest <= _NARROW_DIGITS < precision


def _product(left: Typed, right: Typed) -> Typed:
    (lp, ls), (rp, rs) = numeric_shape(left.type), numeric_shape(right.type)
    scale, whole = ls + rs, lp - ls + rp - rs
    if WIDE - scale < min(whole, _MINIMUM_WHOLE_DIGITS):
        raise NotByRow("a product of so many digits")
    if _is_widened(left.type, right.type, min(lp + rp, WIDE)):
        lp = _NARROW_DIGITS + 1
    shape = SqlType(Kind.NUMERIC, precision=min(lp + rp, WIDE), scale=scale)
    code: Code = ("decimals", "*", numeric_shape(shape)[0] - scale, left.code, right.code)
    if NUMERIC in (left.type, right.type):
        return Typed(NUMERIC, ("rescale", *numeric_shape(NUMERIC), code))
    return Typed(shape, code)


def negative(value: Typed) -> Typed:
    """Unary minus."""
    kind = value.type.kind
    if kind not in NUMBER_KINDS or kind is Kind.FLOAT4:
        raise NotByRow(f"- of {value.type}")
    if isinstance(value.constant, (int, Decimal)):
        # -2147483648 is a bigint: its digits are one.
        return constant(-value.constant, value.type)
    if kind in INTEGER_KINDS:
        return Typed(value.type, ("in range", kind.value, ("negative", value.code)))
    name = "negative decimal" if kind is Kind.NUMERIC else "negative"
    return Typed(value.type, (name, value.code))


_TEXTS = frozenset({Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR})
# Kinds whose plain values compare as the type does, with their own kind.
_ALIKE = frozenset(
    {
        Kind.BOOL,
        Kind.BYTEA,
        Kind.DATE,
        Kind.TIME,
        Kind.TIMESTAMP,
        Kind.TIMESTAMPTZ,
        Kind.UUID,
    }
)
_EXACT_NUMBERS = INTEGER_KINDS | {Kind.NUMERIC}


def comparison(name: str, left: Typed, right: Typed) -> Typed:
    """`left name right`, a boolean."""
    kinds = {left.type.kind, right.type.kind}
    alike = len(kinds) == 1 and kinds <= _ALIKE
    if alike or kinds <= _EXACT_NUMBERS or kinds <= _TEXTS:
        return Typed(BOOL, ("compare", name, left.code, right.code))
    if kinds <= NUMBER_KINDS and Kind.FLOAT4 not in kinds:
        sides = [cast(side, FLOAT8, Coercion.IMPLICIT).code for side in (left, right)]
        return Typed(BOOL, ("compare floats", name, *sides))
    raise NotByRow(f"{left.type} {name} {right.type}")
