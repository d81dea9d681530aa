"""The ranges of rows that the scans of a plan are about."""

from __future__ import annotations

import pytest
from plan_cluster import PlanCluster

from catalog.fragment_schemas import store_name
from storage.read_sets import RangeIndex, RowRange

TABLES = (
    "create table t (a int primary key, b int, c text, d date, e numeric)"
    " partition by hash (a) partitions 2",
    "create table u (a int primary key, b int)",
)


@pytest.fixture(scope="module")
def cluster() -> PlanCluster:
    found = PlanCluster()
    for sql in TABLES:
        found.create(sql)
    return found


def ranges(cluster: PlanCluster, sql: str) -> list[tuple[RowRange, ...]]:
    """Of each scan, with the columns by their names."""
    tables = [cluster.table(name) for name in ("t", "u")]
    names = {store_name(c.id): c.name for table in tables for c in table.columns}
    return [
        tuple(
            RowRange(tuple(names[c] for c in each.columns), each.prefix, each.low, each.high)
            for each in scan.ranges
        )
        for stage in cluster.plan(sql).stages
        for scan in stage.scans
    ]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("b = 1", [RowRange(("b",), (1,))]),
        ("b in (1, 2)", [RowRange(("b",), (1,)), RowRange(("b",), (2,))]),
        ("b = 1 or b = 2", [RowRange(("b",), (1,)), RowRange(("b",), (2,))]),
        ("b is null", [RowRange(("b",), (None,))]),
        ("b between 1 and 3", [RowRange(("b",), (), (1, True), (3, True))]),
        ("b > 1 and c = 'x'", [RowRange(("c", "b"), ("x",), (1, False), None)]),
        ("b < 1 + 1 and b % 2 = 0", [RowRange(("b",), (), None, (2, False))]),
        ("d >= '1970-01-03'", [RowRange(("d",), (), (2, True), None)]),
        ("b = 1 and e = 5", [RowRange(("b",), (1,))]),
    ],
)
def test_conditions_become_ranges(cluster: PlanCluster, where: str, found: list[RowRange]) -> None:
    assert ranges(cluster, f"select c from t where {where}") == [tuple(found)]


@pytest.mark.parametrize(
    "where",
    ["true", "e = 5", "b = a", "b + 1 = 2", "b = 1 or c = 'x'", "b is not null", "random() < b"],
)
def test_what_may_be_any_row(cluster: PlanCluster, where: str) -> None:
    assert ranges(cluster, f"select c from t where {where}") == [()]


def test_too_many_values_are_left_out(cluster: PlanCluster) -> None:
    many = ", ".join(map(str, range(50)))
    (found,) = ranges(cluster, f"select c from t where b in ({many}) and c in ('x', 'y', 'z')")
    assert len(found) == 50
    assert {each.columns for each in found} == {("b",)}


def test_each_scan_has_its_own(cluster: PlanCluster) -> None:
    sql = "select count(*) from t left join u on t.b = u.b and u.a > 7 where t.c = 'x'"
    found = ranges(cluster, sql)
    assert (RowRange(("c",), ("x",)),) in found
    assert (RowRange(("a",), (), (7, False), None),) in found
    assert len(found) == 2


def test_a_row_is_in_one_of_many_ranges() -> None:
    index = RangeIndex(
        [
            RowRange(("a", "b"), (1,), (5, True), (7, False)),
            RowRange(("a", "b"), (1,), (9, False), None),
            RowRange(("b",), (None,)),
            RowRange(("c", "a"), ("x",)),
        ],
        ("a", "b", "c"),
    )
    rows = [(1, 4, ""), (1, 5, ""), (1, 7, ""), (1, 9, ""), (1, 10, ""), (2, 6, "")]
    assert [row in index for row in rows] == [False, True, False, False, True, False]
    assert (3, None, "") in index
    assert (3, 3, "x") in index
    assert (1, 0, None) not in index
