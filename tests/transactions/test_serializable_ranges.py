"""SERIALIZABLE transactions that read rows by their values: what counts is the range that they
asked for, with the rows that come into it and those that leave it (rule I4)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path

import pytest
from worlds import Client, Row, World, in_world

from cluster.errors import DeadlockDetected, SerializationFailure, UniqueViolation
from storage.tablet_validation import TabletValidation

BEGIN = "begin isolation level serializable"
# Ranges of the customer that is given, by the key's first column and by an index.
READS = (
    "select id, v from orders where customer = {0} and id > 0",
    "select count(*) from orders where customer = {0}",
    "select id from orders where size = {0}",
    "select count(*), sum(v) from orders where size = {0} and id < 100",
    "select id from orders where size between {0} and {0}",
    "select id from orders where size in ({0}, 99) order by v",
    "select v, count(*) from orders where size > {0} - 1 and size < {0} + 1 group by v",
    "select a.id from orders a join orders b on a.id = b.id where a.size = {0} and b.size = {0}",
    "select id from orders where size = {0} for update",
)
# Others change what such a read of customer or size 1 gives.
CHANGES = (
    "insert into orders values (1, 9, 1, 0)",
    "delete from orders where customer = 1 and id = 1",
    "update orders set v = 5 where customer = 1 and id = 2",
    "update orders set v = 5 where size = 1",
)


async def made(world: World, count: int = 3) -> list[Client]:
    clients = await world.clients(count)
    await clients[-1].ask(
        "create table orders (customer int, id int, size int, v int, primary key (customer, id))"
        " using row partition by hash (customer) partitions 2;"
        "create index on orders (size);"
        "insert into orders select c, i, c, 0 from generate_series(1, 4) a(c),"
        " generate_series(1, 3) b(i)"
    )
    return clients


async def conflicts(one: Client, two: Client, read: str, change: str, own: str) -> bool:
    """Whether a transaction that has read, and changes something of its own, fails where another
    has changed something in between."""
    await one.ask(f"{BEGIN}; {read}")
    await two.ask(change)
    try:
        await one.ask(f"{own}; commit")
    except SerializationFailure:
        await one.ask("rollback")
        return True
    return False


def test_ranges_conflict_with_what_comes_into_them_and_leaves_them(tmp_path: Path) -> None:
    moves = [
        "update orders set size = 1 where customer = 3 and id = 3",
        "update orders set size = 3 where customer = 1 and id = 3",
        "update orders set size = 7 where size = 1",
    ]

    async def test(world: World) -> None:
        one, two, looker = await made(world)
        own = "update orders set v = v + 1 where customer = 2 and id = 1"
        for read in READS[:-1]:
            for change in (*CHANGES, *(moves if "size" in read else [])):
                met = await conflicts(one, two, read.format(1), change, own)
                assert met, (read, change)
                await looker.ask(
                    "delete from orders where customer in (1, 3);"
                    "insert into orders select c, i, c, 0 from generate_series(1, 3, 2) a(c),"
                    " generate_series(1, 3) b(i)"
                )
        # Locks keep others from the rows that are there, not from adding to them.
        assert await conflicts(one, two, READS[-1].format(1), CHANGES[0], own)

    in_world(tmp_path, test)


def test_what_others_do_outside_of_a_range_is_no_conflict(tmp_path: Path) -> None:
    """All in the same fragments, at the same moment too."""

    async def test(world: World) -> None:
        one, two, _ = await made(world)
        for read in READS:
            for change in CHANGES:
                own = "update orders set v = v + 1 where customer = 2 and id = 1"
                met = await conflicts(one, two, read.format(2), change, own)
                assert not met, (read, change)
            await two.ask("delete from orders where customer = 1")
            await two.ask("insert into orders select 1, i, 1, 0 from generate_series(1, 3) b(i)")
        for read in READS:
            for client, mine in ((one, 1), (two, 2)):
                await client.ask(f"{BEGIN}; {read.format(mine)}")
                await client.ask(f"update orders set v = v + 1 where customer = {mine}")
            await asyncio.gather(*(client.later("commit") for client in (one, two)))

    in_world(tmp_path, test)


async def skewed(one: Client, two: Client, read: str) -> int:
    """How many of two that each change what the other has read commit at the same moment."""
    for client, mine, other in ((one, 1, 2), (two, 2, 1)):
        await client.ask(f"{BEGIN}; {read.format(other)}")
        await client.ask(f"insert into orders select {mine}, max(id) + 1, {mine}, 0 from orders")
    ended = await asyncio.gather(
        *(client.later("commit") for client in (one, two)), return_exceptions=True
    )
    for client in (one, two):
        if client.status != "I":
            await client.ask("rollback")
    assert all(isinstance(each, list | SerializationFailure) for each in ended), ended
    return sum(isinstance(each, list) for each in ended)


@pytest.mark.parametrize("planted", [False, True], ids=["kept", "planted"])
def test_write_skew_at_the_same_moment(
    tmp_path: Path, planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are marked when they validate, and what they add is in neither's range as it is. Without
    a look at what the other is about to change both would commit."""
    if planted:
        monkeypatch.setattr(TabletValidation, "_changes_some", lambda *_: False)

    async def test(world: World) -> None:
        one, two, _ = await made(world)
        found = [await skewed(one, two, READS[place % 8]) for place in range(15)]
        assert (max(found) > 1) is planted, found

    in_world(tmp_path, test)


