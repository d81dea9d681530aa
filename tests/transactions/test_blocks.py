"""Transactions over several statements, as one client sees them and as others do."""

from __future__ import annotations

from pathlib import Path

from worlds import World, in_world

from cluster.errors import (
    DivisionByZero,
    InFailedSqlTransaction,
    InvalidSavepointSpecification,
    ProgramLimitExceeded,
    SerializationFailure,
    UniqueViolation,
)


def test_a_block_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask(
            "create table t (id int primary key, v int) partition by hash (id) partitions 4"
        )
        await one.ask("begin")
        for i in range(6):
            await one.ask(f"insert into t values ({i}, {i * 10})")
        assert await one.ask("select count(*), sum(v) from t") == [("6", "150")]
        assert await two.ask("select count(*) from t") == [("0",)]
        await one.ask("update t set v = v + 1 where id < 3")
        await one.ask("delete from t where id = 5")
        assert await one.ask("select id, v from t order by id") == [
            ("0", "1"), ("1", "11"), ("2", "21"), ("3", "30"), ("4", "40"),
        ]  # fmt: skip
        assert await two.ask("select count(*) from t") == [("0",)]
        await one.ask("commit")
        assert (one.tag, one.status) == ("COMMIT", "I")
        assert await two.ask("select count(*), sum(v) from t") == [("5", "103")]
        await one.ask("begin; delete from t")
        assert await one.ask("select count(*) from t") == [("0",)]
        await one.ask("rollback")
        assert await one.ask("select count(*) from t") == [("5",)]

    in_world(tmp_path, test, count=2)


def test_savepoints_undo_and_a_failed_block_holds_nothing(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v text)")
        await one.ask("begin; insert into t values (1, 'a')")
        assert one.status == "T"
        await one.ask("savepoint s")
        await one.ask("insert into t values (2, 'b'); update t set v = 'A'")
        await one.ask("savepoint s2")
        await one.ask("delete from t")
        await one.ask("rollback to s2")
        assert await one.ask("select * from t order by id") == [("1", "A"), ("2", "A")]
        await one.ask("rollback to s")
        assert await one.ask("select * from t order by id") == [("1", "a")]
        await one.refused("insert into t values (1, 'again')", UniqueViolation)
        await one.refused("select 1", InFailedSqlTransaction)
        await one.ask("rollback to s")
        await one.refused("rollback to s2", InvalidSavepointSpecification)
        await one.ask("rollback to s")
        await one.ask("insert into t values (3, 'c'); release s; commit")
        assert await two.ask("select * from t order by id") == [("1", "a"), ("3", "c")]
        await one.ask("begin; update t set v = 'x'")
        await one.refused("select 1/0", DivisionByZero)
        await two.ask("update t set v = 'y'")  # does not wait for the ROLLBACK
        await one.ask("commit")
        assert one.tag == "ROLLBACK"
        assert await one.ask("select * from t order by id") == [("1", "y"), ("3", "y")]

    in_world(tmp_path, test)


def test_statements_of_one_message_are_one_transaction(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        await one.ask("create table t (id int primary key)")
        await one.refused("insert into t values (1); insert into t values (1)", UniqueViolation)
        assert await one.ask("select count(*) from t") == [("0",)]
        await one.ask("insert into t values (1); insert into t values (2); select 1")
        assert await one.ask("select count(*) from t") == [("2",)]
        await one.refused(
            "insert into t values (3); commit; insert into t values (4); select 1/0",
            DivisionByZero,
        )
        assert one.notices == ["WARNING: there is no transaction in progress"]
        assert await one.ask("select id from t order by id") == [("1",), ("2",), ("3",)]
        assert await one.ask("insert into t values (7); begin; select count(*) from t") == [("4",)]
        assert one.status == "T"
        await one.ask("rollback")
        assert await one.ask("select count(*) from t") == [("3",)]

    in_world(tmp_path, test)


def test_snapshots_of_the_levels(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v int); insert into t values (1, 1)")
        await one.ask("begin isolation level repeatable read")
        assert await one.ask("select v from t") == [("1",)]
        await two.ask("update t set v = 2")
        assert await one.ask("select v from t") == [("1",)]
        error = await one.refused("update t set v = v + 10", SerializationFailure)
        assert error.message == "could not serialize access due to concurrent update"
        await one.ask("rollback")
        await one.ask("begin")
        assert await one.ask("select v from t") == [("2",)]
        await two.ask("update t set v = 3")
        assert await one.ask("select v from t") == [("3",)]
        await one.ask("update t set v = v + 10")
        await one.ask("commit and chain")
        assert one.status == "T"
        await one.ask("rollback")
        assert await two.ask("select v from t") == [("13",)]
        await one.ask("begin isolation level repeatable read; select 1; commit and chain")
        assert await one.ask("show transaction_isolation") == [("repeatable read",)]
        await one.ask("commit")

    in_world(tmp_path, test)


def test_a_transaction_that_grows_too_large_is_refused(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        await one.ask("create table t (id int primary key, v text)")
        await one.ask("set dqe.max_transaction_bytes = '64kB'")
        large = "insert into t select i, repeat('x', 1000) from generate_series(1, 100) i"
        error = await one.refused(large, ProgramLimitExceeded)
        assert error.hint == "Change less at once, or raise dqe.max_transaction_bytes."
        await one.ask("begin")
        for i in range(6):
            await one.ask(f"insert into t select {i}, repeat('x', 10000)")
        await one.refused("insert into t select 9, repeat('x', 10000)", ProgramLimitExceeded)
        await one.ask("rollback")
        await one.ask("reset dqe.max_transaction_bytes")
        await one.ask(large)
        assert await one.ask("select count(*) from t") == [("100",)]

    in_world(tmp_path, test)
