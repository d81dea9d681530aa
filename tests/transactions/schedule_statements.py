"""Random statements over a schedule's tables.

Every statement has one meaning on any database: rows that are cut off by LIMIT are ordered by
their key first, nothing asks for the time or for chance. Keys come from a small domain, about
half of them of rows that are there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from schedule_tables import Table

KEYS = (1, 2, 3, 4, 5)
LOCKS = ("update", "update", "no key update", "share", "key share")
TABLE_MODES = ("row share", "row exclusive", "share", "share row exclusive", "exclusive")


class StatementMaker:
    """Draws statements for the tables from a seed."""

    def __init__(self, chance: random.Random, tables: Sequence[Table]) -> None:
        self.chance = chance
        self.tables = tables
        kinds: list[tuple[int, Callable[[], str]]] = [
            (7, self._select),
            (2, self._aggregate),
            (8, self._locking),
            (2, self._locking_subquery),
            (10, self._insert),
            (14, self._update),
            (7, self._delete),
            (1, self._change_key),
        ]
        if len(tables) > 1:
            joins = (self._join, self._locking_join, self._update_from, self._delete_using)
            kinds += [(2, made) for made in (*joins, self._insert_select)]
            kinds.append((4, self._merge))
        else:
            kinds += [(1, self._lock_table), (2, self._merge_values)]
        self._weights = [weight for weight, _ in kinds]
        self._kinds = [made for _, made in kinds]

    def statement(self) -> str:
        return self.chance.choices(self._kinds, self._weights)[0]()

    # -- parts of statements

    def _pick(self, *choices: str) -> str:
        return self.chance.choice(choices)

    @property
    def _table(self) -> Table:
        return self.chance.choice(self.tables)

    def _two(self) -> tuple[Table, Table]:
        one, two = self.chance.sample(self.tables, 2)
        return one, two

    def _value(self, table: Table, column: str) -> str:
        if column == table.cut_column and len(table.key) > 1:
            return str(self.chance.choice((1, 1, 2, 3)))
        if column in table.key or column in table.tied:
            return str(self.chance.choice(KEYS))
        return str(self.chance.randint(0, 9))

    def _key(self, table: Table) -> str:
        prefix = f"{table.name}."
        return " and ".join(f"{prefix}{c} = {self._value(table, c)}" for c in table.key)

    def _condition(self, table: Table) -> str:
        """By the whole key for the most part."""
        column, name = table.key[-1], table.name
        by_value = f"{name}.v {self._pick('>', '<=')} {self.chance.choice((5, 15, 25))}"
        tied = self.chance.choice(table.tied or table.values)
        by_tied = f"{name}.{tied} = {self._value(table, tied)}"
        low = self.chance.choice(KEYS)
        return self.chance.choices(
            [
                self._key(table),
                f"{name}.{column} in ({low}, {self.chance.choice(KEYS)})",
                f"{name}.{column} between {low} and {low + 1}",
                f"{name}.{table.key[0]} = {self._value(table, table.key[0])}",
                by_value,
                by_tied,
                f"{self._key(table)} and {by_value}",
                "true",
            ],
            [12, 2, 2, 2, 2, 2, 3, 1],
        )[0]

    def _set(self, table: Table) -> str:
        """Assignments to columns that are no keys."""
        column = self.chance.choice((*table.values, "v", "v"))
        null = "null" if column in table.tied else "v * 2"
        made = [f"{column} + 1", self._value(table, column), f"{table.name}.v % 3", null]
        return f"{column} = {self.chance.choices(made, [6, 4, 1, 1])[0]}"

    def _returning(self, table: Table) -> str:
        return self._pick(
            "", "", f" returning {', '.join(f'{table.name}.{c}' for c in table.columns)}"
        )

    def _waits(self) -> str:
        return self._pick("", "", "", " nowait", " skip locked")

    def _ordered(self, table: Table) -> str:
        order = ", ".join(f"{table.name}.{c}" for c in table.key)
        limit = f" limit {self.chance.randint(1, 2)}"
        return self._pick("", "", f" order by {order}", f" order by {order}{limit}")

    # -- statements of one table

    def _select(self) -> str:
        table = self._table
        return f"select * from {table.name} where {self._condition(table)}{self._ordered(table)}"

    def _aggregate(self) -> str:
        table = self._table
        if self.chance.random() < 0.3:
            column = table.values[0]
            return f"select {column}, count(*) from {table.name} group by {column}"
        computed = f"count(*), sum(v), min({table.key[-1]})"
        return f"select {computed} from {table.name} where {self._condition(table)}"

    def _locking(self) -> str:
        table = self._table
        clause = f" for {self._pick(*LOCKS)}{self._waits()}"
        ordered = self._ordered(table)
        return f"select * from {table.name} where {self._condition(table)}{ordered}{clause}"

    def _locking_subquery(self) -> str:
        table = self._table
        column = table.key[-1]
        skip = self._pick(" skip locked", " skip locked", "")
        inner = (
            f"select {column} from {table.name} where {self._condition(table)}"
            f" order by {', '.join(table.key)} limit 1 for update{skip}"
        )
        if len(table.key) > 1:
            return f"select * from ({inner}) x"
        return self._pick(
            f"update {table.name} set v = v + 100 where {column} = ({inner}) returning *",
            f"delete from {table.name} where {column} in ({inner}) returning {column}",
        )

    def _row(self, table: Table, columns: Sequence[str]) -> str:
        return f"({', '.join(self._value(table, column) for column in columns)})"

    def _insert(self) -> str:
        table = self._table
        columns = (
            table.values if table.generated_key and self.chance.random() < 0.6 else table.columns
        )
        count = self.chance.choice((1, 1, 1, 1, 2))
        rows = ", ".join(self._row(table, columns) for _ in range(count))
        text = f"insert into {table.name} ({', '.join(columns)}) values {rows}"
        return text + self._conflict(table) + self._returning(table)

    def _conflict(self, table: Table) -> str:
        by_key = f"({', '.join(table.key)})"
        update = f"do update set v = {table.name}.v + excluded.v"
        anywhere = "" if table.tied and self.chance.random() < 0.8 else " on conflict do nothing"
        return self._pick(
            "",
            "",
            anywhere,
            f" on conflict {by_key} do nothing",
            f" on conflict {by_key} {update}",
            f" on conflict {by_key} {update} where {table.name}.v < 25",
        )

    def _update(self) -> str:
        table = self._table
        text = f"update {table.name} set {self._set(table)} where {self._condition(table)}"
        return text + self._returning(table)

    def _delete(self) -> str:
        table = self._table
        return f"delete from {table.name} where {self._condition(table)}{self._returning(table)}"

    def _change_key(self) -> str:
        table = self._table
        column = self.chance.choice(table.key)
        value = self._value(table, column)
        return f"update {table.name} set {column} = {value} where {self._key(table)}"

    def _lock_table(self) -> str:
        nowait = self._pick("", "", " nowait")
        return f"lock table {self._table.name} in {self._pick(*TABLE_MODES)} mode{nowait}"

    def _merge_values(self) -> str:
        table = self._table
        source = f"(values {self._row(table, table.columns)}) x({', '.join(table.columns)})"
        on = " and ".join(f"{table.name}.{c} = x.{c}" for c in table.key)
        return f"merge into {table.name} using {source} on {on}{self._when(table, 'x')}"

    # -- statements of two

    def _on(self, one: Table, two: Table) -> str:
        return f"{one.name}.{one.key[-1]} = {two.name}.{two.key[-1]}"

    def _join(self) -> str:
        one, two = self._two()
        return (
            f"select {one.name}.*, {two.name}.v from {one.name} join {two.name}"
            f" on {self._on(one, two)} where {self._condition(one)}"
        )

    def _locking_join(self) -> str:
        of = self._pick("", f" of {self.tables[0].name}")
        return f"{self._join()} for {self._pick(*LOCKS)}{of}{self._waits()}"

    def _update_from(self) -> str:
        one, two = self._two()
        assigned = self._pick(f"v = {one.name}.v + {two.name}.v", "v = 7")
        return (
            f"update {one.name} set {assigned} from {two.name}"
            f" where {self._on(one, two)} and {self._condition(self._pick_of(one, two))}"
        )

    def _delete_using(self) -> str:
        one, two = self._two()
        return (
            f"delete from {one.name} using {two.name}"
            f" where {self._on(one, two)} and {self._condition(self._pick_of(one, two))}"
        )

    def _pick_of(self, *tables: Table) -> Table:
        return self.chance.choice(tables)

    def _insert_select(self) -> str:
        one, two = self._two()
        shared = ", ".join(
            "v" if c == "v" else f"{two.key[-1]} + {self.chance.choice((0, 1))}"
            for c in one.columns
        )
        return (
            f"insert into {one.name} ({', '.join(one.columns)}) select {shared} from {two.name}"
            f" where {self._key(two)}{self._pick('', ' on conflict do nothing')}"
        )

    def _merge(self) -> str:
        one, two = self._two()
        condition = "" if self.chance.random() < 0.5 else f" and {self._condition(one)}"
        source = self._pick(two.name, f"(select * from {two.name} where {self._condition(two)})")
        if len(two.key) > 1:
            # A target's row may have one source row only.
            source = f"(select * from {two.name} where {self._key(two)})"
        if len(one.key) > 1:
            condition = f" and {self._key(one)}"
        on = f"{one.name}.{one.key[-1]} = x.{two.key[-1]}{condition}"
        return f"merge into {one.name} using {source} x on {on}{self._when(one, 'x')}"

    def _when(self, table: Table, source: str) -> str:
        matched = [
            f" when matched and {table.name}.v > 15 then delete",
            f" when matched then update set v = {table.name}.v + {source}.v",
            f" when matched and {table.name}.v < 15 then do nothing",
        ]
        columns = ", ".join(table.columns)
        new = f" when not matched then insert ({columns}) values {self._row(table, table.columns)}"
        clauses = self.chance.sample(matched, self.chance.randint(1, 2))
        clauses.sort(key=lambda clause: "and" not in clause)
        return "".join(clauses) + self._pick("", new)
