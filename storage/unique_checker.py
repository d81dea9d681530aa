"""A leader's checks of unique constraints: what is queued, what is stored, quick or in bulk.

`key_overlay` and `uniqueness` know how for the columnar store, `row_checks` for the row store,
which is asked where it has the rows and they are few; this knows where the changes are. The
caller holds locks, so nothing that matters to a check is committed while it runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from cluster.errors import UniqueViolation
from cluster.runtime import Runtime
from storage.applier import StoreApplier
from storage.columnar import ColumnarStore
from storage.entries import Cut
from storage.fragments import FragmentChange, FragmentId, FragmentSchema, UniqueKey
from storage.key_overlay import KeyOverlay
from storage.open_checks import Wanted, every_constraint
from storage.row_checks import Conflict, Finder, find_conflict
from storage.row_side import RowSide
from storage.row_tables import StoredKey
from storage.staging import StagedEntry
from storage.stored_changes import StoredChange
from storage.uniqueness import (
    OpenKeys,
    check_queued,
    find_present,
    find_violation,
    violation_of_batch,
)

# Of a table in both stores; more rows are joined in the columnar one.
LOOKED_UP_ROWS = 1_000
MANY_ROWS = 2**31


# Waits for those who may take rows away; whether there was anybody to wait for.
WaitFor = Callable[[FragmentId, Sequence[StoredKey]], Awaitable[bool]]


class UniqueChecker:
    """Checks transactions of one tablet before they commit or prepare.

    `schemas` gives the fragments as the log has them, `load` the changes of staged entries (it
    may block on the disk).
    """

    def __init__(
        self,
        runtime: Runtime,
        applier: StoreApplier[ColumnarStore],
        schemas: Callable[[], Mapping[FragmentId, FragmentSchema]],
        load: Callable[[Sequence[StagedEntry], Sequence[Cut]], list[FragmentChange]],
        rows: RowSide,
    ) -> None:
        self._runtime = runtime
        self._applier = applier
        self._schemas = schemas
        self._load = load
        self._rows = rows
        self._overlay = KeyOverlay()
        self._newest_index = 0
        # The constraints by which queued changes of a fragment were looked into.
        self._known: dict[FragmentId, tuple[UniqueKey, ...]] = {}

    def begin_term(self, applied_index: int) -> None:
        """Up to this index, what is queued has not been looked into."""
        self._overlay.skip(applied_index)

    def checks(self, fragment_id: FragmentId) -> bool:
        """Whether the fragment has unique constraints."""
        schema = self._schemas().get(fragment_id)
        return schema is not None and bool(schema.unique)

    def committed(
        self,
        index: int,
        fragment_ids: Sequence[FragmentId],
        changes: Sequence[FragmentChange] | None,
    ) -> None:
        """Changes of these fragments are about to be queued for the store; None for changes
        that are too large to be looked into."""
        if not self._applier.has_queued:
            self._overlay.forget(self._applier.store.position.applied_index)
        for fragment_id in fragment_ids:
            self._learn(fragment_id)
        self._newest_index = index
        touched = [fragment_id for fragment_id in fragment_ids if self.checks(fragment_id)]
        if changes is None:
            self._overlay.skip(index, touched)
            return
        for change in changes:
            if isinstance(change, StoredChange):
                # The row store has it at once; what is behind is checked as a whole.
                self._overlay.skip(index, [change.fragment_id])
            elif self.checks(change.fragment_id):
                self._overlay.note(index, self._schemas()[change.fragment_id], change)

    def _learn(self, fragment_id: FragmentId) -> None:
        """What was queued before a fragment got another constraint was not looked into for it."""
        schema = self._schemas().get(fragment_id)
        unique = () if schema is None else schema.unique
        if self._known.setdefault(fragment_id, unique) != unique:
            self._overlay.skip(self._newest_index, [fragment_id])
            self._known[fragment_id] = unique

    async def check(
        self,
        chunks: Sequence[StagedEntry],
        changes: Sequence[FragmentChange],
        fragment_ids: Sequence[FragmentId],
        cuts: Sequence[Cut] = (),
        wait_for: WaitFor | None = None,
        wanted: Wanted = every_constraint,
    ) -> None:
        """Raises UniqueViolation if the transaction's rows of these fragments conflict by any of
        the wanted constraints.

        `chunks` are its changes in the log, without the `cuts`, `changes` those behind them.
        Where the row store is asked, `wait_for` is told which rows are in the way: they may be
        about to go. If it had to wait it is looked again.
        """
        for fragment_id in fragment_ids:
            self._learn(fragment_id)
        looked_up = [f for f in fragment_ids if self._looks_up(f, chunks, changes)]
        if looked_up:
            await self._check_by_lookups(looked_up, chunks, cuts, changes, wait_for, wanted)
        fragment_ids = [f for f in fragment_ids if f not in looked_up]
        if not fragment_ids:
            return
        left = None if chunks else self._check_queued(changes, fragment_ids, wanted)
        if left is None:
            find = partial(
                self._find_violation, list(chunks), list(cuts), list(changes), fragment_ids, wanted
            )
            violation = await self._applier.run(find)
        else:
            violation = await self._runtime.run_blocking(self._find_present, left) if left else None
        if violation is not None:
            raise violation

    def _looks_up(
        self,
        fragment_id: FragmentId,
        chunks: Sequence[StagedEntry],
        changes: Sequence[FragmentChange],
    ) -> bool:
        """Whether the row store is asked, which of two stores is the better one for few rows."""
        schema = self._schemas()[fragment_id]
        if not self._rows.looks_up(schema):
            return False
        return not schema.method.in_columnar_store or (
            not chunks and _row_count(changes) <= LOOKED_UP_ROWS
        )

    async def _check_by_lookups(
        self,
        fragment_ids: Sequence[FragmentId],
        chunks: Sequence[StagedEntry],
        cuts: Sequence[Cut],
        changes: Sequence[FragmentChange],
        wait_for: WaitFor | None,
        wanted: Wanted,
    ) -> None:
        ordered = sorted(chunks, key=lambda entry: entry.sequence)

        def find(finder: Finder) -> tuple[FragmentId, Conflict] | None:
            every = [*self._load(ordered, cuts), *changes] if ordered else changes
            for fragment_id in fragment_ids:
                own = [change for change in every if change.fragment_id == fragment_id]
                conflict = find_conflict(finder, fragment_id, own, wanted)
                if conflict is not None:
                    return fragment_id, conflict
            return None

        row_count = MANY_ROWS if ordered else _row_count(changes)
        while found := await self._rows.look_up(fragment_ids, row_count, find):
            fragment_id, conflict = found
            if wait_for is not None and await wait_for(fragment_id, conflict.held_by):
                continue
            schema = self._schemas()[fragment_id]
            raise await self._runtime.run_blocking(self.violation, schema, conflict)

    def violation(self, schema: FragmentSchema, conflict: Conflict) -> UniqueViolation:
        """The error for a conflict. Blocks."""
        with self._applier.store.cursor() as cursor:
            return violation_of_batch(cursor, schema, conflict.unique, conflict.values)

    def _check_queued(
        self,
        changes: Sequence[FragmentChange],
        fragment_ids: Sequence[FragmentId],
        wanted: Wanted,
    ) -> list[OpenKeys] | None:
        left: list[OpenKeys] = []
        store = self._applier.store
        for fragment_id in fragment_ids:
            if fragment_id not in store.fragments:
                return None
            own = [change for change in changes if change.fragment_id == fragment_id]
            schema = self._schemas()[fragment_id]
            applied = store.position.applied_index
            found = check_queued(self._overlay, schema, own, applied, wanted)
            if found is None:
                return None
            left += found
        return left

    def _find_present(self, left: Sequence[OpenKeys]) -> UniqueViolation | None:
        store = self._applier.store
        with store.cursor() as cursor:
            for wanted in left:
                tables = store.tables(wanted.schema.fragment_id)
                violation = find_present(cursor, tables, wanted)
                if violation is not None:
                    return violation
        return None

    def _find_violation(
        self,
        chunks: Sequence[StagedEntry],
        cuts: Sequence[Cut],
        last: Sequence[FragmentChange],
        fragment_ids: Sequence[FragmentId],
        wanted: Wanted,
    ) -> UniqueViolation | None:
        ordered = sorted(chunks, key=lambda entry: entry.sequence)
        changes = [*self._load(ordered, cuts), *last]
        store = self._applier.store
        with store.cursor() as cursor:
            for fragment_id in fragment_ids:
                if fragment_id not in store.fragments:
                    continue
                own = [change for change in changes if change.fragment_id == fragment_id]
                violation = find_violation(cursor, store.tables(fragment_id), own, wanted)
                if violation is not None:
                    return violation
        return None


def _row_count(changes: Sequence[FragmentChange]) -> int:
    batches = [batch for c in changes for batch in (c.delete_keys, c.insert_rows)]
    return sum(batch.num_rows for batch in batches if batch is not None)
