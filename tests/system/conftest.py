"""A cluster of three node processes, started once for all system tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dqe.local_cluster import LocalCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes in two regions."""
    directory: Path = tmp_path_factory.mktemp("cluster")
    with LocalCluster(3, directory, regions=("east", "west")) as running:
        yield running


@pytest.fixture
def connection(cluster: LocalCluster) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the first node; tables a test makes in `public` are dropped after."""
    with psycopg.connect(cluster.url, autocommit=True) as opened:
        yield opened
        drop_tables(opened)


def drop_tables(connection: psycopg.Connection[Any]) -> None:
    """Leaves `public` empty."""
    found = connection.execute(
        "select table_name, table_type from information_schema.tables "
        "where table_schema = 'public' order by table_type desc"
    ).fetchall()
    for name, kind in found:
        what = "view" if kind == "VIEW" else "table"
        connection.execute(f'drop {what} if exists "{name}" cascade'.encode())
