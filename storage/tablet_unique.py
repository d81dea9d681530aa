"""Unique constraints of a leader's drafts: which rows are checked when, and under which locks.

immediate   at the end of each statement: new keys and values are locked, then looked up
deferred    tried there, without waiting; what is left *open* is checked later, with all rows
            that there are by then (`storage.open_checks`), before the end at the latest
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from cluster.errors import LockNotAvailable, UniqueViolation
from storage.drafts import FEW_ROWS, Draft
from storage.fragments import (
    FragmentChange,
    FragmentId,
    FragmentSchema,
    TransactionId,
    UniqueKey,
)
from storage.locks import LockMode
from storage.open_checks import Deferred, Wanted, values_left
from storage.row_keys import has_keys
from storage.row_tables import RowTables, StoredKey
from storage.snapshot import definition_changed, fragment_gone
from storage.stored_changes import lock_key
from storage.tablet_leader import TabletLeader
from storage.unique_checker import WaitFor


@dataclass(frozen=True, slots=True)
class _Check:
    """One look at a draft: for which command, with `locks` that keep what it finds or without."""

    transaction_id: TransactionId
    draft: Draft
    command: int
    deadline_s: float
    locks: bool


class TabletUnique(TabletLeader):
    """See the module."""

    async def _logged(self, draft: Draft) -> None:
        """Returns when no chunk of the draft is on its way; raises what went wrong with one."""
        while draft.in_flight:
            await draft.in_flight.pop(0)
        if draft.error is not None:
            raise draft.error

    async def _check_unique(
        self,
        transaction_id: TransactionId,
        draft: Draft,
        command: int,
        deadline_s: float,
        locks: bool = True,
        deferred: Collection[Deferred] | None = None,
    ) -> None:
        """Checks what has not been checked, with `locks` so that it stays so; what cannot be told
        at once of the `deferred` constraints is left open, and what is open of others is due.
        None: what is open stays so, and nothing else is deferred."""
        check = _Check(transaction_id, draft, command, deadline_s, locks)
        if draft.unchecked_rows:
            await self._check_new(check, deferred or ())
            for each in deferred or ():
                if not await self._holds(check, each):
                    draft.open_checks.leave(command, each)
            if locks:
                draft.checked()
        for due in () if deferred is None else draft.open_checks.due(deferred):
            await self._check_again(check, due)
            draft.open_checks.close(command, due)

    async def _check_new(self, check: _Check, deferred: Collection[Deferred]) -> None:
        """Checks the unchecked rows, but for what is deferred."""
        draft = check.draft

        def wanted(fragment_id: FragmentId, constraint: str) -> bool:
            return (fragment_id, constraint) not in deferred

        checked = [f for f in draft.inserts_into if self._checks(f, wanted)]
        if not checked:
            return
        many = not draft.unchecked
        for fragment_id in checked if check.locks else ():
            schema = self._schemas.get(fragment_id)
            new = [change for change in draft.unchecked if change.fragment_id == fragment_id]
            if schema is not None and (new or many):
                await self._locks.take_new_keys(
                    check.transaction_id,
                    schema,
                    new,
                    many,
                    check.command,
                    check.deadline_s,
                    wanted,
                )
        self._refuse_gone(draft)
        chunks = self._participant.transactions[check.transaction_id].chunks
        changes = draft.changes
        if not chunks and not many:
            checked = list(dict.fromkeys(change.fragment_id for change in draft.unchecked))
            checked = [f for f in checked if self._checks(f, wanted)]
            changes = [c for f in checked for c in self._to_check(draft, f)]
        try:
            await self._unique.check(
                chunks, changes, checked, draft.cuts, self._waiting_for(check), wanted
            )
        except Exception:
            self._refuse_gone(draft)
            raise

    def _checks(self, fragment_id: FragmentId, wanted: Wanted) -> bool:
        schema = self._schemas.get(fragment_id)
        unique = () if schema is None else schema.unique
        return any(wanted(fragment_id, each.constraint) for each in unique)

    # What is deferred.

    async def _holds(self, check: _Check, constraint: Deferred) -> bool:
        """Whether the unchecked rows keep the constraint, whatever others do; False where that
        is not seen at once. Waits for nobody."""
        draft, fragment_id = check.draft, constraint[0]
        new = [change for change in draft.unchecked if change.fragment_id == fragment_id]
        if draft.unchecked and not new:
            return True
        found = self._constraint(constraint)
        if found is None:
            return True
        schema, unique = found
        if draft.chunks or not draft.unchecked or not _in_memory(schema, unique):
            return False
        try:
            if check.locks:
                await self._take_values(check, schema, unique, new, wait=False)
            await self._check_only(check, constraint)
        except (LockNotAvailable, UniqueViolation):
            return False
        return True

    async def _check_again(self, check: _Check, constraint: Deferred) -> None:
        """Checks all rows of the transaction, those of earlier statements, too."""
        found = self._constraint(constraint)
        if found is None:
            return
        schema, unique = found
        changes = check.draft.changes
        many = check.draft.chunks or sum(each.insert_count for each in changes) > FEW_ROWS
        if check.locks and (many or not _in_memory(schema, unique)):
            await self._locks.take(
                check.transaction_id, LockMode.EXCLUSIVE, check.deadline_s, command=check.command
            )
        elif check.locks:
            await self._take_values(check, schema, unique, changes, wait=True)
        await self._check_only(check, constraint, self._waiting_for(check))

    async def _take_values(
        self,
        check: _Check,
        schema: FragmentSchema,
        unique: UniqueKey,
        changes: Sequence[FragmentChange],
        *,
        wait: bool,
    ) -> None:
        values = values_left(schema, unique.columns, changes)
        await self._locks.take_values(
            check.transaction_id,
            schema,
            unique,
            values,
            check.command,
            check.deadline_s,
            wait=wait,
        )

    async def _check_only(
        self, check: _Check, constraint: Deferred, wait_for: WaitFor | None = None
    ) -> None:
        draft = check.draft

        def wanted(fragment_id: FragmentId, name: str) -> bool:
            return (fragment_id, name) == constraint

        chunks = self._participant.transactions[check.transaction_id].chunks
        changes = [c for c in draft.changes if c.fragment_id == constraint[0]]
        await self._unique.check(chunks, changes, [constraint[0]], draft.cuts, wait_for, wanted)

    def _constraint(self, constraint: Deferred) -> tuple[FragmentSchema, UniqueKey] | None:
        """None where the table or its constraint is gone by now."""
        schema = self._schemas.get(constraint[0])
        for unique in () if schema is None else schema.unique:
            if unique.constraint == constraint[1]:
                assert schema is not None
                return schema, unique
        return None

    # What it takes.

    def _waiting_for(self, check: _Check) -> WaitFor | None:
        if not check.locks:
            return None
        transaction_id, command, deadline_s = check.transaction_id, check.command, check.deadline_s
        return partial(self._wait_for_rows, transaction_id, command, deadline_s)

    async def _wait_for_rows(
        self,
        transaction_id: TransactionId,
        command: int,
        deadline_s: float,
        fragment_id: FragmentId,
        keys: Sequence[StoredKey],
    ) -> bool:
        """Waits for whoever is about to delete these rows, or to change their keys, as PostgreSQL
        does before it says that a value is taken; whether there was anybody. The rows are nothing
        to it afterwards."""
        schema = self._schemas.get(fragment_id)
        if schema is None or not has_keys(schema, schema.key):
            return False
        tables, waited = RowTables(schema), False
        for key in keys:
            resource, mode = (fragment_id, lock_key(tables, key)), LockMode.FOR_KEY_SHARE
            if self._participant.locks.holds(transaction_id, mode, resource):
                continue
            waited |= await self._locks.take(
                transaction_id, mode, deadline_s, resource, command=command
            )
            self._locks.weaken(transaction_id, mode, resource, command)
        return waited

    def _to_check(self, draft: Draft, fragment_id: FragmentId) -> list[FragmentChange]:
        """What tells whether the draft's unchecked rows of a fragment conflict."""
        schema = self._schemas[fragment_id]
        of_fragment = [c for c in draft.unchecked if c.fragment_id == fragment_id]
        by_key = all(set(unique.columns) == set(schema.key) for unique in schema.unique)
        if by_key and has_keys(schema, schema.key):
            return draft.touching(schema, of_fragment)
        return [c for c in draft.changes if c.fragment_id == fragment_id]

    def _refuse_gone(self, draft: Draft) -> None:
        """Raises when a table was defined anew before the transaction had its lock (rule S1)."""
        for fragment_id, (_, definition) in draft.made_for.items():
            schema = self._schemas.get(fragment_id)
            if schema is None:
                raise fragment_gone(self.tablet_id, fragment_id)
            if definition and schema.definition > definition:
                raise definition_changed(schema)


def _in_memory(schema: FragmentSchema, unique: UniqueKey) -> bool:
    """Whether rows and values of the constraint can be told apart one by one."""
    return has_keys(schema, schema.key) and has_keys(schema, unique.columns)
