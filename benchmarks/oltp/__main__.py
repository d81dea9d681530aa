"""Transactions a second on a local cluster, beside one PostgreSQL 18 on the same machine.

    python -m benchmarks.oltp [--nodes 3] [--replicas 3] [--scale 10] [--seconds 5] [--runs 3]
        [--clients 1,8,32] [--modes simple,extended,prepared] [--workloads select,tpcb,...]
        [--one-node] [--small]

Both servers are started by the command and idle while the other one is measured; every figure is
the median of `--runs`, which are taken in turn. Connections are spread over all nodes, unless
`--one-node`. Both are durable: every commit is synced before it is answered. Beside the figures
stands what the processors did in all nodes for one transaction, which other work on the machine
does not change. `--small` is a run of a minute or so that shows that all of it works.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from benchmarks import report
from benchmarks.oltp import pgbench, workloads
from benchmarks.oltp.pgbench import Run
from benchmarks.oltp.workloads import WORKLOADS, Workload
from benchmarks.peers import postgres
from dqe.configuration import DATABASE
from dqe.local_cluster import HOST, LocalCluster

# What replicas may take to come or go.
SETTLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    workload: Workload
    mode: str
    clients: int


def main() -> int:
    """Runs it and prints the table."""
    arguments = _arguments()
    cases = [
        Case(workload, mode, clients)
        for workload in WORKLOADS
        if workload.name in arguments.workloads.split(",")
        for mode in arguments.modes.split(",")
        for clients in map(int, arguments.clients.split(","))
    ]
    with (
        tempfile.TemporaryDirectory(prefix="dqe-oltp-") as directory,
        postgres() as peer,
        LocalCluster(arguments.nodes, Path(directory)) as cluster,
    ):
        peer_url, own_url = _url_of(peer), _spread(cluster, one_node=arguments.one_node)
        _prepare(peer, peer_url, arguments.scale, cut=False)
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            _prepare(connection, cluster.url, arguments.scale, cut=True)
            if arguments.replicas:
                _keep(connection, arguments.replicas)
            measured = [
                _measure(case, own_url, cluster.pids, peer_url, arguments.seconds, arguments.runs)
                for case in cases
            ]
            whole = connection.execute(workloads.sum_is_zero().encode()).fetchone()
    _print(cases, measured)
    figures = [_figures(case, *runs) for case, runs in zip(cases, measured, strict=True)]
    content = {
        "nodes": arguments.nodes,
        "replicas": arguments.replicas or "default",
        "scale": arguments.scale,
        "seconds": arguments.seconds,
        "runs": arguments.runs,
        "one node": arguments.one_node,
        "load": os.getloadavg()[0],
        "cases": figures,
    }
    print(f"written to {report.write_json('oltp', content)}")
    if whole != (True,):
        print("money was made or lost: transfers were done by half", file=sys.stderr)
    return 0 if whole == (True,) and not any(own.failed for own, _ in measured) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--replicas", type=int, help="of every tablet; the peer has one")
    parser.add_argument("--scale", type=int, default=10, help="of pgbench's tables")
    parser.add_argument("--seconds", type=int, default=5, help="of one run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--modes", default=",".join(pgbench.MODES))
    parser.add_argument("--workloads", default=",".join(w.name for w in WORKLOADS))
    parser.add_argument("--one-node", action="store_true", help="all clients at the first node")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.scale, arguments.seconds, arguments.runs = 1, 1, 1
    return arguments


def _url_of(peer: psycopg.Connection[tuple[object, ...]]) -> str:
    info = peer.info
    return f"host={info.host} port={info.port} dbname={info.dbname} user={info.user}"


def _spread(cluster: LocalCluster, *, one_node: bool) -> str:
    """Has libpq take the nodes in any order, another one for each connection."""
    ports = [node.pg_port for node in cluster.nodes][: 1 if one_node else None]
    hosts = ",".join([HOST] * len(ports))
    listed = ",".join(map(str, ports))
    return f"host={hosts} port={listed} dbname={DATABASE} user=dqe load_balance_hosts=random"


def _prepare(
    connection: psycopg.Connection[tuple[object, ...]], url: str, scale: int, *, cut: bool
) -> None:
    pgbench.initialise(url, scale)
    for statement in workloads.tables(cut=cut):
        connection.execute(statement.encode())


def _keep(connection: psycopg.Connection[tuple[object, ...]], replicas: int) -> None:
    """Lets every table have so many replicas, and waits until it has."""
    for (table,) in connection.execute("SELECT table_name FROM dqe.tables").fetchall():
        connection.execute(f"ALTER TABLE {table} SET (replicas = {replicas})".encode())
    ends_s = time.monotonic() + SETTLE_S
    while _others(connection, replicas) and time.monotonic() < ends_s:
        time.sleep(0.2)


def _others(connection: psycopg.Connection[tuple[object, ...]], replicas: int) -> bool:
    held = connection.execute("SELECT replicas FROM dqe.tablets WHERE tablet_id > 0").fetchall()
    return any(len(nodes) != replicas for (nodes,) in held)  # type: ignore[arg-type]


def _measure(
    case: Case, own_url: str, pids: Sequence[int], peer_url: str, seconds: int, runs: int
) -> tuple[Run, Run]:
    """The medians of both servers, measured in turn."""
    found: tuple[list[Run], list[Run]] = [], []
    for _ in range(runs):
        before_s = report.spent_s(pids)
        own = _run(case, own_url, seconds)
        spent_ms = (report.spent_s(pids) - before_s) * 1000
        found[0].append(replace(own, spent_ms=spent_ms / max(own.count, 1)))
        found[1].append(_run(case, peer_url, seconds))
    own, peer = _median(found[0]), _median(found[1])
    ratio = own.per_second / peer.per_second
    name = f"{case.workload.name}, {case.mode}, {case.clients} clients"
    rates = f"{own.per_second:,.0f}/s, PostgreSQL {peer.per_second:,.0f}/s, {ratio:.2f}"
    print(f"{name}: {rates}, {own.spent_ms:.2f} ms of all nodes")
    return own, peer


def _run(case: Case, url: str, seconds: int) -> Run:
    return pgbench.run(case.workload, url, mode=case.mode, clients=case.clients, seconds=seconds)


def _median(runs: Sequence[Run]) -> Run:
    return Run(
        statistics.median(run.per_second for run in runs),
        statistics.median(run.latency_ms for run in runs),
        sum(run.failed for run in runs),
        sum(run.count for run in runs),
        statistics.median(run.spent_ms for run in runs),
    )


def _figures(case: Case, own: Run, peer: Run) -> dict[str, object]:
    return {
        "workload": case.workload.name,
        "mode": case.mode,
        "clients": case.clients,
        "dqe per s": own.per_second,
        "dqe ms": own.latency_ms,
        "dqe failed": own.failed,
        "dqe processor ms": own.spent_ms,
        "postgres per s": peer.per_second,
        "postgres ms": peer.latency_ms,
        "ratio": own.per_second / peer.per_second,
    }


def _print(cases: Sequence[Case], measured: Sequence[tuple[Run, Run]]) -> None:
    header = ["workload", "mode", "clients", "dqe/s", "ms", "processor ms", "failed"]
    header += ["peer/s", "ms", "ratio"]
    rows = [
        [
            case.workload.name,
            case.mode,
            str(case.clients),
            f"{own.per_second:,.0f}",
            f"{own.latency_ms:.2f}",
            f"{own.spent_ms:.2f}",
            str(own.failed),
            f"{peer.per_second:,.0f}",
            f"{peer.latency_ms:.2f}",
            f"{own.per_second / peer.per_second:.2f}",
        ]
        for case, (own, peer) in zip(cases, measured, strict=True)
    ]
    report.print_table("Transactions a second, and those of the peer, PostgreSQL", header, rows)


if __name__ == "__main__":
    sys.exit(main())
