"""Aggregates in two steps: on each node, then over the nodes' partial results.

    count          sum of counts
    sum, min, max, bool_and, ...   themselves
    avg(float)     sum and count, divided at the end
    count(DISTINCT x) and its like, alone or beside the above: rows are first made distinct by
                   keys and x on each node

An aggregate that is none of these (`median`, `array_agg`, `string_agg` ...) needs its rows in
one place: they are repartitioned by the group keys, or gathered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from planner.algebra import Aggregate, AggregateStep, Item, Node, Project, Scalar
from planner.algebra_functions import call_name
from planner.algebra_scalars import column_item, column_scalar, copy_tree, scalar_of
from storage.types import FLOAT8, INT8, Kind, SqlType

Fresh = Callable[[str], str]

# Aggregates that, applied to their own partial results, give the result.
_SELF_COMBINING = frozenset(
    {"sum", "min", "max", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor", "any_value"}
)
_COUNTS = frozenset({"count", "count_star", "count_if", "countif"})
# Aggregates for which DISTINCT changes nothing.
_IDEMPOTENT = frozenset({"min", "max", "bool_and", "bool_or", "bit_and", "bit_or", "any_value"})


@dataclass(frozen=True, slots=True)
class TwoSteps:
    """A split aggregate: what each node computes, and what is made of that.

    `finish` is a projection above the final step, for aggregates whose parts must be combined.
    """

    partial: tuple[Item, ...]
    partial_keys: tuple[Item, ...]
    final_keys: tuple[Item, ...]
    final: tuple[Item, ...]
    finish: tuple[Item, ...] | None

    def lower(self, child: Node) -> Node:
        return Aggregate(child, self.partial_keys, self.partial, (), AggregateStep.PARTIAL)

    def upper(self, child: Node, sets: tuple[tuple[int, ...], ...]) -> Node:
        node: Node = Aggregate(child, self.final_keys, self.final, sets, AggregateStep.FINAL)
        return Project(node, self.finish) if self.finish is not None else node


@dataclass(slots=True)
class _Split:
    partial: list[Item]
    final: list[Item]
    finish: list[Item]
    combined: bool = False


def two_steps(node: Aggregate, fresh: Fresh) -> TwoSteps | None:
    """The aggregate in two steps; None where it needs all its rows at once."""
    keys = tuple(_partial_key(item, fresh) for item in node.keys)
    split = _Split([], [], [])
    distinct: Item | None = None
    for item in node.aggregates:
        argument = _distinct_argument(item.scalar.node)
        if argument is not None and call_name(_call(item.scalar.node)) not in _IDEMPOTENT:
            if distinct is None:
                distinct = Item(fresh("distinct"), argument)
            if distinct.scalar.node != argument.node or not _add_distinct(split, item, distinct):
                return None
        elif not _add(split, item, fresh):
            return None
    partial_keys = keys if distinct is None else (*keys, distinct)
    final_keys = tuple(
        Item(own.name, column_scalar(below.column))
        for own, below in zip(node.keys, keys, strict=True)
    )
    finish = None
    if split.combined:
        finish = (*(column_item(k.column) for k in final_keys), *split.finish)
    return TwoSteps(tuple(split.partial), partial_keys, final_keys, tuple(split.final), finish)


def _partial_key(item: Item, fresh: Fresh) -> Item:
    """Under grouping sets the final step's keys may be NULL, so they have names of their own."""
    return item if item.is_plain else Item(fresh("key"), item.scalar)


def _call(node: exp.Expr) -> exp.Expr:
    return node.this if isinstance(node, exp.Filter | exp.WithinGroup) else node


def _arguments(call: exp.Expr) -> list[exp.Expr]:
    """The arguments of a call, in order, whatever node holds it."""
    found: list[exp.Expr] = []
    if isinstance(call.args.get("this"), exp.Expr):
        found.append(call.this)
    found += [e for e in call.args.get("expressions") or () if isinstance(e, exp.Expr)]
    return found


def _distinct_argument(node: exp.Expr) -> Scalar | None:
    """x of an aggregate over DISTINCT x, without FILTER."""
    call = _call(node)
    arguments = _arguments(call)
    if len(arguments) != 1 or not isinstance(arguments[0], exp.Distinct):
        return None
    inner = arguments[0].expressions
    return scalar_of(inner[0]) if len(inner) == 1 and node is call else None


