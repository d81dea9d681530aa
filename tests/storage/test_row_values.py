"""Stored values order as PostgreSQL orders the type, and come back as they were."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from itertools import pairwise
from typing import Any

import apsw
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import types
from storage.row_values import Encoding, encoding_of
from storage.types import Kind, SqlType, array_of, arrow_type

EXACT = Context(prec=80)
SMALL_NUMERIC = SqlType(Kind.NUMERIC, precision=12, scale=2)
WIDE_INTEGER_NUMERIC = SqlType(Kind.NUMERIC, precision=18, scale=0)
LARGE_NUMERIC = SqlType(Kind.NUMERIC, precision=38, scale=10)


def scaled(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    limit = 10**digits - 1
    whole = st.integers(-limit, limit) | st.sampled_from([-limit, -1, 0, 1, limit])
    return whole.map(lambda i: Decimal(i).scaleb(-scale, EXACT))


def whole(bits: int) -> st.SearchStrategy[int]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return st.integers(low, high) | st.sampled_from([low, -1, 0, 1, high])


def interval_length(value: Any) -> int:
    return (value[0] * 30 + value[1]) * 86_400 * 10**9 + int(value[2])


INTERVALS = st.builds(
    lambda months, days, micros: pa.MonthDayNano([months, days, micros * 1000]),
    whole(32),
    whole(32),
    st.integers(-(2**53), 2**53),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)

# Type, plain values, and what PostgreSQL orders them by.
CASES: list[tuple[SqlType, st.SearchStrategy[Any], Any]] = [
    (types.BOOL, st.booleans(), int),
    (types.INT2, whole(16), int),
    (types.INT4, whole(32), int),
    (types.INT8, whole(64), int),
    (types.OID, st.integers(0, 2**32 - 1), int),
    (
        types.FLOAT8,
        st.floats(allow_nan=True),
        lambda v: (math.isnan(v), 0.0 if math.isnan(v) else v),
    ),
    (
        types.FLOAT4,
        st.floats(width=32, allow_nan=True),
        lambda v: (math.isnan(v), 0.0 if math.isnan(v) else v),
    ),
    (SMALL_NUMERIC, scaled(12, 2), Decimal),
    (WIDE_INTEGER_NUMERIC, scaled(18, 0), Decimal),
    (LARGE_NUMERIC, scaled(38, 10), Decimal),
    (types.NUMERIC, scaled(38, 16), Decimal),
    (types.TEXT, TEXTS, lambda v: v.encode()),
    (types.VARCHAR, TEXTS, lambda v: v.encode()),
    (types.BYTEA, st.binary(max_size=8), bytes),
    (types.DATE, whole(32), int),
    (types.TIME, st.integers(0, 86_399_999_999), int),
    (types.TIMESTAMP, whole(64), int),
    (types.TIMESTAMPTZ, whole(64), int),
    (types.UUID, st.integers(0, 2**128 - 1), int),
    (types.INTERVAL, INTERVALS, interval_length),
    (types.JSONB, TEXTS, None),
    (array_of(types.INT4), st.lists(st.none() | whole(32), max_size=4), None),
    (array_of(SMALL_NUMERIC), st.lists(st.none() | scaled(12, 2), max_size=4), None),
    (array_of(types.TEXT), st.lists(st.none() | TEXTS, max_size=4), None),
    (array_of(types.UUID), st.lists(st.none() | st.integers(0, 2**128 - 1), max_size=3), None),
]
NAMES = [str(case[0]) for case in CASES]


def sqlite_order(encoding: Encoding, stored: list[Any]) -> list[int]:
    """The places of the values as SQLite sorts them."""
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE TABLE t (v {encoding.column_type}, place INTEGER) STRICT")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(v, i) for i, v in enumerate(stored)])
    return [row[0] for row in connection.execute("SELECT place FROM t ORDER BY v, place")]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    return type(left) is type(right) and left == right


@pytest.mark.parametrize(("sql_type", "values", "order"), CASES, ids=NAMES)
def test_order_is_the_types_order(
    sql_type: SqlType, values: st.SearchStrategy[Any], order: Any
) -> None:
    if order is None:
        return
    encoding = encoding_of(sql_type)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(values, min_size=2, max_size=12))
    def check(some: list[Any]) -> None:
        places = sqlite_order(encoding, [encoding.encode(value) for value in some])
        keys = [order(some[place]) for place in places]
        assert keys == sorted(keys)
        for left, right in pairwise(some):
            if order(left) != order(right):
                assert encoding.encode(left) != encoding.encode(right)

    check()


@pytest.mark.parametrize(("sql_type", "values", "order"), CASES, ids=NAMES)
def test_values_come_back(sql_type: SqlType, values: st.SearchStrategy[Any], order: Any) -> None:
    encoding = encoding_of(sql_type)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.none() | values, max_size=12), st.integers(0, 3))
    def check(some: list[Any], skipped: int) -> None:
        stored = [None if value is None else encoding.encode(value) for value in some]
        for value, one in zip(some, stored, strict=True):
            assert one is None or same(encoding.decode(one), value)
        array = encoding.to_arrow(stored)
        assert array.type == arrow_type(sql_type)
        array.validate(full=True)
        assert encoding.from_arrow(array) == stored
        # A slice has an offset into its buffers.
        assert encoding.from_arrow(array.slice(skipped)) == stored[skipped:]

    check()


def test_arrow_agrees_with_plain_values() -> None:
    amounts = [Decimal("-1.50"), None, Decimal("99999999.99")]
    array = pa.array(amounts, arrow_type(SMALL_NUMERIC))
    assert encoding_of(SMALL_NUMERIC).from_arrow(array) == [-150, None, 9_999_999_999]
    large = [Decimal("-1.5"), None, Decimal(10) ** 27]
    encoding = encoding_of(LARGE_NUMERIC)
    stored = encoding.from_arrow(pa.array(large, arrow_type(LARGE_NUMERIC)))
    assert [None if v is None else encoding.decode(v) for v in stored] == large
    flags = pa.array([True, None, False])
    assert encoding_of(types.BOOL).from_arrow(flags) == [1, None, 0]


def test_what_a_type_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="is no numeric"):
        encoding_of(SMALL_NUMERIC).encode(Decimal("0.001"))
    with pytest.raises(ValueError, match="is no numeric"):
        encoding_of(SMALL_NUMERIC).encode(Decimal("10000000000"))


def test_sqlite_itself_would_lose_what_is_turned_here() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (v REAL) STRICT")
    connection.execute("INSERT INTO t VALUES (?)", (float("nan"),))
    assert list(connection.execute("SELECT v FROM t")) == [(None,)]
