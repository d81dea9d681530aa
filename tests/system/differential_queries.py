"""Random queries over the tables of one seed.

Every answer is one multiset of rows: LIMIT and DISTINCT ON stand behind an order by everything
that is shown, windows that count rows are ordered by all columns they see, and what collects
values (string_agg, array_agg) orders them. Left out, because docs/sql.md names them as different
from PostgreSQL: aggregates over columns of the outer query alone, count(DISTINCT a, b), order by
jsonb (its text is ordered by instead), numerics without a precision where their scale would
show (the comparison is of values).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from differential_expressions import GROUPABLE, SORTABLE, ExpressionMaker, Scope, Term, unpadded
from differential_tables import TableSpec
from differential_values import (
    BOOLEAN,
    DATE,
    FLOAT,
    INTEGER,
    JSONB,
    NUMBERS,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    UUID,
)

_JOINS = (
    *["join"] * 5, *["left join"] * 4, *["right join"] * 2, *["full join"] * 2, "cross join",
)  # fmt: skip
_SET_OPERATORS = (
    "union",
    "union all",
    "union all",
    "intersect",
    "except",
    "intersect all",
    "except all",
)
_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that FROM can name, and its columns without a qualifier."""

    name: str
    columns: tuple[Term, ...]

    def under(self, alias: str) -> list[Term]:
        return [replace(c, sql=f"{alias}.{c.sql}") for c in self.columns]


@dataclass(frozen=True, slots=True)
class Query:
    """A query; `ordered_by` are the output positions its rows are sorted by."""

    sql: str
    columns: tuple[Term, ...]
    ordered_by: tuple[int, ...] = ()


