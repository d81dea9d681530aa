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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlglot import exp

from catalog.fragment_schemas import fragment_schema
from catalog.model import Column, ColumnId, Table
from planner.context import PlannerContext
from planner.datum import Datum
from planner.index_aggregates import Aggregates, aggregates_of, has_aggregates
from planner.index_reads import SORTED_KINDS, IndexRead, index_read, limit_of
from planner.plan import ResultColumn
from planner.point import (
    KEY_KINDS,
    Parameter,
    PointReader,
    conjuncts,
    plain_value,
    relation_of,
    table_of,
)
from planner.point_computed import Computed, computed_of, row_columns
from planner.row_expressions import RowColumn, folded
from storage.row_tables import RowTables
from storage.types import Kind, SqlType

# More tables are worth a plan.
MOST_RELATIONS = 4

_CLAUSES = frozenset({"expressions", "from_", "joins", "where", "kind", "order", "limit"})
_JOIN_PARTS = frozenset({"this", "on", "kind"})
_JOIN_KINDS = ("", "INNER", "CROSS")
_INTEGERS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8})
_TEXTS = frozenset({Kind.TEXT, Kind.VARCHAR})


class Place(NamedTuple):
    """A column of a relation: its number among those of the query, and the column."""

    relation: int
    column: Column


# What a column of a key is looked up with.
KeySource = str | Parameter | Place


@dataclass(frozen=True, slots=True)
class Lookup:
    """A relation whose rows are found by their whole key, one or none for each row so far."""

    relation: int
    table: Table
    key: tuple[KeySource, ...]

    def plain(self, place: int, value: Datum) -> object | None:
        """A constant for the key's column at that place; None where it has no such value."""
        return plain_value(self.table.column(self.table.key[place]).type, value)


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
    found = _relations(tree, context)
    if found is None or limit == -1 or not tree.expressions:
        return None
    relations = _Relations(*found, parameters)
    conditions = _conditions(tree)
    if conditions is None or not _sees_what_it_names(tree, relations):
        return None
    equalities = _Equalities(relations, conditions)
    for started in range(len(relations.tables)):
        way = _way_from(started, relations, equalities, context)
        if way is not None:
            return _answered(tree, relations, way, limit, context)
    return None


# -- relations and names


def _relations(
    tree: exp.Select, context: PlannerContext
) -> tuple[tuple[Table, ...], tuple[str, ...]] | None:
    """The tables joined, with the names that stand before their columns."""
    source, joins = tree.args.get("from_"), tree.args.get("joins") or []
    if source is None or not 1 <= len(joins) < MOST_RELATIONS:
        return None
    if any(_is_other_join(join) for join in joins):
        return None
    tables, names = [], []
    for node in (source.this, *(join.this for join in joins)):
        relation = relation_of(node)
        table = None if relation is None else table_of(relation, context)
        if relation is None or table is None or len(table.groups) != 1 or not table.parts:
            return None
        tables.append(table)
        names.append(relation.alias_or_name)
    return (tuple(tables), tuple(names)) if len(set(names)) == len(names) else None


def _is_other_join(join: exp.Join) -> bool:
    kind = str(join.args.get("kind") or "")
    return kind.upper() not in _JOIN_KINDS or any(
        value for name, value in join.args.items() if name not in _JOIN_PARTS
    )


def _conditions(tree: exp.Select) -> list[exp.Expr] | None:
    """All that WHERE and ON ask; None without anything."""
    where = tree.args.get("where")
    asked = [] if where is None else [where.this]
    asked += [join.args["on"] for join in tree.args["joins"] if join.args.get("on") is not None]
    found = [part for condition in asked for part in conjuncts(condition)]
    return found or None


def _sees_what_it_names(tree: exp.Select, relations: _Relations) -> bool:
    """Whether each ON names only what it joins: no relation behind it, none before a comma."""
    first = 0
    for number, join in enumerate(tree.args["joins"], 1):
        condition = join.args.get("on")
        if condition is None and not join.args.get("kind"):
            first = number
        used = frozenset[int]() if condition is None else relations.used_by(condition)
        if used is None or not used <= set(range(first, number + 1)):
            return False
    return True


