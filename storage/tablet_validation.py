"""Whether what a SERIALIZABLE transaction read on a tablet still stands at its commit timestamp
(rule I4), said by the tablet's leader.

The transaction read at its snapshot, `base`, and has drawn its commit timestamp. Two questions are
asked of all that it read (`storage.read_sets`):

- *Who may yet commit at or below that timestamp, and meets it?* Whoever is marked or prepared by
  now; who is marked later draws a later timestamp. A transaction meets a range by the values that
  its rows have, and by those that they will have; what it is about to change is known where its
  changes are still in memory. One that meets is waited for; but of two that validate the younger
  ends instead, so that nobody waits in a circle.
- *What was committed after `base`, and meets it?* The leader remembers the keys
  (`storage.versions`), the row store how the rows were at both timestamps. Neither of them in the
  range means that the range reads the same at both, whatever there was between.

Invariant: what is not known counts as met. So do, for ranges, rows changed before this leader's
term or by the thousand, and transactions that another leader prepared; and fragments whose rows
only the columnar store has, unless the key alone tells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import apsw

from cluster.raft.errors import not_leader
from storage.conflicts import read_write_conflict
from storage.fragments import (
    END_OF_TIME,
    FragmentChange,
    FragmentId,
    FragmentSchema,
    Timestamp,
    TransactionId,
)
from storage.key_overlay import Key
from storage.locks import LockMode
from storage.participant import Transaction
from storage.read_sets import RangeIndex, ReadSet, RowRange
from storage.row_store import RowStore
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.snapshot import fragment_gone
from storage.stored_changes import deleted_keys, inserted_rows, lock_key, named_as_stored
from storage.tablet_leader import DEADLINE_S
from storage.tablet_scans import TabletScans
from storage.tasks import deadline

# Rows that are looked up one by one, on the loop, for the ranges of a fragment.
MOST_LOOKED_UP = 1_000


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of one fragment: all of it, or keys as locks name them, and ranges. `by_key`
    are the ranges that a row's key tells, `by_row` those that take its other values, too."""

    fragment_id: FragmentId
    tables: RowTables
    whole: bool = False
    keys: Sequence[Key] = ()
    by_key: RangeIndex | None = None
    by_row: RangeIndex | None = None

    @property
    def is_wide(self) -> bool:
        """Whether a row that was not looked up may be in it."""
        return self.whole or self.by_key is not None or self.by_row is not None

    def has_row(self, row: StoredRow) -> bool:
        """Whether a row like this is in one of the ranges."""
        if self.by_key is not None and self.tables.key_of(row) in self.by_key:
            return True
        return self.by_row is not None and row in self.by_row


