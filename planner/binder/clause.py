"""The clauses of a query block, and what may stand in each."""

from __future__ import annotations

from enum import StrEnum


class Clause(StrEnum):
    """Where an expression stands; the value is what error messages call it."""

    SELECT = "SELECT"
    WHERE = "WHERE"
    JOIN = "JOIN conditions"
    GROUP = "GROUP BY"
    HAVING = "HAVING"
    ORDER = "ORDER BY"
    LIMIT = "LIMIT"
    OFFSET = "OFFSET"
    VALUES = "VALUES"
    FUNCTION = "functions in FROM"
    FILTER = "FILTER"
    WINDOW = "window definitions"
    CHECK = "check constraints"
    ROW = "this expression"

    @property
    def allows_aggregates(self) -> bool:
        return self in (Clause.SELECT, Clause.HAVING, Clause.ORDER, Clause.WINDOW)

    @property
    def allows_windows(self) -> bool:
        return self in (Clause.SELECT, Clause.ORDER)

    @property
    def allows_sets(self) -> bool:
        """Whether functions that return rows may stand there."""
        return self in (Clause.SELECT, Clause.ORDER)
