"""Arithmetic: division and multiplication of numerics, powers, bits, rounding."""

from __future__ import annotations

DIVISION_BY_ZERO = "error('[22012] division by zero')"

NUMBERS = {
    "pg_divide_float(a, b)": f"CASE WHEN b = 0 AND a IS NOT NULL THEN {DIVISION_BY_ZERO}"
    " ELSE a / b END",
    # The integer that a decimal is in units of its last digit.
    "pg_raw(a, unit)": "CAST(trunc(a) AS HUGEINT) * unit"
    " + CAST((a - trunc(a)) * CAST(unit AS DECIMAL(17, 0)) AS HUGEINT)",
    # Whole part and remainder first; the remainder is below the divisor, so it has room to
    # grow by 16 digits unless the divisor is huge, when a double is exact enough for 16.
    "pg_fraction(r, b)": "CASE WHEN abs(b) < 5000000000000000000000::HUGEINT"
    " THEN (r * 20000000000000000::HUGEINT + (CASE WHEN (r < 0) = (b < 0) THEN b ELSE -b END))"
    " // (b * 2)"
    " ELSE CAST(r::DOUBLE / b::DOUBLE * 1e16 AS HUGEINT) END",
    "pg_quotient(a, b)": "CAST(a // b AS DECIMAL(38, 16))"
    " + CAST(pg_fraction(a % b, b) AS DECIMAL(38, 0)) * 0.0000000000000001",
    "pg_divide_numeric(a, b, unit)": f"CASE WHEN b = 0 AND a IS NOT NULL THEN {DIVISION_BY_ZERO}"
    " ELSE CAST(pg_quotient(pg_raw(a, unit), pg_raw(b, unit)) AS DECIMAL(38, 16)) END",
    "pg_fraction_part(a)": "CAST((a - trunc(a)) * 10000000000000000::DECIMAL(17, 0) AS HUGEINT)",
    "pg_multiply_raw(aw, af, bw, bf)": "CAST(aw * bw AS DECIMAL(38, 16))"
    " + CAST(aw * bf + af * bw + (af * bf) // 10000000000000000::HUGEINT AS DECIMAL(38, 0))"
    " * 0.0000000000000001",
    "pg_multiply(a, b)": "CAST(pg_multiply_raw(CAST(trunc(a) AS HUGEINT), pg_fraction_part(a),"
    " CAST(trunc(b) AS HUGEINT), pg_fraction_part(b)) AS DECIMAL(38, 16))",
    "pg_power(a, b)": "CASE WHEN a = 0 AND b < 0 THEN"
    " error('[2201F] zero raised to a negative power is undefined')"
    " WHEN a < 0 AND b <> trunc(b) THEN"
    " error('[2201F] a negative number raised to a non-integer power yields a complex result')"
    " ELSE pow(a, b) END",
    "pg_sqrt(a)": "CASE WHEN a < 0 THEN"
    " error('[2201F] cannot take square root of a negative number') ELSE sqrt(a) END",
    "pg_ln(a)": "CASE WHEN a = 0 THEN error('[2201E] cannot take logarithm of zero')"
    " WHEN a < 0 THEN error('[2201E] cannot take logarithm of a negative number')"
    " ELSE ln(a) END",
    "pg_log10(a)": "CASE WHEN a = 0 THEN error('[2201E] cannot take logarithm of zero')"
    " WHEN a < 0 THEN error('[2201E] cannot take logarithm of a negative number')"
    " ELSE log10(a) END",
    "pg_log_base(b, a)": "pg_ln(a) / pg_ln(b)",
    "pg_round_even(a)": "round_even(a, 0)",
    "pg_round_digits(a, n)": "CASE WHEN n >= 16 THEN a"
    " WHEN n IS NOT NULL THEN CAST(round(a, coalesce(n, 0)) AS DECIMAL(38, 16)) END",
    "pg_trunc_digits(a, n)": "CASE WHEN n >= 16 THEN a"
    " WHEN n IS NOT NULL THEN CAST(trunc(a, coalesce(n, 0)) AS DECIMAL(38, 16)) END",
    "pg_float_to_numeric(a, digits)": "CASE WHEN isnan(a) OR isinf(a) THEN"
    " error('[0A000] NaN and infinity are not supported as numeric values')"
    " ELSE CAST(printf('%.' || digits || 'g', a::DOUBLE) AS DECIMAL(38, 16)) END",
    "pg_gcd(a, b)": "greatest_common_divisor(a, b)",
    "pg_lcm(a, b)": "least_common_multiple(a, b)",
    "pg_width_bucket(x, low, high, n)": "CASE WHEN x + low + high IS NULL THEN NULL"
    " WHEN n <= 0 THEN"
    " error('[2201G] count must be greater than zero')"
    " WHEN low = high THEN error('[2201G] lower bound cannot equal upper bound')"
    " WHEN low < high THEN CASE WHEN x < low THEN 0 WHEN x >= high THEN n + 1"
    " ELSE CAST(floor((x - low)::DOUBLE * n / (high - low)::DOUBLE) AS INTEGER) + 1 END"
    " ELSE CASE WHEN x > low THEN 0 WHEN x <= high THEN n + 1"
    " ELSE CAST(floor((low - x)::DOUBLE * n / (low - high)::DOUBLE) AS INTEGER) + 1 END END",
    "pg_to_hex4(a)": "lower(to_base(CASE WHEN a < 0 THEN a::BIGINT + 4294967296"
    " ELSE a::BIGINT END, 16))",
    "pg_to_hex8(a)": "lower(CASE WHEN a < 0 THEN hex(a) ELSE to_base(a, 16) END)",
    "pg_to_bin(a)": "CASE WHEN a < 0 THEN bin(a) ELSE to_base(a, 2) END",
    "pg_to_oct(a)": "to_base(a, 8)",
    "pg_factorial(a)": "factorial(CAST(a AS INTEGER))",
    # Bits that are shifted out are gone, as in C; DuckDB refuses them.
    "pg_low_bits(a, unit)": "(a % unit + unit) % unit",
    "pg_signed_bits(a, unit)": "CASE WHEN a >= unit // 2 THEN a - unit ELSE a END",
    "pg_shift_left(a, n, unit)": "pg_signed_bits(pg_low_bits("
    "a::HUGEINT * (1::HUGEINT << n::HUGEINT), unit), unit)",
    **{
        f"pg_{name}d(a)": (
            f"{name}(radians(a))" if not name.startswith("a") else f"degrees({name}(a))"
        )
        for name in ("sin", "cos", "tan", "asin", "acos", "atan")
    },
}
