"""Money moved between accounts by explicit transactions over tablets and nodes, while others
sum it up at every level: no sum is ever wrong."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import DeadlockDetected, SerializationFailure

pytestmark = pytest.mark.slow

ACCOUNTS, EACH = 12, 100
TRANSFERS_EACH = 8


async def transfer(client: Client, dice: random.Random, level: str) -> None:
    """Moves some money, perhaps part of it back; tries again where it lost against others."""
    source, target = dice.sample(range(ACCOUNTS), 2)
    amount = dice.randrange(1, 50)
    while True:
        try:
            await client.ask(f"begin isolation level {level}")
            held = await client.ask(f"select v from a where id = {source}")
            await client.ask(f"update a set v = v - {amount} where id = {source}")
            if dice.random() < 0.3:
                await client.ask("savepoint s; update a set v = v + 1000; rollback to s")
            if level == "read committed":
                await client.ask(f"update a set v = v + {amount} where id = {target}")
            else:
                found = await client.ask(f"select v from a where id = {target}")
                changed = int(found[0][0] or 0) + amount
                await client.ask(f"update a set v = {changed} where id = {target}")
            own = await client.ask(f"select sum(v) from a where id in ({source}, {target})")
            assert own
            assert held
            await client.ask("commit" if dice.random() < 0.8 else "rollback")
            return
        except (SerializationFailure, DeadlockDetected):
            await client.ask("rollback")


async def sums_are_right(client: Client, done: asyncio.Event) -> int:
    total = str(ACCOUNTS * EACH)
    rounds = 0
    while not done.is_set():
        assert await client.ask("select sum(v), count(*) from a") == [(total, str(ACCOUNTS))]
        await client.ask("begin isolation level repeatable read read only")
        halves = [
            await client.ask(f"select sum(v) from a where id % 2 = {half}") for half in (0, 1)
        ]
        await client.ask("commit")
        assert sum(int(rows[0][0] or 0) for rows in halves) == ACCOUNTS * EACH
        rounds += 1
    return rounds


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_no_sum_is_ever_wrong(tmp_path: Path, level: str) -> None:
    async def test(world: World) -> None:
        one, two, three, *readers = await world.clients(5)
        await one.ask(
            "create table a (id int primary key, v int) partition by hash (id) partitions 4"
        )
        await one.ask(f"insert into a select i, {EACH} from generate_series(0, {ACCOUNTS - 1}) i")
        done = asyncio.Event()
        summing = [asyncio.ensure_future(sums_are_right(reader, done)) for reader in readers]

        async def work(client: Client, seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(TRANSFERS_EACH):
                await transfer(client, dice, level)

        writers = [one, two] if level == "serializable" else [one, two, three]
        try:
            await asyncio.gather(*(work(client, seed) for seed, client in enumerate(writers)))
        finally:
            done.set()
        assert min(await asyncio.gather(*summing)) > 0
        assert await two.ask("select sum(v) from a") == [(str(ACCOUNTS * EACH),)]

    in_world(tmp_path, test, count=2)
