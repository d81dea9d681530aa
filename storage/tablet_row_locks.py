"""The locks of statements over single rows (`storage.tablet_rows`): of no more rows than are meant.

As in PostgreSQL, a statement waits for rows that it means as they are committed, and keeps locks of
rows that it changes, or shows:

    a row by its key, held by another   not waited for where it is not there or not meant (as of
                                        `base`, where that is kept)
    one that was locked and not meant   given back, unless it was waited for
    one that ON CONFLICT finds          FOR NO KEY UPDATE where its unique values stay; given back
                                        where the row is to stay as it is

Invariant: who may commit at or below a timestamp that the statement reads at is pending (rule C1),
and waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cluster.errors import LockNotAvailable
from storage.drafts import Draft
from storage.fragments import END_OF_TIME, Timestamp, TransactionId
from storage.index_reads import IndexScan, pending_in
from storage.locks import TABLET, LockMode, Resource
from storage.row_closures import NotByRow
from storage.row_programs import RowChange
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.stored_changes import lock_key
from storage.tablet_validation import TabletValidation


@dataclass(frozen=True, slots=True)
class RowWork:
    """One row by its key. `mode` None: nobody else can have the key. `inserts`: 23505 where
    there is a row; else one that others changed after the base is a conflict. `only_locks`: the
    row stays as it is, and `change` says whether it is meant. `proposes`: there may be a row or
    none, the change has one for either; not `updates`: one that is there stays as it is."""

    key: StoredKey
    change: RowChange
    mode: LockMode | None = LockMode.FOR_UPDATE
    inserts: bool = False
    only_locks: bool = False
    proposes: bool = False
    updates: bool = True

    def leaves(self, before: StoredRow | None, after: StoredRow | None) -> bool:
        """Whether the row is not meant, or not there."""
        return after is None if self.only_locks else after is before


@dataclass(frozen=True, slots=True)
class RowsFound:
    """Rows by an index, the newest or as of `timestamp`; those that are `meant`, by the values that
    they are found with, are worked on. All but these stay unlocked."""

    scan: IndexScan
    timestamp: Timestamp | None
    table_mode: LockMode
    meant: Callable[[RowTables, StoredRow], bool]
    work: Callable[[RowTables, StoredKey], RowWork]


# What is to be done, once it is known how the fragment's rows are stored.
Works = Callable[[RowTables], Sequence[RowWork]] | RowsFound


@dataclass(frozen=True, slots=True)
class Locking:
    """What a statement locks. `passed` are the rows, by their places, that it leaves alone without
    a lock; `waited` the places of those that it had to wait for."""

    transaction_id: TransactionId
    tables: RowTables
    works: Sequence[RowWork]
    command: int
    base: Timestamp
    by_key: bool
    passed: dict[int, StoredRow | None] = field(default_factory=dict)
    waited: set[int] = field(default_factory=set)

    def resource(self, work: RowWork) -> Resource:
        """What stands for the row among locks."""
        return self.tables.schema.fragment_id, lock_key(self.tables, work.key)

    def kept_mode(
        self, place: int, before: StoredRow | None, after: StoredRow | None
    ) -> LockMode | None:
        """How a row that was locked is to stay so, now that it is known what becomes of it."""
        work = self.works[place]
        if work.inserts or not self.by_key:
            return work.mode
        if work.proposes and before is not None:
            if not work.updates:
                return None
            same = same_unique(self.tables, before, after)
            return LockMode.FOR_NO_KEY_UPDATE if same else work.mode
        waited = before is not None and place in self.waited
        needs = work.proposes or waited or not work.leaves(before, after)
        return work.mode if needs else None


class TabletRowLocks(TabletValidation):
    """See the module."""

    async def _lock_keys(self, locking: Locking, draft: Draft, deadline_s: float) -> None:
        take, transaction_id = self._locks.take, locking.transaction_id
        ends_s = self._runtime.monotonic() + deadline_s
        command = locking.command
        only_locks = any(work.only_locks for work in locking.works)
        table_mode = LockMode.ROW_SHARE if only_locks else LockMode.ROW_EXCLUSIVE
        await take(transaction_id, table_mode, deadline_s, TABLET, command=command)
        for place, work in enumerate(locking.works):
            if work.mode is None:
                continue
            resource = locking.resource(work)
            try:
                await take(transaction_id, work.mode, 0, resource, command=command, wait=False)
            except LockNotAvailable:
                if self._passes(locking, place, draft):
                    continue
                left_s = max(ends_s - self._runtime.monotonic(), 0.001)
                await take(transaction_id, work.mode, left_s, resource, command=command)
                locking.waited.add(place)

    def _passes(self, locking: Locking, place: int, draft: Draft) -> bool:
        """Whether the row at that place, which another holds, is none that the statement means."""
        work, store = locking.works[place], self._rows.store
        fragment_id = locking.tables.schema.fragment_id
        if not locking.by_key or work.inserts or work.proposes or store is None:
            return False
        if not self._rows.is_current([fragment_id], END_OF_TIME) or fragment_id not in store:
            return False
        if pending_in(self._participant, fragment_id, None):
            return False
        tables = store.tables(fragment_id)
        if draft.own_rows(tables).changes(work.key):
            return False
        found = store.get(fragment_id, work.key, locking.base or END_OF_TIME)
        before = None if found is None else found[: len(tables.names)]
        try:
            if not work.leaves(before, work.change(before)):
                return False
        except NotByRow:
            return False
        locking.passed[place] = before
        return True

    def _lock_less(
        self, locking: Locking, place: int, before: StoredRow | None, after: StoredRow | None
    ) -> None:
        """Gives back what the statement took of a stored row and does not need."""
        work = locking.works[place]
        kept = locking.kept_mode(place, before, after)
        if work.mode is not None and kept is not work.mode:
            resource, command = locking.resource(work), locking.command
            self._locks.weaken(locking.transaction_id, work.mode, resource, command, kept)


def same_unique(tables: RowTables, before: StoredRow | None, after: StoredRow | None) -> bool:
    """Whether no unique constraint but the key's has to be looked at."""
    if after is None:
        return True
    for places in tables.unique_places:
        if before is None or any(before[place] != after[place] for place in places):
            return False
    return True
