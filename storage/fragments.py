"""The nouns of storage: fragments as a store sees them, and changes to them.

Storage knows no tables as users see them. A fragment has columns under names that never change
(`c7` for column 7, so a rename touches no store); the user's names come along only for
messages. Rows and keys travel as Arrow batches whose columns carry the store names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from storage.types import SqlType, arrow_type

TabletId: TypeAlias = int
FragmentId: TypeAlias = int
TransactionId: TypeAlias = int  # unique in the cluster, for all time
Timestamp: TypeAlias = int  # from the oracle: milliseconds << 18 | counter

TIMESTAMP_COUNTER_BITS = 18
# Before everything and after everything the oracle hands out.
BEGINNING_OF_TIME: Timestamp = 0
END_OF_TIME: Timestamp = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StoreColumn:
    """A stored column; `label` is the user's name for it, for messages."""

    name: str
    type: SqlType
    label: str = ""


class AccessMethod(StrEnum):
    """USING row | columnar | hybrid: which stores keep the rows of a table."""

    ROW = "row"
    COLUMNAR = "columnar"
    HYBRID = "hybrid"

    @property
    def in_row_store(self) -> bool:
        """Whether the row store keeps the rows."""
        return self is not AccessMethod.COLUMNAR

    @property
    def in_columnar_store(self) -> bool:
        """Whether the columnar store keeps the rows."""
        return self is not AccessMethod.ROW


class StoreIndex(NamedTuple):
    """A secondary index over `columns`, in the row store."""

    name: str
    columns: tuple[str, ...]


class UniqueKey(NamedTuple):
    """A constraint checked in this fragment: no two rows agree in all `columns` without NULL."""

    constraint: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FragmentSchema:
    """One column group of one part, as its store keeps it.

    `key` are the columns that identify a row; they are never NULL, and no two current rows
    agree in them: the primary key in `unique` makes sure of it, or whoever draws hidden row
    ids. `unique` lists what this fragment checks, the primary key first. `method` says which
    stores keep the rows; `indexes` are those of the row store beside the unique ones.
    `definition` is the version of the table's definition, which changes of rows must know.
    """

    fragment_id: FragmentId
    columns: tuple[StoreColumn, ...]
    key: tuple[str, ...]
    unique: tuple[UniqueKey, ...] = ()
    table_name: str = ""
    method: AccessMethod = AccessMethod.COLUMNAR
    indexes: tuple[StoreIndex, ...] = ()
    definition: int = 0

    def column(self, name: str) -> StoreColumn:
        """The column of that store name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The store names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    def arrow_schema(self) -> pa.Schema:
        """How whole rows of this fragment travel."""
        return pa.schema([(c.name, arrow_type(c.type)) for c in self.columns])

    def key_arrow_schema(self) -> pa.Schema:
        """How keys of this fragment travel."""
        return pa.schema([(name, arrow_type(self.column(name).type)) for name in self.key])


class Moved(IntEnum):
    """Whether a row whose key is deleted lives on: not, or under the same key; in the same fragment
    under another key; in another part."""

    NOT = 0
    TO_KEY = 1
    TO_PART = 2


@dataclass(frozen=True, slots=True)
class FragmentChange:
    """What one transaction does to one fragment, in this order: truncate, delete, insert.

    `delete_keys` has the key columns, `insert_rows` all columns, by store name. An update is a
    delete and an insert of the same key in one change. `definition` is the version of the table's
    definition that it was made for, 0 for any. `moved` says what becomes of all rows with the
    deleted keys.
    """

    fragment_id: FragmentId
    delete_keys: pa.RecordBatch | None = None
    insert_rows: pa.RecordBatch | None = None
    truncate: bool = False
    definition: int = 0
    moved: Moved = Moved.NOT

    @property
    def delete_count(self) -> int:
        """How many keys it deletes."""
        return 0 if self.delete_keys is None else self.delete_keys.num_rows

    @property
    def insert_count(self) -> int:
        """How many rows it inserts."""
        return 0 if self.insert_rows is None else self.insert_rows.num_rows

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not (self.truncate or self.delete_count or self.insert_count)

    @property
    def size_bytes(self) -> int:
        """About what it occupies."""
        return sum(
            batch.nbytes for batch in (self.delete_keys, self.insert_rows) if batch is not None
        )


@dataclass(frozen=True, slots=True)
class OwnChanges:
    """Whose uncommitted changes a read sees: those of a transaction's commands before
    `command`, on the tablets it has written."""

    transaction_id: TransactionId
    command: int
    tablets: tuple[TabletId, ...]


@dataclass(frozen=True, slots=True)
class FragmentSize:
    """What a fragment occupies: current rows, rows of its history, bytes on disk of both."""

    fragment_id: FragmentId
    rows: int
    history_rows: int
    size_bytes: int
