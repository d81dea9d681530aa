"""From rows to fragments: routed by part, cut by column group, sent in pieces to tablets.

Rows of a fragment are gathered until they are worth a message and then staged; what waits is
bounded by the number of fragments times `PIECE_BYTES`, what is on its way by the transaction.

A row that may change its key or its part is deleted and inserted. All deletions are staged
before the first insertion, because a new key may be one that another row of the same statement
still has to give up. Which of these rows have another key or part afterwards is told to the
tablets, for those who wait for them there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.bounds import route
from catalog.model import Column, ColumnId, Fragment, Part, Table
from cluster.errors import InternalError, ProgramLimitExceeded
from cluster.runtime import Runtime
from executor.key_changes import KeyChanges
from executor.session_transaction import StatementChanges
from executor.transaction_faces import Changes
from executor.writes_ids import UniqueIds
from storage.fragments import FragmentChange, Moved

T = TypeVar("T")

PIECE_BYTES = 2 * 1024 * 1024
# New rows of an UPDATE of keys wait in memory until all old ones are staged.
MOVED_ROWS_BYTES = 256 * 1024 * 1024
# Below this a thread costs more than the work.
INLINE_ROWS = 512


@dataclass(slots=True)
class _Pending:
    """Changes of one fragment that are not staged yet."""

    part: Part
    fragment: Fragment
    definition: int
    moved: Moved = Moved.NOT
    deletes: list[pa.RecordBatch] = field(default_factory=list)
    inserts: list[pa.RecordBatch] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, deletes: pa.RecordBatch | None, inserts: pa.RecordBatch | None) -> None:
        for batch, batches in ((deletes, self.deletes), (inserts, self.inserts)):
            if batch is not None:
                batches.append(batch)
                self.size_bytes += batch.nbytes

    def take(self) -> FragmentChange:
        change = FragmentChange(
            self.fragment.id,
            _joined(self.deletes),
            _joined(self.inserts),
            definition=self.definition,
            moved=self.moved,
        )
        self.deletes, self.inserts, self.size_bytes = [], [], 0
        return change


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch | None:
    if not batches:
        return None
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


# A piece of a batch that belongs to one part.
_Split = list[tuple[int, pa.RecordBatch]]


class TableWriter:
    """Sends one statement's changes of one table into its transaction.

    Batches come with the table's column names. `rows` counts what was written.
    """

    def __init__(
        self, runtime: Runtime, table: Table, transaction: Changes, ids: UniqueIds
    ) -> None:
        self._runtime = runtime
        self._table = table
        self._transaction = transaction
        self._ids = ids
        self._pending: dict[tuple[int, int, Moved], _Pending] = {}
        self._moved: list[pa.RecordBatch] = []
        self._moved_bytes = 0
        self._keys = _key_changes(table, transaction)
        if table.deferrable_keys:
            transaction.writes_deferrable(table)
        self.rows = 0

    # -- what statements do

    async def insert(self, batch: pa.RecordBatch) -> None:
        """Whole rows, all visible columns."""
        self.rows += batch.num_rows
        if self._keys is not None:
            self._keys.inserted(batch)
        if self._table.hidden_row_id:
            key = self._table.column(self._table.key[0])
            batch = batch.append_column(key.name, pa.array(self._ids.take(batch.num_rows)))
        await self._insert(batch)

    async def delete(self, old: pa.RecordBatch) -> None:
        """Rows by their key and partition columns."""
        self.rows += old.num_rows
        if self._keys is not None:
            self._keys.deleted(old)
        await self._delete(old)

    async def update(self, old: pa.RecordBatch, new: pa.RecordBatch, groups: Sequence[int]) -> None:
        """The groups' new values of rows that stay where they are and keep their key."""
        self.rows += old.num_rows
        if self._keys is not None:
            self._keys.updated(old, new)
        both = _side_by_side(old, new)
        for ordinal, piece in await self._split(both):
            for group_id in groups:
                rows = self._stored(piece, self._table.group_columns(group_id))
                keys = rows.select([_store_name(c) for c in self._table.key])
                await self._add(ordinal, group_id, keys, rows)

    async def move(self, old: pa.RecordBatch, new: pa.RecordBatch) -> None:
        """Rows whose key or part may change: old ones go, new ones come at the end."""
        self.rows += old.num_rows
        if self._keys is not None:
            self._keys.updated(old, new)
        if self._table.hidden_row_id:
            key = self._table.column(self._table.key[0])
            new = new.append_column(key.name, old.column(key.name))
        fates = await offloaded(self._runtime, old.num_rows, partial(self._fates, new), old)
        for moved in Moved:
            gone = old.filter(pa.array(fates == moved))
            if gone.num_rows:
                await self._delete(gone, moved)
        self._moved.append(new)
        self._moved_bytes += new.nbytes
        if self._moved_bytes > MOVED_ROWS_BYTES:
            raise ProgramLimitExceeded(
                "too many rows change their key in one statement",
                detail=f"Their new values take more than {MOVED_ROWS_BYTES} bytes.",
                hint="Update them in several statements.",
            )

    async def finish(self) -> None:
        """Stages what is left."""
        await self._flush()
        moved, self._moved = self._moved, []
        for batch in moved:
            await self._insert(batch)
        await self._flush()

    # -- pieces

    async def _insert(self, batch: pa.RecordBatch) -> None:
        for ordinal, piece in await self._split(batch):
            for group in self._table.groups:
                rows = self._stored(piece, self._table.group_columns(group.id))
                await self._add(ordinal, group.id, None, rows)

    def _fates(self, new: pa.RecordBatch, old: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """What becomes of each row."""
        table = self._table
        fates = np.full(old.num_rows, Moved.NOT, dtype=np.int64)
        for name in (table.column(c).name for c in table.key):
            before, after = old.column(name), new.column(name)
            # Keys that cannot be compared are none that anybody remembers.
            if not pa.types.is_nested(before.type):
                changed = pc.not_equal(before, after.cast(before.type))
                fates[changed.to_numpy(zero_copy_only=False)] = Moved.TO_KEY
        fates[self._parts_of(old) != self._parts_of(new)] = Moved.TO_PART
        return fates

    def _parts_of(self, batch: pa.RecordBatch) -> npt.NDArray[np.int32]:
        columns = [batch.column(self._table.column(c).name) for c in self._table.partition_columns]
        return route(self._table, columns, batch.num_rows)

    async def _delete(self, old: pa.RecordBatch, moved: Moved = Moved.NOT) -> None:
        key = [self._table.column(c) for c in self._table.key]
        for ordinal, piece in await self._split(old):
            keys = self._stored(piece, key)
            for group in self._table.groups:
                await self._add(ordinal, group.id, keys, None, moved)

    async def _split(self, batch: pa.RecordBatch) -> _Split:
        if batch.num_rows == 0:
            return []
        return await offloaded(self._runtime, batch.num_rows, self._split_now, batch)

    def _split_now(self, batch: pa.RecordBatch) -> _Split:
        """The batch's rows by part, each part's in their order."""
        ordinals = self._parts_of(batch)
        first = int(ordinals[0])
        if bool((ordinals == first).all()):
            return [(first, batch)]
        order = np.argsort(ordinals, kind="stable")
        ordered = batch.take(pa.array(order))
        ordinals = ordinals[order]
        starts = np.flatnonzero(np.diff(ordinals, prepend=ordinals[0] - 1))
        ends = [*starts[1:], len(ordinals)]
        return [
            (int(ordinals[start]), ordered.slice(int(start), int(end - start)))
            for start, end in zip(starts, ends, strict=True)
        ]

    def _stored(self, batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(
            [batch.column(c.name) for c in columns], names=[_store_name(c.id) for c in columns]
        )

    async def _add(
        self,
        ordinal: int,
        group_id: int,
        deletes: pa.RecordBatch | None,
        inserts: pa.RecordBatch | None,
        moved: Moved = Moved.NOT,
    ) -> None:
        pending = self._pending.get((ordinal, group_id, moved))
        if pending is None:
            part = self._table.parts[ordinal]
            version = self._table.schema_version
            pending = _Pending(part, fragment_of(part, group_id), version, moved)
            self._pending[ordinal, group_id, moved] = pending
        pending.add(deletes, inserts)
        if pending.size_bytes >= PIECE_BYTES:
            await self._send(pending)

    async def _send(self, pending: _Pending) -> None:
        change = pending.take()
        await self._transaction.stage(pending.fragment.tablet_id, change)

    async def _flush(self) -> None:
        # What moves gives its key up before others of the statement may take it.
        for pending in sorted(self._pending.values(), key=lambda each: -each.moved):
            if pending.size_bytes or pending.deletes or pending.inserts:
                await self._send(pending)


def _key_changes(table: Table, transaction: Changes) -> KeyChanges | None:
    """Where changes of a table with foreign keys are recorded, to be checked behind the
    statement; such a statement is part of a session's transaction (`executor.foreign_keys`)."""
    if not table.is_bound:
        return None
    if not isinstance(transaction, StatementChanges):
        raise InternalError(f'the foreign keys of "{table.name}" would not be checked')
    return transaction.key_changes(table)


async def offloaded(
    runtime: Runtime, rows: int, function: Callable[[pa.RecordBatch], T], batch: pa.RecordBatch
) -> T:
    """The function's result, computed on a thread where it is worth one."""
    if rows <= INLINE_ROWS:
        return function(batch)
    return await runtime.run_blocking(function, batch)


def fragment_of(part: Part, group_id: int) -> Fragment:
    """The part's fragment of a column group."""
    for fragment in part.fragments:
        if fragment.group_id == group_id:
            return fragment
    raise KeyError(group_id)


def tablets_of(table: Table, groups: Sequence[int] | None = None) -> list[int]:
    """The tablets that hold the table, or some of its groups."""
    found = {
        fragment.tablet_id
        for part in table.parts
        for fragment in part.fragments
        if groups is None or fragment.group_id in groups
    }
    return sorted(found)


def _store_name(column_id: ColumnId) -> str:
    return f"c{column_id}"


def _side_by_side(old: pa.RecordBatch, new: pa.RecordBatch) -> pa.RecordBatch:
    """The new values with the old key, which does not change."""
    arrays, names = list(new.columns), list(new.schema.names)
    for name, array in zip(old.schema.names, old.columns, strict=True):
        if name not in names:
            arrays.append(array)
            names.append(name)
    return pa.RecordBatch.from_arrays(arrays, names=names)
