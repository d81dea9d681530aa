"""A tablet's stores as bytes and back: what a replica that is too far behind is sent.

Current and history rows of every fragment travel as Arrow IPC streams, with the position they
stand for. Blocking; the caller holds the store's turn. Memory holds the whole tablet once:
streaming in pieces comes with replication of data tablets at scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pyarrow as pa

from storage.columnar import ColumnarStore
from storage.fragments import FragmentSchema, Timestamp
from storage.moves import begin_with
from storage.operations import Batches, FragmentSource, StorePosition
from storage.row_store import RowStore
from storage.row_tables import BEGIN, END


class FragmentContents(msgspec.Struct, frozen=True, array_like=True):
    """A fragment's definition, recency and rows."""

    schema: FragmentSchema
    max_commit_ts: Timestamp
    current: bytes
    history: bytes
    # The log index that the rows stand for, where it is not that of the whole.
    index: int = 0


class StoreContents(msgspec.Struct, frozen=True):
    position: StorePosition
    fragments: tuple[FragmentContents, ...]


def export_store(store: ColumnarStore) -> StoreContents:
    """Everything in the store's tables."""
    fragments = []
    for fragment_id, schema in store.fragments.items():
        tables = store.tables(fragment_id)
        current, history = (
            _to_ipc(store.read_table(name)) for name in (tables.current, tables.history)
        )
        recency = store.recency(fragment_id)
        fragments.append(FragmentContents(schema, recency, current, history))
    return StoreContents(store.position, tuple(fragments))


def replace_store(store: ColumnarStore, contents: StoreContents, image: bytes, index: int) -> None:
    """Makes the store hold exactly these contents, durably, with the participant's image."""
    fragments = [f for f in contents.fragments if f.schema.method.in_columnar_store]
    rows = {
        f.schema.fragment_id: (f.max_commit_ts, _from_ipc(f.current), _from_ipc(f.history))
        for f in fragments
    }
    schemas = [f.schema for f in fragments]
    store.replace(schemas, rows, contents.position, image, index)


def with_row_fragments(contents: StoreContents, rows: RowStore) -> StoreContents:
    """The contents with the fragments that only the row store has, as of its index."""
    found = []
    scan = rows.snapshot()
    try:
        for fragment_id, schema in rows.fragments.items():
            if not schema.method.in_columnar_store:
                current = _to_ipc(_table(scan.rows(fragment_id), schema, (BEGIN,)))
                history = _to_ipc(_table(scan.past_rows(fragment_id), schema, (BEGIN, END)))
                newest, index = scan.position.max_commit_ts, scan.position.applied_index
                found.append(FragmentContents(schema, newest, current, history, index))
    finally:
        scan.close()
    return msgspec.structs.replace(contents, fragments=(*contents.fragments, *found))


def replace_rows(store: RowStore, contents: StoreContents, image: bytes, index: int) -> None:
    """The same as `replace_store` for the row store."""
    fragments = [f for f in contents.fragments if f.schema.method.in_row_store]
    sources = {f.schema.fragment_id: _source(f, index) for f in fragments}
    position = replace(contents.position, applied_index=index)
    begin_with(store, [f.schema for f in fragments], sources, position, image, index)


def _source(fragment: FragmentContents, index: int) -> FragmentSource:
    def open_tables() -> tuple[Batches, Batches]:
        tables = (_from_ipc(fragment.current), _from_ipc(fragment.history))
        current, history = (iter(table.to_batches()) for table in tables)
        return current, history

    return FragmentSource(
        fragment.index or index, fragment.max_commit_ts, open_tables, lambda: None
    )


def _table(batches: Batches, schema: FragmentSchema, times: Sequence[str]) -> pa.Table:
    shape = schema.arrow_schema()
    for name in times:
        shape = shape.append(pa.field(name, pa.int64()))
    return pa.Table.from_batches(list(batches), shape)


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _from_ipc(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
