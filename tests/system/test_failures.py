"""Nodes whose disks are wiped, full, damaged or from yesterday; pauses; a rolling restart."""

from __future__ import annotations

import contextlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dqe.local_cluster import LocalCluster, NodeProcess

pytestmark = pytest.mark.cluster

SOON_S = 60.0
# What a client does not give up for: the statement did not happen, or may be made again.
RETRYABLE = (psycopg.OperationalError, psycopg.errors.SerializationFailure)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(3, tmp_path / "cluster") as running, watched(running):
        ask(running.nodes[0], "CREATE TABLE c (id int PRIMARY KEY, v int) REPLICATED")
        ask(running.nodes[0], "INSERT INTO c SELECT g, 0 FROM generate_series(1, 2000) g")
        yield running


@contextlib.contextmanager
def watched(cluster: LocalCluster) -> Iterator[None]:
    """Nodes that die are started again meanwhile."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            cluster.watch()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def ask(node: NodeProcess, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(node.url, autocommit=True, connect_timeout=10) as session:
        cursor = session.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


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


def until(happened: Callable[[], bool], what: str) -> None:
    ends_s = time.monotonic() + SOON_S
    while not happened():
        assert time.monotonic() < ends_s, what
        time.sleep(0.1)


def check(node: NodeProcess) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dqe", "check", node.url]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def all_equal(cluster: LocalCluster, sum_of_v: int) -> None:
    """Every node answers the same, and `dqe check` finds nothing."""
    for node in cluster.nodes:
        assert ask_until(node, "SELECT count(*), sum(v) FROM c") == [(2000, sum_of_v)]
    until(lambda: check(cluster.nodes[0]).returncode == 0, "replicas stay unequal")


def starts(node: NodeProcess) -> bool:
    """Whether a held node, started by hand, lives; its exit status is 1 where it refuses."""
    assert node.process is not None
    try:
        return node.process.wait(SOON_S) != 1
    except subprocess.TimeoutExpired:
        return True


def store_of(node: NodeProcess) -> Path:
    return max((node.directory / "tablets").glob("*.duckdb"), key=lambda p: p.stat().st_size)


def test_wiped_node_comes_back_as_a_new_one(cluster: LocalCluster) -> None:
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


def test_older_copy_of_a_directory_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    node = cluster.nodes[2]
    cluster.hold(node)
    shutil.copytree(node.directory, tmp_path / "copy")
    cluster.release(node)
    cluster.wait_ready()
    for _ in range(20):
        ask_until(cluster.nodes[0], "UPDATE c SET v = v + 1 WHERE id = 1")
    time.sleep(3)  # it tells how far its log is every two seconds
    cluster.hold(node)
    shutil.rmtree(node.directory)
    shutil.copytree(tmp_path / "copy", node.directory)
    cluster._spawn(node)
    assert not starts(node)
    assert "data directory is an older copy of itself" in node.log_tail(400)
    # As told to, it begins with an empty directory.
    shutil.rmtree(node.directory)
    cluster.release(node)
    assert ask_until(node, "SELECT v FROM c WHERE id = 1") == [(20,)]


def test_emptied_log_is_refused(cluster: LocalCluster) -> None:
    node = cluster.nodes[1]
    cluster.hold(node)
    shutil.rmtree(node.directory / "wal")
    cluster._spawn(node)
    assert not starts(node)
    assert "has lost its write-ahead log" in node.log_tail(400)


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


def test_flipped_bytes_in_a_store_never_show(cluster: LocalCluster) -> None:
    ask(cluster.nodes[0], "UPDATE c SET v = id")
    node = cluster.nodes[1]
    chance = random.Random(1)
    for _ in range(3):
        cluster.kill(node, signal.SIGTERM)
        cluster.wait_ready()  # its store is checkpointed
        cluster.hold(node)
        store = store_of(node)
        data = bytearray(store.read_bytes())
        for _ in range(3):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        store.write_bytes(data)
        cluster.release(node)
        cluster.wait_ready()
        with contextlib.suppress(psycopg.errors.DataCorrupted, *RETRYABLE):
            assert ask(node, "SELECT count(*), sum(v) FROM c") == [(2000, 2001000)]
        all_equal(cluster, 2001000)


@pytest.mark.parametrize("number", [0, 1, 2])
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


class Clients:
    """Each adds one to rows of its own, again where that failed and did not happen."""

    def __init__(self, cluster: LocalCluster, count: int) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self.done = [0] * count
        self.retries = 0
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive(), "a client waits for ever"

    def _run(self, number: int) -> None:
        while not self._stop.wait(0.01):
            try:
                self._set(number, self.done[number] + 1)
                self.done[number] += 1
            except Exception as error:  # noqa: BLE001 - told at the end
                self.failed.append(f"client {number}: {error!r}")
                return

    def _set(self, number: int, value: int) -> None:
        """May be made twice: it says what the row is to be, not how much more."""
        for attempt in range(60):
            node = self._cluster.nodes[(number + attempt) % 3]
            try:
                ask(node, f"UPDATE c SET v = {value} WHERE id = {number + 1}")
                found = ask(node, f"SELECT v FROM c WHERE id = {number + 1}")
                assert found == [(value,)], f"wrote {value}, read {found}"
                return
            except RETRYABLE:
                self.retries += 1
                time.sleep(0.5)
        raise AssertionError("no node took the statement for half a minute")


def test_rolling_restart_fails_no_statement_for_good(cluster: LocalCluster) -> None:
    with Clients(cluster, 3) as clients:
        for node in cluster.nodes:
            before = sum(clients.done)
            cluster.kill(node, signal.SIGTERM)
            time.sleep(1.5)
            cluster.wait_ready()
            until(lambda before=before: sum(clients.done) > before + 3, "nothing goes on")  # type: ignore[misc]
    assert not clients.failed
    for number, done in enumerate(clients.done):
        assert ask_until(cluster.nodes[0], f"SELECT v FROM c WHERE id = {number + 1}") == [(done,)]
    all_equal(cluster, sum(clients.done))
