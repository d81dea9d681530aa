"""PostgreSQL's division of numerics, for result columns: exact digits, exact number of them.

DuckDB's division is that of doubles, and its decimals have one scale a column, while
PostgreSQL chooses a scale for each quotient: at least 16 significant digits, and no fewer
behind the point than either operand has (`select_div_scale` in PostgreSQL's numeric.c; manual
8.1.2). So quotients leave here as text.

`divide` is the rule for one pair, in Python's integers. `divide_columns` takes whole columns:
where both operands fit 64 bits and the divisor is below `FAST_DIVISOR` (every average does),
rows of one quotient scale are divided together, nine digits at a time; the others one by one.

A decimal column with the scale of bare numerics is read without trailing zeros, because those
are the store's and not the user's (docs/sql.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DivisionByZero
from storage.types import BARE_NUMERIC_SCALE

# numeric.c: digits are kept by fours, a quotient gets at least this many significant ones.
_GROUP_DIGITS = 4
_MIN_SIGNIFICANT_DIGITS = 16
_MAX_SCALE = 1000

# A rest below this, times 10**9, fits 64 bits.
FAST_DIVISOR = 9_200_000_000
_STEP_DIGITS = 9

Int64s = npt.NDArray[np.int64]

_POWERS = 10 ** np.arange(19, dtype=np.int64)


def divide(dividend: int, dividend_scale: int, divisor: int, divisor_scale: int) -> str:
    """The quotient of two unscaled values as PostgreSQL prints it."""
    if divisor == 0:
        raise DivisionByZero("division by zero")
    scale = _quotient_scale(dividend, dividend_scale, divisor, divisor_scale)
    shift = scale + divisor_scale - dividend_scale
    quotient, rest = divmod(abs(dividend) * 10**shift, abs(divisor))
    if 2 * rest >= abs(divisor):
        quotient += 1  # half away from zero
    negative = quotient != 0 and (dividend < 0) != (divisor < 0)
    return ("-" if negative else "") + _with_point(quotient, scale)


def _quotient_scale(dividend: int, dividend_scale: int, divisor: int, divisor_scale: int) -> int:
    weight, first = _leading_group(dividend, dividend_scale)
    divisor_weight, divisor_first = _leading_group(divisor, divisor_scale)
    # With equal first groups it may be either; PostgreSQL assumes the smaller.
    quotient_weight = weight - divisor_weight - (first <= divisor_first)
    scale = _MIN_SIGNIFICANT_DIGITS - quotient_weight * _GROUP_DIGITS
    return min(max(scale, dividend_scale, divisor_scale, 0), _MAX_SCALE)


def _leading_group(unscaled: int, scale: int) -> tuple[int, int]:
    """Weight and value of the first group of four digits that is not zero."""
    if unscaled == 0:
        return 0, 0
    digits = str(abs(unscaled))
    exponent = len(digits) - scale - 1
    weight = exponent // _GROUP_DIGITS
    length = exponent - weight * _GROUP_DIGITS + 1
    return weight, int(digits[:length].ljust(length, "0"))


def _with_point(unscaled: int, scale: int) -> str:
    digits = str(unscaled).rjust(scale + 1, "0")
    return digits if scale == 0 else f"{digits[:-scale]}.{digits[-scale:]}"


@dataclass(frozen=True, slots=True)
class _Operand:
    """A column of numbers as 128-bit integers in two halves, with its scale."""

    low: Int64s
    high: Int64s
    scale: int
    trim: bool

    @classmethod
    def of(cls, column: pa.Array) -> _Operand:
        """`column` holds integers or decimals and no NULL."""
        if not pa.types.is_decimal(column.type):
            low = pc.cast(column, pa.int64()).to_numpy()
            return cls(low, low >> 63, 0, False)
        scale = int(column.type.scale)
        halves = np.frombuffer(column.buffers()[1], np.int64).reshape(-1, 2)
        halves = halves[column.offset : column.offset + len(column)]
        return cls(halves[:, 0], halves[:, 1], scale, scale == BARE_NUMERIC_SCALE)

    @property
    def fits(self) -> npt.NDArray[np.bool_]:
        """Which values are 64-bit integers (the least one aside, which has no opposite)."""
        least = np.iinfo(np.int64).min
        small: npt.NDArray[np.bool_] = (self.high == (self.low >> 63)) & (self.low != least)
        return small

    @property
    def has_zero(self) -> bool:
        return bool(((self.low == 0) & (self.high == 0)).any())

    def at(self, row: int) -> tuple[int, int]:
        """One value: unscaled, and its scale."""
        value = (int(self.high[row]) << 64) | (int(self.low[row]) & (2**64 - 1))
        scale = self.scale
        while self.trim and scale > 0 and value % 10 == 0:
            value //= 10
            scale -= 1
        return value, scale

    def scales(self, values: Int64s) -> Int64s:
        """The scale of each of these values, without the zeros that do not count."""
        scales = np.full(len(values), self.scale, np.int64)
        if self.trim:
            for zeros in range(1, self.scale + 1):
                scales[values % _POWERS[zeros] == 0] = self.scale - zeros
        return scales


def divide_columns(dividends: pa.Array, divisors: pa.Array) -> pa.StringArray:
    """Row by row quotients as text, NULL where either is. DivisionByZero for a zero divisor
    under a dividend that is not NULL."""
    valid = pc.and_(pc.is_valid(dividends), pc.is_valid(divisors))
    rows = np.flatnonzero(valid.to_numpy(zero_copy_only=False))
    top, bottom = _Operand.of(dividends.take(rows)), _Operand.of(divisors.take(rows))
    if bottom.has_zero:
        raise DivisionByZero("division by zero")
    texts = np.full(len(dividends), None, dtype=object)
    fast = top.fits & bottom.fits & (np.abs(bottom.low) < FAST_DIVISOR)
    left = _divide_fast(top, bottom, np.flatnonzero(fast), rows, texts)
    for row in (*left, *np.flatnonzero(~fast)):
        texts[rows[row]] = divide(*top.at(row), *bottom.at(row))
    return pa.array(texts, pa.string())


def _divide_fast(
    top: _Operand, bottom: _Operand, fast: Int64s, rows: Int64s, texts: npt.NDArray[np.object_]
) -> Int64s:
    """Writes the quotients of the `fast` rows into `texts`; returns rows it had to leave."""
    tops, bottoms = top.low[fast], bottom.low[fast]
    scales = _quotient_scales(tops, top, bottoms, bottom)
    shifts = scales + bottom.scale - top.scale
    negative = (tops < 0) != (bottoms < 0)
    for scale in np.unique(scales[shifts >= 0]).tolist():
        chosen = np.flatnonzero((scales == scale) & (shifts >= 0))
        shift = scale + bottom.scale - top.scale
        parts = _long_division(np.abs(tops[chosen]), np.abs(bottoms[chosen]), shift)
        quotients = _texts(parts, scale, negative[chosen])
        texts[rows[fast[chosen]]] = quotients.to_numpy(zero_copy_only=False)
    return fast[shifts < 0]


def _quotient_scales(tops: Int64s, top: _Operand, bottoms: Int64s, bottom: _Operand) -> Int64s:
    weights, firsts = _leading_groups(np.abs(tops), top.scale)
    bottom_weights, bottom_firsts = _leading_groups(np.abs(bottoms), bottom.scale)
    quotient_weights = weights - bottom_weights - (firsts <= bottom_firsts)
    scales = _MIN_SIGNIFICANT_DIGITS - quotient_weights * _GROUP_DIGITS
    scales = np.maximum(scales, np.maximum(top.scales(tops), bottom.scales(bottoms)))
    clipped: Int64s = np.clip(scales, 0, _MAX_SCALE)
    return clipped


def _leading_groups(sizes: Int64s, scale: int) -> tuple[Int64s, Int64s]:
    """`_leading_group` of every value."""
    digits = np.searchsorted(_POWERS, sizes, side="right")
    exponents = digits - scale - 1
    weights = exponents // _GROUP_DIGITS
    cut = digits - (exponents - weights * _GROUP_DIGITS + 1)
    firsts = sizes // _POWERS[np.maximum(cut, 0)] * _POWERS[np.maximum(-cut, 0)]
    zero = sizes == 0
    return np.where(zero, 0, weights), np.where(zero, 0, firsts)


def _long_division(tops: Int64s, bottoms: Int64s, shift: int) -> list[tuple[Int64s, int]]:
    """`tops * 10**shift / bottoms`, rounded, as runs of digits with their lengths; the first
    run is the whole part of `tops / bottoms` and has no length."""
    runs = [(tops // bottoms, 0)]
    rests = tops % bottoms
    for done in range(0, shift, _STEP_DIGITS):
        length = min(_STEP_DIGITS, shift - done)
        grown = rests * _POWERS[length]
        runs.append((grown // bottoms, length))
        rests = grown % bottoms
    carry = (2 * rests >= bottoms).astype(np.int64)
    for index in range(len(runs) - 1, 0, -1):
        run, length = runs[index][0] + carry, runs[index][1]
        carry = run // _POWERS[length]
        runs[index] = (run % _POWERS[length], length)
    runs[0] = (runs[0][0] + carry, 0)
    return runs


def _texts(
    runs: list[tuple[Int64s, int]], scale: int, negative: npt.NDArray[np.bool_]
) -> pa.StringArray:
    pieces = [pc.cast(pa.array(runs[0][0]), pa.string())]
    for run, length in runs[1:]:
        pieces.append(pc.utf8_lpad(pc.cast(pa.array(run), pa.string()), length, "0"))
    digits = pc.utf8_lpad(pc.binary_join_element_wise(*pieces, ""), scale + 1, "0")
    whole = digits if scale == 0 else pc.utf8_slice_codeunits(digits, 0, -scale)
    whole = pc.utf8_lpad(pc.utf8_ltrim(whole, "0"), 1, "0")
    if scale > 0:
        fraction = pc.utf8_slice_codeunits(digits, -scale)
        digits = pc.binary_join_element_wise(whole, fraction, ".")
    else:
        digits = whole
    nonzero = np.logical_or.reduce([run != 0 for run, _ in runs])
    signs = pc.if_else(pa.array(negative & nonzero), "-", "")
    return pc.binary_join_element_wise(signs, digits, "")
