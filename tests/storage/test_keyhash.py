"""The key hash: its three forms agree, it follows equality, and it never changes."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Context, Decimal
from pathlib import Path
from uuid import UUID

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import FeatureNotSupported
from storage import keyhash, types
from storage.types import Kind, SqlType

VECTORS = Path(__file__).parents[2] / "docs" / "hash.md"

INFINITE_US = 2**63 - 1
_WIDE = Context(prec=60)


def numeric(precision: int, scale: int) -> SqlType:
    return SqlType(Kind.NUMERIC, precision=precision, scale=scale)


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    bound = 10**precision - 1
    units = (
        st.integers(-bound, bound)
        | st.integers(-200, 200)
        | st.integers(-9, 9).map(lambda n: n * 10**scale)
    )
    return units.map(lambda n: Decimal(n).scaleb(-scale, context=_WIDE))


MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))
# Type -> the values a column of it can hold.
VALUES: dict[SqlType, st.SearchStrategy[object]] = {
    types.INT2: st.integers(-(2**15), 2**15 - 1),
    types.INT4: st.integers(-(2**31), 2**31 - 1),
    types.INT8: st.integers(-(2**63), 2**63 - 1),
    numeric(12, 2): decimals(12, 2),
    numeric(38, 0): decimals(38, 0),
    numeric(38, 30): decimals(38, 30),
    types.NUMERIC: decimals(38, 16),
    types.TEXT: st.text(st.characters(exclude_categories=["Cs"])),
    SqlType(Kind.BPCHAR, length=5): st.text("ab \u00e9", max_size=5),
    types.BYTEA: st.binary(),
    types.BOOL: st.booleans(),
    types.DATE: st.dates(),
    types.TIME: st.times(),
    types.TIMESTAMP: MOMENTS,
    types.TIMESTAMPTZ: MOMENTS.map(lambda m: m.replace(tzinfo=UTC)),
    types.UUID: st.uuids(),
}
TYPES = st.sampled_from(list(VALUES))


def arrow_column(values: list[object], sql_type: SqlType) -> pa.Array:
    arrow = types.arrow_type(sql_type)
    if sql_type.kind is Kind.UUID:
        raw = [None if v is None else v.bytes for v in values]  # type: ignore[attr-defined]
        return pa.ExtensionArray.from_storage(arrow, pa.array(raw, pa.binary(16)))
    return pa.array(values, arrow)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config={"threads": 1})


def in_duckdb(
    connection: duckdb.DuckDBPyConnection, columns: list[pa.Array], sql_types: list[SqlType]
) -> list[int]:
    names = [f"k{i}" for i in range(len(columns))]
    connection.register("keys", pa.table(dict(zip(names, columns, strict=True))))
    rows = connection.execute(f"SELECT {keyhash.hash_sql(names, sql_types)} FROM keys").fetchall()
    return [row[0] for row in rows]


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_the_three_forms_agree(connection: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    sql_types = data.draw(st.lists(TYPES, min_size=1, max_size=3))
    row = st.tuples(*(st.none() | VALUES[t] for t in sql_types))
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    columns = [arrow_column([r[i] for r in rows], t) for i, t in enumerate(sql_types)]
    scalar = [keyhash.hash_key(r, sql_types) for r in rows]
    assert keyhash.hash_arrays(columns, sql_types).tolist() == scalar
    assert in_duckdb(connection, columns, sql_types) == scalar
    assert all(0 <= h < 2**32 for h in scalar)


@pytest.mark.parametrize("sql_type", VALUES, ids=str)
def test_long_columns_agree_with_short_ones(sql_type: SqlType) -> None:
    """Over a thousand rows text takes the DuckDB route, below it the Python one."""
    values = (_examples(sql_type) * 600)[:1100]
    whole = keyhash.hash_array(arrow_column(values, sql_type), sql_type)
    assert whole.tolist() == [keyhash.hash_value(v, sql_type) for v in values]


def _examples(sql_type: SqlType) -> list[object]:
    by_family: dict[keyhash.HashFamily, list[object]] = {
        keyhash.HashFamily.NUMBER: [0, 1, -1, 77, None],
        keyhash.HashFamily.TEXT: ["", "a", "a b", "\u00e9", None],
        keyhash.HashFamily.BYTES: [b"", b"\x00\xff", None],
        keyhash.HashFamily.BOOL: [True, False, None],
        keyhash.HashFamily.DATE: [date(1970, 1, 1), date(1969, 1, 1), None],
        keyhash.HashFamily.TIME: [time(0), time(23, 59, 59, 999999), None],
        keyhash.HashFamily.TIMESTAMP: [datetime(1960, 1, 1, 0, 0, 0, 1), None],
        keyhash.HashFamily.TIMESTAMPTZ: [datetime(2026, 1, 1, tzinfo=UTC), None],
        keyhash.HashFamily.UUID: [UUID(int=0), UUID(int=2**127 + 5), None],
    }
    values = by_family[keyhash.hash_family(sql_type)]
    if sql_type.kind is Kind.NUMERIC and sql_type != numeric(38, 0):
        values = [*values, Decimal("1.5"), Decimal("-0.25")]
    return [
        Decimal(v) if sql_type.kind is Kind.NUMERIC and isinstance(v, int) else v for v in values
    ]


@given(st.integers(-(2**63), 2**63 - 1))
def test_equal_numbers_meet(number: int) -> None:
    wanted = keyhash.hash_value(number, types.INT8)
    assert keyhash.hash_value(Decimal(number), types.NUMERIC) == wanted
    shifted = Decimal(f"{number}.000")
    assert keyhash.hash_value(shifted, types.NUMERIC) == wanted


def test_trailing_zeros_and_negative_zero_do_not_count() -> None:
    def of(text: str) -> int:
        return keyhash.hash_value(Decimal(text), types.NUMERIC)

    assert of("1.50") == of("1.5")
    assert of("-0.0") == of("0")
    assert of("1E+3") == of("1000")
    assert of("1E+30") == of("1" + "0" * 30 + ".0")
    assert of("0.0000001") == of("1E-7")
    assert of("1.5") != of("15")


def test_char_padding_does_not_count_but_text_spaces_do() -> None:
    char = SqlType(Kind.BPCHAR, length=4)
    assert keyhash.hash_value("ab  ", char) == keyhash.hash_value("ab", types.TEXT)
    assert keyhash.hash_value("ab ", types.TEXT) != keyhash.hash_value("ab", types.TEXT)


def test_time_zones_do_not_count() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    elsewhere = noon.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert keyhash.hash_value(noon, types.TIMESTAMPTZ) == keyhash.hash_value(
        elsewhere, types.TIMESTAMPTZ
    )


def test_infinity_has_a_place(connection: duckdb.DuckDBPyConnection) -> None:
    for sql_type in (types.TIMESTAMP, types.TIMESTAMPTZ):
        raw = [INFINITE_US, -INFINITE_US]
        column = pa.array(raw, pa.int64()).view(types.arrow_type(sql_type))
        wanted = [keyhash.hash_value(v, sql_type) for v in raw]
        assert keyhash.hash_array(column, sql_type).tolist() == wanted
        assert in_duckdb(connection, [column], [sql_type]) == wanted
    days = [2**31 - 1, -(2**31) + 1]
    column = pa.array(days, pa.int32()).view(pa.date32())
    wanted = [keyhash.hash_value(v, types.DATE) for v in days]
    assert keyhash.hash_array(column, types.DATE).tolist() == wanted
    assert in_duckdb(connection, [column], [types.DATE]) == wanted


def test_dictionaries_chunks_and_slices() -> None:
    plain = pa.array(["x", None, "y", "x"] * 3)
    wanted = keyhash.hash_array(plain, types.TEXT).tolist()
    assert keyhash.hash_array(plain.dictionary_encode(), types.TEXT).tolist() == wanted
    chunked = pa.chunked_array([plain.slice(0, 5), plain.slice(5)])
    assert keyhash.hash_array(chunked, types.TEXT).tolist() == wanted
    assert keyhash.hash_array(pa.chunked_array([], pa.string()), types.TEXT).tolist() == []
    numbers = pa.array([1, None, 3, 4], pa.int32())
    assert (
        keyhash.hash_array(numbers.slice(1, 2), types.INT4).tolist()
        == keyhash.hash_array(numbers, types.INT4).tolist()[1:3]
    )


@pytest.mark.parametrize(
    "sql_type",
    [types.FLOAT4, types.FLOAT8, types.INTERVAL, types.JSONB, types.array_of(types.INT4)],
)
def test_types_without_a_place_are_refused(sql_type: SqlType) -> None:
    assert not keyhash.is_hashable(sql_type)
    for attempt in (
        lambda: keyhash.hash_value(1, sql_type),
        lambda: keyhash.hash_array(pa.array([1]), sql_type),
        lambda: keyhash.hash_sql(["x"], [sql_type]),
    ):
        with pytest.raises(FeatureNotSupported, match="cannot be a hash partition key"):
            attempt()


def test_keys_spread_evenly() -> None:
    for column, sql_type in (
        (pa.array(np.arange(100_000)), types.INT8),
        (pa.array(np.arange(100_000) * 4096), types.INT8),
        (pa.array(np.arange(100_000) << 32), types.INT8),
        (pa.array(np.arange(100_000) * 1_000_003), types.INT8),
        (pa.array([f"customer {i}" for i in range(100_000)]), types.TEXT),
    ):
        parts = keyhash.hash_array(column, sql_type) * 64 >> 32
        counts = np.bincount(parts, minlength=64)
        fullest = float(counts.max() / counts.mean())
        assert fullest < 1.15, sql_type


def test_the_documented_vectors_hold() -> None:
    """docs/hash.md is the promise; a change here moves rows away from where they lie."""
    found = re.findall(r"^\| `(\w+)` \| `(.*)` \| (\d+) \|$", VECTORS.read_text(), re.MULTILINE)
    assert len(found) >= 20
    parse = {
        "bigint": (types.INT8, int),
        "numeric": (types.NUMERIC, Decimal),
        "text": (types.TEXT, lambda s: s.strip("'")),
        "bpchar": (types.BPCHAR, lambda s: s.strip("'")),
        "bytea": (types.BYTEA, bytes.fromhex),
        "bool": (types.BOOL, lambda s: s == "true"),
        "date": (types.DATE, date.fromisoformat),
        "time": (types.TIME, time.fromisoformat),
        "timestamp": (types.TIMESTAMP, datetime.fromisoformat),
        "timestamptz": (types.TIMESTAMPTZ, datetime.fromisoformat),
        "uuid": (types.UUID, UUID),
    }
    for type_name, text, wanted in found:
        sql_type, reader = parse[type_name]
        value = None if text == "NULL" else reader(text)
        assert keyhash.hash_value(value, sql_type) == int(wanted), (type_name, text)
    pair = keyhash.hash_key([1, "a"], [types.INT8, types.TEXT])
    assert f"`(1, 'a')` is {pair}" in VECTORS.read_text()
