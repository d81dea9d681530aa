"""Python's DB-API 2.0 (PEP 249) over psycopg, the well-kept PostgreSQL driver.

A dqe server speaks PostgreSQL's protocol, so a connection is psycopg's own: its cursors,
adapters, COPY and exceptions apply. What is ours is where a connection goes when nothing is
said: `DQE_URL`, or the first node that `dqe local` starts.
"""

from __future__ import annotations

import os
from typing import Any

import psycopg
from psycopg import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    Connection,
    Cursor,
    DatabaseError,
    DataError,
    Date,
    DateFromTicks,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
    Warning,
)

from dqe.configuration import DATABASE, DEFAULT_PG_PORT

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "connect",
    "default_url",
]


def default_url() -> str:
    """`DQE_URL`, or the first node of a local cluster."""
    local = f"postgresql://dqe@127.0.0.1:{DEFAULT_PG_PORT}/{DATABASE}"
    return os.environ.get("DQE_URL", local)


def connect(url: str | None = None, **options: Any) -> Connection[tuple[Any, ...]]:
    """A connection to the node at `url` (`postgresql://host:port/dqe`; None: `default_url`).

    `options` are psycopg's (`autocommit=True`, `connect_timeout=5`, ...). Raises
    `OperationalError` when the node cannot be reached.
    """
    options.setdefault("dbname", DATABASE)
    options.setdefault("user", "dqe")
    options.update(psycopg.conninfo.conninfo_to_dict(url or default_url()) | options_of(options))
    return psycopg.connect(**options)


def options_of(options: dict[str, Any]) -> dict[str, Any]:
    """Options given by name win over the URL's, but not our defaults over the URL's."""
    return {k: v for k, v in options.items() if k not in ("dbname", "user")}
