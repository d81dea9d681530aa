"""TPC-H over hybrid tables beside the same over columnar ones, which keep no rows by key.

    python -m benchmarks.tpch_methods [--scale 0.1] [--nodes 3] [--fragmentation hash] [--runs 3]
                                      [--replicas 1] [--queries 1,6] [--data DIR]

Both lie in one cluster, in a schema each. Every query runs once uncounted over either, then
`--runs` times over one and the other in turn, so that what else the machine does meets both. Time
passed says what a client waits, processor time of all nodes (to 10 ms) what it costs; where other
work runs beside, the latter is the one to believe. The ratios' geometric means are the last line.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import report, tpch_command
from benchmarks.tpch import differs, load, normalised
from benchmarks.tpch_data import query
from dqe.local_cluster import LocalCluster
from dqe.tpch import generate

METHODS = ("columnar", "hybrid")
# What processor time is told in.
_TICK_S = 0.01


@dataclass(slots=True)
class _Timed:
    """One query over one method: seconds of each run, and of processors for all of them."""

    passed_s: list[float] = field(default_factory=list)
    spent_s: float = 0.0


def main() -> int:
    """Runs the benchmark; status 1 where an answer over hybrid tables differs."""
    arguments = tpch_command.compared(__doc__, scale=0.1).parse_args()
    numbers = tpch_command.query_numbers(arguments)
    with tempfile.TemporaryDirectory(prefix="dqe-tpch-") as scratch:
        files = generate(arguments.scale, tpch_command.rows_directory(arguments, scratch))
        with (
            LocalCluster(arguments.nodes, Path(scratch) / "cluster") as cluster,
            psycopg.connect(cluster.url, autocommit=True) as connection,
        ):
            for method in METHODS:
                connection.execute(f"CREATE SCHEMA {method}".encode())
                _choose(connection, method)
                load(connection, files, arguments.fragmentation, arguments.replicas, using=method)
            wrong = [n for n in numbers if not _same(connection, n)]
            times = {n: _times(connection, cluster.pids, n, arguments.runs) for n in numbers}
    _show(times, arguments)
    for number in wrong:
        print(f"query {number} answers differently over hybrid tables", file=sys.stderr)
    return 1 if wrong else 0


def _choose(connection: psycopg.Connection[Any], method: str) -> None:
    """Names mean tables of this access method."""
    connection.execute(f"SET search_path TO {method}".encode())


def _same(connection: psycopg.Connection[Any], number: int) -> bool:
    answers = []
    for method in METHODS:
        _choose(connection, method)
        answers.append(normalised(connection.execute(query(number).encode()).fetchall()))
    return differs(*answers) is None


def _times(
    connection: psycopg.Connection[Any], pids: Sequence[int], number: int, runs: int
) -> dict[str, _Timed]:
    text = query(number).encode()
    times = {method: _Timed() for method in METHODS}
    for _ in range(runs):
        for method, timed in times.items():
            _choose(connection, method)
            spent_s, began = report.spent_s(pids), time.perf_counter()
            connection.execute(text).fetchall()
            timed.passed_s.append(time.perf_counter() - began)
            timed.spent_s += report.spent_s(pids) - spent_s
    return times


def _show(times: dict[int, dict[str, _Timed]], arguments: argparse.Namespace) -> None:
    rows, passed_ratios, spent_ratios = [], [], []
    for number, found in times.items():
        columnar, hybrid = (found[method] for method in METHODS)
        passed = [statistics.median(timed.passed_s) for timed in (columnar, hybrid)]
        passed_ratios.append(passed[1] / passed[0])
        # A query may cost less than what is counted.
        spent = [max(timed.spent_s, _TICK_S) / arguments.runs for timed in (columnar, hybrid)]
        spent_ratios.append(spent[1] / spent[0])
        cells = [f"{value * 1000:.0f}" for value in (*passed, *spent)]
        ratios = [f"{passed_ratios[-1]:.2f}", f"{spent_ratios[-1]:.2f}"]
        rows.append([f"Q{number}", *cells[:2], ratios[0], *cells[2:], ratios[1]])
    means = [report.geometric_mean(ratios) for ratios in (passed_ratios, spent_ratios)]
    rows.append(["geometric mean", "", "", f"{means[0]:.3f}", "", "", f"{means[1]:.3f}"])
    header = ["query", "columnar ms", "hybrid ms", "ratio", "columnar cpu ms", "hybrid cpu ms"]
    report.print_table(tpch_command.title(arguments), [*header, "ratio"], rows)
    content = {
        **tpch_command.settings(arguments),
        "ratio": means[0],
        "processor_time_ratio": means[1],
        "queries": {
            n: {m: {"passed_s": t.passed_s, "spent_s": t.spent_s} for m, t in found.items()}
            for n, found in times.items()
        },
    }
    print(f"written to {report.write_json('tpch_methods', content)}")


if __name__ == "__main__":
    sys.exit(main())
