"""Sequences over sessions and nodes: each session knows its own last number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dqe.local_cluster import LocalCluster

pytestmark = pytest.mark.cluster

Connection = psycopg.Connection[Any]


@pytest.fixture
def sessions(cluster: LocalCluster) -> Iterator[list[Connection]]:
    """Two sessions of the first node, one of another."""
    urls = [cluster.nodes[0].url, cluster.nodes[0].url, cluster.nodes[1].url]
    opened = [psycopg.connect(url, autocommit=True) for url in urls]
    opened[0].execute("create sequence q")
    yield opened
    opened[0].execute("drop sequence q")
    for connection in opened:
        connection.close()


def value(connection: Connection, sql: str) -> Any:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


def test_each_session_knows_its_own_number(sessions: list[Connection]) -> None:
    drawn = [value(session, "select nextval('q')") for session in sessions]
    assert sorted(drawn) == [1, 2, 3]
    assert [value(session, "select currval('q')") for session in sessions] == drawn
    assert value(sessions[0], "select nextval('q')") == 4
    assert [value(s, "select lastval()") for s in sessions] == [4, *drawn[1:]]
    sessions[2].execute("discard sequences")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        sessions[2].execute("select currval('q')")


def test_numbers_of_a_table_cut_over_nodes(sessions: list[Connection]) -> None:
    one = sessions[0]
    one.execute("create table cut (k int primary key) partition by hash (k) partitions 6")
    try:
        one.execute("insert into cut select generate_series(1, 50)")
        found = one.execute("select nextval('q'), k from cut").fetchall()
        assert sorted(n for n, _ in found) == list(range(1, 51))
        assert value(one, "select currval('q')") in {n for n, _ in found}
    finally:
        one.execute("drop table cut")
