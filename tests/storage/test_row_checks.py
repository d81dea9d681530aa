"""Unique constraints and changed rows, looked up in the row store; compared with the bulk checks
that the columnar store makes of the same changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storage_doubles import SMALL, insert, keys, update

from storage import types
from storage.columnar import ColumnarStore
from storage.duckdb_node import DuckDbNode
from storage.fragments import (
    AccessMethod,
    FragmentChange,
    FragmentSchema,
    StoreColumn,
    UniqueKey,
)
from storage.operations import AlterOperation, CommitOperation
from storage.row_checks import Conflict, changed_places, find_conflict
from storage.row_store import RowStore
from storage.uniqueness import find_violation

COLUMNS = (
    StoreColumn("c1", types.INT8, "id"),
    StoreColumn("c2", types.TEXT, "v"),
    StoreColumn("c3", types.INT4, "w"),
)
UNIQUE = (UniqueKey("t_pkey", ("c1",)), UniqueKey("t_v_w", ("c2", "c3")))
SCHEMA = FragmentSchema(12, COLUMNS, ("c1",), UNIQUE, "t", AccessMethod.HYBRID)
Row = tuple[int, str | None, int | None]


class Both:
    """The same fragment in both stores."""

    def __init__(self, directory: Path) -> None:
        self.node = DuckDbNode(directory / "spill", SMALL)
        self.columns = ColumnarStore(self.node, 7, directory / "7.duckdb")
        self.rows = RowStore(7, directory / "7.rows")
        self.index = 0

    def apply(self, *operations: Any) -> None:
        self.index += 1
        self.columns.apply(operations, self.index)
        self.rows.apply(operations, self.index)

    def begin(self, current: list[Row]) -> None:
        """A table with these rows and no others."""
        change = FragmentChange(12, truncate=True, insert_rows=batch(current))
        self.apply(AlterOperation([SCHEMA], 1), CommitOperation(10 + self.index, [change]))

    def close(self) -> None:
        self.rows.close()
        self.node.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    stores = Both(tmp_path_factory.mktemp("both"))
    yield stores
    stores.close()


def batch(some: list[Row]) -> pa.RecordBatch:
    columns = list(zip(*some, strict=True)) or [(), (), ()]
    kinds = (pa.int64(), pa.string(), pa.int32())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA.arrow_schema())


ROWS = st.tuples(
    st.integers(0, 4), st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None])
)
CHANGES = st.builds(
    lambda truncate, gone, new: FragmentChange(
        12, keys(*gone) if gone else None, batch(new) if new else None, truncate
    ),
    st.sampled_from([False] * 9 + [True]),
    st.lists(st.integers(0, 4), unique=True, max_size=2),
    st.lists(ROWS, max_size=3),
)


def valid(rows: list[Row]) -> list[Row]:
    """The rows without those that conflict with an earlier one."""
    kept: list[Row] = []
    for row in rows:
        pair = row[1:]
        if all(row[0] != other[0] for other in kept) and (
            None in pair or all(pair != other[1:] for other in kept)
        ):
            kept.append(row)
    return kept


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(ROWS, max_size=5).map(valid), st.lists(CHANGES, min_size=1, max_size=3))
def test_lookups_find_what_the_bulk_check_finds(
    both: Both, current: list[Row], changes: list[FragmentChange]
) -> None:
    both.begin(current)
    with both.node.cursor() as cursor:
        wanted = find_violation(cursor, both.columns.tables(12), changes)
    found = find_conflict(both.rows, 12, changes)
    assert (found is None) == (wanted is None)
    scan = both.rows.snapshot()
    assert (find_conflict(scan, 12, changes) is None) == (wanted is None)
    scan.close()


def test_the_conflict_names_constraint_and_values(both: Both) -> None:
    both.begin([(1, "a", 1)])
    found = find_conflict(both.rows, 12, [FragmentChange(12, insert_rows=batch([(2, "a", 1)]))])
    values = pa.record_batch({"c2": ["a"], "c3": pa.array([1], "i4")})
    assert found == Conflict(UNIQUE[1], values, held_by=((1,),))


def test_rows_changed_after_a_timestamp(tmp_path: Path) -> None:
    store = RowStore(7, tmp_path / "7.rows")
    schema = FragmentSchema(12, COLUMNS[:2], ("c1",), UNIQUE[:1], "t", AccessMethod.ROW)
    store.apply([AlterOperation([schema], 1)], 1)
    store.apply([CommitOperation(10, [insert((1, "a"), (2, "b"), (3, "c"))])], 2)
    store.apply([CommitOperation(11, [update((2, "B"))])], 3)
    asked = keys(3, 2, 9, 1)
    assert changed_places(store, 12, asked, 10) == [1, 2]
    assert changed_places(store, 12, asked, 9) == [0, 1, 2, 3]
    assert changed_places(store, 12, asked, 11) == [2]
