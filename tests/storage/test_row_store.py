"""The row store against a plain twin, reads by key and ranges, definitions and damage."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from storage_doubles import Twin, delete, fragment, insert, keys, rows, update

from cluster.errors import DataCorrupted, IoError
from storage import row_scan, types
from storage.fragments import (
    END_OF_TIME,
    AccessMethod,
    FragmentChange,
    FragmentSchema,
    StoreColumn,
    StoreIndex,
    Timestamp,
    UniqueKey,
)
from storage.moves import begin_with
from storage.operations import (
    AlterOperation,
    CommitOperation,
    HorizonOperation,
    Operation,
    StorePosition,
)
from storage.row_files import PAGE_BYTES, wal_path
from storage.row_meta import write_position
from storage.row_store import RowStore
from storage.types import Kind, SqlType


def row_fragment(fragment_id: int = 12, **more: Any) -> FragmentSchema:
    plain = fragment(fragment_id)
    return FragmentSchema(
        fragment_id, plain.columns, plain.key, plain.unique, "t", AccessMethod.ROW, **more
    )


def text_keyed(fragment_id: int = 20) -> FragmentSchema:
    """`t (name text, day date, amount numeric(12,2), primary key (name, day))`."""
    columns = (
        StoreColumn("c1", types.TEXT, "name"),
        StoreColumn("c2", types.DATE, "day"),
        StoreColumn("c3", SqlType(Kind.NUMERIC, precision=12, scale=2), "amount"),
    )
    unique = (UniqueKey("t_pkey", ("c1", "c2")), UniqueKey("t_amount", ("c3",)))
    indexes = (StoreIndex("t_day", ("c2", "c1")),)
    return FragmentSchema(
        fragment_id, columns, ("c1", "c2"), unique, "t", AccessMethod.ROW, indexes
    )


def text_rows(*some: tuple[str, int, str | None]) -> FragmentChange:
    names, days, amounts = zip(*some, strict=True)
    batch = pa.record_batch(
        {
            "c1": pa.array(names, pa.string()),
            "c2": pa.array(days, pa.int32()).cast(pa.date32()),
            "c3": pa.array(
                [None if a is None else Decimal(a) for a in amounts], pa.decimal128(12, 2)
            ),
        }
    )
    return FragmentChange(20, insert_rows=batch)


def read(store: RowStore, timestamp: Timestamp, fragment_id: int = 12) -> list[Any]:
    """The rows at the timestamp: found by a scan, and the same by their keys and by Arrow."""
    tables = store.tables(fragment_id)
    found = store.scan(fragment_id, timestamp)
    for stored in found:
        assert store.get(fragment_id, tables.key_of(stored), timestamp) == stored
    scan = store.snapshot()
    batch = scan.rows_at(fragment_id, tables.names, timestamp)
    scan.close()
    plain = sorted((tables.decode_row(stored) for stored in found), key=repr)
    if fragment_id == 12:
        assert sorted(zip(*batch.to_pydict().values(), strict=True), key=repr) == plain
        for missing in {*range(7)} - {row[0] for row in plain}:
            assert store.get(fragment_id, (missing,), timestamp) is None
    return plain


@pytest.fixture
def store(tmp_path: Path) -> RowStore:
    store = RowStore(7, tmp_path / "7.rows")
    store.apply([AlterOperation([row_fragment()], 1)], 1)
    return store


class StoreMachine(RuleBasedStateMachine):
    """Transactions of any shape, applied in batches of any length, read at any time, with
    machines that lose what was not synced and replay it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="dqe-rows-"))
        self.path = self.directory / "7.rows"
        self.store = RowStore(7, self.path)
        self.log: list[Operation] = []
        self.twin = Twin()
        self.present: set[int] = set()
        self.timestamp = 10

    @initialize()
    def create(self) -> None:
        self.log.append(AlterOperation([row_fragment()], 1))
        self.flush(1)
        self.checkpoint()

    @rule(data=st.data(), chunks=st.integers(1, 4))
    def transaction(self, data: st.DataObject, chunks: int) -> None:
        changes = [self._change(data) for _ in range(chunks)]
        self.timestamp += 1
        self.twin.commit(self.timestamp, changes)
        self.log.append(CommitOperation(self.timestamp, changes, len(self.log) + 1))

    def _change(self, data: st.DataObject) -> FragmentChange:
        ids = st.lists(st.integers(0, 6), unique=True, max_size=4)
        truncate = data.draw(st.integers(0, 9)) == 0
        if truncate:
            self.present.clear()
        gone = data.draw(ids)
        self.present.difference_update(gone)
        new = [i for i in data.draw(ids) if i not in self.present]
        self.present.update(new)
        text = data.draw(st.sampled_from(["a", "b", None]))
        return FragmentChange(
            12,
            keys(*gone) if gone else None,
            rows(*((i, text) for i in new)) if new else None,
            truncate,
        )

    @rule(count=st.integers(1, 5))
    def flush(self, count: int) -> None:
        start = self.store.position.applied_index
        batch = self.log[start : start + count]
        self.store.apply(batch, start + len(batch))

    @rule(copy_back=st.booleans())
    def checkpoint(self, copy_back: bool = False) -> None:
        index = self.store.position.applied_index
        self.store.checkpoint(f"image {index}".encode(), index)
        if copy_back:
            self.store.copy_back()
        names = [self.path, Path(f"{self.path}-wal")]
        self.saved = [(name, name.read_bytes()) for name in names if name.exists()]

    @rule()
    def lose_power(self) -> None:
        self.store.close()
        for name in self.directory.iterdir():
            name.unlink()
        for name, data in self.saved:
            name.write_bytes(data)
        self.store = RowStore(7, self.path)
        index = self.store.position.applied_index
        assert (self.store.image_index, self.store.image) == (index, f"image {index}".encode())

    @rule()
    def close_and_open(self) -> None:
        before = self.store.position
        self.store.close()
        self.store = RowStore(7, self.path)
        assert self.store.position == before

    @precondition(lambda self: self.timestamp > 10)
    @rule(back=st.integers(0, 6))
    def read_somewhere(self, back: int) -> None:
        self.flush(len(self.log))
        timestamp = max(10, self.timestamp - back)
        assert read(self.store, timestamp) == self.twin.at(timestamp)

    @rule()
    def build_another(self) -> None:
        other = RowStore(8, self.directory / "8.rows")
        other.apply([AlterOperation([row_fragment(99)], 5)], 1)
        source, position = self.store.source(12), self.store.position
        begin_with(
            other, [row_fragment()], {12: source}, replace(position, applied_index=1000), b"x", 7
        )
        source.close()
        assert (sorted(other.fragments), other.image, other.image_index) == ([12], b"x", 7)
        newest = position.max_commit_ts
        for timestamp in (newest, newest - 1):
            assert read(other, timestamp) == read(self.store, timestamp)
        assert other.position.applied_index == 1000
        other.drop()

    @invariant()
    def only_whole_entries(self) -> None:
        assert self.store.position.applied_index <= len(self.log)

    def teardown(self) -> None:
        self.flush(len(self.log))
        for timestamp in range(9, self.timestamp + 2):
            assert read(self.store, timestamp) == self.twin.at(timestamp)
        self.store.close()
        shutil.rmtree(self.directory)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_a_commit_below_a_later_one_is_seen_at_its_time(store: RowStore) -> None:
    """`commit` entries may be applied after higher ones (rule R1): the maximum counts."""
    store.apply([CommitOperation(20, [insert((2, "late"))])], 2)
    store.apply([CommitOperation(15, [insert((1, "early"))])], 3)
    assert read(store, 17) == [(1, "early")]
    assert read(store, 20) == [(1, "early"), (2, "late")]


