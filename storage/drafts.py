"""What a transaction changes on a tablet before the log has it, and how it is cut into entries.

Changes wait in the draft until they fill a chunk; what is left goes into the entry that
commits or prepares the transaction. Here is also the boundary where batches from above get
exactly their fragment's columns and types: from here on nothing is converted any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from cluster.errors import DqeError
from storage.entries import CHUNK_BYTES, ChangeHeader, TabletEntry, encode_changes, encode_entry
from storage.fragments import FragmentChange, FragmentId, FragmentSchema

MakeEntry = Callable[[tuple[ChangeHeader, ...]], TabletEntry]


@dataclass(slots=True)
class Draft:
    """A transaction's changes that are not in the log yet.

    `chunks` counts those given to the log, `in_flight` are the ones it has not answered,
    `error` the first that failed: the transaction can only be aborted then. `inserts_into`
    names the fragments that ever got rows.
    """

    changes: list[FragmentChange] = field(default_factory=list)
    size_bytes: int = 0
    chunks: int = 0
    in_flight: list[asyncio.Task[None]] = field(default_factory=list)
    error: DqeError | None = None
    inserts_into: dict[FragmentId, None] = field(default_factory=dict)

    def add(self, change: FragmentChange) -> None:
        """Keeps the change behind all earlier ones."""
        self.changes.append(change)
        self.size_bytes += change.size_bytes
        if change.insert_rows is not None and change.insert_rows.num_rows:
            self.inserts_into[change.fragment_id] = None

    def take(self) -> list[FragmentChange]:
        """The changes; the draft has none then."""
        changes, self.changes, self.size_bytes = self.changes, [], 0
        return changes


def encode_with_changes(make: MakeEntry, changes: Sequence[FragmentChange]) -> bytes:
    """The bytes of the entry made for these changes."""
    headers, bodies = encode_changes(changes)
    return encode_entry(make(headers), bodies)


def in_shape(change: FragmentChange, schema: FragmentSchema) -> FragmentChange:
    """The change with its columns in the fragment's order and types.

    A column that is missing or cannot be converted without loss is a mistake of the caller:
    KeyError, pyarrow.ArrowInvalid.
    """
    return FragmentChange(
        change.fragment_id,
        _conform(change.delete_keys, schema.key_arrow_schema()),
        _conform(change.insert_rows, schema.arrow_schema()),
        change.truncate,
    )


def _conform(batch: pa.RecordBatch | None, schema: pa.Schema) -> pa.RecordBatch | None:
    if batch is None or batch.schema.equals(schema):
        return batch
    arrays = []
    for column in schema:
        array = batch.column(column.name)
        arrays.append(array if array.type == column.type else array.cast(column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def pieces(change: FragmentChange) -> Iterator[FragmentChange]:
    """The same change as several of about `CHUNK_BYTES` at most."""
    if change.size_bytes <= CHUNK_BYTES:
        yield change
        return
    if change.truncate:
        yield FragmentChange(change.fragment_id, truncate=True)
    for keys in _slices(change.delete_keys):
        yield FragmentChange(change.fragment_id, delete_keys=keys)
    for rows in _slices(change.insert_rows):
        yield FragmentChange(change.fragment_id, insert_rows=rows)


def _slices(batch: pa.RecordBatch | None) -> Iterator[pa.RecordBatch]:
    if batch is None or batch.num_rows == 0:
        return
    count = -(-batch.nbytes // CHUNK_BYTES)
    rows = -(-batch.num_rows // max(count, 1))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)
