"""What a transaction changes on a tablet before the log has it, and how it is cut into entries.

Changes wait in the draft until they fill a chunk; what is left goes into the entry that
commits or prepares the transaction. Here is also the boundary where batches from above get
exactly their fragment's columns and types and are checked to the last byte: what DuckDB refused
when it is applied, after it was logged, would make the tablet unreadable for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from cluster.errors import (
    CharacterNotInRepertoire,
    DataException,
    DqeError,
    InvalidTextRepresentation,
)
from storage.columnar_apply import registered
from storage.entries import CHUNK_BYTES, ChangeHeader, TabletEntry, encode_changes, encode_entry
from storage.fragments import FragmentChange, FragmentId, FragmentSchema
from storage.types import Kind

JSON_KINDS = frozenset({Kind.JSON, Kind.JSONB})

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
    KeyError, pyarrow.ArrowInvalid. 22021 for text that is not UTF-8, 22000 for other values
    that no store takes.
    """
    return FragmentChange(
        change.fragment_id,
        _conform(change.delete_keys, schema.key_arrow_schema()),
        _conform(change.insert_rows, schema.arrow_schema()),
        change.truncate,
    )


def check_json(
    cursor: duckdb.DuckDBPyConnection, batch: pa.RecordBatch, schema: FragmentSchema
) -> None:
    """22P02 for a value of a json column that is not JSON. Blocks."""
    for column in schema.columns:
        if column.type.kind not in JSON_KINDS:
            continue
        with registered(cursor, "values", pa.table({"v": batch.column(column.name)})):
            bad = cursor.execute(
                "SELECT CAST(v AS VARCHAR) FROM values WHERE NOT json_valid(v) LIMIT 1"
            ).fetchall()
        if bad:
            raise InvalidTextRepresentation(
                f"invalid input syntax for type {column.type}",
                detail=f'"{bad[0][0]}" is not valid JSON.',
                column=column.label or None,
            )


def has_json(schema: FragmentSchema) -> bool:
    """Whether `check_json` has anything to do."""
    return any(column.type.kind in JSON_KINDS for column in schema.columns)


def _conform(batch: pa.RecordBatch | None, schema: pa.Schema) -> pa.RecordBatch | None:
    if batch is None:
        return None
    batch = _converted(batch, schema)
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise CharacterNotInRepertoire(
                'invalid byte sequence for encoding "UTF8"', detail=str(error)
            ) from error
        raise DataException("a value cannot be stored", detail=str(error)) from error
    return batch


def _converted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema):
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
