"""Which rows of a table a WHERE is about, of a statement that changes or locks them.

    k = 1 AND g IN ('a', 'b')         the keys (1, 'a') and (1, 'b')
    w = $1 AND d = $2 AND n > 5       rows by the first columns of a key or of an index

The conditions are taken apart into what names values of columns (`Asked`), compiled, and what is
left. `key_choice` makes whole keys of them where all of the primary key's columns are given, and
else looks for the index whose first columns they name best.

Left out, and so a matter of the usual way: columns whose equality or order in the store is not
that of their values (floats, char(n), json and so on; in ranges and prefixes numerics, too).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from sqlglot import exp

from catalog.model import Column, ColumnId, Table
from planner.index_reads import TURNED, Way, comparisons, ways_for
from planner.row_expressions import Code, NotByRow, RowCompiler
from storage.types import Kind, SqlType

# Longer lists of keys are worth a plan.
MOST_KEYS = 100

_INTEGERS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8})
_TEXTS = frozenset({Kind.TEXT, Kind.VARCHAR})
# Columns that are found by value; those of a whole key may be numerics and truth values, too.
_FOUND_KINDS = _INTEGERS | _TEXTS | {Kind.UUID, Kind.DATE, Kind.TIMESTAMP}
_KEY_KINDS = _FOUND_KINDS | {Kind.NUMERIC, Kind.BOOL}

# IN of anything but a list of expressions.
_OTHER_LISTS = ("query", "unnest", "field", "is_global")

Bound = tuple[Code, bool]


@dataclass(frozen=True, slots=True)
class Asked:
    """`column sign value`; with several values of a list it is to be one of them."""

    column: Column
    sign: str
    values: tuple[Code, ...]


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Rows by the columns of an index: code for the values of the first ones, and bounds of the
    next, each with whether it counts itself."""

    index: tuple[ColumnId, ...]
    equal: tuple[Code, ...]
    low: Bound | None = None
    high: Bound | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Keys, or rows to be found; `uses` are the places of the conditions that keys stand for."""

    keys: tuple[tuple[Code, ...], ...] = ()
    rows: FoundRows | None = None
    uses: frozenset[int] = frozenset()


class KeyConditions:
    """Takes apart conditions over one table. `column_of` is the column that a name means."""

    def __init__(self, compiler: RowCompiler, columns: Sequence[Column], relation: str) -> None:
        self._compiler = compiler
        self._columns = {column.name: column for column in columns}
        self._relation = relation

    def asked(self, part: exp.Expr) -> list[Asked]:
        """What the condition says of a column, nothing where it is of another kind."""
        found: list[tuple[str, exp.Expr, list[exp.Expr]]] = []
        if isinstance(part, exp.In) and not any(part.args.get(a) for a in _OTHER_LISTS):
            found = [("=", part.this, part.expressions)]
        for sign, left, right in comparisons(part):
            turned = self._column(left) is None
            sides = (TURNED[sign], right, [left]) if turned else (sign, left, [right])
            found.append(sides)
        asked = [self._one(*each) for each in found]
        return [each for each in asked if each is not None] if None not in asked else []

    def _one(self, sign: str, left: exp.Expr, values: Sequence[exp.Expr]) -> Asked | None:
        column = self._column(left)
        if column is None or column.type.kind not in _KEY_KINDS or not values:
            return None
        if any(value.find(exp.Column, exp.Query) is not None for value in values):
            return None
        typed = [self._compiler.compared(value, column.type) for value in values]
        if not all(_alike(column.type, each.type) for each in typed):
            return None
        return Asked(column, sign, tuple(each.code for each in typed))

    def _column(self, node: exp.Expr) -> Column | None:
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return None
        if node.args.get("db") or node.args.get("catalog"):
            return None
        qualifier = node.args.get("table")
        if qualifier is not None and _folded(qualifier) != self._relation:
            return None
        return self._columns.get(_folded(node.this))


def key_choice(table: Table, asked: Sequence[Sequence[Asked]]) -> Chosen:
    """How the rows are come by, from what each condition says. `NotByRow` where there is no way."""
    equal: dict[ColumnId, tuple[int, Asked]] = {}
    for place, listed in enumerate(asked):
        for each in listed:
            if each.sign == "=":
                equal.setdefault(each.column.id, (place, each))
    if not table.hidden_row_id and equal.keys() >= set(table.key):
        of_key = [equal[column] for column in table.key]
        if prod(len(each.values) for _, each in of_key) <= MOST_KEYS:
            keys = tuple(product(*(each.values for _, each in of_key)))
            return Chosen(keys, uses=frozenset(place for place, _ in of_key))
    rows = _found_rows(table, [each for listed in asked for each in listed])
    if rows is None:
        raise NotByRow("neither keys nor the columns of an index")
    return Chosen(rows=rows)


def _found_rows(table: Table, asked: Sequence[Asked]) -> FoundRows | None:
    usable = [
        each for each in asked if len(each.values) == 1 and each.column.type.kind in _FOUND_KINDS
    ]
    equal = {each.column.id: each.values[0] for each in usable if each.sign == "="}
    low = dict(_bounds(usable, ">"))
    high = dict(_bounds(usable, "<"))
    way = next(iter(ways_for(table, equal.keys(), low.keys() | high.keys())), None)
    return None if way is None or not way.equal else _rows_by(way, equal, low, high)


def _bounds(asked: Sequence[Asked], sign: str) -> Iterator[tuple[ColumnId, Bound]]:
    for each in asked:
        if each.sign.startswith(sign):
            yield each.column.id, (each.values[0], each.sign.endswith("="))


def _rows_by(
    way: Way,
    equal: dict[ColumnId, Code],
    low: dict[ColumnId, Bound],
    high: dict[ColumnId, Bound],
) -> FoundRows:
    first = tuple(equal[column] for column in way.columns[: way.equal])
    if not way.is_bounded:
        return FoundRows(way.columns, first)
    bounded = way.columns[way.equal]
    return FoundRows(way.columns, first, low.get(bounded), high.get(bounded))


def _alike(column: SqlType, value: SqlType) -> bool:
    """Whether plain values of both types compare as SQL says."""
    if column.kind in _INTEGERS:
        return value.kind in _INTEGERS
    if column.kind is Kind.NUMERIC:
        return value.kind in _INTEGERS or value.kind is Kind.NUMERIC
    if column.kind in _TEXTS:
        return value.kind in _TEXTS
    return column.kind is value.kind


def _folded(identifier: exp.Expr) -> str:
    name = str(identifier.this)
    return name if identifier.args.get("quoted") else name.lower()
