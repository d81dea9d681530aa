"""`dqe check`: have every tablet's replicas compared; what differs is rebuilt and reported.

Through any node, by `SELECT * FROM dqe.replica_checks`, which reads all rows of all replicas once.
Exit status 0: all replicas are equal; 1: one is not, or could not be compared; 2: no connection,
or the statement failed.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dqe.commands.terminal import ask_cluster, wide_console

_QUERY = (
    "SELECT tablet_id, node_id, verdict, rows, digest, detail, rebuilt"
    " FROM dqe.replica_checks ORDER BY tablet_id, node_id"
)


def run(url: str | None) -> int:
    """Prints what is not equal, and a summary; the exit status."""
    return ask_cluster(
        url,
        lambda connection: report(connection.execute(_QUERY).fetchall(), wide_console()),
        failed=2,
    )


def report(rows: list[tuple[Any, ...]], console: Console) -> int:
    """Prints the tablets whose replicas are not all equal; the exit status."""
    bad = {row[0] for row in rows if row[2] != "equal"}
    tablets = len({row[0] for row in rows})
    if not bad:
        console.print(f"{tablets} tablets, {len(rows)} replicas: all equal")
        return 0
    table = Table(title="Tablets whose replicas are not all equal", show_edge=False)
    for name in ("tablet", "node", "is", "rows", "checksum", "detail"):
        table.add_column(name)
    for tablet_id, node_id, verdict, count, digest, detail, rebuilt in rows:
        if tablet_id in bad:
            said = "; ".join(filter(None, (detail, "it is being rebuilt" if rebuilt else None)))
            cells = (tablet_id, node_id, verdict, count, digest, said)
            table.add_row(*[Text("" if cell is None else str(cell)) for cell in cells])
    console.print(table)
    wrong = sum(row[2] not in ("equal", "not compared") for row in rows)
    silent = sum(row[2] == "not compared" for row in rows)
    console.print(
        f"{tablets} tablets, {len(rows)} replicas: {wrong} wrong or in doubt, {silent} not compared"
    )
    return 1
