"""Which replicas a plan reads: where tablets are led, the nearest, or whichever costs less."""

from __future__ import annotations

import dataclasses

import pytest
from plan_cluster import PlanCluster

from catalog.commands import SetStatistics
from catalog.model import NodeId, TableStatistics
from planner.binder import bind_query
from planner.context import PlannerContext
from planner.nearness import nearest_nodes
from planner.optimizer import plan_query
from planner.parser import parse
from planner.plan import QueryPlan
from planner.statements import Query

JOIN = "SELECT g.name, sum(t.v) FROM t JOIN g ON g.id = t.v GROUP BY g.name"


def _cluster(rows: int, replicas: int = 3) -> PlanCluster:
    cluster = PlanCluster(3, coordinator=2)
    cluster.create(
        f"CREATE TABLE t (k int PRIMARY KEY, v int) WITH (replicas = {replicas});"
        f"CREATE TABLE g (id int PRIMARY KEY, name text) WITH (replicas = {replicas})"
    )
    for name in ("t", "g"):
        cluster._apply(SetStatistics(cluster.table(name).id, TableStatistics(rows)))
    return cluster


def _plan(context: PlannerContext, sql: str = JOIN) -> QueryPlan:
    (statement,) = parse(sql)
    assert isinstance(statement, Query)
    return plan_query(bind_query(statement.tree, context), context)


def _scanned_on(plan: QueryPlan) -> set[int]:
    return {int(n) for stage in plan.stages if stage.scans for n in stage.nodes}


@pytest.mark.parametrize(
    ("wish", "rows", "nodes"),
    [
        ("leader", 100, {1, 2, 3}),
        ("nearest", 100, {2}),
        ("nearest", 10_000_000, {2}),
        ("cheapest", 100, {2}),
        ("cheapest", 10_000_000, {1, 2, 3}),
    ],
)
def test_the_present_is_read_where_the_session_wishes(
    wish: str, rows: int, nodes: set[int]
) -> None:
    cluster = _cluster(rows)
    cluster.settings["dqe.read_replicas"] = wish
    plan = _plan(cluster.context())
    assert _scanned_on(plan) == nodes
    if nodes == {2}:
        assert len(plan.stages) == 1, "nothing is exchanged"


def test_the_past_is_read_near_and_a_dead_node_is_passed_over() -> None:
    cluster = _cluster(10_000_000)
    context = cluster.context()
    near = nearest_nodes(context.catalog, NodeId(2))
    past = dataclasses.replace(context, nearest=near)
    assert _scanned_on(_plan(past)) == {2}
    without = dataclasses.replace(past, live_nodes=(NodeId(1), NodeId(3)))
    assert _scanned_on(_plan(without)) == {3}, "the next one in turn"


def test_what_lies_on_one_node_is_read_there() -> None:
    cluster = _cluster(100, replicas=1)
    for wish in ("leader", "nearest", "cheapest"):
        cluster.settings["dqe.read_replicas"] = wish
        assert _scanned_on(_plan(cluster.context())) == {1, 2, 3}
