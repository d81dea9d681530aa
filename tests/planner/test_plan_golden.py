"""Golden EXPLAINs: for each planner feature a statement and its plan, in `golden/`.

A file is the statement, a line `----`, and the plan. `REWRITE_GOLDEN=1 pytest <this file>`
writes the plans anew; read the difference before you keep it. The tables have statistics but
no rows.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plan_cluster import PlanCluster

from catalog.model import ColumnStatistics, TableStatistics
from planner.explain import explain_text

GOLDEN = Path(__file__).parent / "golden"
TABLES = """
    create table customer (id bigint primary key, name text not null, region text)
        partition by hash (id) partitions 6;
    create table orders (customer_id bigint, id bigint, placed_on date not null,
        total numeric(12,2), note text, primary key (customer_id, id))
        partition by hash (customer_id) partitions 6
        column groups (core (placed_on, total), cold (note)) colocate with customer;
    create table item (order_id bigint, line int, product_id bigint not null,
        amount numeric(12,2), primary key (order_id, line))
        partition by hash (order_id) partitions 6;
    create table product (id bigint primary key, name text) partition by hash (id) partitions 3;
    create table event (at date not null, kind text, size int) partition by range (at) (
        partition y2023 values from (minvalue) to ('2024-01-01'),
        partition y2024 values from ('2024-01-01') to ('2025-01-01'),
        partition later values from ('2025-01-01') to (maxvalue));
    create table country (code text primary key, name text) replicated;
    create table ledger (id bigint primary key, sum int) with (durability = 'sync');
"""
# Table -> rows and distinct values a column.
STATISTICS: dict[str, tuple[int, dict[str, int]]] = {
    "customer": (10_000, {"id": 10_000, "name": 9_000, "region": 20}),
    "orders": (100_000, {"customer_id": 9_500, "id": 100_000, "placed_on": 700, "total": 5_000}),
    "item": (400_000, {"order_id": 100_000, "line": 7, "product_id": 2_000, "amount": 900}),
    "product": (2_000, {"id": 2_000, "name": 1_990}),
    "event": (50_000, {"at": 1_000, "kind": 12, "size": 400}),
    "country": (200, {"code": 200, "name": 200}),
}


@pytest.fixture(scope="module")
def cluster() -> PlanCluster:
    cluster = PlanCluster(3)
    cluster.create(TABLES)
    for name, (rows, distinct) in STATISTICS.items():
        table = cluster.table(name)
        columns = {
            c.id: ColumnStatistics(distinct[c.name], 0.0, None, None, 0.0)
            for c in table.columns
            if c.name in distinct
        }
        cluster.catalog.statistics[table.id] = TableStatistics(rows, (), columns)
    return cluster


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.txt")), ids=lambda p: p.stem)
def test_plan_is_as_recorded(cluster: PlanCluster, path: Path) -> None:
    statement, _, expected = path.read_text().partition("----\n")
    plan = "\n".join(explain_text(cluster.plan(statement))) + "\n"
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(f"{statement.strip()}\n----\n{plan}")
    else:
        assert plan == expected
