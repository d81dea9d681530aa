"""Routing and pruning: batch equals row, pruning never loses a row, words are PostgreSQL's."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from catalog_cluster import CatalogCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.bounds import NO_PART, describe_bounds, ordinal_for, route
from catalog.datums import Datum, arrow_array, datum_from_text, datum_of, text_of_datum
from catalog.definition import PartDefinition, SchemeDefinition
from catalog.model import Bound, BoundKind, Part, PartitionMethod, Table
from catalog.pruning import Interval, Restriction, ValueSet, prune
from cluster.errors import CheckViolation, FeatureNotSupported, InvalidObjectDefinition
from storage.types import (
    BPCHAR,
    BYTEA,
    DATE,
    FLOAT8,
    INT4,
    INT8,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    Kind,
    SqlType,
)
from storage.types import UUID as UUID_TYPE

MIN, MAX = Bound(BoundKind.MINVALUE), Bound(BoundKind.MAXVALUE)


def value(text: object) -> Bound:
    return Bound(BoundKind.VALUE, str(text))


def span(name: str, low: Sequence[Bound], high: Sequence[Bound]) -> PartDefinition:
    return PartDefinition(name, low=tuple(low), high=tuple(high))


def range_table(
    types: Sequence[SqlType], parts: Sequence[PartDefinition], *, one_by_one: bool = False
) -> Table:
    """A table without primary key, cut by ranges of its columns a, b, ..."""
    cluster = CatalogCluster()
    names = tuple("abcd"[: len(types)])
    columns = tuple(zip(names, types, strict=True))
    scheme = SchemeDefinition(PartitionMethod.RANGE, names, parts=tuple(parts))
    if not one_by_one:
        return cluster.table("t", columns, None, scheme)
    return cluster.table_in_two_steps("t", columns, scheme, parts)


def list_table(sql_type: SqlType, parts: Sequence[PartDefinition]) -> Table:
    scheme = SchemeDefinition(PartitionMethod.LIST, ("a",), parts=tuple(parts))
    return CatalogCluster().table("t", (("a", sql_type),), None, scheme)


def hash_table(types: Sequence[SqlType], count: int) -> Table:
    names = tuple("abcd"[: len(types)])
    columns = tuple(zip(names, types, strict=True))
    scheme = SchemeDefinition(PartitionMethod.HASH, names, part_count=count)
    return CatalogCluster().table("t", columns, None, scheme)


def part_for(table: Table, values: list[object]) -> Part:
    ordinal = ordinal_for(table, values)
    assert ordinal != NO_PART
    return table.parts[ordinal]


# --- Range ---------------------------------------------------------------------------------


def test_range_takes_low_and_leaves_high() -> None:
    table = range_table([INT8], [span("p", [value(1)], [value(10)]), span("q", [value(10)], [MAX])])
    assert part_for(table, [1]).name == "p"
    assert part_for(table, [9]).name == "p"
    assert part_for(table, [10]).name == "q"
    assert ordinal_for(table, [0]) == NO_PART
    with pytest.raises(CheckViolation) as caught:
        route(table, [pa.array([1, 0])], 2)
    assert caught.value.message == 'no partition of relation "t" found for row'
    assert caught.value.detail == "Partition key of the failing row contains (a) = (0)."


def test_null_in_a_range_key_needs_a_default_part() -> None:
    without = range_table([INT8], [span("p", [MIN], [MAX])])
    assert ordinal_for(without, [None]) == NO_PART
    with pytest.raises(CheckViolation, match="no partition"):
        route(without, [pa.array([None], pa.int64())], 1)
    with_default = range_table(
        [INT8], [span("p", [value(0)], [MAX]), PartDefinition("d", is_default=True)]
    )
    assert part_for(with_default, [None]).name == "d"
    assert part_for(with_default, [-1]).name == "d"


def test_batch_error_names_the_failing_row() -> None:
    table = range_table([DATE], [span("p", [value("2024-01-01")], [value("2025-01-01")])])
    days = pa.array([dt.date(2024, 5, 5), dt.date(2025, 1, 1), None])
    with pytest.raises(CheckViolation) as caught:
        route(table, [days], 3)
    assert caught.value.detail == "Partition key of the failing row contains (a) = (2025-01-01)."
    with pytest.raises(CheckViolation, match="no partition") as caught:
        route(table, [days.slice(2)], 1)
    assert caught.value.detail == "Partition key of the failing row contains (a) = (null)."


def test_gap_in_one_statement_is_refused() -> None:
    with pytest.raises(InvalidObjectDefinition, match='partitions "p" and "q" leave a gap') as e:
        range_table([INT8], [span("q", [value(20)], [MAX]), span("p", [MIN], [value(10)])])
    assert e.value.detail == "No partition takes keys from ('10') to ('20')."


def test_gap_is_allowed_with_default_and_when_attached() -> None:
    parts = [span("p", [value(0)], [value(10)]), span("q", [value(20)], [value(30)])]
    default = PartDefinition("d", is_default=True)
    assert part_for(range_table([INT8], [*parts, default]), [15]).name == "d"
    assert ordinal_for(range_table([INT8], parts, one_by_one=True), [15]) == NO_PART


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            [span("p", [value(0)], [value(10)]), span("q", [value(9)], [value(20)])],
            'partition "q" would overlap partition "p"',
        ),
        (
            [span("q", [value(9)], [value(20)]), span("p", [value(0)], [value(10)])],
            'partition "p" would overlap partition "q"',
        ),
        (
            [span("p", [value(10)], [value(10)])],
            'empty range bound specified for partition "p"',
        ),
        ([span("p", [value(1), value(2)], [value(3)])], "FROM must specify exactly one value"),
        (
            [PartDefinition("d", is_default=True), PartDefinition("e", is_default=True)],
            'partition "e" conflicts with existing default partition "d"',
        ),
    ],
)
def test_bad_ranges_are_refused(parts: list[PartDefinition], message: str) -> None:
    with pytest.raises(InvalidObjectDefinition, match=message):
        range_table([INT8], parts)


def test_composite_range_compares_column_by_column() -> None:
    table = range_table(
        [INT4, TEXT],
        [
            span("p", [MIN, MIN], [value(1), value("m")]),
            span("q", [value(1), value("m")], [value(5), MIN]),
            span("r", [value(5), MIN], [MAX, MAX]),
        ],
    )
    assert part_for(table, [1, "a"]).name == "p"
    assert part_for(table, [1, "m"]).name == "q"
    assert part_for(table, [4, "zz"]).name == "q"
    assert part_for(table, [5, ""]).name == "r"


def test_key_equal_to_the_bound_before_maxvalue_is_routed_as_a_row() -> None:
    table = range_table([INT8], [span("p", [MIN], [value(10)]), span("q", [value(10)], [MAX])])
    assert route(table, [pa.array([9, 10, 11])], 3).tolist() == [0, 1, 1]


def test_bound_after_minvalue_must_be_minvalue() -> None:
    with pytest.raises(InvalidObjectDefinition, match="following MINVALUE must also be MINVALUE"):
        range_table([INT4, INT4], [span("p", [MIN, value(1)], [MAX, MAX])])


# --- List and hash -------------------------------------------------------------------------


def test_list_with_null_and_default() -> None:
    table = list_table(
        TEXT,
        [
            PartDefinition("eu", values=("DE", "FR")),
            PartDefinition("none", values=(None,)),
            PartDefinition("rest", is_default=True),
        ],
    )
    found = [part_for(table, [v]).name for v in ("FR", None, "US")]
    assert found == ["eu", "none", "rest"]
    routed = route(table, [pa.array(["DE", None, "US", "FR"])], 4)
    assert routed.tolist() == [0, 1, 2, 0]


def test_list_value_in_two_parts_is_refused() -> None:
    parts = [PartDefinition("p", values=("1.0",)), PartDefinition("q", values=("2", "1"))]
    with pytest.raises(InvalidObjectDefinition, match='"q" would overlap partition "p"'):
        list_table(NUMERIC, parts)


def test_list_by_two_columns_is_refused() -> None:
    scheme = SchemeDefinition(PartitionMethod.LIST, ("a", "b"))
    with pytest.raises(InvalidObjectDefinition, match='cannot use "list" partition strategy'):
        CatalogCluster().table("t", (("a", INT4), ("b", INT4)), None, scheme)


def test_hash_parts_by_modulus_may_leave_rows_without_a_part() -> None:
    parts = [PartDefinition("p0", modulus=4, remainder=0)]
    scheme = SchemeDefinition(PartitionMethod.HASH, ("a",), without_parts=True)
    table = CatalogCluster().table_in_two_steps("t", (("a", INT8),), scheme, parts)
    ordinals = {ordinal_for(table, [i]) for i in range(100)}
    assert ordinals == {0, NO_PART}


def test_hash_of_float_is_refused() -> None:
    with pytest.raises(FeatureNotSupported):
        hash_table([FLOAT8], 3)


def test_equal_numbers_of_other_types_meet_on_the_ring() -> None:
    by_int, by_numeric = hash_table([INT8], 16), hash_table([NUMERIC], 16)
    for number in (0, 5, -7, 2**40):
        assert ordinal_for(by_int, [number]) == ordinal_for(by_numeric, [f"{number}.00"])


def test_char_padding_does_not_count() -> None:
    char5 = SqlType(Kind.BPCHAR, length=5)
    table = list_table(char5, [PartDefinition("p", values=("ab   ",))])
    assert part_for(table, ["ab"]).name == "p"
    assert route(table, [pa.array(["ab   ", "ab"])], 2).tolist() == [0, 0]


def test_table_of_one_part_takes_everything() -> None:
    table = CatalogCluster().table("t", scheme=SchemeDefinition(PartitionMethod.NONE))
    assert part_for(table, []).ordinal == 0
    assert route(table, [], 3).tolist() == [0, 0, 0]


def test_bounds_in_postgres_words() -> None:
    table = range_table([INT4, DATE], [span("p", [value(1), value("2024-01-01")], [value(2), MAX])])
    words = describe_bounds(table, table.parts[0])
    assert words == "FOR VALUES FROM (1, '2024-01-01') TO (2, MAXVALUE)"
    lists = list_table(TEXT, [PartDefinition("p", values=("it's", None))])
    assert describe_bounds(lists, lists.parts[0]) == "FOR VALUES IN ('it''s', NULL)"


# --- Properties ----------------------------------------------------------------------------

DATUMS: dict[Kind, tuple[SqlType, st.SearchStrategy[Datum]]] = {
    Kind.INT4: (INT4, st.integers(-20, 20)),
    Kind.INT8: (INT8, st.integers(-(2**62), 2**62)),
    Kind.NUMERIC: (
        SqlType(Kind.NUMERIC, precision=8, scale=2),
        st.integers(-500, 500).map(lambda n: datum_of(NUMERIC, Decimal(n).scaleb(-2))),
    ),
    Kind.TEXT: (TEXT, st.text(alphabet="abz é\U0001f600", max_size=3)),
    Kind.BPCHAR: (BPCHAR, st.text(alphabet="ab", max_size=3)),
    Kind.BYTEA: (BYTEA, st.binary(max_size=2)),
    Kind.DATE: (DATE, st.integers(-40_000, 40_000)),
    Kind.TIMESTAMP: (TIMESTAMP, st.integers(-(10**15), 10**15)),
    Kind.TIMESTAMPTZ: (TIMESTAMPTZ, st.integers(-(10**15), 10**15)),
    Kind.UUID: (UUID_TYPE, st.integers(0, 2**128 - 1)),
    Kind.FLOAT8: (FLOAT8, st.floats(-5, 5, allow_subnormal=False).map(lambda f: f + 0.0)),
}
HASHED = tuple(kind for kind in DATUMS if kind is not Kind.FLOAT8)


@st.composite
def keys(draw: st.DrawFn, kinds: Sequence[Kind]) -> tuple[Datum, ...]:
    return tuple(draw(DATUMS[kind][1]) for kind in kinds)


@st.composite
def random_range_tables(draw: st.DrawFn) -> tuple[tuple[Kind, ...], Table]:
    """One or two key columns, up to six parts (some left out), perhaps a default."""
    kinds = tuple(draw(st.lists(st.sampled_from(list(DATUMS)), min_size=1, max_size=2)))
    cuts = sorted(draw(st.sets(keys(kinds), min_size=1, max_size=6)))
    types = [DATUMS[kind][0] for kind in kinds]
    bounds = [
        tuple(value(text_of_datum(t, d)) for t, d in zip(types, cut, strict=True)) for cut in cuts
    ]
    edges = [(MIN,) * len(kinds), *bounds, (MAX,) * len(kinds)]
    kept = draw(st.lists(st.booleans(), min_size=len(edges) - 1, max_size=len(edges) - 1))
    parts = [span(f"p{i}", edges[i], edges[i + 1]) for i, keep in enumerate(kept) if keep]
    if draw(st.booleans()):
        parts.append(PartDefinition("d", is_default=True))
    return kinds, range_table(types, parts, one_by_one=True)


@st.composite
def random_list_tables(draw: st.DrawFn) -> tuple[tuple[Kind, ...], Table]:
    kind = draw(st.sampled_from(list(DATUMS)))
    sql_type = DATUMS[kind][0]
    datums = sorted(draw(st.sets(DATUMS[kind][1], min_size=1, max_size=6)))
    texts: list[str | None] = [text_of_datum(sql_type, d) for d in datums]
    if draw(st.booleans()):
        texts.append(None)
    owners = [draw(st.integers(0, 2)) for _ in texts]
    parts = [
        PartDefinition(
            f"p{n}", values=tuple(t for t, o in zip(texts, owners, strict=True) if o == n)
        )
        for n in sorted(set(owners))
    ]
    if draw(st.booleans()):
        parts.append(PartDefinition("d", is_default=True))
    return (kind,), list_table(sql_type, parts)


@st.composite
def random_hash_tables(draw: st.DrawFn) -> tuple[tuple[Kind, ...], Table]:
    kinds = tuple(draw(st.lists(st.sampled_from(HASHED), min_size=1, max_size=2)))
    return kinds, hash_table([DATUMS[k][0] for k in kinds], draw(st.integers(1, 7)))


random_tables = random_range_tables() | random_list_tables() | random_hash_tables()


def values_of(kinds: Sequence[Kind], key: Sequence[Datum | None]) -> list[object]:
    """A key as values that callers have: texts for types whose datums are numbers of a unit."""
    found: list[object] = []
    for kind, datum in zip(kinds, key, strict=True):
        plain = datum is None or kind in (Kind.INT4, Kind.INT8, Kind.NUMERIC, Kind.FLOAT8)
        plain = plain or kind is Kind.BYTEA
        found.append(datum if plain else text_of_datum(DATUMS[kind][0], datum))
    return found


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_batches_are_routed_as_rows(data: st.DataObject) -> None:
    kinds, table = data.draw(random_tables)
    nullable = st.tuples(*(st.none() | DATUMS[kind][1] for kind in kinds))
    rows = data.draw(st.lists(nullable, min_size=1, max_size=20))
    expected = [ordinal_for(table, values_of(kinds, row)) for row in rows]
    columns = [
        arrow_array(DATUMS[kind][0], [row[place] for row in rows])
        for place, kind in enumerate(kinds)
    ]
    if NO_PART in expected:
        with pytest.raises(CheckViolation):
            route(table, columns, len(rows))
        keep = np.array([ordinal != NO_PART for ordinal in expected])
        columns = [column.filter(pa.array(keep)) for column in columns]
        expected = [ordinal for ordinal in expected if ordinal != NO_PART]
    assert route(table, columns, len(expected)).tolist() == expected


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_pruning_never_loses_a_row(data: st.DataObject) -> None:
    kinds, table = data.draw(random_tables)
    restrictions: dict[int, Restriction] = {}
    key: list[Datum | None] = []
    for place, kind in enumerate(kinds):
        datum, restriction = data.draw(restricted_value(kind))
        key.append(datum)
        if restriction is not None:
            restrictions[table.partition_columns[place]] = restriction
    ordinal = ordinal_for(table, values_of(kinds, key))
    kept = [part.ordinal for part in prune(table, restrictions)]
    assert kept == sorted(kept)
    assert ordinal == NO_PART or ordinal in kept


@st.composite
def restricted_value(draw: st.DrawFn, kind: Kind) -> tuple[Datum | None, Restriction | None]:
    """A value, and a restriction that it satisfies."""
    sql_type, datums = DATUMS[kind]
    datum = draw(datums)
    others = draw(st.lists(datums, max_size=3))
    shape = draw(st.integers(0, 3))
    if shape == 0:
        return draw(st.none() | st.just(datum)), None
    if shape == 1:
        chosen = draw(st.none() | st.just(datum))
        texts = [None if d is None else text_of_datum(sql_type, d) for d in [*others, chosen]]
        return chosen, ValueSet(tuple(texts))
    low, high = min([datum, *others]), max([datum, *others])
    return datum, Interval(
        None if draw(st.booleans()) else text_of_datum(sql_type, low),
        None if draw(st.booleans()) else text_of_datum(sql_type, high),
        low_inclusive=low == datum or draw(st.booleans()),
        high_inclusive=high == datum or draw(st.booleans()),
    )


@pytest.mark.parametrize("kind", list(DATUMS))
def test_datums_round_trip_and_order_as_text_and_arrow(kind: Kind) -> None:
    sql_type, strategy = DATUMS[kind]

    @settings(max_examples=50, deadline=None)
    @given(strategy)
    def check(datum: Datum) -> None:
        text = text_of_datum(sql_type, datum)
        assert datum_from_text(sql_type, text) == datum
        assert text_of_datum(sql_type, datum_from_text(sql_type, text)) == text

    check()


# --- How well it prunes --------------------------------------------------------------------


def test_range_pruning_is_tight_for_one_column() -> None:
    parts = [span(f"p{i}", [value(i * 10)], [value(i * 10 + 10)]) for i in range(10)]
    table = range_table([INT8], parts)
    column = table.partition_columns[0]

    def kept(restriction: Restriction) -> list[str]:
        return [part.name for part in prune(table, {column: restriction})]

    assert kept(ValueSet((35,))) == ["p3"]
    assert kept(ValueSet((5, 95, 1000))) == ["p0", "p9"]
    assert kept(Interval(20, 40, high_inclusive=False)) == ["p2", "p3"]
    assert kept(Interval(low=89, low_inclusive=False)) == ["p9"]
    assert kept(Interval(high=Decimal("9.5"))) == ["p0"]
    assert kept(Interval(low=Decimal("89.5"))) == ["p9"]
    assert kept(Interval(50, 40)) == []
    assert kept(ValueSet((None,))) == []
    assert kept(ValueSet((Decimal("3.5"),))) == []
    assert kept(Interval(low=float("inf"))) == []


def test_composite_range_pruning_uses_the_leading_columns() -> None:
    parts = [
        span(f"p{i}{j}", [value(i), value(j)], [value(i + (j == 5)), value(0 if j == 5 else 5)])
        for i in range(3)
        for j in (0, 5)
    ]
    table = range_table([INT4, INT4], parts)
    a, b = table.partition_columns

    def kept(restrictions: dict[int, Restriction]) -> list[str]:
        return [part.name for part in prune(table, restrictions)]

    # p05 ends at (1, 0), so it may hold (1, -1).
    assert kept({a: ValueSet((1,))}) == ["p05", "p10", "p15"]
    assert kept({a: ValueSet((1,)), b: Interval(6, 9)}) == ["p15"]
    assert kept({a: ValueSet((0, 2)), b: ValueSet((1,))}) == ["p00", "p20"]
    assert kept({b: ValueSet((1,))}) == [p.name for p in table.parts]


def test_hash_pruning_needs_every_column() -> None:
    table = hash_table([INT8, TEXT], 8)
    a, b = table.partition_columns
    one = prune(table, {a: ValueSet((1,)), b: ValueSet(("x",))})
    assert [part.ordinal for part in one] == [ordinal_for(table, [1, "x"])]
    assert len(prune(table, {a: ValueSet((1,))})) == 8
    assert prune(table, {a: ValueSet(()), b: ValueSet(("x",))}) == ()


def test_hash_pruning_takes_small_integer_intervals_apart() -> None:
    table = hash_table([INT8], 64)
    column = table.partition_columns[0]
    kept = prune(table, {column: Interval(3, 6, high_inclusive=False)})
    assert {p.ordinal for p in kept} == {ordinal_for(table, [i]) for i in (3, 4, 5)}
    assert len(prune(table, {column: Interval(0, 10**9)})) == 64


def test_list_pruning() -> None:
    table = list_table(
        INT4,
        [
            PartDefinition("low", values=("1", "2")),
            PartDefinition("high", values=("10", None)),
            PartDefinition("rest", is_default=True),
        ],
    )
    column = table.partition_columns[0]

    def kept(restriction: Restriction) -> list[str]:
        return [part.name for part in prune(table, {column: restriction})]

    assert kept(ValueSet((1,))) == ["low"]
    assert kept(ValueSet((None,))) == ["high"]
    assert kept(ValueSet((1, 5))) == ["low", "rest"]
    assert kept(Interval(low=3)) == ["high", "rest"]


def test_values_from_python_and_text_agree() -> None:
    moment = dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    table = range_table(
        [TIMESTAMPTZ],
        [
            span("p", [MIN], [value("2024-02-29 10:30:00Z")]),
            span("q", [value("2024-02-29 12:30+02")], [MAX]),
        ],
    )
    assert part_for(table, [moment]).name == "q"
    assert part_for(table, [moment - dt.timedelta(microseconds=1)]).name == "p"
    uuids = hash_table([UUID_TYPE], 16)
    chosen = UUID(int=random.Random(1).getrandbits(128))
    assert ordinal_for(uuids, [chosen]) == ordinal_for(uuids, [str(chosen).upper()])
