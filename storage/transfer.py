"""A tablet's stores as a file and back: what a replica that is too far behind is sent.

    stores --(read transactions)--> file --(chunks, cluster.raft.snapshots)--> file --> stores

The file holds the current and the history rows of every fragment as Arrow IPC streams, batch by
batch, and behind them a directory with the position they stand for and the participant's image:
transactions that are prepared, decisions, the horizon (rule S2). Rows are read out in
transactions opened at one moment, so the log goes on being applied meanwhile, and nobody holds
more than a batch in memory; the receiver fills its stores from the file in one transaction each.

A fragment that only the row store has may be of a later log index than the rest; it says so, and
takes nothing twice.

Left out: the staged changes of transactions without outcome travel in the image, in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa

from cluster.errors import DataCorrupted
from storage.columnar import ColumnarStore
from storage.fragments import FragmentId, FragmentSchema, Timestamp
from storage.moves import begin_with
from storage.operations import Batches, FragmentSource, StorePosition
from storage.row_store import RowStore

_LENGTH = struct.Struct(">Q")
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")

Place = tuple[int, int]  # offset and length in the file


class FragmentContents(msgspec.Struct, frozen=True, array_like=True):
    """A fragment's definition, and where its rows are; they are those of log index `index`."""

    schema: FragmentSchema
    index: int
    max_commit_ts: Timestamp
    current: Place
    history: Place


class StoreContents(msgspec.Struct, frozen=True):
    """The directory of a file. `image` is the participant's."""

    position: StorePosition
    fragments: tuple[FragmentContents, ...]
    image: bytes


Sources = Sequence[tuple[FragmentSchema, FragmentSource]]


def column_sources(store: ColumnarStore) -> tuple[StorePosition, Sources]:
    """All of the columnar store as it is now; the caller holds its turn. Blocks."""
    sources = [(schema, store.source(f)) for f, schema in store.fragments.items()]
    return store.position, sources


def row_sources(store: RowStore) -> Sources:
    """What only the row store has, as it is now."""
    only_here = ((f, s) for f, s in store.fragments.items() if not s.method.in_columnar_store)
    return [(schema, store.source(fragment_id)) for fragment_id, schema in only_here]


def write_contents(path: Path, position: StorePosition, sources: Sources, image: bytes) -> None:
    """Writes the file; the sources are closed whatever comes of it. Blocks."""
    try:
        with pa.OSFile(str(path), "wb") as file:
            fragments = []
            for schema, source in sources:
                current, history = source.open()
                places = _write_rows(file, current), _write_rows(file, history)
                fragments.append(
                    FragmentContents(schema, source.index, source.max_commit_ts, *places)
                )
            contents = StoreContents(position, tuple(fragments), image)
            directory = msgspec.msgpack.encode(contents)
            file.write(directory)
            file.write(_LENGTH.pack(len(directory)))
    finally:
        for _, source in sources:
            source.close()


def _write_rows(file: pa.NativeFile, batches: Batches) -> Place:
    """One stream; of no rows, nothing."""
    start = file.tell()
    first = next(batches, None)
    if first is not None:
        with pa.ipc.new_stream(file, first.schema, options=_COMPRESSED) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
    return start, file.tell() - start


class ReceivedContents:
    """A file that `write_contents` wrote elsewhere. Close it after use."""

    def __init__(self, path: Path) -> None:
        """Raises DataCorrupted for a file that is none."""
        self._map = pa.memory_map(str(path))
        try:
            self.contents = self._read_directory()
        except (msgspec.MsgspecError, struct.error, pa.ArrowException, OSError) as error:
            self.close()
            raise DataCorrupted("a tablet's snapshot cannot be read", detail=str(error)) from error

    def _read_directory(self) -> StoreContents:
        size = self._map.size()
        self._map.seek(size - _LENGTH.size)
        (length,) = _LENGTH.unpack(self._map.read(_LENGTH.size))
        self._map.seek(size - _LENGTH.size - length)
        return msgspec.msgpack.decode(self._map.read(length), type=StoreContents)

    def rows(self, place: Place) -> Iterator[pa.RecordBatch]:
        """The rows at a place of the file, batch by batch."""
        offset, length = place
        if length:
            self._map.seek(offset)
            with pa.ipc.open_stream(self._map.read_buffer(length)) as reader:
                yield from reader

    def source(self, fragment: FragmentContents) -> FragmentSource:
        """The fragment as what a store is to begin with."""
        return FragmentSource(
            fragment.index,
            fragment.max_commit_ts,
            partial(self._open, fragment),
            lambda: None,
        )

    def _open(self, fragment: FragmentContents) -> tuple[Batches, Batches]:
        return self.rows(fragment.current), self.rows(fragment.history)

    def close(self) -> None:
        self._map.close()


def replace_columns(store: ColumnarStore, received: ReceivedContents, index: int) -> None:
    """Makes the columnar store hold exactly what it has of these contents, durably. Blocks."""
    fragments = [f for f in received.contents.fragments if f.schema.method.in_columnar_store]
    schemas, sources = _schemas_and_sources(received, fragments)
    position = replace(received.contents.position, applied_index=index)
    store.replace(schemas, sources, position, received.contents.image)


def replace_rows(store: RowStore, received: ReceivedContents, index: int) -> None:
    """The same as `replace_columns` for the row store."""
    fragments = [f for f in received.contents.fragments if f.schema.method.in_row_store]
    schemas, sources = _schemas_and_sources(received, fragments)
    position = replace(received.contents.position, applied_index=index)
    begin_with(store, schemas, sources, position, received.contents.image, index)


def _schemas_and_sources(
    received: ReceivedContents, fragments: Sequence[FragmentContents]
) -> tuple[list[FragmentSchema], Mapping[FragmentId, FragmentSource]]:
    sources = {f.schema.fragment_id: received.source(f) for f in fragments}
    return [f.schema for f in fragments], sources
