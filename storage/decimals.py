"""Numerics as Python computes with them: exactly.

A numeric here has up to 38 digits, and Python's own context rounds to 28 whatever it is asked to
compute, a sign's change included. So nothing of a numeric is computed but through `EXACT`, which
has room for every product of two of them.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

EXACT = Context(prec=100)
_ONE = Decimal(1)


def shifted(value: Decimal, places: int) -> Decimal:
    """The value times ten to the power of `places`."""
    return value.scaleb(places, EXACT)


def at_scale(value: Decimal, scale: int) -> Decimal:
    """The value with so many digits behind the point, rounded half away from zero."""
    return value.quantize(_ONE.scaleb(-scale), ROUND_HALF_UP, EXACT)


def as_numeric(value: Decimal, precision: int, scale: int) -> Decimal | None:
    """The value as numeric(precision, scale); None where that has too few digits for it."""
    most = precision - scale
    if value and value.adjusted() >= most:
        return None
    rounded = at_scale(value, scale)
    return None if rounded and rounded.adjusted() >= most else rounded
