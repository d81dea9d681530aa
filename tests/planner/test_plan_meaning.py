"""Corners of meaning that a plan must not lose, each told by a query."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import msgspec
import pyarrow as pa
import pytest
from plan_cluster import PlanCluster

from planner.explain import TaskActuals, explain_json, explain_text
from planner.plan import QueryPlan

MANY_ROWS = "[Mm]ore than one row returned by a subquery used as an expression"


@pytest.fixture(scope="module")
def cluster() -> PlanCluster:
    cluster = PlanCluster(3)
    cluster.create("""
        create table t (k int primary key, g int, v numeric(10,2))
            partition by hash (k) partitions 6;
        create table u (k int not null, x bigint) partition by hash (k) partitions 4;
        create table empty (k int primary key, g int);
    """)
    numbers = list(range(40))
    values = [Decimal(n) for n in numbers]
    cluster.load("t", pa.table({"k": numbers, "g": [n % 5 for n in numbers], "v": values}))
    doubled = [n // 2 for n in numbers]
    cluster.load("u", pa.table({"k": doubled, "x": [n if n % 7 else None for n in numbers]}))
    cluster.load("empty", pa.table({"k": [], "g": []}))
    return cluster


def test_a_scalar_subquery_of_several_rows_is_an_error(cluster: PlanCluster) -> None:
    with pytest.raises(duckdb.Error, match=MANY_ROWS):
        cluster.ask("select k from t where k = (select x from u where x > 3)")


def test_a_correlated_subquery_of_several_rows_is_an_error(cluster: PlanCluster) -> None:
    with pytest.raises(duckdb.Error, match=MANY_ROWS):
        cluster.ask("select (select x from u where u.k = t.k) from t")


def test_several_rows_nobody_asks_for_are_no_error(cluster: PlanCluster) -> None:
    assert cluster.ask("select (select x from u where u.k = t.k) from t where t.k = 33") == [
        (None,)
    ]


def test_membership_below_or_is_a_join(cluster: PlanCluster) -> None:
    for sql in (
        "select k from t where g in (select x from u where x > 2) or k > 35 order by k",
        "select k from t where g in (select x from u where u.k = t.k) or k > 35 order by k",
        "select k from t where not (g in (select x from u)) or k > 35 order by k",
        "select k from t where g not in (select x from u where x > 2) or k > 35 order by k",
    ):
        assert cluster.ask(sql) == cluster.answer(sql), sql


def test_a_subquery_that_returns_sets_has_the_rows_that_they_have(cluster: PlanCluster) -> None:
    for sql in (
        "select k from t where k in (select unnest(array[1, 5, null])) order by k",
        "select k from t where k = any (select generate_series(3, 4)) or k = 9 order by k",
        "select k from t where k in (select generate_series(1, g)) order by k",
        "select k, (select unnest(array[x]) from u where u.k = t.k and x % 2 = 1) from t"
        " order by k",
    ):
        assert cluster.ask(sql) == cluster.answer(sql), sql
    none = "select unnest('{}'::int[])"
    assert cluster.ask(f"select count(*) from t where exists ({none})") == [(0,)]
    assert cluster.ask(f"select count(*) from t where not exists ({none} where t.k > 3)") == [(40,)]
    assert cluster.ask("select count(*) from t where k not in (select unnest(array[1, 5]))") == [
        (38,)
    ]


def test_counting_nothing_gives_zero(cluster: PlanCluster) -> None:
    sql = "select (select count(*) from u where u.k = t.k), (select sum(x) from u where u.k = t.k)"
    assert cluster.ask(f"{sql} from t where k = 39") == [(0, None)]


def test_an_aggregate_over_no_rows_on_any_node_is_one_row(cluster: PlanCluster) -> None:
    sql = "select count(*), count(distinct g), sum(g), max(k) from t where k > 100"
    assert cluster.ask(sql) == [(0, 0, None, None)]
    assert cluster.ask("select count(*) from t where false") == [(0,)]


def test_a_group_without_keys_and_aggregates_is_one_row(cluster: PlanCluster) -> None:
    assert cluster.ask("select 1 from t having true") == [(1,)]
    assert cluster.ask("select 1 from t having false") == []
    assert cluster.ask("select 1 from t where k > 100 group by ()") == [(1,)]
    sql = "select count(*) from t where exists (select 1 from u where u.k = t.k + 30 having true)"
    assert cluster.ask(sql) == [(40,)]


def test_a_row_id_that_nobody_declared_is_in_no_row_and_no_alias_list(cluster: PlanCluster) -> None:
    assert cluster.ask("select z from u as z where k = 19 and x is not null") == [
        ("(19,38)",),
        ("(19,39)",),
    ]
    assert cluster.ask("select x, k from u as z(x, k) where x = 0 order by k") == [
        (0, 1),
        (0, None),
    ]
    assert cluster.ask("select count(z) from t left join u z on z.k = t.k and z.x = 38") == [(1,)]


def test_not_in_with_a_null_keeps_nothing(cluster: PlanCluster) -> None:
    assert cluster.ask("select count(*) from t where k not in (select x from u)") == [(0,)]
    assert cluster.ask("select count(*) from t where k not in (select k from empty)") == [(40,)]


def test_a_limited_cte_is_the_same_rows_at_each_use(cluster: PlanCluster) -> None:
    sql = "with l as (select k from t limit 3) select count(*) from l a join l b on a.k = b.k"
    assert cluster.ask(sql) == [(3,)]


def test_a_volatile_cte_is_computed_once(cluster: PlanCluster) -> None:
    sql = "with r as (select k, random() as x from t) select bool_and(a.x = b.x), count(*)"
    assert cluster.ask(f"{sql} from r a join r b on a.k = b.k") == [(True, 40)]


def test_a_limit_without_order_gives_that_many_rows(cluster: PlanCluster) -> None:
    assert len(cluster.ask("select k from t limit 7")) == 7
    assert len(cluster.ask("select k from t offset 35")) == 5
    assert len(cluster.ask("select t.k, u.x from t left join u on u.k = t.k limit 9 offset 2")) == 9


def test_order_survives_columns_that_are_not_shown(cluster: PlanCluster) -> None:
    expected = [(n % 5,) for n in range(39, 33, -1)]
    assert cluster.ask("select g from t order by k desc limit 6") == expected
    assert cluster.ask("select k from t order by -k") == [(n,) for n in range(39, -1, -1)]


def test_a_full_join_without_equality_is_gathered(cluster: PlanCluster) -> None:
    sql = "select count(*), count(t.k), count(u.k) from t full join u on t.k = u.k and t.g > u.x"
    assert cluster.ask(sql) == cluster.answer(sql)


def test_keys_of_two_integer_types_meet_after_a_repartition(cluster: PlanCluster) -> None:
    sql = "select count(*) from t join u on t.g = u.x"
    cluster.catalog.statistics.clear()
    assert cluster.ask(sql) == cluster.answer(sql)
    assert cluster.ask(sql)[0][0] > 0


def test_grouping_sets_and_distinct_on(cluster: PlanCluster) -> None:
    for sql in (
        "select g, grouping(g), sum(v) from t group by rollup (g) order by 1, 2",
        "select g, k % 3, count(*) from t group by cube (g, k % 3) order by 1, 2, 3",
        "select distinct on (g) g, k from t order by g, k desc",
        "select g, count(*) from t group by g having count(*) > (select count(*) / 6 from u)"
        " order by 1",
    ):
        assert cluster.ask(sql) == cluster.answer(sql), sql


@pytest.mark.parametrize(
    "sql",
    [
        "select k, g in (select k from u) from t",
        "select t.k, s.n from t, lateral (select count(*) as n from u where u.x < t.k) s",
        "select k from t where v > (select avg(x) from u where u.x < t.k)",
        "select unnest(array[k, g]) from t where k < 3",
        "select array(select x from u where u.k = t.k order by x) from t where k < 3",
        "with recursive r(n) as (select 1 union all select n + 1 from r where n < 9)"
        " select r.n, t.g from r join t on t.k = r.n",
    ],
)
def test_what_cannot_be_distributed_is_gathered_and_right(cluster: PlanCluster, sql: str) -> None:
    assert sorted(map(repr, cluster.ask(sql))) == sorted(map(repr, cluster.answer(sql)))


def test_only_the_query_that_needs_it_is_gathered(cluster: PlanCluster) -> None:
    plan = cluster.plan(
        "select t.g, count(*) from t join (select unnest(array[1, 2]) as a, k from u) s"
        " on s.k = t.k group by t.g"
    )
    text = "\n".join(explain_text(plan))
    assert "Gathered Query" in text
    assert "a set-returning function in the select list" in text
    assert "Finalize HashAggregate" in text or "HashAggregate" in text


def test_plans_travel_as_msgpack(cluster: PlanCluster) -> None:
    plan = cluster.plan("select g, avg(v) from t join u on u.k = t.k group by g order by 2 limit 3")
    encoded = msgspec.msgpack.encode(plan)
    assert msgspec.msgpack.decode(encoded, type=QueryPlan) == plan


def test_explain_analyze_shows_what_each_stage_did(cluster: PlanCluster) -> None:
    plan = cluster.plan("select g, count(*) from t group by g")
    actuals = {1: [TaskActuals(n, 5, 80, 1.5) for n in (1, 2, 3)], 2: [TaskActuals(1, 5, 80, 2.0)]}
    lines = explain_text(plan, actuals, total_milliseconds=3.25)
    assert "actual rows=15 size=240 bytes time=1.500 ms" in "\n".join(lines)
    assert any(line.strip().startswith("Node 3: actual rows=5") for line in lines)
    assert lines[-1] == "Execution Time: 3.250 ms"
    (document,) = msgspec.json.decode(explain_json(plan, actuals))
    top = document["Plan"]
    assert top["Actual Rows"] == 5
    assert {"Node Type", "Startup Cost", "Total Cost", "Plan Rows", "Plan Width"} <= top.keys()
    assert top["Plans"][0]["Parent Relationship"] == "Outer"
    assert document["Stages"][0]["Tasks"][2]["Node"] == 3


def test_equalities_that_share_a_column_all_hold_in_any_join_order(cluster: PlanCluster) -> None:
    for sql in (
        "select count(*) from u a join u b on a.k = b.k join t c on a.k = c.k and b.x = c.g",
        "select count(*) from t a join (select k, max(x) over () as g from u) b on a.k = b.k"
        " join (select k, x as g from u where x > 30) c on a.k = c.k and b.g = c.g",
    ):
        assert cluster.ask(sql) == cluster.answer(sql), sql


def test_what_an_outer_join_leaves_out_can_be_asked_for(cluster: PlanCluster) -> None:
    for sql in (
        "select a.k from t a left join t b on a.k = b.k + 20 join u c on c.k = a.k"
        " where b.k is null and (b.g = 3 or c.x > 4) order by 1",
        "select a.k from u a left join u b on a.x = b.k full join t c on a.k = c.k"
        " where c.k is null and (c.g = 3 or coalesce(b.x, c.k, 0) > 4) order by 1",
        "select count(*) from t a left join t b on a.k = b.k and b.g = 77 having sum(a.k) > 3",
        "select a.k from t a left join (select * from t where g = 77) b on a.k = b.k limit 3",
    ):
        found, expected = cluster.ask(sql), cluster.answer(sql)
        assert len(found) == 3 if "limit" in sql else found == expected, sql
