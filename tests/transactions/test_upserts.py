"""INSERT ... ON CONFLICT of several rows, by sessions at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import SerializationFailure

UPSERT = (
    "insert into t select i, 1 from generate_series({}, {}) s(i)"
    " on conflict (id) do update set v = t.v + excluded.v"
)


async def table(world: World, method: str) -> tuple[Client, Client, Client]:
    one, two, looker = await world.clients(3)
    await looker.ask(
        f"create table t (id int primary key, v int) using {method}"
        " partition by hash (id) partitions 2"
    )
    await looker.ask("insert into t values (1, 10), (2, 20)")
    return one, two, looker


@pytest.mark.parametrize("method", ["row", "columnar", "hybrid"])
def test_other_keys_do_not_wait_and_equal_ones_do(tmp_path: Path, method: str) -> None:
    async def test(world: World) -> None:
        one, two, looker = await table(world, method)
        await one.ask("begin; " + UPSERT.format(1, 4))
        await two.ask(UPSERT.format(5, 8))
        await two.ask("update t set v = v + 1 where id = 6")
        waiting = two.later(UPSERT.format(2, 3))
        await world.waits(waiting)
        await one.ask("commit")
        await waiting
        rows = await looker.ask("select id, v from t order by id")
        expected = [11, 22, 2, 1, 1, 2, 1, 1]
        assert rows == [(str(i), str(v)) for i, v in enumerate(expected, 1)]

    in_world(tmp_path, test)


def test_a_key_that_was_rolled_back_is_inserted(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two, looker = await table(world, "hybrid")
        nothing = "insert into t select i, 7 from generate_series(2, 4) s(i) on conflict do nothing"
        await one.ask("begin; " + nothing)
        waiting = two.later(nothing)
        await world.waits(waiting)
        await one.ask("rollback")
        await waiting
        assert await looker.ask("select sum(v) from t") == [("44",)]

    in_world(tmp_path, test)


def test_many_at_once_count_right(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await table(world, "hybrid")
        clients = await world.clients(4)

        async def work(client: Client, first: int) -> None:
            for turn in range(6):
                low = 1 + (first + turn) % 4
                await client.ask(UPSERT.format(low, low + 6))

        await asyncio.gather(*(work(client, n) for n, client in enumerate(clients)))
        assert await clients[0].ask("select sum(v) from t") == [(str(30 + 4 * 6 * 7),)]

    in_world(tmp_path, test)


def test_an_optimistic_one_loses_no_update_either(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two, looker = await table(world, "hybrid")
        for client in (one, two):
            await client.ask("set dqe.concurrency_control = 'optimistic'")
        await one.ask("begin; select v from t where id = 1 for update")
        await two.ask(UPSERT.format(1, 2))
        await one.ask("update t set v = 0 where id = 1")
        await one.refused("commit", SerializationFailure)
        assert await looker.ask("select sum(v) from t") == [("32",)]

    in_world(tmp_path, test)
