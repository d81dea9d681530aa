"""The columnar store against a plain twin, crashes included."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from storage_doubles import SMALL, Twin, delete, fragment, insert, keys, rows, update

from cluster.errors import DataCorrupted, ObjectNotInPrerequisiteState, SnapshotTooOld
from storage import columnar_apply, types
from storage.columnar import ColumnarStore
from storage.duckdb_node import DuckDbNode
from storage.fragments import FragmentChange, FragmentSchema, StoreColumn, Timestamp
from storage.operations import AlterOperation, CommitOperation, HorizonOperation, Operation
from storage.snapshot import StoreSnapshot, open_views
from storage.stored_changes import StoredChange, row_tables
from storage.transfer import ReceivedContents, column_sources, replace_columns, write_contents

FORM = row_tables(fragment())


def read(
    node: DuckDbNode, store: ColumnarStore, timestamp: Timestamp, fragment_id: int = 12
) -> list[Any]:
    reads = {(store.tablet_id, fragment_id): store.tables(fragment_id)}
    cursor, views = open_views(node, reads, timestamp)
    snapshot = StoreSnapshot(cursor, views, timestamp)
    try:
        names = store.fragments[fragment_id].names
        relation = snapshot.relation_sql(store.tablet_id, fragment_id, names)
        return sorted(snapshot.cursor.execute(f"SELECT * FROM {relation}").fetchall(), key=repr)
    finally:
        snapshot.close()


@pytest.fixture
def store(node: DuckDbNode, tmp_path: Path) -> ColumnarStore:
    store = ColumnarStore(node, 7, tmp_path / "7.duckdb")
    store.apply([AlterOperation([fragment()], 1)], 1)
    return store


class StoreMachine(RuleBasedStateMachine):
    """Transactions of any shape, applied in batches of any length, read at any time, with
    crashes that go back to the last checkpoint and replay."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="dqe-store-"))
        self.node = DuckDbNode(self.directory / "spill", SMALL)
        self.store = ColumnarStore(self.node, 7, self.directory / "7.duckdb")
        self.log: list[Operation] = []
        self.twin = Twin()
        self.present: set[int] = set()
        self.timestamp = 10
        self.pruned_to = 0
        self.saved = b""

    @initialize()
    def create(self) -> None:
        self.log.append(AlterOperation([fragment()], 1))
        self.flush(1)
        self.checkpoint()

    @rule(data=st.data(), chunks=st.integers(1, 4))
    def transaction(self, data: st.DataObject, chunks: int) -> None:
        changes = []
        for _ in range(chunks):
            change = self._change(data)
            changes.append(change)
        self.timestamp += 1
        self.twin.commit(self.timestamp, changes)
        self.log.append(CommitOperation(self.timestamp, changes))

    def _change(self, data: st.DataObject) -> FragmentChange:
        ids = st.lists(st.integers(0, 6), unique=True, max_size=4)
        truncate = data.draw(st.booleans() if data.draw(st.integers(0, 5)) == 0 else st.just(False))
        if truncate:
            self.present.clear()
        gone = data.draw(ids)
        self.present.difference_update(gone)
        new = [i for i in data.draw(ids) if i not in self.present]
        self.present.update(new)
        text = data.draw(st.sampled_from(["a", "b", None]))
        if not truncate and data.draw(st.booleans()):
            return StoredChange(FORM, [(i,) for i in gone], [(i, text) for i in new])
        return FragmentChange(
            12,
            keys(*gone) if gone else None,
            rows(*((i, text) for i in new)) if new else None,
            truncate,
        )

    @rule(behind=st.integers(0, 3))
    def horizon(self, behind: int) -> None:
        self.pruned_to = max(self.pruned_to, self.timestamp - behind)
        self.log.append(HorizonOperation(self.pruned_to))

    @rule(count=st.integers(1, 5))
    def flush(self, count: int) -> None:
        start = self.store.position.applied_index
        batch = self.log[start : start + count]
        self.store.apply(batch, start + len(batch))

    @rule()
    def checkpoint(self) -> None:
        index = self.store.position.applied_index
        self.store.checkpoint(f"image {index}".encode(), index)
        self.saved = (self.directory / "7.duckdb").read_bytes()

    @rule()
    def crash(self) -> None:
        self.node.close()
        (self.directory / "7.duckdb").write_bytes(self.saved)
        self.node = DuckDbNode(self.directory / "spill", SMALL)
        self.store = ColumnarStore(self.node, 7, self.directory / "7.duckdb")
        index = self.store.position.applied_index
        assert (self.store.image_index, self.store.image) == (index, f"image {index}".encode())

    @precondition(lambda self: self.timestamp > 10)
    @rule(back=st.integers(0, 6))
    def read_somewhere(self, back: int) -> None:
        self.flush(len(self.log))
        timestamp = max(10, self.pruned_to, self.timestamp - back)
        assert read(self.node, self.store, timestamp) == self.twin.at(timestamp)

    @rule()
    def transfer(self) -> None:
        other = ColumnarStore(self.node, 8, self.directory / "8.duckdb")
        other.apply([AlterOperation([fragment(99)], 5)], 1)
        path = self.directory / "on its way"
        write_contents(path, *column_sources(self.store), b"x")
        received = ReceivedContents(path)
        replace_columns(other, received, 1000)
        received.close()
        applied = [
            o.timestamp
            for o in self.log[: self.store.position.applied_index]
            if isinstance(o, CommitOperation)
        ]
        newest = max(applied, default=10)
        for timestamp in {newest, max(newest - 1, self.store.position.horizon)}:
            wanted = read(self.node, self.store, timestamp)
            assert read(self.node, other, timestamp) == wanted
        assert other.position.applied_index == 1000
        other.drop()

    @invariant()
    def only_whole_entries(self) -> None:
        assert self.store.position.applied_index <= len(self.log)

    def teardown(self) -> None:
        self.flush(len(self.log))
        for timestamp in range(max(9, self.pruned_to), self.timestamp + 2):
            assert read(self.node, self.store, timestamp) == self.twin.at(timestamp)
        self.node.close()
        shutil.rmtree(self.directory)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)


