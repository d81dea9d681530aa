"""Quotients of numerics: PostgreSQL's own answers, and the fast columns against the slow rule."""

from __future__ import annotations

from decimal import Context, Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import DivisionByZero
from executor.numeric_division import divide, divide_columns

# dividend, divisor, and what PostgreSQL 18 prints for `dividend::numeric / divisor::numeric`.
# `tests/executor/test_numeric_division_server.py` asks a real server for more.
KNOWN = [
    ("10", "3", "3.3333333333333333"),
    ("1", "3", "0.33333333333333333333"),
    ("2", "3", "0.66666666666666666667"),
    ("6", "3", "2.0000000000000000"),
    ("0", "7", "0.00000000000000000000"),
    ("-10", "3", "-3.3333333333333333"),
    ("100000", "7", "14285.714285714286"),
    ("1", "10000", "0.000100000000000000000000"),
    ("1.50", "2", "0.75000000000000000000"),
    ("123456789012345678901234567890", "7", "17636684144620811271604938270"),
    ("0.001", "1000", "0.000001000000000000000000"),
    ("-1", "100000000", "-0.0000000100000000000000000000"),
]


def column(texts: list[str]) -> pa.Array:
    """A decimal column with the scale of the longest fraction."""
    scale = max(len(text.partition(".")[2]) for text in texts)
    return pa.array([Decimal(text) for text in texts], pa.decimal128(38, scale))


@pytest.mark.parametrize(("dividend", "divisor", "expected"), KNOWN)
def test_known_quotients(dividend: str, divisor: str, expected: str) -> None:
    assert divide_columns(column([dividend]), column([divisor])).to_pylist() == [expected]


def test_integers_and_nulls() -> None:
    dividends = pa.array([10, None, 7, 1], pa.int64())
    divisors = pa.array([4, 2, None, 8], pa.int32())
    quotients = divide_columns(dividends, divisors).to_pylist()
    assert quotients == ["2.5000000000000000", None, None, "0.12500000000000000000"]


def test_zero_divisors_fail_only_under_a_dividend() -> None:
    null, zero = pa.array([None], pa.int64()), pa.array([0], pa.int64())
    assert divide_columns(null, zero).to_pylist() == [None]
    with pytest.raises(DivisionByZero):
        divide_columns(pa.array([1], pa.int64()), zero)


def test_zeros_of_bare_numerics_do_not_count() -> None:
    """DECIMAL(38,16) holds bare numerics; their trailing zeros are the store's."""
    huge = pa.array([Decimal("1234567890123456789012")], pa.decimal128(38, 16))
    assert divide_columns(huge, pa.array([1], pa.int64())).to_pylist() == ["1234567890123456789012"]


def test_slices_and_empty_columns() -> None:
    dividends = column(["1.5", "2.5", "3.5"]).slice(1)
    assert divide_columns(dividends, pa.array([1, 2, 1], pa.int64()).slice(1)).to_pylist() == [
        "1.25000000000000000000",
        "3.5000000000000000",
    ]
    empty = pa.array([], pa.decimal128(10, 2))
    assert divide_columns(empty, pa.array([], pa.int64())).to_pylist() == []


@settings(deadline=None)
@given(
    pairs=st.lists(
        st.tuples(
            st.one_of(
                st.integers(-(10**6), 10**6),
                st.integers(-(2**63), 2**63 - 1),
                st.integers(-(10**37), 10**37),
            ),
            st.one_of(st.integers(1, 100), st.integers(1, 2**40), st.integers(-(10**20), -1)),
        ),
        max_size=20,
    ),
    dividend_scale=st.integers(0, 15),
    divisor_scale=st.integers(0, 15),
)
def test_columns_agree_with_the_rule_for_one_pair(
    pairs: list[tuple[int, int]], dividend_scale: int, divisor_scale: int
) -> None:
    exact = Context(prec=60)
    dividends = [Decimal(top).scaleb(-dividend_scale, exact) for top, _ in pairs]
    divisors = [Decimal(bottom).scaleb(-divisor_scale, exact) for _, bottom in pairs]
    got = divide_columns(
        pa.array(dividends, pa.decimal128(38, dividend_scale)),
        pa.array(divisors, pa.decimal128(38, divisor_scale)),
    )
    expected = [divide(top, dividend_scale, bottom, divisor_scale) for top, bottom in pairs]
    assert got.to_pylist() == expected


def test_a_million_averages_need_no_python_for_each() -> None:
    """The usual case takes the fast path: no row is left for the slow rule."""
    rows = 100_000
    sums = pa.array(np.arange(rows) * 97, pa.int64())
    counts = pa.array(np.arange(rows) % 9 + 1, pa.int64())
    quotients = divide_columns(sums, counts)
    assert quotients[12_345].as_py() == divide(12_345 * 97, 0, 12_345 % 9 + 1, 0)
    assert len(quotients) == rows