def test_a_scan_never_changes(store: RowStore) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"), (2, "b"))])], 2)
    scan = store.snapshot()
    store.apply([CommitOperation(11, [update((1, "A")), delete(2)])], 3)
    store.checkpoint(b"", 3)
    store.copy_back()
    assert scan.rows_at(12, ["c2"], 10).to_pydict() == {"c2": ["a", "b"]}
    assert scan.position.applied_index == 2
    scan.close()
    assert read(store, 11) == [(1, "A")]


def test_a_scan_leaves_no_row_between_its_batches(
    store: RowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.apply([CommitOperation(10, [insert(*((i, "a") for i in range(10)))], 2)], 2)
    monkeypatch.setattr(row_scan, "SCAN_BATCH_ROWS", 3)
    scan = store.snapshot()
    batches = list(scan.rows(12, ["c1"]))
    scan.close()
    assert [batch.column(0).to_pylist() for batch in batches] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9],
    ]


def test_a_source_fixes_what_it_gives(store: RowStore) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"))])], 2)
    source = store.source(12)
    store.apply([CommitOperation(11, [update((1, "A"))])], 3)
    for _ in range(2):  # an apply that failed is tried again
        current, history = source.open()
    assert [batch.to_pylist() for batch in current] == [[{"c1": 1, "c2": "a", "begin_ts": 10}]]
    assert list(history) == []
    assert (source.index, source.max_commit_ts) == (2, 10)
    source.close()


