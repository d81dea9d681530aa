"""Lives of one table: changes, definitions and restarts in any order, all looked at behind each.

A life is drawn from a seed. It goes on beside a dict of rows; behind each step the table must
answer what the dict says, by a scan, by key and by a condition, through either of two sessions, and
as of earlier moments what the dict said then. What one step leaves for later (a store that has not
come to a change of its fragments, say) meets the next.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import SerializationFailure, SnapshotTooOld

METHODS = ("row", "columnar", "hybrid")
VALUES: dict[str, tuple[int | str | None, ...]] = {
    "v": (None, 0, 1, 2, 7, -5),
    "name": (None, "a", "b", "cc"),
}
MOMENTS_KEPT = 12

Values = dict[str, int | str | None]
Rows = dict[int, Values]


def literal(value: object) -> str:
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


class Life:
    """The table `t` as it should be, and the draws that change it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows: Rows = {}
        # The columns behind the key, with their defaults.
        self.columns: Values = {"v": None, "name": None}
        self.indexes: dict[str, str] = {}
        self._method = self.random.choice(METHODS)
        self._next_key = 1
        self._made = 0
        self._moments: list[tuple[str, Rows, tuple[str, ...]]] = []
        # What was done, for who reads a failure.
        self.told: list[str] = []

    async def ask(self, client: Client, sql: str) -> list[tuple[str | None, ...]]:
        self.told.append(sql)
        return await client.ask(sql)

    async def begin(self, client: Client) -> None:
        await self.ask(
            client,
            "CREATE TABLE t (id int PRIMARY KEY, v int, name text)"
            f" PARTITION BY HASH (id) PARTITIONS 3 USING {self._method}",
        )

    async def step(self, client: Client) -> None:
        before = dict(self.rows), dict(self.columns), dict(self.indexes)
        step = self.random.choices((self._change, self._block, self._define), (4, 2, 5))[0]
        try:
            await step(client)
        except SerializationFailure:
            self.rows, self.columns, self.indexes = before
            if client.status != "I":
                await client.ask("ROLLBACK")

    # -- rows

    async def _change(self, client: Client) -> None:
        self.rows = await self._changed(client, dict(self.rows))

    async def _changed(self, client: Client, rows: Rows) -> Rows:
        way = self.random.choice((self._insert, self._insert, self._update, self._delete))
        await way(client, rows)
        return rows

    def _drawn(self, column: str) -> int | str | None:
        return self.random.choice(VALUES.get(column, VALUES["v"]))

    async def _insert(self, client: Client, rows: Rows) -> None:
        new: Rows = {}
        for _ in range(self.random.choice((1, 1, 3, 400))):
            new[self._next_key] = {column: self._drawn(column) for column in self.columns}
            self._next_key += 1
        names = ", ".join(("id", *self.columns))
        texts = (", ".join(map(literal, (key, *values.values()))) for key, values in new.items())
        await self.ask(client, f"INSERT INTO t ({names}) VALUES ({'), ('.join(texts)})")
        rows.update(new)

    def _range(self, rows: Rows) -> tuple[int, int]:
        first = self.random.choice(list(rows) or [1])
        return first, first + self.random.choice((0, 0, 3, 50))

    async def _update(self, client: Client, rows: Rows) -> None:
        first, last = self._range(rows)
        column = self.random.choice(list(self.columns))
        value = self._drawn(column)
        where = f"id = {first}" if first == last else f"id BETWEEN {first} AND {last}"
        await self.ask(client, f"UPDATE t SET {column} = {literal(value)} WHERE {where}")
        for key in rows:
            if first <= key <= last:
                rows[key] = {**rows[key], column: value}

    async def _delete(self, client: Client, rows: Rows) -> None:
        first, last = self._range(rows)
        where = f"id = {first}" if first == last else f"id BETWEEN {first} AND {last}"
        await self.ask(client, f"DELETE FROM t WHERE {where}")
        for key in [key for key in rows if first <= key <= last]:
            del rows[key]

    async def _block(self, client: Client) -> None:
        level = self.random.choice(("read committed", "repeatable read", "serializable"))
        await self.ask(client, f"BEGIN ISOLATION LEVEL {level}")
        rows = await self._changed(client, dict(self.rows))
        await self.ask(client, "SAVEPOINT s")
        behind = await self._changed(client, dict(rows))
        assert await self._scan(client) == self._told_of(behind)
        if self.random.random() < 0.5:
            await self.ask(client, "ROLLBACK TO s")
            behind = rows
        commits = self.random.random() < 0.75
        await self.ask(client, "COMMIT" if commits else "ROLLBACK")
        self.rows = behind if commits else self.rows

    # -- definitions

    async def _define(self, client: Client) -> None:
        ways = (self._convert, self._convert, self._index, self._reshape, self._empty)
        await self.random.choice(ways)(client)

    async def _convert(self, client: Client) -> None:
        self._method = self.random.choice([m for m in METHODS if m != self._method])
        await self.ask(client, f"ALTER TABLE t SET ACCESS METHOD {self._method}")

    async def _index(self, client: Client) -> None:
        if self.indexes and self.random.random() < 0.5:
            name, _ = self.indexes.popitem()
            await self.ask(client, f"DROP INDEX {name}")
            return
        self._made += 1
        name, column = f"i{self._made}", self.random.choice(list(self.columns))
        await self.ask(client, f"CREATE INDEX {name} ON t ({column})")
        self.indexes[name] = column

    async def _reshape(self, client: Client) -> None:
        if len(self.columns) > 3:
            column, _ = self.columns.popitem()
            await self.ask(client, f"ALTER TABLE t DROP COLUMN {column}")
            self.indexes = {name: on for name, on in self.indexes.items() if on != column}
            self.rows = {key: self._shown(row) for key, row in self.rows.items()}
            return
        self._made += 1
        column, default = f"c{self._made}", self.random.choice((None, 3))
        await self.ask(client, f"ALTER TABLE t ADD COLUMN {column} int DEFAULT {literal(default)}")
        self.columns[column] = default
        self.rows = {key: {**row, column: default} for key, row in self.rows.items()}

    async def _empty(self, client: Client) -> None:
        if self.random.random() < 0.3:
            await self.ask(client, "TRUNCATE t")
            self.rows = {}

    # -- looking

    def _shown(self, row: Mapping[str, int | str | None]) -> Values:
        return {column: row[column] for column in self.columns}

    def _told_of(self, rows: Rows) -> list[tuple[str | None, ...]]:
        """The rows as the table must tell of them."""
        return [
            (str(key), *(None if v is None else str(v) for v in rows[key].values()))
            for key in sorted(rows)
        ]

    async def _scan(self, client: Client, rest: str = "") -> list[tuple[str | None, ...]]:
        names = ", ".join(("id", *self.columns))
        return await self.ask(client, f"SELECT {names} FROM t {rest} ORDER BY id")

    async def look(self, one: Client, other: Client) -> None:
        assert await self._scan(one) == self._told_of(self.rows)
        for key in (self.random.choice(list(self.rows) or [1]), self._next_key):
            found = {key: self.rows[key]} if key in self.rows else {}
            assert await self._scan(other, f"WHERE id = {key}") == self._told_of(found)
        column = self.random.choice(list(self.columns))
        value = self._drawn(column)
        where = f"WHERE {column} IS NOT DISTINCT FROM {literal(value)}"
        alike = {key: row for key, row in self.rows.items() if row[column] == value}
        assert await self._scan(one, where) == self._told_of(alike)
        await self._look_back(one, other)

    async def _look_back(self, one: Client, other: Client) -> None:
        """At an earlier moment, where no definition since has taken its history away."""
        if self._moments:
            moment, rows, columns = self.random.choice(self._moments)
            with contextlib.suppress(SnapshotTooOld):
                found = await self._scan(other, f"AS OF SYSTEM TIME {moment}")
                assert columns == tuple(self.columns)
                assert found == self._told_of(rows)
        await self.ask(one, "SELECT count(*) FROM t")
        ((moment,),) = await one.ask("SHOW dqe.last_read_timestamp")
        assert moment is not None
        self._moments.append((moment, dict(self.rows), tuple(self.columns)))
        del self._moments[:-MOMENTS_KEPT]


@pytest.mark.parametrize("seed", range(4))
def test_a_table_answers_as_it_should_all_its_life(tmp_path: Path, seed: int) -> None:
    life = Life(seed)

    async def live(world: World) -> None:
        one, other = await world.clients(2)
        if not life.told:
            await life.begin(one)
        for _ in range(12):
            await life.step(one)
            await life.look(*life.random.sample((one, other), 2))

    try:
        for _ in range(2):  # behind a restart, too
            in_world(tmp_path, live)
    except BaseException as error:
        error.add_note("\n".join(life.told[-20:]))
        raise
