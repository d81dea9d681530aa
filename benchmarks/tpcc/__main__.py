"""TPC-C's mix on a cluster and on PostgreSQL 18, and the consistency conditions behind it.

    python -m benchmarks.tpcc [--warehouses 10] [--minutes 1] [--terminals 8] [--kill]
        [--share 0.1] [--method hybrid] [--isolation repeatable-read] [--no-postgres]

`--share` loads a share of the specification's customers, orders and items, into tables of the
access method `--method`. `--kill` kills the nodes in turn while the terminals work. Ends with
status 1 where a consistency condition does not hold.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import peers, report
from benchmarks.tpcc import consistency, population, schema, sizes
from benchmarks.tpcc.terminals import Run, Tally, run
from dqe.local_cluster import LocalCluster

_ISOLATION = {
    "read-committed": psycopg.IsolationLevel.READ_COMMITTED,
    "repeatable-read": psycopg.IsolationLevel.REPEATABLE_READ,
    "serializable": psycopg.IsolationLevel.SERIALIZABLE,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--warehouses", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--terminals", type=int, default=8)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--share", type=float, default=1.0, help="of the specification's rows")
    parser.add_argument("--method", choices=("hybrid", "row"), default="hybrid")
    parser.add_argument("--isolation", choices=_ISOLATION, default="repeatable-read")
    parser.add_argument("--no-postgres", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Runs the benchmark and prints the table; 0 where every condition holds."""
    arguments = _arguments()
    outcomes = {"dqe": _on_dqe(arguments)}
    if not arguments.no_postgres:
        outcomes["PostgreSQL"] = _on_postgres(arguments)
    _show(outcomes, arguments)
    broken = {name: found for name, (_, found) in outcomes.items() if found}
    for name, found in broken.items():
        for meaning, rows in found.items():
            print(f"{name}: condition {meaning} is broken by {rows} rows")
    return 1 if broken else 0


_Outcome = tuple[Tally, dict[str, int]]


def _on_dqe(arguments: argparse.Namespace) -> _Outcome:
    with (
        tempfile.TemporaryDirectory(prefix="dqe-tpcc-") as directory,
        LocalCluster(arguments.nodes, Path(directory)) as cluster,
    ):
        urls = [node.url for node in cluster.nodes]
        return _measured(urls, arguments, arguments.nodes * 2, cluster)


def _on_postgres(arguments: argparse.Namespace) -> _Outcome:
    with peers.postgres() as connection:
        url = connection.info.dsn
        return _measured([url], arguments, None, None)


def _measured(
    urls: Sequence[str],
    arguments: argparse.Namespace,
    parts: int | None,
    cluster: LocalCluster | None,
) -> _Outcome:
    size = sizes.scaled(arguments.warehouses, arguments.share)
    with psycopg.connect(urls[0], autocommit=True) as connection:
        _load(connection, size, parts, arguments.method)
    plan = Run(
        urls, size, arguments.terminals, arguments.minutes * 60, _ISOLATION[arguments.isolation]
    )
    pids = () if cluster is None else cluster.pids
    tally = run(plan, pids, cluster if arguments.kill else None)
    with psycopg.connect(urls[-1], autocommit=True) as connection:
        return tally, consistency.breaches(connection, size)


def _load(
    connection: psycopg.Connection[Any], size: sizes.Size, parts: int | None, method: str
) -> None:
    began = time.monotonic()
    schema.create_tables(connection, parts, method)
    rows = population.populate(connection, size)
    copied_s = time.monotonic() - began
    schema.create_indexes(connection)
    connection.execute(b"ANALYZE")
    broken = consistency.breaches(connection, size)
    if broken:
        raise AssertionError(f"the first rows break {broken}")
    whole_s = time.monotonic() - began
    print(f"loaded {rows:,} rows in {copied_s:.1f} s, indexed, analysed, checked {whole_s:.1f} s")


def _show(outcomes: dict[str, _Outcome], arguments: argparse.Namespace) -> None:
    rows = []
    for name, (tally, broken) in outcomes.items():
        spent_ms = None if tally.spent_s is None else tally.spent_s * 1_000 / tally.count
        rows.append(
            [
                name,
                f"{tally.count:,}",
                f"{tally.new_orders_a_minute:,.0f}",
                *_latencies([s for listed in tally.latencies_s.values() for s in listed]),
                "-" if spent_ms is None else f"{spent_ms:.1f}",
                ", ".join(f"{state}: {count}" for state, count in tally.retried.items()) or "-",
                str(tally.kills),
                str(len(broken)),
            ]
        )
    header = ["", "done", "new orders/min", "median ms", "p99 ms", "processor ms"]
    header += ["retried", "kills", "broken"]
    report.print_table(f"TPC-C mix, {arguments.warehouses} warehouses", header, rows)
    kinds = [
        [f"{name}: {kind}", f"{len(listed):,}", *_latencies(listed)]
        for name, (tally, _) in outcomes.items()
        for kind, listed in sorted(tally.latencies_s.items())
    ]
    report.print_table("By transaction", ["", "done", "median ms", "p99 ms"], kinds)
    if len(outcomes) == 2:
        ours, theirs = (tally.new_orders_a_minute for tally, _ in outcomes.values())
        print(f"ratio to PostgreSQL: {ours / theirs:.3f}")
    figures = {name: _figures(tally) for name, (tally, _) in outcomes.items()}
    print(f"written to {report.write_json('tpcc', {**vars(arguments), 'outcomes': figures})}")


def _latencies(listed_s: Sequence[float]) -> tuple[str, str]:
    """Median and 99th percentile in milliseconds."""
    ordered_ms = sorted(latency_s * 1_000 for latency_s in listed_s)
    p99_ms = ordered_ms[len(ordered_ms) * 99 // 100]
    return f"{statistics.median(ordered_ms):.1f}", f"{p99_ms:.1f}"


def _figures(tally: Tally) -> dict[str, Any]:
    return {
        "done": tally.done,
        "retried": tally.retried,
        "new_orders_a_minute": tally.new_orders_a_minute,
        "spent_s": tally.spent_s,
    }


if __name__ == "__main__":
    sys.exit(main())
