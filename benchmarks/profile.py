"""Where the time of one distributed query goes: its budget, step by step.

    python -m benchmarks.profile [--scale 0.1] [--queries 1,6] [--sql "select 1"] [--runs 20]

Three nodes hold TPC-H's tables; the first runs in this process, so that its functions can be
timed, the others are processes of their own. For each query it prints the steps on the first
node, in the order in which they begin: how often, the time of all of them together (of what
runs side by side that is more than has passed), and from when to when after the client sent it.
Below it the processor time that all three nodes spent on one query, which says more than the
time passed where other work runs beside.

Waiting is in it: an `execute` lasts until the first rows are there, a task until its inputs
have come. Statements are warm, so planning shows only where a plan is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import inspect
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from benchmarks import report
from benchmarks.tpch import load
from benchmarks.tpch_data import query
from catalog.timestamp_client import TimestampClient
from cluster.runtime import ProductionRuntime
from dqe.commands.start import SWITCH_INTERVAL_S, keep_freed_memory
from dqe.configuration import NodeConfiguration, default_memory_limit_mib
from dqe.local_cluster import HOST, free_port
from dqe.node import Node
from dqe.tpch import generate
from executor import queries, session
from executor.coordinator import QueryRun
from executor.session import Session
from executor.stage_task import StageTask
from storage import node as storage_node
from storage.node import NodeStorage

# What is timed: where it is looked up, its name there, what it is called in the table.
_STEPS: tuple[tuple[Any, str, str], ...] = (
    (session, "parse", "parse"),
    (Session, "execute", "execute, to the first rows"),
    (TimestampClient, "snapshot", "timestamp"),
    (queries, "bind_query", "bind"),
    (queries, "plan_query", "optimise"),
    (QueryRun, "start", "dispatch"),
    (NodeStorage, "open_snapshot", "snapshots, in all"),
    (storage_node, "open_views", "snapshots, in DuckDB"),
    (StageTask, "run", "tasks, in all"),
    (StageTask, "_register", "tasks: inputs"),
    (StageTask, "_sql", "tasks: text"),
    (StageTask, "_send_rows", "tasks: DuckDB and sending"),
    (QueryRun, "finish", "end of all tasks"),
)
_OTHER_NODES = 2
_DEFAULT_SQL = "select count(*) from orders"


class Stopwatch:
    """Times calls of wrapped functions, from whatever thread."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, float]] = []

    def watch(self, owner: Any, name: str, label: str) -> None:
        """Replaces the function by one that is timed."""
        setattr(owner, name, self._timed(getattr(owner, name), label))

    def _timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waited(*arguments: Any, **named: Any) -> Any:
                with self._time(label):
                    return await function(*arguments, **named)

            return waited

        @functools.wraps(function)
        def called(*arguments: Any, **named: Any) -> Any:
            with self._time(label):
                return function(*arguments, **named)

        return called

    @contextmanager
    def _time(self, label: str) -> Iterator[None]:
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.calls.append((label, began_s, time.perf_counter()))


