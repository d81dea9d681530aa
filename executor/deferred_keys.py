"""What a transaction still has to check: foreign keys and unique constraints that are DEFERRABLE
and deferred, by their own word or by SET CONSTRAINTS.

A check is kept with the number of its command, so that going back to a savepoint drops it; one
that was made after the savepoint is to be made again. What it looks at is what is there when it
runs: a row that is gone by then refers to nothing, and is equal to none. Checks run before the
transaction's commit begins, under locks that hold until its end (`executor.foreign_keys`,
`storage.tablet_unique`), or when SET CONSTRAINTS has them run at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass

from catalog.fragment_schemas import ANCHOR_GROUP
from catalog.model import ForeignKey, Fragment, Table, TableId, UniqueConstraint
from cluster.errors import ObjectInUse
from storage.fragments import TabletId
from storage.open_checks import Deferred

# A constraint: its table, and its name.
Named = tuple[TableId, str]
Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Mode:
    """SET CONSTRAINTS; `keys` None is ALL."""

    command: int
    keys: frozenset[Named] | None
    deferred: bool


@dataclass(slots=True)
class _Waiting:
    command: int
    key: Named
    check: Check
    # The command that made it.
    made_by: int | None = None


class DeferredKeys:
    """One transaction's."""

    def __init__(self) -> None:
        self._modes: list[_Mode] = []
        self._waiting: list[_Waiting] = []
        # Tables with unique constraints to defer that it has written.
        self._written: dict[TableId, Table] = {}

    def set(self, command: int, keys: Collection[Named] | None, *, deferred: bool) -> None:
        """From that command on these are checked at the end, or at once."""
        named = None if keys is None else frozenset(keys)
        self._modes.append(_Mode(command, named, deferred))

    def defers(self, table: Table, key: ForeignKey | UniqueConstraint) -> bool:
        """Whether the key of that table is checked at the end."""
        if not key.deferrable:
            return False
        for mode in reversed(self._modes):
            if mode.keys is None or (table.id, key.name) in mode.keys:
                return mode.deferred
        return key.deferred

    # -- unique constraints

    def note_written(self, table: Table) -> None:
        """Rows come into a table that has unique constraints to defer."""
        self._written[table.id] = table

    def unique_on(self, *, but: Named | None = None) -> dict[TabletId, list[Deferred]]:
        """The unique constraints that are deferred, of tables it has written, by their tablets."""
        found: dict[TabletId, list[Deferred]] = {}
        for table, fragment in self._fragments():
            for key in table.deferrable_keys:
                if (table.id, key.name) != but and self.defers(table, key):
                    found.setdefault(fragment.tablet_id, []).append((fragment.id, key.name))
        return found

    def named(self, constraint: Deferred) -> Named | None:
        """The constraint of a fragment as one of its table; None where that was rewritten since."""
        for table, fragment in self._fragments():
            if fragment.id == constraint[0]:
                return table.id, constraint[1]
        return None

    def _fragments(self) -> Iterator[tuple[Table, Fragment]]:
        """Those that check unique constraints."""
        for table in self._written.values():
            for part in table.parts:
                yield from ((table, f) for f in part.fragments if f.group_id == ANCHOR_GROUP)

    # -- checks

    def waits(self, key: Named) -> bool:
        """Whether a check of the constraint is to be made."""
        return any(each.key == key and each.made_by is None for each in self._waiting)

    def refuse_pending(self, table: Table, doing: str) -> None:
        """55006 where something is still to be checked of the table, as it is now."""
        if any(each.key[0] == table.id and each.made_by is None for each in self._waiting):
            raise ObjectInUse(
                f'cannot {doing} "{table.name}" because it has pending trigger events',
                hint="SET CONSTRAINTS ALL IMMEDIATE has what is deferred checked now.",
            )

    def wait(self, command: int, key: Named, check: Check) -> None:
        """A check of what the command did."""
        self._waiting.append(_Waiting(command, key, check))

    async def check(self, command: int, keys: Collection[Named] | None = None) -> None:
        """Runs what waits, of these constraints or of all, as that command."""
        for each in list(self._waiting):
            if each.made_by is None and (keys is None or each.key in keys):
                await each.check()
                each.made_by = command

    def undo(self, command: int) -> None:
        """Forgets what came from that command on."""
        self._modes = [mode for mode in self._modes if mode.command < command]
        self._waiting = [each for each in self._waiting if each.command < command]
        for each in self._waiting:
            if each.made_by is not None and each.made_by >= command:
                each.made_by = None
