"""Waits that end: deadlocks, time limits, cancelled statements, clients that leave."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path

import pytest
from worlds import World, in_world

from cluster.errors import DeadlockDetected, LockNotAvailable, QueryCanceled, UniqueViolation


async def two_rows(world: World) -> None:
    (one,) = await world.clients(1)
    await one.ask("create table t (id int primary key, v int) partition by hash (id) partitions 4")
    await one.ask("insert into t values (1, 0), (2, 0)")


def test_a_deadlock_over_nodes_ends_one_transaction(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await two_rows(world)
        one, two = await world.clients(2)
        await one.ask("begin; update t set v = v + 1 where id = 1")
        await two.ask("begin; update t set v = v + 10 where id = 2")
        waiting = one.later("update t set v = v + 1 where id = 2")
        await world.waits(waiting)
        error = await two.refused("update t set v = v + 10 where id = 1", DeadlockDetected)
        assert error.message == "deadlock detected"
        await waiting  # the one that gave up gave its locks back at once
        await one.ask("commit")
        assert two.status == "E"
        await two.ask("rollback")
        assert await one.ask("select v from t order by id") == [("1",), ("1",)]

    in_world(tmp_path, test, count=3)


def test_waiting_for_a_lock_has_its_limits(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await two_rows(world)
        one, two = await world.clients(2)
        await one.ask("begin; update t set v = 1 where id = 1; insert into t values (3, 0)")
        await two.ask("set lock_timeout = 200")
        for statement in ("update t set v = 2", "insert into t values (3, 1)", "truncate t"):
            error = await two.refused(statement, LockNotAvailable)
            assert error.message == "canceling statement due to lock timeout"
        await two.ask("set lock_timeout = 0; set statement_timeout = 200")
        for statement in ("update t set v = 2", "insert into t values (3, 1)"):
            await two.refused(statement, QueryCanceled)
        await two.ask("set statement_timeout = 0")
        waiting = two.later("insert into t values (3, 1)")
        await world.waits(waiting)
        two.session.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], QueryCanceled)
        await one.ask("rollback")
        await two.ask("insert into t values (3, 1)")

    in_world(tmp_path, test)


def test_a_client_that_leaves_gives_its_locks_back(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await two_rows(world)
        one, two = await world.clients(2)
        await one.ask("begin; update t set v = 1")
        waiting = two.later("update t set v = v + 2")
        await world.waits(waiting)
        await one.session.close()
        await asyncio.wait_for(waiting, 1)
        assert await two.ask("select v from t") == [("2",), ("2",)]

    in_world(tmp_path, test)


GIVES_UP = ["delete from t where id = 1", "update t set u = 9 where id = 1"]
NEW_ROWS = [
    "insert into t values (1, 2, 5)",
    "insert into t select 1, i, i + 3 from generate_series(2, 3) s(i)",
]


def test_a_unique_value_about_to_be_given_up_is_waited_for(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask(
            "create table t (a int, id int, u int, primary key (a, id), unique (a, u))"
            " using hybrid partition by hash (a) partitions 1"
        )
        for ends, gives_up, new_rows in product(["commit", "rollback"], GIVES_UP, NEW_ROWS):
            await one.ask("delete from t; insert into t values (1, 1, 5)")
            await one.ask(f"begin; {gives_up}")
            waiting = two.later(new_rows)
            await world.waits(waiting)
            await one.ask(ends)
            if ends == "commit":
                await waiting
            else:
                with pytest.raises(UniqueViolation):
                    await waiting
            assert await one.ask("select count(*) from t where u = 5") == [("1",)]

    in_world(tmp_path, test)
