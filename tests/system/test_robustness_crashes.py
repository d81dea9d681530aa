"""Nodes that are killed, held down and paused: what was acknowledged stays, the rest goes on.

Batches are rows of one statement over several tablets. Acknowledged ones must be there whole,
refused ones not at all, and those whose answer was lost either way, but whole.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from asking import ask, connect, within

from dqe.local_cluster import LocalCluster, NodeProcess

pytestmark = pytest.mark.cluster

# What a tester calls "a few seconds"; generous, since the machine may be busy.
SOON_S = 8.0
TABLE = (
    "CREATE TABLE t (batch int, n int, v int, PRIMARY KEY (batch, n))"
    " PARTITION BY HASH (n) PARTITIONS 6"
)
NODE_DOWN = psycopg.errors.CannotConnectNow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(3, tmp_path_factory.mktemp("crashes")) as running:
        yield running


@pytest.fixture(autouse=True)
def whole_cluster(cluster: LocalCluster) -> Iterator[None]:
    """Every test gets, and leaves, a cluster of three live nodes and no tables."""
    with connect(cluster.nodes[0]) as session:
        for name in ("t", "copies", "other"):
            session.execute(f"DROP TABLE IF EXISTS {name}".encode())
        session.execute(TABLE.encode())
        session.execute("CREATE TABLE copies (id int PRIMARY KEY, v int) REPLICATED")
        session.execute("INSERT INTO copies SELECT g, g FROM generate_series(1, 100) g")
    yield
    for node in cluster.nodes:
        if node.held:
            cluster.release(node)
    cluster.wait_ready()


def refused(node: NodeProcess, sql: str, limit_s: float = SOON_S) -> str:
    """The message with which a statement that needs a lost node fails, soon."""

    def run() -> str:
        with pytest.raises(NODE_DOWN) as caught:
            ask(node, sql)
        return str(caught.value)

    return str(within(limit_s, run))


class Writers:
    """Clients that write batches until stopped, and note what they were told."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._next_batch = 0
        self.sizes: dict[int, int] = {}
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self._threads = [
            threading.Thread(target=self._run, args=(seed, write))
            for seed, write in enumerate((self._insert, self._insert, self._copy))
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client waits for ever"

    def wait_acknowledged(self, count: int) -> None:
        wanted = len(self.acknowledged) + count
        ends_s = time.monotonic() + 30
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < ends_s, "nothing is acknowledged any more"
            self._stop.wait(0.02)

    def _run(self, seed: int, write: Callable[..., None]) -> None:
        chance = random.Random(seed)
        while not self._stop.is_set():
            with contextlib.suppress(psycopg.OperationalError):
                node = chance.choice(self._cluster.nodes)
                with connect(node) as session:
                    while not self._stop.is_set():
                        self._write(session, write, chance.choice((1, 8, 400)))
            self._stop.wait(0.1)

    def _write(self, session: psycopg.Connection[Any], write: Any, size: int) -> None:
        with self._lock:
            self._next_batch += 1
            batch = self._next_batch
            self.sizes[batch] = size
        try:
            write(session, batch, size)
        except psycopg.Error as error:
            if error.sqlstate not in (None, "40003"):
                self.refused.add(batch)
            raise
        self.acknowledged.add(batch)

    @staticmethod
    def _insert(session: psycopg.Connection[Any], batch: int, size: int) -> None:
        session.execute(
            "INSERT INTO t SELECT %s, g, 0 FROM generate_series(1, %s) g", (batch, size)
        )

    @staticmethod
    def _copy(session: psycopg.Connection[Any], batch: int, size: int) -> None:
        with session.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            copy.write("".join(f"{batch}\t{n}\t0\n" for n in range(1, size + 1)))

    def check(self, node: NodeProcess) -> None:
        counts = ask(node, "SELECT batch, count(*) FROM t GROUP BY batch")
        found: dict[int, int] = {int(batch): int(count) for batch, count in counts}
        torn = {b: n for b, n in found.items() if n != self.sizes[b]}
        assert not torn, "statements that are there in part"
        assert self.acknowledged <= found.keys(), "acknowledged statements that are lost"
        assert not self.refused & found.keys(), "refused statements that are there"


def test_acknowledged_statements_outlive_every_kill(cluster: LocalCluster) -> None:
    with cluster.kept_alive(), Writers(cluster) as writers:
        for victims in ([0], [1], [2], [0, 1, 2]):
            writers.wait_acknowledged(5)
            for victim in victims:
                cluster.kill(cluster.nodes[victim])
            cluster.wait_ready()
        writers.wait_acknowledged(3)
    for node in cluster.nodes:
        writers.check(node)
    # Nothing stays locked or in doubt.
    within(SOON_S, lambda: ask(cluster.nodes[0], "UPDATE t SET v = v + 1"))


def test_a_killed_coordinator_leaves_neither_rows_nor_locks(cluster: LocalCluster) -> None:
    with (
        contextlib.suppress(psycopg.OperationalError),
        connect(cluster.nodes[1]) as session,
        session.cursor() as cursor,
        cursor.copy("COPY t FROM STDIN") as copy,
    ):
        for batch in range(100):
            copy.write("".join(f"{batch}\t{n}\t0\n" for n in range(1000)))
        cluster.kill(cluster.nodes[1])
    with cluster.kept_alive():
        cluster.wait_ready()
    live = cluster.nodes[0]
    assert ask(live, "SELECT count(*) FROM t") == [(0,)]
    # The lease of a transaction whose coordinator is gone lapses, then others go on.
    within(
        SOON_S + 10, lambda: ask(live, "INSERT INTO t SELECT 1, g, 0 FROM generate_series(1, 50) g")
    )
    assert ask(live, "SELECT count(*) FROM t") == [(50,)]


def any_row(node: NodeProcess) -> bool:
    """Whether some row can be read by its key. What is down is waited for, so the first does."""
    for n in range(1, 13):
        with contextlib.suppress(NODE_DOWN):
            return ask(node, f"SELECT n FROM t WHERE n = {n}") == [(n,)]
    return False


@pytest.mark.parametrize("victim", [0, 2])
def test_a_node_that_is_down_stops_only_what_needs_it(cluster: LocalCluster, victim: int) -> None:
    ask(cluster.nodes[0], "DROP TABLE t")
    ask(cluster.nodes[0], f"{TABLE} WITH (replicas = 1)")
    ask(cluster.nodes[0], "INSERT INTO t SELECT 1, g, 0 FROM generate_series(1, 60) g")
    # A read waits until every tablet has heard how the insert ended.
    assert ask(cluster.nodes[0], "SELECT count(*) FROM t") == [(60,)]
    down = cluster.nodes[victim]
    cluster.hold(down)
    live = [node for node in cluster.nodes if node is not down]
    asked = [(n, sql) for n in live for sql in ("SELECT count(*) FROM t", "UPDATE t SET v = 1")]
    # Each is waited for a while before it is refused.
    with ThreadPoolExecutor(len(asked)) as clients:
        for word in clients.map(lambda one: refused(*one), asked):
            assert f"node {down.number} at" in word
    for node in live:
        assert any_row(node), "rows of partitions elsewhere are not to be had"
        # A replicated table answers and takes writes, and DDL goes on: two of three vote.
        assert within(SOON_S, lambda n=node: ask(n, "SELECT count(*) FROM copies")) == [(100,)]
        within(SOON_S, lambda n=node: ask(n, "UPDATE copies SET v = v + 1 WHERE id = 1"))
        within(SOON_S, lambda n=node: ask(n, "CREATE TABLE other (id int PRIMARY KEY)"))
        within(SOON_S, lambda n=node: ask(n, "DROP TABLE other"))
    cluster.release(down)
    cluster.wait_ready()
    assert ask(down, "SELECT count(*), sum(v) FROM t") == [(60, 0)]
    assert ask(down, "SELECT v FROM copies WHERE id = 1") == [(3,)]
    within(SOON_S, lambda: ask(down, "UPDATE t SET v = 2"))


def test_a_paused_node_is_waited_for(cluster: LocalCluster) -> None:
    ask(cluster.nodes[0], "INSERT INTO t SELECT 1, g, 0 FROM generate_series(1, 60) g")
    paused = cluster.nodes[1]
    cluster.kill(paused, signal.SIGSTOP)
    waker = threading.Timer(3.0, cluster.kill, (paused, signal.SIGCONT))
    waker.start()
    try:
        assert ask(cluster.nodes[0], "SELECT count(*) FROM t") == [(60,)]
    finally:
        waker.join()
    within(SOON_S, lambda: ask(paused, "UPDATE t SET v = 5"))
    assert ask(cluster.nodes[2], "SELECT sum(v) FROM t") == [(300,)]
