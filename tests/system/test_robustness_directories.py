"""What a node refuses to start on, and how it says so; and how `dqe local` ends.

Every refusal is one line on standard error, perhaps with DETAIL and HINT, and exit status 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dqe.local_cluster import HOST, free_port

pytestmark = pytest.mark.cluster

START_TIMEOUT_S = 60.0


class NodeUnderTest:
    """One `dqe start` process over a directory."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.port = free_port()
        self._log = directory.with_name(directory.name + ".log")
        self.rpc = f"{HOST}:{free_port()}"
        command = [sys.executable, "-m", "dqe", "start", "--data", str(directory)]
        command += ["--listen", self.rpc, "--pg", f"{HOST}:{self.port}", *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        ends_s = time.monotonic() + START_TIMEOUT_S
        while True:
            assert self.process.poll() is None, self.log()
            try:
                return psycopg.connect(
                    host=HOST, port=self.port, user="dqe", dbname="dqe", autocommit=True
                )
            except psycopg.OperationalError:
                assert time.monotonic() < ends_s, self.log()
                time.sleep(0.1)

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        with self.connect() as session:
            cursor = session.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        return self._log.read_text()

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextlib.contextmanager
def node_on(directory: Path, *options: str) -> Iterator[NodeUnderTest]:
    node = NodeUnderTest(directory, *options)
    try:
        yield node
    finally:
        if node.process.poll() is None:
            node.end()


def refusal(directory: Path, *options: str) -> str:
    """What a node that does not start says, INFO lines aside."""
    with node_on(directory, *options) as node:
        assert node.process.wait(START_TIMEOUT_S) == 1, node.log()
        said = node.log()
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("dqe: ")]
    assert len(lines) == 1, said
    return said


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a node that was killed with 500 rows in `t`."""
    directory = tmp_path_factory.mktemp("directories") / "node"
    with node_on(directory) as node:
        node.ask("CREATE TABLE t (id int PRIMARY KEY)")
        node.ask("INSERT INTO t SELECT g FROM generate_series(1, 400) g")
        for start in range(500, 600, 10):
            node.ask(f"INSERT INTO t SELECT g FROM generate_series({start}, {start + 9}) g")
        # Checks that take the same directory and ports while the node runs.
        assert f"The process is {node.process.pid}." in refusal(directory)
        assert "Address already in use" in refusal(
            directory.with_name("other"), "--pg", f"{HOST}:{node.port}"
        )
        assert "Address already in use" in refusal(
            directory.with_name("other"), "--listen", node.rpc
        )
        said = refusal(directory.with_name("joiner"), "--join", f"{HOST}:{node.port}")
        assert "does not speak the protocol between dqe nodes" in said
        assert node.ask("SELECT count(*) FROM t") == [(500,)]
    return directory


@pytest.fixture
def directory(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "node")


def test_identities_that_are_not_ours(directory: Path) -> None:
    file = directory / "identity.json"
    identity = json.loads(file.read_text())
    file.write_text(json.dumps({**identity, "format": identity["format"] + 1}))
    assert "was written by another version of dqe" in refusal(directory)
    file.write_text(json.dumps({"version": 1}))
    assert "is damaged" in refusal(directory)
    file.unlink()
    assert "its identity.json is missing" in refusal(directory)
    file.write_text(json.dumps(identity))
    with node_on(directory) as node:
        assert node.ask("SELECT count(*) FROM t") == [(500,)]


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is no data directory of dqe" in refusal(tmp_path)
    assert "could not open data directory" in refusal(tmp_path / "file")


def test_addresses_that_are_none(tmp_path: Path) -> None:
    assert 'invalid address: "nonsense"' in refusal(tmp_path / "a", "--join", "nonsense")
    assert "invalid address" in refusal(tmp_path / "a", "--pg", f"{HOST}:70000")
    assert not (tmp_path / "a").exists()


def test_a_log_damaged_in_its_middle_is_refused_a_torn_tail_is_cut(directory: Path) -> None:
    segment = min((directory / "wal").iterdir())
    content = segment.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 3] ^= 0x40
    segment.write_bytes(flipped)
    assert "write-ahead log is damaged" in refusal(directory)
    assert segment.read_bytes() == flipped, "a refused log is left as it is"
    # What a crash leaves: the beginning of a batch that was never acknowledged.
    segment.write_bytes(content + content[-40:-9])
    with node_on(directory) as node:
        assert node.ask("SELECT count(*), max(id) FROM t") == [(500, 599)]
        assert "cut a torn tail" in node.log()


def test_lost_stores_are_rebuilt_from_the_log(directory: Path) -> None:
    (store,) = (directory / "tablets").glob("*.duckdb")
    content = bytearray(store.read_bytes())
    for damage in (b"", os.urandom(len(content)), bytes(4096 * 8)):
        if damage:
            store.write_bytes(damage)
        else:
            store.unlink()
        with node_on(directory) as node:
            assert node.ask("SELECT count(*), max(id) FROM t") == [(500, 599)]
            node.ask("INSERT INTO t VALUES (1000)")
            node.ask("DELETE FROM t WHERE id = 1000")


def test_another_clusters_directory_joins_no_cluster(directory: Path, tmp_path: Path) -> None:
    with node_on(tmp_path / "founder") as founder:
        founder.ask("SELECT 1")
        # It belongs to its own cluster and goes on there, whatever --join says.
        with node_on(directory, "--join", founder.rpc) as stranger:
            assert stranger.ask("SELECT count(*) FROM t") == [(500,)]
        assert founder.ask("SELECT count(*) FROM dqe.nodes") == [(1,)]


def test_little_memory_spills_and_the_end_is_silent(tmp_path: Path) -> None:
    with node_on(tmp_path / "node", "--memory-limit-mib", "256") as node:
        sorted_away = (
            "SELECT count(*) FROM (SELECT a.a * 2000 + b.b AS id, repeat('x', 60) || a.a AS s"
            " FROM generate_series(1, 2000) a, generate_series(1, 2000) b ORDER BY s, id) x"
            " WHERE length(s) > (SELECT min(length(s)) FROM (SELECT repeat('x', 50) AS s) y)"
        )
        assert node.ask(sorted_away) == [(4_000_000,)]
        # An end in good order says nothing, DuckDB's bindings of what they still hold least.
        assert node.end(signal.SIGTERM) == 0
        assert "leak" not in node.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dqe_local_restarts_its_nodes_and_ends_cleanly(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "dqe", "local", "--nodes", "2"]
    command += ["--data", str(tmp_path / "cluster"), "--pg-port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as local:
        assert local.stdout is not None
        assert local.stdout.readline().startswith("ready")
        first = children_of(local.pid)
        assert len(first) == 2
        if number == signal.SIGTERM:
            os.kill(first[0], signal.SIGKILL)
            ends_s = time.monotonic() + START_TIMEOUT_S
            while len(set(children_of(local.pid)) - set(first)) < 1:
                assert time.monotonic() < ends_s
                time.sleep(0.05)
        nodes = children_of(local.pid)
        local.send_signal(number)
        assert local.wait(40) == 0
    assert not [pid for pid in nodes if Path(f"/proc/{pid}").exists()]


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    alive = [int(word) for word in text.split()]
    return [child for child in alive if "Z" not in _state_of(child)]


def _state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