class _Relations:
    """The tables of a query, and what names in it mean."""

    def __init__(
        self,
        tables: tuple[Table, ...],
        names: tuple[str, ...],
        parameters: Sequence[SqlType | None],
    ) -> None:
        self.tables = tables
        self.names = names
        self.parameters = parameters
        listed = [row_columns(table, name) for table, name in zip(tables, names, strict=True)]
        widths = [len(_names(table)) for table in tables]
        self.offsets = tuple(sum(widths[:n]) for n in range(len(widths)))
        self._columns = [
            [_moved(column, first) for column in columns]
            for columns, first in zip(listed, self.offsets, strict=True)
        ]

    def columns(self, relations: Sequence[int]) -> list[RowColumn]:
        """What a joined row has of these."""
        return [column for n in sorted(relations) for column in self._columns[n]]

    def reader(self, relation: int) -> PointReader:
        return PointReader(self.tables[relation], self.names[relation], self.parameters, None)

    def place(self, node: exp.Expr) -> Place | None:
        """The one column that is meant."""
        found = [
            Place(n, column)
            for n in range(len(self.tables))
            if (column := self.reader(n).column(node)) is not None
        ]
        return found[0] if len(found) == 1 else None

    def used_by(self, tree: exp.Expr) -> frozenset[int] | None:
        """The relations whose columns the expression names; None where a name is not one
        column's."""
        places = [self.place(node) for node in tree.find_all(exp.Column)]
        return (
            frozenset(p.relation for p in places if p is not None) if None not in places else None
        )


def _moved(column: RowColumn, by: int) -> RowColumn:
    return RowColumn(column.name, column.type, column.place + by, column.relation)


def _names(table: Table) -> tuple[str, ...]:
    return tuple(RowTables(fragment_schema(table, table.parts[0].fragments[0])).names)


# -- what equals what


class _Equalities:
    """The conditions of a query, and the columns that they say are equal, to each other and to
    constants."""

    def __init__(self, relations: _Relations, conditions: Sequence[exp.Expr]) -> None:
        self.conditions = conditions
        self._relations = relations
        # By condition: two columns, or a column and the constant it is compared with.
        self.pairs: dict[int, tuple[Place, Place | exp.Expr]] = {}
        self._same: dict[tuple[int, ColumnId], list[Place]] = {}
        for number, condition in enumerate(conditions):
            pair = self._pair(condition)
            if pair is not None:
                self.pairs[number] = pair
                if isinstance(pair[1], Place):
                    self._unite(pair[0], pair[1])

    def _pair(self, condition: exp.Expr) -> tuple[Place, Place | exp.Expr] | None:
        if type(condition) is not exp.EQ:
            return None
        left, right = (self._relations.place(n) for n in (condition.this, condition.expression))
        if left is not None and right is not None:
            return (left, right) if _may_be_keys(left.column.type, right.column.type) else None
        column, other = (left, condition.expression) if left else (right, condition.this)
        is_constant = other.find(exp.Column) is None
        return (column, other) if column is not None and is_constant else None

    def _unite(self, one: Place, other: Place) -> None:
        joined = self.same_as(one)
        joined += [place for place in self.same_as(other) if place not in joined]
        for place in joined:
            self._same[place.relation, place.column.id] = joined

    def same_as(self, place: Place) -> list[Place]:
        """The columns that are equal to this one, itself among them."""
        return self._same.get((place.relation, place.column.id), [place])

    def constants_of(self, place: Place) -> Iterator[tuple[int, exp.Expr]]:
        """The constants that the column is equal to, by condition."""
        for number, (column, other) in self.pairs.items():
            if not isinstance(other, Place) and column in self.same_as(place):
                yield number, other


def _may_be_keys(one: SqlType, other: SqlType) -> bool:
    """Whether plain values of both are equal just where SQL says that they are."""
    for family in (_INTEGERS, _TEXTS):
        if one.kind in family:
            return other.kind in family
    return one.kind is other.kind and one.kind in KEY_KINDS


# -- the way through the relations


class _Way(NamedTuple):
    """How the relations follow each other; `left` are the conditions that are not seen to."""

    started: int
    first: IndexRead
    lookups: tuple[Lookup, ...]
    left: tuple[exp.Expr, ...]


def _way_from(
    started: int, relations: _Relations, equalities: _Equalities, context: PlannerContext
) -> _Way | None:
    """The way that begins with a relation, if all others can be looked up from there."""
    own = _asked_of(started, relations, equalities)
    first = _read_of(started, relations, list(own.values()), context)
    if first is None:
        return None
    seen_to = {number for number in own if number >= 0}
    joined, lookups = [started], list[Lookup]()
    while len(joined) < len(relations.tables):
        found = next(_lookups(joined, relations, equalities), None)
        if found is None:
            return None
        lookup, used = found
        lookups.append(lookup)
        joined.append(lookup.relation)
        seen_to |= used
    left = (part for n, part in enumerate(equalities.conditions) if n not in seen_to)
    return _Way(started, first, tuple(lookups), tuple(left))