def test_a_commit_below_a_later_one_is_seen_at_its_time(
    node: DuckDbNode, store: ColumnarStore
) -> None:
    """`commit` entries may be applied after higher ones (rule R1): the maximum counts."""
    store.apply([CommitOperation(20, [insert((2, "late"))])], 2)
    store.apply([CommitOperation(15, [insert((1, "early"))])], 3)
    assert store.position.max_commit_ts == 20
    assert read(node, store, 17) == [(1, "early")]
    assert read(node, store, 20) == [(1, "early"), (2, "late")]


def test_an_open_snapshot_never_changes(node: DuckDbNode, store: ColumnarStore) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"), (2, "b"))])], 2)
    cursor, views = open_views(node, {(7, 12): store.tables(12)}, 10)
    snapshot = StoreSnapshot(cursor, views, 10)
    store.apply([CommitOperation(11, [update((1, "A")), delete(2)])], 3)
    store.checkpoint(b"", 3)  # beside an old reader (rule L4)
    relation = snapshot.relation_sql(7, 12, ["c2"])
    assert relation == '(SELECT "c2" FROM "t7"."f12")'
    assert snapshot.cursor.execute(f"SELECT * FROM {relation}").fetchall() == [("a",), ("b",)]
    assert snapshot.applied_index(7, 12) == 2
    snapshot.close()
    snapshot.close()
    assert read(node, store, 11) == [(1, "A")]


def test_no_columns_still_count_rows(node: DuckDbNode, store: ColumnarStore) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"), (2, "b"))])], 2)
    cursor, views = open_views(node, {(7, 12): store.tables(12)}, 10)
    snapshot = StoreSnapshot(cursor, views, 10)
    relation = snapshot.relation_sql(7, 12, [])
    assert snapshot.cursor.execute(f"SELECT count(*) FROM {relation}").fetchone() == (2,)
    snapshot.close()


def test_an_expired_snapshot_says_so(node: DuckDbNode, store: ColumnarStore) -> None:
    cursor, views = open_views(node, {(7, 12): store.tables(12)}, 10)
    snapshot = StoreSnapshot(cursor, views, 10)
    snapshot.expire()
    with pytest.raises(SnapshotTooOld, match="too old"):
        _ = snapshot.cursor
    snapshot.close()


def test_below_the_horizon_nothing_is_read(node: DuckDbNode, store: ColumnarStore) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"))])], 2)
    store.apply([CommitOperation(11, [delete(1)])], 3)
    store.apply([CommitOperation(13, [insert((2, "b"))]), HorizonOperation(12)], 4)
    assert read(node, store, 12) == []
    assert read(node, store, 13) == [(2, "b")]
    with pytest.raises(SnapshotTooOld, match="below the horizon"):
        read(node, store, 11)
    assert store.prunable
    store.prune(10)
    assert not store.prunable
    assert store.size()[0].history_rows == 0
    store.apply([HorizonOperation(5)], 5)
    assert store.position.horizon == 12


def test_what_ended_by_the_horizon_is_never_kept(node: DuckDbNode, store: ColumnarStore) -> None:
    changes = [StoredChange(FORM, [(1,)] * (ts > 10), [(1, f"at {ts}")]) for ts in range(10, 20)]
    log = [CommitOperation(10 + n, [change], 2 + n) for n, change in enumerate(changes)]
    store.apply([*log[:6], HorizonOperation(17), *log[6:]], 12)
    assert [read(node, store, ts) for ts in (17, 18, 19)] == [
        [(1, f"at {ts}")] for ts in (17, 18, 19)
    ]
    assert store.size()[0].history_rows == 2
    with pytest.raises(SnapshotTooOld):
        read(node, store, 16)


