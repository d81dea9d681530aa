"""Clients that leave, cancel, crowd, dawdle or send nonsense: everybody else is served."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asking import ask, connect, within

from dqe.local_cluster import HOST, LocalCluster, NodeProcess

pytestmark = pytest.mark.cluster

SOON_S = 8.0
ENDLESS = (
    "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b"
    " WHERE a.a % 7 = b.b % 11"
)
IDLE_CONNECTIONS = 2000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(3, tmp_path_factory.mktemp("clients")) as running:
        yield running


@pytest.fixture(autouse=True)
def table(cluster: LocalCluster) -> None:
    with connect(cluster.nodes[0]) as session:
        session.execute("DROP TABLE IF EXISTS t")
        session.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY HASH (id) PARTITIONS 6"
        )
        session.execute("INSERT INTO t SELECT g, 0 FROM generate_series(1, 1000) g")


def vanish(session: psycopg.Connection[Any]) -> None:
    """The client's machine is gone, as far as the server can see."""
    with socket.socket(fileno=os.dup(session.pgconn.socket)) as raw:
        raw.shutdown(socket.SHUT_RDWR)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs `work(0)`, `work(1)`, ... at once; raises the first error of any."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - carried to the waiting thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def wait_idle(node: NodeProcess) -> None:
    """Until the node's process takes next to no processor time."""
    assert node.process is not None
    ends_s = time.monotonic() + SOON_S
    while True:
        before = _ticks(node.process.pid)
        time.sleep(0.5)
        if _ticks(node.process.pid) - before < 15:  # of about 50
            return
        assert time.monotonic() < ends_s, "work goes on that nobody waits for"


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_client_that_vanishes_stops_its_query(cluster: LocalCluster) -> None:
    session = connect(cluster.nodes[1])
    leave = threading.Timer(0.7, vanish, (session,))
    leave.start()
    with pytest.raises(psycopg.OperationalError):
        session.execute(ENDLESS)
    leave.join()
    session.close()
    for node in cluster.nodes:
        wait_idle(node)


def test_a_client_that_vanishes_amid_a_copy_leaves_nothing(cluster: LocalCluster) -> None:
    with (
        contextlib.suppress(psycopg.OperationalError),
        connect(cluster.nodes[1]) as session,
        session.cursor() as cursor,
        cursor.copy("COPY t FROM STDIN") as copy,
    ):
        for start in range(10_000, 200_000, 1000):
            copy.write("".join(f"{start + i}\t1\n" for i in range(1000)))
        vanish(session)
    within(SOON_S, lambda: ask(cluster.nodes[0], "UPDATE t SET v = v + 1"))
    assert ask(cluster.nodes[2], "SELECT count(*), sum(v) FROM t") == [(1000, 1000)]


@pytest.mark.parametrize(
    "statement",
    [
        ENDLESS,
        "SELECT pg_sleep(60)",
        f"UPDATE t SET v = v + 1 FROM ({ENDLESS}) x WHERE count > 0",
        f"INSERT INTO t SELECT 5000, count FROM ({ENDLESS}) x",
        f"COPY ({ENDLESS}) TO STDOUT",
    ],
)
def test_cancel_and_time_limit_end_every_kind_of_statement(
    cluster: LocalCluster, statement: str
) -> None:
    def run(session: psycopg.Connection[Any]) -> None:
        with session.cursor() as cursor:
            if statement.startswith("COPY"):
                with cursor.copy(statement.encode()) as copy:
                    assert copy.read() == b""
            else:
                cursor.execute(statement.encode())

    with connect(cluster.nodes[2]) as session:
        canceller = threading.Timer(0.4, session.cancel)
        canceller.start()
        with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
            within(SOON_S, lambda: run(session))
        canceller.join()
        session.execute("SET statement_timeout = '400ms'")
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            within(SOON_S, lambda: run(session))
        assert session.execute("SELECT sum(v) FROM t").fetchall() == [(0,)]
    within(SOON_S, lambda: ask(cluster.nodes[0], "UPDATE t SET v = 0"))


def test_cancel_reaches_a_copy_that_waits_for_its_client(cluster: LocalCluster) -> None:
    with connect(cluster.nodes[1]) as session:

        def copy_until_told() -> None:
            with session.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
                copy.write("5000\t1\n")
                session.cancel()
                # The server speaks before the client says anything more.
                ready, _, _ = select.select([session.pgconn.socket], [], [], SOON_S)
                assert ready
                copy.write("5001\t1\n")

        with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
            copy_until_told()
        assert session.execute("SELECT count(*) FROM t").fetchall() == [(1000,)]


def test_a_hundred_clients(cluster: LocalCluster) -> None:
    def work(number: int) -> None:
        with connect(cluster.nodes[number % 3]) as session:
            for turn in range(2):
                key = 10_000 + number * 10 + turn
                session.execute("INSERT INTO t VALUES (%s, %s)", (key, number))
                found = session.execute("SELECT v FROM t WHERE id = %s", (key,)).fetchall()
                assert found == [(number,)]

    in_threads(100, work)
    assert ask(cluster.nodes[0], "SELECT count(*) FROM t") == [(1200,)]


