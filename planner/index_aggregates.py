"""Aggregates over the few rows that an index leads to: sum, count, min, max and avg.

    SELECT coalesce(sum(amount), 0), count(*) FROM lines WHERE w = $1 AND o = $2

The calls are taken out of the select list; what is computed of their values is compiled over a row
of these. Types are the binder's (`planner.semantics.aggregates`): sums of integers are exact, those
of numerics keep their scale, and an average of either is a column by itself, for its division has
digits of its own.

Left out: GROUP BY, floats, whose sums depend on the order of rows, FILTER, ORDER BY within a call,
DISTINCT but in count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from catalog.model import ColumnId, Table
from planner.binder.naming import output_name
from planner.context import PlannerContext
from planner.plan import ResultColumn
from planner.point_computed import SETTLED_KINDS, looks_around, row_columns
from planner.row_expressions import Code, NotByRow, RowColumn, RowCompiler, Typed, folded
from planner.semantics.aggregates import HUGE, sum_shape
from storage.types import INT8, NUMERIC, Kind, SqlType

_NAMES = frozenset({"count", "sum", "min", "max", "avg"})
# What a call may stand in, and then is another one.
_AROUND = (exp.Filter, exp.Window, exp.WithinGroup)
_SMALL = frozenset({Kind.INT2, Kind.INT4})
_SUMMED = _SMALL | {Kind.INT8, Kind.NUMERIC}
_TEXTS = frozenset({Kind.TEXT, Kind.VARCHAR})
_TIMES = frozenset({Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
_ORDERED = _SUMMED | _TEXTS | _TIMES


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One call over values of `argument`, rows without one; its value's type. An average's is that
    of its sum."""

    name: str
    argument: Code | None
    type: SqlType
    distinct: bool = False
    # The argument where it is a column as it stands.
    column: ColumnId | None = None


@dataclass(frozen=True, slots=True)
class Aggregates:
    """The calls, and the answer's columns: code over a row of their values, or the place of an
    average among them. `parameters` are the types of those that the code uses."""

    calls: tuple[Aggregate, ...]
    outputs: tuple[Code | int, ...]
    columns: tuple[ResultColumn, ...]
    parameters: tuple[SqlType | None, ...]


def has_aggregates(items: Sequence[exp.Expr]) -> bool:
    """Whether one of the functions is called anywhere in the select list."""
    return any(_called(node) for item in items for node in item.find_all(exp.Anonymous))


def _called(node: exp.Expr) -> str | None:
    """The name of the aggregate that is called."""
    if not isinstance(node, exp.Anonymous):
        return None
    name = folded(node.this) if isinstance(node.this, exp.Identifier) else str(node.this).lower()
    return name if name in _NAMES else None


def aggregates(
    table: Table,
    alias: str,
    parameters: Sequence[SqlType | None],
    items: Sequence[exp.Expr],
    context: PlannerContext,
) -> Aggregates | None:
    """The select list over a table of one column group; None where it is not computed here."""
    ids = {column.name: column.id for column in table.visible_columns}
    return aggregates_of(row_columns(table, alias), ids, parameters, items, context)


def aggregates_of(
    columns: Sequence[RowColumn],
    ids: Mapping[str, ColumnId],
    parameters: Sequence[SqlType | None],
    items: Sequence[exp.Expr],
    context: PlannerContext,
) -> Aggregates | None:
    """The select list over rows of these columns; `ids` are those of one table's, by name."""
    reader = _Reader(columns, ids, parameters, context)
    try:
        trees = [reader.taken_out(item) for item in items]
        outputs = [reader.output(tree) for tree in trees]
    except NotByRow:
        return None
    codes = [code for _, code in outputs if not isinstance(code, int)]
    codes += [call.argument for call in reader.calls if call.argument is not None]
    used = {number for code in codes for number in _parameters_in(code)}
    types = [t if n in used else None for n, t in enumerate(parameters, 1)]
    if any(t is not None and t.kind not in SETTLED_KINDS for t in types):
        return None
    if any(looks_around(code) for code in codes):
        return None
    labels = [_label(item) for item in items]
    return Aggregates(
        tuple(reader.calls),
        tuple(code for _, code in outputs),
        tuple(
            ResultColumn(label, sql_type, (label,))
            for label, (sql_type, _) in zip(labels, outputs, strict=True)
        ),
        tuple(types),
    )


def _parameters_in(code: object) -> Iterator[int]:
    if isinstance(code, tuple):
        if len(code) == 2 and code[0] == "parameter":
            yield code[1]
        for part in code:
            yield from _parameters_in(part)


