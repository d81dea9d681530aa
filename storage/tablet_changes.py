"""What open transactions do at a tablet's leader: they lock, and change rows in a draft.

The leader keeps for each transaction a *draft*: changes that are not logged yet. Small ones
stay in the draft and go into the one entry that commits or prepares them, so a one-row INSERT
is one log entry and one sync; large ones are logged as `ingest` chunks while they come in.

Every public coroutine renews the transaction's lease, and holds it while it runs. Errors: 57P03
when this node does not lead the tablet (`NotLeader`), 40001 when the transaction is lost, 23505,
55P03 when a lock is not had in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from cluster.errors import DqeError
from storage.conflicts import changed_after, concurrent_update
from storage.drafts import (
    LAST_COMMAND,
    Draft,
    check_json,
    encode_with_changes,
    has_json,
    in_shape,
    made_rows,
    pieces,
)
from storage.entries import CHUNK_BYTES, ChangeHeader, Cut, Ingest, TabletEntry
from storage.fragments import (
    FragmentChange,
    FragmentId,
    FragmentSchema,
    Timestamp,
    TransactionId,
)
from storage.lock_driver import WAIT, RowsLocked
from storage.locks import LockMode
from storage.open_checks import Deferred
from storage.participant import ABORTED, Phase, leader_changed, lost_transaction
from storage.row_checks import Finder, any_changed_after
from storage.row_keys import has_keys, row_keys
from storage.snapshot import definition_changed, fragment_gone
from storage.staging import StagedEntry
from storage.tablet_leader import DEADLINE_S
from storage.tablet_unique import TabletUnique
from storage.tasks import deadline
from storage.unique_checker import MANY_ROWS

# Chunks of one transaction on their way into the log; more are waited for.
CHUNKS_IN_FLIGHT = 4
# Larger changes are checked on a thread; a smaller one costs less than the way there.
INLINE_BYTES = 64 * 1024
# So often it is looked whether a transaction has come along.
COMING_PAUSE_S = 0.01


class TabletChanges(TabletUnique):
    """See the module."""

    # Locks.

    async def lock(
        self,
        transaction_id: TransactionId,
        mode: LockMode | str = LockMode.EXCLUSIVE,
        deadline_s: float = DEADLINE_S,
        command: int = 0,
        wait: bool = True,
        base: Timestamp | None = None,
    ) -> Timestamp:
        """Locks the whole tablet until the transaction's outcome. 55P03 when not in time.

        The timestamp of the newest commit here; 40001 if with a `base` it is above that.
        """
        await self._lead(deadline_s)
        with self._holding(transaction_id):
            await self._locks.take(
                transaction_id, LockMode(mode), deadline_s, command=command, wait=wait
            )
            newest = self._participant.newest_ts
            if base is not None and newest > base:
                raise concurrent_update()
        return newest

    async def lock_rows(
        self,
        transaction_id: TransactionId,
        fragment_id: FragmentId,
        keys: pa.RecordBatch,
        mode: LockMode | str,
        base: Timestamp,
        command: int = 0,
        policy: str = WAIT,
        deadline_s: float = DEADLINE_S,
    ) -> RowsLocked:
        """Locks rows of a fragment by key, whether they are there or not; which of them others
        changed after `base`."""
        await self._lead(deadline_s)
        schema = self._schemas.get(fragment_id)
        if schema is None:
            raise fragment_gone(self.tablet_id, fragment_id)
        with self._holding(transaction_id):
            locked = await self._locks.take_rows(
                transaction_id, schema, keys, LockMode(mode), base, command, policy, deadline_s
            )
            return await self._without_own(transaction_id, schema, keys, locked)

    async def _without_own(
        self,
        transaction_id: TransactionId,
        schema: FragmentSchema,
        keys: pa.RecordBatch,
        locked: RowsLocked,
    ) -> RowsLocked:
        """Rows that the transaction made itself are not there yet, rather than changed."""
        draft = self._drafts.get(transaction_id)
        if not locked.changed or draft is None or not has_keys(schema, schema.key):
            return locked
        # What is logged counts too: a row deleted there and inserted here was there before.
        changes = draft.changes
        if draft.chunks:
            changes = await self._every_change(transaction_id, draft, LAST_COMMAND)
            changes = [c for c in changes if c.fragment_id == schema.fragment_id]
        made = made_rows(schema, changes)
        found = row_keys(schema, keys, schema.key)
        others = [
            (place, fate)
            for place, fate in zip(locked.changed, locked.fates, strict=True)
            if found[place] not in made
        ]
        changed, fates = zip(*others, strict=True) if others else ((), ())
        return RowsLocked(changed, locked.skipped, locked.as_of, fates)

    # Changes.

    async def stage(
        self,
        transaction_id: TransactionId,
        change: FragmentChange,
        command: int = 0,
        number: int = 0,
    ) -> None:
        """Adds a change of a command to the transaction; others see it after its outcome.

        Changes apply in the order in which they are staged; by its coordinator's `number`, if
        it has one, a change that comes late or again is refused. Returns when the change is
        kept, in memory or on its way into the log; an error of the log comes with a later call.
        """
        await self._lead()
        schema = self._schemas.get(change.fragment_id)
        if schema is None:
            raise fragment_gone(self.tablet_id, change.fragment_id)
        if change.definition and schema.definition > change.definition:
            raise definition_changed(schema)
        with self._holding(transaction_id):
            draft = self._drafts.setdefault(transaction_id, Draft())
            if change.is_empty:
                return  # a word of the coordinator, for the lease
            draft.expect(number)
            draft.note(change, command)
            if change.size_bytes > INLINE_BYTES:
                change = await self._runtime.run_blocking(in_shape, change, schema)
            else:
                change = in_shape(change, schema)
            if change.insert_rows is not None and has_json(schema):
                await self._runtime.run_blocking(self._check_json, change.insert_rows, schema)
            for piece in pieces(change):
                if draft.size_bytes and draft.size_bytes + piece.size_bytes > CHUNK_BYTES:
                    await self._log_chunk(transaction_id, draft)
                draft.add(piece, command)
            if draft.error is not None:
                raise draft.error

    async def take_back(
        self,
        transaction_id: TransactionId,
        command: int,
        number: int = 0,
        is_whole: bool | None = None,
    ) -> None:
        """Forgets the transaction's changes of this command and later ones, and gives their
        locks up; changes up to this `number` that have not come by now are refused. Also a word
        for the lease, and for a transaction that has not begun here. `is_whole` False: it comes
        along from another leader, and until True comes its own changes are not told."""
        await self._lead()
        with self._holding(transaction_id):
            transaction = self._participant.transactions[transaction_id]
            if transaction.phase is Phase.PREPARED:
                return  # its coordinator did not hear that it is; it holds what it held
            if number:
                self._drafts.setdefault(transaction_id, Draft()).refuse_late(number)
            if is_whole is not None:
                self._drafts.setdefault(transaction_id, Draft()).is_whole = is_whole
            draft = self._drafts.get(transaction_id)
            if draft is not None:
                draft.take_back(command)
            self._follow(self._participant.take_back_locks(transaction_id, command))

    async def check(
        self,
        transaction_id: TransactionId,
        base: Timestamp = 0,
        command: int = 0,
        deadline_s: float = DEADLINE_S,
        locks: bool = True,
        anew: bool = False,
        deferred: Sequence[Deferred] = (),
    ) -> list[Deferred]:
        """Checks the transaction's rows against unique constraints, under the lock that keeps
        what was found so until its outcome. The transaction goes on after a violation. Those
        that are left to be checked, of the `deferred` ones (`storage.open_checks`).

        Without `locks` nothing keeps it so, and it is checked again with them, `anew`, at the
        commit: also rows that the transaction has made and changed since.
        With `base`: 40001 where others changed one of these rows after that timestamp (I3).
        """
        await self._lead()
        with self._holding(transaction_id, known=True):
            draft = self._drafts.setdefault(transaction_id, Draft())
            await self._logged(draft)
            await self._check_unique(transaction_id, draft, command, deadline_s, locks, deferred)
            if base:
                await self._check_versions(transaction_id, draft, base)
            if anew:
                await self._check_made(transaction_id, draft)
        return draft.open_checks.due(())

    async def _check_made(self, transaction_id: TransactionId, draft: Draft) -> None:
        """40001 where others have made a row that the transaction made, too."""
        chunks = self._participant.transactions[transaction_id].chunks
        ordered = sorted(chunks, key=lambda entry: entry.sequence)
        logged = await self._runtime.run_blocking(self._load_changes, ordered, draft.every_cut)
        for fragment_id in list(draft.inserts_into):
            schema = self._schemas.get(fragment_id)
            if schema is None or not has_keys(schema, schema.key):
                continue
            made = made_rows(schema, [*logged, *draft.changes])
            if made and await self._locks.any_present(schema, list(made.values())):
                raise concurrent_update()

    async def _check_versions(
        self, transaction_id: TransactionId, draft: Draft, base: Timestamp
    ) -> None:
        chunks = self._participant.transactions[transaction_id].chunks
        ordered = sorted(chunks, key=lambda entry: entry.sequence)
        changes, cuts = list(draft.changes), draft.every_cut

        def find() -> bool:
            store = self._applier.store
            with store.cursor() as cursor:
                every = [*self._load_changes(ordered, cuts), *changes]
                return changed_after(cursor, store, every, base)

        if await self._changed_rows(ordered, cuts, changes, base) or await self._applier.run(find):
            raise concurrent_update()

    async def _changed_rows(
        self,
        chunks: Sequence[StagedEntry],
        cuts: Sequence[Cut],
        changes: Sequence[FragmentChange],
        base: Timestamp,
    ) -> bool:
        """The same of fragments that only the row store has."""
        touched = {f for entry in chunks for f in entry.fragments}
        touched |= {change.fragment_id for change in changes}
        fragment_ids = sorted(f for f in touched if self._only_in_rows(f))
        if not fragment_ids:
            return False

        def find(finder: Finder) -> bool:
            every = [*self._load_changes(chunks, cuts), *changes]
            return any(
                any_changed_after(finder, f, [c for c in every if c.fragment_id == f], base)
                for f in fragment_ids
            )

        return await self._rows.look_up(fragment_ids, MANY_ROWS, find)

    async def own_changes(
        self, transaction_id: TransactionId, fragment_ids: Sequence[FragmentId], command: int
    ) -> list[FragmentChange]:
        """What the transaction's earlier commands did to these fragments (rule R5), once all of
        it is here: one that comes along from another leader brings it piece by piece (C9).

        Who asks knows that it has changed something: `LeaderChanged` where nothing is known of
        that, since the changes are with a leader before this one."""
        await self._lead()
        with self._holding(transaction_id, known=True):
            draft = self._drafts.get(transaction_id)
            if draft is None:
                raise leader_changed()
            async with deadline(DEADLINE_S, "the transaction does not come along"):
                while not draft.is_whole and transaction_id in self._participant.transactions:
                    await self._runtime.sleep(COMING_PAUSE_S)
            changes = await self._every_change(transaction_id, draft, command)
        wanted = frozenset(fragment_ids)
        return [change for change in changes if change.fragment_id in wanted]

    async def _every_change(
        self, transaction_id: TransactionId, draft: Draft, command: int
    ) -> list[FragmentChange]:
        """What commands before this one have changed, logged or not."""
        await self._logged(draft)
        cuts = draft.cuts_before(command)
        transaction = self._participant.transactions.get(transaction_id)
        if transaction is None:
            raise leader_changed()
        chunks = sorted(transaction.chunks, key=lambda entry: entry.sequence)
        changes = [
            change
            for place, change in enumerate(draft.changes)
            if all(cut.keeps(draft.chunks, place) for cut in cuts)
        ]
        if chunks:
            logged = await self._runtime.run_blocking(self._load_changes, chunks, cuts)
            changes = [*logged, *changes]
        return changes

    def _check_json(self, rows: pa.RecordBatch, schema: FragmentSchema) -> None:
        with self._applier.store.cursor() as cursor:
            check_json(cursor, rows, schema)

    async def _log_chunk(self, transaction_id: TransactionId, draft: Draft) -> None:
        sequence, changes = draft.chunks, draft.take()
        draft.chunks += 1
        term = self._participant.transactions[transaction_id].term
        while len(draft.in_flight) >= CHUNKS_IN_FLIGHT:
            await draft.in_flight.pop(0)
        chunk = self._propose_chunk(transaction_id, term, sequence, changes, draft)
        name = f"chunk {sequence} of {transaction_id} on tablet {self.tablet_id}"
        draft.in_flight.append(self._runtime.spawn(chunk, name))

    async def _propose_chunk(
        self,
        transaction_id: TransactionId,
        term: int,
        sequence: int,
        changes: Sequence[FragmentChange],
        draft: Draft,
    ) -> None:
        def make(headers: tuple[ChangeHeader, ...]) -> TabletEntry:
            return Ingest(transaction_id, term, sequence, headers)

        try:
            data = await self._runtime.run_blocking(encode_with_changes, make, changes)
            result = await self._propose_encoded(data)
        except DqeError as error:
            draft.error = draft.error or error
            return
        if result == ABORTED and draft.error is None:
            draft.error = lost_transaction("its chunks came to another leader's log")
