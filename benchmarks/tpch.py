"""TPC-H's 22 queries on a local cluster, beside one DuckDB process and one PostgreSQL 18.

    python -m benchmarks.tpch [--scale 1] [--nodes 3] [--fragmentation hash] [--runs 3]
                              [--replicas 1] [--no-postgres] [--queries 1,6]

Every query runs once uncounted and then `--runs` times; the medians are compared. All answers
are compared with DuckDB's first. PostgreSQL gets its primary keys, ANALYZE, and a limit of
`--postgres-timeout` seconds a query.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from benchmarks import peers, report, tpch_command
from benchmarks.tpch_data import create_table, query
from dqe.local_cluster import LocalCluster
from dqe.tpch import TABLES, generate

Rows = list[tuple[Any, ...]]


def load(
    connection: psycopg.Connection[Any],
    files: dict[str, Path],
    fragmentation: str,
    replicas: int | None = None,
    *,
    using: str = "",
) -> None:
    """Makes the tables in dqe, of this access method, and copies the Parquet files in."""
    for table in TABLES:
        definition = create_table(table, fragmentation, replicas) + (using and f" USING {using}")
        connection.execute(definition.encode())
        connection.execute(f"COPY {table} FROM '{files[table]}' (FORMAT parquet)".encode())
    connection.execute(b"ANALYZE")


def load_postgres(connection: psycopg.Connection[Any], csv_files: dict[str, Path]) -> None:
    for table in TABLES:
        connection.execute(create_table(table, None).encode())
        copy = f"COPY {table} FROM STDIN (FORMAT csv, HEADER true)".encode()
        with connection.cursor().copy(copy) as target, csv_files[table].open("rb") as source:
            while chunk := source.read(1 << 20):
                target.write(chunk)
    connection.execute(b"ANALYZE")


def normalised(rows: Sequence[Sequence[Any]]) -> Rows:
    """Rows in a form in which exact and approximate engines can be compared."""
    return [tuple(_plain(value) for value in row) for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float | Decimal | int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        return value.rstrip()
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value


def differs(ours: Rows, theirs: Rows) -> str | None:
    """Why two answers are not the same, or None. Numbers may differ by one in 10^9."""
    if len(ours) != len(theirs):
        return f"{len(ours)} rows instead of {len(theirs)}"
    for number, (left, right) in enumerate(zip(ours, theirs, strict=True), 1):
        for a, b in zip(left, right, strict=True):
            if a == b:
                continue
            close = isinstance(a, float) and isinstance(b, float)
            if not close or abs(a - b) > 1e-9 * max(abs(a), abs(b)) + 1e-9:
                return f"row {number}: {left} instead of {right}"
    return None


def main() -> int:
    """Runs the benchmark; status 1 when an answer differs."""
    arguments = _arguments()
    numbers = tpch_command.query_numbers(arguments)
    with tempfile.TemporaryDirectory(prefix="dqe-tpch-") as scratch:
        base = tpch_command.rows_directory(arguments, scratch)
        files = generate(arguments.scale, base)
        engine = peers.load_duckdb(files, threads=arguments.threads)
        with (
            LocalCluster(arguments.nodes, Path(scratch) / "cluster") as cluster,
            psycopg.connect(cluster.url, autocommit=True) as connection,
        ):
            load(connection, files, arguments.fragmentation, arguments.replicas)
            wrong = _check(connection, engine, numbers)
            times = {n: _times(connection, engine, n, arguments.runs) for n in numbers}
        postgres_times = {}
        if not arguments.no_postgres:
            csv_files = generate(arguments.scale, base / "csv", "csv")
            postgres_times = _postgres_times(csv_files, numbers, arguments)
    _show(times, postgres_times, arguments)
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = tpch_command.compared(__doc__, scale=1.0)
    parser.add_argument("--threads", type=int, default=2, help="of the DuckDB beside")
    parser.add_argument("--no-postgres", action="store_true")
    parser.add_argument("--postgres-timeout", type=int, default=120)
    return parser.parse_args()


def _check(
    connection: psycopg.Connection[Any], engine: duckdb.DuckDBPyConnection, numbers: Sequence[int]
) -> int:
    wrong = 0
    for number in numbers:
        text = query(number)
        theirs = normalised(engine.sql(text.rstrip().rstrip(";")).fetchall())
        try:
            reason = differs(normalised(connection.execute(text.encode()).fetchall()), theirs)
        except psycopg.Error as error:
            reason = str(error)
        if reason is not None:
            wrong += 1
            print(f"query {number}: {reason}", file=sys.stderr)
    return wrong


def _times(
    connection: psycopg.Connection[Any],
    engine: duckdb.DuckDBPyConnection,
    number: int,
    runs: int,
) -> tuple[float, float]:
    text = query(number)
    plain = text.rstrip().rstrip(";")
    ours = report.median_s(lambda: connection.execute(text.encode()).fetchall(), runs)
    theirs = report.median_s(lambda: engine.sql(plain).fetchall(), runs)
    return ours, theirs


def _postgres_times(
    csv_files: dict[str, Path], numbers: Sequence[int], arguments: argparse.Namespace
) -> dict[int, float]:
    times: dict[int, float] = {}
    with peers.postgres() as connection:
        load_postgres(connection, csv_files)
        limit_ms = arguments.postgres_timeout * 1000
        connection.execute(f"SET statement_timeout = {limit_ms}".encode())
        for number in numbers:
            text = query(number).encode()
            try:
                times[number] = report.median_s(
                    lambda text=text: connection.execute(text).fetchall(), 1
                )
            except psycopg.errors.QueryCanceled:
                times[number] = float(arguments.postgres_timeout)
    return times


def _show(
    times: dict[int, tuple[float, float]],
    postgres_times: dict[int, float],
    arguments: argparse.Namespace,
) -> None:
    rows = []
    for number, (ours, theirs) in times.items():
        other = postgres_times.get(number)
        rows.append(
            [
                f"Q{number}",
                f"{ours * 1000:.0f}",
                f"{theirs * 1000:.0f}",
                f"{ours / theirs:.2f}",
                f"{other * 1000:.0f}" if other else "-",
                f"{other / ours:.1f}" if other else "-",
            ]
        )
    to_duckdb = report.geometric_mean([ours / theirs for ours, theirs in times.values()])
    to_postgres = [postgres_times[n] / times[n][0] for n in times if n in postgres_times]
    faster = report.geometric_mean(to_postgres) if to_postgres else None
    rows.append(
        [
            "geometric mean",
            "",
            "",
            f"{to_duckdb:.2f}",
            "",
            f"{faster:.1f}" if faster else "-",
        ]
    )
    header = ["query", "dqe ms", "DuckDB ms", "dqe/DuckDB", "PostgreSQL ms", "PostgreSQL/dqe"]
    report.print_table(tpch_command.title(arguments), header, rows)
    path = report.write_json(
        "tpch",
        {
            **tpch_command.settings(arguments),
            "dqe_s": {n: t[0] for n, t in times.items()},
            "duckdb_s": {n: t[1] for n, t in times.items()},
            "postgres_s": postgres_times,
            "to_duckdb_geometric_mean": to_duckdb,
            "faster_than_postgres_geometric_mean": faster,
        },
    )
    print(f"written to {path}")


if __name__ == "__main__":
    sys.exit(main())
