"""Random tables, fragmentations and queries, from a seed.

Values come from small domains with many NULLs, so that joins meet, groups have several rows and
three-valued logic shows. Queries are PostgreSQL's, and such that their answer is one multiset:
a LIMIT stands only behind an order by all columns.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import pyarrow as pa

COLUMNS = {
    "id": "int not null",
    "k": "int not null",
    "c": "text not null",
    "g": "int",
    "b": "bigint",
    "t": "text",
    "n": "numeric(10,2)",
    "f": "double precision",
    "d": "date",
}
KINDS = {
    "id": "int", "k": "int", "g": "int", "b": "int",
    "c": "text", "t": "text", "n": "num", "f": "num", "d": "date",
}  # fmt: skip
LETTERS = "abcdefg"


def random_ddl(chance: random.Random, name: str, hashed: list[str]) -> str:
    """CREATE TABLE with a random cut; `hashed` are tables it may be co-located with."""
    method = chance.choice(
        ["hash", "hash", "hash2", "range", "daterange", "list", "one", "replicated", "default"]
    )
    keys = {"hash": "k, id", "hash2": "k, id", "range": "k, id", "list": "c, id"}
    key = keys.get(method, "id") if chance.random() < 0.6 else ""
    if method == "daterange":
        key = ""
    columns = ", ".join(f"{n} {t}" for n, t in COLUMNS.items())
    text = f"create table {name} ({columns}{f', primary key ({key})' if key else ''})"
    if method == "hash":
        text += f" partition by hash (k) partitions {chance.choice([1, 2, 3, 6])}"
    elif method == "hash2":
        text += " partition by hash (k) partitions 4"
    elif method == "range":
        text += (
            " partition by range (k) (partition p0 values from (minvalue) to (3),"
            " partition p1 values from (3) to (8), partition p2 values from (8) to (maxvalue))"
        )
    elif method == "daterange":
        text += (
            " partition by range (d) (partition p0 values from (minvalue) to ('2024-01-10'),"
            " partition p1 values from ('2024-01-10') to (maxvalue), partition px default)"
        )
    elif method == "list":
        text += (
            " partition by list (c) (partition p0 values in ('a', 'b'),"
            " partition p1 values in ('c'), partition p2 default)"
        )
    elif method == "replicated":
        text += " replicated"
    if chance.random() < 0.4:
        text += _groups(chance, key)
    if method == "hash2" and hashed:
        text += f" colocate with {chance.choice(hashed)}"
    if method == "hash2":
        hashed.append(name)
    return text


def _groups(chance: random.Random, key: str) -> str:
    free = [c for c in COLUMNS if c not in key.split(", ")]
    chance.shuffle(free)
    cut = chance.randint(1, len(free) - 1)
    return f" column groups (first ({', '.join(free[:cut])}), second ({', '.join(free[cut:])}))"


def random_rows(chance: random.Random) -> pa.Table:
    rows = chance.choice([0, 1, 7, 20, 60])

    def maybe(value: object) -> object:
        return None if chance.random() < 0.25 else value

    start = date(2024, 1, 1)
    columns = {
        "id": (list(range(rows)), pa.int32()),
        "k": ([chance.randint(0, 12) for _ in range(rows)], pa.int32()),
        "c": ([chance.choice(LETTERS) for _ in range(rows)], pa.string()),
        "g": ([maybe(chance.randint(0, 5)) for _ in range(rows)], pa.int32()),
        "b": ([maybe(chance.randint(0, 12)) for _ in range(rows)], pa.int64()),
        "t": ([maybe(chance.choice(LETTERS) * 2) for _ in range(rows)], pa.string()),
        "n": (
            [maybe(Decimal(chance.randint(-500, 500)) / 100) for _ in range(rows)],
            pa.decimal128(10, 2),
        ),
        "f": ([maybe(chance.randint(-8, 8) / 4) for _ in range(rows)], pa.float64()),
        "d": (
            [maybe(start + timedelta(days=chance.randint(0, 20))) for _ in range(rows)],
            pa.date32(),
        ),
    }
    return pa.table({n: pa.array(v, type=t) for n, (v, t) in columns.items()})


@dataclass(frozen=True)
class Source:
    """A relation in FROM: its alias and columns with their kinds."""

    alias: str
    columns: dict[str, str]

    def named(self, kind: str) -> list[str]:
        return [f"{self.alias}.{n}" for n, k in self.columns.items() if k == kind]


class QueryMaker:
    """Makes one query after another."""

    def __init__(self, chance: random.Random, tables: list[str]) -> None:
        self._chance = chance
        self._tables = tables
        self._aliases = 0

    def query(self) -> str:
        """A whole statement."""
        chance = self._chance
        ctes: list[str] = []
        known: list[Source] = []
        if chance.random() < 0.25:
            sql, columns = self._block(2, [], [])
            ctes.append(f"w as ({sql})")
            known.append(Source("w", columns))
        sql, columns = self._block(3, [], known)
        if chance.random() < 0.15:
            sql, columns = self._set_operation(known)
        order = ", ".join(
            f"{i + 1}{chance.choice(['', ' desc', ' nulls first', ' desc nulls last'])}"
            for i in range(len(columns))
        )
        prefix = f"with {', '.join(ctes)} " if ctes else ""
        text = f"{prefix}select * from ({sql}) result order by {order}"
        if chance.random() < 0.3:
            text += f" limit {chance.randint(0, 9)}"
            if chance.random() < 0.4:
                text += f" offset {chance.randint(0, 4)}"
        return text

    def _alias(self) -> str:
        self._aliases += 1
        return f"r{self._aliases}"

    def _set_operation(self, known: list[Source]) -> tuple[str, dict[str, str]]:
        chance = self._chance
        kinds = chance.sample(["int", "text", "date"], chance.randint(1, 2))
        operator = chance.choice(
            ["union", "union all", "intersect", "except", "union all", "except all"]
        )
        branches = [self._shaped(kinds, known) for _ in range(2)]
        return f"{branches[0]} {operator} {branches[1]}", {f"x{i}": k for i, k in enumerate(kinds)}

    def _shaped(self, kinds: list[str], known: list[Source]) -> str:
        text, sources = self._from(1, known)
        items = [f"{self._value(k, sources)} as x{i}" for i, k in enumerate(kinds)]
        where = f" where {self._condition(sources, 1)}" if self._chance.random() < 0.5 else ""
        return f"select {', '.join(items)} from {text}{where}"

    def _block(
        self, depth: int, outer: list[Source], known: list[Source]
    ) -> tuple[str, dict[str, str]]:
        """A SELECT and the kinds of its columns."""
        chance = self._chance
        text, sources = self._from(depth, known)
        parts = [f"from {text}"]
        if chance.random() < 0.7:
            parts.append(f"where {self._condition(sources, depth)}")
        style = chance.random()
        if style < 0.4:
            items, tail = self._grouped(sources, depth)
        elif style < 0.55:
            items, tail = self._windowed(sources), ""
        else:
            items, tail = self._plain(sources, depth), ""
        distinct = "distinct " if chance.random() < 0.12 else ""
        shown = ", ".join(f"{e} as x{i}" for i, (e, _) in enumerate(items))
        sql = f"select {distinct}{shown} {' '.join(parts)} {tail}".strip()
        return sql, {f"x{i}": k for i, (_, k) in enumerate(items)}

    # FROM

    def _from(self, depth: int, known: list[Source]) -> tuple[str, list[Source]]:
        chance = self._chance
        text, source = self._relation(depth, known)
        sources = [source]
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            other_text, other = self._relation(depth, known)
            kind = chance.choice(["join"] * 4 + ["left join"] * 3 + ["right join", "full join"])
            on = self._equality(sources, other)
            if kind in ("join", "left join", "right join") and chance.random() < 0.4:
                on += f" and {self._simple([*sources, other])}"
            text += f" {kind} {other_text} on {on}"
            sources.append(other)
        return text, sources

    def _relation(self, depth: int, known: list[Source]) -> tuple[str, Source]:
        chance = self._chance
        alias = self._alias()
        if known and chance.random() < 0.4:
            chosen = chance.choice(known)
            return f"{chosen.alias} {alias}", Source(alias, chosen.columns)
        if depth > 1 and chance.random() < 0.2:
            sql, columns = self._block(depth - 1, [], [])
            return f"({sql}) {alias}", Source(alias, columns)
        if chance.random() < 0.05:
            return f"(values (1, 'a'), (2, 'b'), (null, 'c')) {alias}(k, c)", Source(
                alias, {"k": "int", "c": "text"}
            )
        return f"{chance.choice(self._tables)} {alias}", Source(alias, KINDS)

    def _equality(self, sources: list[Source], other: Source) -> str:
        pairs = [
            (a, b)
            for s in sources
            for kind in ("int", "text", "date")
            for a in s.named(kind)
            for b in other.named(kind)
        ]
        if not pairs:
            return "true"
        same = [p for p in pairs if p[0].split(".")[1] == p[1].split(".")[1] == "k"]
        a, b = self._chance.choice(same if same and self._chance.random() < 0.5 else pairs)
        text = f"{a} = {b}"
        if self._chance.random() < 0.2:
            a, b = self._chance.choice(pairs)
            text += f" and {a} = {b}"
        return text

    # Select lists

    def _plain(self, sources: list[Source], depth: int) -> list[tuple[str, str]]:
        items: list[tuple[str, str]] = []
        for _ in range(self._chance.randint(1, 4)):
            kind = self._chance.choice(["int", "text", "num", "date"])
            items.append((self._value(kind, sources), kind))
        if depth > 1 and self._chance.random() < 0.2:
            items.append((self._scalar_subquery(sources), "int"))
        if depth > 1 and self._chance.random() < 0.1:
            items.append((f"case when {self._exists(sources)} then 1 else 0 end", "int"))
        return items

    def _windowed(self, sources: list[Source]) -> list[tuple[str, str]]:
        items = self._plain(sources, 1)
        partition = self._value(self._chance.choice(["int", "text"]), sources)
        call = self._chance.choice(["sum(%s)", "count(%s)", "min(%s)", "max(%s)"])
        over = f"partition by {partition}" if self._chance.random() < 0.7 else ""
        items.append((f"{call % self._value('int', sources)} over ({over})", "int"))
        if self._chance.random() < 0.4:
            order = self._value("int", sources)
            items.append((f"rank() over ({over} order by {order})", "int"))
        return items

    def _grouped(self, sources: list[Source], depth: int) -> tuple[list[tuple[str, str]], str]:
        chance = self._chance
        keys = [
            (self._value(kind, sources), kind)
            for kind in chance.choices(["int", "text", "date"], k=chance.choice([0, 1, 1, 2]))
        ]
        keys = [k for k in keys if any(s.alias + "." in k[0] for s in sources)]
        items = list(keys)
        for _ in range(chance.randint(1, 3)):
            items.append((self._aggregate(sources), "num"))
        tail = ""
        if keys:
            names = ", ".join(k for k, _ in keys)
            shape = chance.random()
            if shape < 0.1:
                names = f"rollup ({names})"
            elif shape < 0.15 and len(keys) > 1:
                names = f"grouping sets (({keys[0][0]}), ({keys[1][0]}), ())"
            tail = f"group by {names}"
        if chance.random() < 0.25:
            bound = chance.randint(0, 3)
            tail += f" having count(*) > {bound}"
            if depth > 1 and chance.random() < 0.3:
                table = chance.choice(self._tables)
                tail += f" and sum({self._value('int', sources)}) > (select min(k) from {table})"
        return items, tail

    def _aggregate(self, sources: list[Source]) -> str:
        chance = self._chance
        name = chance.choice(
            [
                *("count(*)", "count(%s)", "sum(%s)", "min(%s)", "max(%s)", "avg(%s)"),
                *("count(distinct %s)", "sum(distinct %s)", "stddev(%s)"),
            ]
        )
        text = name if "%s" not in name else name % self._value("int", sources)
        if chance.random() < 0.15:
            text += f" filter (where {self._simple(sources)})"
        return text

    # Expressions

    def _value(self, kind: str, sources: list[Source]) -> str:
        chance = self._chance
        columns = [c for s in sources for c in s.named(kind)]
        if not columns or chance.random() < 0.08:
            return {
                "int": str(chance.randint(0, 12)),
                "text": f"'{chance.choice(LETTERS)}'::text",
                "num": f"{chance.randint(-3, 3)}.5",
                "date": f"date '2024-01-{chance.randint(1, 20):02d}'",
            }[kind]
        column = chance.choice(columns)
        if chance.random() < 0.8:
            return column
        other = chance.choice(columns)
        return {
            "int": chance.choice([f"({column} + 1)", f"coalesce({column}, {other}, 0)"]),
            "text": chance.choice([f"upper({column})", f"({column} || 'x')"]),
            "num": f"coalesce({column}, 0)",
            "date": f"({column} + 1)",
        }[kind]

    def _simple(self, sources: list[Source]) -> str:
        """A condition without subqueries."""
        chance = self._chance
        kind = chance.choice(["int", "int", "text", "num", "date"])
        left = self._value(kind, sources)
        shape = chance.random()
        if shape < 0.45:
            operator = chance.choice(["=", "<>", "<", "<=", ">", ">=", "=", "="])
            return f"{left} {operator} {self._value(kind, sources)}"
        if shape < 0.6:
            return f"{left} is {chance.choice(['', 'not '])}null"
        if shape < 0.75 and kind in ("int", "date"):
            low, high = self._value(kind, []), self._value(kind, [])
            return f"{left} between {low} and {high}"
        if shape < 0.9 and kind in ("int", "text"):
            values = ", ".join(self._value(kind, []) for _ in range(chance.randint(1, 3)))
            return f"{left} {chance.choice(['', 'not '])}in ({values})"
        return f"{left} = {self._value(kind, [])}"

    def _condition(self, sources: list[Source], depth: int) -> str:
        chance = self._chance
        terms = [self._term(sources, depth) for _ in range(chance.choice([1, 1, 2, 3]))]
        return " and ".join(terms)

    def _term(self, sources: list[Source], depth: int) -> str:
        chance = self._chance
        shape = chance.random()
        if shape < 0.5 or depth <= 1:
            return self._simple(sources)
        if shape < 0.6:
            first, second = self._simple(sources), self._simple(sources)
            third = self._simple(sources)
            return chance.choice(
                [f"({first} or {second})", f"({first} and {third} or {second} and {third})"]
            )
        if shape < 0.65:
            return f"not ({self._simple(sources)} and {self._simple(sources)})"
        if shape < 0.78:
            return chance.choice(["", "not "]) + self._exists(sources)
        if shape < 0.9:
            return self._in(sources)
        if shape < 0.95:
            other = self._exists(sources) if chance.random() < 0.6 else self._in(sources)
            return f"({self._simple(sources)} or {other})"
        operator = chance.choice(["=", "<", ">="])
        return f"{self._value('int', sources)} {operator} {self._scalar_subquery(sources)}"

    def _exists(self, sources: list[Source]) -> str:
        alias = self._alias()
        inner = Source(alias, KINDS)
        where = self._correlation(sources, inner)
        if self._chance.random() < 0.4:
            where += f" and {self._simple([inner])}"
        if self._chance.random() < 0.15:
            where += f" and {self._simple([*sources, inner])}"
        return f"exists (select 1 from {self._chance.choice(self._tables)} {alias} where {where})"

    def _correlation(self, sources: list[Source], inner: Source) -> str:
        return self._equality(sources, inner)

    def _in(self, sources: list[Source]) -> str:
        chance = self._chance
        kind = chance.choice(["int", "text"])
        alias = self._alias()
        inner = Source(alias, KINDS)
        where = []
        if chance.random() < 0.5:
            where.append(self._simple([inner]))
        if chance.random() < 0.25:
            where.append(self._correlation(sources, inner))
        tail = f" where {' and '.join(where)}" if where else ""
        text = (
            f"select {self._value(kind, [inner])} from {chance.choice(self._tables)} {alias}{tail}"
        )
        if chance.random() < 0.15:
            text = f"select max({alias}.k) from {chance.choice(self._tables)} {alias}{tail}"
            kind = "int"
        word = chance.choice(["in", "not in"])
        if chance.random() < 0.15:
            word = chance.choice(["= any", "> all", "< any"])
        return f"{self._value(kind, sources)} {word} ({text})"

    def _scalar_subquery(self, sources: list[Source]) -> str:
        chance = self._chance
        alias = self._alias()
        inner = Source(alias, KINDS)
        call = chance.choice(["count(*)", "max(%s)", "min(%s)", "sum(%s)", "count(%s) + 1"])
        call = call % self._value("int", [inner]) if "%s" in call else call
        where = []
        if chance.random() < 0.6:
            where.append(self._correlation(sources, inner))
        if chance.random() < 0.4:
            where.append(self._simple([inner]))
        tail = f" where {' and '.join(where)}" if where else ""
        return f"(select {call} from {chance.choice(self._tables)} {alias}{tail})"
