"""TPC-H under several fragmentations: plans answer as the whole data in one DuckDB does."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from plan_cluster import PlanCluster, unordered

from benchmarks.tpch_data import FRAGMENTATIONS, QUERY_NUMBERS, create_table, query
from dqe.tpch import TABLES, generate
from planner.plan import PlanNote, QueryPlan

SCALE = 0.01


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return generate(SCALE, tmp_path_factory.mktemp("tpch"))


def cluster_of(data: dict[str, Path], fragmentation: str | None, size: int) -> PlanCluster:
    cluster = PlanCluster(size)
    for table in TABLES:
        cluster.create(create_table(table, fragmentation))
    for table in TABLES:
        cluster.load(table, pq.read_table(data[table]))
    return cluster


@pytest.fixture(scope="module")
def hashed(data: dict[str, Path]) -> PlanCluster:
    return cluster_of(data, "hash", 3)


def wrong_answers(cluster: PlanCluster) -> list[int]:
    """The queries whose distributed answer differs, order included."""
    wrong = []
    for number in QUERY_NUMBERS:
        found, expected = cluster.ask(query(number)), cluster.answer(query(number))
        assert unordered(found) == unordered(expected), f"query {number}"
        if found != expected:
            wrong.append(number)
    return wrong


def notes(note: PlanNote) -> list[PlanNote]:
    return [note, *(below for child in note.children for below in notes(child))]


def test_all_queries_with_orders_and_lineitem_co_located(hashed: PlanCluster) -> None:
    assert wrong_answers(hashed) == []


@pytest.mark.slow
@pytest.mark.parametrize("fragmentation", [f for f in FRAGMENTATIONS if f != "hash"])
def test_all_queries_cut_otherwise(data: dict[str, Path], fragmentation: str) -> None:
    assert wrong_answers(cluster_of(data, fragmentation, 3)) == []


@pytest.mark.slow
def test_all_queries_on_one_node_are_one_stage(data: dict[str, Path]) -> None:
    cluster = cluster_of(data, None, 1)
    assert wrong_answers(cluster) == []
    assert all(len(cluster.plan(query(n)).stages) == 1 for n in QUERY_NUMBERS)


@pytest.mark.slow
def test_all_queries_through_another_coordinator_without_statistics(
    data: dict[str, Path],
) -> None:
    cluster = cluster_of(data, "hash", 3)
    cluster.coordinator = 3
    cluster.catalog.statistics.clear()
    assert wrong_answers(cluster) == []


def test_no_query_is_gathered(hashed: PlanCluster) -> None:
    for number in QUERY_NUMBERS:
        found = notes(hashed.plan(query(number)).explanation)
        assert not any(n.node_type == "Gathered Query" for n in found), f"query {number}"


def joins_of(plan: QueryPlan, tables: set[str]) -> list[PlanNote]:
    """The joins right above scans of two tables."""

    def scanned(note: PlanNote) -> str:
        return str(note.properties.get("Relation Name", ""))

    return [
        note
        for note in notes(plan.explanation)
        if "Join Type" in note.properties and {scanned(c) for c in note.children} == tables
    ]


def test_lineitem_joined_with_orders_moves_no_rows(hashed: PlanCluster) -> None:
    plan = hashed.plan("select count(*) from lineitem join orders on l_orderkey = o_orderkey")
    (join,) = joins_of(plan, {"lineitem", "orders"})
    assert str(join.properties["Join Method"]).startswith("part-wise, moves nothing")
    assert len(plan.stages) == 2  # one on every node, one that adds up


@pytest.mark.parametrize("number", [4, 12, 18, 21])
def test_queries_over_orders_and_lineitem_stay_part_wise(hashed: PlanCluster, number: int) -> None:
    methods = [
        str(n.properties["Join Method"])
        for n in notes(hashed.plan(query(number)).explanation)
        if "Join Method" in n.properties
    ]
    assert any(m.startswith("part-wise, moves nothing") for m in methods)


def test_one_order_is_looked_up_on_one_node(hashed: PlanCluster) -> None:
    plan = hashed.plan(
        "select sum(l_quantity) from lineitem join orders on l_orderkey = o_orderkey"
        " where o_orderkey = 7"
    )
    assert len(plan.stages) == 1
    fragments = [len(f) for scan in plan.root.scans for f in scan.fragments]
    assert fragments == [1, 1]


def test_replicated_tables_are_joined_where_the_others_are(hashed: PlanCluster) -> None:
    plan = hashed.plan(
        "select n_name, count(*) from supplier join nation on s_nationkey = n_nationkey"
        " group by n_name"
    )
    assert len(plan.stages) == 2
    assert {s.exchange.kind.value for s in plan.stages} == {"gather", "result"}
