"""SELECT ... FOR UPDATE and its like, with NOWAIT and SKIP LOCKED."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import World, in_world

from cluster.errors import (
    FeatureNotSupported,
    LockNotAvailable,
    NoActiveSqlTransaction,
    ReadOnlySqlTransaction,
    SerializationFailure,
    WrongObjectType,
)

MODES = ("key share", "share", "no key update", "update")


async def queue(world: World, count: int = 5) -> None:
    (one,) = await world.clients(1)
    await one.ask("create table q (id int primary key, v int)")
    await one.ask(f"insert into q select i, i * 10 from generate_series(1, {count}) i")


def test_modes_exclude_each_other(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await queue(world)
        one, two = await world.clients(2)
        for held in range(4):
            await one.ask(f"begin; select * from q where id = 1 for {MODES[held]}")
            for wanted in range(4):
                ask = f"select id from q where id = 1 for {MODES[wanted]} nowait"
                if held + wanted >= 3:
                    error = await two.refused(ask, LockNotAvailable)
                    assert error.message == 'could not obtain lock on row in relation "q"'
                else:
                    assert await two.ask(ask) == [("1",)]
            changes = two.later("update q set v = v + 1 where id = 1")
            if held == 0:
                await changes  # KEY SHARE lets those through who keep the key
                changes = two.later("delete from q where id = 1 and v < 0")
            else:
                await world.waits(changes)
            await one.ask("commit")
            await changes

    in_world(tmp_path, test)


def test_workers_share_a_queue_without_waiting(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await queue(world)
        one, two, three = await world.clients(3)
        take = "select id, v from q order by id limit 2 for update skip locked"
        for client, expected in (
            (one, [("1", "10"), ("2", "20")]),
            (two, [("3", "30"), ("4", "40")]),
            (three, [("5", "50")]),
        ):
            await client.ask("begin")
            assert await client.ask(take) == expected
            await client.ask(f"delete from q where id = {expected[0][0]}")
        await one.ask("commit")
        await two.ask("rollback")
        assert await one.ask(take) == [("2", "20"), ("3", "30")]
        await three.ask("commit")
        assert await one.ask("select id from q order by id") == [("2",), ("3",), ("4",)]

    in_world(tmp_path, test, count=2)


def test_a_locked_row_is_given_in_its_newest_version(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await queue(world)
        one, two = await world.clients(2)
        await one.ask("begin; update q set v = 11 where id = 1; update q set v = 0 where id = 2")
        reading = two.later("select id, v from q where v > 5 and id < 4 for update")
        await world.waits(reading)
        await one.ask("commit")
        assert sorted(await reading) == [("1", "11"), ("3", "30")]
        await one.ask("begin isolation level repeatable read; select 1 from q")
        await two.ask("update q set v = 12 where id = 1")
        await one.refused("select * from q where id = 1 for share", SerializationFailure)
        await one.ask("rollback")

    in_world(tmp_path, test)


def test_what_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await queue(world)
        (one,) = await world.clients(1)
        for wrong in (
            "select count(*) from q for update",
            "select v from q group by v for share",
            "select distinct v from q for update",
            "select * from q for update fetch first row with ties",
            "select * from (q join q b using (id)) j for update",
            "select (select b.v from q b where b.id = a.id for update) from q a",
        ):
            await one.refused(wrong, FeatureNotSupported)
        await one.refused("select * from pg_class for update", WrongObjectType)
        found = await one.ask(
            "select a.id from q a join q b on a.id = b.id where b.v = 20 for update of a"
        )
        assert found == [("2",)]
        await one.ask("begin read only")
        await one.refused("select * from q for update", ReadOnlySqlTransaction)
        await one.ask("rollback")
        assert await one.ask("select v from q order by id limit $1 offset 1 for update", ["2"]) == [
            ("20",),
            ("30",),
        ]

    in_world(tmp_path, test)


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_going_back_gives_locks_back(tmp_path: Path, level: str) -> None:
    async def test(world: World) -> None:
        await queue(world)
        one, two = await world.clients(2)
        await one.ask(f"begin isolation level {level}; select * from q where id = 1 for update")
        await one.ask("savepoint s; select * from q where id = 2 for update")
        await one.ask("rollback to s")
        assert await two.ask("select id from q where id = 2 for update nowait") == [("2",)]
        await two.refused("select id from q where id = 1 for update nowait", LockNotAvailable)
        await one.ask("commit")

    in_world(tmp_path, test)


def test_tables_are_locked_as_asked(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await queue(world)
        one, two = await world.clients(2)
        await one.refused("lock table q", NoActiveSqlTransaction)
        await one.ask("begin; lock table only q in share mode")
        assert one.tag == "LOCK TABLE"
        assert await two.ask("select count(*) from q") == [("5",)]
        await two.ask("begin; lock q in share mode; savepoint s")
        error = await two.refused("lock table q in row exclusive mode nowait", LockNotAvailable)
        assert error.message == 'could not obtain lock on relation "q"'
        await two.ask("rollback")
        changing = two.later("update q set v = 0 where id = 1")
        await world.waits(changing)
        await one.ask("commit")
        await changing

    in_world(tmp_path, test)


@pytest.mark.parametrize(
    "clause", ["FOR UPDATE", "For\n  No Key\tUpdate", "for -- x\n/* y\n*/share"]
)
def test_a_clause_may_be_written_in_many_ways(tmp_path: Path, clause: str) -> None:
    async def test(world: World) -> None:
        await queue(world)
        one, two = await world.clients(2)
        await one.ask("create view w as select id from q where id < 3")
        await one.ask(f"begin; select id from w {clause}")
        found = await two.ask("select id from q order by id for update skip locked")
        assert found == [("3",), ("4",), ("5",)]
        await one.ask(f"select * from (select id from q where id = 3 {clause}) s; commit")

    in_world(tmp_path, test)