class QueryMaker:
    """Makes one query after another; `views` can be added to what they read."""

    def __init__(self, chance: random.Random, tables: Sequence[TableSpec]) -> None:
        self.chance = chance
        self.relations = [
            Relation(t.name, tuple(Term(c.name, c.type, c.magnitude) for c in t.columns))
            for t in tables
        ]
        self.expressions = ExpressionMaker(chance)
        self.expressions.subquery_predicate = self._subquery_predicate
        self.expressions.subquery_value = self._subquery_value
        self._aliases = 0
        self._depth = 0

    # Statements

    def statement(self) -> Query:
        """A whole query, with WITH, ORDER BY and LIMIT now and then."""
        self._aliases = 0
        if self.chance.random() < 0.06:
            return self._recursive()
        known = len(self.relations)
        clause = self._with_clause() if self.chance.random() < 0.25 else ""
        body = self._body()
        del self.relations[known:]
        return self._ordered(clause, body)

    def view(self, name: str) -> str:
        """CREATE VIEW; later queries read it."""
        body = self._body()
        self.relations.append(Relation(name, body.columns))
        return f"create view {name} as {body.sql}"

    def _with_clause(self) -> str:
        parts = []
        for number in range(self.chance.randint(1, 2)):
            body = self._body()
            name = f"w{number}"
            word = self.chance.choice(["", "", "materialized ", "not materialized "])
            parts.append(f"{name} as {word}({body.sql})")
            # Twice, so that many statements read it more than once.
            self.relations += [Relation(name, body.columns)] * 2
        return f"with {', '.join(parts)} "

    def _recursive(self) -> Query:
        table, terms = self._table_with(INTEGER)
        column = next(t for t in terms if t.kind == INTEGER)
        word = self.chance.choice(["union", "union all"])
        sql = (
            f"with recursive r(n, steps) as (select {column.sql}::bigint, 0 from {table} "
            f"{word} select r.n + 1, steps + 1 from r where steps < 3) "
            f"select n, steps, count(*) from r group by n, steps"
        )
        columns = (Term("n", "bigint"), Term("steps", "integer"), Term("count", "bigint"))
        return self._ordered("", Query(sql, columns), wrap=False)

    def _ordered(self, clause: str, body: Query, *, wrap: bool = True) -> Query:
        count = len(body.columns)
        sortable = [i for i in range(count) if body.columns[i].kind in SORTABLE]
        if not sortable or self.chance.random() < 0.35:
            return Query(clause + body.sql, body.columns)
        self.chance.shuffle(sortable)
        whole = len(sortable) == count
        limited = whole and self.chance.random() < 0.5
        keys = sortable if limited else sortable[: self.chance.randint(1, len(sortable))]
        words = ["", "", " desc", " nulls first", " desc nulls last", " asc nulls last"]
        order = ", ".join(f"{k + 1}{self.chance.choice(words)}" for k in keys)
        sql = f"{clause}{body.sql} order by {order}"
        if limited:
            sql += self._limit()
        return Query(sql, body.columns, tuple(keys))

    def _limit(self) -> str:
        limit = f" limit {self.chance.choice([0, 1, 2, 5, 10, 1000])}"
        offset = f" offset {self.chance.choice([0, 1, 3, 50])}"
        return self.chance.choice([limit, limit, limit + offset, offset])

    def failing(self, table: str) -> str:
        """A query whose expression may fail on some row; what guards it, guards it."""
        columns = next(r for r in self.relations if r.name == table).columns
        numbers = [t for t in columns if t.kind == INTEGER and t.magnitude is not None]
        # PostgreSQL computes constants even where there is no row.
        texts = [t for t in columns if t.kind == TEXT] or [Term(f"{numbers[0].sql}::text", TEXT)]
        first, second = self.chance.choice(numbers), self.chance.choice(numbers)
        text = self.chance.choice(texts)
        quotient = f"{first.sql} / ({second.sql} {self.chance.choice(['', '- 1', '+ 2'])})"
        expression = self.chance.choice(
            [
                quotient, quotient, f"{first.sql} % {second.sql}",
                f"({first.sql} * 400)::smallint", f"{text.sql}::integer", f"{text.sql}::date",
                f"({first.sql}::numeric * 7.5)::numeric(3, 1)", f"sqrt({first.sql})",
                f"ln({second.sql})", f"substr({text.sql}, 1, {first.sql}::integer)",
                f"{first.sql}::float8 / {second.sql}", f"power({first.sql}, -1)",
                f"repeat({text.sql}, 2)::varchar(4)", f"chr({second.sql}::integer + 100)",
                f"cast({text.sql} as boolean)", f"{text.sql}::numeric",
            ]
        )  # fmt: skip
        shape = self.chance.randint(0, 4)
        if shape == 0:
            return f"select id from {table} where {expression} is not null"
        if shape == 1 and expression == quotient:
            guard = quotient.partition("/")[2]
            return f"select id from {table} where {guard} <> 0 and {quotient} > 0"
        if shape == 2:
            return f"select count({expression}), max({first.sql}) from {table}"
        if shape == 3:
            return f"select {first.sql}, count(*) from {table} group by 1, {expression}"
        return f"select {first.sql}, {expression} as made from {table}"

    # Bodies: blocks and set operations

    def _body(self) -> Query:
        """A query without ORDER BY whose output columns have names."""
        roll = self.chance.random()
        if roll < 0.13:
            return self._set_operation()
        if roll < 0.4:
            return self._grouped()
        if roll < 0.5:
            return self._windowed()
        if roll < 0.55:
            return self._distinct_on()
        if roll < 0.58:
            return self._series()
        if roll < 0.61:
            return self._limited_branches()
        return self._plain()

    def _plain(self) -> Query:
        source, scope = self._from()
        items = [self.expressions.any_value(scope) for _ in range(self.chance.randint(1, 4))]
        if self.chance.random() < 0.06:
            items.append(self.expressions.guarded_division(scope))
        distinct = self.chance.random() < 0.15
        return _named(
            f"select {'distinct ' if distinct else ''}%s from {source}{self._where(scope)}", items
        )

    def _series(self) -> Query:
        """A function that returns a set, in the select list."""
        source, scope = self._from(most=1)
        item = self.chance.choice(scope)
        arrays = [t.sql for t in scope if t.type == "integer[]"] or ["array[1, null, 3]"]
        call = self.chance.choice(
            ["generate_series(1, 2)", f"unnest({self.chance.choice(arrays)})"]
        )
        made = Term(call, "integer")
        return _named(f"select %s from {source}{self._where(scope)}", [item, made])

    def _limited_branches(self) -> Query:
        """UNION ALL of queries with limits of their own, or the first rows with ties."""
        relation = self.chance.choice(self.relations)
        shown = [t for t in relation.columns if t.kind in SORTABLE][:3]
        if not shown:
            return self._plain()
        body = _named(f"select %s from {relation.name}", shown)
        order = ", ".join(str(i + 1) for i in range(len(shown)))
        if self.chance.random() < 0.5:
            ties = f"order by 1 fetch first {self.chance.randint(1, 4)} rows with ties"
            return Query(f"select * from ({body.sql} {ties}) f", body.columns)
        branch = f"({body.sql} order by {order} limit {self.chance.randint(0, 4)})"
        return Query(f"select * from ({branch} union all {branch}) f", body.columns)

    def _where(self, scope: Scope) -> str:
        if self.chance.random() < 0.4:
            return ""
        return f" where {self.expressions.predicate(scope)}"

    def _set_operation(self) -> Query:
        kinds = self.chance.sample(
            [INTEGER, TEXT, DATE, NUMERIC, BOOLEAN, UUID, FLOAT], self.chance.randint(1, 3)
        )
        branches = [self._branch(kinds) for _ in range(self.chance.choice([2, 2, 2, 3]))]
        sql = branches[0].sql
        for branch in branches[1:]:
            sql = f"({sql}) {self.chance.choice(_SET_OPERATORS)} ({branch.sql})"
        # Types of the outcome: only their classes are known.
        columns = []
        for index, first in enumerate(branches[0].columns):
            others = [b.columns[index] for b in branches]
            bounds = [o.magnitude for o in others]
            bound = None if None in bounds else max(b for b in bounds if b is not None)
            widest = first.type
            if first.kind == INTEGER:
                widest = max((o.type for o in others), key=("smallint", "integer", "bigint").index)
            columns.append(Term(first.sql, widest, bound))
        return Query(sql, tuple(columns))

    def _branch(self, kinds: Sequence[str]) -> Query:
        source, scope = self._from(most=2)
        items = [unpadded(self.expressions.of_kind(scope, kind, 1)) for kind in kinds]
        return _named(f"select %s from {source}{self._where(scope)}", items)

    def _distinct_on(self) -> Query:
        source, scope = self._from()
        shown = [t for t in scope if t.kind in SORTABLE][:6]
        if not shown:
            return self._plain()
        keys = self.chance.randint(1, min(2, len(shown)))
        self.chance.shuffle(shown)
        words = ["", " desc", " nulls first"]
        order = ", ".join(f"{t.sql}{self.chance.choice(words)}" for t in shown)
        on = ", ".join(t.sql for t in shown[:keys])
        body = _named(f"select distinct on ({on}) %s from {source}{self._where(scope)}", shown)
        return Query(f"select * from ({body.sql} order by {order}) d", body.columns)

    # Aggregates

    def _grouped(self) -> Query:
        source, scope = self._from()
        keys = self._keys(scope)
        aggregates = [self._aggregate(scope) for _ in range(self.chance.randint(1, 3))]
        items = [*keys, *aggregates]
        if keys and self.chance.random() < 0.2:
            items.append(self.expressions.any_value(keys, 1))
        sql = f"select %s from {source}{self._where(scope)}"
        if keys:
            sql += f" group by {self._grouping([k.sql for k in keys])}"
        if self.chance.random() < 0.25:
            sql += f" having {self._having(keys, scope)}"
        elif not keys and self.chance.random() < 0.1:
            sql += " having count(*) > 3"
        return _named(sql, items)

    def _having(self, keys: Scope, scope: Scope) -> str:
        """Over columns also with subqueries; aggregates in those would be the outer query's,
        and key expressions PostgreSQL knows again in none of them."""
        plain = [k for k in keys if k in scope]
        if plain and self.chance.random() < 0.4:
            return self.expressions.predicate(plain, 1)
        terms = [*keys, self._aggregate(scope)]
        return str(self._innermost(lambda: self.expressions.predicate(terms, 1)))

    def _keys(self, scope: Scope) -> list[Term]:
        candidates = [t for t in scope if t.kind in GROUPABLE]
        count = min(self.chance.choice([0, 1, 1, 2, 3]), len(candidates))
        keys = self.chance.sample(candidates, count)
        if keys and self.chance.random() < 0.2:
            made = self.expressions.of_kind(keys, keys[0].kind, 1)
            new = made.sql not in [k.sql for k in keys] and any(k.sql in made.sql for k in keys)
            if new and "select" not in made.sql:
                keys[0] = made
        return keys

    def _grouping(self, keys: Sequence[str]) -> str:
        listed = ", ".join(keys)
        roll = self.chance.random()
        if roll < 0.8:
            return listed
        if roll < 0.87:
            return f"rollup ({listed})"
        if roll < 0.92:
            return f"cube ({listed})"
        return f"grouping sets (({listed}), ({keys[-1]}), ())"

    def _aggregate(self, scope: Scope) -> Term:
        made = self._aggregate_call(scope)
        if self.chance.random() < 0.15:
            condition = self._innermost(lambda: self.expressions.predicate(scope, 1))
            made = replace(made, sql=f"{made.sql} filter (where {condition})")
        return made

    def _innermost(self, make):  # type: ignore[no-untyped-def]
        """Without subqueries: their columns could be the outer query's alone."""
        self._depth += _DEEPEST
        try:
            return make()
        finally:
            self._depth -= _DEEPEST

    def _aggregate_call(self, scope: Scope) -> Term:
        if self.chance.random() < 0.15 or not scope:
            return Term("count(*)", "bigint", 10**6)
        argument = self._innermost(lambda: self.expressions.any_value(scope, 1))
        if not any(t.sql in argument.sql for t in scope):
            argument = self.chance.choice(scope)
        sql, kind = argument.sql, argument.kind
        distinct = "distinct " if self.chance.random() < 0.2 and kind in GROUPABLE else ""
        choices = [Term(f"count({distinct}{sql})", "bigint", 10**6)]
        if kind in NUMBERS:
            type_name = {INTEGER: "bigint", NUMERIC: NUMERIC, FLOAT: FLOAT}[kind]
            if argument.type == "bigint":
                type_name = NUMERIC
            choices.append(Term(f"sum({distinct}{sql})", type_name))
            choices.append(Term(f"avg({distinct}{sql})", FLOAT if kind == FLOAT else "average"))
        if kind in (*NUMBERS, TEXT, DATE, TIMESTAMP):
            name = self.chance.choice(["min", "max"])
            choices += [Term(f"{name}({sql})", argument.type, argument.magnitude)] * 2
        if kind == BOOLEAN:
            choices.append(
                Term(f"{self.chance.choice(['bool_and', 'bool_or', 'every'])}({sql})", BOOLEAN)
            )
        if kind == TEXT:
            choices.append(Term(f"string_agg({distinct}{sql}, '|' order by {sql})", TEXT))
        if kind in (INTEGER, DATE, TEXT):
            choices.append(Term(f"percentile_disc(0.5) within group (order by {sql})", "collected"))
        if kind in (INTEGER, TEXT):
            choices.append(Term(f"jsonb_agg({sql} order by {sql})", "collected"))
        if kind == INTEGER:
            choices.append(Term(f"array_agg({distinct}{sql} order by {sql})", "collected"))
        return self.chance.choice(choices)

    # Windows

    def _windowed(self) -> Query:
        source, scope = self._from(most=2)
        items = [self.chance.choice(scope) for _ in range(self.chance.randint(1, 2))]
        items.append(self._window_of_peers(scope))
        if self.chance.random() < 0.6:
            # Only one of these: which of two equal rows is the first differs from one to the next.
            items.append(self._window_of_rows(scope))
        return _named(f"select %s from {source}{self._where(scope)}", items)

    def _partition(self, scope: Scope) -> list[str]:
        sortable = [t for t in scope if t.kind in SORTABLE]
        if not sortable or self.chance.random() < 0.4:
            return []
        return [f"partition by {self.chance.choice(sortable).sql}"]

    def _number_in(self, scope: Scope) -> Term:
        return self.chance.choice([t for t in scope if t.kind in NUMBERS] or [Term("1", "integer")])

    def _window_of_peers(self, scope: Scope) -> Term:
        """A window function that gives equal rows the same value."""
        parts = self._partition(scope)
        sortable = [t for t in scope if t.kind in SORTABLE]
        number, any_term = self._number_in(scope), self.chance.choice(scope)
        shape = self.chance.randint(0, 3)
        if shape == 0 or not sortable:
            call = f"sum({number.sql})"
        elif shape == 1:
            key = self.chance.choice(sortable).sql
            parts.append(f"order by {key}{self.chance.choice(['', ' desc', ' desc nulls last'])}")
            call = self.chance.choice(["rank()", "dense_rank()", "count(*)", "cume_dist()"])
        elif shape == 2:
            parts.append(f"order by {self.chance.choice(sortable).sql}")
            call = f"{self.chance.choice(['sum', 'min', 'max', 'avg'])}({number.sql})"
        else:
            call = f"count({any_term.sql}) filter (where {any_term.sql} is not null)"
        return Term(f"{call} over ({' '.join(parts)})", "windowed")

    def _window_of_rows(self, scope: Scope) -> Term:
        """A window function over an order by everything there is."""
        everything = ", ".join(self.expressions.sort_key(t) for t in scope)
        parts = [*self._partition(scope), f"order by {everything}"]
        number, any_term = self._number_in(scope), self.chance.choice(scope)
        shape = self.chance.randint(0, 2)
        kind = "windowed"
        if shape == 0:
            call = self.chance.choice(["row_number()", "ntile(3)"])
        elif shape == 1:
            name = self.chance.choice(["lag", "lead", "first_value", "last_value"])
            call, kind = f"{name}({any_term.sql})", any_term.type
        else:
            start = self.chance.choice(["1 preceding", "unbounded preceding", "current row"])
            parts.append(f"rows between {start} and 1 following")
            call = f"sum({number.sql})"
        return Term(f"{call} over ({' '.join(parts)})", kind)

    # FROM

    def _from(self, most: int = 3) -> tuple[str, list[Term]]:
        text, scope = self._item([])
        for _ in range(self.chance.choice([0, 0, 1, 1, 2][: most + 2])):
            kind = self.chance.choice(_JOINS)
            if len(scope) > 24:
                break
            lateral = scope if kind in ("join", "left join", "cross join") else []
            item, added = self._item(lateral)
            if kind == "cross join":
                text += f" cross join {item}"
            elif self._may_use_k(scope, added):
                text += f" {kind} {item} using (k)"
                scope = [_merged_k(kind, scope, added), *scope, *added]
                continue
            else:
                text += f" {kind} {item} on {self._join_condition(kind, scope, added)}"
            scope = [*scope, *added]
        return text, scope

    def _may_use_k(self, scope: Scope, added: Scope) -> bool:
        """Whether both sides have one column k: joined ones stand first and have no qualifier."""
        left = [t for t in scope if _base(t) == "k"]
        right = [t for t in added if _base(t) == "k"]
        return len(left) == len(right) == 1 and self.chance.random() < 0.2

    def _alias(self) -> str:
        self._aliases += 1
        return f"q{self._aliases}"

    def _item(self, lateral: Scope) -> tuple[str, list[Term]]:
        alias = self._alias()
        roll = self.chance.random()
        if self._depth < 2 and roll < 0.12:
            body = self._deeper(self._body)
            return f"({body.sql}) {alias}", Relation(alias, body.columns).under(alias)
        if self._depth < 2 and lateral and roll < 0.18:
            sql, columns = self._deeper(lambda: self._correlated_body(lateral))
            return f"lateral ({sql}) {alias}", Relation(alias, columns).under(alias)
        if roll < 0.22:
            columns = (Term("n", "integer", 100), Term("s", TEXT))
            return (
                f"(values (1, 'a'), (2, 'ab'), (null, 'b'), (3, null)) {alias}(n, s)",
                Relation(alias, columns).under(alias),
            )
        if roll < 0.26:
            columns = (Term("n", "integer", 100),)
            low, high = self.chance.randint(-1, 2), self.chance.randint(2, 5)
            return (
                f"generate_series({low}, {high}) {alias}(n)",
                Relation(alias, columns).under(alias),
            )
        arrays = [t.sql for t in lateral if t.type == "integer[]"]
        if arrays and roll < 0.4:
            columns = (Term("x", "integer"),)
            return (
                f"unnest({self.chance.choice(arrays)}) {alias}(x)",
                Relation(alias, columns).under(alias),
            )
        relation = self.chance.choice(self.relations)
        return f"{relation.name} {alias}", relation.under(alias)

    def _deeper(self, make):  # type: ignore[no-untyped-def]
        self._depth += 1
        try:
            return make()
        finally:
            self._depth -= 1

    def _join_condition(self, kind: str, scope: Scope, added: Scope) -> str:
        pairs = _comparable_pairs(scope, added)
        if not pairs:
            # PostgreSQL takes no other condition on a full join.
            return "true"
        same = [p for p in pairs if _base(p[0]) == _base(p[1]) in ("k", "id")]
        first, second = self.chance.choice(same if same and self.chance.random() < 0.6 else pairs)
        if self.chance.random() < 0.1 and kind != "full join":
            operator = self.chance.choice(["<", ">=", "<>"])
            return f"{first.sql} {operator} {second.sql}"
        text = f"{first.sql} = {second.sql}"
        if self.chance.random() < 0.25:
            first, second = self.chance.choice(pairs)
            text += f" and {first.sql} = {second.sql}"
        if self.chance.random() < 0.25 and kind != "full join":
            text += (
                f" and {self._innermost(lambda: self.expressions.predicate([*scope, *added], 1))}"
            )
        return text

    # Subqueries

    def _subquery_predicate(self, outer: Scope) -> str:
        if self._depth >= 2:
            return self.expressions.predicate(outer, 0)
        return self._deeper(lambda: self._subquery_condition(outer))

    def _subquery_condition(self, outer: Scope) -> str:
        source, inner = self._from(most=1)
        shape = self.chance.randint(0, 5)
        where = self._correlation(outer, inner)
        pairs = _comparable_pairs(outer, inner)
        if shape <= 1 or not pairs:
            word = self.chance.choice(["exists", "not exists"])
            return f"{word} (select 1 from {source} where {where})"
        first, second = self.chance.choice(pairs)
        if self.chance.random() < 0.5:
            # NOT IN over what may hold NULLs, with and without correlation.
            where = self.expressions.predicate(inner, 1)
        if shape <= 3:
            word = self.chance.choice(["in", "in", "not in"])
            return f"{first.sql} {word} (select {second.sql} from {source} where {where})"
        if shape == 4 and self.chance.random() < 0.4:
            third, fourth = self.chance.choice(pairs)
            word = self.chance.choice(["in", "not in"])
            listed = f"select {second.sql}, {fourth.sql} from {source} where {where}"
            return f"({first.sql}, {third.sql}) {word} ({listed})"
        if shape == 4:
            operator = self.chance.choice(["= any", "<> all", "> all", "<= any"])
            return f"{first.sql} {operator} (select {second.sql} from {source} where {where})"
        name = "max" if second.kind not in (UUID, BOOLEAN) else "count"
        if name == "count":
            return f"(select count({second.sql}) from {source} where {where}) > 1"
        operator = self.chance.choice(["=", "<", ">="])
        return f"{first.sql} {operator} (select {name}({second.sql}) from {source} where {where})"

    def _correlation(self, outer: Scope, inner: Scope) -> str:
        pairs = _comparable_pairs(outer, inner)
        parts = []
        if pairs and self.chance.random() < 0.85:
            for first, second in self.chance.sample(
                pairs, min(len(pairs), self.chance.choice([1, 1, 2]))
            ):
                operator = "=" if self.chance.random() < 0.85 else self.chance.choice(["<", "<>"])
                parts.append(f"{first.sql} {operator} {second.sql}")
        if not parts or self.chance.random() < 0.4:
            parts.append(self.expressions.predicate(inner, 0))
        return " and ".join(parts)

    def _subquery_value(self, outer: Scope, kind: str) -> Term | None:
        if self._depth >= 2 or kind not in (INTEGER, NUMERIC, TEXT, DATE, FLOAT):
            return None
        return self._deeper(lambda: self._scalar_subquery(outer, kind))

    def _scalar_subquery(self, outer: Scope, kind: str) -> Term | None:
        source, inner = self._from(most=1)
        columns = [t for t in inner if t.kind == kind]
        where = self._correlation(outer, inner)
        if kind == INTEGER and self.chance.random() < 0.4:
            return Term(f"(select count(*) from {source} where {where})", "bigint", 10**6)
        if not columns:
            return None
        column = self.chance.choice(columns)
        if self.chance.random() < 0.2:
            sql = f"(select {column.sql} from {source} where {where} order by 1 limit 1)"
        else:
            name = self.chance.choice(["min", "max"])
            sql = f"(select {name}({column.sql}) from {source} where {where})"
        return Term(sql, column.type, column.magnitude)

    def _correlated_body(self, outer: Scope) -> tuple[str, tuple[Term, ...]]:
        source, inner = self._from(most=1)
        where = self._correlation(outer, inner)
        shown = [t for t in inner if t.kind in SORTABLE][:3]
        if not shown or self.chance.random() < 0.5:
            return f"select count(*) as c0 from {source} where {where}", (
                Term("c0", "bigint", 10**6),
            )
        body = _named(f"select %s from {source} where {where}", shown)
        order = ", ".join(str(i + 1) for i in range(len(shown)))
        return f"{body.sql} order by {order} limit 2", body.columns

    def _table_with(self, kind: str) -> tuple[str, list[Term]]:
        found = [r for r in self.relations if any(c.kind == kind for c in r.columns)]
        relation = self.chance.choice(found)
        return relation.name, list(relation.columns)


