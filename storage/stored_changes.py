"""Changes of single rows, in the form in which the row store keeps rows.

Rows by the thousand travel as Arrow batches; for one row a batch costs more than all else that is
done with it. A `StoredChange` holds keys and rows as SQLite has them (`storage.row_tables`), goes
into log entries like that, and from there into the row store. Whoever wants batches (checks in
bulk, the columnar store) has them made when he asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from storage.fragments import FragmentChange, FragmentId, FragmentSchema, Moved
from storage.key_overlay import Key
from storage.row_keys import row_keys
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.types import Kind, SqlType

# About what a value takes beside its text or bytes.
VALUE_BYTES = 8
FORMS_KEPT = 1024

_encoder = msgspec.msgpack.Encoder()
_rows_decoder = msgspec.msgpack.Decoder(list[tuple[Any, ...]])


_forms: dict[int, RowTables] = {}


def row_tables(schema: FragmentSchema) -> RowTables:
    """The form of the fragment's rows, kept by which object its schema is: to hash a schema takes
    longer than all else that is done with a row here."""
    form = _forms.get(id(schema))
    if form is None or form.schema is not schema:
        if len(_forms) >= FORMS_KEPT:
            _forms.clear()
        form = _forms[id(schema)] = RowTables(schema)
    return form


class StoredChange(FragmentChange):
    """Deletes keys, then inserts rows, of a fragment; see the module."""

    __slots__ = ("_batches", "keys", "rows", "tables")

    keys: Sequence[StoredKey]
    rows: Sequence[StoredRow]
    tables: RowTables
    _batches: dict[str, pa.RecordBatch]

    def __init__(
        self,
        tables: RowTables,
        keys: Sequence[StoredKey],
        rows: Sequence[StoredRow],
        fragment_id: FragmentId | None = None,
    ) -> None:
        """`tables` may be those of another fragment than `fragment_id`, of the same form."""
        set_ = object.__setattr__
        set_(self, "fragment_id", tables.schema.fragment_id if fragment_id is None else fragment_id)
        set_(self, "truncate", False)
        set_(self, "definition", tables.schema.definition)
        set_(self, "moved", Moved.NOT)
        set_(self, "tables", tables)
        set_(self, "keys", keys)
        set_(self, "rows", rows)
        set_(self, "_batches", {})

    @property
    def delete_keys(self) -> pa.RecordBatch | None:
        """The keys as a batch; None without any."""
        return self._batch("keys", self.keys, self.tables.schema.key)

    @property
    def insert_rows(self) -> pa.RecordBatch | None:
        """The rows as a batch; None without any."""
        return self._batch("rows", self.rows, self.tables.names)

    def _batch(
        self, name: str, values: Sequence[StoredRow], columns: Sequence[str]
    ) -> pa.RecordBatch | None:
        if not values:
            return None
        batches = self._batches
        if name not in batches:
            schema = self.tables.schema
            wanted = schema.key_arrow_schema() if name == "keys" else schema.arrow_schema()
            batch = self.tables.to_batch(values, columns)
            batches[name] = pa.RecordBatch.from_arrays(batch.columns, schema=wanted)
        return batches[name]

    @property
    def delete_count(self) -> int:
        return len(self.keys)

    @property
    def insert_count(self) -> int:
        return len(self.rows)

    @property
    def size_bytes(self) -> int:
        return size_bytes(self.keys) + size_bytes(self.rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredChange):
            return NotImplemented
        mine = (self.fragment_id, list(self.keys), list(self.rows))
        return mine == (other.fragment_id, list(other.keys), list(other.rows))

    __hash__ = None  # type: ignore[assignment]


def size_bytes(listed: Iterable[Sequence[Any]]) -> int:
    """What keys or rows count for where changes are bounded."""
    size = 0
    for values in listed:
        size += VALUE_BYTES * len(values)
        for value in values:
            if isinstance(value, str | bytes):
                size += len(value)
    return size


def encode_rows(rows: Sequence[Sequence[Any]]) -> bytes:
    """Stored keys or rows as bytes; none as no bytes."""
    return _encoder.encode(rows) if rows else b""


def decode_rows(data: bytes | memoryview | pa.Buffer | None) -> list[tuple[Any, ...]]:
    """The keys or rows again."""
    return _rows_decoder.decode(data) if data is not None and len(data) else []


def deleted_keys(tables: RowTables, change: FragmentChange) -> Iterable[StoredKey]:
    """The keys that a change deletes, as the row store has them."""
    if isinstance(change, StoredChange):
        return change.keys
    return () if change.delete_keys is None else tables.stored_keys(change.delete_keys)


def inserted_rows(tables: RowTables, change: FragmentChange) -> Iterable[StoredRow]:
    """The rows that a change inserts, as the row store has them."""
    if isinstance(change, StoredChange):
        return change.rows
    return () if change.insert_rows is None else tables.stored_rows(change.insert_rows)


def named_as_stored(tables: RowTables) -> bool:
    """Whether locks and versions name all keys as they are stored."""
    schema = tables.schema
    return all(_is_named_as_stored(schema.column(name).type) for name in schema.key)


def lock_key(tables: RowTables, stored: StoredKey) -> Key:
    """A stored key as locks and versions name it (`storage.row_keys`)."""
    schema = tables.schema
    for name in schema.key:
        if not _is_named_as_stored(schema.column(name).type):
            batch = tables.to_batch([stored], schema.key)
            (key,) = row_keys(schema, batch, schema.key)
            return key
    return stored


_SAME = frozenset(
    {
        Kind.BOOL,
        Kind.INT2,
        Kind.INT4,
        Kind.INT8,
        Kind.OID,
        Kind.TEXT,
        Kind.VARCHAR,
        Kind.BYTEA,
        Kind.DATE,
        Kind.TIME,
        Kind.TIMESTAMP,
        Kind.TIMESTAMPTZ,
        Kind.UUID,
    }
)


def _is_named_as_stored(sql_type: SqlType) -> bool:
    return sql_type.kind in _SAME


def touched_keys(change: StoredChange) -> list[Key]:
    """What the change deletes or inserts, as locks name it."""
    tables = change.tables
    keys = dict.fromkeys((*change.keys, *map(tables.key_of, change.rows)))
    return [lock_key(tables, key) for key in keys]
