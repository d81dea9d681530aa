"""Queries for the rows that an index, or the first columns of a key, leads to.

    SELECT column, ... FROM table WHERE a = constant AND b > $1 [ORDER BY b] [LIMIT n]
    SELECT sum(column), ... FROM table WHERE a = $1 AND other < 5

told apart before anything is bound or optimised, as reads by key are (`planner.point`): what is
not plainly of the shape gives None and goes the usual way, with the same answer. Equalities must
cover the first columns of the index, all of them or up to one with bounds. Where they do, other
conditions and expressions are computed of the rows (`planner.point_computed`), and rows brought
down to aggregates (`planner.index_aggregates`). ORDER BY names the columns that follow the
equalities, all in one direction; among those of the equalities it may name any. Any other order of
columns is made of the rows, without its LIMIT being asked of the tablets.

Left out: columns whose order in the store is not that of their values as they stand (numeric,
floats, char(n), json and so on).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from sqlglot import exp

from catalog.fragment_schemas import ANCHOR_GROUP
from catalog.model import Column, ColumnId, Table
from planner.context import PlannerContext
from planner.datum import Datum
from planner.index_aggregates import Aggregates, aggregates, has_aggregates
from planner.plan import ResultColumn
from planner.point import (
    KEY_KINDS,
    Parameter,
    PointReader,
    conjuncts,
    group_with,
    only_relation,
    plain_value,
    table_of,
)
from planner.point_computed import Computed, computed
from storage.types import Kind, SqlType

_CLAUSES = frozenset({"expressions", "from_", "where", "kind", "order", "limit"})
_SIGNS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
}
TURNED = {"=": "=", ">": "<", ">=": "<=", "<": ">", "<=": ">="}

Source = str | Parameter


_Bound = tuple[Source, bool] | None


@dataclass(slots=True)
class _Conditions:
    """What is asked of one column; a bound has whether it counts itself."""

    equal: Source | None = None
    low: tuple[Source, bool] | None = None
    high: tuple[Source, bool] | None = None

    def take(self, sign: str, source: Source) -> bool:
        """Whether there was nothing of the kind yet."""
        place = "equal" if sign == "=" else "low" if sign[0] == ">" else "high"
        if getattr(self, place) is not None:
            return False
        setattr(self, place, source if place == "equal" else (source, sign.endswith("=")))
        return True

    @property
    def is_range(self) -> bool:
        return self.low is not None or self.high is not None


class OrderedBy(NamedTuple):
    """A column of ORDER BY."""

    column: ColumnId
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class IndexRead:
    """Rows by the columns of an index, `name`; the first `len(equal)` of them are given, the next
    is bounded. `wanted` are the columns of the answer, in the column group `group`, where nothing
    is `computed` of the rows and they are not brought down to `aggregates`. At most `limit` rows
    are wanted, of those that meet what is computed; `scan_limit` is what a tablet is asked for.
    `is_ordered`: the index gives the rows in their order, which is to be made by values else."""

    table: Table
    group: int
    name: str
    index: tuple[ColumnId, ...]
    equal: tuple[Source, ...]
    low: tuple[Source, bool] | None
    high: tuple[Source, bool] | None
    order: tuple[OrderedBy, ...]
    is_ordered: bool
    descending: bool
    limit: int | None
    scan_limit: int | None
    wanted: tuple[ColumnId, ...]
    columns: tuple[ResultColumn, ...]
    computed: Computed | None = None
    aggregates: Aggregates | None = None

    def plain(self, place: int, source: Source, values: Sequence[Datum]) -> object | None:
        """A value for the index's column at that place; None where it has no such value."""
        value = values[source.number - 1] if isinstance(source, Parameter) else source
        return plain_value(self.table.column(self.index[place]).type, value)


def index_read(
    tree: exp.Expr, context: PlannerContext, parameters: Sequence[SqlType | None] = ()
) -> IndexRead | None:
    """The query as a read by an index; None where it is not just that."""
    if not isinstance(tree, exp.Select) or any(
        v for k, v in tree.args.items() if k not in _CLAUSES
    ):
        return None
    relation, where = only_relation(tree), tree.args.get("where")
    if relation is None or where is None or not tree.expressions:
        return None
    table = table_of(relation, context)
    limit = limit_of(tree.args.get("limit"))
    if table is None or limit == -1:
        return None
    reader = PointReader(table, relation.alias_or_name, parameters, None)
    asked = _Asked(reader, where.this)
    answer = _answer(reader, tree.expressions, context)
    order = _order(reader, tree.args.get("order"), answer)
    if answer is None or order is None:
        return None
    ways = ways_for(table, asked.equal, asked.bounded)
    for way in sorted(ways, key=lambda way: (-way.equal, not _is_given(table, way, order))):
        found = _read_by(reader, asked, way, answer, order, limit, context)
        if found is not None:
            return found
    return None


@dataclass(frozen=True, slots=True)
class _Answer:
    """A select list: columns, or expressions to compute, or aggregates."""

    shown: tuple[tuple[Column, str], ...] = ()
    items: tuple[exp.Expr, ...] = ()
    aggregates: Aggregates | None = None

    @property
    def is_plain(self) -> bool:
        return not self.items and self.aggregates is None


