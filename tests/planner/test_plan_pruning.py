"""Constants, restrictions and the fragments they leave."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
import sqlglot
from plan_cluster import PlanCluster

from planner.algebra_scalars import is_total, rejects_null, scalar_of
from planner.optimizer.constants import Constant, constant_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-5", -5),
        ("1.50", Decimal("1.50")),
        ("'a'", "a"),
        ("CAST('1994-01-01' AS DATE)", date(1994, 1, 1)),
        ("CAST('1994-01-31' AS DATE) + INTERVAL '1' MONTH", datetime(1994, 2, 28)),
        ("CAST('1994-01-01' AS DATE) - INTERVAL '90' DAY", datetime(1993, 10, 3)),
        ("CAST(CAST('1994-01-01' AS DATE) + INTERVAL '1 year' AS DATE)", date(1995, 1, 1)),
        ("CAST('1994-01-01' AS DATE) + 3", date(1994, 1, 4)),
        ("CAST('7' AS BIGINT)", 7),
        ("NULL", None),
    ],
)
def test_constants(text: str, value: object) -> None:
    assert constant_of(sqlglot.parse_one(text, read="duckdb")) == Constant(value)


@pytest.mark.parametrize(
    "text", ["x + 1", "random()", "CAST(1.5 AS DECIMAL(10, 0))", "CAST('x' AS DATE)", "1 / 0"]
)
def test_what_is_no_known_constant(text: str) -> None:
    assert constant_of(sqlglot.parse_one(text, read="duckdb")) is None


@pytest.mark.parametrize(
    ("text", "rejects"),
    [
        ("r > 1", True),
        ("l = r", True),
        ("r IS NULL", False),
        ("r IS NOT NULL", True),
        ("NOT r IS NULL", True),
        ("r IS TRUE", True),
        ("r IS NOT TRUE", False),
        ("NOT (r IS NOT NULL)", False),
        ("r > 1 OR l > 1", False),
        ("r > 1 OR (r < 0 AND l > 1)", True),
        ("r > 1 AND l > 1", True),
        ("COALESCE(r, 0) > 1", False),
        ("NOT (r = 1)", True),
        ("r IN (1, 2)", True),
        ("l > 1", False),
    ],
)
def test_which_conditions_reject_nulls(text: str, rejects: bool) -> None:
    scalar = scalar_of(sqlglot.parse_one(text, read="duckdb"))
    assert rejects_null(scalar, frozenset({"r"})) is rejects


@pytest.mark.parametrize(
    ("text", "total"),
    [("a > 1 AND b IS NULL", True), ("1 / a > 0", False), ("CAST(t AS INT) = 1", False)],
)
def test_which_conditions_cannot_fail(text: str, total: bool) -> None:
    assert is_total(scalar_of(sqlglot.parse_one(text, read="duckdb"))) is total


@pytest.fixture(scope="module")
def cluster() -> PlanCluster:
    cluster = PlanCluster(3)
    cluster.create("""
        create table r (d date, at timestamp, k int, s text) partition by range (d) (
            partition a values from (minvalue) to ('2024-01-01'),
            partition b values from ('2024-01-01') to ('2024-07-01'),
            partition c values from ('2024-07-01') to (maxvalue));
        create table l (s text not null, k int) partition by list (s) (
            partition a values in ('x', 'y'), partition b values in ('z'), partition c default);
        create table h (k int, n numeric(8,2), primary key (k, n)) partition by hash (k, n)
            partitions 8;
    """)
    cluster.load(
        "r",
        pa.table(
            {
                "d": [date(2023, 5, 1), date(2024, 1, 1), date(2024, 6, 30), date(2025, 1, 1)],
                "at": [None] * 4,
                "k": [1, 2, 3, 4],
                "s": ["x", "y", "z", "w"],
            }
        ),
    )
    cluster.load("l", pa.table({"s": ["x", "y", "z", "w", "q"], "k": [1, 2, 3, 4, 5]}))
    cluster.load("h", pa.table({"k": [1, 2, 3], "n": [Decimal("1.50"), Decimal(2), Decimal(3)]}))
    return cluster


@pytest.mark.parametrize(
    ("sql", "fragments"),
    [
        ("select * from r where d = date '2024-03-01'", 1),
        ("select * from r where d < '2024-01-01'", 1),
        ("select * from r where d <= '2024-01-01'", 2),
        (
            "select * from r where d >= date '2024-01-01'"
            " and d < date '2024-01-01' + interval '6 months'",
            1,
        ),
        ("select * from r where d between '2024-02-01' and '2024-08-01'", 2),
        ("select * from r where d in (date '2023-01-01', date '2025-01-01')", 2),
        ("select * from r where d = '2023-01-01' or d = '2023-02-01'", 1),
        ("select * from r where d > '2024-01-01' or k = 3", 3),
        ("select * from r where d > timestamp '2024-06-30 12:00'", 1),
        ("select * from r where d < timestamp '2024-01-01 00:00:01'", 2),
        ("select * from r where d = '2024-03-01' and d = '2025-03-01'", 0),
        ("select * from r where k = 7", 3),
        ("select * from r where 1 = 0", 0),
        ("select * from l where s = 'x'", 1),
        ("select * from l where s in ('x', 'q')", 2),
        ("select * from l where s = 'nobody'", 1),
        ("select * from l where s is null", 1),
        ("select * from h where k = 2 and n = 2", 1),
        ("select * from h where k in (1, 2) and n = 1.5", 2),
        ("select * from h where k = 2", 8),
        ("select * from r a join r b on a.d = b.d where b.d = '2024-03-01'", 2),
        ("select * from r a left join r b on a.d = b.d where a.d = '2024-03-01'", 2),
        ("select * from r a left join r b on a.d = b.d and b.d = '2024-03-01'", 4),
        ("select d from (select d, count(*) from r group by d) x where d = '2024-03-01'", 1),
        ("select d from (select d from r union all select d from r) x where d < '2023-03-01'", 2),
    ],
)
def test_fragments_read(cluster: PlanCluster, sql: str, fragments: int) -> None:
    plan = cluster.plan(sql)
    read = sum(len(f) for s in plan.stages for scan in s.scans for f in scan.fragments)
    assert read == fragments
    assert sorted(map(repr, cluster.run(plan))) == sorted(map(repr, cluster.answer(sql)))


def test_ten_thousand_fragments_pruned_to_one() -> None:
    cluster = PlanCluster(3)
    cluster.create("create table m (k int primary key) partition by hash (k) partitions 10000")
    plan = cluster.plan("select * from m where k = 5")
    assert [len(f) for f in plan.root.scans[0].fragments] == [1]
    assert "1 of 10000 (9999 kept out: k = 5)" in str(plan.explanation.properties["Fragments"])
