"""Changes of rows by the first columns of a key, by an index, and by lists of keys: the same end
state, rows and errors as the usual way, beside other writers, too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from short_ways import Maker, Twins, Watched
from test_leaders_moving import move_leader, three
from worlds import Client, World, in_world

from cluster.errors import SerializationFailure, UniqueViolation
from executor.point_writes import PointWrites

TABLE = (
    "create table {t} (a int, b text, c int, v text, n int not null, m numeric(6,2), u int,"
    " x int generated always as (n * 2) stored, check (n < 90),"
    " primary key (a, b, c), unique (a, u)) partition by hash (a) partitions 3 using {method};"
    " create index on {t} (v, n)"
)
STATE = "select * from {t} order by a, b, c"


class Changer(Maker):
    """Random statements over `{t}`."""

    def where(self) -> str:
        a, c, n = (self.chance.randrange(4) for _ in range(3))
        b = self.pick("'p'", "'q'", "''")
        return self.pick(
            f"a = {a}",
            f"a = {a} and b = {b}",
            f"{a} = a and b >= {b} and n > {n}",
            f"a = {a} and b = {b} and c between 1 and {c}",
            f"a = {a} and b = {b} and c in ({c}, {n}, null, {c})",
            f"a in ({a}, {n}) and b = {b} and c in (0, 1)",
            "v = 'x'",
            f"v = 'y' and n < {n}",
            f"a = {a} and u = {c}",
            f"a = {a} and b = {b} and c = null",
            f"a = {a} and a = {n}",
        )

    def statement(self) -> str:
        n = self.chance.randrange(4)
        sets = self.pick(
            "n = n + 1",
            "v = 'x'",
            "v = b || 'y', m = m + n",
            "n = n + 40",
            "u = u + 10",
            f"u = {n}",
            "v = null, n = default",
        )
        text = self.pick(
            f"update {{t}} set {sets} where {self.where()}",
            f"update {{t}} set {sets} where {self.where()}",
            f"delete from {{t}} where {self.where()} and n > {n}",
            f"select a, b, c, n from {{t}} where {self.where()} for update",
            f"insert into {{t}} (a, b, c, v, n) values ({n}, 'p', {n}, 'y', {n}),"
            f" ({n}, 'q', {n}, null, 1)",
        )
        if not text.startswith("select"):
            text += self.pick("", " returning a, b, c, n, x")
        return text


@pytest.mark.parametrize(("seed", "method"), [(1, "row"), (2, "hybrid")])
def test_random_statements_end_as_the_usual_way_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, method: str
) -> None:
    watched, maker = Watched(monkeypatch, PointWrites), Changer(seed)

    async def test(world: World) -> None:
        client = await world.client()
        for table in ("one", "two"):
            await client.ask(TABLE.format(t=table, method=method))
            await client.ask(
                f"insert into {table} (a, b, c, v, n, m, u) select i % 4, (array['p', 'q', ''])"
                "[1 + i % 3], i / 12, case when i % 2 = 0 then 'x' end, i % 5, i, i"
                " from generate_series(0, 47) s(i)"
            )
        twins = Twins(client, watched, lambda error: error.sqlstate)
        for _ in range(60):
            texts = maker.block(maker.statement, "commit", "rollback", "rollback to s; commit")
            await twins.end_alike(texts, [STATE])
        assert watched.taken > 60, watched.taken

    in_world(tmp_path, test)


async def made(world: World) -> tuple[Client, Client]:
    """Two clients; table t with rows (1, 1) to (1, 4), n = 10, on one tablet."""
    one, two = await world.clients(2)
    await one.ask(
        "create table t (a int, b int, n int, u int, primary key (a, b), unique (a, u)) using row"
    )
    await one.ask("insert into t select 1, i, 10, i from generate_series(1, 4) s(i)")
    return one, two


def test_rows_are_looked_at_again_under_their_locks(tmp_path: Path) -> None:
    """READ COMMITTED: a row that matches no more is left alone, one that is gone is not there, one
    that has changed changes from what it is now, one that has come is not seen."""

    async def test(world: World) -> None:
        one, two = await made(world)
        await one.ask("begin")
        await one.ask("update t set n = 100 where a = 1 and b = 2")
        await one.ask("update t set n = n + 5 where a = 1 and b = 3")
        await one.ask("delete from t where a = 1 and b = 4")
        await one.ask("insert into t values (1, 9, 10, 9)")
        waiting = two.later("update t set n = n + 1 where a = 1 and n < 50 returning b, n")
        await world.waits(waiting)
        await one.ask("commit")
        assert await waiting == [("1", "11"), ("3", "16")]
        assert await two.ask("select b, n from t order by b") == [
            *(("1", "11"), ("2", "100")),
            *(("3", "16"), ("9", "10")),
        ]

    in_world(tmp_path, test)


@pytest.mark.parametrize("change", ["update t set n = 0", "delete from t"])
def test_a_kept_snapshot_refuses_rows_that_others_changed(tmp_path: Path, change: str) -> None:
    async def test(world: World) -> None:
        one, two = await made(world)
        await one.ask("begin isolation level repeatable read")
        assert len(await one.ask("select * from t where a = 1")) == 4
        await two.ask("insert into t values (1, 9, 10, 9)")
        await one.ask("update t set n = n + 1 where a = 1 and b < 4")
        assert one.tag == "UPDATE 3"  # without the row that came later
        await two.ask(f"{change} where a = 1 and b = 4")
        await one.ask("savepoint s")
        await one.refused("update t set n = n + 1 where a = 1 and b >= 4", SerializationFailure)
        await one.ask("rollback to s; commit")
        assert await two.ask("select sum(n) from t where a = 1 and b < 4") == [("33",)]

    in_world(tmp_path, test)


def test_rows_that_are_not_meant_stay_free(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await made(world)
        await two.ask("update t set n = 1 where a = 1 and b in (1, 2)")
        await one.ask("begin; update t set n = n + 1 where a = 1 and n < 5")
        await two.ask("update t set n = n * 2 where a = 1 and b in (3, 4)")
        waiting = two.later("select b from t where a = 1 and b < 3 for update; select 1")
        await world.waits(waiting)
        await one.ask("rollback")
        await waiting

    in_world(tmp_path, test)


def test_unique_values_are_those_at_the_end_of_the_statement(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await made(world)
        await one.ask("update t set u = u + 1 where a = 1 and b > 0")
        assert one.tag == "UPDATE 4"
        await one.refused("update t set u = 3 where a = 1 and b in (1, 2)", UniqueViolation)
        await two.ask("begin; update t set u = 50 where a = 1 and b = 4")
        waiting = one.later("update t set u = 50 where a = 1 and b = 1")
        await world.waits(waiting)
        await two.ask("commit")
        with pytest.raises(UniqueViolation):
            await waiting

    in_world(tmp_path, test)


def test_serializable_changes_mind_rows_that_come(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await made(world)
        for client, n in ((one, 20), (two, 10)):
            await client.ask("begin isolation level serializable")
            await client.ask(f"update t set n = 0 where a = 1 and n = {n}")
            assert client.tag == ("UPDATE 0" if n == 20 else "UPDATE 4")
        await one.ask("insert into t values (1, 7, 10, 7)")
        await one.ask("commit")
        await two.refused("commit", SerializationFailure)

    in_world(tmp_path, test)


def test_statements_over_several_tablets_find_their_rows_at_one_moment(tmp_path: Path) -> None:
    """Rows come in pairs, one on each of two tablets: never is one found without the other."""

    async def test(world: World) -> None:
        maker, marker = await world.clients(2)
        await maker.ask(
            "create table t (a int, k int, n int, primary key (a)) partition by range (a)"
            " (partition low values from (minvalue) to (0), partition high values from (0) to"
            " (maxvalue)) using row; create index on t (k, n)"
        )
        pairs = 40

        async def make() -> None:
            for pair in range(1, pairs + 1):
                await maker.ask(f"begin; insert into t values ({-pair}, 1, 0), ({pair}, 1, 0)")
                await maker.ask("commit")

        making = asyncio.ensure_future(make())
        while not making.done():
            await marker.ask("update t set n = n + 1 where k = 1")
            assert int(marker.tag.removeprefix("UPDATE ")) % 2 == 0
        await making
        await marker.ask("update t set n = n + 1 where k = 1")
        assert marker.tag == f"UPDATE {2 * pairs}"

    in_world(tmp_path, test, 2)


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_they_come_along_to_a_new_leader(tmp_path: Path, level: str) -> None:
    async def test(world: World) -> None:
        one = await three(world, "row")
        two = await world.client(1)
        await one.ask("create index on t (v, id)")
        await one.ask(f"begin isolation level {level}")
        await one.ask("update t set v = v + 1 where v = 20")
        await one.ask("select id from t where v = 10 for update")
        await move_leader(world)
        assert await one.ask("select sum(id), count(*) from t where v = 21") == [("2", "1")]
        await one.ask("savepoint s; delete from t where v = 21 and id > 1")
        await move_leader(world)
        assert await one.ask("select id from t where v = 21") == []
        await one.ask("rollback to s")
        waiting = two.later("update t set v = v * 2 where v = 10")
        await world.waits(waiting)
        await one.ask("update t set v = v + 1 where v = 21")
        await one.ask("commit")
        await waiting
        assert await two.ask("select v from t order by id") == [("20",), ("22",), ("30",)]

    in_world(tmp_path, test, 3)
