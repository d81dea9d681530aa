"""Nodes die under a steady load: nothing acknowledged is lost, and somebody else goes on soon.

The loads and figures are those of `benchmarks.failover`, `bank` and `tpch_failover`, for a short
while; times are bounded generously.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from asking import ask

from benchmarks import bank, failover, tpch_failover
from benchmarks.clients import CONNECTION_LOST, OUTCOME_UNKNOWN
from benchmarks.tpch import load
from dqe.commands import check, recover
from dqe.local_cluster import LocalCluster, NodeProcess
from dqe.tpch import TABLES, generate

pytestmark = pytest.mark.cluster

ROUNDS = 1
CLIENTS = 4
DOWN_S = 2.5
BANK_S = 12.0
TPCH_SCALE = 0.01
KINDS = ("write", "read")
UNKNOWN = (CONNECTION_LOST, OUTCOME_UNKNOWN)
# A leader is replaced in 1.1 to 2 s; the machine of a test may be busy.
GAP_LIMIT_S = 8.0
SOON_S = 20.0
REPAIRED_S = 30.0
NODE_DOWN = psycopg.errors.CannotConnectNow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(3, tmp_path_factory.mktemp("failover")) as running:
        yield running


@pytest.fixture(autouse=True)
def whole_cluster(cluster: LocalCluster) -> Iterator[None]:
    """Every test gets an empty table, and leaves three live nodes."""
    ask(cluster.nodes[0], "DROP TABLE IF EXISTS t")
    ask(
        cluster.nodes[0],
        "CREATE TABLE t (k bigint PRIMARY KEY, v int) PARTITION BY HASH (k) PARTITIONS 6",
    )
    yield
    for node in cluster.nodes:
        if node.held:
            cluster.release(node)
    cluster.wait_ready()


def test_no_acknowledged_write_is_lost_whichever_node_dies(
    cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = asyncio.run(failover.measure(cluster, ROUNDS, CLIENTS, DOWN_S))
    with capsys.disabled():
        print()
        failover.show(outcome)
    ask(cluster.nodes[0], "DROP TABLE steady")
    assert outcome.lost == []
    assert outcome.stale == []
    # What was refused could have been run again unseen.
    assert set(outcome.errors) <= {f"{what} {state}" for what in KINDS for state in UNKNOWN}
    assert outcome.longest_gap_s < GAP_LIMIT_S


def test_no_sum_of_money_is_wrong_while_nodes_die(
    cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = bank.Ledger(100)
    asyncio.run(bank.run(cluster, ledger, clients=8, seconds=BANK_S, kills=True, seed=1))
    with capsys.disabled():
        print()
        bank.show(ledger, BANK_S)
    for table in ("accounts", "moves"):
        ask(cluster.nodes[0], f"DROP TABLE {table}")
    assert ledger.wrong == []
    assert ledger.kills > 0
    assert len(ledger.acknowledged) > 0
    assert len(ledger.sums) > 0


def test_queries_are_answered_right_or_asked_again_while_nodes_die(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    files = generate(TPCH_SCALE, tmp_path)
    answers = tpch_failover.duckdb_answers(files)
    with psycopg.connect(cluster.nodes[0].url, autocommit=True) as session:
        load(session, files, "hash")
    asked = tpch_failover.ask_while_nodes_die(cluster, answers, seconds=0, clients=2)
    outcome = asyncio.run(asked)
    for table in reversed(TABLES):
        ask(cluster.nodes[0], f"DROP TABLE {table}")
    assert outcome.wrong == []
    assert outcome.kills == len(cluster.nodes)
    assert len(outcome.right) > len(answers)


def test_tables_are_made_and_written_while_a_node_is_down(cluster: LocalCluster) -> None:
    cluster.hold(cluster.nodes[2])
    live = cluster.nodes[0]
    ask(live, "DROP TABLE IF EXISTS made")
    began_s = time.monotonic()
    ask(live, "CREATE TABLE made (k int PRIMARY KEY, v int)")
    ask(live, "INSERT INTO made SELECT g, g FROM generate_series(1, 100) g")
    assert time.monotonic() - began_s < SOON_S
    assert ask(cluster.nodes[1], "SELECT count(*) FROM made") == [(100,)]
    cluster.release(cluster.nodes[2])
    cluster.wait_ready()
    assert ask(cluster.nodes[2], "SELECT sum(v) FROM made") == [(5050,)]
    ask(live, "DROP TABLE made")


def test_tablet_without_a_majority_is_named_and_comes_back_or_is_recovered(
    cluster: LocalCluster,
) -> None:
    ask(cluster.nodes[0], "DROP TABLE IF EXISTS here")
    # Voters of the catalog stay a majority: only the table loses its own.
    ask(
        cluster.nodes[0],
        "CREATE TABLE here (k int PRIMARY KEY, v int) WITH (replicas = 2, nodes = '1,3')",
    )
    ask(cluster.nodes[0], "INSERT INTO here SELECT g, g FROM generate_series(1, 50) g")
    ask(cluster.nodes[0], "INSERT INTO t SELECT g, g FROM generate_series(1, 50) g")
    cluster.hold(cluster.nodes[2])
    statements = (
        "INSERT INTO here SELECT 100 + g, g FROM generate_series(1, 9) g",
        "SELECT count(*) FROM here",
    )
    with ThreadPoolExecutor(len(statements)) as clients:
        for word, took_s in clients.map(lambda sql: refused(cluster.nodes[0], sql), statements):
            assert "tablet" in word
            assert took_s < 2 * SOON_S
    assert ask(cluster.nodes[1], "SELECT count(*) FROM t") == [(50,)]
    cluster.release(cluster.nodes[2])
    cluster.wait_ready()
    until_counted(cluster.nodes[0], 50)
    ask(cluster.nodes[0], "INSERT INTO here VALUES (200, 1)")
    # The node is gone again, for good as far as the operator knows.
    cluster.hold(cluster.nodes[2])
    lost = "SELECT tablet_id FROM dqe.repairs WHERE trouble = 'no majority' ORDER BY 1"
    began_s = time.monotonic()
    while not (tablets := ask(cluster.nodes[0], lost)):
        assert time.monotonic() - began_s < SOON_S
    for (tablet_id,) in tablets:
        assert recover.run(str(tablet_id), cluster.nodes[1].url, accept_data_loss=True) == 0
    until_counted(cluster.nodes[1], 51)
    ask(cluster.nodes[0], "INSERT INTO here VALUES (201, 1)")
    cluster.release(cluster.nodes[2])
    cluster.wait_ready()
    until_counted(cluster.nodes[2], 52)
    began_s = time.monotonic()
    while ask(cluster.nodes[0], "SELECT count(*) FROM dqe.repairs") != [(0,)]:
        assert time.monotonic() - began_s < REPAIRED_S, "the lost replicas are not replaced"
    assert check.run(cluster.nodes[0].url) == 0
    ask(cluster.nodes[0], "DROP TABLE here")


def refused(node: NodeProcess, sql: str) -> tuple[str, float]:
    """The message with which a statement fails, and after how many seconds."""
    began_s = time.monotonic()
    with pytest.raises(NODE_DOWN) as caught:
        ask(node, sql)
    return str(caught.value), time.monotonic() - began_s


def until_counted(node: NodeProcess, rows: int) -> None:
    began_s = time.monotonic()
    while True:
        with contextlib.suppress(NODE_DOWN):
            assert ask(node, "SELECT count(*) FROM here") == [(rows,)]
            return
        assert time.monotonic() - began_s < REPAIRED_S, "the tablet does not come back"


def test_durability_changes_while_the_table_is_in_use(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    for durability, voters in (("sync", 3), ("async", 1), ("quorum", 3)):
        ask(node, f"ALTER TABLE t SET (durability = '{durability}')")
        ask(node, f"INSERT INTO t VALUES ({voters + len(durability)}, 1)")
        shown = "SELECT DISTINCT durability, voters FROM dqe.tablets WHERE tablet_id > 0"
        assert ask(node, shown) == [(durability, voters)]
    assert ask(node, "SELECT count(*) FROM t") == [(3,)]
