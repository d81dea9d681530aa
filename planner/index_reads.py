"""Queries for the rows that an index, or the first columns of a key, leads to.

    SELECT column, ... FROM table WHERE a = constant AND b > $1 [ORDER BY b] [LIMIT n]

told apart before anything is bound or optimised, as reads by key are (`planner.point`): what is
not plainly of the shape gives None and goes the usual way, with the same answer. Equalities must
cover the first columns of the index, all of them or up to one with bounds; every condition must
be one of these. ORDER BY names the columns that follow the equalities, all in one direction; among
those of the equalities it may name any.

Left out: columns whose order in the store is not that of their values as they stand (numeric,
floats, char(n), json and so on), and NULLs: an ordered column is NOT NULL, or bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from catalog.fragment_schemas import ANCHOR_GROUP
from catalog.model import ColumnId, Table
from planner.context import PlannerContext
from planner.datum import Datum
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
from storage.types import SqlType

_CLAUSES = frozenset({"expressions", "from_", "where", "kind", "order", "limit"})
_SIGNS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
}
_TURNED = {"=": "=", ">": "<", ">=": "<=", "<": ">", "<=": ">="}

Source = str | Parameter


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


@dataclass(frozen=True, slots=True)
class IndexRead:
    """Rows by the columns of an index, `name`; the first `len(equal)` of them are given, the next
    is bounded. `wanted` are the columns of the answer, in the column group `group`."""

    table: Table
    group: int
    name: str
    index: tuple[ColumnId, ...]
    equal: tuple[Source, ...]
    low: tuple[Source, bool] | None
    high: tuple[Source, bool] | None
    is_ordered: bool
    descending: bool
    limit: int | None
    wanted: tuple[ColumnId, ...]
    columns: tuple[ResultColumn, ...]

    def plain(self, place: int, source: Source, values: Sequence[Datum]) -> object | None:
        """A value for the index's column at that place; None where it has no such value."""
        value = values[source.number - 1] if isinstance(source, Parameter) else source
        return plain_value(self.table.column(self.index[place]).type, value)

    @property
    def ordered_places(self) -> range:
        """The places in the index by whose values the rows are ordered."""
        return range(len(self.equal), len(self.index))


def index_read(
    tree: exp.Expr, context: PlannerContext, parameters: Sequence[SqlType | None] = ()
) -> IndexRead | None:
    """The query as a read by an index; None where it is not just that."""
    if not isinstance(tree, exp.Select) or any(
        v for k, v in tree.args.items() if k not in _CLAUSES
    ):
        return None
    relation, where = only_relation(tree), tree.args.get("where")
    if relation is None or where is None:
        return None
    table = table_of(relation, context)
    if table is None:
        return None
    reader = PointReader(table, relation.alias_or_name, parameters, None)
    asked = _conditions(reader, where.this)
    output = reader.output(tree.expressions)
    limit = _limit(tree.args.get("limit"))
    if asked is None or output is None or limit == -1:
        return None
    wanted = tuple(column.id for column, _ in output)
    order = _order(reader, tree.args.get("order"))
    if order is None:
        return None
    shown = tuple(ResultColumn(label, c.type, (label,)) for c, label in output)
    for name, columns, place in _ways(table):
        way = _way(table, columns, asked, order[0])
        group = group_with(table, [*wanted, *columns])
        if way is not None and group is not None and place in (None, group):
            return IndexRead(
                table, group, name, columns, *way, bool(order[0]), order[1], limit, wanted, shown
            )
    return None


def _conditions(reader: PointReader, condition: exp.Expr) -> dict[ColumnId, _Conditions] | None:
    """What is asked of each column; None where something else is asked, too."""
    asked: dict[ColumnId, _Conditions] = {}
    for part in conjuncts(condition):
        pieces: list[tuple[str, exp.Expr, exp.Expr]] = []
        if isinstance(part, exp.Between) and not part.args.get("symmetric"):
            pieces = [(">=", part.this, part.args["low"]), ("<=", part.this, part.args["high"])]
        elif type(part) in _SIGNS:
            pieces = [(_SIGNS[type(part)], part.this, part.expression)]
        for sign, left, right in pieces:
            column = reader.column(left)
            if column is None:
                column, right, sign = reader.column(right), left, _TURNED[sign]
            if column is None or column.type.kind not in KEY_KINDS:
                return None
            source = reader.source(column.type, right)
            taken = asked.setdefault(column.id, _Conditions())
            if source is None or not taken.take(sign, source):
                return None
        if not pieces:
            return None
    return asked


def _order(reader: PointReader, order: exp.Expr | None) -> tuple[tuple[ColumnId, ...], bool] | None:
    """The columns of ORDER BY, and whether they descend; None for anything else."""
    items = [] if order is None else order.expressions
    found: list[ColumnId] = []
    directions = set()
    for item in items:
        column = reader.column(item.this) if isinstance(item, exp.Ordered) else None
        if column is None:
            return None
        descending = bool(item.args.get("desc"))
        found.append(column.id)
        directions.add(descending)
    if len(directions) > 1:
        return None
    return tuple(found), directions == {True}


def _limit(limit: exp.Expr | None) -> int | None:
    """The number of LIMIT, None without one; -1 where it is more than a number."""
    if limit is None:
        return None
    number = limit.args.get("expression")
    if not isinstance(number, exp.Literal) or number.is_string or not str(number.this).isdigit():
        return -1
    return int(number.this)


def _ways(table: Table) -> Iterator[tuple[str, tuple[ColumnId, ...], int | None]]:
    """The names and columns of all that leads to rows, the key first, each with the column group
    that keeps it, None for the key: all do."""
    if table.primary_key is not None:
        yield table.primary_key.name, table.key, None
    for key in table.unique:
        yield key.name, key.columns, ANCHOR_GROUP
    for index in table.indexes:
        if index.ready:
            yield index.name, index.column_ids, table.group_of(index)


_Bound = tuple[Source, bool] | None


def _way(
    table: Table,
    columns: tuple[ColumnId, ...],
    asked: dict[ColumnId, _Conditions],
    ordered: Sequence[ColumnId],
) -> tuple[tuple[Source, ...], _Bound, _Bound] | None:
    """The values of the first columns and the bounds of the next; None where these columns do
    not lead to the rows."""
    equal: list[Source] = []
    for column in columns:
        source = asked[column].equal if column in asked else None
        if source is None:
            break
        equal.append(source)
    behind = columns[len(equal) :]
    bounds = asked.get(behind[0], _Conditions()) if behind else _Conditions()
    used = set(columns[: len(equal)]) | ({behind[0]} if bounds.is_range else set())
    if not used or used != set(asked) or any(c.equal and c.is_range for c in asked.values()):
        return None
    given = set(columns[: len(equal)])
    varying = [column for column in ordered if column not in given]
    if not _gives_order(table, behind, varying, is_bounded=bounds.is_range):
        return None
    return tuple(equal), bounds.low, bounds.high


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
