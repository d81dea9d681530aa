"""Queries that join few rows of one table with rows of others by their keys.

    SELECT i.name, l.amount FROM lines l JOIN items i ON i.id = l.item
    WHERE l.order_id = $1 AND i.price > 5 [ORDER BY l.number] [LIMIT n]

told apart before anything is bound or optimised, as reads by an index are (`planner.index_reads`).
The first relation is read by an index or the first columns of a key, from what the query asks of
it alone; every further one by its whole key, each column of which is equal to a constant or to a
column of a relation before it. What equals what is followed over several conditions:
`o.c = c.id AND c.id = $1` finds orders by their customer, whichever stands first.

A condition that has become the value of a key is not looked at again; all others are computed of
the joined rows as soon as their relations are there. So it is an inner join of any number of tables
by nested loops, and gives None for whatever it is not: then the query goes the usual way, with the
same answer.

Left out: outer joins, USING and NATURAL, tables of several column groups, keys of other types than
integers, texts and uuid, ORDER BY beside computed columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlglot import exp

from catalog.model import Table
from planner.context import PlannerContext
from planner.index_aggregates import Aggregates, aggregates_of, has_aggregates
from planner.index_reads import SORTED_KINDS, IndexRead, limit_of
from planner.joined_relations import (
    Place,
    Relations,
    column_named,
    conditions_of,
    relations_of,
    sees_what_it_names,
)
from planner.joined_ways import Equalities, Lookup, Way, way_from
from planner.plan import ResultColumn
from planner.point_computed import Computed, computed_of
from planner.row_expressions import folded
from storage.types import SqlType

_CLAUSES = frozenset({"expressions", "from_", "joins", "where", "kind", "order", "limit"})


@dataclass(frozen=True, slots=True)
class JoinedRead:
    """A join. `first` reads the relation `started`, then `lookups` follow in their order. A joined
    row has the columns of each relation from `offsets` on, as the store has them. `tests` are the
    conditions that it must meet once that many relations are there, with what is computed of it;
    `places` are the answer's columns where nothing is, `order` the places that it is ordered by,
    the first one first: whether it descends, and has its NULLs first."""

    tables: tuple[Table, ...]
    started: int
    first: IndexRead
    lookups: tuple[Lookup, ...]
    offsets: tuple[int, ...]
    tests: tuple[Computed | None, ...]
    columns: tuple[ResultColumn, ...]
    places: tuple[Place, ...] = ()
    computed: Computed | None = None
    aggregates: Aggregates | None = None
    order: tuple[tuple[Place, bool, bool], ...] = ()
    limit: int | None = None


def joined_read(
    tree: exp.Expr, context: PlannerContext, parameters: Sequence[SqlType | None] = ()
) -> JoinedRead | None:
    """The query as a join by keys; None where it is not just that."""
    if not isinstance(tree, exp.Select) or any(
        v for k, v in tree.args.items() if k not in _CLAUSES
    ):
        return None
    limit = limit_of(tree.args.get("limit"))
    found = relations_of(tree, context)
    if found is None or limit == -1 or not tree.expressions:
        return None
    relations = Relations(*found, parameters)
    conditions = conditions_of(tree)
    if conditions is None or not sees_what_it_names(tree, relations):
        return None
    equalities = Equalities(relations, conditions)
    for started in range(len(relations.tables)):
        way = way_from(started, relations, equalities, context)
        if way is not None:
            return _answered(tree, relations, way, limit, context)
    return None


# -- the answer


def _answered(
    tree: exp.Select,
    relations: Relations,
    way: Way,
    limit: int | None,
    context: PlannerContext,
) -> JoinedRead | None:
    """The join with its select list, conditions and order; None where they are not so simple."""
    tests = _tests(relations, way, context)
    items = _starred(tree.expressions, relations)
    answer = None if items is None else _answer(items, relations, context)
    order = None if items is None else _order(tree.args.get("order"), relations, items)
    if tests is None or answer is None or order is None:
        return None
    if (order and not answer.places) or (answer.aggregates is not None and limit is not None):
        return None
    return JoinedRead(
        relations.tables,
        way.started,
        way.first,
        way.lookups,
        relations.offsets,
        tests,
        answer.columns,
        answer.places,
        answer.computed,
        answer.aggregates,
        order,
        limit,
    )


class _Answer(NamedTuple):
    """A select list, as of `JoinedRead`."""

    columns: tuple[ResultColumn, ...]
    places: tuple[Place, ...] = ()
    computed: Computed | None = None
    aggregates: Aggregates | None = None


def _answer(
    items: Sequence[exp.Expr], relations: Relations, context: PlannerContext
) -> _Answer | None:
    everywhere = relations.columns(range(len(relations.tables)))
    if has_aggregates(items):
        totals = aggregates_of(everywhere, {}, relations.parameters, items, context)
        return None if totals is None else _Answer(totals.columns, aggregates=totals)
    found = [relations.place(_inner(item)) for item in items]
    places = tuple(place for place in found if place is not None)
    if len(places) == len(items):
        labels = [_label(item) for item in items]
        columns = [
            ResultColumn(label, place.column.type, (label,))
            for label, place in zip(labels, places, strict=True)
        ]
        return _Answer(tuple(columns), places)
    made = computed_of(everywhere, relations.parameters, (), items, context)
    return None if made is None else _Answer(made.columns, computed=made)


def _tests(
    relations: Relations, way: Way, context: PlannerContext
) -> tuple[Computed | None, ...] | None:
    """For each step its conditions: those whose relations are all there by then."""
    joined, left = {way.started}, list(way.left)
    found: list[Computed | None] = []
    for lookup in way.lookups:
        joined.add(lookup.relation)
        ready = [part for part in left if _is_ready(relations, part, joined)]
        left = [part for part in left if part not in ready]
        test = None
        if ready:
            columns = relations.columns(sorted(joined))
            test = computed_of(columns, relations.parameters, ready, (), context)
            if test is None:
                return None
        found.append(test)
    return tuple(found) if not left else None


def _is_ready(relations: Relations, part: exp.Expr, joined: set[int]) -> bool:
    used = relations.used_by(part)
    return used is not None and used <= joined


def _starred(items: Sequence[exp.Expr], relations: Relations) -> list[exp.Expr] | None:
    """The select list with its `*` written out; None for another kind of star."""
    found: list[exp.Expr] = []
    for item in items:
        if type(item) is exp.Star and not any(item.args.values()):
            for table, name in zip(relations.tables, relations.names, strict=True):
                found += [column_named(name, column.name) for column in table.visible_columns]
        elif isinstance(_inner(item), exp.Star) or _is_star_of_one(item):
            return None
        else:
            found.append(item)
    return found


def _is_star_of_one(item: exp.Expr) -> bool:
    return isinstance(item, exp.Column) and isinstance(item.this, exp.Star)


def _order(
    order: exp.Expr | None, relations: Relations, items: Sequence[exp.Expr]
) -> tuple[tuple[Place, bool, bool], ...] | None:
    """What ORDER BY names; None for anything but columns whose stored values have their order."""
    found = []
    for item in [] if order is None else order.expressions:
        place = relations.place(item.this) if isinstance(item, exp.Ordered) else None
        if place is None or item.args.get("with_fill"):
            return None
        if place.column.type.kind not in SORTED_KINDS:
            return None
        name = folded(item.this.this)
        named = [relations.place(_inner(each)) for each in items if _label(each) == name]
        if any(each != place for each in named):
            return None  # the name is another column's in the answer
        found.append((place, bool(item.args.get("desc")), bool(item.args.get("nulls_first"))))
    return tuple(found)


def _inner(item: exp.Expr) -> exp.Expr:
    found: exp.Expr = item.this if isinstance(item, exp.Alias) else item
    return found


def _label(item: exp.Expr) -> str:
    if isinstance(item, exp.Alias):
        return folded(item.args["alias"])
    return folded(item.this) if isinstance(item, exp.Column) else ""
