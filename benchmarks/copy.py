"""Bulk load of lineitem: rows a second by COPY, beside PostgreSQL 18 and DuckDB.

    python -m benchmarks.copy [--scale 1] [--nodes 3] [--no-postgres]

csv and text come from the client over one connection, Parquet from a file on the server. The
tables have no primary key on either side, as in the usual comparison. dqe loads into tablets
of one replica, as the peers do, and once more into tablets of three.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from benchmarks import peers, report
from benchmarks.tpch_data import with_replicas
from dqe.local_cluster import LocalCluster
from dqe.tpch import create_table, generate

_NO_KEYS = {"customer_key": "", "orders_key": "", "lineitem_key": ""}
_CHUNK_BYTES = 1 << 20
_REPLICAS = (1, 3)
_CUT = "PARTITION BY HASH (l_orderkey) PARTITIONS 6 USING columnar"


def _send(connection: psycopg.Connection[Any], copy: str, path: Path) -> None:
    with connection.cursor().copy(copy.encode()) as target, path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            target.write(chunk)


def _rate(connection: psycopg.Connection[Any], clauses: str, load: Callable[[], None]) -> float:
    """Rows a second of one load into an empty table."""
    connection.execute(b"DROP TABLE IF EXISTS lineitem")
    connection.execute(create_table("lineitem", clauses, _NO_KEYS).encode())
    began = time.perf_counter()
    load()
    elapsed_s = time.perf_counter() - began
    row = connection.execute(b"SELECT count(*) FROM lineitem").fetchone()
    assert row is not None
    return float(row[0] / elapsed_s)


def main() -> int:
    """Runs the benchmark and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--no-postgres", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dqe-copy-") as scratch:
        directory = Path(scratch)
        csv = generate(arguments.scale, directory / "csv", "csv")["lineitem"]
        parquet = generate(arguments.scale, directory / "parquet")["lineitem"]
        text = _as_text(parquet, directory / "lineitem.txt")
        # The server process reads it, which may run as another user.
        rates: dict[str, dict[str, float]] = {}
        with (
            LocalCluster(arguments.nodes, directory / "cluster") as cluster,
            psycopg.connect(cluster.url, autocommit=True) as connection,
        ):
            for replicas in _REPLICAS:
                rates[_ours(replicas)] = _our_rates(connection, replicas, csv, text, parquet)
        rates["DuckDB"] = _duckdb_rates(csv, parquet)
        if not arguments.no_postgres:
            with peers.postgres() as connection:
                rates["PostgreSQL"] = _client_rates(connection, "", csv, text)
    _show(rates, arguments)
    return 0


def _ours(replicas: int) -> str:
    return f"dqe, replicas: {replicas}"


def _our_rates(
    connection: psycopg.Connection[Any], replicas: int, csv: Path, text: Path, parquet: Path
) -> dict[str, float]:
    clauses = with_replicas(_CUT, replicas)
    rates = _client_rates(connection, clauses, csv, text)
    statement = f"COPY lineitem FROM '{parquet}' (FORMAT parquet)".encode()
    rates["parquet"] = _rate(connection, clauses, lambda: connection.execute(statement) and None)
    return rates


def _client_rates(
    connection: psycopg.Connection[Any], clauses: str, csv: Path, text: Path
) -> dict[str, float]:
    as_csv = "COPY lineitem FROM STDIN (FORMAT csv, HEADER true)"
    return {
        "csv": _rate(connection, clauses, lambda: _send(connection, as_csv, csv)),
        "text": _rate(
            connection, clauses, lambda: _send(connection, "COPY lineitem FROM STDIN", text)
        ),
    }


def _as_text(parquet: Path, path: Path) -> Path:
    """The rows in COPY's text format; TPC-H's values need no escapes."""
    duckdb.execute(
        f"copy (select * from read_parquet('{parquet}')) to '{path}' "
        "(format csv, delimiter '\t', header false, quote '')"
    )
    return path


def _duckdb_rates(csv: Path, parquet: Path) -> dict[str, float]:
    rates = {}
    for name, source in (("csv", f"read_csv('{csv}')"), ("parquet", f"read_parquet('{parquet}')")):
        connection = duckdb.connect(config={"threads": 2})
        began = time.perf_counter()
        connection.execute(f"create table lineitem as select * from {source}")
        elapsed_s = time.perf_counter() - began
        row = connection.execute("select count(*) from lineitem").fetchone()
        assert row is not None
        rates[name] = row[0] / elapsed_s
    return rates


def _show(rates: dict[str, dict[str, float]], arguments: argparse.Namespace) -> None:
    rows = []
    for replicas in _REPLICAS:
        for kind in ("csv", "text", "parquet"):
            ours = rates[_ours(replicas)][kind]
            others = [rates.get(peer, {}).get(kind) for peer in ("PostgreSQL", "DuckDB")]
            cells = [f"{other:,.0f}" if other else "-" for other in others]
            ratios = [f"{ours / other:.2f}" if other else "-" for other in others]
            name = f"{kind}, replicas: {replicas}"
            rows.append([name, f"{ours:,.0f}", cells[0], ratios[0], cells[1], ratios[1]])
    header = ["format", "dqe rows/s", "PostgreSQL rows/s", "ratio", "DuckDB rows/s", "ratio"]
    report.print_table(f"COPY of lineitem, scale {arguments.scale:g}", header, rows)
    print(f"written to {report.write_json('copy', {'scale': arguments.scale, 'rates': rates})}")


if __name__ == "__main__":
    sys.exit(main())
