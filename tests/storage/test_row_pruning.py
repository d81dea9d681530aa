"""History that ended by the horizon goes piece by piece, and nothing else does."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from storage_doubles import fragment, insert, update

from storage.columnar import ColumnarStore
from storage.duckdb_node import DuckDbNode
from storage.fragments import AccessMethod, FragmentSchema
from storage.operations import AlterOperation, CommitOperation, HorizonOperation, Store
from storage.row_store import RowStore

KEYS = 6


def _fragment(fragment_id: int) -> FragmentSchema:
    plain = fragment(fragment_id)
    return FragmentSchema(
        fragment_id, plain.columns, plain.key, plain.unique, "t", AccessMethod.HYBRID
    )


def _filled(store: Store, updates: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Applies updates of (fragment, key), one a timestamp; the (fragment, key, end) that ended."""
    store.apply([AlterOperation([_fragment(12), _fragment(13)], 1)], 1)
    every = [(key, "0") for key in range(KEYS)]
    rows = [CommitOperation(2, [insert(*every, fragment_id=f) for f in (12, 13)])]
    store.apply(rows, 2)
    ended = []
    for at, (fragment_id, key) in enumerate(updates, 10):
        store.apply([CommitOperation(at, [update((key, str(at)), fragment_id=fragment_id)])], at)
        ended.append((fragment_id, key, at))
    return ended


def _check(store: Store, ended: list[tuple[int, int, int]], horizons: list[int], most: int) -> None:
    index = store.position.applied_index  # type: ignore[attr-defined]
    for horizon in horizons:
        index += 1
        store.apply([HorizonOperation(horizon)], index)
        steps = 0
        while store.prunable:
            store.prune(most)
            steps += 1
            assert steps < 100
        left = [e for e in ended if e[2] > max(horizons[: horizons.index(horizon) + 1])]
        sizes = {size.fragment_id: size.history_rows for size in store.size()}  # type: ignore[attr-defined]
        assert sizes == {f: sum(e[0] == f for e in left) for f in (12, 13)}


UPDATES = st.lists(st.tuples(st.sampled_from((12, 13)), st.integers(0, KEYS - 1)), max_size=30)
HORIZONS = st.lists(st.integers(5, 45), min_size=1, max_size=3, unique=True)


@settings(max_examples=60, deadline=None)
@given(UPDATES, HORIZONS, st.integers(1, 7))
def test_a_row_store_loses_what_ended_by_the_horizon(
    updates: list[tuple[int, int]], horizons: list[int], most: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = RowStore(7, Path(directory) / "7.rows")
        _check(store, _filled(store, updates), horizons, most)
        store.close()


@settings(max_examples=10, deadline=None)
@given(UPDATES, HORIZONS, st.integers(1, 7))
def test_a_columnar_store_loses_what_ended_by_the_horizon(
    updates: list[tuple[int, int]], horizons: list[int], most: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        node = DuckDbNode(Path(directory) / "spill", None, lambda _: None)
        store = ColumnarStore(node, 7, Path(directory) / "7.duckdb")
        _check(store, _filled(store, updates), horizons, most)
        store.close()
        node.close()
