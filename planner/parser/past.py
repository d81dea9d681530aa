"""AS OF SYSTEM TIME: where it stands in a query, and what time the whole statement is given.

CockroachDB's clause ends a FROM list. sqlglot does not know it, so its tokens are kept from those
who build trees (`Cursor.slice`), and the statement carries the expression beside its tree.

A statement reads at one time. So the clause stands in every FROM of the outermost level, in the
same words where there are several (the arms of a UNION); a subquery may repeat it. Anything else
would read as if a part of the statement saw another moment than the rest, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

AS_OF_SYSTEM_TIME = ("AS", "OF", "SYSTEM", "TIME")


@dataclass(frozen=True, slots=True)
class _From:
    """A FROM list (by its first token): how deep it lies, and the clause at its end."""

    level: int
    clause: tuple[int, int] | None


class PastClauses:
    """What the grammar has met of the clause; walking a text again changes nothing."""

    def __init__(self) -> None:
        self._level = 0
        self._found: dict[int, _From] = {}
        self._clauses: dict[int, int] = {}
        self._taken = 0

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """What the block walks is a query within the one outside of it."""
        self._level += 1
        try:
            yield
        finally:
            self._level -= 1

    def reads(self, start: int, clause: tuple[int, int] | None = None) -> None:
        """A query reads relations named from token `start` on."""
        self._found[start] = _From(self._level, clause)
        if clause is not None:
            self._clauses[clause[0]] = clause[1]

    @property
    def any(self) -> bool:
        """Whether a clause was met."""
        return bool(self._clauses)

    def outside(self, start: int, end: int) -> list[int]:
        """The tokens from `start` to before `end` that belong to no clause."""
        kept: list[int] = []
        index = start
        while index < end:
            if index in self._clauses:
                index = self._clauses[index]
            else:
                kept.append(index)
                index += 1
        return kept

    def take(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int | None]:
        """For the statement read since the last call: the clauses of its outermost level, all
        clauses, and where the outermost level reads without one (None where it does not)."""
        found = [(start, it) for start, it in self._found.items() if start >= self._taken]
        self._taken = max([self._taken, *(start + 1 for start, _ in found)])
        clauses = [it.clause for _, it in found if it.clause is not None]
        if not clauses:
            return [], [], None
        outermost = min(it.level for _, it in found)
        top = [(start, it) for start, it in found if it.level == outermost]
        bare = next((start for start, it in top if it.clause is None), None)
        return [it.clause for _, it in top if it.clause is not None], clauses, bare
