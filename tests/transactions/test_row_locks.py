"""Row locks: who waits for whom, and what a statement does with a row that changed meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from worlds import World, in_world

from cluster.errors import SerializationFailure, UniqueViolation


def test_changes_of_different_rows_do_not_meet(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v int)")
        await one.ask("insert into t select i, 0 from generate_series(1, 9) i")
        await one.ask("begin; update t set v = 1 where id = 1")
        await two.ask("begin; update t set v = 2 where id = 2; delete from t where id = 3")
        await two.ask("insert into t values (10, 10)")
        await one.ask("insert into t values (11, 11)")
        await two.ask("commit")
        await one.ask("commit")
        assert await one.ask("select sum(v), count(*) from t") == [("24", "10")]

    in_world(tmp_path, test, count=2)


def test_a_change_waits_and_goes_on_from_the_newest_version(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two, three = await world.clients(3)
        await one.ask("create table t (id int primary key, v int)")
        await one.ask("insert into t values (1, 10), (2, 20), (3, 30)")
        await one.ask("begin; update t set v = v + 1")
        adding = two.later("update t set v = v + 100 where v < 25")
        removing = three.later("delete from t where id = 3 and v = 30")
        await world.waits(adding)
        await world.waits(removing)
        await one.ask("commit")
        await adding
        await removing
        assert (two.tag, three.tag) == ("UPDATE 2", "DELETE 0")
        assert await one.ask("select id, v from t order by id") == [
            ("1", "111"), ("2", "121"), ("3", "31"),
        ]  # fmt: skip

    in_world(tmp_path, test)


def test_after_a_rollback_the_waiter_goes_on_as_if_nothing_was(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v int); insert into t values (1, 10)")
        await one.ask("begin; savepoint s; update t set v = 0")
        waiting = two.later("update t set v = v + 1")
        await world.waits(waiting)
        await one.ask("rollback to s")
        await waiting
        assert await one.ask("select v from t") == [("11",)]
        await one.ask("commit")

    in_world(tmp_path, test)


def test_a_key_is_waited_for_whether_it_is_there_or_not(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two, three = await world.clients(3)
        await one.ask("create table t (id int primary key)")
        await one.ask("begin; insert into t values (1)")
        both = [two.later("insert into t values (1)"), three.later("insert into t values (1)")]
        await world.waits(both[0])
        await one.ask("rollback")
        first, second = await asyncio.gather(*both, return_exceptions=True)
        refused = second if first == [] else first
        assert isinstance(refused, UniqueViolation)
        assert refused.detail == "Key (id)=(1) already exists."
        await one.ask("begin; delete from t")
        back = two.later("insert into t values (1)")
        await world.waits(back)
        await one.ask("commit")
        await back
        assert await one.ask("select * from t") == [("1",)]

    in_world(tmp_path, test)


def test_what_a_changed_row_is_joined_with_stays_as_it_was_read(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v int); insert into t values (1, 1)")
        await one.ask("create table f (id int primary key, v int); insert into f values (1, 7)")
        await one.ask("begin; update t set v = 2; update f set v = 8")
        waiting = two.later("update t set v = t.v * 100 + f.v from f where f.id = t.id")
        await world.waits(waiting)
        await one.ask("commit")
        await waiting
        # PostgreSQL gives 207: the row in its newest version, what it is joined with as before.
        assert await two.ask("select v from t") == [("207",)]

    in_world(tmp_path, test)


def test_a_repeatable_read_does_not_overwrite(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v int)")
        await one.ask("insert into t values (1, 1), (2, 2)")
        await one.ask("begin isolation level repeatable read; select * from t")
        await two.ask("update t set v = 5 where id = 1")
        await one.ask("update t set v = 6 where id = 2")
        await one.refused("update t set v = 7 where id = 1", SerializationFailure)
        await one.ask("rollback")
        await one.ask("begin isolation level repeatable read; select * from t")
        await two.ask("delete from t where id = 1")
        await one.refused("delete from t", SerializationFailure)
        await one.ask("rollback")
        assert await two.ask("select * from t") == [("2", "2")]

    in_world(tmp_path, test)


def test_very_many_rows_lock_the_tablet(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask(
            "create table t (id int primary key, v int) partition by hash (id) partitions 1"
        )
        await one.ask("insert into t select i, 0 from generate_series(1, 30000) i")
        await one.ask("begin; update t set v = 1 where id <= 15000")
        waiting = two.later("update t set v = v + 10 where id = 20000")
        await world.waits(waiting)
        await one.ask("commit")
        await waiting
        await one.ask("begin; update t set v = v + 1 where id = 15001")
        everything = two.later("update t set v = v + 100")
        await world.waits(everything)
        await one.ask("commit")
        await everything
        assert await one.ask("select sum(v) from t") == [(str(3_000_000 + 15_000 + 10 + 1),)]

    in_world(tmp_path, test)
