"""Nodes whose disks are wiped or full; pauses; a rolling restart under load.

Damaged and outdated directories: `test_nodes_in_process`.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asking import ask, until

from benchmarks import rolling_restart
from dqe.local_cluster import LocalCluster, NodeProcess

pytestmark = pytest.mark.cluster

SOON_S = 60.0
# What a client does not give up for: the statement did not happen, or may be made again.
RETRYABLE = (psycopg.OperationalError, psycopg.errors.SerializationFailure)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(3, tmp_path_factory.mktemp("failures")) as running, running.kept_alive():
        yield running


@pytest.fixture
def cluster(shared: LocalCluster) -> LocalCluster:
    """Three nodes that live, and shall live afterwards, with 2000 rows on each."""
    make_rows(shared.nodes[0])
    return shared


@pytest.fixture
def cluster_to_harm(tmp_path: Path) -> Iterator[LocalCluster]:
    """The same for one test alone."""
    with LocalCluster(3, tmp_path / "cluster") as running, running.kept_alive():
        make_rows(running.nodes[0])
        yield running


def make_rows(node: NodeProcess) -> None:
    ask(node, "DROP TABLE IF EXISTS c")
    ask(node, "CREATE TABLE c (id int PRIMARY KEY, v int) REPLICATED")
    ask(node, "INSERT INTO c SELECT g, 0 FROM generate_series(1, 2000) g")


def ask_until(node: NodeProcess, sql: str) -> list[tuple[Any, ...]]:
    """The answer, however often the statement has to be tried again."""
    ends_s = time.monotonic() + SOON_S
    while True:
        try:
            return ask(node, sql)
        except RETRYABLE:
            if time.monotonic() > ends_s:
                raise
            time.sleep(0.2)


def check(node: NodeProcess) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dqe", "check", node.url]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def all_equal(cluster: LocalCluster, sum_of_v: int) -> None:
    """Every node answers the same, and `dqe check` finds nothing."""
    for node in cluster.nodes:
        assert ask_until(node, "SELECT count(*), sum(v) FROM c") == [(2000, sum_of_v)]
    until(lambda: check(cluster.nodes[0]).returncode == 0, "replicas stay unequal")


def test_wiped_node_comes_back_as_a_new_one(cluster_to_harm: LocalCluster) -> None:
    cluster = cluster_to_harm
    node = cluster.nodes[2]
    cluster.hold(node)
    shutil.rmtree(node.directory)
    ask_until(cluster.nodes[0], "UPDATE c SET v = 1 WHERE id <= 10")
    cluster.release(node)
    until(lambda: "node 4: PostgreSQL" in node.log_tail(400), "it did not join anew")
    nodes = "SELECT node_id FROM dqe.nodes WHERE live ORDER BY 1"
    until(
        lambda: ask_until(cluster.nodes[0], nodes) == [(1,), (2,), (4,)],
        "the old node is not noticed to be gone, or the new one to be there",
    )
    assert ask_until(node, "SELECT count(*), sum(v) FROM c") == [(2000, 10)]


def test_node_with_a_full_disk_stops_and_comes_back(cluster: LocalCluster) -> None:
    node = cluster.nodes[1]
    assert node.process is not None
    process = node.process
    log = max((node.directory / "wal").iterdir())
    # What a full disk does to a write: it fails half-way, with an error.
    full_at = log.stat().st_size + 20_000
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (full_at, resource.RLIM_INFINITY))
    written = 0
    while process.poll() is None:
        written += 1
        assert written < 500
        ask_until(cluster.nodes[0], f"UPDATE c SET v = {written} WHERE id <= 200")
    assert process.returncode == 70
    assert "the write-ahead log" in node.log_tail(400)
    ask_until(cluster.nodes[0], "UPDATE c SET v = 7 WHERE id <= 200")
    cluster.wait_ready()
    all_equal(cluster, 1400)


@pytest.mark.parametrize("number", [0, 1])
def test_node_suspended_for_longer_than_its_lease_answers_nothing_old(
    cluster: LocalCluster, number: int
) -> None:
    node, other = cluster.nodes[number], cluster.nodes[(number + 1) % 3]
    with psycopg.connect(node.url, autocommit=True) as session:
        session.execute("SELECT 1 FROM c")
        cluster.kill(node, signal.SIGSTOP)
        try:
            ask_until(other, "UPDATE c SET v = 5 WHERE id = 1")
            time.sleep(3)
        finally:
            cluster.kill(node, signal.SIGCONT)
        with contextlib.suppress(*RETRYABLE):
            assert session.execute("SELECT v FROM c WHERE id = 1").fetchall() == [(5,)]
    cluster.wait_ready()
    all_equal(cluster, 5)


def test_rolling_restart_fails_no_statement_that_one_retry_does_not_fix(
    cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = asyncio.run(rolling_restart.restart_all(cluster, 1))
    with capsys.disabled():
        print()
        rolling_restart.show(outcome)
    assert outcome.failed == []
    assert outcome.wrong == []
    assert all(len(answers) for answers in outcome.answers.values())
    all_equal(cluster, 0)
