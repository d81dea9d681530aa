"""Statements over single rows at a tablet's leader: lock, read, compute, keep, in one call.

    lock the keys -> the newest rows, with the transaction's own changes (R5) -> what becomes of
    each -> kept in the draft

Rows that are not told by their keys are found first, by an index (`RowsFound`): at the statement's
snapshot where it has one, else the newest. They are locked in the order in which they are found,
and what becomes of each is decided on its newest version, by all of the statement's conditions.

A statement that commits by itself goes on to its `write` entry in the same call (C1 to C3), so
it is one request to the leader. The rows are looked at under their locks, so what READ COMMITTED
asks for (I2) holds by itself; for REPEATABLE READ (I3) nobody else may have changed them after
`base`.

Only for fragments that the row store has. The answer tells what came of each row; `NotByRow` goes
up where a value is beyond what is computed here, and nothing was changed then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from storage.conflicts import concurrent_delete, concurrent_update, moved_to_another_part
from storage.drafts import Draft
from storage.fragments import (
    END_OF_TIME,
    FragmentId,
    FragmentSchema,
    Moved,
    Timestamp,
    TransactionId,
)
from storage.row_checks import Conflict
from storage.row_closures import NotByRow
from storage.row_store import RowStore
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.snapshot import definition_changed, fragment_gone
from storage.stored_changes import StoredChange, lock_key
from storage.surroundings import ReplicationGroup
from storage.tablet_leader import DEADLINE_S
from storage.tablet_row_locks import (
    Locking,
    RowsFound,
    RowWork,
    TabletRowLocks,
    Works,
    same_unique,
)


@dataclass(frozen=True, slots=True)
class RowsChanged:
    """What each row was and is, the same where it was left alone; None and the row where it was
    only locked.

    `as_of`: no change of these rows is above it, and every later commit is. `commit_ts` where
    the statement has committed, 0 where there was nothing to commit.
    """

    rows: Sequence[tuple[StoredRow | None, StoredRow | None]]
    as_of: Timestamp
    commit_ts: Timestamp = 0

    @property
    def changed(self) -> int:
        """How many were not left alone."""
        return sum(before is not after for before, after in self.rows)


class TabletRows(TabletRowLocks):
    """See the module."""

    async def change_rows(
        self,
        transaction_id: TransactionId,
        fragment_id: FragmentId,
        works: Works,
        command: int = 0,
        base: Timestamp = 0,
        deadline_s: float = DEADLINE_S,
        number: int = 0,
        definition: int = 0,
    ) -> RowsChanged:
        """Changes rows for one command of a transaction, which goes on. `number` as of `stage`;
        `definition` is the version of the table's that `works` was made for, 0 for any."""
        group = await self._lead(deadline_s)
        schema = self._schemas.get(fragment_id)
        if schema is None or not schema.method.in_row_store:
            raise fragment_gone(self.tablet_id, fragment_id)
        tables = self._form_of(schema)
        begun_at = self._applied_index
        wanted = () if isinstance(works, RowsFound) else works(tables)
        with self._holding(transaction_id):
            draft = self._drafts.setdefault(transaction_id, Draft())
            draft.expect(number)
            if isinstance(works, RowsFound):
                mode = works.table_mode
                await self._locks.take(transaction_id, mode, deadline_s, command=command)
                self._refuse_other(schema, definition)
                wanted = await self._find(works, draft, tables, deadline_s)
            by_key = not isinstance(works, RowsFound)
            locking = Locking(transaction_id, tables, wanted, command, base, by_key)
            await self._lock_keys(locking, draft, deadline_s)
            store = await self._row_store(fragment_id)
            self._refuse_other(schema, definition)
            tables = store.tables(fragment_id)
            self._refuse_moved(works, locking, begun_at)
            changed = self._computed(store, draft, tables, locking)
            if isinstance(changed, Conflict):
                raise await self._runtime.run_blocking(
                    self._unique.violation, tables.schema, changed
                )
            if not any(work.only_locks for work in wanted):
                await self._keep(transaction_id, draft, tables, changed, command, deadline_s)
            await self._sure(group, deadline_s)
            return changed

    async def write_rows(
        self,
        transaction_id: TransactionId,
        fragment_id: FragmentId,
        works: Works,
        draw_timestamp: Callable[[], Awaitable[Timestamp]],
        deadline_s: float = DEADLINE_S,
        definition: int = 0,
    ) -> RowsChanged:
        """The same as a transaction of its own, and its commit."""
        await self._lead(deadline_s)
        with self._giving_up(transaction_id):
            changed = await self.change_rows(
                transaction_id,
                fragment_id,
                works,
                deadline_s=deadline_s,
                definition=definition,
            )
        if not changed.changed:
            self._follow(self._participant.abandon(transaction_id))
            self._drafts.pop(transaction_id, None)
            return changed
        commit_ts = await self.write(transaction_id, changed.as_of, draw_timestamp)
        return RowsChanged(changed.rows, changed.as_of, commit_ts)

    def _refuse_other(self, schema: FragmentSchema, definition: int) -> None:
        """Raises where the fragment is defined otherwise by now than the request was made for."""
        if self._schemas.get(schema.fragment_id) is not schema:
            raise fragment_gone(self.tablet_id, schema.fragment_id)
        if definition and schema.definition > definition:
            raise definition_changed(schema)

    async def _find(
        self, found: RowsFound, draft: Draft, tables: RowTables, deadline_s: float
    ) -> Sequence[RowWork]:
        """What to do with the rows that the statement finds."""
        own = draft.own_rows(tables)
        fragment_id = tables.schema.fragment_id
        deadline_s = min(deadline_s, DEADLINE_S)
        rows = await self._rows_by(fragment_id, found.scan, found.timestamp, own, deadline_s)
        if rows is None:
            raise NotByRow("rows that an index is not the way to")
        tables = self._row_tables(fragment_id)
        return [found.work(tables, tables.key_of(row)) for row in rows if found.meant(tables, row)]

    async def _row_store(self, fragment_id: FragmentId) -> RowStore:
        while not self._rows.is_current([fragment_id], END_OF_TIME):
            await self._rows.bring_up([fragment_id], END_OF_TIME)
        store = self._rows.store
        if store is None or fragment_id not in store:
            raise fragment_gone(self.tablet_id, fragment_id)
        return store

    def _refuse_moved(self, works: Works, locking: Locking, begun_at: int) -> None:
        """40001 where a row that the statement found has moved before it was locked. One that is
        told by its key, and got another in its part, is not meant any more."""
        if not self._moved or locking.base:
            return
        fragment_id = locking.tables.schema.fragment_id
        since = works.timestamp if isinstance(works, RowsFound) else None
        for place, work in enumerate(locking.works):
            if work.mode is None or work.inserts or work.proposes or place in locking.passed:
                continue
            key = lock_key(locking.tables, work.key)
            if since is None:
                moved = self._moved.behind(fragment_id, key, begun_at)
            else:
                moved = self._moved.after(fragment_id, key, since, is_gone=False)
            if moved is Moved.TO_PART:
                raise moved_to_another_part()
            if moved is Moved.TO_KEY and not locking.by_key:
                raise concurrent_update()

    def _computed(
        self, store: RowStore, draft: Draft, tables: RowTables, locking: Locking
    ) -> RowsChanged | Conflict:
        own = draft.own_rows(tables)
        rows: list[tuple[StoredRow | None, StoredRow | None]] = []
        fresh: dict[StoredKey, StoredRow | None] = {}
        for place, work in enumerate(locking.works):
            stored = False
            if place in locking.passed:
                left = None if work.only_locks else locking.passed[place]
                rows.append((left, left))
                continue
            if work.mode is None:
                before = None
            elif work.key in fresh:
                before = fresh[work.key]
            elif own.changes(work.key):
                before = own.row(work.key)
            else:
                before = self._as_stored(store, tables, work, locking.base)
                stored = True
            if work.inserts and before is not None:
                return _conflict(tables, before)
            after = work.change(before)
            if stored:
                self._lock_less(locking, place, before, after)
            if work.only_locks:
                rows.append((None, after))
                continue
            fresh[work.key] = after
            rows.append((before, after))
        return RowsChanged(rows, self._participant.newest_ts)

    def _as_stored(
        self, store: RowStore, tables: RowTables, work: RowWork, base: Timestamp
    ) -> StoredRow | None:
        """The row as it is committed; as of `base` where it was not meant then."""
        fragment_id, width = tables.schema.fragment_id, len(tables.names)
        found = store.get(fragment_id, work.key)
        if base and not work.inserts and (found is None or found[-1] > base):
            former = store.get(fragment_id, work.key, base)
            before = None if former is None else former[:width]
            if not work.proposes and work.leaves(before, work.change(before)):
                return before
            self._check_version(store, tables, work, found, base)
        return None if found is None else found[:width]

    def _check_version(
        self,
        store: RowStore,
        tables: RowTables,
        work: RowWork,
        found: StoredRow | None,
        base: Timestamp,
    ) -> None:
        """40001 where the row is not the one of `base` (I3). One that is gone is in nobody's way
        who adds it."""
        fragment_id = tables.schema.fragment_id
        if found is not None and found[-1] > base:
            raise concurrent_update()
        if (
            found is None
            and not work.proposes
            and store.get(fragment_id, work.key, base) is not None
        ):
            key = lock_key(tables, work.key)
            if work.only_locks or self._moved.after(fragment_id, key, base, is_gone=True):
                raise concurrent_update()
            raise concurrent_delete()

    async def _keep(
        self,
        transaction_id: TransactionId,
        draft: Draft,
        tables: RowTables,
        changed: RowsChanged,
        command: int,
        deadline_s: float,
    ) -> None:
        made = [(before, after) for before, after in changed.rows if before is not after]
        if not made:
            return
        keys = [tables.key_of(before) for before, _ in made if before is not None]
        rows = [after for _, after in made if after is not None]
        settled = all(same_unique(tables, before, after) for before, after in made)
        draft.add(StoredChange(tables, keys, rows), command, is_checked=settled)
        if not settled:
            await self._check_unique(transaction_id, draft, command, deadline_s)

    async def _sure(self, group: ReplicationGroup, deadline_s: float) -> None:
        """Whether this replica led still when it looked (rule G1)."""
        if not group.lease_valid():
            await group.read_barrier(deadline_s=deadline_s)


def _conflict(tables: RowTables, row: StoredRow) -> Conflict:
    for unique in tables.schema.unique:
        if set(unique.columns) == set(tables.schema.key):
            values = tuple(row[tables.names.index(name)] for name in unique.columns)
            return Conflict(unique, tables.to_batch([values], unique.columns))
    raise NotByRow("a key that nothing says is unique")
