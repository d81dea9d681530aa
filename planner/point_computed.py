"""What a query for one row computes of it: further conditions, and expressions in its select list.

    SELECT balance - $2, upper(name) FROM t WHERE k = $1 AND balance > $2 AND NOT closed

Compiled once with the query (`planner.row_expressions`), so that the row needs no plan where it is
read. The code is kept for all sessions of a node: types whose values a session's settings have a
say in (times, char(n), json, arrays) and the time itself are left to the usual way, and so is what
the scale of a bare numeric parameter would decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from catalog.fragment_schemas import fragment_schema, store_name
from catalog.model import Table
from planner.binder.naming import output_name
from planner.context import PlannerContext
from planner.plan import ResultColumn
from planner.row_expressions import NOW, Code, NotByRow, RowColumn, RowCompiler, Typed, folded
from storage.row_tables import RowTables
from storage.types import NUMERIC, Kind, SqlType

# Types whose values mean the same whatever a session has set.
SETTLED_KINDS = frozenset(
    {
        Kind.INT2,
        Kind.INT4,
        Kind.INT8,
        Kind.TEXT,
        Kind.VARCHAR,
        Kind.BOOL,
        Kind.NUMERIC,
        Kind.FLOAT8,
    }
)


@dataclass(frozen=True, slots=True)
class Computed:
    """Conditions that the row must meet, and the answer's columns, none where they are the row's
    own. `parameters` are the types of those that the code uses."""

    conditions: tuple[Code, ...]
    outputs: tuple[Code, ...]
    columns: tuple[ResultColumn, ...]
    parameters: tuple[SqlType | None, ...]


def computed(
    table: Table,
    alias: str,
    parameters: Sequence[SqlType | None],
    conditions: Sequence[exp.Expr],
    items: Sequence[exp.Expr],
    context: PlannerContext,
) -> Computed | None:
    """The code for one row of a table of one column group; None where rows are not computed so."""
    return computed_of(row_columns(table, alias), parameters, conditions, items, context)


def row_columns(table: Table, alias: str, first: int = 0) -> list[RowColumn]:
    """The columns of a table of one column group, and where a row has them from `first` on."""
    names = RowTables(fragment_schema(table, table.parts[0].fragments[0])).names
    return [
        RowColumn(column.name, column.type, first + names.index(store_name(column.id)), alias)
        for column in table.visible_columns
    ]


def computed_of(
    columns: Sequence[RowColumn],
    parameters: Sequence[SqlType | None],
    conditions: Sequence[exp.Expr],
    items: Sequence[exp.Expr],
    context: PlannerContext,
) -> Computed | None:
    """The code for a row of these columns, of one table or several."""
    known = [column for column in columns if column.type.kind in SETTLED_KINDS]
    compiler = RowCompiler(known, context, parameters)
    try:
        tests = tuple(compiler.condition(condition) for condition in conditions)
        typed = [compiler.value(_inner(item)) for item in items]
    except NotByRow:
        return None
    types = compiler.parameter_types
    codes = tuple(value.code for value in typed)
    if not _means_the_same(types, typed) or looks_around((tests, codes)):
        return None
    bare = {number for number, known_type in enumerate(types, start=1) if known_type == NUMERIC}
    if bare and any(int(p.name) in bare for item in items for p in item.find_all(exp.Parameter)):
        return None
    labels = [_label(item) for item in items]
    shown = tuple(
        ResultColumn(label, value.type, (label,))
        for label, value in zip(labels, typed, strict=True)
    )
    return Computed(tests, codes, shown, types)


def _means_the_same(types: Sequence[SqlType | None], typed: Sequence[Typed]) -> bool:
    used = [t for t in types if t is not None] + [value.type for value in typed]
    return all(t.kind in SETTLED_KINDS for t in used)


def looks_around(code: object) -> bool:
    """Whether the code reads the time or the session's zone."""
    if not isinstance(code, tuple):
        return False
    if code[:1] == ("local",) or code == ("parameter", NOW):
        return True
    return any(looks_around(part) for part in code)


def _inner(item: exp.Expr) -> exp.Expr:
    found: exp.Expr = item.this if isinstance(item, exp.Alias) else item
    return found


def _label(item: exp.Expr) -> str:
    return folded(item.args["alias"]) if isinstance(item, exp.Alias) else output_name(item)
