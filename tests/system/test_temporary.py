"""Temporary tables end with their session."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from dqe.local_cluster import LocalCluster

pytestmark = pytest.mark.cluster


def _temporary(connection: psycopg.Connection[Any]) -> int:
    found = connection.execute(
        "select count(*) from pg_namespace where nspname like 'pg_temp%'"
    ).fetchone()
    assert found is not None
    return int(found[0])


def test_a_session_takes_its_tables_with_it(
    cluster: LocalCluster, connection: psycopg.Connection[Any]
) -> None:
    with psycopg.connect(cluster.nodes[1].url, autocommit=True) as other:
        other.execute("create temp table of_one as select 1 as a")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("select * from of_one")
        assert _temporary(connection) == 1
    deadline = time.monotonic() + 10
    while _temporary(connection):
        assert time.monotonic() < deadline, "the schema is still there"
    assert connection.execute("select count(*) from dqe.tablets").fetchone() == (0,)


def test_discard_drops_them(connection: psycopg.Connection[Any]) -> None:
    connection.execute("create temp table t (a int)")
    connection.execute("discard temp")
    assert _temporary(connection) == 0
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("select * from t")


def test_what_a_killed_node_left_goes_when_it_is_back(
    cluster: LocalCluster, connection: psycopg.Connection[Any]
) -> None:
    node = cluster.nodes[2]
    left = psycopg.connect(node.url, autocommit=True)
    left.execute("create temp table t as select 1 as a")
    cluster.kill(node)
    left.close()
    cluster.wait_ready()
    deadline = time.monotonic() + 20
    while _temporary(connection):
        assert time.monotonic() < deadline, "the schema is still there"