class TabletValidation(TabletScans):
    """See the module."""

    async def validate(
        self,
        transaction_id: TransactionId,
        reads: ReadSet,
        base: Timestamp,
        commit_ts: Timestamp,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """40001 where others have committed to what was read after `base`, or may yet do so at or
        below the commit timestamp."""
        group = await self._lead(deadline_s)
        await group.read_barrier(deadline_s=deadline_s)
        read = {each.fragment_id: each for each in self._reads_of(reads)}
        async with deadline(deadline_s, f"tablet {self.tablet_id} has transactions in doubt"):
            await self._bring_rows_up(read.values())
            for other in self._participant.pending_below(commit_ts):
                pending = self._participant.transactions.get(other)
                if other == transaction_id or pending is None:
                    continue
                if not self._may_meet(pending, read):
                    continue
                if pending.validates and other < transaction_id:
                    raise read_write_conflict()
                await self._end_waiter(other)
            await self._bring_rows_up(read.values())
        if not self.is_leader:
            raise not_leader(self.tablet_id, self._node_id, group.leader_id)
        if self._defined_by_others(transaction_id):
            raise read_write_conflict()
        if not all(self._stands(each, base, commit_ts) for each in read.values()):
            raise read_write_conflict()

    def _defined_by_others(self, transaction_id: TransactionId) -> bool:
        """Whether another transaction defines something of this tablet's tables, and may commit
        before this one: its locks end when all nodes know what it has defined."""
        holds = self._participant.locks.holds
        return any(
            other != transaction_id and holds(other, LockMode.ACCESS_EXCLUSIVE)
            for other in self._participant.transactions
        )

    def _reads_of(self, reads: ReadSet) -> Iterator[_Read]:
        keys, ranges = dict(reads.keys), dict(reads.ranges)
        for fragment_id in dict.fromkeys((*reads.fragments, *keys, *ranges)):
            schema = self._schemas.get(fragment_id)
            if schema is None:
                raise fragment_gone(self.tablet_id, fragment_id)
            tables = self._form_of(schema)
            names = [lock_key(tables, key) for key in keys.get(fragment_id, ())]
            by_key, by_row = _split(tables, ranges.get(fragment_id, ()))
            unknown = bool(by_row) and self._rows_of(fragment_id) is None
            yield _Read(
                fragment_id,
                tables,
                unknown or fragment_id in reads.fragments,
                names,
                RangeIndex(by_key, schema.key) if by_key else None,
                RangeIndex(by_row, tables.names) if by_row else None,
            )

    def _form_of(self, schema: FragmentSchema) -> RowTables:
        store = self._rows_of(schema.fragment_id)
        return RowTables(schema) if store is None else store.tables(schema.fragment_id)

    def _rows_of(self, fragment_id: FragmentId) -> RowStore | None:
        store = self._rows.store
        return None if store is None or fragment_id not in store else store

    async def _bring_rows_up(self, reads: Collection[_Read]) -> None:
        """The row store has what its fragments' current rows are."""
        wanted = [each.fragment_id for each in reads if each.by_row is not None and not each.whole]
        while wanted and not self._rows.is_current(wanted, END_OF_TIME):
            await self._rows.bring_up(wanted, END_OF_TIME)

    # Who may yet commit.

    def _may_meet(self, pending: Transaction, reads: dict[FragmentId, _Read]) -> bool:
        """Whether the transaction, about to commit, may change what was read."""
        locks = self._participant.locks
        if locks.holds(pending.id, LockMode.EXCLUSIVE):
            return True
        for fragment_id, read in reads.items():
            rows = ((fragment_id, key) for key in read.keys)
            if any(locks.holds(pending.id, LockMode.FOR_NO_KEY_UPDATE, row) for row in rows):
                return True
        if pending.changes is None:
            return any(read.is_wide for read in reads.values())
        changes = cast("Sequence[FragmentChange]", pending.changes)
        return any(
            self._changes_some(reads[change.fragment_id], change)
            for change in changes
            if change.fragment_id in reads
        )

    def _changes_some(self, read: _Read, change: FragmentChange) -> bool:
        if not read.is_wide:
            return False  # its keys are locked
        if read.whole or change.truncate:
            return True
        if change.insert_count + change.delete_count > MOST_LOOKED_UP:
            return True
        if any(map(read.has_row, inserted_rows(read.tables, change))):
            return True
        gone = deleted_keys(read.tables, change)
        return any(self._has_been(read, key, (END_OF_TIME,)) for key in gone)

    # What was committed.

    def _stands(self, read: _Read, base: Timestamp, commit_ts: Timestamp) -> bool:
        fragment_id = read.fragment_id
        if self._locks.newest(fragment_id) <= base:
            return True
        if read.whole or self._locks.any_changed_after(fragment_id, read.keys, base):
            return False
        if not read.is_wide:
            return True
        changed = self._keys_changed_after(read.tables, base)
        if changed is None or len(changed) > MOST_LOOKED_UP:
            return False
        return not any(self._has_been(read, key, (base, commit_ts)) for key in changed)

    def _has_been(self, read: _Read, key: StoredKey, timestamps: Sequence[Timestamp]) -> bool:
        """Whether a row with that key was in one of the ranges at one of the timestamps."""
        if not named_as_stored(read.tables) or (read.by_key is not None and key in read.by_key):
            return True
        store = self._rows_of(read.fragment_id)
        if read.by_row is None:
            return False
        if store is None or min(timestamps) < store.horizon:
            return True
        try:
            rows = [store.get(read.fragment_id, key, timestamp) for timestamp in timestamps]
        except apsw.Error as error:
            raise self._rows.failed(error) from error
        return any(row is not None and row in read.by_row for row in rows)


def _split(tables: RowTables, ranges: Sequence[RowRange]) -> tuple[list[RowRange], list[RowRange]]:
    """The ranges that keys alone tell, and the others."""
    by_key: list[RowRange] = []
    by_row: list[RowRange] = []
    for each in ranges:
        (by_key if set(each.named) <= set(tables.schema.key) else by_row).append(each)
    return by_key, by_row
