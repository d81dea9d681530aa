"""The way through relations that are joined by their keys: who is read first, who looked up next.

    Equalities   what equals what, followed over several conditions
    way_from     the first relation read by an index, every other one found by its whole key

Each column of a key comes from a constant or from a column of a relation before it. A condition
that says so itself is seen to thereby; all others are left for the joined rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlglot import exp

from catalog.model import ColumnId, Table
from planner.context import PlannerContext
from planner.datum import Datum
from planner.index_reads import IndexRead, index_read
from planner.joined_relations import Place, Relations, column_named
from planner.point import KEY_KINDS, Parameter, plain_value
from storage.types import Kind, SqlType

_INTEGERS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8})
_TEXTS = frozenset({Kind.TEXT, Kind.VARCHAR})

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


# -- what equals what


class Equalities:
    """The conditions of a query, and the columns that they say are equal, to each other and to
    constants."""

    def __init__(self, relations: Relations, conditions: Sequence[exp.Expr]) -> None:
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
            return (left, right) if may_be_keys(left.column.type, right.column.type) else None
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


def may_be_keys(one: SqlType, other: SqlType) -> bool:
    """Whether plain values of both are equal just where SQL says that they are."""
    for family in (_INTEGERS, _TEXTS):
        if one.kind in family:
            return other.kind in family
    return one.kind is other.kind and one.kind in KEY_KINDS


# -- the way through the relations


class Way(NamedTuple):
    """How the relations follow each other; `left` are the conditions that are not seen to."""

    started: int
    first: IndexRead
    lookups: tuple[Lookup, ...]
    left: tuple[exp.Expr, ...]


def way_from(
    started: int, relations: Relations, equalities: Equalities, context: PlannerContext
) -> Way | None:
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
    return Way(started, first, tuple(lookups), tuple(left))


def _asked_of(
    relation: int, relations: Relations, equalities: Equalities
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
            equal = exp.EQ(this=column_named(name, column.name), expression=constant.copy())
            found[-1 - number] = equal
            break
    return found


def _read_of(
    relation: int, relations: Relations, asked: Sequence[exp.Expr], context: PlannerContext
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
    joined: Sequence[int], relations: Relations, equalities: Equalities
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
    key: Place, joined: Sequence[int], relations: Relations, equalities: Equalities
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
        if other.relation in joined and may_be_keys(key.column.type, other.column.type):
            said = {n for n, pair in equalities.pairs.items() if set(pair) == {key, other}}
            return other, said
    return None