def test_what_was_read_behind_a_savepoint_counts(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two, _ = await made(world)
        await one.ask(f"{BEGIN}; savepoint a; {READS[1].format(1)}; rollback to a")
        await two.ask(CHANGES[0])
        await one.ask("update orders set v = 1 where customer = 2 and id = 1")
        await one.refused("commit", SerializationFailure)
        # What others have done and taken back is no conflict.
        await one.ask(f"rollback; {BEGIN}; {READS[1].format(1)}")
        await two.ask(f"begin; savepoint a; {CHANGES[1]}; rollback to a;")
        await two.ask("update orders set v = 1 where customer = 3 and id = 1; commit")
        await one.ask("update orders set v = 1 where customer = 2 and id = 1; commit")

    in_world(tmp_path, test)


# Random blocks, and whether some order of those that committed, one after the other, gives the
# same answers and the same rows.

STATEMENTS = (
    "select id, v from orders where customer = {0} and id > {1} order by id",
    "select count(*) from orders where size = {0}",
    "select sum(v) from orders where size between {0} and {0} + 1",
    "select customer, id from orders where size in ({0}, {1}) order by customer, id",
    "update orders set size = {1} where size = {0}",
    "update orders set v = v + 1 where customer = {0} and id = {1}",
    "update orders set size = {1} where customer = {0} and id = {1}",
    "delete from orders where customer = {0} and id = {1}",
    "insert into orders select {0}, 10 + count(*), {1}, count(*) from orders where size = {1}",
    "insert into orders select {0}, 20 + count(*), {1}, 1 from orders where customer = {0}",
)
ALL = "select * from orders order by customer, id"
Answers = list[list[Row]]


class Blocks:
    """What each of some blocks asks, and what it was answered; None where it failed."""

    def __init__(self, chance: random.Random, count: int) -> None:
        self.asked = [
            [
                chance.choice(STATEMENTS).format(chance.randint(1, 3), chance.randint(1, 3))
                for _ in range(chance.randint(2, 3))
            ]
            for _ in range(count)
        ]
        self.answers: list[Answers | None] = [None] * count

    async def run(self, place: int, client: Client, start: str) -> None:
        found: Answers = []
        try:
            await client.ask(start)
            for sql in self.asked[place]:
                found.append([*await client.ask(sql), (client.tag,)])
                await asyncio.sleep(0)
            await client.ask("commit")
            self.answers[place] = found
        except (SerializationFailure, DeadlockDetected, UniqueViolation):
            await client.ask("rollback")

    async def is_serial(self, client: Client, after: Sequence[Row], begin: str) -> bool:
        """Whether some order explains it; `begin` makes the rows as they were."""
        committed = [place for place, answers in enumerate(self.answers) if answers is not None]
        for order in permutations(committed):
            if await self._explains(client, order, after, begin):
                return True
        return False

    async def _explains(
        self, client: Client, order: Iterable[int], after: Sequence[Row], begin: str
    ) -> bool:
        await client.ask(f"begin; {begin}")
        try:
            for place in order:
                for sql, answer in zip(self.asked[place], self.answers[place] or (), strict=True):
                    if [*await client.ask(sql), (client.tag,)] != answer:
                        return False
            return await client.ask(ALL) == after
        except UniqueViolation:
            return False
        finally:
            await client.ask("rollback")


@pytest.mark.slow
@pytest.mark.parametrize("control", ["pessimistic", "optimistic"])
def test_some_serial_order_explains_what_commits(tmp_path: Path, control: str) -> None:
    chance = random.Random(2)
    rows = "delete from orders; insert into orders select c, i, i, c from"
    begin = f"{rows} generate_series(1, 3) a(c), generate_series(1, 3) b(i)"
    counted = [0, 0]

    async def test(world: World) -> None:
        *clients, looker = await made(world, 4)
        for client in clients:
            await client.ask(f"set dqe.concurrency_control = '{control}'")
        for _ in range(25):
            await looker.ask(begin)
            blocks = Blocks(chance, len(clients))
            runs = [blocks.run(place, client, BEGIN) for place, client in enumerate(clients)]
            await asyncio.gather(*runs)
            after = await looker.ask(ALL)
            assert await blocks.is_serial(looker, after, begin), (blocks.asked, blocks.answers)
            counted[0] += sum(answers is not None for answers in blocks.answers)
            counted[1] += len(clients)
        assert counted[0] > counted[1] / 4, counted

    in_world(tmp_path, test)
