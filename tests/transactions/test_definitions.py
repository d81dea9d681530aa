"""Statements that define things, inside of transaction blocks."""

from __future__ import annotations

from pathlib import Path

from worlds import World, in_world

from cluster.errors import (
    DivisionByZero,
    FeatureNotSupported,
    ObjectInUse,
    UndefinedTable,
    UniqueViolation,
)


def test_what_was_created_goes_with_a_rollback(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("begin; create table t (id int, v int)")
        await one.ask("alter table t add primary key (id)")
        await one.ask("insert into t values (1, 1); create view w as select id from t")
        await one.ask("create table c as select id + 1 as id from t")
        found = await one.ask("select id from w union all select id from c order by id")
        assert found == [("1",), ("2",)]
        assert await two.ask("select count(*) from c") == [("0",)]
        error = await one.refused("alter table t add column x int", ObjectInUse)
        assert error.hint is not None
        await one.ask("rollback")
        for name in ("t", "w", "c"):
            await two.refused(f"select * from {name}", UndefinedTable)
        await one.ask("begin; create table t (id int primary key); savepoint s")
        await one.ask("create table u (id int); rollback to s; insert into t values (1); commit")
        assert await two.ask("select * from t") == [("1",)]
        await two.refused("select * from u", UndefinedTable)
        await one.ask("begin; create table u (id int)")
        await one.refused("insert into t values (1)", UniqueViolation)
        await one.ask("rollback")
        await two.refused("select * from u", UndefinedTable)

    in_world(tmp_path, test, count=2)


def test_what_was_dropped_comes_back(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key); insert into t values (1), (2)")
        await one.ask("begin; drop table if exists t, nosuch; create table t (n text)")
        await one.ask("insert into t values ('new')")
        assert await one.ask("select * from t") == [("new",)]
        await one.ask("rollback")
        assert await two.ask("select count(*) from t") == [("2",)]
        await one.ask("begin; truncate t; drop table t; create table t (n text)")
        await one.ask("insert into t values ('new'); commit")
        assert await two.ask("select * from t") == [("new",)]
        names = await two.ask(
            "select table_name from information_schema.tables where table_schema = 'public'"
        )
        assert names == [("t",)]

    in_world(tmp_path, test)


def test_what_could_not_be_undone_is_refused(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        await one.ask("create table t (id int primary key); create schema s")
        for wrong in (
            "alter table t add column v int",
            "alter table t rename to u",
            "drop schema s",
        ):
            await one.ask("begin")
            error = await one.refused(wrong, FeatureNotSupported)
            assert error.hint == "Run it outside of a transaction block."
            await one.ask("rollback")

    in_world(tmp_path, test)


def test_in_one_message_a_definition_commits_what_was_before(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        await one.refused(
            "create table t (id int); insert into t values (1); alter table t add column v int;"
            " insert into t values (2, 2); select 1/0",
            DivisionByZero,
        )
        assert await one.ask("select id, v from t") == [("1", None)]

    in_world(tmp_path, test)
