"""`dqe node`: empty a node, take it out of the cluster, see how far that is.

All of it is SQL through any node (`dqe.drain_node` and its like, `dqe.nodes`, `dqe.repairs`).
The cluster does the work by itself: the commands wait and show progress, and may be interrupted
without harm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from dqe.commands.status import size_text
from dqe.commands.terminal import ask_cluster, print_table, told, wide_console

_LOOK_S = 0.5
# Replicas of some size take a while; what stands still for so long may wait for the operator.
_STILL_S = 20.0

Row = tuple[Any, ...]


def drain(node_id: int, url: str | None, *, wait: bool = True) -> int:
    """Moves the leaders away; the exit status."""

    def left(connection: psycopg.Connection[Any]) -> str | None:
        row = _node_row(connection, node_id)
        return f"it still leads {counted(row[1], 'tablet')}" if row is not None and row[1] else None

    done = f"node {node_id} leads nothing"
    return _ask(url, "drain_node", node_id, left if wait else None, done)


def decommission(node_id: int, url: str | None, *, wait: bool = True) -> int:
    """Moves everything away and takes the node out; the exit status."""

    def left(connection: psycopg.Connection[Any]) -> str | None:
        row = _node_row(connection, node_id)
        if row is None:
            return None
        return f"{counted(row[0], 'replica')} and {counted(row[1], 'leader')} left"

    done = f"node {node_id} is no member of the cluster any more; its process ends by itself"
    return _ask(url, "decommission_node", node_id, left if wait else None, done)


def activate(node_id: int, url: str | None) -> int:
    """Takes back what the others asked for; the exit status."""
    return _ask(url, "activate_node", node_id, None, "")


def status(url: str | None) -> int:
    """Prints the nodes and what repair has to do; the exit status."""
    return ask_cluster(url, _show)


def _show(connection: psycopg.Connection[Any]) -> int:
    console = wide_console()
    print_table(
        console,
        "Nodes",
        ("node", "is", "state", "region", "zone", "replicas", "leads", "size"),
        [(*row[:-1], size_text(row[-1])) for row in _nodes(connection)],
    )
    troubles = connection.execute(
        "SELECT tablet_id, tables, trouble, good || ' of ' || wanted, detail FROM dqe.repairs"
        " ORDER BY tablet_id"
    ).fetchall()
    if troubles:
        header = ("tablet", "of table", "trouble", "replicas", "detail")
        print_table(console, "To be repaired", header, troubles)
    else:
        console.print("Every tablet has all its replicas.")
    return 0


def _nodes(connection: psycopg.Connection[Any]) -> list[Row]:
    return connection.execute(
        "SELECT node_id, CASE WHEN live THEN 'live' ELSE 'down' END, state, region, zone,"
        " tablets, leaders, bytes FROM dqe.nodes ORDER BY node_id"
    ).fetchall()


def _node_row(connection: psycopg.Connection[Any], node_id: int) -> Row | None:
    return connection.execute(
        "SELECT tablets, leaders FROM dqe.nodes WHERE node_id = %s", [node_id]
    ).fetchone()


def counted(count: int, noun: str) -> str:
    """`1 replica`, `2 replicas`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _ask(
    url: str | None,
    function: str,
    node_id: int,
    left: Callable[[psycopg.Connection[Any]], str | None] | None,
    done: str,
) -> int:
    def ask(connection: psycopg.Connection[Any]) -> int:
        row = connection.execute(f"SELECT dqe.{function}({node_id})".encode()).fetchone()
        assert row is not None
        print(row[0], flush=True)
        if left is not None:
            with _elsewhere(connection, node_id) as witness:
                _wait(witness, node_id, left)
            print(done)
        return 0

    return ask_cluster(url, ask)


def _elsewhere(connection: psycopg.Connection[Any], node_id: int) -> psycopg.Connection[Any]:
    """A connection to a node that will still be a member when this one is none."""
    row = connection.execute(
        "SELECT pg_address FROM dqe.nodes WHERE live AND node_id <> %s ORDER BY this_node DESC"
        " LIMIT 1",
        [node_id],
    ).fetchone()
    if row is None:
        return connection
    host, _, port = str(row[0]).rpartition(":")
    dsn = make_conninfo(connection.info.dsn, host=host, port=port, hostaddr=None)
    return psycopg.connect(dsn, autocommit=True)


def _wait(
    connection: psycopg.Connection[Any],
    node_id: int,
    left: Callable[[psycopg.Connection[Any]], str | None],
) -> None:
    """Prints what is left whenever that changes, until nothing is."""
    before, changed_s = "", time.monotonic()
    while True:
        try:
            now = left(connection)
        except psycopg.OperationalError as error:
            if connection.closed:
                raise
            now = f"not known ({told(error)})"
        if now is None:
            return
        if now != before:
            print(f"node {node_id}: {now}", flush=True)
            before, changed_s = now, time.monotonic()
        elif time.monotonic() - changed_s > _STILL_S:
            print(f"still {now}; `dqe node status` shows what stands in the way", flush=True)
            changed_s = math.inf  # once is enough
        time.sleep(_LOOK_S)
