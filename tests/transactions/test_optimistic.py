"""`dqe.concurrency_control = 'optimistic'`: nobody waits, and the first to commit wins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import SerializationFailure, UniqueViolation
from cluster.probes import Probe, counting

LEVELS = ["read committed", "repeatable read", "serializable"]
Scenario = Callable[[Client, Client, Client], Awaitable[None]]


def play(directory: Path, scenario: Scenario) -> None:
    """Two optimistic clients and one that looks on, with two rows on two tablets."""

    async def test(world: World) -> None:
        one, two, looker = await world.clients(3)
        await looker.ask(
            "create table t (id int primary key, v int) partition by hash (id) partitions 4;"
            " insert into t values (1, 10), (2, 20)"
        )
        for client in (one, two):
            await client.ask("set dqe.concurrency_control = 'optimistic'")
        await scenario(one, two, looker)

    in_world(directory, test)


async def both_begin(one: Client, two: Client, level: str) -> None:
    for client in (one, two):
        await client.ask(f"begin isolation level {level}")


@pytest.mark.parametrize("level", LEVELS)
def test_nobody_waits_and_a_lost_update_is_refused(tmp_path: Path, level: str) -> None:
    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await both_begin(one, two, level)
        for client in (one, two):
            await client.ask("update t set v = v + 1 where id = 1")
        assert await one.ask("select v from t where id = 1") == [("11",)]
        await one.ask("commit")
        await two.refused("commit", SerializationFailure)
        assert await looker.ask("select v from t where id = 1") == [("11",)]

    play(tmp_path, scenario)


@pytest.mark.parametrize("level", LEVELS)
def test_no_dirty_writes_over_two_rows(tmp_path: Path, level: str) -> None:
    """Hermitage's G0."""

    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await both_begin(one, two, level)
        await one.ask("update t set v = 11 where id = 1")
        await two.ask("update t set v = 12 where id = 1")
        await one.ask("update t set v = 21 where id = 2")
        await two.ask("update t set v = 22 where id = 2")
        await one.ask("commit")
        assert await looker.ask("select v from t order by id") == [("11",), ("21",)]
        await two.refused("commit", SerializationFailure)
        assert await looker.ask("select v from t order by id") == [("11",), ("21",)]

    play(tmp_path, scenario)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_rolled_back_was_never_seen(tmp_path: Path, level: str) -> None:
    """Hermitage's G1a and G1b."""

    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await both_begin(one, two, level)
        await one.ask("update t set v = 101 where id = 1")
        assert await two.ask("select v from t order by id") == [("10",), ("20",)]
        await one.ask("rollback")
        assert await two.ask("select v from t order by id") == [("10",), ("20",)]
        await two.ask("update t set v = v + 1; commit")
        assert await looker.ask("select v from t order by id") == [("11",), ("21",)]

    play(tmp_path, scenario)


def test_read_committed_sees_what_was_committed_between_statements(tmp_path: Path) -> None:
    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await both_begin(one, two, "read committed")
        assert await one.ask("select v from t where id = 1") == [("10",)]
        await two.ask("update t set v = 15 where id = 1; commit")
        assert await one.ask("select v from t where id = 1") == [("15",)]
        await one.ask("update t set v = v + 1 where id = 1; commit")
        assert await looker.ask("select v from t where id = 1") == [("16",)]

    play(tmp_path, scenario)


def test_repeatable_read_keeps_its_snapshot_and_the_first_to_commit_wins(tmp_path: Path) -> None:
    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await both_begin(one, two, "repeatable read")
        assert await one.ask("select v from t where id = 1") == [("10",)]
        await two.ask("update t set v = 15 where id = 1; commit")
        assert await one.ask("select v from t where id = 1") == [("10",)]
        await one.ask("update t set v = v + 1 where id = 2")
        await one.ask("commit")
        await both_begin(one, two, "repeatable read")
        await one.ask("select 1 from t")
        await two.ask("delete from t where id = 1; commit")
        await one.refused("update t set v = 0 where id = 1; commit", SerializationFailure)
        await one.ask("rollback")

    play(tmp_path, scenario)


