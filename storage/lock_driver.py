"""Takes a leader's locks for transactions, waiting where it must, and tells who was too late.

A statement that changes rows it has read locks them by key and hears which of them others
changed after its snapshot (rules I1 to I3); a new row locks its key and its unique values. A
statement of more than `ROWS_LOCKED_SINGLY` rows locks the whole tablet instead (rule I6), and so
does one whose keys cannot be told apart in memory.

Who stops waiting, by a time limit or because nobody wants the statement any more, leaves its
transaction as it is: what becomes of it is its coordinator's to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import pyarrow as pa

from cluster.errors import LockNotAvailable
from cluster.runtime import Runtime
from storage.applier import StoreApplier
from storage.columnar import ColumnarStore
from storage.columnar_apply import BEGIN, registered
from storage.deadlocks import WaitEdge, circle_through, deadlock_detected, gives_up
from storage.duckdb_node import quote_name
from storage.entries import LockedKeys
from storage.fragments import (
    END_OF_TIME,
    FragmentChange,
    FragmentId,
    FragmentSchema,
    Moved,
    Timestamp,
    TransactionId,
    UniqueKey,
)
from storage.key_overlay import Key
from storage.locks import TABLET, LockMode, LockRequest, Resource
from storage.moved_rows import MovedRows
from storage.open_checks import Wanted, every_constraint
from storage.participant import Instruction, Participant, leader_changed, lost_transaction
from storage.row_checks import Finder, changed_places
from storage.row_keys import has_keys, row_keys
from storage.row_side import RowSide
from storage.stored_changes import StoredChange, touched_keys
from storage.surroundings import Peers
from storage.versions import RecentVersions

# More rows than these make a statement lock the tablet (rule I6).
ROWS_LOCKED_SINGLY = 10_000
# Who has waited this long looks whether it waits in a circle, and again after as long.
DEADLOCK_AFTER_S = 0.3
# What to do about a row that another transaction holds.
WAIT, NOWAIT, SKIP = "wait", "nowait", "skip"


class Fate(IntEnum):
    """What others did to a row after the snapshot at which it was read."""

    UPDATED = 0
    DELETED = 1
    MOVED_KEY = 2
    MOVED_PART = 3


_MOVED = {Moved.TO_KEY: Fate.MOVED_KEY, Moved.TO_PART: Fate.MOVED_PART}


@dataclass(frozen=True, slots=True)
class RowsLocked:
    """The places of rows that others changed after the snapshot, and of those left out; `fates`
    tells of each changed one what became of it.

    No change of a locked row is above `as_of`, and none will be at or below it: it is the
    rows' base version, by which another leader can tell whether they are still the same (C9).
    """

    changed: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()
    as_of: Timestamp = 0
    fates: tuple[Fate, ...] = ()


class LockDriver:
    """The locks of one tablet. `follow` carries out the participant's instructions, `waiters`
    are answered by them."""

    def __init__(
        self,
        runtime: Runtime,
        participant: Callable[[], Participant],
        follow: Callable[[Iterable[Instruction]], None],
        waiters: dict[int, asyncio.Future[bool]],
        applier: StoreApplier[ColumnarStore],
        rows: RowSide,
        peers: Callable[[], Peers],
        moved: Callable[[], MovedRows],
    ) -> None:
        self._runtime = runtime
        self._participant = participant
        self._moved = moved
        self._follow = follow
        self._waiters = waiters
        self._applier = applier
        self._tablet_id = applier.store.tablet_id
        self._peers = peers
        self._rows = rows
        self._versions = RecentVersions()

    # -- what the log brings

    def begin_term(self) -> None:
        """Nothing is known of what was committed before."""
        self._versions.begin_term(self._participant().newest_ts)

    def committed(
        self,
        commit_ts: Timestamp,
        schemas: Sequence[FragmentSchema],
        changes: Sequence[FragmentChange] | None,
    ) -> None:
        """Changes of these fragments were committed; None for those too large to look into."""
        known = {schema.fragment_id: schema for schema in schemas}
        for fragment_id, schema in known.items():
            self._versions.committed(fragment_id, commit_ts)
            if changes is None or not has_keys(schema, schema.key):
                self._versions.note_any(fragment_id, commit_ts)
        for change in changes or ():
            found = known.get(change.fragment_id)
            if found is None:
                continue
            if change.truncate:
                self._versions.note_any(change.fragment_id, commit_ts)
            if isinstance(change, StoredChange):
                if has_keys(found, found.key):
                    self._versions.note(change.fragment_id, touched_keys(change), commit_ts)
                continue
            for batch in (change.delete_keys, change.insert_rows):
                if batch is not None and has_keys(found, found.key):
                    keys = row_keys(found, batch, found.key)
                    self._versions.note(change.fragment_id, keys, commit_ts)

    def newest(self, fragment_id: FragmentId) -> Timestamp:
        """No commit to the fragment is above it."""
        return self._versions.newest(fragment_id)

    def keys_changed_after(
        self, fragment_id: FragmentId, base: Timestamp, most: int
    ) -> list[Key] | None:
        """Of the rows committed after `base`; None where that is not remembered, or takes long."""
        return self._versions.keys_after(fragment_id, base, most)

    def any_changed_after(
        self, fragment_id: FragmentId, keys: Sequence[Key], base: Timestamp
    ) -> bool:
        """Whether a row with one of the keys was committed after `base`; where that is not
        remembered, whether any of the fragment was."""
        changed = self._versions.changed_after(fragment_id, keys, base)
        return self.newest(fragment_id) > base if changed is None else bool(changed)

    def image(self, transaction_id: TransactionId) -> tuple[bool, tuple[LockedKeys, ...]]:
        """For the entry that prepares it: whether it holds the tablet, else what keys."""
        locks = self._participant().locks
        if locks.holds(transaction_id, LockMode.EXCLUSIVE):
            return True, ()
        found: dict[tuple[FragmentId, str], list[Key]] = {}
        for resource, mode in locks.rows_of(transaction_id):
            if resource:
                found.setdefault((resource[0], mode.value), []).append(resource[1])
        return False, tuple(
            LockedKeys(fragment_id, mode, tuple(keys))
            for (fragment_id, mode), keys in found.items()
        )

    # -- taking

    async def take(
        self,
        transaction_id: TransactionId,
        mode: LockMode,
        deadline_s: float,
        resource: Resource = TABLET,
        *,
        command: int = 0,
        wait: bool = True,
    ) -> bool:
        """Takes a lock; whether it had to wait. 55P03 when it is not had in time."""
        request = self._participant().request_lock(
            transaction_id,
            mode,
            self._runtime.monotonic(),
            resource,
            command=command,
            wait=wait,
        )
        if request.granted:
            return False
        if not wait:
            raise LockNotAvailable("could not obtain lock")
        await self._wait(request, deadline_s)
        return True

    def weaken(
        self,
        transaction_id: TransactionId,
        mode: LockMode,
        resource: Resource,
        command: int,
        to: LockMode | None = None,
    ) -> None:
        """Holds what the command took only as `to`, or not at all."""
        self._follow(self._participant().weaken_lock(transaction_id, mode, resource, command, to))

    async def _wait(self, request: LockRequest, deadline_s: float) -> None:
        term = self._participant().term
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters[request.number] = waiter
        try:
            async with asyncio.timeout(deadline_s):
                while not await _answered(waiter, DEADLOCK_AFTER_S):
                    await self._look_for_deadlock(request.transaction_id)
        except BaseException as error:
            self._waiters.pop(request.number, None)
            self._follow(self._participant().cancel_request(request))
            if isinstance(error, TimeoutError):
                raise LockNotAvailable("canceling statement due to lock timeout") from error
            raise
        if not waiter.result():
            if self._participant().term != term:
                raise leader_changed(waited=True)
            raise lost_transaction("it ended while it waited for a lock")

    def edges(self) -> list[WaitEdge]:
        """Who waits for whom here."""
        return [
            WaitEdge(request.transaction_id, holder, self._tablet_id, request.number)
            for request, holder in self._participant().locks.edges()
        ]

    async def _look_for_deadlock(self, transaction_id: TransactionId) -> None:
        """Raises 40P01 where the transaction waits in a circle and is the one to give up."""
        circle = circle_through(await self._peers().wait_edges(), transaction_id)
        if circle is None or gives_up(circle) != transaction_id:
            return
        still = frozenset(await self._peers().wait_edges())
        if still.issuperset(circle):
            raise deadlock_detected(circle)

    async def take_rows(
        self,
        transaction_id: TransactionId,
        schema: FragmentSchema,
        keys: pa.RecordBatch,
        mode: LockMode,
        base: Timestamp,
        command: int,
        policy: str,
        deadline_s: float,
    ) -> RowsLocked:
        """Locks rows by key, in their order; 55P03 for one that NOWAIT does not get."""
        changes_rows = mode in (LockMode.FOR_UPDATE, LockMode.FOR_NO_KEY_UPDATE)
        intention = LockMode.ROW_EXCLUSIVE if changes_rows else LockMode.ROW_SHARE
        ends_s = self._runtime.monotonic() + deadline_s
        singly = has_keys(schema, schema.key) and keys.num_rows <= ROWS_LOCKED_SINGLY
        table_mode = intention if singly else LockMode.EXCLUSIVE
        wait = policy == WAIT
        try:
            await self.take(transaction_id, table_mode, deadline_s, command=command, wait=wait)
        except LockNotAvailable:
            if policy != SKIP:
                raise
            return RowsLocked(skipped=tuple(range(keys.num_rows)))
        if not singly:
            changed = await self._changed_in_store(schema, keys, base)
            as_of = self._participant().newest_ts
            return RowsLocked(changed, (), as_of, await self._fates(schema, keys, changed, base))
        found = row_keys(schema, keys, schema.key)
        skipped = []
        for place, key in enumerate(found):
            left_s = max(ends_s - self._runtime.monotonic(), 0.001)
            resource = schema.fragment_id, key
            try:
                await self.take(transaction_id, mode, left_s, resource, command=command, wait=wait)
            except LockNotAvailable as error:
                if policy == SKIP:
                    skipped.append(place)
                    continue
                if policy == NOWAIT:
                    raise LockNotAvailable(
                        f'could not obtain lock on row in relation "{schema.table_name}"'
                    ) from error
                raise
        seen = self._versions.changed_after(schema.fragment_id, found, base)
        if seen is None:
            seen = list(await self._changed_in_store(schema, keys, base))
        as_of = self._participant().newest_ts
        changed = tuple(place for place in seen if place not in skipped)
        fates = await self._fates(schema, keys, changed, base)
        return RowsLocked(changed, tuple(skipped), as_of, fates)

    async def _fates(
        self,
        schema: FragmentSchema,
        keys: pa.RecordBatch,
        changed: Sequence[int],
        base: Timestamp,
    ) -> tuple[Fate, ...]:
        """What became of the rows at these places, which are locked."""
        if not changed:
            return ()
        fragment_id, batch = schema.fragment_id, keys.take(pa.array(changed, pa.int64()))
        gone = frozenset(await self._changed_in_store(schema, batch, END_OF_TIME))
        named = has_keys(schema, schema.key)
        found = row_keys(schema, batch, schema.key) if named else [()] * len(changed)
        moved_rows, fates = self._moved(), []
        for place, key in enumerate(found):
            is_gone = place in gone
            moved = moved_rows.after(fragment_id, key, base, is_gone=is_gone)
            fates.append(_MOVED.get(moved, Fate.DELETED if is_gone else Fate.UPDATED))
        return tuple(fates)

    async def any_present(self, schema: FragmentSchema, rows: Sequence[pa.RecordBatch]) -> bool:
        """Whether the fragment has a row with the key of one of these."""
        keys = pa.Table.from_batches(rows).select(list(schema.key)).combine_chunks()
        (batch,) = keys.to_batches()
        absent = await self._changed_in_store(schema, batch, END_OF_TIME)
        return bool(len(absent) < batch.num_rows)

    async def _changed_in_store(
        self, schema: FragmentSchema, keys: pa.RecordBatch, base: Timestamp
    ) -> tuple[int, ...]:
        if self._rows.looks_up(schema):
            return await self._changed_rows(schema, keys, base)
        same = " AND ".join(f"k.{name} = f.{name}" for name in map(quote_name, schema.key))
        numbered = pa.Table.from_batches([keys]).append_column(
            "place", pa.array(range(keys.num_rows), pa.int64())
        )

        def find() -> tuple[int, ...]:
            store = self._applier.store
            if schema.fragment_id not in store.fragments:
                return ()
            current = store.tables(schema.fragment_id).current
            with store.cursor() as cursor, registered(cursor, "locked_keys", numbered):
                rows = cursor.execute(
                    f"SELECT place FROM locked_keys k LEFT JOIN {current} f ON {same}"
                    f" WHERE f.{BEGIN} IS NULL OR f.{BEGIN} > {base} ORDER BY place"
                ).fetchall()
            return tuple(row[0] for row in rows)

        return await self._applier.run(find)

    async def _changed_rows(
        self, schema: FragmentSchema, keys: pa.RecordBatch, base: Timestamp
    ) -> tuple[int, ...]:
        def find(finder: Finder) -> tuple[int, ...]:
            return tuple(changed_places(finder, schema.fragment_id, keys, base))

        return await self._rows.look_up([schema.fragment_id], keys.num_rows, find)

    async def take_new_keys(
        self,
        transaction_id: TransactionId,
        schema: FragmentSchema,
        changes: Sequence[FragmentChange],
        many: bool,
        command: int,
        deadline_s: float,
        wanted: Wanted = every_constraint,
    ) -> None:
        """Locks the keys, and the values of wanted constraints, that these changes add, so that
        they stay as they are found until the transaction's outcome; the tablet for `many`."""
        rows = [c.insert_rows for c in changes if c.insert_rows is not None]
        unique = [each for each in schema.unique if wanted(schema.fragment_id, each.constraint)]
        columns = [schema.key, *(each.columns for each in unique)]
        await self.take(transaction_id, LockMode.ROW_EXCLUSIVE, deadline_s, command=command)
        if many or not all(has_keys(schema, names) for names in columns):
            await self.take(transaction_id, LockMode.EXCLUSIVE, deadline_s, command=command)
            return
        ends_s = self._runtime.monotonic() + deadline_s
        for resource in self._new_resources(schema, unique, rows):
            if self._participant().locks.holds(transaction_id, LockMode.FOR_KEY_SHARE, resource):
                continue  # its own row, or a new one of an earlier statement
            left_s = max(ends_s - self._runtime.monotonic(), 0.001)
            await self.take(transaction_id, LockMode.FOR_UPDATE, left_s, resource, command=command)

    def _new_resources(
        self, schema: FragmentSchema, unique: Sequence[UniqueKey], rows: Sequence[pa.RecordBatch]
    ) -> Iterable[Resource]:
        for batch in rows:
            for key in row_keys(schema, batch, schema.key):
                yield schema.fragment_id, key
            for constraint, columns in unique:
                if set(columns) == set(schema.key):
                    continue
                for values in row_keys(schema, batch, columns):
                    if None not in values:
                        yield schema.fragment_id, (constraint, *values)

    async def take_values(
        self,
        transaction_id: TransactionId,
        schema: FragmentSchema,
        unique: UniqueKey,
        values: Iterable[Key],
        command: int,
        deadline_s: float,
        *,
        wait: bool,
    ) -> None:
        """Locks values of one unique constraint, as `take_new_keys` does; 55P03 for one that
        others hold where it is not to `wait`."""
        if set(unique.columns) == set(schema.key):
            return  # new keys are locked as such
        ends_s = self._runtime.monotonic() + deadline_s
        for each in values:
            resource = schema.fragment_id, (unique.constraint, *each)
            left_s = max(ends_s - self._runtime.monotonic(), 0.001)
            await self.take(
                transaction_id, LockMode.FOR_UPDATE, left_s, resource, command=command, wait=wait
            )


async def _answered(waiter: asyncio.Future[bool], seconds: float) -> bool:
    """Whether the answer comes within that time; it may still come later."""
    await asyncio.wait([waiter], timeout=seconds)
    return waiter.done()
