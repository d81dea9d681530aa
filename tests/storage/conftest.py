"""What a test of storage runs for: `pytest.mark.usefixtures("method")` is each of the stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from storage_doubles import METHODS, SMALL, Defaults

from storage.duckdb_node import DuckDbNode
from storage.fragments import AccessMethod


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AccessMethod:
    """Fragments of this store are made; a test runs for each."""
    monkeypatch.setattr(Defaults, "method", request.param)
    found: AccessMethod = request.param
    return found


@pytest.fixture(params=[AccessMethod.HYBRID, AccessMethod.ROW])
def row_method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AccessMethod:
    """The same for stores that find rows by key."""
    monkeypatch.setattr(Defaults, "method", request.param)
    found: AccessMethod = request.param
    return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DuckDbNode]:
    node = DuckDbNode(tmp_path / "spill", SMALL)
    yield node
    node.close()
