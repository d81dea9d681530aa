"""A bound query: names resolved, types known, PostgreSQL's meaning written in DuckDB's SQL.

The binder turns a parsed PostgreSQL query into a tree that DuckDB would answer as PostgreSQL
does if all tables were local. What later steps may rely on, for every query block of
`BoundQuery.tree`, subqueries and CTEs included:

- Every relation in FROM has an alias, unique in the whole statement, and every `exp.Column`
  is qualified with one. Stars, NATURAL and USING are gone (joins have ON).
- A base or system table is an `exp.Table` whose name is `BoundRelation.name` and whose
  `meta["relation"]` is its `BoundRelation`; its columns go by `column_labels`.
- Every item of a select list has an alias unique in its block; ORDER BY and GROUP BY hold
  expressions over the block's FROM, or (ORDER BY of a set operation, or where DISTINCT demands
  it) columns of its output by alias; no ordinals.
- Scalar nodes carry their `SqlType` in `meta["type"]` (`planner.bound.type_of`), and those
  that the user wrote what they were, in `meta["spelling"]`, for EXPLAIN.
- Session functions (`now()`, `current_user`, `version()`...) and parameters are literals.
- Volatile calls (`random()`, `gen_random_uuid()`, `nextval`) are marked `meta["volatile"]`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from catalog.model import ColumnId, Table
from planner.plan import ResultColumn
from storage.types import ANY, SqlType

# The schema of rows that the executor has at hand, for one query of its own making.
GIVEN_SCHEMA = "\x00given"


@dataclass(frozen=True, slots=True)
class SystemTable:
    """A virtual table whose rows the coordinator has: from the catalog, or given by whoever
    asks (`GIVEN_SCHEMA`). `rows` is how many where that is known."""

    schema: str
    name: str
    columns: tuple[tuple[str, SqlType], ...]
    rows: float | None = None


def column_labels(table: Table) -> dict[ColumnId, str]:
    """What a bound query calls a table's columns, in their order: the user's names, with the
    column's number behind one that differs from an earlier one only in letter case, which
    DuckDB ignores."""
    labels: dict[ColumnId, str] = {}
    taken: set[str] = set()
    for column in table.columns:
        folded = column.name.lower()
        labels[column.id] = f"{column.name}~{column.id}" if folded in taken else column.name
        taken.add(folded)
    return labels


@dataclass(frozen=True, slots=True)
class BoundRelation:
    """A base table at one place of a statement; `name` is unique in the statement.

    Two uses of one table are two relations.
    """

    name: str
    source: Table | SystemTable

    def __deepcopy__(self, memo: dict[int, object]) -> BoundRelation:
        """Immutable: copying a tree must not copy the table's thousands of parts."""
        return self


@dataclass(frozen=True, slots=True)
class Spelling:
    """The expression as parsed, that a bound node stands for."""

    written: exp.Expr

    def __deepcopy__(self, memo: dict[int, object]) -> Spelling:
        """Never changed: copies of a bound tree share it."""
        return self


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """The tree, and what the client is to get from it.

    `columns[i].operands` name output aliases of the outermost block, which may hold more
    columns than the client sees (divisors, and sort keys that are not shown).
    `parameters` are the types of `$1`, `$2`, ... as given or inferred.
    """

    tree: exp.Query
    columns: tuple[ResultColumn, ...]
    relations: tuple[BoundRelation, ...]
    parameters: tuple[SqlType, ...] = ()


def type_of(node: exp.Expr) -> SqlType:
    """The type the binder gave to a scalar node; ANY when DuckDB must say."""
    found = node.meta.get("type")
    return found if isinstance(found, SqlType) else ANY


def spelling_of(node: exp.Expr) -> exp.Expr | None:
    """What the user wrote for a bound node; None where the binder or the planner made it."""
    found = node._meta.get("spelling") if node._meta else None
    return found.written if isinstance(found, Spelling) else None
