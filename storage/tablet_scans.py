"""Rows by an index at a tablet's leader: what has to be waited for, and what is laid over.

    scan_stored   a read: newest (rule R2) or at a timestamp (R1), with a transaction's changes (R5)
    _rows_by      the same for who changes what it finds (`storage.tablet_rows`)

Whatever may commit to the fragment at or below the timestamp is waited for, the store brought up,
and the rows are read in one go without letting the loop turn; *behind* that the lease is checked
(G1), and the read made again where it is not sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from storage.entries import Ingest, decode_changes, decode_entry
from storage.fragments import END_OF_TIME, FragmentChange, FragmentId, OwnChanges, Timestamp
from storage.index_reads import MOST_CHANGED, IndexScan, pending_in, scan_now
from storage.own_rows import OwnRows
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.snapshot import fragment_gone
from storage.stored_changes import named_as_stored
from storage.tablet_commits import TabletCommits
from storage.tablet_leader import DEADLINE_S
from storage.tasks import deadline


class TabletScans(TabletCommits):
    """See the module."""

    async def scan_stored(
        self,
        fragment_id: FragmentId,
        scan: IndexScan,
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> list[StoredRow] | None:
        """Rows by an index, as SQLite has them; None where it is not the way to them. Leader
        only."""
        await self._lead(deadline_s)
        changes = None if own is None else await self._own_rows(own, fragment_id)
        return await self._rows_by(fragment_id, scan, timestamp, changes, deadline_s)

    async def _rows_by(
        self,
        fragment_id: FragmentId,
        scan: IndexScan,
        timestamp: Timestamp | None,
        own: OwnRows | None,
        deadline_s: float,
    ) -> list[StoredRow] | None:
        group = await self._lead(deadline_s)
        at = END_OF_TIME if timestamp is None else timestamp
        async with deadline(deadline_s, f"tablet {self.tablet_id} could not be read"):
            while True:
                tables = self._row_tables(fragment_id)
                if pending := pending_in(self._participant, fragment_id, timestamp):
                    await self._wait_ends(pending)
                elif not self._rows.is_current([fragment_id], at):
                    await self._rows.bring_up([fragment_id], at)
                else:
                    changed = partial(self._keys_changed_after, tables)
                    found = scan_now(self._rows, fragment_id, scan, timestamp, own, changed)
                    if group.lease_valid():
                        return found
                    await group.read_barrier(deadline_s=deadline_s)

    def _keys_changed_after(
        self, tables: RowTables, timestamp: Timestamp
    ) -> Sequence[StoredKey] | None:
        if not named_as_stored(tables):
            return None
        fragment_id = tables.schema.fragment_id
        found = self._locks.keys_changed_after(fragment_id, timestamp, MOST_CHANGED)
        return cast("Sequence[StoredKey] | None", found)

    async def _own_rows(self, own: OwnChanges, fragment_id: FragmentId) -> OwnRows | None:
        """What earlier commands of the transaction have made of the fragment's rows."""
        tables = self._row_tables(fragment_id)
        draft = self._drafts.get(own.transaction_id)
        if draft is not None and own.transaction_id in self._participant.transactions:
            kept = draft.own_rows_before(tables, own.command)
            if kept is not None:
                return kept
        found = OwnRows(tables)
        found.follow(await self.read_own(own, [fragment_id]))
        return found

    async def read_own(
        self, own: OwnChanges, fragment_ids: Sequence[FragmentId]
    ) -> list[FragmentChange]:
        """`own_changes` from wherever the tablet is led."""
        if self.is_leader:
            return await self.own_changes(own.transaction_id, fragment_ids, own.command)
        data = await self._peers().ask_own_changes(
            self.tablet_id, own.transaction_id, fragment_ids, own.command
        )
        entry, bodies = decode_entry(data)
        assert isinstance(entry, Ingest)
        return decode_changes(entry.changes, bodies, self._schemas.get)

    def _row_tables(self, fragment_id: FragmentId) -> RowTables:
        store = self._rows.store
        schema = self._schemas.get(fragment_id)
        if schema is None or not schema.method.in_row_store or store is None:
            raise fragment_gone(self.tablet_id, fragment_id)
        return store.tables(fragment_id) if fragment_id in store else RowTables(schema)
