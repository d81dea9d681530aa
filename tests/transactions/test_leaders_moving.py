"""Open transactions while the tablets they hold change their leaders (rule C9)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import DqeError, RowMoved, SerializationFailure
from cluster.raft.group import RaftGroup


async def three(world: World, method: str = "columnar") -> Client:
    """A client of three nodes, with a table of one tablet that has a replica on each."""
    one = await world.client(0)
    catalog = world.nodes[0].parts.catalog
    while len(catalog.group.configuration.voters) < 3:
        await asyncio.sleep(0.05)
    await one.ask(
        f"create table t (id int primary key, v int) using {method}"
        " partition by hash (id) partitions 1 with (replicas = 3)"
    )
    await one.ask("insert into t values (1, 10), (2, 20), (3, 30)")
    return one


def groups_of(world: World, table: str) -> list[list[RaftGroup]]:
    """For each tablet of the table its group on each node."""
    catalog = world.nodes[0].parts.catalog.current
    (found,) = (t for t in catalog.tables.values() if t.name == table)
    tablets = dict.fromkeys(f.tablet_id for part in found.parts for f in part.fragments)
    groups = [[node.parts.tablets.group(t) for node in world.nodes] for t in tablets]
    return [[group for group in each if group is not None] for each in groups]


async def move_leader(world: World, table: str = "t") -> None:
    """Every tablet of the table gets another leader."""
    for groups in groups_of(world, table):
        leader = next(group for group in groups if group.is_leader)
        others = [g for g in groups if g is not leader]
        target = others[len(groups) % len(others)]
        for _ in range(40):
            try:
                node_id = next(n for n in leader.configuration.voters if n != leader.leader_id)
                await leader.transfer_leadership(node_id, deadline_s=5.0)
                break
            except DqeError:
                await asyncio.sleep(0.1)
        while not any(g.is_leader for g in groups if g is not leader):
            await asyncio.sleep(0.02)
        assert target is not leader


@pytest.mark.parametrize("method", ["columnar", "hybrid"])
@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_transaction_goes_on_at_the_new_leader(tmp_path: Path, level: str, method: str) -> None:
    """By the rows of stages, and by rows that leaders change themselves."""

    async def test(world: World) -> None:
        one = await three(world, method)
        await one.ask(f"begin isolation level {level}")
        await one.ask("update t set v = v + 1 where id = 1")
        await one.ask("savepoint a")
        await one.ask("insert into t values (4, 40)")
        await move_leader(world)
        assert await one.ask("select sum(v) from t") == [("101",)]
        await one.ask("rollback to a")
        await move_leader(world)
        await one.ask("update t set v = v + 1 where id = 2")
        await one.ask("delete from t where id = 3")
        await move_leader(world)
        await one.ask("commit")
        assert await one.ask("select id, v from t order by id") == [("1", "11"), ("2", "21")]

    in_world(tmp_path, test, 3)


def test_rows_of_every_part_come_along(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one = await three(world)
        await one.ask(
            "create table u (id int primary key, v int) partition by hash (id) partitions 3"
            " using hybrid with (replicas = 3)"
        )
        await one.ask("begin")
        for number in range(8):
            await one.ask(f"insert into u values ({number}, 1)")
        await move_leader(world, "u")
        await one.ask("update u set v = 2 where id = 5")
        await one.ask("commit")
        assert await one.ask("select count(*), sum(v) from u") == [("8", "9")]

    in_world(tmp_path, test, 3)


@pytest.mark.parametrize(
    ("method", "statement"),
    [
        ("columnar", "update t set v = v where id = 1"),
        ("hybrid", "select v from t where id = 1 for update"),
    ],
)
def test_its_locks_come_along(tmp_path: Path, method: str, statement: str) -> None:
    async def test(world: World) -> None:
        one = await three(world, method)
        two = await world.client(1)
        await one.ask("begin")
        await one.ask(statement)
        await move_leader(world)
        # The first word at the new leader brings the lock.
        await one.ask("update t set v = 0 where id = 2")
        waiting = two.later("update t set v = v + 1 where id = 1")
        await world.waits(waiting)
        await one.ask("commit")
        await waiting
        assert await one.ask("select v from t where id = 1") == [("11",)]

    in_world(tmp_path, test, 3)


def test_a_row_changed_in_the_gap_ends_it(tmp_path: Path) -> None:
    """The leader moves; before the transaction's next word another changes its row."""

    async def test(world: World) -> None:
        one = await three(world)
        two = await world.client(1)
        await one.ask("begin")
        await one.ask("update t set v = v + 1 where id = 1")
        await one.ask("insert into t values (7, 70)")
        await move_leader(world)
        await two.ask("update t set v = v + 100 where id = 1")
        await one.refused("update t set v = v + 1 where id = 1; commit", SerializationFailure)
        await one.ask("rollback")
        assert await one.ask("select v from t where id = 1") == [("110",)]

    in_world(tmp_path, test, 3)


