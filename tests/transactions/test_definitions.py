"""Statements that define things, inside of transaction blocks (rule S1)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from worlds import World, in_world

from cluster.errors import (
    DivisionByZero,
    DuplicateColumn,
    DuplicateTable,
    FeatureNotSupported,
    InFailedSqlTransaction,
    InvalidSchemaName,
    LockNotAvailable,
    UndefinedColumn,
    UndefinedTable,
    UniqueViolation,
)

BLOCK = """
create table t (id int primary key, v int);
insert into t values (1, 10), (2, 20);
alter table t add column w int default 7;
alter table t drop column v;
alter table t rename column w to x;
insert into t values (3, 30);
create view seen as select id, x from t;
create schema s; create sequence s.numbers;
create table s.other as select id + 100 as id from t;
truncate old;
insert into old values (99);
drop table dropped
"""


TABLES = "select table_name from information_schema.tables where table_schema = 'public'"


def test_the_session_sees_its_own_definitions_and_nobody_else_does(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table old (id int); insert into old values (1), (2)")
        await one.ask("create table dropped (id int); insert into dropped values (5)")
        for end in ("rollback", "commit"):
            await one.ask("begin;" + BLOCK)
            assert await one.ask("select * from seen order by id") == [
                ("1", "7"),
                ("2", "7"),
                ("3", "30"),
            ]
            assert await one.ask("select count(*), max(id) from s.other") == [("3", "103")]
            assert await one.ask("select nextval('s.numbers')") == [("1",)]
            assert ("t",) in await one.ask(TABLES)
            assert ("t",) not in await two.ask(TABLES)
            await one.ask("savepoint here")
            await one.refused("select v from t", UndefinedColumn)
            await one.ask("rollback to here")
            for name in ("t", "seen", "s.other"):
                await two.refused(f"select * from {name}", UndefinedTable)
            assert await two.ask("select id from old order by id") == [("1",), ("2",)]
            assert await two.ask("select * from dropped") == [("5",)]
            await one.ask(end)
            if end == "rollback":
                await one.refused("select * from t", UndefinedTable)
                await one.refused("create table s.x (id int)", InvalidSchemaName)
                assert await two.ask("select id from old order by id") == [("1",), ("2",)]
                assert await two.ask("select * from dropped") == [("5",)]
                assert world.staged() == []
        assert await two.ask("select * from seen order by id") == [
            ("1", "7"),
            ("2", "7"),
            ("3", "30"),
        ]
        assert await two.ask("select id from s.other order by id") == [("101",), ("102",), ("103",)]
        assert await two.ask("select id from old") == [("99",)]
        assert await two.ask("select nextval('s.numbers') > 1") == [("t",)]
        await two.refused("select * from dropped", UndefinedTable)
        assert world.staged() == []

    in_world(tmp_path, test, count=2)


def test_a_savepoint_takes_back_definitions_behind_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key); insert into t values (1)")
        await one.ask("begin; alter table t add column a int default 1; savepoint s")
        await one.ask("alter table t add column b int default 2; create table u (id int)")
        await one.ask("insert into t values (2, 2, 2); drop view if exists nosuch")
        assert await one.ask("select * from t order by id") == [("1", "1", "2"), ("2", "2", "2")]
        await one.ask("rollback to s")
        assert await one.ask("select * from t") == [("1", "1")]
        await one.ask("insert into t values (3, 3)")
        await one.refused("alter table t add column a int", DuplicateColumn)
        await one.refused("select 1", InFailedSqlTransaction)
        await one.ask("rollback to s; insert into t values (4, 4); commit")
        assert await two.ask("select * from t order by id") == [("1", "1"), ("4", "4")]
        await two.refused("select * from u", UndefinedTable)
        assert world.staged() == []

    in_world(tmp_path, test)


def test_what_was_created_goes_with_a_rollback(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("begin; create table t (id int, v int)")
        await one.ask("insert into t values (1, 1); alter table t add primary key (id)")
        await one.ask("create view w as select id from t")
        await one.ask("create table c as select id + 1 as id from t")
        found = await one.ask("select id from w union all select id from c order by id")
        assert found == [("1",), ("2",)]
        await one.refused("insert into t values (1, 2)", UniqueViolation)
        await one.ask("rollback")
        for name in ("t", "w", "c"):
            await two.refused(f"select * from {name}", UndefinedTable)
        await one.ask("begin; create table u (id int)")
        await one.refused("select 1/0", DivisionByZero)
        await one.ask("commit")
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


def test_two_who_define_one_thing_do_not_both(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("begin; create table t (id int); insert into t values (1)")
        await two.ask("begin; create table t (n text); insert into t values ('two')")
        await one.ask("commit")
        await two.refused("commit", DuplicateTable)
        assert await two.ask("select * from t") == [("1",)]
        assert world.staged() == []

    in_world(tmp_path, test)


def test_writers_are_waited_for_no_longer_than_lock_timeout(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v int)")
        await one.ask("begin; insert into t values (1, 1)")
        await two.ask("set lock_timeout = '50ms'")
        for statement in (
            "alter table t add column w int",
            "alter table t rename to u",
            "alter table t alter v set default 3",
            "drop table t",
        ):
            await two.refused(statement, LockNotAvailable)
        await two.ask("set lock_timeout = 0")
        dropping = two.later("drop table t")
        await world.waits(dropping)
        await one.ask("commit")
        await dropping
        await one.refused("select * from t", UndefinedTable)

    in_world(tmp_path, test)


def test_one_message_is_one_transaction(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        await one.refused(
            "create table t (id int); insert into t values (1); alter table t add column v int;"
            " insert into t values (2, 2); select 1/0",
            DivisionByZero,
        )
        await one.refused("select * from t", UndefinedTable)
        await one.ask("create table t (id int); insert into t values (1); alter table t add v int")
        assert await one.ask("select id, v from t") == [("1", None)]

    in_world(tmp_path, test)


def test_moves_of_replicas_are_refused_in_a_block(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        await one.ask("create table t (id int primary key); begin")
        error = await one.refused("alter table t set (replicas = 1)", FeatureNotSupported)
        assert error.hint == "Run it outside of a transaction block, as a statement of its own."

    in_world(tmp_path, test)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_kept_snapshot_goes_with_definitions(tmp_path: Path, level: str) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v int); insert into t values (1, 1)")
        await one.ask(f"begin isolation level {level}; select count(*) from t")
        await one.ask("alter table t add column w int default 5; insert into t values (2, 2, 2)")
        assert await one.ask("select * from t order by id") == [("1", "1", "5"), ("2", "2", "2")]
        await one.ask("commit")
        assert await two.ask("select * from t order by id") == [("1", "1", "5"), ("2", "2", "2")]

    in_world(tmp_path, test)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_kept_snapshot_forgets_definitions_that_are_taken_back(
    tmp_path: Path, level: str
) -> None:
    """Its statements had gone on with the tables that there are no more: reading nothing, and
    writing where nobody looks."""

    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v int); insert into t values (1, 1)")
        await one.ask(f"begin isolation level {level}; select count(*) from t; savepoint a")
        await one.ask("alter table t add column z int default 3; create table n (id int)")
        assert await one.ask("select z from t") == [("3",)]
        await one.ask("rollback to a")
        assert await one.ask("select * from t where v > 0") == [("1", "1")]
        await one.ask("insert into t values (9, 9); savepoint b")
        await one.refused("select * from n", UndefinedTable)
        await one.ask("rollback to b; commit")
        assert await two.ask("select * from t order by id") == [("1", "1"), ("9", "9")]

    in_world(tmp_path, test)


def test_numbers_begin_again_with_the_transaction(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table old (id serial, v int); insert into old (v) values (1), (2)")
        await one.ask("begin; create table t (id serial primary key, v int)")
        await one.ask("insert into t (v) values (7), (8); analyze t")
        await one.ask("truncate t, old restart identity; rollback")
        await two.ask("insert into old (v) values (3)")
        assert await one.ask("select id from old order by id") == [("1",), ("2",), ("3",)]
        await one.ask("begin; truncate old restart identity; commit")
        await two.ask("insert into old (v) values (4)")
        assert await one.ask("select * from old") == [("1", "4")]

    in_world(tmp_path, test)


def test_who_makes_what_another_makes_finds_it_or_is_told(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        clients = await world.clients(3)
        made = "create table if not exists m as select 1 as x"
        await asyncio.gather(*(client.ask(made) for client in clients))
        assert [client.tag for client in clients].count("SELECT 1") == 1
        assert await clients[0].ask("select * from m") == [("1",)]
        one, two, _ = clients
        await one.ask("begin; create table t (id int); insert into t values (1)")
        await two.ask("begin; create table t (id int); insert into t values (2)")
        await one.ask("commit")
        await two.refused("commit", DuplicateTable)
        assert (two.status, await two.ask("select * from t")) == ("I", [("1",)])

    in_world(tmp_path, test, count=2)
