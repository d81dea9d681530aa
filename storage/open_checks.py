"""Unique constraints that wait for the end of a transaction: what a draft has left to check.

A constraint that is deferred is tried at the end of each statement all the same, without waiting
for anybody: where no other row has the new values, and nobody else is about to have them, locks
keep it so, and nothing is left. Else the check is *open*: it is made again of all rows that the
transaction has by then, when its coordinator wants it, or before the transaction commits or
prepares at the latest.

Going back to a savepoint forgets the checks that came after it, and opens again those that were
made after it: what they found may be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from storage.fragments import FragmentChange, FragmentId, FragmentSchema
from storage.key_overlay import Key
from storage.row_keys import row_keys

# A unique constraint of a fragment, by name.
Deferred: TypeAlias = tuple[FragmentId, str]
# Whether a check is about that constraint.
Wanted = Callable[[FragmentId, str], bool]


def every_constraint(fragment_id: FragmentId, constraint: str) -> bool:
    """A check is about all of them."""
    return True


@dataclass(slots=True)
class _Open:
    command: int
    constraint: Deferred
    # The command that made it again and found nothing.
    closed_by: int | None = None


class OpenChecks:
    """Those of one draft."""

    def __init__(self) -> None:
        self._checks: list[_Open] = []

    def leave(self, command: int, constraint: Deferred) -> None:
        """What the command did is not checked for the constraint."""
        self._checks.append(_Open(command, constraint))

    def due(self, deferred: Collection[Deferred]) -> list[Deferred]:
        """The constraints that are open and not among these, each once."""
        found = (each.constraint for each in self._checks if each.closed_by is None)
        return [each for each in dict.fromkeys(found) if each not in deferred]

    def close(self, command: int, constraint: Deferred) -> None:
        """All rows were found to keep the constraint."""
        for each in self._checks:
            if each.constraint == constraint and each.closed_by is None:
                each.closed_by = command

    def take_back(self, command: int) -> None:
        """Nothing that this command and later ones did counts."""
        self._checks = [each for each in self._checks if each.command < command]
        for each in self._checks:
            if each.closed_by is not None and each.closed_by >= command:
                each.closed_by = None


def values_left(
    schema: FragmentSchema, columns: Sequence[str], changes: Iterable[FragmentChange]
) -> list[Key]:
    """What rows that the changes put in, and none takes away again, have in the columns, each once
    and none with a NULL."""
    left: dict[Key, Key] = {}
    for change in changes:
        if change.fragment_id != schema.fragment_id:
            continue
        if change.truncate:
            left.clear()
        if change.delete_keys is not None:
            for key in row_keys(schema, change.delete_keys, schema.key):
                left.pop(key, None)
        if change.insert_rows is not None:
            keys = row_keys(schema, change.insert_rows, schema.key)
            left.update(zip(keys, row_keys(schema, change.insert_rows, columns), strict=True))
    return [values for values in dict.fromkeys(left.values()) if None not in values]