def _answer(
    reader: PointReader, items: Sequence[exp.Expr], context: PlannerContext
) -> _Answer | None:
    output = reader.output(items)
    if output is not None:
        return _Answer(shown=tuple(output))
    if any(isinstance(item, exp.Star) for item in items) or len(reader.table.groups) != 1:
        return None
    if not has_aggregates(items):
        return _Answer(items=tuple(items))
    found = aggregates(reader.table, reader.alias, reader.parameters, items, context)
    return None if found is None else _Answer(aggregates=found)


def _read_by(
    reader: PointReader,
    asked: _Asked,
    way: Way,
    answer: _Answer,
    order: tuple[OrderedBy, ...],
    limit: int | None,
    context: PlannerContext,
) -> IndexRead | None:
    """The read by one way, if that gives the rows and their order."""
    table = reader.table
    left = asked.left_by(way)
    if not way.equal and (left or not answer.is_plain):
        return None  # more likely many rows than few
    is_ordered = _is_given(table, way, order)
    if order and not is_ordered and not way.equal:
        return None
    made = None
    if left or answer.items:
        made = _computed(reader, left, answer.items, context)
        if made is None:
            return None
    wanted = tuple(column.id for column, _ in answer.shown)
    group = group_with(table, [*wanted, *way.columns, *(each.column for each in order)])
    if group is None or way.group not in (None, group):
        return None
    if answer.aggregates is not None and (order or limit is not None):
        return None
    makes_order = bool(order) and not is_ordered
    scan_limit = None if left or makes_order or answer.aggregates is not None else limit
    descending = is_ordered and any(each.descending for each in _varying(way, order))
    end = None if left else _end_wanted(table, way, answer.aggregates)
    if end is not None:
        scan_limit, descending = 1, end == "max"
    columns = tuple(ResultColumn(label, c.type, (label,)) for c, label in answer.shown)
    for computed_columns in (answer.aggregates, made if answer.items else None):
        columns = columns if computed_columns is None else computed_columns.columns
    return IndexRead(
        table,
        group,
        way.name,
        way.columns,
        *asked.values_for(way),
        order,
        is_ordered,
        descending,
        limit,
        scan_limit,
        wanted,
        columns,
        made,
        answer.aggregates,
    )


def _varying(way: Way, order: Sequence[OrderedBy]) -> list[OrderedBy]:
    """Of what ORDER BY names, the columns that are not the same in all rows."""
    given = way.columns[: way.equal]
    return [each for each in order if each.column not in given]


def _is_given(table: Table, way: Way, order: Sequence[OrderedBy]) -> bool:
    """Whether the index has the rows in that order, or in the opposite one."""
    varying = _varying(way, order)
    columns = [each.column for each in varying]
    if len({each.descending for each in varying}) > 1:
        return False
    return _gives_order(table, way.columns[way.equal :], columns, is_bounded=way.is_bounded)


def _computed(
    reader: PointReader,
    left: Sequence[exp.Expr],
    items: Sequence[exp.Expr],
    context: PlannerContext,
) -> Computed | None:
    """What is left of the conditions, and the select list where it is no list of columns."""
    if len(reader.table.groups) != 1 or not reader.may_compute([*left, *items], ()):
        return None
    return computed(reader.table, reader.alias, reader.parameters, left, items, context)


def _end_wanted(table: Table, way: Way, found: Aggregates | None) -> str | None:
    """`min` or `max` where all that is asked for is the first or last value of the column that
    follows in the index."""
    if found is None or len(found.calls) != 1 or way.equal == len(way.columns):
        return None
    (call,) = found.calls
    column = way.columns[way.equal]
    if call.column != column or call.name not in ("min", "max"):
        return None
    gives = _gives_order(table, (column,), (column,), is_bounded=way.is_bounded)
    return call.name if gives else None


class _Asked:
    """What a WHERE asks of single columns. The first word on a column counts; what else is said
    of it, or of anything, is a condition that the rows must meet besides."""

    def __init__(self, reader: PointReader, condition: exp.Expr) -> None:
        self._of: dict[ColumnId, _Conditions] = {}
        # Each condition, with what was taken of it.
        self._parts: list[tuple[exp.Expr, list[tuple[ColumnId, str]]]] = []
        for part in conjuncts(condition):
            pieces = [_piece(reader, *each) for each in comparisons(part)]
            taken = []
            if pieces and None not in pieces:
                taken = [each for p in pieces if p is not None for each in self._take(*p)]
            whole = len(taken) == len(pieces)
            self._parts.append((part, taken if whole else []))

    def _take(self, column: ColumnId, sign: str, source: Source) -> list[tuple[ColumnId, str]]:
        place = _PLACES[sign[0]]
        taken = self._of.setdefault(column, _Conditions()).take(sign, source)
        return [(column, place)] if taken else []

    @property
    def equal(self) -> set[ColumnId]:
        return {column for column, of in self._of.items() if of.equal is not None}

    @property
    def bounded(self) -> set[ColumnId]:
        return {column for column, of in self._of.items() if of.is_range}

    def left_by(self, way: Way) -> list[exp.Expr]:
        """The conditions that the way does not see to."""
        used = {(column, "equal") for column in way.columns[: way.equal]}
        if way.is_bounded:
            used |= {(way.columns[way.equal], place) for place in ("low", "high")}
        return [part for part, taken in self._parts if not taken or not used.issuperset(taken)]

    def values_for(self, way: Way) -> tuple[tuple[Source, ...], _Bound, _Bound]:
        """The values of the way's first columns and the bounds of the next."""
        found = [self._of[column].equal for column in way.columns[: way.equal]]
        equal = tuple(source for source in found if source is not None)
        if not way.is_bounded:
            return equal, None, None
        bounds = self._of[way.columns[way.equal]]
        return equal, bounds.low, bounds.high


