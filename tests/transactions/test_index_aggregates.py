"""Aggregates and what else is computed of rows by an index: as the usual way has it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from short_ways import Watched
from worlds import World, in_world

from executor.index_queries import IndexQueries

CALLS = [
    "count(*)",
    "count(v)",
    "count(distinct n)",
    "sum(n)",
    "sum(i)",
    "sum(m)",
    "coalesce(sum(m), 0)",
    "sum(n * m)",
    "min(c)",
    "max(c)",
    "min(v)",
    "max(m)",
    "max(t)",
    "avg(n)",
    "avg(i)",
    "avg(m)",
    "max(c) + 1",
    "sum(n) - count(*) as rest",
    "min(n) between 1 and 3",
    "max(f)",
    "string_agg(v, ',')",
    "sum(n) filter (where n > 1)",
]
ITEMS = ["c + n as more", "upper(v)", "m * 2", "case when n > 2 then v end", "c", "*"]
WHERE = [
    "a = {x}",
    "a = {x} and b = {y}",
    "a = {x} and b = {y} and n < {z}",
    "a = {x} and v is not null",
    "a = {x} and b >= {y} and (n = {z} or m > 5)",
    "v = 'x' and n = {z}",
    "v = 'w' and m is null and c > {z}",
    "a = {x} and a = {y}",
    "a = 77",
]


def query(chance: random.Random) -> str:
    where = chance.choice(WHERE).format(**{name: chance.randrange(5) for name in "xyz"})
    if chance.random() < 0.7:
        shown = ", ".join(chance.sample(CALLS, chance.randint(1, 3)))
        return f"select {shown} from t where {where}"
    if chance.random() < 0.5:
        order = " order by b, c" if where.startswith("a") else ""
        return f"select {chance.choice(ITEMS)} from t where {where}{order}"
    names = chance.sample(["a", "b", "n", "v", "t", "i"], 2)
    directions = [chance.choice(["", " desc", " nulls first", " desc nulls last"]) for _ in names]
    listed = ", ".join(name + direction for name, direction in zip(names, directions, strict=True))
    limit = chance.choice(["", " limit 3"])
    return f"select v, c, b as d from t where {where} order by {listed}, c{limit}"


@pytest.mark.parametrize("method", ["row", "hybrid"])
def test_what_is_computed_is_what_a_plan_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    watched = Watched(monkeypatch, IndexQueries)

    async def test(world: World) -> None:
        client, other = await world.clients(2)
        await client.ask(
            "create table t (a int, b int, c int, v varchar(5), n int, i bigint, m numeric(6,2),"
            f" f float8, t timestamptz, primary key (a, b, c)) using {method}"
            " partition by hash (a) partitions 2; create index on t (v, n)"
        )
        await other.ask(
            "insert into t select i % 4, i % 5, i, nullif('x', substr('wxyz', i % 4, 1)),"
            " nullif(i % 6, 5), i::bigint * 1000000007, nullif(i, 30) * 1.25, i / 7.0,"
            " timestamptz '2026-01-01 00:00+00' + i * interval '1 hour'"
            " from generate_series(1, 60) s(i)"
        )
        await client.ask("begin; update t set v = 'w', m = -m where a = 2; delete from t where c=4")
        chance = random.Random(4)
        for _ in range(160):
            await watched.both_ways(client, query(chance))
        assert watched.taken > 60, watched.taken
        await client.ask("commit")

    in_world(tmp_path, test)


def test_any_order_of_columns_has_its_nulls_where_they_belong(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask("create table t (a int, b int, n int, primary key (a, b)) using row")
        await client.ask("insert into t values (1, 1, 5), (1, 2, null), (1, 3, 4), (1, 4, null)")
        for order, wanted in {
            "n, b": "3124",
            "n desc, b": "2413",
            "n nulls first, b desc": "4231",
            "n desc nulls last, b desc": "1342",
        }.items():
            for limit in (1, 3, 9):
                text = f"select b from t where a = 1 order by {order} limit {limit}"
                assert "".join(b or "" for (b,) in await client.ask(text)) == wanted[:limit], text

    in_world(tmp_path, test)


def test_the_end_of_an_index_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """min and max of what follows in the index, of more rows than are read else."""

    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask("create table t (a int, b int, primary key (a, b)) using row")
        await client.ask("insert into t select 1, i from generate_series(1, 3000) s(i)")
        watched = Watched(monkeypatch, IndexQueries)
        assert await client.ask("select min(b) from t where a = 1") == [("1",)]
        assert await client.ask("select max(b) + 1 as next from t where a = 1") == [("3001",)]
        assert await client.ask("select max(b) from t where a = 1 and b < 20") == [("19",)]
        assert await client.ask("select max(b) from t where a = 2") == [(None,)]
        assert watched.taken == 4
        assert await client.ask("select count(*) from t where a = 1") == [("3000",)]
        assert watched.taken == 4
        await client.ask(
            "begin; delete from t where a = 1 and b > 2990; insert into t values (1, 0)"
        )
        assert await client.ask("select min(b) from t where a = 1") == [("0",)]
        assert await client.ask("select max(b) from t where a = 1") == [("2990",)]
        assert watched.taken == 6
        await client.ask("rollback")

    in_world(tmp_path, test)


@pytest.mark.parametrize("kind", ["int", "bigint", "numeric(6,2)", "smallint"])
def test_prepared_columns_are_described_alike(tmp_path: Path, kind: str) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask(f"create table t (a int, b int, n {kind}, primary key (a, b)) using row")
        await client.ask("insert into t values (1, 1, 2), (1, 2, 3)")
        text = "select sum(n), avg(n), min(n), count(n), sum(n) + $2 from t where a = $1"
        shown = await client.ask(text, ["1", "10"])
        assert [[float(v or 0) for v in row] for row in shown] == [[5, 2.5, 2, 2, 15]]

    in_world(tmp_path, test)


def test_what_a_session_has_set_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time without a zone is of the session's, whoever has asked the same before."""
    watched = Watched(monkeypatch, IndexQueries)

    async def test(world: World) -> None:
        clients = await world.clients(2)
        await clients[0].ask(
            "create table t (a int, t timestamptz, s text, primary key (a, t)) using row"
        )
        await clients[0].ask(
            "insert into t select 1, timestamptz '2026-01-01 00:00+00' + i * interval '1 hour', '2'"
            " from generate_series(0, 20) s(i)"
        )
        await clients[1].ask("set timezone = 'America/New_York'")
        for text in (
            "select count(case when t < '2026-01-01 03:30' then 1 end) from t where a = 1",
            "select max(t) < '2026-01-01 17:30' from t where a = 1",
            "select coalesce(min(t), '2026-01-01 17:30') from t where a = 3",
            "select max(t), min(t)::text from t where a = 1",
            "select coalesce(max(t), now()) is null from t where a = 3",
            "select count(*) from t where a = 1 and t < '2026-01-01 03:30'",
        ):
            for client in clients:
                await watched.both_ways(client, text)

    in_world(tmp_path, test)