def test_fragments_come_and_go(node: DuckDbNode, store: ColumnarStore) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"))])], 2)
    renamed = FragmentSchema(12, fragment().columns, ("c1",), (), "renamed")
    store.apply([AlterOperation([renamed, fragment(13)], 2)], 3)
    assert store.fragments[12].table_name == "renamed"
    gone = store.tables(12)
    store.apply([AlterOperation([fragment(13)], 3)], 4)
    store.apply([CommitOperation(11, [insert((1, "a")), insert((1, "x"), fragment_id=13)])], 5)
    assert read(node, store, 11, 13) == [(1, "x")]
    with pytest.raises(ObjectNotInPrerequisiteState, match="fragment 12 of tablet 7"):
        open_views(node, {(7, 12): gone}, 11)
    assert store.position.schema_version == 3


def test_others_see_a_new_fragment_from_its_commit_on(
    node: DuckDbNode, store: ColumnarStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    write_position = store._write_position

    def look(position: object) -> None:
        seen.append(tuple(store.fragments))
        for fragment_id in store.fragments:
            with node.cursor() as cursor:
                cursor.execute(f"SELECT * FROM {store.tables(fragment_id).current}")
        write_position(position)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_write_position", look)
    store.apply([AlterOperation([fragment(), fragment(13)], 2)], 2)
    store.apply([AlterOperation([fragment(13)], 3)], 3)
    assert seen == [(12,), (13,)]
    assert tuple(store.fragments) == (13,)


def test_a_failed_apply_changes_nothing(
    node: DuckDbNode, store: ColumnarStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.apply([CommitOperation(10, [insert((1, "a"))])], 2)
    before = store.position, dict(store.fragments)

    def fail(*_: object) -> None:
        raise duckdb.IOException("no space left")

    monkeypatch.setattr(columnar_apply, "_insert", fail)
    operations = [
        AlterOperation([fragment(), fragment(13)], 2),
        CommitOperation(11, [insert((2, "b"))]),
    ]
    with pytest.raises(duckdb.IOException):
        store.apply(operations, 4)
    assert (store.position, dict(store.fragments)) == before
    monkeypatch.undo()
    store.apply(operations, 4)
    assert read(node, store, 11) == [(1, "a"), (2, "b")]


def test_every_type_survives(node: DuckDbNode, tmp_path: Path) -> None:
    kinds = [
        types.BOOL,
        types.INT2,
        types.INT4,
        types.INT8,
        types.FLOAT4,
        types.FLOAT8,
        types.NUMERIC,
        types.TEXT,
        types.BYTEA,
        types.DATE,
        types.TIME,
        types.TIMESTAMP,
        types.TIMESTAMPTZ,
        types.INTERVAL,
        types.UUID,
        types.JSON,
        types.array_of(types.TEXT),
        types.SqlType(types.Kind.NUMERIC, precision=12, scale=2),
    ]
    columns = (
        StoreColumn("c0", types.INT8),
        *(StoreColumn(f"c{i + 1}", t) for i, t in enumerate(kinds)),
    )
    store = ColumnarStore(node, 9, tmp_path / "9.duckdb")
    schema = FragmentSchema(5, columns, ("c0",), (), "t")
    store.apply([AlterOperation([schema], 1)], 1)
    literals = (
        "true, 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 4.25::decimal(38,16), 'é',"
        " '\\x00ff'::blob, 'infinity'::date, time '23:59:59.999999', timestamp '0001-01-01',"
        " 'infinity'::timestamptz, interval '1 month 2 days 3 us',"
        " 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '{\"a\": 1}', ['x', NULL],"
        " 9.99::decimal(12,2)"
    )
    with node.cursor() as cursor:
        source = cursor.sql(
            f"SELECT 1::int8, {literals} UNION ALL SELECT 2, {', '.join(['NULL'] * 18)}"
        )
        table = source.to_arrow_table()
    batch = pa.RecordBatch.from_arrays(
        [
            c.combine_chunks().cast(f.type) if c.type != f.type else c.combine_chunks()
            for c, f in zip(table.columns, schema.arrow_schema(), strict=True)
        ],
        schema=schema.arrow_schema(),
    )
    store.apply([CommitOperation(10, [FragmentChange(5, insert_rows=batch)])], 2)
    with node.cursor() as cursor:
        stored = cursor.sql("SELECT * EXCLUDE (begin_ts) FROM t9.f5 ORDER BY c0").to_arrow_table()
    for column, original in zip(stored.columns, table.columns, strict=True):
        assert str(column.combine_chunks()) == str(original.combine_chunks())


def test_a_file_that_is_none_is_refused(node: DuckDbNode, tmp_path: Path) -> None:
    path = tmp_path / "3.duckdb"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(DataCorrupted, match="could not open the store of tablet 3"):
        ColumnarStore(node, 3, path)


def test_sizes(store: ColumnarStore) -> None:
    store.apply([CommitOperation(10, [insert(*((i, "x" * 50) for i in range(1000)))])], 2)
    store.apply([CommitOperation(11, [delete(*range(100))])], 3)
    store.checkpoint(b"", 3)
    (size,) = store.size()
    assert (size.rows, size.history_rows) == (900, 100)
    assert 0 < size.size_bytes <= store.file_bytes
