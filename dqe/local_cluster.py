"""Several node processes on one machine, kept alive as a service manager would.

Used by `dqe local`, `dqe demo`, the benchmarks and the tests. Every node is a `dqe start`
process of its own with a directory under one data directory; the first creates the cluster and
the others join it. A node that dies is started again after a second. Each node holds the read
end of a pipe whose write end is ours, and ends when that closes: no node outlives its keeper,
however the keeper ends.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from dqe.configuration import DATABASE, FORGOTTEN_STATUS, default_memory_limit_mib

HOST = "127.0.0.1"
RESTART_AFTER_S = 1.0
WATCH_EVERY_S = 0.1
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
JOIN_TIMEOUT_S = 10.0
_ADDRESSES_FILE = "local.json"
# Of ports that nobody asked for by number; a cluster takes two a node.
_FIRST_PORT, _PORTS = 12_000, 20_000
_port_count = itertools.count(os.getpid() * 100)
# A node that dies this often before the cluster was ever ready will not come up by itself.
_EARLY_DEATHS_ALLOWED = 3


class LocalClusterError(Exception):
    """The cluster did not come up; the text says which node and why."""


@dataclass(slots=True)
class NodeProcess:
    """One node: where it lives, how it is reached, and its process while it runs."""

    number: int
    directory: Path
    rpc_address: str
    pg_port: int
    process: subprocess.Popen[bytes] | None = None
    died_at: float | None = None
    early_deaths: int = 0
    # Where its log begins what the last start said.
    log_start: int = 0
    held: bool = False

    @property
    def log_path(self) -> Path:
        return self.directory.parent / f"node{self.number}.log"

    @property
    def url(self) -> str:
        return f"postgresql://dqe@{HOST}:{self.pg_port}/{DATABASE}"

    @property
    def runs(self) -> bool:
        """Whether it has a process; that may not answer yet."""
        return self.process is not None and self.process.poll() is None

    def log_tail(self, lines: int = 12) -> str:
        if not self.log_path.exists():
            return "(no log)"
        said = self.log_path.read_bytes()[self.log_start :].decode(errors="replace")
        return "\n".join(said.splitlines()[-lines:])


class LocalCluster:
    """Starts, watches and stops the processes; use as a context manager."""

    def __init__(
        self,
        node_count: int = 3,
        data_directory: str | os.PathLike[str] | None = None,
        pg_port: int = 0,
        *,
        regions: tuple[str, ...] = (),
        dead_after: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Without `data_directory` the nodes' data lie in a temporary one, which goes with `stop`.

        `pg_port` 0 picks free ports; otherwise nodes take pg_port, pg_port + 1, ...
        `regions` are given to the nodes in turn; `dead_after` is a time as the command line
        takes it ("20s"); `environment` is added to that of the nodes' processes.
        """
        self._regions = regions
        self._dead_after = dead_after
        self._environment = environment or {}
        self._temporary = data_directory is None
        self._directory = Path(data_directory or tempfile.mkdtemp(prefix="dqe-"))
        addresses = self._addresses(node_count)
        ports = [pg_port + i if pg_port else free_port() for i in range(node_count)]
        self.nodes = [
            NodeProcess(i + 1, self._directory / f"node{i + 1}", addresses[i], ports[i])
            for i in range(node_count)
        ]
        self._was_ready = False
        self._watching = threading.Lock()
        # The nodes inherit the read end as standard input.
        self._lifeline_read, self._lifeline_write = os.pipe()

    def __enter__(self) -> LocalCluster:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The first node's."""
        return self.nodes[0].url

    @property
    def pids(self) -> list[int]:
        """The processes of the nodes that have one."""
        return [node.process.pid for node in self.nodes if node.process is not None]

    def start(self) -> None:
        """Starts every node that does not run, the first time one after the other, so that
        they are numbered in the cluster as they are here."""
        for node in self.nodes:
            if node.process is None:
                self._spawn(node)
                self._wait_identity(node)

    def _wait_identity(self, node: NodeProcess) -> None:
        deadline = time.monotonic() + JOIN_TIMEOUT_S
        while not _has_identity(node.directory) and time.monotonic() < deadline:
            if node.process is not None and node.process.poll() is not None:
                return  # `watch` starts it again, or says why it cannot be
            time.sleep(0.02)

    def _spawn(self, node: NodeProcess) -> None:
        command = [
            sys.executable,
            "-m",
            "dqe",
            "start",
            "--data",
            str(node.directory),
            "--listen",
            node.rpc_address,
            "--pg",
            f"{HOST}:{node.pg_port}",
            "--memory-limit-mib",
            str(default_memory_limit_mib(len(self.nodes))),
            "--stop-when-stdin-closes",
        ]
        others = [n for n in self.nodes if n is not node]
        # The first founds the cluster, unless it lost its directory and the others did not.
        if node.number > 1 or any(_has_identity(other.directory) for other in others):
            command += ["--join", ",".join(other.rpc_address for other in others)]
        if self._dead_after is not None:
            command += ["--dead-after", self._dead_after]
        if self._regions:
            command += ["--region", self._regions[(node.number - 1) % len(self._regions)]]
        with node.log_path.open("ab") as log:
            node.log_start = log.tell()
            node.process = subprocess.Popen(
                command,
                stdin=self._lifeline_read,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        node.died_at = None

    def watch(self) -> None:
        """Starts dead nodes again, a second after their death, but those that the cluster has
        let go. Call it regularly, from any thread."""
        with self._watching:
            now = time.monotonic()
            for node in self.nodes:
                if node.process is None or node.process.poll() is None or node.held:
                    continue
                if node.process.poll() == FORGOTTEN_STATUS:
                    continue
                if node.died_at is None:
                    node.died_at = now
                    self._note_death(node)
                elif now - node.died_at >= RESTART_AFTER_S:
                    self._spawn(node)

    @contextlib.contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Calls `watch` from a thread of its own until the block ends."""
        stop = threading.Event()

        def keep() -> None:
            while not stop.wait(WATCH_EVERY_S):
                self.watch()

        keeper = threading.Thread(target=keep, name="dqe keeper")
        keeper.start()
        try:
            yield
        finally:
            stop.set()
            keeper.join()

    def _note_death(self, node: NodeProcess) -> None:
        if self._was_ready:
            return
        node.early_deaths += 1
        if node.early_deaths >= _EARLY_DEATHS_ALLOWED:
            raise LocalClusterError(f"node {node.number} does not start:\n{node.log_tail()}")

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until every node answers SQL and knows all the others; LocalClusterError if never."""
        deadline = time.monotonic() + timeout_s
        waiting = [node for node in self.nodes if not node.held]
        while waiting:
            self.watch()
            waiting = [node for node in waiting if not self._answers(node)]
            if waiting and time.monotonic() > deadline:
                node = waiting[0]
                raise LocalClusterError(
                    f"node {node.number} did not answer within {timeout_s:.0f} s:\n"
                    f"{node.log_tail()}"
                )
            if waiting:
                time.sleep(0.05)
        self._was_ready = True

    def _answers(self, node: NodeProcess) -> bool:
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(node.url, connect_timeout=2, autocommit=True) as connection,
        ):
            row = connection.execute("select count(*) from dqe.nodes").fetchone()
            return row is not None and row[0] >= len(self.nodes)
        return False

    def kill(self, node: NodeProcess, signal_number: int = signal.SIGKILL) -> None:
        """Sends a signal to a node's process, as a crash or an operator would."""
        if node.process is not None and node.process.poll() is None:
            node.process.send_signal(signal_number)
            if signal_number in (signal.SIGKILL, signal.SIGTERM):
                node.process.wait(timeout=STOP_TIMEOUT_S)

    def hold(self, node: NodeProcess) -> None:
        """Kills a node and keeps it down until `release`."""
        node.held = True
        self.kill(node)

    def release(self, node: NodeProcess) -> None:
        node.held = False
        self._spawn(node)

    def restart_node(self, node: NodeProcess) -> None:
        """Has one node end in good order, starts it again, and waits until all is well."""
        node.held = True
        self.kill(node, signal.SIGTERM)
        self.release(node)
        self.wait_ready()

    def add(self) -> NodeProcess:
        """Starts one more node, which joins the others."""
        number = len(self.nodes) + 1
        directory = self._directory / f"node{number}"
        node = NodeProcess(number, directory, _free_address(), free_port())
        self.nodes.append(node)
        self._spawn(node)
        return node

    def restart(self) -> None:
        """Stops all nodes in good order and starts them again."""
        self._terminate()
        self.start()
        self.wait_ready()

    def stop(self) -> None:
        """Ends every node: asked first, killed if it does not. A temporary directory goes."""
        self._terminate()
        for descriptor in (self._lifeline_read, self._lifeline_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _terminate(self) -> None:
        running = [n for n in self.nodes if n.process is not None and n.process.poll() is None]
        for node in running:
            assert node.process is not None
            node.process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for node in running:
            assert node.process is not None
            try:
                node.process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()
        for node in self.nodes:
            node.process = None

    def _addresses(self, node_count: int) -> list[str]:
        """The nodes' RPC addresses, the same at every start where the ports are still free."""
        path = self._directory / _ADDRESSES_FILE
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            kept: list[str] = json.loads(path.read_text()) if path.exists() else []
            addresses = [a if _is_free(a) else _free_address() for a in kept[:node_count]]
            while len(addresses) < node_count:
                addresses.append(_free_address())
            path.write_text(json.dumps(addresses + kept[node_count:]))
        except (OSError, ValueError) as error:
            reason = f'the directory "{self._directory}" cannot be used: {error}'
            raise LocalClusterError(reason) from error
        return addresses


def _has_identity(directory: Path) -> bool:
    path = directory / "identity.json"
    try:
        return bool(json.loads(path.read_text())["cluster_id"])
    except (OSError, ValueError, KeyError):
        return False


def free_port() -> int:
    """A loopback port that was free a moment ago.

    Below those that the system gives to outgoing connections, and counted from another place in
    every process: what is free now is not taken by a client, or another cluster's node, before
    ours listens.
    """
    for _ in range(_PORTS):
        port = _FIRST_PORT + next(_port_count) % _PORTS
        if _is_free(f"{HOST}:{port}"):
            return port
    raise LocalClusterError("no port is free")


def _free_address() -> str:
    return f"{HOST}:{free_port()}"


def _is_free(address: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, int(address.rpartition(":")[2])))
        except OSError:
            return False
        return True
