"""`dqe demo`: three nodes, TPC-H data cut in every way there is, and four queries explained."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.text import Text

from dqe.commands.local import Stopped
from dqe.commands.sql import show_result
from dqe.commands.status import show_picture
from dqe.commands.stop_signal import StopSignal
from dqe.commands.terminal import wide_console
from dqe.local_cluster import LocalCluster, LocalClusterError
from dqe.tpch import PLAIN_KEYS, TABLES, create_table, generate

REGIONS = ("africa", "america", "eurasia")
_COPY_CHUNK_BYTES = 1 << 18

# How each table is cut, to show what can be cut; the others take the defaults.
CLAUSES = {
    "region": "REPLICATED",
    "nation": "REPLICATED",
    "part": """PARTITION BY HASH (p_partkey) PARTITIONS 3
        COLUMN GROUPS (core (p_name, p_brand, p_type, p_size),
                       cold (p_mfgr, p_container, p_retailprice, p_comment))""",
    "customer": """PARTITION BY LIST (c_nationkey) (
        PARTITION africa VALUES IN (0, 5, 14, 15, 16) WITH (region = 'africa'),
        PARTITION america VALUES IN (1, 2, 3, 17, 24) WITH (region = 'america'),
        PARTITION eurasia DEFAULT WITH (region = 'eurasia'))""",
    "orders": "PARTITION BY HASH (o_orderkey) PARTITIONS 6",
    "lineitem": "PARTITION BY HASH (l_orderkey) PARTITIONS 6 COLOCATE WITH orders",
}
KEYS = {**PLAIN_KEYS, "customer_key": ", primary key (c_nationkey, c_custkey)"}


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop of the tour: what it shows, and the query."""

    title: str
    remark: str
    query: str


TOUR = (
    Stop(
        "Pruning: only the part that can hold the key is read",
        "orders lies in six parts by the hash of o_orderkey; five of them are kept out.",
        "SELECT o_orderkey, o_orderdate, o_totalprice\nFROM orders\nWHERE o_orderkey = 4711",
    ),
    Stop(
        "Part-wise join: no row moves",
        "lineitem is co-located with orders, so every node joins what it has.",
        "SELECT o_orderpriority, count(*) AS late_lines\n"
        "FROM orders JOIN lineitem ON l_orderkey = o_orderkey\n"
        "WHERE l_receiptdate > l_commitdate AND o_orderdate >= date '1997-01-01'\n"
        "GROUP BY o_orderpriority\nORDER BY o_orderpriority",
    ),
    Stop(
        "A join that must move rows moves the cheaper side",
        "customer is cut by nation and orders by order key; the planner counts bytes.",
        "SELECT n_name, count(*) AS orders, sum(o_totalprice) AS total\n"
        "FROM customer JOIN orders ON o_custkey = c_custkey\n"
        "JOIN nation ON n_nationkey = c_nationkey\n"
        "WHERE c_mktsegment = 'BUILDING'\n"
        "GROUP BY n_name\nORDER BY total DESC\nLIMIT 5",
    ),
    Stop(
        "Column groups: what is not asked for is not read",
        "part is cut in two column groups; the query needs only one of them.",
        "SELECT p_brand, count(*) AS parts, avg(p_size) AS avg_size\n"
        "FROM part\nWHERE p_type LIKE 'PROMO%'\nGROUP BY p_brand\nORDER BY p_brand\nLIMIT 5",
    ),
)


def run(*, scale: float, pg_port: int, stay: bool) -> int:
    """The whole tour; with `stay` until the user ends it. Returns the exit status."""
    console = wide_console()
    stop = StopSignal()
    directory = Path(tempfile.mkdtemp(prefix="dqe-demo-"))
    cluster = LocalCluster(3, directory / "cluster", pg_port, regions=REGIONS)
    started_at = time.monotonic()
    try:
        with console.status("starting three nodes"):
            cluster.start()
            cluster.wait_ready()
        _say(console, f"three nodes answer, in regions {', '.join(REGIONS)}", started_at)
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            rows = load(connection, directory / "tpch", scale, console, stop)
            _say(console, f"{rows:,} rows of TPC-H (scale {scale:g}) are loaded", started_at)
            console.rule("Where the fragments lie")
            show_picture(connection, console)
            for number, place in enumerate(TOUR, 1):
                _visit(connection, console, number, place)
                _check(stop)
        _summary(console, cluster, rows, started_at)
        while stay and not stop.wait(0.2):
            cluster.watch()
    except Stopped:
        pass
    except (LocalClusterError, psycopg.Error, subprocess.CalledProcessError) as error:
        print(f"dqe demo: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def load(
    connection: psycopg.Connection[tuple[Any, ...]],
    directory: Path,
    scale: float,
    console: Console,
    stop: StopSignal,
) -> int:
    """Creates the tables and copies their rows in; returns how many rows there are."""
    with console.status("generating TPC-H data"):
        files = generate(scale, directory, "csv")
    rows = 0
    with _progress(console) as progress:
        task = progress.add_task("loading", total=sum(f.stat().st_size for f in files.values()))
        for table in TABLES:
            progress.update(task, description=f"loading {table:<9}")
            connection.execute(create_table(table, CLAUSES.get(table, ""), KEYS).encode())
            cursor = connection.cursor()
            copy = f"COPY {table} FROM STDIN (FORMAT csv, HEADER true)"
            with cursor.copy(copy.encode()) as target:
                for chunk in _chunks(files[table]):
                    target.write(chunk)
                    progress.advance(task, len(chunk))
                    _check(stop)
            rows += cursor.rowcount
    return rows


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(_COPY_CHUNK_BYTES):
            yield chunk


def _visit(
    connection: psycopg.Connection[tuple[Any, ...]], console: Console, number: int, place: Stop
) -> None:
    console.rule(f"{number}. {place.title}")
    console.print(place.remark)
    console.print(Syntax(place.query, "sql", background_color="default"))
    plan = connection.execute(b"EXPLAIN (ANALYZE) " + place.query.encode()).fetchall()
    console.print("EXPLAIN ANALYZE:", style="bold")
    console.print(Text("\n".join(row[0] for row in plan)), soft_wrap=True)
    began = time.monotonic()
    cursor = connection.cursor()
    cursor.execute(place.query.encode())
    show_result(cursor, console)
    console.print(f"{(time.monotonic() - began) * 1000:.0f} ms\n")


def _summary(console: Console, cluster: LocalCluster, rows: int, started_at: float) -> None:
    console.rule("Summary")
    _say(console, f"3 nodes, {len(TABLES)} tables, {rows:,} rows, {len(TOUR)} queries", started_at)
    first = cluster.nodes[0]
    console.print("Any node answers any query. Try it:", style="bold")
    for node in cluster.nodes:
        console.print(f"  psql -h 127.0.0.1 -p {node.pg_port} -U dqe dqe", highlight=False)
    console.print(f"  dqe status {first.url}", highlight=False)
    console.print("The data go away when the demo ends (Ctrl-C).")


def _say(console: Console, text: str, started_at: float) -> None:
    console.print(f"[bold]{text}[/bold] ({time.monotonic() - started_at:.1f} s)")


def _check(stop: StopSignal) -> None:
    if stop.is_set:
        raise Stopped