def _asked_of(
    relation: int, relations: _Relations, equalities: _Equalities
) -> Mapping[int, exp.Expr]:
    """What is asked of one relation alone, by condition; below zero what follows from others."""
    found = {
        number: condition
        for number, condition in enumerate(equalities.conditions)
        if relations.used_by(condition) == frozenset({relation})
    }
    given = {equalities.pairs[n][0].column.id for n in found if n in equalities.pairs}
    table, name = relations.tables[relation], relations.names[relation]
    for column in table.visible_columns:
        if column.id in given:
            continue
        for number, constant in equalities.constants_of(Place(relation, column)):
            equal = exp.EQ(this=_column(name, column.name), expression=constant.copy())
            found[-1 - number] = equal
            break
    return found


def _read_of(
    relation: int, relations: _Relations, asked: Sequence[exp.Expr], context: PlannerContext
) -> IndexRead | None:
    """The relation's rows by an index or the first columns of a key."""
    if not asked:
        return None
    table = relations.tables[relation]
    source = exp.Table(
        this=exp.to_identifier(table.name, quoted=True),
        db=exp.to_identifier(table.schema, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(relations.names[relation], quoted=True)),
    )
    query = exp.Select(
        expressions=[exp.Star()],
        from_=exp.From(this=source),
        where=exp.Where(this=exp.and_(*(part.copy() for part in asked))),
    )
    found = index_read(query, context, relations.parameters)
    return found if found is not None and found.equal else None


def _lookups(
    joined: Sequence[int], relations: _Relations, equalities: _Equalities
) -> Iterator[tuple[Lookup, set[int]]]:
    """The relations that can be looked up from those, with the conditions that this sees to."""
    for relation, table in enumerate(relations.tables):
        if relation in joined or table.hidden_row_id or not table.key:
            continue
        sources, used = list[KeySource](), set[int]()
        for column_id in table.key:
            found = _source_of(
                Place(relation, table.column(column_id)), joined, relations, equalities
            )
            if found is None:
                break
            sources.append(found[0])
            used |= found[1]
        else:
            yield Lookup(relation, table, tuple(sources)), used


def _source_of(
    key: Place, joined: Sequence[int], relations: _Relations, equalities: _Equalities
) -> tuple[KeySource, set[int]] | None:
    """What a key's column is equal to, as far as it is there, and the condition that says so
    itself, if there is one."""
    if key.column.type.kind not in KEY_KINDS:
        return None
    for number, constant in equalities.constants_of(key):
        source = relations.reader(key.relation).source(key.column.type, constant)
        if source is not None:
            own = equalities.pairs[number][0] == key
            return source, {number} if own else set()
    for other in equalities.same_as(key):
        if other.relation in joined and _may_be_keys(key.column.type, other.column.type):
            said = {n for n, pair in equalities.pairs.items() if set(pair) == {key, other}}
            return other, said
    return None


# -- the answer


def _answered(
    tree: exp.Select,
    relations: _Relations,
    way: _Way,
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
    items: Sequence[exp.Expr], relations: _Relations, context: PlannerContext
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
    relations: _Relations, way: _Way, context: PlannerContext
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


def _is_ready(relations: _Relations, part: exp.Expr, joined: set[int]) -> bool:
    used = relations.used_by(part)
    return used is not None and used <= joined


def _starred(items: Sequence[exp.Expr], relations: _Relations) -> list[exp.Expr] | None:
    """The select list with its `*` written out; None for another kind of star."""
    found: list[exp.Expr] = []
    for item in items:
        if type(item) is exp.Star and not any(item.args.values()):
            for table, name in zip(relations.tables, relations.names, strict=True):
                found += [_column(name, column.name) for column in table.visible_columns]
        elif isinstance(_inner(item), exp.Star) or _is_star_of_one(item):
            return None
        else:
            found.append(item)
    return found


def _column(relation: str, name: str) -> exp.Expr:
    return exp.column(
        exp.to_identifier(name, quoted=True), table=exp.to_identifier(relation, quoted=True)
    )


def _is_star_of_one(item: exp.Expr) -> bool:
    return isinstance(item, exp.Column) and isinstance(item.this, exp.Star)


def _order(
    order: exp.Expr | None, relations: _Relations, items: Sequence[exp.Expr]
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
