"""The hash split: equal values meet, every row goes somewhere once."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.partition import split, with_places


def places_of(sql: str, keys: list[str], places: int) -> list[int]:
    relation = duckdb.connect().sql(with_places(sql, keys, places))
    return [row[-1] for row in relation.fetchall()]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("0.0::DOUBLE", "-0.0::DOUBLE"),
        ("'nan'::DOUBLE", "-('nan'::DOUBLE)"),
        ("5.00::DECIMAL(18,2)", "5::DECIMAL(18,2)"),
        ("'a' || ''", "'a'"),
        ("INTERVAL 1 MONTH", "INTERVAL 30 DAY"),
        ("TIMESTAMPTZ '2024-01-01 00:00:00+00'", "TIMESTAMPTZ '2024-01-01 02:00:00+02'"),
        ("NULL::INTEGER", "NULL::INTEGER"),
        ("UUID 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'a0eebc999c0b4ef8bb6d6bb9bd380a11'::UUID"),
    ],
)
def test_equal_values_have_equal_places(left: str, right: str) -> None:
    found = places_of(f"SELECT {left} AS k UNION ALL SELECT {right}", ["k"], 1000)
    assert found[0] == found[1]


@settings(deadline=None)
@given(
    keys=st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=50),
    places=st.integers(1, 7),
)
def test_each_row_goes_to_one_place_and_equal_keys_together(
    keys: list[int | None], places: int
) -> None:
    connection = duckdb.connect()
    table = pa.table({"k": pa.array(keys, pa.int64()), "n": list(range(len(keys)))})
    connection.register("source", table)
    rows = connection.sql(with_places('SELECT k, n FROM "source"', ["k"], places))
    parts = [split(batch, places) for batch in rows.to_arrow_reader(1000)]
    assert all(len(part) == places for part in parts)
    seen: dict[int | None, int] = {}
    numbers = []
    for part in parts:
        for place, batch in enumerate(part):
            if batch is None:
                continue
            assert batch.schema.names == ["k", "n"]
            for row in batch.to_pylist():
                assert seen.setdefault(row["k"], place) == place
                numbers.append(row["n"])
    assert sorted(numbers) == list(range(len(keys)))


def test_rows_spread() -> None:
    found = places_of("SELECT i AS k FROM range(9000) r(i)", ["k"], 3)
    assert all(2700 < found.count(place) < 3300 for place in range(3))
