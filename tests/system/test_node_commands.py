"""`dqe node` and `dqe recover` against whole nodes in this process, with real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvloop
from asking import PATIENCE_S, until

from cluster.runtime import ProductionRuntime
from dqe.commands import node as node_commands
from dqe.commands import recover
from dqe.configuration import NodeConfiguration
from dqe.node import Node

pytestmark = pytest.mark.slow


class Nodes:
    """Three nodes on a loop of their own; `urls` are theirs, in order."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None
        self.urls: list[str] = []
        self.forgotten: list[int] = []

    def __enter__(self) -> Nodes:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._live())
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._ready.set()

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runtime = ProductionRuntime()
        nodes: list[Node] = []
        for number in range(1, 4):
            configuration = NodeConfiguration(
                self._directory / f"node{number}",
                "127.0.0.1:0",
                "127.0.0.1:0",
                join=(nodes[0].rpc_address,) if nodes else (),
                threads=1,
                memory_limit_mib=256,
                dead_after=None if nodes else "90s",
            )
            node = Node(configuration, runtime)
            node.on_forgotten = lambda number=number: self.forgotten.append(number)  # type: ignore[misc]
            await node.start()
            nodes.append(node)
        self.urls = [f"postgresql://{node.pg_address}/dqe" for node in nodes]
        self._ready.set()
        await self._stop.wait()
        for node in reversed(nodes):
            await node.stop()
        await runtime.close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Nodes(tmp_path_factory.mktemp("nodes")) as running:
        yield running


def ask(session: psycopg.Connection[Any], sql: str) -> list[tuple[Any, ...]]:
    return session.execute(sql.encode()).fetchall()


def test_recovery_is_for_lost_majorities(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    with psycopg.connect(nodes.urls[0], autocommit=True) as session:
        session.execute("CREATE TABLE u (k int PRIMARY KEY)")
        tablet_id = ask(session, "SELECT min(tablet_id) FROM dqe.tablets")[0][0]
        until(lambda: ask(session, "SELECT count(*) FROM dqe.repairs") == [(0,)], "all is there")
    for what in (None, recover.ALL):
        assert recover.run(what, nodes.urls[0]) == 0
        assert "every tablet have a majority" in capsys.readouterr().out
    assert recover.run(recover.CATALOG, nodes.urls[0], accept_data_loss=True) == 1
    assert "needs no recovery" in capsys.readouterr().err
    assert recover.run("everything", nodes.urls[0]) == 2
    assert 'is no tablet\'s number, "catalog" or "all"' in capsys.readouterr().err
    assert recover.run(str(tablet_id), nodes.urls[1], accept_data_loss=True) == 1
    assert "needs no recovery" in capsys.readouterr().err
    assert recover.run("999", nodes.urls[1]) == 1
    assert "does not exist" in capsys.readouterr().err
    with psycopg.connect(nodes.urls[0], autocommit=True) as session:
        session.execute("DROP TABLE u")


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("SELECT dqe.set_cluster_setting('dead_after', '1s')", "22023"),
        ("SELECT dqe.set_cluster_setting('dead_after', 'soon')", "22023"),
        ("SELECT dqe.set_cluster_setting('nothing', '1s')", "42704"),
        ("SELECT dqe.drain_node('x')", "22023"),
        ("SELECT dqe.drain_node()", "42883"),
        ("SELECT dqe.drain_node(k) FROM generate_series(1, 3) g(k)", "0A000"),
        ("SELECT 1 WHERE dqe.drain_node(1) = 'x'", "0A000"),
    ],
)
def test_bad_calls_are_refused(nodes: Nodes, sql: str, sqlstate: str) -> None:
    with (
        psycopg.connect(nodes.urls[0], autocommit=True) as session,
        pytest.raises(psycopg.Error) as refused,
    ):
        session.execute(sql.encode())
    assert refused.value.sqlstate == sqlstate
    with psycopg.connect(nodes.urls[0], autocommit=True) as session:
        states = ask(session, "SELECT DISTINCT state FROM dqe.nodes")
    assert states == [("active",)], "it was carried out all the same"


def test_nodes_are_drained_and_decommissioned_and_refusals_say_why(
    nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    first = nodes.urls[0]
    with psycopg.connect(first, autocommit=True) as session:
        session.execute("CREATE TABLE t (k int PRIMARY KEY, v text)")
        session.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) g(i)")
        session.execute(
            "CREATE TABLE one (k int PRIMARY KEY) PARTITION BY HASH (k) PARTITIONS 3"
            " WITH (replicas = 1)"
        )
        until(lambda: ask(session, "SELECT count(*) FROM dqe.repairs") == [(0,)], "all is there")
        setting = ask(session, "SELECT name, value FROM dqe.cluster_settings")
        assert setting == [("dead_after", "90s")]
        assert node_commands.status(first) == 0
        assert "Every tablet has all its replicas" in capsys.readouterr().out

        assert node_commands.drain(2, first) == 1
        assert 'table "one" has no other voting replica' in capsys.readouterr().err
        session.execute("DROP TABLE one")
        assert node_commands.drain(2, first) == 0
        assert "node 2 leads nothing" in capsys.readouterr().out
        assert ask(session, "SELECT state FROM dqe.nodes WHERE node_id = 2") == [("draining",)]
        assert node_commands.activate(2, first) == 0
        assert node_commands.activate(9, first) == 1

        assert node_commands.decommission(3, first) == 1
        assert 'table "t" could not keep its replicas' in capsys.readouterr().err
        session.execute("ALTER TABLE t SET (replicas = 2)")
        # Asked of the node that goes: the rest is seen through another one.
        assert node_commands.decommission(3, nodes.urls[2]) == 0
        assert "no member of the cluster any more" in capsys.readouterr().out
        assert ask(session, "SELECT node_id FROM dqe.nodes ORDER BY 1") == [(1,), (2,)]
        assert ask(session, "SELECT count(*) FROM t") == [(1000,)]
        until(lambda: nodes.forgotten == [3], "the node knows")
