"""A leader's checks of unique constraints: what is queued, what is stored, quick or in bulk.

`key_overlay` and `uniqueness` know how; this knows where the changes are. The caller holds the
tablet's lock, so nothing that matters to a check is committed while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from cluster.errors import UniqueViolation
from cluster.runtime import Runtime
from storage.applier import StoreApplier
from storage.columnar import ColumnarStore
from storage.entries import Cut
from storage.fragments import FragmentChange, FragmentId, FragmentSchema
from storage.key_overlay import KeyOverlay
from storage.staging import StagedEntry
from storage.uniqueness import OpenKeys, check_queued, find_present, find_violation


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
    ) -> None:
        self._runtime = runtime
        self._applier = applier
        self._schemas = schemas
        self._load = load
        self._overlay = KeyOverlay()

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
        touched = [fragment_id for fragment_id in fragment_ids if self.checks(fragment_id)]
        if changes is None:
            self._overlay.skip(index, touched)
            return
        for change in changes:
            if self.checks(change.fragment_id):
                self._overlay.note(index, self._schemas()[change.fragment_id], change)

    async def check(
        self,
        chunks: Sequence[StagedEntry],
        changes: Sequence[FragmentChange],
        fragment_ids: Sequence[FragmentId],
        cuts: Sequence[Cut] = (),
    ) -> None:
        """Raises UniqueViolation if the transaction's rows of these fragments conflict.

        `chunks` are its changes in the log, without the `cuts`, `changes` those behind them.
        """
        left = None if chunks else self._check_queued(changes, fragment_ids)
        if left is None:
            find = partial(
                self._find_violation, list(chunks), list(cuts), list(changes), fragment_ids
            )
            violation = await self._applier.run(find)
        else:
            violation = await self._runtime.run_blocking(self._find_present, left) if left else None
        if violation is not None:
            raise violation

    def _check_queued(
        self, changes: Sequence[FragmentChange], fragment_ids: Sequence[FragmentId]
    ) -> list[OpenKeys] | None:
        left: list[OpenKeys] = []
        store = self._applier.store
        for fragment_id in fragment_ids:
            if fragment_id not in store.fragments:
                return None
            own = [change for change in changes if change.fragment_id == fragment_id]
            schema = self._schemas()[fragment_id]
            found = check_queued(self._overlay, schema, own, store.position.applied_index)
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
    ) -> UniqueViolation | None:
        ordered = sorted(chunks, key=lambda entry: entry.sequence)
        changes = [*self._load(ordered, cuts), *last]
        store = self._applier.store
        with store.cursor() as cursor:
            for fragment_id in fragment_ids:
                if fragment_id not in store.fragments:
                    continue
                own = [change for change in changes if change.fragment_id == fragment_id]
                violation = find_violation(cursor, store.tables(fragment_id), own)
                if violation is not None:
                    return violation
        return None