class _Reader:
    """Takes the calls out of a select list."""

    def __init__(
        self,
        columns: Sequence[RowColumn],
        ids: Mapping[str, ColumnId],
        parameters: Sequence[SqlType | None],
        context: PlannerContext,
    ) -> None:
        self._columns = columns
        self._ids = ids
        self._context = context
        self._parameters = parameters
        # What is computed is kept for all sessions: of values that mean the same in each alone.
        settled = [column for column in columns if column.type.kind in SETTLED_KINDS]
        self._compiler = RowCompiler(settled, context, parameters)
        self.calls: list[Aggregate] = []

    def taken_out(self, item: exp.Expr) -> exp.Expr | int:
        """The item over the values of its calls, or the place of an average."""
        tree = (item.this if isinstance(item, exp.Alias) else item).copy()
        if _called(tree) == "avg":
            return self._call("avg", tree)
        for node in list(tree.find_all(exp.Anonymous)):
            name = _called(node)
            if name is None:
                continue
            if name == "avg" or node.find_ancestor(*_AROUND):
                raise NotByRow("such an aggregate")
            column = exp.column(exp.to_identifier(_name(self._call(name, node)), quoted=True))
            if node is tree:
                tree = column
            else:
                node.replace(column)
        return tree

    def output(self, tree: exp.Expr | int) -> tuple[SqlType, Code | int]:
        """The type and code of what was taken out; an average's code is its place."""
        if isinstance(tree, int):
            return NUMERIC, tree
        whole = {_name(n): n for n in range(len(self.calls))}
        if isinstance(tree, exp.Column) and tree.name in whole:
            place = whole[tree.name]
            return self.calls[place].type, ("column", place)
        known = [
            RowColumn(_name(n), call.type, n)
            for n, call in enumerate(self.calls)
            if call.type.kind in SETTLED_KINDS
        ]
        typed = RowCompiler(known, self._context, self._parameters).value(tree)
        if typed.type.kind not in SETTLED_KINDS:
            raise NotByRow("values of such a type")
        return typed.type, typed.code

    def _call(self, name: str, node: exp.Expr) -> int:
        if len(node.expressions) != 1:
            raise NotByRow("more than one argument")
        (argument,) = node.expressions
        distinct = isinstance(argument, exp.Distinct)
        if distinct:
            if name != "count" or len(argument.expressions) != 1 or argument.args.get("on"):
                raise NotByRow("such a DISTINCT")
            argument = argument.expressions[0]
        if isinstance(argument, exp.Star):
            if name != "count" or distinct or any(argument.args.values()):
                raise NotByRow("such a star")
            self.calls.append(Aggregate("count", None, INT8))
        else:
            self.calls.append(self._over(name, argument, distinct=distinct))
        return len(self.calls) - 1

    def _over(self, name: str, argument: exp.Expr, *, distinct: bool) -> Aggregate:
        column = self._column(argument)
        typed = self._compiler.value(argument) if column is None else column[0]
        kind = typed.type.kind
        if name == "count" and not distinct:
            return Aggregate(name, typed.code, INT8)
        if kind not in _ORDERED:
            raise NotByRow("values of such a type")
        if name == "count":
            return Aggregate(name, typed.code, INT8, distinct)
        if name in ("min", "max"):
            own = None if column is None else column[1]
            return Aggregate(name, typed.code, typed.type, column=own)
        if kind not in _SUMMED or typed.type == NUMERIC:
            raise NotByRow("such a sum")
        return Aggregate(name, typed.code, _sum_type(typed.type, is_sum=name == "sum"))

    def _column(self, node: exp.Expr) -> tuple[Typed, ColumnId | None] | None:
        """The column that an argument is as it stands, whatever its type."""
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return None
        qualifier = node.args.get("table")
        relation = None if qualifier is None else folded(qualifier)
        name = folded(node.this)
        found = [c for c in self._columns if c.name == name and relation in (None, c.relation)]
        if node.args.get("db") or len(found) != 1:
            return None
        return Typed(found[0].type, ("column", found[0].place)), self._ids.get(name)


def _sum_type(of: SqlType, *, is_sum: bool) -> SqlType:
    if of.kind is Kind.NUMERIC:
        return sum_shape(of)
    return INT8 if is_sum and of.kind in _SMALL else HUGE


def _name(number: int) -> str:
    return f"aggregate {number}"


def _label(item: exp.Expr) -> str:
    return folded(item.args["alias"]) if isinstance(item, exp.Alias) else output_name(item)
