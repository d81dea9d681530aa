"""Asking a node process, once or until something has happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg

from dqe.local_cluster import NodeProcess

T = TypeVar("T")
# The machine may be busy.
PATIENCE_S = 120.0


def connect(node: NodeProcess) -> psycopg.Connection[Any]:
    return psycopg.connect(node.url, autocommit=True, connect_timeout=20)


def ask(node: NodeProcess, sql: str) -> list[tuple[Any, ...]]:
    """The rows, if it is a query, over a connection of its own."""
    with connect(node) as session:
        cursor = session.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


def within(limit_s: float, action: Callable[[], T]) -> T:
    """The action's result; fails when it took longer than the limit."""
    began_s = time.monotonic()
    try:
        return action()
    finally:
        assert time.monotonic() - began_s < limit_s


def until(happened: Callable[[], bool], what: str) -> None:
    """Waits for it; fails, saying what has not happened, when patience ends."""
    ends_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < ends_s, what
        time.sleep(0.1)
