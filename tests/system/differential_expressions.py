"""Random typed expressions over the columns of a query.

Every expression carries its type and a bound of its absolute value, so that arithmetic is only
made where it cannot overflow: what fails, fails on purpose (`failing`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from differential_values import (
    ARRAY,
    BOOLEAN,
    CLASSES,
    DATE,
    FLOAT,
    INTEGER,
    JSONB,
    LARGEST,
    NUMBERS,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    literal,
)

_LITERAL_TYPES = {
    INTEGER: ("smallint", "integer", "bigint"), NUMERIC: ("numeric(10,2)",),
    FLOAT: ("double precision",), TEXT: ("text",), BOOLEAN: ("boolean",), DATE: ("date",),
    TIMESTAMP: ("timestamp",), TIMESTAMPTZ: ("timestamptz",), UUID: ("uuid",), JSONB: ("jsonb",),
    ARRAY: ("integer[]",),
}  # fmt: skip
_WIDTH = {"smallint": 0, "integer": 1, "bigint": 2}
_PATTERNS = ("a%", "%b", "_", "%", "a\\_b", "%a%", "", "A%", "__%")
_OPERATORS = ("=", "=", "=", "<>", "<", "<=", ">", ">=")
SORTABLE = (INTEGER, NUMERIC, FLOAT, TEXT, BOOLEAN, DATE, TIMESTAMP, TIMESTAMPTZ, UUID, ARRAY)
GROUPABLE = SORTABLE
# Aggregates and windows may give other types: those are only shown.
KNOWN = (*SORTABLE, JSONB)


@dataclass(frozen=True, slots=True)
class Term:
    """An expression: its SQL, its type, and a bound of its absolute value if it has one."""

    sql: str
    type: str
    magnitude: int | None = None

    @property
    def kind(self) -> str:
        return CLASSES.get(self.type, self.type)


Scope = Sequence[Term]


class ExpressionMaker:
    """Makes expressions; `subqueries` of a query maker add those with SELECT inside."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.subquery_predicate: Callable[[Scope], str] | None = None
        self.subquery_value: Callable[[Scope, str], Term | None] | None = None

    # Values

    def of_kind(self, scope: Scope, kind: str, depth: int) -> Term:
        """An expression of a class of types."""
        roll = self.chance.random()
        columns = [t for t in scope if t.kind == kind]
        if columns and (depth <= 0 or roll < 0.45):
            return self.chance.choice(columns)
        if depth <= 0 or roll < 0.5:
            return self.constant(kind)
        if roll < 0.54 and self.subquery_value is not None:
            made = self.subquery_value(scope, kind)
            if made is not None:
                return made
        if roll < 0.65:
            return self._conditional(scope, kind, depth - 1)
        makers: dict[str, Callable[[Scope, int], Term]] = {
            INTEGER: self._integer,
            NUMERIC: self._numeric,
            FLOAT: self._float,
            TEXT: self._text,
            BOOLEAN: self._boolean,
            DATE: self._date,
            TIMESTAMP: self._timestamp,
        }
        if kind in makers:
            return makers[kind](scope, depth - 1)
        return self.chance.choice(columns) if columns else self.constant(kind)

    def any_value(self, scope: Scope, depth: int = 2) -> Term:
        """An expression of some class, mostly of one that the scope has."""
        kinds = [t.kind for t in scope if t.kind in KNOWN] + [INTEGER, TEXT, NUMERIC]
        return self.of_kind(scope, self.chance.choice(kinds), depth)

    def constant(self, kind: str) -> Term:
        """A literal."""
        type_name = self.chance.choice(_LITERAL_TYPES[kind])
        text = literal(self.chance, type_name)
        if kind == INTEGER:
            # A bare small number is an integer whatever it was drawn for.
            cast = f"{text}::{type_name}"
            return (
                Term(cast, type_name, 100)
                if self.chance.random() < 0.2
                else Term(text, "integer", 100)
            )
        if kind == TEXT and self.chance.random() < 0.5:
            return Term(f"{text}::text", "text")
        if kind == TEXT:
            return Term(f"cast({text} as varchar(12))", "text")
        return Term(text, type_name, 100)

    def _conditional(self, scope: Scope, kind: str, depth: int) -> Term:
        first = unpadded(self.of_kind(scope, kind, depth))
        second = unpadded(self.of_kind(scope, kind, depth))
        merged = _wider(first, second)
        shape = self.chance.randint(0, 3)
        if shape == 0 or kind == JSONB:
            condition = self.predicate(scope, depth)
            sql = f"case when {condition} then {first.sql} else {second.sql} end"
        elif shape == 1:
            sql = f"coalesce({first.sql}, {second.sql})"
        elif shape == 2:
            sql = f"nullif({first.sql}, {second.sql})"
            merged = first
        elif kind in (INTEGER, TEXT, DATE, TIMESTAMP):
            name = self.chance.choice(["greatest", "least"])
            sql = f"{name}({first.sql}, {second.sql})"
        else:
            sql = f"case {first.sql} when {second.sql} then {second.sql} end"
            merged = second
        return Term(sql, merged.type, merged.magnitude)

    def _integer(self, scope: Scope, depth: int) -> Term:
        shape = self.chance.randint(0, 9)
        if shape <= 3:
            return self._arithmetic(
                self.of_kind(scope, INTEGER, depth), self.of_kind(scope, INTEGER, depth)
            )
        if shape == 4:
            text = self.of_kind(scope, TEXT, depth)
            return Term(f"length({text.sql})", "integer", 1000)
        if shape == 5:
            inner = self.of_kind(scope, INTEGER, depth)
            divisor = self.chance.choice([2, 3, 7, -4])
            return Term(
                f"({inner.sql} {self.chance.choice('/%')} ({divisor}))",
                _with(inner, "integer"),
                inner.magnitude,
            )
        if shape == 6:
            day = self.of_kind(scope, DATE, 0)
            part = self.chance.choice(["year", "month", "day", "dow", "doy", "quarter"])
            return Term(f"extract({part} from {day.sql})::integer", "integer", 10_000)
        if shape == 7:
            inner = self.of_kind(scope, INTEGER, depth)
            if inner.magnitude is not None:
                return Term(f"abs({inner.sql})", inner.type, inner.magnitude)
            return inner
        if shape == 8:
            inner = self.of_kind(scope, NUMERIC, depth)
            if inner.magnitude is not None and inner.magnitude < LARGEST["integer"]:
                name = self.chance.choice(["round", "floor", "ceil", "trunc"])
                return Term(f"{name}({inner.sql})::integer", "integer", inner.magnitude + 1)
        first, second = self.of_kind(scope, DATE, 0), self.constant(DATE)
        return Term(f"({first.sql} - {second.sql})", "integer", 4_000_000)

    def _arithmetic(self, first: Term, second: Term) -> Term:
        """A sum, difference or product where it fits, else the first."""
        if first.magnitude is None or second.magnitude is None:
            return first
        operator = self.chance.choice("++-*")
        bound = (
            first.magnitude * second.magnitude
            if operator == "*"
            else first.magnitude + second.magnitude
        )
        type_name = _wider(first, second).type
        largest = LARGEST.get(type_name) or LARGEST[CLASSES.get(type_name, type_name)]
        if bound > largest:
            return first
        return Term(f"({first.sql} {operator} {second.sql})", type_name, bound)

    def _numeric(self, scope: Scope, depth: int) -> Term:
        shape = self.chance.randint(0, 4)
        if shape <= 1:
            other = self.of_kind(scope, self.chance.choice([NUMERIC, INTEGER]), depth)
            return self._arithmetic(self.of_kind(scope, NUMERIC, depth), other)
        inner = self.of_kind(scope, NUMERIC, depth)
        if shape == 2:
            return Term(
                f"round({inner.sql}, {self.chance.choice([0, 1, 2])})", "numeric", _plus_one(inner)
            )
        if shape == 3:
            number = self.of_kind(scope, INTEGER, depth)
            if number.magnitude is not None and number.magnitude < 10**7:
                return Term(f"{number.sql}::numeric(12,2)", "numeric", number.magnitude)
        return Term(f"abs({inner.sql})", "numeric", inner.magnitude)

    def _float(self, scope: Scope, depth: int) -> Term:
        if self.chance.random() < 0.3:
            number = self.of_kind(scope, INTEGER, depth)
            return Term(f"{number.sql}::float8", FLOAT, number.magnitude)
        other = self.of_kind(scope, self.chance.choice([FLOAT, INTEGER]), depth)
        return self._arithmetic(self.of_kind(scope, FLOAT, depth), other)

    def _text(self, scope: Scope, depth: int) -> Term:
        inner = self.of_kind(scope, TEXT, depth).sql
        shape = self.chance.randint(0, 9)
        if shape == 0:
            return Term(f"lower({inner})", TEXT)
        if shape == 1:
            return Term(
                f"substr({inner}, {self.chance.randint(-1, 3)}, {self.chance.randint(0, 3)})", TEXT
            )
        if shape == 2:
            return Term(f"({inner} || {self.of_kind(scope, TEXT, depth).sql})", TEXT)
        if shape == 3:
            return Term(f"left({inner}, {self.chance.randint(-2, 3)})", TEXT)
        if shape == 4:
            return Term(f"replace({inner}, 'a', 'xy')", TEXT)
        if shape == 5:
            return Term(f"({inner} || '-' || {self.of_kind(scope, INTEGER, depth).sql})", TEXT)
        if shape == 6:
            kind = self.chance.choice([INTEGER, DATE, BOOLEAN, UUID])
            return Term(f"cast({self.of_kind(scope, kind, depth).sql} as text)", TEXT)
        if shape == 7:
            return Term(f"concat({inner}, {self.of_kind(scope, INTEGER, depth).sql}, '.')", TEXT)
        if shape == 8 and any(t.kind == JSONB for t in scope):
            return Term(f"({self.of_kind(scope, JSONB, 0).sql} ->> 'a')", TEXT)
        return Term(
            f"{self.chance.choice(['trim', 'reverse', 'upper'])}({inner})".replace(
                "upper", "lower"
            ),
            TEXT,
        )

    def _boolean(self, scope: Scope, depth: int) -> Term:
        return Term(f"({self.predicate(scope, depth)})", BOOLEAN)

    def _date(self, scope: Scope, depth: int) -> Term:
        days = [t for t in scope if t.kind == DATE and t.magnitude is not None]
        day = self.chance.choice(days) if days else self.constant(DATE)
        if self.chance.random() < 0.5:
            return Term(f"({day.sql} + {self.chance.choice(['1', '30', '(-5)'])})", DATE, 100)
        moment = self.of_kind(scope, TIMESTAMP, 0)
        return Term(f"cast({moment.sql} as date)", DATE, 100)

    def _timestamp(self, scope: Scope, depth: int) -> Term:
        inner = self.of_kind(scope, TIMESTAMP, depth).sql
        if self.chance.random() < 0.5:
            span = self.chance.choice(["1 day", "1 month", "-2 hours", "1 year 3 days"])
            return Term(f"({inner} + interval '{span}')", TIMESTAMP)
        return Term(
            f"date_trunc('{self.chance.choice(['hour', 'month', 'week'])}', {inner})", TIMESTAMP
        )

    # Conditions

    def predicate(self, scope: Scope, depth: int = 2) -> str:
        """A condition; always of more than one outcome as far as can be helped."""
        roll = self.chance.random()
        if depth > 0 and roll < 0.3:
            first, second = self.predicate(scope, depth - 1), self.predicate(scope, depth - 1)
            return f"({first} {self.chance.choice(['and', 'or', 'or'])} {second})"
        if depth > 0 and roll < 0.36:
            return f"not ({self.predicate(scope, depth - 1)})"
        if depth > 0 and roll < 0.5 and self.subquery_predicate is not None:
            return self.subquery_predicate(scope)
        if depth > 0 and roll < 0.54:
            test = self.chance.choice(["is true", "is not true", "is false", "is unknown"])
            return f"(({self.predicate(scope, depth - 1)}) {test})"
        return self._plain_predicate(scope, depth)

    def _plain_predicate(self, scope: Scope, depth: int) -> str:
        known = [t for t in scope if t.kind in KNOWN]
        subject = self.any_value(scope, min(depth, 1)) if known else self.constant(INTEGER)
        if known and self.chance.random() < 0.6:
            subject = self.chance.choice(known)
        if self.chance.random() < 0.12:
            return f"{subject.sql} is {self.chance.choice(['', 'not '])}null"
        if subject.kind == BOOLEAN and self.chance.random() < 0.6:
            return subject.sql
        if subject.kind == JSONB:
            return self._json_predicate(subject)
        if subject.kind == ARRAY and self.chance.random() < 0.6:
            return f"{self.of_kind(scope, INTEGER, 0).sql} = any ({subject.sql})"
        if subject.kind == TEXT and self.chance.random() < 0.3:
            word = self.chance.choice(["like", "not like", "ilike"])
            return f"{subject.sql} {word} '{self.chance.choice(_PATTERNS)}'"
        return self._comparison(scope, subject, depth)

    def _comparison(self, scope: Scope, subject: Term, depth: int) -> str:
        shape = self.chance.randint(0, 9)
        other = self.comparable(scope, subject, depth)
        if shape == 0:
            return f"{subject.sql} between {other.sql} and {self.comparable(scope, subject, 0).sql}"
        if shape == 1:
            word = self.chance.choice(["in", "in", "not in"])
            items = [self.constant(subject.kind).sql for _ in range(self.chance.randint(1, 3))]
            if self.chance.random() < 0.15:
                items.append("null")
            return f"{subject.sql} {word} ({', '.join(items)})"
        if shape == 3 and self.chance.random() < 0.3 and scope:
            columns = [t for t in scope if t.kind in SORTABLE] or [subject]
            third = self.chance.choice(columns)
            fourth = self.comparable(scope, third, 0)
            operator = self.chance.choice(["=", "<", ">=", "<>"])
            return f"({subject.sql}, {third.sql}) {operator} ({other.sql}, {fourth.sql})"
        if shape == 2:
            word = self.chance.choice(["is distinct from", "is not distinct from"])
            return f"{subject.sql} {word} {other.sql}"
        return f"{subject.sql} {self.chance.choice(_OPERATORS)} {other.sql}"

    def comparable(self, scope: Scope, subject: Term, depth: int) -> Term:
        """Something to compare the subject with, of another number type now and then."""
        kind = subject.kind
        if kind in NUMBERS and self.chance.random() < 0.25:
            kind = self.chance.choice(NUMBERS)
        if self.chance.random() < 0.5:
            return self.constant(kind)
        return self.of_kind(scope, kind, depth - 1)

    def _json_predicate(self, subject: Term) -> str:
        return self.chance.choice(
            [
                f"{subject.sql} ? 'a'",
                f"{subject.sql} @> '{{\"a\": 1}}'",
                f"{subject.sql} ->> 'a' = '1'",
                f"jsonb_typeof({subject.sql}) = 'object'",
                f"{subject.sql} = '5'",
            ]
        )

    def guarded_division(self, scope: Scope) -> Term:
        """A division that CASE keeps from failing."""
        first, second = self.of_kind(scope, INTEGER, 1), self.of_kind(scope, INTEGER, 0)
        return Term(
            f"case when {second.sql} <> 0 then {first.sql} / nullif({second.sql}, 0) end",
            _wider(first, second).type,
            None,
        )

    def sort_key(self, term: Term) -> str:
        """The term as something that can be ordered by and tells all its values apart."""
        return f"{term.sql}::text" if term.kind == JSONB else term.sql


def unpadded(term: Term) -> Term:
    """char(n) as text: beside other text it keeps its blanks only in PostgreSQL (docs/sql.md)."""
    return Term(f"{term.sql}::text", TEXT) if term.type == "char(5)" else term


def _wider(first: Term, second: Term) -> Term:
    """The type that an operator or CASE over both has."""
    bounds = (first.magnitude, second.magnitude)
    bound = None if None in bounds else max(b for b in bounds if b is not None)
    kinds = {first.kind, second.kind}
    if FLOAT in kinds:
        return Term("", FLOAT, bound)
    if NUMERIC in kinds:
        return Term("", NUMERIC, bound)
    if kinds == {INTEGER}:
        wider = max(first.type, second.type, key=lambda t: _WIDTH[t])
        return Term("", wider, bound)
    return Term("", first.kind if first.kind != ARRAY else first.type, bound)


def _with(term: Term, at_least: str) -> str:
    return max(term.type, at_least, key=lambda t: _WIDTH[t])


def _plus_one(term: Term) -> int | None:
    return None if term.magnitude is None else term.magnitude + 1
