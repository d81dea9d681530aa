"""Rows by an index within transactions: what the usual way finds, at every level, with a
transaction's own changes and others' behind its snapshot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from short_ways import Maker, Watched
from worlds import Client, World, in_world

from cluster.errors import SerializationFailure
from executor.index_queries import IndexQueries

TABLE = (
    "create table t (a int, b int, c int, v text, n int not null, m numeric(6,2),"
    " primary key (a, b, c)) partition by hash (a) partitions 2 using {}"
)


class Reader(Maker):
    """Random statements over t."""

    def number(self) -> int:
        return self.chance.randrange(4)

    def change(self) -> str:
        a, b, c = self.number(), self.number(), self.number()
        v = self.pick("'x'", "'y'", "''", "null")
        return self.pick(
            f"insert into t values ({a}, {b}, {c}, {v}, {c}, {c}.5)"
            " on conflict (a, b, c) do update set n = excluded.n",
            f"update t set v = {v}, n = n + 1 where a = {a} and b = {b} and c = {c}",
            f"update t set v = {v} where a = {a} and n > {b}",
            f"delete from t where a = {a} and b = {b} and c = {c}",
        )

    def query(self) -> str:
        a, b, c, v = self.number(), self.number(), self.number(), self.pick("x", "y", "")
        where = self.pick(
            f"a = {a} and b = {b}",
            f"a = {a} and b = {b} and c >= {c}",
            f"a = {a} and b > {b} and b <= {c}",
            f"v = '{v}'",
            f"v = '{v}' and n < {c}",
            f"v = '{v}' and n between 1 and {c}",
        )
        direction = self.pick("", " desc")
        ordered = ["a", "b", "c"] if where.startswith("a") else ["v", "n", "c"]
        order = ", ".join(column + direction for column in ordered)
        limit = self.pick("", "", " limit 2") if ordered[0] == "a" else ""
        return f"select a, b, c, v, n, m from t where {where} order by {order}{limit}"


async def both_ways(client: Client, watched: Watched, text: str) -> None:
    await watched.both_ways(client, text, ties="order by v" in text)


@pytest.mark.parametrize(("seed", "method"), [(1, "row"), (2, "hybrid")])
def test_a_transaction_reads_by_an_index_what_it_scans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, method: str
) -> None:
    watched, maker = Watched(monkeypatch, IndexQueries), Reader(seed)

    async def test(world: World) -> None:
        client, other = await world.clients(2)
        await other.ask(TABLE.format(method))
        await other.ask("create index by_v on t (v, n, c)")
        await other.ask(
            "insert into t select i / 16, i / 4 % 4, i % 4, case when i % 3 = 0 then 'x' end,"
            " i % 4, i from generate_series(0, 63, 2) s(i)"
        )
        for _ in range(25):
            level = maker.pick("read committed", "repeatable read", "serializable")
            await client.ask(f"begin isolation level {level}")
            await both_ways(client, watched, maker.query())
            for _ in range(4):
                with_savepoint = maker.chance.random() < 0.3
                if with_savepoint:
                    await client.ask("savepoint s")
                if maker.chance.random() < 0.5:
                    # Rows of other keys: nobody waits for anybody.
                    a = 10 + maker.number()
                    await other.ask(
                        f"insert into t values ({a}, 1, {maker.number()}, 'x', 1, 1)"
                        " on conflict (a, b, c) do update set n = t.n + 1"
                    )
                    await other.ask(f"delete from t where a = {a} and n > 2")
                await client.ask(maker.change())
                await both_ways(client, watched, maker.query())
                if with_savepoint:
                    await client.ask("rollback to s")
                    await both_ways(client, watched, maker.query())
            end = maker.pick("commit", "rollback") if level == "read committed" else "rollback"
            await client.ask(end)
        assert watched.taken > 60, watched.taken

    in_world(tmp_path, test)


@pytest.mark.parametrize("index", ["a = 1 and b = 1", "v = 'x'"])
def test_a_snapshot_outlives_the_rows_that_it_shows(tmp_path: Path, index: str) -> None:
    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await first.ask(TABLE.format("row"))
        await first.ask("create index by_v on t (v, n)")
        await first.ask("insert into t values (1, 1, 1, 'x', 1, 1), (1, 1, 2, 'x', 2, 2)")
        query = f"select c, n from t where {index} order by n"
        if index.startswith("a"):
            query = query.replace("by n", "by c")
        await first.ask("begin isolation level repeatable read")
        assert await first.ask(query) == [("1", "1"), ("2", "2")]
        await second.ask("update t set v = 'z', n = 7 where a = 1 and b = 1 and c = 1")
        await second.ask("delete from t where a = 1 and b = 1 and c = 2")
        await second.ask("insert into t values (1, 1, 3, 'x', 3, 3)")
        assert await first.ask(query) == [("1", "1"), ("2", "2")]
        assert await first.ask(query + " limit 1") == [("1", "1")]
        assert await first.ask(query.replace("order by", "and n > 1 order by")) == [("2", "2")]
        await first.ask("commit")

    in_world(tmp_path, test)


def test_serializable_minds_rows_that_come(tmp_path: Path) -> None:
    """Write skew by a row that neither has seen, which no key would tell."""

    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await first.ask(TABLE.format("row"))
        for client in (first, second):
            await client.ask("begin isolation level serializable")
            assert await client.ask("select c from t where a = 1 and b = 1") == []
        await first.ask("insert into t values (1, 1, 1, 'x', 1, 1)")
        await second.ask("insert into t values (1, 1, 2, 'x', 1, 1)")
        await first.ask("commit")
        await second.refused("commit", SerializationFailure)

    in_world(tmp_path, test)


def test_lists_of_keys_over_several_tablets_are_read_at_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money moves between two parts while it is counted; own changes and kept snapshots, too."""

    async def no_plan(*given: Any) -> None:
        pytest.fail("it was planned")

    async def test(world: World) -> None:
        mover, counter = await world.clients(2)
        await mover.ask(
            "create table t (k int primary key, n int) partition by range (k) (partition low values"
            " from (minvalue) to (0), partition high values from (0) to (maxvalue)) using row"
        )
        await mover.ask("insert into t values (-1, 50), (1, 50), (2, 7)")
        await counter.ask("select n from t where k in (-1, 1)")
        monkeypatch.setattr("executor.table_statements.run_statement", no_plan)

        async def move() -> None:
            for _ in range(30):
                await mover.ask("begin; update t set n = n - 1 where k = -1")
                await mover.ask("update t set n = n + 1 where k = 1; commit")

        moving = asyncio.ensure_future(move())
        while not moving.done():
            found = await counter.ask("select n from t where k in (1, -1, 9, 1)")
            assert sum(int(n or 0) for (n,) in found) == 100
        await moving
        await counter.ask("begin isolation level repeatable read")
        assert len(await counter.ask("select k from t where k in (-1, 2)")) == 2
        await mover.ask("update t set n = 0 where k in (-1, 2)")
        await counter.ask("update t set n = 1 where k = 1; insert into t values (-5, 5)")
        found = await counter.ask("select k, n from t where k in (-5, -1, 1, 2)")
        assert sorted(found) == [("-1", "20"), ("-5", "5"), ("1", "1"), ("2", "7")]
        await counter.ask("commit")

    in_world(tmp_path, test, 2)
