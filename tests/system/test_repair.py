"""Processes that are gone for good, that join, and that are taken out, under a steady load."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from asking import PATIENCE_S, ask, connect, until

from dqe.commands import check, node
from dqe.configuration import FORGOTTEN_STATUS
from dqe.local_cluster import LocalCluster, NodeProcess

pytestmark = pytest.mark.cluster

TABLE = (
    "CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY HASH (k) PARTITIONS 6"
    " WITH (replicas = 3)"
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(5, tmp_path, dead_after="6s") as running:
        yield running


class Load:
    """Writes one row after the other through one node, each until it is acknowledged."""

    def __init__(self, through: NodeProcess) -> None:
        self._through = through
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.written = 0
        self.retries = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = connect(self._through)
        while not self._stop.is_set():
            try:
                connection.execute(
                    "INSERT INTO t VALUES (%s, 'w') ON CONFLICT DO NOTHING", [-1 - self.written]
                )
                self.written += 1
            except psycopg.OperationalError:
                self.retries += 1
                time.sleep(0.05)
                if connection.closed:
                    connection = connect(self._through)
        connection.close()


def number_of(cluster: LocalCluster, of: NodeProcess) -> int:
    port = f"%:{of.pg_port}"
    found = ask(cluster.nodes[0], f"SELECT node_id FROM dqe.nodes WHERE pg_address LIKE '{port}'")
    return int(found[0][0])


def is_whole(through: NodeProcess) -> bool:
    return ask(through, "SELECT count(*) FROM dqe.repairs") == [(0,)]


def load_of(through: NodeProcess, node_id: int) -> tuple[int, int]:
    """Replicas and leaders."""
    found = ask(through, f"SELECT tablets, leaders FROM dqe.nodes WHERE node_id = {node_id}")
    return (int(found[0][0]), int(found[0][1])) if found else (0, 0)


def test_nodes_die_join_and_are_taken_out_under_load(cluster: LocalCluster) -> None:
    first = cluster.nodes[0]
    with connect(first) as session:
        session.execute(TABLE)
        session.execute("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20000) g(i)")
    until(lambda: is_whole(first), "the replicas are there")
    with Load(first) as load:
        for victim in (cluster.nodes[3], cluster.nodes[2]):
            node_id = number_of(cluster, victim)
            cluster.hold(victim)
            state = f"SELECT state FROM dqe.nodes WHERE node_id = {node_id}"
            until(lambda state=state: ask(first, state) == [("dead",)], "it is dead")  # type: ignore[misc]
            until(lambda: is_whole(first), "its replicas are rebuilt")
            assert load_of(first, node_id) == (0, 0)
        joined = cluster.add()
        until(lambda: answers(joined), "the new node answers")
        new_id = number_of(cluster, joined)
        until(lambda: load_of(first, new_id)[0] >= 4 and is_whole(first), "it takes replicas")
        until(lambda: load_of(first, new_id)[1] >= 1, "it leads its share")
        leaving = cluster.nodes[1]
        leaving_id = number_of(cluster, leaving)
        assert node.drain(leaving_id, first.url) == 0
        assert load_of(first, leaving_id)[1] == 0
        assert node.decommission(leaving_id, first.url) == 0
        until(lambda: is_whole(first), "nothing lacks a replica")
        assert leaving.process is not None
        assert leaving.process.wait(PATIENCE_S) == FORGOTTEN_STATUS
        # Three nodes are left, and three replicas wanted.
        assert node.decommission(new_id, first.url) == 1
    assert load.written > 0
    rows = ask(joined, "SELECT count(*), count(*) FILTER (WHERE k < 0) FROM t")
    assert rows == [(20000 + load.written, load.written)]
    assert check.run(first.url) == 0


def answers(of: NodeProcess) -> bool:
    try:
        return ask(of, "SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False
