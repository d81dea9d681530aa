"""Over the wire: a client that is cut off gives its locks back within a second."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest
from worlds import World, in_world


async def connect(world: World) -> asyncpg.Connection:
    host, _, port = world.nodes[0].pg_address.rpartition(":")
    return await asyncpg.connect(
        host=host, port=int(port), user="someone", database="dqe", ssl=False
    )


def test_a_client_that_vanishes_frees_its_locks(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        await one.ask("create table t (id int primary key, v int); insert into t values (1, 0)")
        idle, waiting = await connect(world), await connect(world)
        await idle.execute("begin; update t set v = 1")
        blocked = asyncio.ensure_future(waiting.execute("update t set v = 2"))
        mine = one.later("update t set v = v + 3")
        await world.waits(blocked)
        await world.waits(mine)
        waiting.terminate()  # in the middle of its statement
        await asyncio.gather(blocked, return_exceptions=True)
        idle.terminate()
        await asyncio.wait_for(mine, 1)
        assert await one.ask("select v from t") == [("3",)]

    in_world(tmp_path, test)


def test_an_implicit_transaction_ends_with_its_message(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        await one.ask("create table t (id int primary key)")
        client = await connect(world)
        with pytest.raises(asyncpg.UniqueViolationError):
            await client.execute("insert into t values (1); insert into t values (1)")
        assert await one.ask("select count(*) from t") == [("0",)]
        await client.executemany("insert into t values ($1)", [(1,), (2,)])
        assert await one.ask("select count(*) from t") == [("2",)]
        refused = client.executemany("insert into t values ($1)", [(3,), (2,), (4,)])
        result = await asyncio.gather(refused, return_exceptions=True)
        assert isinstance(result[0], asyncpg.UniqueViolationError)
        assert await one.ask("select count(*) from t") == [("2",)]
        async with client.transaction(isolation="repeatable_read"):
            await client.execute("insert into t values (5)")
            assert await client.fetchval("select count(*) from t") == 3
        assert await one.ask("select count(*) from t") == [("3",)]
        await client.close()

    in_world(tmp_path, test)
