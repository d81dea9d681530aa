"""Deferred unique constraints where nobody waits, where rows are many, and where leaders move."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from test_leaders_moving import move_leader
from worlds import Client, World, in_world

from cluster.errors import SerializationFailure, UniqueViolation
from storage.drafts import FEW_ROWS

TABLE = "create table d (id int primary key deferrable initially deferred, v int)"
SWAP = ("update d set id = 2 where v = 1", "update d set id = 1 where v = 2")


def play(directory: Path, scenario: Callable[[Client, Client], Awaitable[None]]) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask(f"{TABLE} partition by hash (id) partitions 2")
        await one.ask("insert into d values (1, 1), (2, 2), (3, 3)")
        await scenario(one, two)

    in_world(directory, test)


def test_optimistic_transactions_check_at_their_end(tmp_path: Path) -> None:
    async def scenario(one: Client, two: Client) -> None:
        for client in (one, two):
            await client.ask("set dqe.concurrency_control = 'optimistic'")
        await one.ask("begin")
        for statement in SWAP:
            await one.ask(statement)
        await one.ask("commit")
        assert await one.ask("select id, v from d order by id") == [
            ("1", "2"), ("2", "1"), ("3", "3"),
        ]  # fmt: skip
        # What was there before is a violation, what came meanwhile a conflict.
        await one.ask("begin; insert into d values (3, 4)")
        await one.refused("commit", UniqueViolation)
        await one.ask("begin; insert into d values (5, 5)")
        await two.ask("insert into d values (5, 6)")
        await one.refused("commit", SerializationFailure)

    play(tmp_path, scenario)


def test_more_rows_than_are_looked_at_one_by_one(tmp_path: Path) -> None:
    async def scenario(one: Client, two: Client) -> None:
        many = f"insert into d select g, g from generate_series(4, {3 * FEW_ROWS}) g"
        await one.ask(f"begin; {many}")
        await one.ask(f"insert into d values ({FEW_ROWS}, 0)")
        await one.refused("commit", UniqueViolation)
        await one.ask(f"begin; {many}; insert into d values ({FEW_ROWS}, 0)")
        await one.ask("delete from d where v = 0")
        await one.ask("commit")
        assert await two.ask("select count(*), count(distinct id) from d") == [
            (str(3 * FEW_ROWS), str(3 * FEW_ROWS))
        ]

    play(tmp_path, scenario)


@pytest.mark.parametrize("ends", [True, False])
def test_what_is_left_to_check_comes_along_to_a_new_leader(tmp_path: Path, ends: bool) -> None:
    async def test(world: World) -> None:
        one = await world.client(0)
        catalog = world.nodes[0].parts.catalog
        while len(catalog.group.configuration.voters) < 3:
            await asyncio.sleep(0.05)
        await one.ask(f"{TABLE} partition by hash (id) partitions 1 with (replicas = 3)")
        await one.ask("insert into d values (1, 1), (2, 2)")
        await one.ask("begin")
        await one.ask(SWAP[0])
        await move_leader(world, "d")
        await one.ask("update d set v = v" if not ends else SWAP[1])
        if ends:
            await move_leader(world, "d")
            await one.ask("commit")
            assert await one.ask("select v from d order by id") == [("2",), ("1",)]
        else:
            await one.refused("commit", UniqueViolation)

    in_world(tmp_path, test, count=3)
