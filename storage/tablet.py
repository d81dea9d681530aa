"""A tablet: a replica, and, while this node leads it, the transactions that write it.

    TabletReplica   follows the log and keeps the stores           storage.replica
    TabletLeader    leads: its term, its proposals, its leases     storage.tablet_leader
    TabletChanges   locks and drafts of open transactions          storage.tablet_changes
    TabletCommits   how transactions end                           storage.tablet_commits
    TabletScans     rows by an index                               storage.tablet_scans
    TabletValidation    whether what was read still stands         storage.tablet_validation
    TabletRows      statements over single rows                    storage.tablet_rows
    Tablet          definitions, and reads at a timestamp          here

A read at a timestamp waits for what may commit at or below it (rule R1), on the leader; any other
replica asks the leader how far to follow (R3), unless a closed timestamp says it (R4).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cluster.errors import NotLeader
from cluster.raft.errors import not_leader
from storage.closed import Answered, Closed
from storage.columnar_apply import FragmentTables
from storage.entries import Alter, Horizon
from storage.fragments import (
    END_OF_TIME,
    FragmentChange,
    FragmentId,
    FragmentSchema,
    OwnChanges,
    Timestamp,
    TransactionId,
)
from storage.row_reads import pending_on, read_now
from storage.row_tables import Plain, StoredKey, StoredRow
from storage.snapshot import check_horizon
from storage.tablet_leader import DEADLINE_S
from storage.tablet_rows import TabletRows
from storage.tasks import deadline


class Tablet(TabletRows):
    """See the module. Open it, give it its group with `attach`, then use it."""

    # Definition.

    async def alter(self, fragments: Sequence[FragmentSchema], schema_version: int) -> None:
        """From here on the tablet holds exactly these fragments."""
        await self._propose(Alter(tuple(fragments), schema_version))
        if self._group is not None:
            self._group.tell_commit()  # DDL waits until every replica has it

    async def set_horizon(self, horizon: Timestamp) -> None:
        """Lets history go that ended at or before the timestamp (rule L7)."""
        await self._propose(Horizon(horizon))

    # Reading.

    async def prepare_read(
        self,
        fragment_ids: Sequence[FragmentId],
        timestamp: Timestamp,
        deadline_s: float = DEADLINE_S,
    ) -> dict[FragmentId, FragmentTables]:
        """Makes a read at the timestamp possible here (rules R1, R3, R4); the tables to read."""
        return (await self.answer_read(fragment_ids, timestamp, deadline_s))[1]

    async def answer_read(
        self,
        fragment_ids: Sequence[FragmentId],
        timestamp: Timestamp,
        deadline_s: float = DEADLINE_S,
    ) -> tuple[Answered, dict[FragmentId, FragmentTables]]:
        """`prepare_read`, and who made it possible.

        At or below a closed timestamp that is following the log as far as was said then. Above
        it, waiting on the leader for what may commit at or below it; elsewhere, asking the leader
        how far to follow, and following.
        """
        check_horizon(self.tablet_id, timestamp, self.horizon)
        async with deadline(deadline_s, f"tablet {self.tablet_id} could not be read"):
            index = self.closed.index_for(timestamp)
            if index is not None:
                answered = Answered.AS_CLOSED
                await self._catch_up(index, deadline_s)
            elif await self._index_led_here(timestamp, deadline_s):
                answered = Answered.BY_LEADER
            else:
                answered = Answered.BY_FOLLOWER
                await self._follow_to(timestamp, deadline_s)
            return answered, await self._bring_up(fragment_ids, timestamp)

    async def _follow_to(self, timestamp: Timestamp, deadline_s: float) -> None:
        """Applies all commits at or below the timestamp, as far as the leader says that is."""
        index = await self._peers().ask_read_index(self.tablet_id, timestamp, deadline_s)
        self.closed.learn(Closed(0, index, timestamp))
        await self._catch_up(index, deadline_s)

    async def _catch_up(self, index: int, deadline_s: float) -> None:
        """Waits until the log is taken in up to there, which else might take its time."""
        if self._group is not None:
            self._group.hasten(index)
        await self.wait_applied(index, deadline_s)

    def close_timestamp(self, issued: Timestamp) -> Closed | None:
        """What followers may be told now (rule R4); None where this replica cannot say.

        `issued` is a timestamp that the oracle has handed out.
        """
        group = self._group
        if group is None or not self.is_leader:
            return None
        floors = self._participant.pending_floors()
        closed = self.closed.close(issued, floors, group.term, self._applied_index)
        if not group.lease_valid():
            return None
        self.closed.learn(closed)
        return closed

    async def _index_led_here(self, timestamp: Timestamp, deadline_s: float) -> bool:
        """`_settled_index`, if this replica leads all the while."""
        if not (self.is_leader or self._leads_soon()):
            return False
        try:
            await self._settled_index(timestamp, deadline_s)
        except NotLeader:
            return False
        return True

    async def read_rows(
        self,
        fragment_id: FragmentId,
        keys: Sequence[Sequence[Any]],
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> list[Plain | None]:
        """Rows by key, None for a key without one; leader only. See `storage.row_reads`."""
        tables = self._row_tables(fragment_id)
        places: dict[int, StoredKey] = {}
        for place, key in enumerate(keys):
            with suppress(ValueError):  # no row can have it
                places[place] = tables.encode_key(key)
        stored = await self.read_stored(
            fragment_id, list(places.values()), timestamp, own, deadline_s
        )
        found = dict(zip(places, stored, strict=True))
        rows = [found.get(place) for place in range(len(keys))]
        return [None if row is None else tables.decode_row(row) for row in rows]

    async def read_stored(
        self,
        fragment_id: FragmentId,
        keys: Sequence[StoredKey],
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> list[StoredRow | None]:
        """`read_rows` with keys and rows as SQLite has them."""
        group = await self._lead(deadline_s)
        changes = await self.read_own(own, [fragment_id]) if own is not None else []
        async with deadline(deadline_s, f"tablet {self.tablet_id} could not be read"):
            while True:
                tables = self._row_tables(fragment_id)
                at = END_OF_TIME if timestamp is None else timestamp
                if pending := pending_on(self._participant, tables, keys, timestamp):
                    await self._wait_ends(pending)
                elif not self._rows.is_current([fragment_id], at):
                    await self._rows.bring_up([fragment_id], at)
                else:
                    found = read_now(self._rows, tables, keys, timestamp, changes)
                    if group.lease_valid():
                        return found
                    await group.read_barrier(deadline_s=deadline_s)

    def read_stored_now(
        self,
        fragment_id: FragmentId,
        keys: Sequence[StoredKey],
        own: tuple[TransactionId, int] | None = None,
        timestamp: Timestamp | None = None,
    ) -> list[StoredRow | None] | None:
        """`read_stored` without waiting for anything; None where something has to be waited for,
        or another replica leads. `own` is a transaction and the number of its command."""
        group = self._group
        if group is None or not self.is_leader:
            return None
        tables = self._row_tables(fragment_id)
        changes = () if own is None else self._own_changes_now(fragment_id, *own)
        if changes is None or pending_on(self._participant, tables, keys, timestamp):
            return None
        at = END_OF_TIME if timestamp is None else timestamp
        if not self._rows.is_current((fragment_id,), at):
            return None
        found = read_now(self._rows, tables, keys, timestamp, changes)
        return found if group.lease_valid() else None

    def _own_changes_now(
        self, fragment_id: FragmentId, transaction_id: TransactionId, command: int
    ) -> Sequence[FragmentChange] | None:
        """`own_changes`, as long as all of them are in memory."""
        transaction = self._participant.transactions.get(transaction_id)
        draft = self._drafts.get(transaction_id)
        if transaction is None or draft is None or draft.error is not None:
            return None
        if not draft.is_whole:
            return None
        if transaction.chunks or draft.chunks or draft.in_flight:
            return None
        cuts = draft.cuts_before(command)
        return [
            change
            for place, change in enumerate(draft.changes)
            if change.fragment_id == fragment_id and all(cut.keeps(0, place) for cut in cuts)
        ]

    async def read_index(self, timestamp: Timestamp, deadline_s: float = DEADLINE_S) -> int:
        """What another replica follows to before it is read at the timestamp. Leader only."""
        index = await self._settled_index(timestamp, deadline_s)
        if self._group is not None:
            self._group.tell_commit()
        return index

    async def _settled_index(self, timestamp: Timestamp, deadline_s: float) -> int:
        """The log index that holds every commit at or below the timestamp. Leader only."""
        group = await self._lead(deadline_s)
        await group.read_barrier(deadline_s=deadline_s)
        async with deadline(deadline_s, f"tablet {self.tablet_id} has transactions in doubt"):
            await self._wait_pending(timestamp)
        if not self.is_leader:
            raise not_leader(self.tablet_id, self._node_id, group.leader_id)
        return self._applied_index

    def _leads_soon(self) -> bool:
        group = self._group
        return group is not None and group.leader_id == self._node_id

    # Time.

    async def checkpoint(self) -> None:
        """Makes everything applied durable and lets the log be cut."""
        await super().checkpoint()
        self.compact_log()

    def compact_log(self) -> None:
        """Lets the log be cut up to what is durable here."""
        if self._group is not None:
            self._group.compact_log()
