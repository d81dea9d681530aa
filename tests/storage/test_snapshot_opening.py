"""Snapshots opened while their store commits: what they see is what they say they see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from storage_doubles import fragment, insert

from storage.columnar import ColumnarStore
from storage.columnar_apply import StoreState
from storage.duckdb_node import DuckDbNode
from storage.operations import AlterOperation, CommitOperation
from storage.snapshot import OPEN_TRIES, open_views, relation_sql

READ = (7, 12)


@pytest.fixture
def store(node: DuckDbNode, tmp_path: Path) -> ColumnarStore:
    store = ColumnarStore(node, 7, tmp_path / "7.duckdb")
    store.apply([AlterOperation([fragment()], 1)], 1)
    commit(store, 10)
    return store


def commit(store: ColumnarStore, timestamp: int) -> None:
    """One more row, whose key is the timestamp."""
    change = insert((timestamp, "x"))
    operation = CommitOperation(timestamp, [change])
    store.apply([operation], store.position.applied_index + 1)


def keys_read(
    node: DuckDbNode, store: ColumnarStore, timestamp: int, state: Callable[[], StoreState | None]
) -> list[int]:
    tables = replace(store.tables(12), state=state)
    cursor, views = open_views(node, {READ: tables}, timestamp)
    with cursor:
        relation = relation_sql(views[READ], ["c1"], timestamp)
        return sorted(row[0] for row in cursor.execute(f"FROM {relation}").fetchall())


@pytest.mark.parametrize("commits", [1, OPEN_TRIES, 10 * OPEN_TRIES])
def test_commit_between_the_look_and_the_opening_is_not_seen(
    node: DuckDbNode, store: ColumnarStore, commits: int
) -> None:
    calls = 0

    def state() -> StoreState | None:
        nonlocal calls
        seen = store.state()
        calls += 1
        if calls <= commits:
            commit(store, 10 + calls)
        return seen

    assert keys_read(node, store, 10, state) == [10]
    assert calls > 1


def test_meta_tables_are_read_while_a_store_commits(node: DuckDbNode, store: ColumnarStore) -> None:
    commit(store, 20)
    assert keys_read(node, store, 15, lambda: None) == [10]
    assert keys_read(node, store, 20, lambda: None) == [10, 20]


class WatchedCursor:
    """A cursor that looks at its store's state just before each COMMIT."""

    def __init__(self, store: ColumnarStore) -> None:
        self._store = store
        self._cursor: Any = store._cursor
        self.seen: list[StoreState | None] = []

    def execute(self, text: str, *rest: Any) -> Any:
        if text == "COMMIT":
            self.seen.append(self._store.state())
        return self._cursor.execute(text, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def test_no_state_is_shown_during_a_commit_and_another_after_it(store: ColumnarStore) -> None:
    before = store.state()
    watched: Any = WatchedCursor(store)
    store._cursor = watched
    commit(store, 20)
    store.checkpoint(b"", 3)
    assert watched.seen == [None, None]
    after = store.state()
    assert after is not None
    assert before is not None
    assert (after.recency[12], before.recency[12]) == (20, 10)
