"""The tables of one seed on both engines, and the checks over them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

from differential_engines import Engine, difference
from differential_queries import Query, QueryMaker
from differential_tables import TableSpec, random_clauses, random_table
from differential_values import CLASSES, JSONB
from differential_writes import WriteMaker


class World:
    """Random tables, the same on PostgreSQL and on every node of a cluster."""

    def __init__(self, seed: int, nodes: Sequence[Engine], postgres: Engine) -> None:
        self.chance = random.Random(seed)
        self.nodes = nodes
        self.postgres = postgres
        self.tables: list[TableSpec] = []
        self.views: dict[str, str] = {}

    @property
    def node(self) -> Engine:
        """Any node."""
        return self.chance.choice(self.nodes)

    def create(self) -> None:
        """Makes the tables and fills them."""
        for number in range(self.chance.randint(3, 5)):
            table = random_table(self.chance, f"t{number}", self.tables)
            self.tables.append(table)
            self.node.must(table.ddl(cut=True))
            self.postgres.must(table.ddl(cut=False))
            self._fill(table)
        if self.chance.random() < 0.7:
            self.node.must("analyze")

    def _fill(self, table: TableSpec) -> None:
        cut = self.chance.randint(0, len(table.rows))
        first, second = table.rows[:cut], table.rows[cut:]
        node = self.node
        for engine in (node, self.postgres):
            if first:
                engine.must(table.insert_values(first))
            if second:
                engine.copy(f"copy {table.name} from stdin", table.copy_text(second))

    def cut_again(self) -> None:
        """Other fragmentations of the same rows."""
        before: list[TableSpec] = []
        for table in self.tables:
            old = f"old_{table.name}"
            node = self.node
            node.must(f"alter table {table.name} rename to {old}")
            clauses = random_clauses(self.chance, table, before)
            table.clauses = clauses.replace(
                f"partition {table.name}_", f"partition {table.name}_again_"
            )
            node.must(table.ddl(cut=True))
            self.node.must(f"insert into {table.name} select * from {old}")
            before.append(table)
        for table in reversed(self.tables):
            self.node.must(f"drop table old_{table.name}")

    def drop(self) -> None:
        """Leaves both engines empty."""
        for engine in (self.nodes[0], self.postgres):
            for view in reversed(list(self.views)):
                engine.must(f"drop view if exists {view}")
            for prefix in ("", "old_"):
                for table in reversed(self.tables):
                    engine.must(f"drop table if exists {prefix}{table.name}")

    def check(self, query: Query) -> str | None:
        """What differs, with the query."""
        return self.compare(query.sql, query.ordered_by)

    def compare(self, sql: str, ordered_by: Sequence[int] = ()) -> str | None:
        theirs = self.postgres.ask(sql)
        node = self.node
        ours = node.ask(sql)
        wrong = difference(ours, theirs, ordered_by)
        return None if wrong is None else f"{wrong}\n{sql}"

    def ask_with_parameter(self) -> str | None:
        """A prepared statement with one value of a column."""
        table = self.chance.choice(self.tables)
        column = self.chance.choice(table.columns)
        operator = self.chance.choice(["=", "=", "<>", "<", ">=", "is not distinct from"])
        if CLASSES[column.type] == JSONB:
            operator = "="
        sql = f"select * from {table.name} where {column.name} {operator} $1"
        value = column.text(self.chance)
        theirs = self.postgres.ask(sql, [value])
        wrong = difference(self.node.ask(sql, [value]), theirs, ())
        return None if wrong is None else f"{wrong}\n{sql} -- {value}"

    def ask_what_fails(self, maker: QueryMaker) -> str | None:
        """An expression over every row of a table that may raise an error on some."""
        table = self.chance.choice(self.tables)
        return self.compare(maker.failing(table.name))

    def write(self, maker: WriteMaker) -> str | None:
        """Changes a table on both engines, and compares its contents."""
        sql, table = maker.statement()
        wrong = self.compare(sql)
        return wrong or self.compare(f"select * from {table.name}")

    def queries(self, maker: QueryMaker, count: int, *, views: bool = True) -> Iterator[Query]:
        """Queries, with `views` some of them over views."""
        for number in range(count):
            if views and number in (count // 4, count // 2):
                self._create_view(maker)
            yield maker.statement()

    def _create_view(self, maker: QueryMaker) -> None:
        name = f"v{len(self.views)}"
        sql = maker.view(name)
        if self.postgres.ask(sql).sqlstate:
            maker.relations.pop()
            return
        self.node.must(sql)
        self.views[name] = sql


def check_seed(world: World, queries: int, report: Callable[[str], None]) -> None:
    """Queries and writes by turns over one world."""
    writes = WriteMaker(world.chance, world.tables)
    maker = QueryMaker(world.chance, world.tables)
    for number, query in enumerate(world.queries(maker, queries)):
        found = [world.check(query)]
        if number % 5 == 3:
            found += [world.ask_with_parameter(), world.ask_what_fails(maker)]
        if number % 10 == 9:
            found.append(world.write(writes))
        for wrong in found:
            if wrong is not None:
                report(wrong)


@contextlib.contextmanager
def world(seed: int, nodes: Sequence[Engine], postgres: Engine) -> Iterator[World]:
    """A world that is gone afterwards."""
    made = World(seed, nodes, postgres)
    try:
        made.create()
        yield made
    finally:
        made.drop()
