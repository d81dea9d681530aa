"""A coordinator dies at each step of a transaction with definitions: all of it or nothing stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worlds import Client, World, in_world

from catalog import definition_service
from cluster.errors import SerializationFailure, UndefinedTable
from executor.services import ExecutorServices

pytestmark = pytest.mark.slow

BLOCK = """
begin;
create table made (id int primary key);
insert into made values (1), (2);
insert into old values (2), (3);
alter table changed add column w int default 5;
insert into changed values (2, 2)
"""


def services(world: World, at: int) -> ExecutorServices:
    parts = world.nodes[at]._parts
    assert parts is not None
    return parts.services


async def opened(world: World) -> tuple[Client, Client]:
    """A client of the node that survives, and one in the block on the node that will be dead to
    the others."""
    one, two = await world.clients(2)
    await one.ask("create table old (id int primary key); insert into old values (1)")
    await one.ask("create table changed (id int primary key); insert into changed values (1)")
    await two.ask(BLOCK)
    assert len(world.staged()) == 1
    return one, two


async def nothing_of_it(one: Client, world: World) -> None:
    await until(lambda: not world.staged())
    await one.refused("select * from made", UndefinedTable)
    assert await one.ask("select id from old") == [("1",)]
    assert await one.ask("select * from changed") == [("1",)]
    # Neither locks nor names are left behind.
    await one.ask("insert into changed values (3); create table made (n text)")
    parts = world.nodes[0]._parts
    assert parts is not None
    catalog = parts.services.catalog.current
    held = {f.tablet_id for t in catalog.tables.values() for p in t.parts for f in p.fragments}
    assert set(catalog.tablets) == held


async def all_of_it(one: Client, world: World) -> None:
    assert not world.staged()
    assert await one.ask("select * from made order by id") == [("1",), ("2",)]
    assert await one.ask("select id from old order by id") == [("1",), ("2",), ("3",)]
    assert await one.ask("select * from changed order by id") == [("1", "5"), ("2", "2")]
    await one.ask("insert into changed values (3, 3); drop table made")


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def forget(world: World, client: Client) -> None:
    """To the others it looks as if the client's node had died: it knows of no transaction and
    speaks to no tablet."""
    transaction = client.session.state.block.transaction
    assert transaction is not None
    running = services(world, 1).catalog.definitions
    running.end(transaction.opened.id)
    transaction.opened._stop_renewing()


def test_what_was_staged_goes_with_its_coordinator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition_service, "WATCH_S", 0.2)

    async def test(world: World) -> None:
        one, two = await opened(world)
        forget(world, two)
        await nothing_of_it(one, world)
        await two.refused("commit", SerializationFailure)

    in_world(tmp_path, test, count=2)


def test_a_coordinator_that_dies_before_the_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition_service, "WATCH_S", 0.2)

    async def test(world: World) -> None:
        one, two = await opened(world)
        prepared = asyncio.Event()

        async def never(*_: Any, **__: Any) -> None:
            prepared.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(services(world, 1).catalog.definitions, "commit", never)
        committing = two.later("commit")
        await prepared.wait()
        definitions = services(world, 1).catalog.definitions
        definitions._running.clear()
        await nothing_of_it(one, world)
        assert not committing.done()
        committing.cancel()

    in_world(tmp_path, test, count=2)


def test_a_coordinator_that_dies_behind_the_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World) -> None:
        one, two = await opened(world)

        async def unheard(*_: Any, **__: Any) -> None:
            return

        monkeypatch.setattr(services(world, 1).tablets, "announce", lambda *_: None)
        monkeypatch.setattr(services(world, 1).tablets, "abort", unheard)
        monkeypatch.setattr(services(world, 1).catalog, "ensure_everywhere", unheard)
        await two.ask("commit")
        await all_of_it(one, world)

    in_world(tmp_path, test, count=2)
