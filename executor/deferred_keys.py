"""What a transaction still has to check: foreign keys that are DEFERRABLE and deferred, by their
own word or by SET CONSTRAINTS.

A check is kept with the number of its command, so that going back to a savepoint drops it. What it
looks at is what is there when it runs: a row that is gone by then refers to nothing. Checks run
before the transaction's commit begins, under locks that hold until its end
(`executor.foreign_keys`), or when SET CONSTRAINTS has them run at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from catalog.model import ForeignKey, Table, TableId

# A foreign key: the table that refers, and the constraint's name.
Named = tuple[TableId, str]
Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Mode:
    """SET CONSTRAINTS; `keys` None is ALL."""

    command: int
    keys: frozenset[Named] | None
    deferred: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    command: int
    key: Named
    check: Check


class DeferredKeys:
    """One transaction's."""

    def __init__(self) -> None:
        self._modes: list[_Mode] = []
        self._waiting: list[_Waiting] = []

    def set(self, command: int, keys: Collection[Named] | None, *, deferred: bool) -> None:
        """From that command on these are checked at the end, or at once."""
        named = None if keys is None else frozenset(keys)
        self._modes.append(_Mode(command, named, deferred))

    def defers(self, table: Table, key: ForeignKey) -> bool:
        """Whether the key of that table is checked at the end."""
        if not key.deferrable:
            return False
        for mode in reversed(self._modes):
            if mode.keys is None or (table.id, key.name) in mode.keys:
                return mode.deferred
        return key.deferred

    def wait(self, command: int, table: Table, key: ForeignKey, check: Check) -> None:
        """A check of what the command did."""
        self._waiting.append(_Waiting(command, (table.id, key.name), check))

    async def check(self, keys: Collection[Named] | None = None) -> None:
        """Runs what waits, of these keys or of all."""
        due = [each for each in self._waiting if keys is None or each.key in keys]
        for each in due:
            await each.check()
        self._waiting = [each for each in self._waiting if each not in due]

    def undo(self, command: int) -> None:
        """Forgets what came from that command on."""
        self._modes = [mode for mode in self._modes if mode.command < command]
        self._waiting = [each for each in self._waiting if each.command < command]
