"""TPC-H: the 22 queries equal DuckDB's answers under every fragmentation, and after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from benchmarks.peers import load_duckdb
from benchmarks.tpch import differs, load, normalised
from benchmarks.tpch_data import FRAGMENTATIONS, QUERY_NUMBERS, query
from dqe.local_cluster import LocalCluster
from dqe.tpch import generate

SCALE = 0.01

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return generate(SCALE, tmp_path_factory.mktemp("tpch"))


@pytest.fixture(scope="module")
def answers(files: dict[str, Path]) -> dict[int, Any]:
    engine = load_duckdb(files, threads=1)
    return {n: normalised(_duckdb_rows(engine, n)) for n in QUERY_NUMBERS}


def _duckdb_rows(engine: duckdb.DuckDBPyConnection, number: int) -> list[tuple[Any, ...]]:
    return engine.sql(query(number).rstrip().rstrip(";")).fetchall()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(3, tmp_path_factory.mktemp("nodes")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def loaded(files: dict[str, Path], nodes: LocalCluster) -> LocalCluster:
    """The tables under every fragmentation, in a schema each."""
    with psycopg.connect(nodes.url, autocommit=True) as connection:
        for fragmentation in FRAGMENTATIONS:
            connection.execute(f"create schema {fragmentation}".encode())
            connection.execute(f"set search_path to {fragmentation}".encode())
            load(connection, files, fragmentation)
    return nodes


def check_all(cluster: LocalCluster, answers: dict[int, Any], schema: str = "public") -> None:
    """Every query, each through another node."""
    wrong = []
    for number in QUERY_NUMBERS:
        node = cluster.nodes[number % len(cluster.nodes)]
        with psycopg.connect(node.url, autocommit=True) as connection:
            connection.execute(f"set search_path to {schema}".encode())
            try:
                rows = connection.execute(query(number).encode()).fetchall()
                reason = differs(normalised(rows), answers[number])
            except psycopg.Error as error:
                reason = str(error)
        if reason is not None:
            wrong.append(f"query {number}: {reason}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("fragmentation", FRAGMENTATIONS)
def test_answers_equal_duckdbs(
    loaded: LocalCluster, answers: dict[int, Any], fragmentation: str
) -> None:
    check_all(loaded, answers, fragmentation)


def test_answers_are_the_same_after_a_restart(
    loaded: LocalCluster, answers: dict[int, Any]
) -> None:
    loaded.restart()
    for fragmentation in FRAGMENTATIONS:
        check_all(loaded, answers, fragmentation)


def test_replicated_tables_are_read_at_once_after_restarts(nodes: LocalCluster) -> None:
    """Every node asks the leader, also while it is not known yet who that will be."""
    with psycopg.connect(nodes.url, autocommit=True) as connection:
        for name in ("r1", "r2", "r3"):
            connection.execute(f"create table {name} (id int primary key) replicated".encode())
            connection.execute(f"insert into {name} values (1), (2)".encode())
    for _ in range(2):
        nodes.restart()
        for node in nodes.nodes:
            with psycopg.connect(node.url, autocommit=True) as connection:
                for name in ("r1", "r2", "r3"):
                    query_text = f"select count(*) from {name}".encode()
                    assert connection.execute(query_text).fetchone() == (2,)


def test_one_node(files: dict[str, Path], answers: dict[int, Any], tmp_path: Path) -> None:
    with LocalCluster(1, tmp_path) as cluster:
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            load(connection, files, "hash")
        check_all(cluster, answers)
