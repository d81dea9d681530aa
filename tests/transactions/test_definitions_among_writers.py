"""Definitions while others write: no row is lost, none has the shape of before (rule S1)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from worlds import Client, World, in_world

from catalog.commands import Command
from cluster.errors import (
    CheckViolation,
    DeadlockDetected,
    NotNullViolation,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    UndefinedColumn,
    UndefinedTable,
)
from executor.definitions import TransactionDefinitions

WRITERS = 4
ROUNDS = 5

# What a writer may be told when the table changes under it; all else is a mistake.
RETRYABLE = (SerializationFailure, ObjectNotInPrerequisiteState, DeadlockDetected)


class Writers:
    """Insert rows of their own until they are told to stop; `written` are those that they were
    told of."""

    def __init__(self, clients: list[Client], blocks: bool) -> None:
        self._clients = clients
        self._blocks = blocks
        self.written: set[int] = set()
        self.stopped = False

    async def run(self) -> None:
        writing = (self._write(i, c) for i, c in enumerate(self._clients))
        for error in await asyncio.gather(*writing, return_exceptions=True):
            if error is not None:
                raise error

    async def _write(self, number: int, client: Client) -> None:
        for row in itertools.count(number * 100_000):
            while not await self._insert(client, row):
                pass
            self.written.add(row)
            if self.stopped:
                return

    async def _insert(self, client: Client, row: int) -> bool:
        try:
            if not self._blocks:
                await client.ask(f"insert into t (id, v) values ({row}, {row})")
                return True
            await client.ask("begin")
            await client.ask(f"insert into t (id, v) values ({row}, {row})")
            await client.ask(f"update t set v = v + 1 where id = {row}")
            await client.ask("commit")
            return True
        except RETRYABLE:
            if client.status != "I":
                await client.ask("rollback")
            return False


@pytest.mark.parametrize("store", ["columnar", "hybrid"])
@pytest.mark.parametrize("blocks", [False, True])
def test_no_row_is_lost_while_columns_come_and_go(tmp_path: Path, blocks: bool, store: str) -> None:
    async def test(world: World) -> None:
        clients = await world.clients(WRITERS + 1)
        definer = clients.pop()
        await definer.ask(f"create table t (id int primary key, v int) using {store}")
        writers = Writers(clients, blocks)
        writing = asyncio.ensure_future(writers.run())
        for number in range(ROUNDS):
            await definer.ask(f"alter table t add column w int default {number}")
            await definer.ask("alter table t drop column w")
            await definer.ask("begin; alter table t add column x int; rollback")
        writers.stopped = True
        await writing
        found = await definer.ask("select id, v from t")
        moved = 1 if blocks else 0
        assert {(int(i or 0), int(v or 0)) for i, v in found} == {
            (row, row + moved) for row in writers.written
        }
        assert world.staged() == []

    in_world(tmp_path, test, count=2)


def test_what_is_forbidden_is_not_written_by_who_began_before(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        # On one tablet, so that those who wait stand in one line.
        await one.ask(
            "create table t (id int primary key, v int, w int) partition by hash (id) partitions 1"
        )
        await one.ask("begin; insert into t values (1, 1, 1)")
        changing = two.later(
            "begin; alter table t alter v set not null; alter table t drop column w; commit"
        )
        await world.waits(changing)
        third, fourth = await world.clients(2)
        waiting = third.later("insert into t (id) values (2)")
        await world.waits(waiting)
        dropped = fourth.later("insert into t (id, v, w) values (3, 3, 3)")
        await world.waits(dropped)
        await one.ask("insert into t values (4, null, 4)")
        await one.ask("update t set v = 4 where id = 4; commit")
        await changing
        for refused, why in ((waiting, NotNullViolation), (dropped, UndefinedColumn)):
            with pytest.raises(why):
                await refused
        assert await one.ask("select * from t order by id") == [("1", "1"), ("4", "4")]

    in_world(tmp_path, test, count=2)


@pytest.mark.parametrize("store", ["columnar", "hybrid"])
def test_a_new_rule_holds_for_who_was_planned_without_it(tmp_path: Path, store: str) -> None:
    async def test(world: World) -> None:
        one, two, third, fourth = await world.clients(4)
        await one.ask(
            f"create table t (id int primary key, v int) partition by hash (id) partitions 1"
            f" using {store}"
        )
        await one.ask("begin; insert into t values (1, 1)")
        changing = two.later(
            "begin; alter table t alter v set not null; alter table t add check (v > 0); commit"
        )
        await world.waits(changing)
        null = third.later("insert into t (id) values (2)")
        negative = fourth.later("insert into t values (3, -1)")
        await world.waits(null)
        await world.waits(negative)
        await one.ask("commit")
        await changing
        for refused, why in ((null, NotNullViolation), (negative, CheckViolation)):
            with pytest.raises(why):
                await refused
        assert await one.ask("select * from t") == [("1", "1")]

    in_world(tmp_path, test, count=2)


def test_rows_that_contradict_a_definition_keep_it_away(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key, v int)")
        await one.ask("begin; insert into t values (1, null)")
        changing = two.later("alter table t alter v set not null")
        await world.waits(changing)
        await one.ask("commit")
        with pytest.raises(NotNullViolation):
            await changing
        await one.ask("insert into t values (2, null)")

    in_world(tmp_path, test)


def test_a_dropped_table_waits_for_its_writers(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        clients = await world.clients(WRITERS + 1)
        definer = clients.pop()
        for _ in range(3):
            await definer.ask("create table t (id int primary key, v int)")
            writers = Writers(clients, True)
            writing = asyncio.ensure_future(writers.run())
            while not writers.written and not writing.done():
                await asyncio.sleep(0)
            await definer.ask("drop table t")
            with pytest.raises(UndefinedTable):
                await writing
            for client in clients:
                if client.status != "I":
                    await client.ask("rollback")

    in_world(tmp_path, test, count=2)


def test_a_definition_leaves_alone_what_another_changes_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its catalog may be newer at its end than at its beginning: the rows of a table that somebody
    else has rewritten between the two are where they belong."""
    apply = TransactionDefinitions.apply

    async def test(world: World) -> None:
        one, two = await world.clients(2)
        # Without a key nothing would refuse rows that come twice.
        await one.ask("create table other (v int); insert into other values (1), (2)")
        beside = ["alter table other add column w int default 7"]

        async def another_comes_between(
            self: TransactionDefinitions, listed: Sequence[Command], transaction: int, number: int
        ) -> Any:
            found = await apply(self, listed, transaction, number)
            if beside:
                await two.ask(beside.pop())
            return found

        monkeypatch.setattr(TransactionDefinitions, "apply", another_comes_between)
        await one.ask("begin; create table t (id int primary key); commit")
        assert not beside
        assert await two.ask("select v, w from other order by v") == [("1", "7"), ("2", "7")]

    in_world(tmp_path, test)
