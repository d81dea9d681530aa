"""`dqe status`: nodes, tables, tablets, what ails them, and a picture of the fragments.

All of it comes from the schema `dqe`, by plain SQL through any node.
"""

from __future__ import annotations

from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dqe.commands.terminal import ask_cluster, print_table, wide_console

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
# Every commit over several tablets is in doubt for milliseconds.
_IN_DOUBT_S = 1.0
# Homes have their decisions confirmed in rounds, some seconds later.
_UNCONFIRMED_S = 15.0
# More tablets than this are summed up by node instead of listed.
_LISTED_TABLETS = 60


def run(url: str | None) -> int:
    """Prints the status as one node sees it; the exit status."""
    return ask_cluster(url, _show)


def _show(connection: psycopg.Connection[Any]) -> int:
    console = wide_console()
    show_nodes(connection, console)
    show_tables(connection, console)
    show_tablets(connection, console)
    show_replicas(connection, console)
    show_doubts(connection, console)
    show_picture(connection, console)
    return 0


def show_nodes(connection: psycopg.Connection[Any], console: Console) -> None:
    """One line a node."""
    rows = connection.execute(
        "SELECT node_id, live, silent_s, state, region, zone, pg_address, address, tablets, "
        "leaders, bytes, log_bytes FROM dqe.nodes ORDER BY node_id"
    ).fetchall()
    header = ["node", "is", "state", "region", "zone", "PostgreSQL", "nodes", "tablets", "leads"]
    header += ["size", "log"]
    shown = [
        (row[0], liveness_text(row[1], row[2]), *row[3:-2], size_text(row[-2]), size_text(row[-1]))
        for row in rows
    ]
    print_table(console, "Nodes", header, shown)


def show_tables(connection: psycopg.Connection[Any], console: Console) -> None:
    """One line a table."""
    rows = connection.execute(
        "SELECT schema_name || '.' || table_name, method, partition_key, partitions, "
        "column_groups, access_method, replicas, durability, colocation_id, estimated_rows "
        "FROM dqe.tables ORDER BY 1"
    ).fetchall()
    header = [
        "table",
        "cut by",
        "key",
        "parts",
        "groups",
        "store",
        "replicas",
        "durability",
        "co-location",
        "rows",
    ]
    print_table(console, "Tables", header, [(*row[:-1], rows_text(row[-1])) for row in rows])


def show_tablets(connection: psycopg.Connection[Any], console: Console) -> None:
    """One line a tablet, while there are not too many."""
    rows = connection.execute(
        "SELECT tablet_id, leader, replicas, voters, fragments, durability, bytes "
        "FROM dqe.tablets ORDER BY tablet_id"
    ).fetchall()
    if len(rows) > _LISTED_TABLETS:
        console.print(f"{len(rows)} tablets (SELECT * FROM dqe.tablets lists them)")
        return
    shown = [
        (r[0], r[1], ", ".join(map(str, r[2])), r[3], r[4], r[5], size_text(r[6])) for r in rows
    ]
    header = ["tablet", "leader", "replicas on", "voters", "fragments", "durability", "size"]
    print_table(console, "Tablets", header, shown)


def show_replicas(connection: psycopg.Connection[Any], console: Console) -> None:
    """Those that do not serve as they should; nothing where all do."""
    rows = connection.execute(
        "SELECT tablet_id, node_id, role, state, nullif(entries_behind, 0), detail "
        "FROM dqe.replicas WHERE state <> 'ok' ORDER BY tablet_id, node_id"
    ).fetchall()
    if rows:
        header = ["tablet", "node", "is", "state", "entries behind", "detail"]
        print_table(console, "Replicas that are not well", header, rows[:_LISTED_TABLETS])
        if len(rows) > _LISTED_TABLETS:
            console.print(f"and {len(rows) - _LISTED_TABLETS} more (SELECT * FROM dqe.replicas)")


def show_doubts(connection: psycopg.Connection[Any], console: Console) -> None:
    """Transactions that are prepared, or decided and not confirmed, for longer than it takes."""
    rows = connection.execute(
        "SELECT transaction_id, tablet_id, state, age_s, coordinator, waits_for "
        "FROM dqe.transactions_in_doubt "
        "WHERE age_s >= %s OR state <> 'committed' AND age_s >= %s ORDER BY age_s DESC",
        [_UNCONFIRMED_S, _IN_DOUBT_S],
    ).fetchall()
    if rows:
        header = ["transaction", "tablet", "is", "age", "began at node", "waits for"]
        shown = [(*r[:3], f"{r[3]:.0f} s", *r[4:]) for r in rows[:_LISTED_TABLETS]]
        print_table(console, "Transactions in doubt", header, shown)
        if len(rows) > _LISTED_TABLETS:
            more = len(rows) - _LISTED_TABLETS
            console.print(f"and {more} more (SELECT * FROM dqe.transactions_in_doubt)")


def show_picture(connection: psycopg.Connection[Any], console: Console) -> None:
    """A line a part (and column group), a column a node; a block where a replica lies."""
    nodes = connection.execute("SELECT node_id, region FROM dqe.nodes ORDER BY node_id").fetchall()
    fragments = connection.execute(
        "SELECT table_name, part_name, column_group, bounds, nodes, estimated_rows, "
        "count(*) OVER (PARTITION BY table_name, part) AS groups "
        "FROM dqe.fragments ORDER BY table_name, part, fragment_id"
    ).fetchall()
    picture = Table(title="Where the fragments lie", show_edge=False, header_style="bold")
    for name in ("table", "part", "holds"):
        picture.add_column(name, no_wrap=True, overflow="ellipsis", max_width=44)
    for node_id, region in nodes:
        heading = f"node {node_id}" + (f"\n{region}" if region else "")
        picture.add_column(heading, justify="center")
    picture.add_column("rows", justify="right")
    before = None
    for table, part, group, bounds, places, rows, groups in fragments:
        label = f"{part} / {group}" if groups > 1 else part
        blocks = [Text("███" if node_id in places else "·") for node_id, _ in nodes]
        if before not in (None, table):
            picture.add_section()
        title = Text(table if table != before else "")
        holds = (bounds or "").removeprefix("FOR VALUES ").removeprefix("WITH ")
        picture.add_row(title, Text(label), Text(holds), *blocks, rows_text(rows))
        before = table
    console.print(picture)


def liveness_text(live: bool, silent_s: float) -> str:
    """`live`, or since when it is not."""
    return "live" if live else f"down for {silent_s:.0f} s"


def rows_text(rows: int | None) -> str:
    """A count as a person reads it; unknown before ANALYZE."""
    return "?" if rows is None else f"{rows:,}"


def size_text(size_bytes: int | None) -> str:
    """Bytes as `12.3 MiB`."""
    if size_bytes is None:
        return "?"
    size = float(size_bytes)
    for unit in _SIZE_UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_SIZE_UNITS[-1]}"