# Kinds whose values are stored in their order.
SORTED_KINDS = KEY_KINDS | {Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ}
_PLACES = {"=": "equal", ">": "low", "<": "high"}


def comparisons(part: exp.Expr) -> list[tuple[str, exp.Expr, exp.Expr]]:
    """The comparisons that the condition is made of, none where it is of another kind."""
    if isinstance(part, exp.Between) and not part.args.get("symmetric"):
        return [(">=", part.this, part.args["low"]), ("<=", part.this, part.args["high"])]
    if type(part) in _SIGNS:
        return [(_SIGNS[type(part)], part.this, part.expression)]
    return []


def _piece(
    reader: PointReader, sign: str, left: exp.Expr, right: exp.Expr
) -> tuple[ColumnId, str, Source] | None:
    column = reader.column(left)
    if column is None:
        column, right, sign = reader.column(right), left, TURNED[sign]
    if column is None or column.type.kind not in KEY_KINDS:
        return None
    source = reader.source(column.type, right)
    return None if source is None else (column.id, sign, source)


def _order(
    reader: PointReader, order: exp.Expr | None, answer: _Answer | None
) -> tuple[OrderedBy, ...] | None:
    """What ORDER BY names; None for anything but columns whose stored values have their order."""
    items = [] if order is None else order.expressions
    if items and (answer is None or answer.items):
        return None  # they may name what is computed
    shown = {} if answer is None else {label: column.id for column, label in answer.shown}
    found: list[OrderedBy] = []
    for item in items:
        column = reader.column(item.this) if isinstance(item, exp.Ordered) else None
        if column is None or shown.get(column.name, column.id) != column.id:
            return None
        if column.type.kind not in SORTED_KINDS or item.args.get("with_fill"):
            return None
        descending, nulls_first = bool(item.args.get("desc")), bool(item.args.get("nulls_first"))
        found.append(OrderedBy(column.id, descending, nulls_first))
    return tuple(found)


def limit_of(limit: exp.Expr | None) -> int | None:
    """The number of LIMIT, None without one; -1 where it is more than a number."""
    if limit is None:
        return None
    number = limit.args.get("expression")
    if not isinstance(number, exp.Literal) or number.is_string or not str(number.this).isdigit():
        return -1
    return int(number.this)


class Way(NamedTuple):
    """An index, or a key, by whose first `equal` columns rows are found, and where it `is_bounded`
    by bounds of the next. `group` is the column group that keeps it, None for the key: all do."""

    name: str
    columns: tuple[ColumnId, ...]
    group: int | None
    equal: int
    is_bounded: bool


def ways_for(table: Table, equal: Collection[ColumnId], bounded: Collection[ColumnId]) -> list[Way]:
    """The ways to rows for which these columns' values, and bounds of those, are given; those
    that are given most come first."""
    found = []
    for name, columns, group in _ways(table):
        count = len(list(takewhile(lambda column: column in equal, columns)))
        is_bounded = count < len(columns) and columns[count] in bounded
        if count or is_bounded:
            found.append(Way(name, columns, group, count, is_bounded))
    return sorted(found, key=lambda way: (-way.equal, not way.is_bounded))


def _ways(table: Table) -> Iterator[tuple[str, tuple[ColumnId, ...], int | None]]:
    """The names and columns of all that leads to rows, the key first, each with the column group
    that keeps it, None for the key: all do."""
    if table.primary_key is not None:
        group = ANCHOR_GROUP if table.hidden_row_id else None
        yield table.primary_key.name, table.primary_key.columns, group
    for key in table.unique:
        yield key.name, key.columns, ANCHOR_GROUP
    for index in table.indexes:
        if index.ready:
            yield index.name, index.column_ids, table.group_of(index)


def _gives_order(
    table: Table, behind: Sequence[ColumnId], ordered: Sequence[ColumnId], *, is_bounded: bool
) -> bool:
    """Whether the columns behind the equalities order the rows as is asked for."""
    if tuple(behind[: len(ordered)]) != tuple(ordered):
        return False
    for place, column_id in enumerate(ordered):
        column = table.column(column_id)
        present = column.not_null or (place == 0 and is_bounded)
        if not present or column.type.kind not in KEY_KINDS:
            return False
    return True