@contextmanager
def _cluster(directory: Path) -> Iterator[tuple[str, list[int]]]:
    """Three nodes, the first in this process; its URL, and the processes."""
    ready, stop = threading.Event(), threading.Event()
    pg_port, address = free_port(), f"{HOST}:{free_port()}"
    memory_mib = default_memory_limit_mib(_OTHER_NODES + 1)
    configuration = NodeConfiguration(
        directory / "node1", address, f"{HOST}:{pg_port}", memory_limit_mib=memory_mib
    )

    async def serve() -> None:
        node = Node(configuration, ProductionRuntime())
        await node.start()
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.05)
        await node.stop()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    command = [sys.executable, "-m", "dqe", "start", "--join", address, "--pg", f"{HOST}:0"]
    command += ["--listen", f"{HOST}:0", "--memory-limit-mib", str(memory_mib)]
    others = [
        subprocess.Popen(
            [*command, "--data", str(directory / f"node{number}"), "--stop-when-stdin-closes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(2, 2 + _OTHER_NODES)
    ]
    try:
        yield f"postgresql://dqe@{HOST}:{pg_port}/dqe", [os.getpid(), *(o.pid for o in others)]
    finally:
        for other in others:
            other.communicate()
        stop.set()
        thread.join()


def _wait_for_nodes(connection: psycopg.Connection[Any]) -> None:
    while True:
        row = connection.execute("select count(*) from dqe.nodes").fetchone()
        if row is not None and row[0] == _OTHER_NODES + 1:
            return
        time.sleep(0.1)


def _processor_ms(processes: list[int]) -> float:
    """What the threads of these processes have used so far (Linux)."""
    total_ns = 0
    for process in processes:
        for statistics_file in Path(f"/proc/{process}/task").glob("*/schedstat"):
            try:
                total_ns += int(statistics_file.read_text().split()[0])
            except OSError:
                continue  # the thread has just ended
    return total_ns / 1e6


def _profile(
    connection: psycopg.Connection[Any],
    watch: Stopwatch,
    processes: list[int],
    sql: str,
    runs: int,
) -> tuple[list[list[str]], float, float]:
    """The steps of the query as rows of a table, its median time and its processor time."""
    text = sql.encode()
    for _ in range(3):
        connection.execute(text).fetchall()
    steps: dict[str, list[tuple[int, float, float, float]]] = defaultdict(list)
    times_ms = []
    used_ms = _processor_ms(processes)
    for _ in range(runs):
        watch.calls.clear()
        began_s = time.perf_counter()
        connection.execute(text).fetchall()
        times_ms.append((time.perf_counter() - began_s) * 1000)
        for label, calls in _by_label(watch.calls).items():
            total_ms = sum(end - begin for begin, end in calls) * 1000
            first_ms = (min(begin for begin, _ in calls) - began_s) * 1000
            last_ms = (max(end for _, end in calls) - began_s) * 1000
            steps[label].append((len(calls), total_ms, first_ms, last_ms))
    used_ms = (_processor_ms(processes) - used_ms) / runs
    medians = {
        label: [statistics.median(column) for column in zip(*measured, strict=True)]
        for label, measured in steps.items()
    }
    rows = [
        [label, f"{count:.0f}", f"{total:.2f}", f"{first:.2f}", f"{last:.2f}"]
        for label, (count, total, first, last) in sorted(medians.items(), key=lambda m: m[1][2])
    ]
    return rows, statistics.median(times_ms), used_ms


def _by_label(calls: list[tuple[str, float, float]]) -> dict[str, list[tuple[float, float]]]:
    grouped: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for label, began_s, ended_s in list(calls):
        grouped[label].append((began_s, ended_s))
    return grouped


def main() -> int:
    """Runs the queries and prints their budgets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--queries", default="")
    parser.add_argument("--sql", default="")
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    texts = {f"Q{n}": query(int(n)) for n in arguments.queries.split(",") if n}
    if arguments.sql or not texts:
        sql = arguments.sql or _DEFAULT_SQL
        texts[sql] = sql
    watch = Stopwatch()
    for owner, name, label in _STEPS:
        watch.watch(owner, name, label)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="dqe-profile-") as scratch:
        files = generate(arguments.scale, Path(scratch) / "rows")
        with (
            _cluster(Path(scratch) / "nodes") as (url, processes),
            psycopg.connect(url, autocommit=True) as connection,
        ):
            _wait_for_nodes(connection)
            load(connection, files, "hash", arguments.replicas)
            for name, sql in texts.items():
                rows, time_ms, used_ms = _profile(connection, watch, processes, sql, arguments.runs)
                title = f"{name}: {time_ms:.1f} ms, {used_ms:.1f} ms of processors"
                header = ["step", "calls", "ms together", "from ms", "to ms"]
                report.print_table(title, header, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
