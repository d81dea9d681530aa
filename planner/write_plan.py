"""Statements that change rows, planned: where rows come from and what is done with each.

A row source is a `QueryPlan`; the layout of its columns is given beside it. `RowExpression`s
are evaluated where the rows are at hand, at the coordinator, over a batch whose columns have the
table's column names.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.commands import AlterSequence
from catalog.model import ColumnId, Table, TableId, UniqueConstraint
from planner.plan import QueryPlan, ResultColumn
from planner.statements import MergeAction


def row_label(name: str) -> str:
    """What `RowExpression.sql` calls a column: names that differ only in letter case, which
    DuckDB ignores, are told apart by where their capitals stand."""
    if name == name.lower():
        return name
    capitals = sum(1 << place for place, letter in enumerate(name) if letter != letter.lower())
    return f"{name}~{capitals:x}"


@dataclass(frozen=True, slots=True)
class RowExpression:
    """DuckDB SQL over the columns of a row, by their `row_label`; `name` is a constraint's or
    an output column's."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class DefaultColumns:
    """Values for columns that the row source does not give.

    `query` yields one row for the whole statement, of the `columns`; `volatile` are expressions
    over nothing whose value differs from row to row; `sequences` give numbers, one a row.
    """

    columns: tuple[ColumnId, ...]
    query: QueryPlan | None
    volatile: tuple[tuple[ColumnId, RowExpression], ...] = ()
    sequences: tuple[tuple[ColumnId, TableId], ...] = ()


@dataclass(frozen=True, slots=True)
class Returning:
    """RETURNING over whole rows of the table; `expressions` are the operands of `columns`.

    `waits`: one of them may wait for the catalog (nextval), and needs a thread for it.
    """

    columns: tuple[ResultColumn, ...]
    expressions: tuple[RowExpression, ...]
    waits: bool = False


@dataclass(frozen=True, slots=True)
class InsertPlan:
    """`source` yields the values of `columns`, in this order; the rest is default or NULL."""

    table: Table
    columns: tuple[ColumnId, ...]
    source: QueryPlan
    defaults: DefaultColumns | None
    checks: tuple[RowExpression, ...]
    returning: Returning | None
    # ON CONFLICT's: the constraints that a new row may break without an error.
    arbiters: tuple[UniqueConstraint, ...] | None = None
    # Generated columns, over the others; they are named as their columns.
    generated: tuple[RowExpression, ...] = ()


@dataclass(frozen=True, slots=True)
class ConflictPlan:
    """Of the rows about to be inserted, those that are there already by one constraint.

    `source` yields the number of the new row; with `update` (DO UPDATE) then whether its WHERE
    holds, and the update's `old` and `new`. Plan and update have one source.
    """

    source: QueryPlan
    update: UpdatePlan | None


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """`source` yields, for each row: `old` (the row's key, and what routes it), then `new`.

    `new` are whole new values: every column of each group in `groups`, and what checks and
    RETURNING read besides. `moves` says that the key or the part may change; then `new` is the
    whole row and `groups` all groups.
    """

    table: Table
    source: QueryPlan
    old: tuple[ColumnId, ...]
    new: tuple[ColumnId, ...]
    assigned: tuple[ColumnId, ...]
    groups: tuple[int, ...]
    moves: bool
    checks: tuple[RowExpression, ...]
    returning: Returning | None
    # Those of the generated columns that read what is assigned.
    generated: tuple[RowExpression, ...] = ()
    # How many columns of other relations the source yields last, for RETURNING.
    others: int = 0
    # What the source's scans call the table that is changed.
    relation: str = ""


@dataclass(frozen=True, slots=True)
class MergeStep:
    """What becomes of the rows of one WHEN clause: as in an update, groups and whether they may
    move; or the columns that an insert gives, and the defaults of the others."""

    action: MergeAction
    groups: tuple[int, ...] = ()
    moves: bool = False
    given: tuple[ColumnId, ...] = ()
    defaults: DefaultColumns | None = None
    assigned: tuple[ColumnId, ...] = ()


@dataclass(frozen=True, slots=True)
class MergePlan:
    """`source` yields the place of the clause that applies in `steps` (NULL for none), then
    `old` as for an update (NULL without a stored row), then the row as it will be, `new` (for a
    deletion as it was), the `beside` columns of the source, and whether there is a row of it.
    Scans call the target `relation`."""

    table: Table
    source: QueryPlan
    old: tuple[ColumnId, ...]
    new: tuple[ColumnId, ...]
    steps: tuple[MergeStep, ...]
    checks: tuple[RowExpression, ...]
    generated: tuple[RowExpression, ...]
    beside: tuple[str, ...]
    relation: str
    returning: Returning | None


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """`source` yields `old` as for an update, then the whole row where RETURNING reads it."""

    table: Table
    source: QueryPlan
    old: tuple[ColumnId, ...]
    row: tuple[ColumnId, ...]
    returning: Returning | None
    others: int = 0
    relation: str = ""


@dataclass(frozen=True, slots=True)
class TruncatePlan:
    """`restarts` set back the sequences of the tables' columns (RESTART IDENTITY)."""

    tables: tuple[Table, ...]
    restarts: tuple[AlterSequence, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyFromPlan:
    """Rows come from the client or a file, as values of `columns` in this order.

    `casts` read each column from its text, as `'...'::type` would; they are over a text column
    of the same name. `where` keeps the rows for which it is true.
    """

    table: Table
    columns: tuple[ColumnId, ...]
    casts: tuple[RowExpression, ...]
    defaults: DefaultColumns | None
    checks: tuple[RowExpression, ...]
    where: RowExpression | None
    generated: tuple[RowExpression, ...] = ()
