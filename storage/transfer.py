"""A columnar store as bytes and back: what a replica that is too far behind is sent.

Current and history rows of every fragment travel as Arrow IPC streams, with the position they
stand for. Blocking; the caller holds the store's turn. Memory holds the whole tablet once:
streaming in pieces comes with replication of data tablets at scale.
"""

from __future__ import annotations

import msgspec
import pyarrow as pa

from storage.columnar import ColumnarStore
from storage.fragments import FragmentSchema, Timestamp
from storage.operations import StorePosition


class FragmentContents(msgspec.Struct, frozen=True, array_like=True):
    """A fragment's definition, recency and rows."""

    schema: FragmentSchema
    max_commit_ts: Timestamp
    current: bytes
    history: bytes


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
    rows = {
        f.schema.fragment_id: (f.max_commit_ts, _from_ipc(f.current), _from_ipc(f.history))
        for f in contents.fragments
    }
    schemas = [f.schema for f in contents.fragments]
    store.replace(schemas, rows, contents.position, image, index)


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _from_ipc(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