def _add_distinct(split: _Split, item: Item, distinct: Item) -> bool:
    call = item.scalar.node
    if call_name(call) not in ("count", "sum", "avg"):
        return False
    if item.scalar.volatile or isinstance(distinct.scalar.node, exp.Tuple):
        return False

    def replace(node: exp.Expr) -> exp.Expr | None:
        return column_scalar(distinct.column).node if node is target else None

    target = _arguments(call)[0].expressions[0]
    split.final.append(Item(item.name, scalar_of(copy_tree(call, replace), item.scalar.type)))
    split.finish.append(column_item(item.column))
    return True


def _add(split: _Split, item: Item, fresh: Fresh) -> bool:
    """Adds the parts of one aggregate; False where it cannot be split."""
    node = item.scalar.node
    call = _call(node)
    name = call_name(call)
    arguments = _arguments(call)
    if isinstance(node, exp.WithinGroup) or item.scalar.volatile:
        return False
    distinct_is_idle = name in _IDEMPOTENT
    if any(isinstance(a, exp.Order) for a in arguments) or (
        any(isinstance(a, exp.Distinct) for a in arguments) and not distinct_is_idle
    ):
        return False
    if name in _COUNTS:
        return _add_count(split, item, fresh)
    if name in _SELF_COMBINING and len(arguments) == 1:
        return _add_self_combining(split, item, name, fresh)
    if name == "avg" and len(arguments) == 1:
        return _add_average(split, item, arguments[0], fresh)
    return False


def _add_count(split: _Split, item: Item, fresh: Fresh) -> bool:
    part = Item(fresh("count"), item.scalar)
    split.partial.append(part)
    total = exp.Coalesce(
        this=_sum(column_scalar(part.column).node), expressions=[exp.Literal.number(0)]
    )
    split.final.append(Item(item.name, scalar_of(_cast(total, "BIGINT"), INT8)))
    split.finish.append(column_item(Item(item.name, split.final[-1].scalar).column))
    return True


def _add_self_combining(split: _Split, item: Item, name: str, fresh: Fresh) -> bool:
    part = Item(fresh(name), item.scalar)
    split.partial.append(part)
    again = exp.AnonymousAggFunc(this=name, expressions=[column_scalar(part.column).node])
    split.final.append(Item(item.name, scalar_of(again, item.scalar.type)))
    split.finish.append(column_item(item.column))
    return True


def _add_average(split: _Split, item: Item, argument: exp.Expr, fresh: Fresh) -> bool:
    """DuckDB's avg, a DOUBLE, from sum and count."""
    if not _is_number(scalar_of(argument).type):
        return False

    def part(name: str, sql_type: SqlType) -> Item:
        def replace(node: exp.Expr) -> exp.Expr | None:
            if node is not call:
                return None
            return exp.AnonymousAggFunc(this=name, expressions=[copy_tree(argument)])

        call = _call(item.scalar.node)
        scalar = scalar_of(copy_tree(item.scalar.node, replace), sql_type)
        return Item(fresh(name), scalar)

    total, count = part("sum", SqlType(Kind.ANY)), part("count", INT8)
    split.partial += [total, count]
    sums = Item(fresh("sum"), scalar_of(_sum(column_scalar(total.column).node), total.scalar.type))
    counts = Item(fresh("count"), scalar_of(_sum(column_scalar(count.column).node), INT8))
    split.final += [sums, counts]
    some = exp.GT(this=column_scalar(counts.column).node, expression=exp.Literal.number(0))
    quotient = exp.Div(
        this=_cast(column_scalar(sums.column).node, "DOUBLE"),
        expression=_cast(column_scalar(counts.column).node, "DOUBLE"),
        typed=False,
        safe=False,
    )
    value = exp.Case(ifs=[exp.If(this=some, true=quotient)])
    split.finish.append(Item(item.name, scalar_of(value, FLOAT8)))
    split.combined = True
    return True


def _is_number(sql_type: SqlType) -> bool:
    return sql_type.kind in (
        Kind.INT2,
        Kind.INT4,
        Kind.INT8,
        Kind.NUMERIC,
        Kind.FLOAT4,
        Kind.FLOAT8,
    )


def _sum(node: exp.Expr) -> exp.Expr:
    return exp.AnonymousAggFunc(this="sum", expressions=[node])


def _cast(node: exp.Expr, duckdb_name: str) -> exp.Expr:
    return exp.Cast(this=node, to=exp.DataType.build(duckdb_name, dialect="duckdb"))
