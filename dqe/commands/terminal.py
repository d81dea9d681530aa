"""What the commands share that talk to a cluster and print on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dqe.dbapi import connect, default_url

_PIPE_COLUMNS = 160
# The kernel accepts for a process that hangs: only silence tells.
_CONNECT_TIMEOUT_S = 10


def connect_or_say(url: str | None) -> psycopg.Connection[Any] | None:
    """A connection, or None after saying why there is none."""
    try:
        return connect(url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S)
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        print(f"dqe: cannot connect to {url or default_url()}: {reason}", file=sys.stderr)
        return None


class _Notices:
    """Shows what the node warns of, each once: that it tells of a catalog nobody leads, say."""

    def __init__(self) -> None:
        self._shown: set[str | None] = set()

    def show(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.message_primary not in self._shown:
            self._shown.add(notice.message_primary)
            print(f"{notice.severity}: {notice.message_primary}", file=sys.stderr)


def ask_cluster(
    url: str | None, ask: Callable[[psycopg.Connection[Any]], int], *, failed: int = 1
) -> int:
    """What `ask` returns: the exit status. 2 without a connection, `failed` where a statement
    fails, after saying why."""
    connection = connect_or_say(url)
    if connection is None:
        return 2
    connection.add_notice_handler(_Notices().show)
    try:
        with connection:
            return ask(connection)
    except psycopg.Error as error:
        print(f"dqe: {told(error)}", file=sys.stderr)
        return failed


def told(error: psycopg.Error) -> str:
    """The server's message with its detail and hint."""
    diagnosis = error.diag
    lines = [diagnosis.message_primary or str(error)]
    lines += [f"DETAIL: {diagnosis.message_detail}"] if diagnosis.message_detail else []
    lines += [f"HINT: {diagnosis.message_hint}"] if diagnosis.message_hint else []
    return "\n".join(lines)


def wide_console() -> Console:
    """As wide as the terminal; into a file or pipe wide enough to wrap nothing."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_COLUMNS)


def print_table(
    console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """A titled table and an empty line; NULL is nothing."""
    table = Table(title=title, show_edge=False, header_style="bold")
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*[Text("" if value is None else str(value)) for value in row])
    console.print(table)
    console.print()
