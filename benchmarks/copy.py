"""Bulk load of lineitem: rows a second by COPY, beside PostgreSQL 18 and DuckDB.

    python -m benchmarks.copy [--scale 1] [--nodes 3] [--methods columnar,hybrid]
                              [--replicas 1,3] [--formats csv,text,parquet] [--no-postgres]

csv and text come from the client over one connection, Parquet from a file on the server. The
tables have no primary key on either side, as in the usual comparison. dqe loads into columnar and
into hybrid tables, of one replica, as the peers do, and once more of three. Beside the rate, until
the COPY is acknowledged, stands the processor time that all nodes took until a query saw the rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
_CUT = "PARTITION BY HASH (l_orderkey) PARTITIONS 6"
_COPY = {
    "csv": "COPY lineitem FROM STDIN (FORMAT csv, HEADER true)",
    "text": "COPY lineitem FROM STDIN",
}


def _send(connection: psycopg.Connection[Any], copy: str, path: Path) -> None:
    with connection.cursor().copy(copy.encode()) as target, path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            target.write(chunk)


@dataclass(frozen=True, slots=True)
class _Load:
    """Rows a second until it was acknowledged, processor seconds of all servers until a query
    saw the rows; 0 where they are not known."""

    rate: float
    spent_s: float = 0.0


class _Loader:
    """Loads into empty tables of one server, by name of format."""

    def __init__(
        self, connection: psycopg.Connection[Any], files: dict[str, Path], pids: Sequence[int] = ()
    ) -> None:
        self._connection = connection
        self._files = files
        self._pids = pids

    def load(self, clauses: str, kind: str) -> _Load:
        """One load into a table made with these clauses."""
        connection = self._connection
        connection.execute(b"DROP TABLE IF EXISTS lineitem")
        connection.execute(create_table("lineitem", clauses, _NO_KEYS).encode())
        spent_s, began = report.spent_s(self._pids), time.perf_counter()
        self._copy(kind)
        elapsed_s = time.perf_counter() - began
        row = connection.execute(b"SELECT count(*), sum(l_quantity) FROM lineitem").fetchone()
        assert row is not None
        return _Load(row[0] / elapsed_s, report.spent_s(self._pids) - spent_s)

    def _copy(self, kind: str) -> None:
        path = self._files[kind]
        if kind == "parquet":
            # The server process reads it, which may run as another user.
            self._connection.execute(f"COPY lineitem FROM '{path}' (FORMAT parquet)".encode())
        else:
            _send(self._connection, _COPY[kind], path)


def main() -> int:
    """Runs the benchmark and prints the table."""
    arguments = _arguments()
    kinds = arguments.formats.split(",")
    with tempfile.TemporaryDirectory(prefix="dqe-copy-") as scratch:
        directory = Path(scratch)
        parquet = generate(arguments.scale, directory / "parquet")["lineitem"]
        files = {
            "csv": generate(arguments.scale, directory / "csv", "csv")["lineitem"],
            "text": _as_text(parquet, directory / "lineitem.txt"),
            "parquet": parquet,
        }
        loads: dict[str, dict[str, _Load]] = {}
        with (
            LocalCluster(arguments.nodes, directory / "cluster") as cluster,
            psycopg.connect(cluster.url, autocommit=True) as connection,
        ):
            loader = _Loader(connection, files, cluster.pids)
            for name, clauses in _tables(arguments):
                loads[name] = {kind: loader.load(clauses, kind) for kind in kinds}
        peer_rates = {"DuckDB": _duckdb_rates(files)}
        if not arguments.no_postgres:
            with peers.postgres() as connection:
                loader = _Loader(connection, files)
                own = [kind for kind in kinds if kind in _COPY]
                peer_rates["PostgreSQL"] = {kind: loader.load("", kind).rate for kind in own}
    _show(loads, peer_rates, arguments)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--methods", default="columnar,hybrid")
    parser.add_argument("--replicas", default="1,3")
    parser.add_argument("--formats", default="csv,text,parquet")
    parser.add_argument("--no-postgres", action="store_true")
    return parser.parse_args()


def _tables(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """Names and clauses of the tables of dqe."""
    return [
        (f"{method}, replicas: {count}", with_replicas(f"{_CUT} USING {method}", int(count)))
        for method in arguments.methods.split(",")
        for count in arguments.replicas.split(",")
    ]


def _as_text(parquet: Path, path: Path) -> Path:
    """The rows in COPY's text format; TPC-H's values need no escapes."""
    duckdb.execute(
        f"copy (select * from read_parquet('{parquet}')) to '{path}' "
        "(format csv, delimiter '\t', header false, quote '')"
    )
    return path


def _duckdb_rates(files: dict[str, Path]) -> dict[str, float]:
    rates = {}
    for name in ("csv", "parquet"):
        source = f"read_{name}('{files[name]}')"
        connection = duckdb.connect(config={"threads": 2})
        began = time.perf_counter()
        connection.execute(f"create table lineitem as select * from {source}")
        elapsed_s = time.perf_counter() - began
        row = connection.execute("select count(*) from lineitem").fetchone()
        assert row is not None
        rates[name] = row[0] / elapsed_s
    return rates


def _show(
    loads: dict[str, dict[str, _Load]],
    peer_rates: dict[str, dict[str, float]],
    arguments: argparse.Namespace,
) -> None:
    rows = []
    for table, found in loads.items():
        for kind, load in found.items():
            cells = [f"{table}, {kind}", f"{load.rate:,.0f}", f"{load.spent_s:.1f}"]
            for peer in ("PostgreSQL", "DuckDB"):
                rate = peer_rates.get(peer, {}).get(kind)
                cells += [f"{rate:,.0f}", f"{load.rate / rate:.2f}"] if rate else ["-", "-"]
            rows.append(cells)
    header = ["table, format", "dqe rows/s", "cpu s"]
    header += ["PostgreSQL rows/s", "ratio", "DuckDB rows/s", "ratio"]
    report.print_table(f"COPY of lineitem, scale {arguments.scale:g}", header, rows)
    content = {
        "scale": arguments.scale,
        "rates": {t: {k: load.rate for k, load in f.items()} for t, f in loads.items()},
        "processor_s": {t: {k: load.spent_s for k, load in f.items()} for t, f in loads.items()},
        "peers": peer_rates,
    }
    print(f"written to {report.write_json('copy', content)}")


if __name__ == "__main__":
    sys.exit(main())