def test_a_key_taken_in_the_gap_ends_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one = await three(world)
        two = await world.client(1)
        await one.ask("begin")
        await one.ask("insert into t values (7, 70)")
        await move_leader(world)
        await two.ask("insert into t values (7, 71)")
        await one.refused("commit", SerializationFailure)
        assert await one.ask("select v from t where id = 7") == [("71",)]

    in_world(tmp_path, test, 3)


def test_a_whole_tablet_that_was_locked_may_not_have_changed(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one = await three(world)
        two = await world.client(1)
        await one.ask("begin; lock table t in exclusive mode; update t set v = 0 where id = 1")
        await move_leader(world)
        assert await one.ask("select v from t where id = 1") == [("0",)]
        await one.ask("commit")
        await one.ask("begin; lock table t in exclusive mode; update t set v = 1 where id = 1")
        await move_leader(world)
        await two.ask("insert into t values (8, 80)")
        await one.refused("commit", SerializationFailure)

    in_world(tmp_path, test, 3)


def test_a_row_of_its_own_is_not_taken_for_changed(tmp_path: Path) -> None:
    """It is locked, and not there yet; others commit other rows before the leader moves."""

    async def test(world: World) -> None:
        one = await three(world)
        two = await world.client(1)
        await one.ask("begin; insert into t select i, 0 from generate_series(5, 6) s(i)")
        await one.ask("update t set v = v + 1 where id + 0 > 4")
        await two.ask("update t set v = v + 1 where id = 3")
        await move_leader(world)
        await one.ask("update t set v = v + 1 where id + 0 > 4; commit")
        rows = await one.ask("select id, v from t where id > 2 order by id")
        assert rows == [("3", "31"), ("5", "2"), ("6", "2")]

    in_world(tmp_path, test, 3)


def test_who_waits_for_a_lock_waits_on_at_the_new_leader(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one = await three(world)
        two = await world.client(1)
        await one.ask("begin; update t set v = v + 1 where id = 1")
        await two.ask("begin; update t set v = v + 1 where id = 2")
        waiting = two.later("update t set v = v + 1 where id = 1")
        await world.waits(waiting)
        await move_leader(world)
        await one.ask("update t set v = v + 1 where id = 3")
        await world.waits(waiting)
        await one.ask("commit")
        await waiting
        await two.ask("commit")
        rows = await one.ask("select v from t order by id")
        assert rows == [("12",), ("21",), ("31",)]

    in_world(tmp_path, test, 3)


@pytest.mark.parametrize("statement", ["update p set v = 0 where v + 0 = 10", "delete from p"])
def test_who_waits_for_a_row_that_moves_is_told_by_the_new_leader(
    tmp_path: Path, statement: str
) -> None:
    async def test(world: World) -> None:
        one = await three(world)
        two = await world.client(1)
        await one.ask(
            "create table p (id int primary key, v int) partition by range (id)"
            " (partition low values from (0) to (100), partition high values from (100) to (200))"
            " with (replicas = 3)"
        )
        await one.ask("insert into p values (1, 10), (2, 20)")
        await one.ask("begin; update p set id = 101 where id = 1")
        waiting = two.later(statement)
        await world.waits(waiting)
        await move_leader(world, "p")
        await one.ask("commit")
        with pytest.raises(RowMoved):
            await waiting
        assert await two.ask("select * from p order by id") == [("2", "20"), ("101", "10")]

    in_world(tmp_path, test, 3)


def test_over_two_tablets(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one = await three(world)
        await one.ask(
            "create table u (id int primary key, v int) partition by hash (id) partitions 2"
            " with (replicas = 3)"
        )
        await one.ask("insert into u select i, 0 from generate_series(1, 20) s(i)")
        await one.ask("begin; update u set v = v + 1; update t set v = v + 1")
        await move_leader(world, "u")
        await move_leader(world, "t")
        await one.ask("commit")
        assert await one.ask("select sum(v), count(*) from u") == [("20", "20")]
        assert await one.ask("select sum(v) from t") == [("63",)]

    in_world(tmp_path, test, 3)