def _named(sql: str, items: Sequence[Term]) -> Query:
    """The query with its select list in place of `%s`."""
    before, _, after = sql.partition("%s")
    shown = ", ".join(f"{item.sql} as c{i}" for i, item in enumerate(items))
    columns = tuple(replace(item, sql=f"c{i}") for i, item in enumerate(items))
    return Query(before + shown + after, columns)


def _merged_k(kind: str, scope: Scope, added: Scope) -> Term:
    """The column k of a join with USING, of the type that both sides meet in."""
    left = next(t for t in scope if _base(t) == "k")
    right = next(t for t in added if _base(t) == "k")
    numeric = NUMERIC in (left.kind, right.kind)
    widest = (
        max(left.type, right.type, key=lambda t: ("smallint", "integer", "bigint").index(t))
        if not numeric
        else NUMERIC
    )
    return Term("k", widest, 100)


def _base(term: Term) -> str:
    return term.sql.rpartition(".")[2]


def _comparable_pairs(first: Scope, second: Scope) -> list[tuple[Term, Term]]:
    def family(term: Term) -> str:
        return "number" if term.kind in NUMBERS else term.kind

    return [
        (a, b)
        for a in first
        for b in second
        if family(a) == family(b) and a.kind in SORTABLE and a.kind != JSONB
    ]