def test_entries_that_came_with_the_source_are_not_taken_twice(
    store: RowStore, tmp_path: Path
) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"))], 2)], 2)
    store.apply([CommitOperation(11, [update((1, "b"))], 3)], 3)
    other = RowStore(8, tmp_path / "8.rows")
    other.apply([AlterOperation([row_fragment()], 1, {12: store.source(12)})], 1)
    other.apply([CommitOperation(10, [insert((1, "a"))], 2)], 2)
    assert read(other, 11) == [(1, "b")]
    assert read(other, 10) == [(1, "a")]
    other.apply([CommitOperation(11, [update((1, "b"))], 3)], 3)
    other.close()
    again = RowStore(8, tmp_path / "8.rows")
    again.apply([CommitOperation(12, [update((1, "c"))], 4)], 4)
    assert [read(again, at) for at in (10, 11, 12)] == [[(1, "a")], [(1, "b")], [(1, "c")]]


def test_history_goes_with_the_horizon(store: RowStore) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"))])], 2)
    store.apply([CommitOperation(11, [delete(1)])], 3)
    store.apply([CommitOperation(13, [insert((2, "b"))]), HorizonOperation(12)], 4)
    assert store.prunable
    store.prune(10)
    assert not store.prunable
    assert store.size()[0].history_rows == 0
    assert (store.horizon, store.position.horizon) == (12, 12)
    store.apply([HorizonOperation(5)], 5)
    assert store.position.horizon == 12


def test_ranges_in_the_order_of_key_and_index(store: RowStore) -> None:
    store.apply([AlterOperation([row_fragment(), text_keyed()], 2)], 2)
    some = [("a", 3, "1.00"), ("a", -7, "2.00"), ("B", 3, None), ("é", 0, "3.00")]
    store.apply([CommitOperation(10, [text_rows(*some)])], 3)
    store.apply([CommitOperation(11, [text_rows(("a", 5, "9.00"))])], 4)

    def names(**how: Any) -> list[tuple[str, int]]:
        return [row[:2] for row in store.scan(20, **how)]

    assert names() == [("B", 3), ("a", -7), ("a", 3), ("a", 5), ("é", 0)]
    assert names(timestamp=10) == [("B", 3), ("a", -7), ("a", 3), ("é", 0)]
    assert names(prefix=["a"], low=(-7, False)) == [("a", 3), ("a", 5)]
    assert names(prefix=["a"], low=(-7, True), high=(5, False)) == [("a", -7), ("a", 3)]
    assert names(prefix=["a"], timestamp=10, high=(3, True)) == [("a", -7), ("a", 3)]
    assert names(index=["c2", "c1"], prefix=[3]) == [("B", 3), ("a", 3)]
    assert names(index=["c2", "c1"], descending=True, limit=2) == [("a", 5), ("a", 3)]
    assert store.scan(20, index=["c3"], low=(200, False))[0][:3] == ("é", 0, 300)


def test_ranges_go_by_the_index(store: RowStore) -> None:
    store.apply([AlterOperation([row_fragment(), text_keyed()], 2)], 2)
    where = '"c2" = ?1'
    plan = store._connection.execute(
        f"EXPLAIN QUERY PLAN {store.tables(20).scan_sql(where, earlier=False)}", (1,)
    ).fetchall()
    assert "USING INDEX f20_c2_c1" in plan[0][-1]


def test_unique_keys_are_found_by_their_index(store: RowStore) -> None:
    store.apply([AlterOperation([row_fragment(), text_keyed()], 2)], 2)
    store.apply([CommitOperation(10, [text_rows(("a", 3, "1.00"), ("b", 4, None))])], 3)
    tables = store.tables(20)
    assert store.find(20, ["c3"], [100]) == [("a", 3)]
    assert store.find(20, ["c3"], [101]) == []
    assert store.find(20, ["c1", "c2"], ["b", 4]) == [("b", 4)]
    plan = store._connection.execute(
        f"EXPLAIN QUERY PLAN {tables.lookup_sql(['c3'])}", (1,)
    ).fetchall()
    assert "INDEX f20_c3" in plan[0][-1]


def test_keys_are_equal_as_in_sql(tmp_path: Path) -> None:
    columns = (StoreColumn("c1", types.FLOAT8), StoreColumn("c2", types.INTERVAL))
    unique = (UniqueKey("t_pkey", ("c1",)), UniqueKey("t_span", ("c2",)))
    schema = FragmentSchema(12, columns, ("c1",), unique, "t", AccessMethod.ROW)
    store = RowStore(7, tmp_path / "7.rows")
    month = pa.array([pa.MonthDayNano([1, 0, 0])], pa.month_day_nano_interval())
    batch = pa.record_batch({"c1": pa.array([-0.0]), "c2": month})
    store.apply(
        [
            AlterOperation([schema], 1),
            CommitOperation(10, [FragmentChange(12, insert_rows=batch)]),
        ],
        2,
    )
    tables = store.tables(12)
    assert store.get(12, tables.encode_key([0.0])) is not None
    assert store.get(12, tables.encode_key([-0.0])) is not None
    thirty_days = tables.encoding("c2").encode(pa.MonthDayNano([0, 30, 0]))
    assert len(store.find(12, ["c2"], [thirty_days])) == 1


