"""Numbers as PostgreSQL prints them, whole columns at a time.

Arrow's own casts do the common range; the few values that they spell differently (exponents,
infinities) are spelled one by one. PostgreSQL prints the shortest digits that read back the
same (manual 8.1.3) and turns to an exponent below 1e-4 and from 1e15 (float8) or 1e6 (float4).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.types import BARE_NUMERIC_SCALE

_FLOAT8_EXPONENT_FROM = 15
_FLOAT4_EXPONENT_FROM = 6
# Inside [low, high) Arrow's cast writes plain digits, just as PostgreSQL does.
_PLAIN_LOW = 1e-4
_FLOAT8_PLAIN_HIGH = 1e10
_FLOAT4_PLAIN_HIGH = 1e6


def float_text(value: float, exponent_from: int = _FLOAT8_EXPONENT_FROM) -> str:
    """One float8 as PostgreSQL's `float8out` writes it."""
    return _spell(value, repr, exponent_from)


def _spell(value: float, shortest: Callable[[float], str], exponent_from: int) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0" if str(value).startswith("-") else "0"
    sign, digits, exponent = Decimal(shortest(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    point = len(text) + exponent  # digits before the decimal point
    return ("-" if sign else "") + _place_point(text, point, exponent_from)


def _place_point(digits: str, point: int, exponent_from: int) -> str:
    if -4 < point <= exponent_from:
        if point <= 0:
            return "0." + "0" * -point + digits
        if point >= len(digits):
            return digits + "0" * (point - len(digits))
        return f"{digits[:point]}.{digits[point:]}"
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{point - 1:+03d}"


def floats_as_text(column: pa.Array) -> pa.StringArray:
    """A float4 or float8 column as text."""
    single = pa.types.is_float32(column.type)
    high = _FLOAT4_PLAIN_HIGH if single else _FLOAT8_PLAIN_HIGH
    texts = pc.cast(column, pa.string())
    values = pc.fill_null(column, 1.0).to_numpy(zero_copy_only=False)
    sizes = np.abs(values)
    odd = ~((sizes >= _PLAIN_LOW) & (sizes < high))
    if not odd.any():
        return texts
    exponent_from = _FLOAT4_EXPONENT_FROM if single else _FLOAT8_EXPONENT_FROM
    shortest = _shortest_float4 if single else repr
    spelled = [_spell(v, shortest, exponent_from) for v in values[odd].tolist()]
    return pc.replace_with_mask(texts, pa.array(odd), pa.array(spelled, pa.string()))


def _shortest_float4(value: float) -> str:
    return np.format_float_scientific(np.float32(value), unique=True)


def decimals_as_text(column: pa.Array, *, trim: bool) -> pa.StringArray:
    """A decimal column as text; `trim` drops the trailing zeros of a bare numeric."""
    texts = pc.cast(column, pa.string())
    exponents = pc.match_substring(texts, "E")
    if pc.any(exponents).as_py():
        plain = [format(Decimal(t), "f") for t in texts.filter(exponents).to_pylist()]
        texts = pc.replace_with_mask(texts, pc.fill_null(exponents, False), pa.array(plain))
    if trim and column.type.scale > 0:
        texts = pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")
    return texts


def is_bare_numeric(column_type: pa.DataType, precision: int | None) -> bool:
    """Whether the scale is the store's, not the user's, so that zeros carry no meaning."""
    return precision is None and int(column_type.scale) == BARE_NUMERIC_SCALE


def hugeints_as_text(column: pa.Array) -> pa.StringArray:
    """DuckDB's HUGEINT (16 little-endian bytes) as text."""
    values = column.to_pylist()
    return pa.array(
        [None if v is None else str(int.from_bytes(v, "little", signed=True)) for v in values],
        pa.string(),
    )
