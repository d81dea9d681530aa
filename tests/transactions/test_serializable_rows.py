"""SERIALIZABLE transactions that read by key: only what they looked up counts (rule I4)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import SerializationFailure
from executor.transaction_reads import Reads
from storage.tablet_validation import TabletValidation


async def made(world: World) -> tuple[Client, Client, Client]:
    """Two clients within SERIALIZABLE transactions, and one that looks on; one tablet."""
    one, two, looker = await world.clients(3)
    await looker.ask(
        "create table t (id int primary key, v int) using row partition by hash (id) partitions 1"
    )
    await looker.ask("insert into t select i, 10 from generate_series(1, 10) s(i)")
    for client in (one, two):
        await client.ask("begin isolation level serializable")
    return one, two, looker


def test_rows_that_nobody_else_touches_are_no_conflict(tmp_path: Path) -> None:
    """All in one fragment; they commit while both are open, in either order."""

    async def test(world: World) -> None:
        one, two, looker = await made(world)
        for client, mine, other in ((one, 1, 2), (two, 3, 4)):
            assert await client.ask(f"select v from t where id = {mine}") == [("10",)]
            assert await client.ask(f"select v from t where id = {other}") == [("10",)]
            assert await client.ask(f"select v from t where id = {mine + 100}") == []
            await client.ask(f"update t set v = v + 1 where id = {mine}")
        await two.ask("commit")
        await one.ask("commit")
        assert await looker.ask("select sum(v) from t") == [("102",)]

    in_world(tmp_path, test)


def test_at_the_same_moment_they_do_not_meet_either(tmp_path: Path) -> None:
    """Both are marked when they validate: neither waits for the other or gives way."""

    async def test(world: World) -> None:
        one, two, looker = await made(world)
        for _ in range(10):
            for client, mine in ((one, 1), (two, 3)):
                await client.ask(f"select v from t where id = {mine + 1}")
                await client.ask(f"update t set v = v + 1 where id = {mine}")
            commits = [client.later("commit") for client in (one, two)]
            for commit in commits:
                await commit
            for client in (one, two):
                await client.ask("begin isolation level serializable")
        assert await looker.ask("select sum(v) from t") == [("120",)]

    in_world(tmp_path, test)


@pytest.mark.parametrize("absent", [False, True], ids=["rows", "absent keys"])
def test_write_skew_by_key(tmp_path: Path, absent: bool) -> None:
    """Each looks up the row that the other changes, or makes."""

    async def test(world: World) -> None:
        one, two, _ = await made(world)
        keys = (21, 22) if absent else (1, 2)
        for client in (one, two):
            for key in keys:
                await client.ask(f"select v from t where id = {key}")
        for client, key in zip((one, two), keys, strict=True):
            change = (
                f"insert into t values ({key}, 0)"
                if absent
                else (f"update t set v = 0 where id = {key}")
            )
            await client.ask(change)
        await one.ask("commit")
        await two.refused("commit", SerializationFailure)

    in_world(tmp_path, test)


def test_write_skew_by_key_at_the_same_moment(tmp_path: Path) -> None:
    """Both are marked when they validate: at most one goes on, whoever is asked first."""

    async def test(world: World) -> None:
        one, two, looker = await made(world)
        for _ in range(15):
            for client, mine, other in ((one, 1, 2), (two, 2, 1)):
                await client.ask(f"select v from t where id = {other}")
                await client.ask(f"update t set v = v + 1 where id = {mine}")
            commits = [client.later("commit") for client in (one, two)]
            found = await asyncio.gather(*commits, return_exceptions=True)
            assert any(isinstance(answer, SerializationFailure) for answer in found)
            for client in (one, two):
                await client.ask("begin isolation level serializable")
        await looker.ask("select 1")

    in_world(tmp_path, test)


@pytest.mark.parametrize("read", ["count(*) from t", "count(*) from t where v % 10 = 7"])
def test_a_scan_counts_as_a_whole(tmp_path: Path, read: str) -> None:
    async def test(world: World) -> None:
        one, two, _ = await made(world)
        await one.ask("select v from t where id = 1")
        await one.ask(f"select {read}")
        await two.ask("update t set v = 11 where id = 5; commit")
        await one.ask("update t set v = 0 where id = 2")
        await one.refused("commit", SerializationFailure)

    in_world(tmp_path, test)


def test_a_key_that_was_deleted_and_one_that_was_made_again(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two, looker = await made(world)
        await one.ask("select v from t where id = 1")
        await two.ask("delete from t where id = 1; commit")
        await one.ask("update t set v = 0 where id = 2")
        await one.refused("commit", SerializationFailure)
        await one.ask("begin isolation level serializable; select v from t where id = 3")
        await looker.ask("delete from t where id = 4; insert into t values (4, 0)")
        await one.ask("update t set v = 0 where id = 2; commit")

    in_world(tmp_path, test)


def test_a_table_that_was_defined_anew_meanwhile(tmp_path: Path) -> None:
    """Its rows lie in other fragments then; nobody would see there what comes to the new ones."""

    async def test(world: World) -> None:
        one, two, looker = await made(world)
        await looker.ask("create table u (id int primary key, v int) using row")
        await one.ask("select count(*) from t")
        await two.ask("rollback; alter table t alter column v type bigint")
        await looker.ask("insert into t values (77, 10)")
        await one.ask("insert into u values (1, 10)")
        await one.refused("commit", SerializationFailure)

    in_world(tmp_path, test)


@pytest.mark.parametrize("planted", [False, True], ids=["kept", "planted"])
def test_a_part_that_was_added_meanwhile(
    tmp_path: Path, planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are at no tablet that was read. Whoever is making it counts, too."""
    if planted:
        monkeypatch.setattr(Reads, "has_other_parts", lambda *_: False)
        monkeypatch.setattr(TabletValidation, "_defined_by_others", lambda *_: False)
    another = "create table q partition of p for values in (2); insert into p values (2, 0)"

    async def test(world: World) -> None:
        one, two, _ = await made(world)
        await one.ask(f"rollback; create table u (id int primary key); {PARTED}")
        await two.ask("rollback")
        for place, read in enumerate(("count(*) from p", "1 from p where k = 2")):
            await one.ask(f"begin isolation level serializable; select {read}")
            await two.ask(another)
            await one.ask(f"insert into u values ({place})")
            await commits(one, planted)
            await two.ask("drop table q")
        await one.ask("begin isolation level serializable; select count(*) from p")
        await two.ask(f"begin; {another}")
        await one.ask("insert into u values (2)")
        await commits(one, planted)
        await two.ask("rollback")
        # Other tables' parts are nothing to it.
        await one.ask("begin isolation level serializable; select count(*) from t")
        await two.ask(another)
        await one.ask("insert into u values (3); commit")

    in_world(tmp_path, test)


PARTED = (
    "create table p (k int, v int) using row partition by list (k);"
    "create table q1 partition of p for values in (1)"
)


async def commits(client: Client, expected: bool) -> None:
    if expected:
        await client.ask("commit")
        return
    await client.refused("commit", SerializationFailure)
    await client.ask("rollback")
