"""TPC-C's mix on a cluster and on PostgreSQL 18, and the consistency conditions behind it.

    python -m benchmarks.tpcc [--warehouses 10] [--minutes 1] [--terminals 8] [--kill]
        [--share 0.1] [--isolation repeatable-read] [--no-postgres]

`--share` loads a share of the specification's customers, orders and items. `--kill` kills the
nodes in turn while the terminals work. Ends with status 1 where a consistency condition does not
hold.
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
        killed = cluster if arguments.kill else None
        return _measured(urls, arguments, arguments.nodes * 2, killed)


def _on_postgres(arguments: argparse.Namespace) -> _Outcome:
    with peers.postgres() as connection:
        url = connection.info.dsn
        return _measured([url], arguments, None, None)


def _measured(
    urls: Sequence[str],
    arguments: argparse.Namespace,
    parts: int | None,
    killed: LocalCluster | None,
) -> _Outcome:
    size = sizes.scaled(arguments.warehouses, arguments.share)
    with psycopg.connect(urls[0], autocommit=True) as connection:
        _load(connection, size, parts)
    plan = Run(
        urls, size, arguments.terminals, arguments.minutes * 60, _ISOLATION[arguments.isolation]
    )
    tally = run(plan, killed)
    with psycopg.connect(urls[-1], autocommit=True) as connection:
        return tally, consistency.breaches(connection, size)


def _load(connection: psycopg.Connection[Any], size: sizes.Size, parts: int | None) -> None:
    began = time.monotonic()
    schema.create_tables(connection, parts)
    rows = population.populate(connection, size)
    schema.create_indexes(connection)
    connection.execute(b"ANALYZE")
    broken = consistency.breaches(connection, size)
    if broken:
        raise AssertionError(f"the first rows break {broken}")
    print(f"loaded {rows:,} rows in {time.monotonic() - began:.1f} s")


def _show(outcomes: dict[str, _Outcome], arguments: argparse.Namespace) -> None:
    rows = []
    for name, (tally, broken) in outcomes.items():
        latencies_ms = sorted(latency_s * 1_000 for latency_s in tally.latencies_s)
        rows.append(
            [
                name,
                f"{sum(tally.done.values()):,}",
                f"{tally.new_orders_a_minute:,.0f}",
                f"{statistics.median(latencies_ms):.1f}",
                f"{latencies_ms[len(latencies_ms) * 99 // 100]:.1f}",
                ", ".join(f"{state}: {count}" for state, count in tally.retried.items()) or "-",
                str(tally.kills),
                str(len(broken)),
            ]
        )
    header = ["", "done", "new orders/min", "median ms", "p99 ms", "retried", "kills", "broken"]
    report.print_table(f"TPC-C mix, {arguments.warehouses} warehouses", header, rows)
    if len(outcomes) == 2:
        ours, theirs = (tally.new_orders_a_minute for tally, _ in outcomes.values())
        print(f"ratio to PostgreSQL: {ours / theirs:.2f}")
    figures = {
        name: {"done": tally.done, "retried": tally.retried, "new_orders_a_minute": rate}
        for name, (tally, _) in outcomes.items()
        for rate in (tally.new_orders_a_minute,)
    }
    print(f"written to {report.write_json('tpcc', {**vars(arguments), 'outcomes': figures})}")


if __name__ == "__main__":
    sys.exit(main())