def test_writers_of_the_same_rows_lose_no_change(cluster: LocalCluster) -> None:
    def work(number: int) -> None:
        with connect(cluster.nodes[number % 3]) as session:
            for _ in range(10):
                session.execute("UPDATE t SET v = v + 1 WHERE id = 7")

    in_threads(4, work)
    assert ask(cluster.nodes[0], "SELECT v FROM t WHERE id = 7") == [(40,)]


def test_copies_into_one_table_at_once(cluster: LocalCluster) -> None:
    def work(number: int) -> None:
        with (
            connect(cluster.nodes[number % 3]) as session,
            session.cursor() as cursor,
            cursor.copy("COPY t FROM STDIN") as copy,
        ):
            first = (number + 1) * 100_000
            for start in range(first, first + 10_000, 1000):
                copy.write("".join(f"{start + i}\t1\n" for i in range(1000)))

    in_threads(4, work)
    assert ask(cluster.nodes[1], "SELECT count(*), sum(v) FROM t") == [(41_000, 40_000)]


def test_definitions_change_under_readers_and_writers(cluster: LocalCluster) -> None:
    stop = threading.Event()
    # A statement planned before a change may find its fragment or table gone, even while it
    # commits (40003); and an INSERT finds rows whose DELETE did.
    expected = {"42P01", "42703", "40001", "40003", "55000", "57P03", "23505"}

    def use(number: int) -> None:
        statements = (
            "SELECT count(*) FROM t",
            f"INSERT INTO t (id) SELECT g FROM generate_series({number}000000, {number}000050) g",
            f"DELETE FROM t WHERE id >= {number}000000",
        )
        with connect(cluster.nodes[number % 3]) as session:
            while not stop.is_set():
                for statement in statements:
                    try:
                        session.execute(statement.encode())
                    except psycopg.Error as error:
                        if error.sqlstate not in expected:
                            raise

    def change() -> None:
        try:
            with connect(cluster.nodes[0]) as session:
                for _ in range(3):
                    session.execute("ALTER TABLE t ADD COLUMN w int DEFAULT 7")
                    session.execute("TRUNCATE t")
                    session.execute("ALTER TABLE t DROP COLUMN w")
                    session.execute("DROP TABLE t")
                    session.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        finally:
            stop.set()

    in_threads(4, lambda number: change() if number == 0 else use(number))
    within(SOON_S, lambda: ask(cluster.nodes[1], "UPDATE t SET v = 1"))


def test_a_slow_client_holds_nobody_up(cluster: LocalCluster) -> None:
    big = "SELECT a.a, repeat('x', 500) FROM generate_series(1, 400) a, generate_series(1, 1000) b"
    with connect(cluster.nodes[0]) as slow, slow.cursor() as cursor:
        rows = iter(cursor.stream(big.encode()))
        next(rows)
        assert within(SOON_S, lambda: ask(cluster.nodes[0], "SELECT count(*) FROM t")) == [(1000,)]
        assert 1 + sum(1 for _ in rows) == 400_000


def test_nonsense_at_both_ports(cluster: LocalCluster) -> None:
    chance = random.Random(7)
    startup = b"\x00\x00\x00\x1f\x00\x03\x00\x00user\x00dqe\x00database\x00dqe\x00\x00"
    openings = (
        b"",
        startup,
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\xff\xff\xff\xff",
        b"GET / HTTP",
    )
    node = cluster.nodes[0]
    rpc_port = int(node.rpc_address.rpartition(":")[2])
    with connect(node) as bystander:
        for number in range(60):
            port = (node.pg_port, rpc_port)[number % 2]
            with socket.create_connection((HOST, port)) as raw, contextlib.suppress(OSError):
                raw.sendall(openings[number % len(openings)] + chance.randbytes(2000))
                if number % 3 == 0:
                    raw.settimeout(0.05)
                    raw.recv(1000)
        huge = startup + b"Q\x7f\xff\xff\xffselect"
        with socket.create_connection((HOST, node.pg_port)) as raw:
            raw.sendall(huge)
            assert bystander.execute("SELECT count(*) FROM t").fetchall() == [(1000,)]
    for other in cluster.nodes:
        assert ask(other, "SELECT count(*) FROM dqe.nodes") == [(3,)]
    assert node.process is not None
    assert node.process.poll() is None


def test_two_thousand_idle_connections(cluster: LocalCluster) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE_CONNECTIONS + 500:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE_CONNECTIONS + 500), hard))
    startup = b"\x00\x00\x00\x1f\x00\x03\x00\x00user\x00dqe\x00database\x00dqe\x00\x00"
    node = cluster.nodes[2]
    with contextlib.ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            raw = stack.enter_context(socket.create_connection((HOST, node.pg_port), timeout=30))
            raw.sendall(startup)
            assert raw.recv(1) == b"R"
        assert within(SOON_S, lambda: ask(node, "SELECT count(*) FROM t")) == [(1000,)]
    assert within(SOON_S, lambda: ask(node, "SELECT count(*) FROM t")) == [(1000,)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
