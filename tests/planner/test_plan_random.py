"""Random queries over random fragmentations answer as the whole data does.

A failure names its seed; `python -m pytest tests/planner/test_plan_random.py -k "[7]"` runs it
again alone.
"""

from __future__ import annotations

import random

import pytest
from plan_cluster import PlanCluster
from plan_queries import QueryMaker, random_ddl, random_rows

QUERIES_A_SEED = 10


def random_cluster(chance: random.Random) -> tuple[PlanCluster, list[str]]:
    cluster = PlanCluster(chance.choice([1, 2, 3, 3]))
    cluster.coordinator = chance.randint(1, cluster.size)
    tables = [f"t{i}" for i in range(1, chance.randint(2, 4) + 1)]
    hashed: list[str] = []
    for table in tables:
        cluster.create(random_ddl(chance, table, hashed))
        cluster.load(table, random_rows(chance), statistics=chance.random() < 0.7)
    return cluster, tables


def check(seed: int, queries: int) -> None:
    chance = random.Random(seed)
    cluster, tables = random_cluster(chance)
    maker = QueryMaker(chance, tables)
    for _ in range(queries):
        sql = maker.query()
        assert cluster.ask(sql) == cluster.answer(sql), sql


@pytest.mark.parametrize("seed", range(4))
def test_random_queries(seed: int) -> None:
    check(seed, QUERIES_A_SEED)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_more_random_queries(seed: int) -> None:
    check(seed, 30)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_many_random_queries(seed: int) -> None:
    check(seed, 40)
