"""`dqe sql`: a small SQL shell over the DB-API, for machines without psql."""

from __future__ import annotations

import sys
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dqe.commands.terminal import connect_or_say

_HELP = """Statements end with a semicolon. \\q ends, \\? shows this.
For more (\\d, \\copy, ...) use psql: any version from 15 on works."""


def run(url: str | None, command: str | None) -> int:
    """One command (-c), standard input, or a conversation; the exit status."""
    console = Console()
    connection = connect_or_say(url)
    if connection is None:
        return 2
    with connection:
        connection.add_notice_handler(_show_notice)
        if command is not None:
            return 0 if execute(connection, command, console) else 1
        if not sys.stdin.isatty():
            return 0 if execute(connection, sys.stdin.read(), console) else 1
        return converse(connection, console)


def converse(connection: psycopg.Connection[tuple[Any, ...]], console: Console) -> int:
    """Reads statements until the end of input or \\q."""
    import readline  # noqa: F401 - gives `input` history and line editing

    console.print(f"dqe, server {connection.info.parameter_status('server_version')}; \\? for help")
    pending = ""
    while True:
        try:
            line = input("dqe> " if not pending else "  -> ")
        except EOFError:
            console.print()
            return 0
        except KeyboardInterrupt:
            console.print()
            pending = ""
            continue
        if not pending and line.strip() in ("\\q", "exit", "quit"):
            return 0
        if not pending and line.strip() == "\\?":
            console.print(_HELP)
            continue
        pending += line + "\n"
        if pending.rstrip().endswith(";"):
            execute(connection, pending, console)
            pending = ""
        elif not pending.strip():
            pending = ""


def execute(
    connection: psycopg.Connection[tuple[Any, ...]], statement: str, console: Console
) -> bool:
    """Runs and shows one or more statements; False when one failed."""
    try:
        # Simple protocol with text results: what the server prints is what is shown.
        cursor = psycopg.ClientCursor(connection)
        for loader in ("date", "timestamp", "timestamptz", "interval", "json", "jsonb", "time"):
            cursor.adapters.register_loader(loader, psycopg.types.string.TextLoader)
        cursor.execute(statement.encode())
        while True:
            show_result(cursor, console)
            if not cursor.nextset():
                return True
    except psycopg.Error as error:
        console.print(Text(_error_text(error), style="red"))
        return False
    except KeyboardInterrupt:
        connection.cancel_safe()
        return False


def show_result(cursor: psycopg.Cursor[tuple[Any, ...]], console: Console) -> None:
    """Rows as a table, or the command's tag."""
    if cursor.description is None:
        if cursor.statusmessage:
            console.print(cursor.statusmessage)
        return
    table = Table(show_edge=False, header_style="bold")
    for column in cursor.description:
        table.add_column(Text(column.name), no_wrap=column.name != "QUERY PLAN")
    rows = cursor.fetchall()
    for row in rows:
        table.add_row(*[Text("" if value is None else str(value)) for value in row])
    console.print(table)
    console.print(f"({len(rows)} row{'' if len(rows) == 1 else 's'})")


def _error_text(error: psycopg.Error) -> str:
    lines = [f"ERROR: {error.diag.message_primary or error} ({error.sqlstate})"]
    if error.diag.message_detail:
        lines.append(f"DETAIL: {error.diag.message_detail}")
    if error.diag.message_hint:
        lines.append(f"HINT: {error.diag.message_hint}")
    return "\n".join(lines)


def _show_notice(notice: psycopg.errors.Diagnostic) -> None:
    print(f"{notice.severity}: {notice.message_primary}", file=sys.stderr)
