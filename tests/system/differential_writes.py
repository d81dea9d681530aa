"""Random UPDATE, DELETE and INSERT ... SELECT over the tables of one seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from differential_expressions import ExpressionMaker, Term
from differential_tables import TableSpec
from differential_values import CLASSES, FLOAT, INTEGER, NUMERIC, ColumnSpec


class WriteMaker:
    """Makes one statement after another; each names the table it changes."""

    def __init__(self, chance: random.Random, tables: Sequence[TableSpec]) -> None:
        self.chance = chance
        self.tables = list(tables)
        self.expressions = ExpressionMaker(chance)

    def statement(self) -> tuple[str, TableSpec]:
        table = self.chance.choice(self.tables)
        make = self.chance.choice([self._update, self._update, self._delete, self._insert])
        return make(table), table

    def _terms(self, table: TableSpec, alias: str) -> list[Term]:
        return [Term(f"{alias}.{c.name}", c.type, c.magnitude) for c in table.columns]

    def _returning(self, table: TableSpec, alias: str) -> str:
        if self.chance.random() < 0.5:
            return ""
        names = self.chance.sample(table.columns, self.chance.randint(1, 3))
        return " returning " + ", ".join(f"{alias}.{c.name}" for c in names)

    def _update(self, table: TableSpec) -> str:
        scope = self._terms(table, "t")
        free = [c for c in table.columns if c.name not in table.key and c.name != "id"]
        targets = self.chance.sample(free, min(len(free), self.chance.randint(1, 2)))
        changes = ", ".join(f"{c.name} = {self._new_value(scope, c)}" for c in targets)
        text = f"update {table.name} t set {changes}"
        condition = self.expressions.predicate(scope, 1)
        other = self.chance.choice(self.tables)
        if self.chance.random() < 0.25:
            found = f"select 1 from {other.name} o where o.k = t.k and {self._about(other)}"
            condition = f"exists ({found})"
        elif self.chance.random() < 0.2:
            condition = f"t.k in (select k from {other.name} o where {self._about(other)})"
        return f"{text} where {condition}{self._returning(table, 't')}"

    def _about(self, table: TableSpec) -> str:
        return self.expressions.predicate(self._terms(table, "o"), 0)

    def _new_value(self, scope: Sequence[Term], column: ColumnSpec) -> str:
        kind = CLASSES[column.type]
        if column.nulls and self.chance.random() < 0.15:
            return "null"
        made = self.expressions.of_kind(scope, kind, 1)
        if kind in (INTEGER, NUMERIC, FLOAT):
            # Small enough for any type, whatever was computed.
            shrunk = f"({made.sql}) % 50" if kind != FLOAT else "1.5::float8"
            value = f"coalesce({shrunk}, 0)" if not column.nulls else shrunk
            return f"({value})::{column.type}"
        if kind == "text":
            return f"coalesce(left({made.sql}, 4), '')"
        return (
            made.sql
            if column.nulls
            else f"coalesce({made.sql}, {self.expressions.constant(kind).sql})"
        )

    def _delete(self, table: TableSpec) -> str:
        scope = self._terms(table, "t")
        first = self.expressions.predicate(scope, 1)
        # Not too many of them.
        condition = f"({first}) and t.id % 3 = {self.chance.randint(0, 2)}"
        if self.chance.random() < 0.3:
            other = self.chance.choice(self.tables)
            found = f"select o.k from {other.name} o where {self._about(other)}"
            condition = f"t.k = any ({found}) and {condition}"
        return f"delete from {table.name} t where {condition}{self._returning(table, 't')}"

    def _insert(self, table: TableSpec) -> str:
        source = self.chance.choice(self.tables)
        scope = self._terms(source, "s")
        base = self.chance.randint(1, 10) * 1000
        values = []
        for column in table.columns:
            if column.name == "id":
                # New numbers, and distinct ones: the source's are if it has a key.
                order = ", ".join(self.expressions.sort_key(t) for t in scope)
                values.append(f"{base} + row_number() over (order by {order})")
            else:
                values.append(self._new_value(scope, column))
        shown = ", ".join(values)
        return (
            f"insert into {table.name} select {shown} from {source.name} s "
            f"where {self.expressions.predicate(scope, 1)}"
        )