def test_definitions_change(store: RowStore) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"))])], 2)
    indexed = row_fragment(indexes=(StoreIndex("t_v", ("c2",)),))
    store.apply([AlterOperation([indexed, row_fragment(13), fragment(14)], 2)], 3)
    assert sorted(store.fragments) == [12, 13]  # 14 is columnar
    assert [row[:2] for row in store.scan(12, index=["c2"])] == [(1, "a")]
    store.apply([AlterOperation([row_fragment(13)], 3)], 4)
    assert (sorted(store.fragments), store.position.schema_version) == ([13], 3)
    # What was under way for a fragment that is gone has no effect.
    store.apply([CommitOperation(12, [insert((1, "a"))])], 5)
    store.close()
    assert sorted(RowStore(7, store.path).fragments) == [13]


def test_a_failed_apply_changes_nothing(store: RowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"))])], 2)
    operations = [
        AlterOperation([row_fragment(), row_fragment(13)], 2),
        CommitOperation(11, [update((1, "b"))]),
    ]
    monkeypatch.setattr("storage.row_store.apply_change", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.apply(operations, 4)
    monkeypatch.undo()
    assert (store.position.applied_index, sorted(store.fragments)) == (2, [12])
    # What was announced stands, and a read meets the rows as they were all the same.
    assert read(store, 10) == read(store, END_OF_TIME) == [(1, "a")]
    store.apply(operations, 4)
    assert read(store, 11) == [(1, "b")]


def test_a_reader_on_the_loop_is_told_before_it_is_true(
    store: RowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another thread writes, `newest_ts` and `horizon` are never behind the tables."""
    store.apply([CommitOperation(10, [insert((1, "a"))])], 2)
    seen = []
    real = write_position

    def look(connection: Any, position: StorePosition) -> None:
        seen.append((store.newest_ts, store.horizon, [row[:2] for row in store.scan(12, 10)]))
        real(connection, position)

    monkeypatch.setattr("storage.row_store.write_position", look)
    store.apply([CommitOperation(20, [update((1, "b"))]), HorizonOperation(9)], 4)
    assert seen == [(20, 9, [(1, "a")])]


def test_reads_between_changes_do_not_keep_the_log_file(store: RowStore) -> None:
    """The loop reads in a transaction that stays open: nothing of it is in the way of others."""
    store.is_idle = lambda: True
    longest = 0
    for index in range(3, 60):
        store.take_in([CommitOperation(index, [insert((index, "x" * 2000))], index)], index)
        assert store.get(12, (index,)) is not None
        store.settle()
        assert store.get(12, (index,)) is not None
        scan = store.snapshot()
        assert scan.position.applied_index == index
        scan.close()
        longest = max(longest, store.wal_bytes)
        store.copy_back()
        assert store.get(12, (index,)) is not None
    assert longest < 20 * PAGE_BYTES


def test_a_sync_that_failed_is_never_tried_again(
    store: RowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system dropped once it will not write by being asked again (rule L1)."""
    store.checkpoint(b"first", 1)
    synced: list[Path] = []

    def refuse(path: Path) -> None:
        synced.append(path)
        raise OSError("no")

    monkeypatch.setattr("storage.row_store.sync_path", refuse)
    store.apply([CommitOperation(10, [insert((1, "a"))])], 2)
    with pytest.raises(IoError):
        store.checkpoint(b"second", 2)
    assert synced == [wal_path(store.path)]
    monkeypatch.undo()
    with pytest.raises(IoError):
        store.checkpoint(b"third", 2)
    assert (store.image_index, store.image) == (1, b"first")


def test_a_file_that_is_none_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "3.rows"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(DataCorrupted, match="could not open"):
        RowStore(3, path)


def test_sizes(store: RowStore) -> None:
    store.apply([CommitOperation(10, [insert(*((i, "x" * 100) for i in range(1000)))])], 2)
    store.apply([CommitOperation(11, [delete(*range(10))])], 3)
    size = store.size()[0]
    assert (size.rows, size.history_rows) == (990, 10)
    assert 100_000 < size.size_bytes < 400_000
    assert store.file_bytes > 100_000