@pytest.mark.parametrize(("level", "skews"), list(zip(LEVELS, [True, True, False], strict=True)))
def test_write_skew(tmp_path: Path, level: str, skews: bool) -> None:
    """Hermitage's G2-item: only SERIALIZABLE prevents it."""

    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await both_begin(one, two, level)
        for client in (one, two):
            assert await client.ask("select sum(v) from t") == [("30",)]
        await one.ask("update t set v = v - 20 where id = 1; commit")
        await two.ask("update t set v = v - 20 where id = 2")
        if skews:
            await two.ask("commit")
        else:
            await two.refused("commit", SerializationFailure)

    play(tmp_path, scenario)


def test_rows_for_update_are_validated_with_what_is_changed(tmp_path: Path) -> None:
    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await both_begin(one, two, "read committed")
        for client in (one, two):
            await client.ask("select v from t where id = 1 for update")
        await one.ask("update t set v = v - 1 where id = 1; commit")
        await two.ask("update t set v = v - 1 where id = 2")
        await two.refused("commit", SerializationFailure)

    play(tmp_path, scenario)


def test_new_keys(tmp_path: Path) -> None:
    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await one.refused("insert into t values (1, 0)", UniqueViolation)
        await both_begin(one, two, "read committed")
        for client in (one, two):
            await client.ask("insert into t values (3, 30)")
            await client.ask("update t set v = v + 1 where id = 3")
        await one.ask("commit")
        await two.refused("commit", SerializationFailure)
        assert await looker.ask("select v from t where id = 3") == [("31",)]

    play(tmp_path, scenario)


def test_savepoints_take_back_what_was_to_be_validated(tmp_path: Path) -> None:
    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await one.ask("begin; savepoint a; update t set v = 0 where id = 1; rollback to a")
        await two.ask("update t set v = 11 where id = 1")
        await one.ask("update t set v = 21 where id = 2; commit")
        assert await looker.ask("select v from t order by id") == [("11",), ("21",)]

    play(tmp_path, scenario)


def test_a_statement_alone_runs_again_until_it_fits(tmp_path: Path) -> None:
    async def scenario(one: Client, two: Client, looker: Client) -> None:
        both = [c.later("update t set v = v + 1") for c in (one, two) for _ in range(1)]
        for task in both:
            await task
        assert await looker.ask("select v from t order by id") == [("12",), ("22",)]

    with counting() as probes:
        play(tmp_path, scenario)
    assert probes[Probe.OPTIMISTIC_VALIDATED] >= 2


def test_who_locks_is_waited_for_only_at_the_end(tmp_path: Path) -> None:
    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await looker.ask("begin; update t set v = 0 where id = 1")
        await one.ask("begin; update t set v = 5 where id = 1")
        commit = one.later("commit")
        await looker.ask("rollback")
        await commit
        assert await looker.ask("select v from t where id = 1") == [("5",)]

    play(tmp_path, scenario)


@pytest.mark.parametrize("level", LEVELS)
def test_a_merge_loses_no_update(tmp_path: Path, level: str) -> None:
    async def scenario(one: Client, two: Client, looker: Client) -> None:
        await both_begin(one, two, level)
        for client in (one, two):
            await client.ask(
                "merge into t using (values (1), (3)) s(id) on t.id = s.id"
                " when matched then update set v = t.v + 1"
            )
        await one.ask("commit")
        await two.refused("commit", SerializationFailure)
        assert await looker.ask("select v from t where id = 1") == [("11",)]
        await both_begin(one, two, level)
        locked = await one.ask("select a.v from t a join t b using (id) where id = 2 for update")
        assert locked == [("20",)]
        await two.ask("update t set v = 0 where id = 2; commit")
        await one.ask("update t set v = 5 where id = 1")
        await one.refused("commit", SerializationFailure)

    play(tmp_path, scenario)
