"""One fragment's tables in SQLite: their SQL, and rows on their way in and out.

    f12            current rows and the commit timestamp that wrote them, by the fragment's key
    f12_history    rows that ended, with begin and end, by key and end

A single integer key is the table's rowid, whose B-tree keeps rows in its leaves only; any other
key makes a WITHOUT ROWID table. Unique constraints over other columns, and secondary indexes,
are plain indexes of the current table: that a key is unique was decided before the log had it,
and a store that refused what is logged would be lost for ever.

Every statement is one text for the fragment's whole life, so SQLite's statement cache has it.

Equality in a key is SQL's: -0.0 in a floating-point column that is in a key or a unique
constraint is kept as 0.0; intervals in a unique constraint are compared by their length.

Left out: indexes over history. A scan by index at an earlier timestamp reads the fragment's
whole history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import pyarrow as pa

from storage.fragments import FragmentSchema
from storage.row_values import (
    INTERVAL_ORDER_BYTES,
    NEGATIVE_ZERO,
    ZERO,
    Column,
    Encoding,
    Stored,
    encoding_of,
)
from storage.types import Kind, SqlType

BEGIN = "begin_ts"
END = "end_ts"

StoredRow: TypeAlias = tuple[Any, ...]
StoredKey: TypeAlias = tuple[Stored, ...]
Plain: TypeAlias = tuple[Any, ...]

_ROWID_KINDS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8, Kind.OID})
_FLOAT_KINDS = frozenset({Kind.FLOAT4, Kind.FLOAT8})


class RowTables:
    """See the module. Immutable; made anew when the fragment's definition changes."""

    def __init__(self, schema: FragmentSchema) -> None:
        self.schema = schema
        self.current = f"f{schema.fragment_id}"
        self.history = f"f{schema.fragment_id}_history"
        self.names = schema.names
        self.encodings = tuple(_encodings(schema))
        self.key_places = tuple(self.names.index(name) for name in schema.key)
        # Of unique constraints over other columns than the key.
        self.unique_places = tuple(
            tuple(self.names.index(name) for name in unique.columns)
            for unique in schema.unique
            if not self._is_key(unique.columns)
        )
        self._key_encodings = tuple(self.encodings[place] for place in self.key_places)
        self._decoders = tuple(
            (place, encoding.decode)
            for place, encoding in enumerate(self.encodings)
            if not encoding.same
        )
        key = " AND ".join(f"{quoted(name)} = ?{i}" for i, name in enumerate(schema.key, 1))
        after = len(schema.key) + 1
        listed = ", ".join(map(quoted, self.names))
        marks = ", ".join("?" * (len(self.names) + 1))
        self.insert_sql = f"INSERT OR REPLACE INTO {self.current} VALUES ({marks})"
        self.insert_past_sql = f"INSERT OR REPLACE INTO {self.history} VALUES ({marks}, ?)"
        self.end_sql = (
            f"INSERT OR REPLACE INTO {self.history} SELECT {listed}, {BEGIN}, ?{after}"
            f" FROM {self.current} WHERE {key} AND {BEGIN} < ?{after}"
        )
        self.delete_sql = f"DELETE FROM {self.current} WHERE {key}"
        self.get_sql = f"SELECT {listed}, {BEGIN} FROM {self.current} WHERE {key}"
        self.begin_sql = f"SELECT {BEGIN} FROM {self.current} WHERE {key}"
        # The first to end after S began before all others that end after S.
        self.get_past_sql = (
            f"SELECT {listed}, {BEGIN} FROM {self.history} WHERE {key} AND {END} > ?{after}"
            f" ORDER BY {END} LIMIT 1"
        )
        self.end_all_sql = (
            f"INSERT OR REPLACE INTO {self.history} SELECT {listed}, {BEGIN}, ?1"
            f" FROM {self.current} WHERE {BEGIN} < ?1"
        )
        self.clear_sql = f"DELETE FROM {self.current}"

    # Definition.

    def create_sql(self) -> list[str]:
        """Makes both tables."""
        keys = ", ".join(map(quoted, self.schema.key))
        columns = ", ".join(self._column_sql(name, rowid=False) for name in self.names)
        if self._has_rowid():
            current = ", ".join(self._column_sql(name, rowid=True) for name in self.names)
            tables = [f"CREATE TABLE {self.current} ({current}, {BEGIN} INTEGER NOT NULL) STRICT"]
        else:
            tables = [
                f"CREATE TABLE {self.current} ({columns}, {BEGIN} INTEGER NOT NULL,"
                f" PRIMARY KEY ({keys})) STRICT, WITHOUT ROWID"
            ]
        tables.append(
            f"CREATE TABLE {self.history} ({columns}, {BEGIN} INTEGER NOT NULL,"
            f" {END} INTEGER NOT NULL, PRIMARY KEY ({keys}, {END})) STRICT, WITHOUT ROWID"
        )
        return tables

    def drop_sql(self) -> list[str]:
        """Removes both tables; their indexes go along."""
        return [f"DROP TABLE {self.current}", f"DROP TABLE {self.history}"]

    def indexed(self) -> list[tuple[str, ...]]:
        """The lists of columns that have an index beside the key's, each once."""
        wanted = [key.columns for key in self.schema.unique if not self._is_key(key.columns)]
        wanted += [index.columns for index in self.schema.indexes]
        return list(dict.fromkeys(wanted))

    def index_name(self, columns: Sequence[str]) -> str:
        return "_".join([self.current, *columns])

    def index_sql(self, columns: Sequence[str]) -> str:
        """Makes the index over these columns."""
        listed = ", ".join(map(quoted, columns))
        return f"CREATE INDEX {quoted(self.index_name(columns))} ON {self.current} ({listed})"

    def _has_rowid(self) -> bool:
        key = self.schema.key
        return len(key) == 1 and self.schema.column(key[0]).type.kind in _ROWID_KINDS

    def _is_key(self, columns: Sequence[str]) -> bool:
        return set(columns) == set(self.schema.key)

    def _column_sql(self, name: str, *, rowid: bool) -> str:
        column_type = self.encodings[self.names.index(name)].column_type
        if name not in self.schema.key:
            return f"{quoted(name)} {column_type}"
        if rowid:
            return f"{quoted(name)} INTEGER PRIMARY KEY"
        return f"{quoted(name)} {column_type} NOT NULL"

    # Looking up unique keys.

    def lookup_sql(self, columns: Sequence[str]) -> str:
        """Finds the keys of current rows that have these values in these columns."""
        keys = ", ".join(map(quoted, self.schema.key))
        matches = " AND ".join(f"{self._compared(name)} = ?" for name in columns)
        return f"SELECT {keys} FROM {self.current} WHERE {matches}"

    def lookup_value(self, name: str, stored: Any) -> Any:
        """What `lookup_sql` compares: the stored value, or the part of it that counts."""
        if self.schema.column(name).type.kind is Kind.INTERVAL:
            return stored[:INTERVAL_ORDER_BYTES]
        return stored

    def _compared(self, name: str) -> str:
        if self.schema.column(name).type.kind is Kind.INTERVAL:
            return f"substr({quoted(name)}, 1, {INTERVAL_ORDER_BYTES})"
        return quoted(name)

    def scan_sql(self, where: str, *, earlier: bool, past: bool = True) -> str:
        """Whole rows that meet a condition over stored values.

        With `earlier` as of a timestamp, the first parameter: current rows that began by then,
        and `past` ones. The condition stands twice, so its parameters are numbered from 2.
        """
        listed = ", ".join([*map(quoted, self.names), BEGIN])
        current = f"SELECT {listed} FROM {self.current}"
        if not earlier:
            return current + (f" WHERE {where}" if where else "")
        more = f" AND {where}" if where else ""
        if not past:
            return f"{current} WHERE {BEGIN} <= ?1{more}"
        return (
            f"SELECT * FROM ({current} WHERE {BEGIN} <= ?1{more} UNION ALL"
            f" SELECT {listed} FROM {self.history}"
            f" WHERE {BEGIN} <= ?1 AND {END} > ?1{more})"
        )

    # Rows.

    def encode_key(self, key: Sequence[Any]) -> StoredKey:
        """A key's plain values as SQLite has them; ValueError where no row can have them."""
        pairs = zip(self._key_encodings, key, strict=True)
        return tuple(encoding.encode(value) for encoding, value in pairs)

    def decode_row(self, stored: Sequence[Any]) -> Plain:
        """The plain values of a row's columns."""
        row = list(stored[: len(self.names)])
        for place, decode in self._decoders:
            if row[place] is not None:
                row[place] = decode(row[place])
        return tuple(row)

    def key_of(self, stored: StoredRow) -> StoredKey:
        """The key of a stored row."""
        return tuple(stored[place] for place in self.key_places)

    def stored_columns(self, batch: pa.RecordBatch, names: Sequence[str]) -> list[Column]:
        """Columns of a batch as SQLite has them."""
        return [self.encoding(name).from_arrow(batch.column(name)) for name in names]

    def stored_rows(self, batch: pa.RecordBatch) -> Iterable[StoredRow]:
        """Whole rows of a batch, without a timestamp."""
        return zip(*self.stored_columns(batch, self.names), strict=True)

    def stored_keys(self, batch: pa.RecordBatch) -> Iterable[StoredKey]:
        """The keys in a batch that has the key's columns."""
        return zip(*self.stored_columns(batch, self.schema.key), strict=True)

    def to_batch(self, rows: Sequence[StoredRow], names: Sequence[str]) -> pa.RecordBatch:
        """Stored rows of exactly these columns as a batch; `begin_ts` and `end_ts` may be
        among them."""
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        arrays = [
            pa.array(column, pa.int64())
            if name in (BEGIN, END)
            else self.encoding(name).to_arrow(column)
            for name, column in zip(names, columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=list(names))

    def encoding(self, name: str) -> Encoding:
        """How the values of a column are stored."""
        return self.encodings[self.names.index(name)]


def quoted(name: str) -> str:
    """An identifier for SQLite."""
    return '"' + name.replace('"', '""') + '"'


def _encodings(schema: FragmentSchema) -> Iterable[Encoding]:
    compared = {*schema.key, *(name for _, columns in schema.unique for name in columns)}
    for column in schema.columns:
        encoding = encoding_of(column.type)
        yield (
            _one_zero(encoding)
            if _needs_one_zero(column.type, column.name in compared)
            else (encoding)
        )


def _needs_one_zero(sql_type: SqlType, is_compared: bool) -> bool:
    return is_compared and sql_type.kind in _FLOAT_KINDS


def _one_zero(encoding: Encoding) -> Encoding:
    """The encoding with -0.0 made 0.0."""
    encode: Callable[[Any], Any] = encoding.encode
    from_arrow = encoding.from_arrow

    def encode_one(value: Any) -> Any:
        stored = encode(value)
        return ZERO if stored == NEGATIVE_ZERO else stored

    def from_arrow_one(array: pa.Array) -> Column:
        return [ZERO if stored == NEGATIVE_ZERO else stored for stored in from_arrow(array)]

    return replace(encoding, encode=encode_one, from_arrow=from_arrow_one)
