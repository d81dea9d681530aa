"""Reads of the past on several nodes: by the nearest replica, and without any leader."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import CannotConnectNow

pytestmark = pytest.mark.slow


async def _closed_everywhere(world: World, timestamp: int) -> None:
    """Waits until every replica has heard that the timestamp is closed."""
    for node in world.nodes:
        assert node._parts is not None
        for tablet in node._parts.storage.tablets.values():
            while tablet.closed.index_for(timestamp) is None:
                await asyncio.sleep(0.05)


async def _last_read(client: Client) -> tuple[str, int]:
    """As SQL takes it, and as the oracle gave it out."""
    shown = str((await client.ask("SHOW dqe.last_read_timestamp"))[0][0])
    whole, counter = shown.split(".")
    return shown, int(whole) // 1_000_000 << 18 | int(counter)


async def _ask_on(client: Client, sql: str) -> None:
    while True:
        await client.ask(sql)


async def _rows(client: Client) -> None:
    await client.ask("CREATE TABLE t (k int PRIMARY KEY, v int) WITH (replicas = 3)")
    await client.ask("INSERT INTO t SELECT i, i FROM generate_series(1, 100) AS g(i)")


async def _replicas(client: Client, query: str) -> list[str]:
    plan = await client.ask(f"EXPLAIN ANALYZE {query}")
    return [str(line) for (line,) in plan if str(line).startswith("Replicas Read")]


def test_the_past_is_read_on_the_node_that_was_asked(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        clients = await world.clients(3)
        await _rows(clients[0])
        await clients[0].ask("SELECT sum(v) FROM t")
        shown, timestamp = await _last_read(clients[0])
        await clients[0].ask("UPDATE t SET v = 0")
        await _closed_everywhere(world, timestamp)
        query = f"SELECT sum(v) FROM t AS OF SYSTEM TIME {shown}"
        for number, client in enumerate(clients, 1):
            assert await client.ask(query) == [("5050",)]
            assert await _last_read(client) == (shown, timestamp)
            assert await _replicas(client, query) == [
                f"Replicas Read on node {number}: 3 as closed, asking nobody"
            ]
            fresh = await _replicas(client, "SELECT sum(v) FROM t")
            assert all("led there" in line or "having asked" in line for line in fresh)

    in_world(tmp_path, test, 3)


def test_a_session_may_read_behind(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        writer, reader, *_ = await world.clients(3)
        await reader.ask("SET dqe.read_staleness = '30s'")
        await _rows(writer)
        # So long ago the table was not there: within its bound the session reads what is.
        assert await reader.ask("SELECT sum(v) FROM t") == [("5050",)]
        await reader.ask("SET dqe.read_staleness = '1ms'")
        assert await reader.ask("SELECT sum(v) FROM t WHERE k > 0") == [("5050",)]
        _, first = await _last_read(reader)
        await writer.ask("UPDATE t SET v = 0")
        await reader.ask("BEGIN READ ONLY")
        await reader.ask("SELECT sum(v) FROM t")
        shown, second = await _last_read(reader)
        await writer.ask("UPDATE t SET v = 7")
        assert await reader.ask("SELECT max(v) < 7 FROM t") == [("t",)]
        assert await _last_read(reader) == (shown, second)
        await reader.ask("COMMIT")
        assert second > first
        # What may change something reads the present.
        await reader.ask("SET dqe.read_staleness = '1h'")
        await reader.ask("BEGIN")
        assert await reader.ask("SELECT max(v) FROM t") == [("7",)]
        await reader.ask("COMMIT")
        await reader.ask("UPDATE t SET v = v + 1")
        assert await writer.ask("SELECT min(v) FROM t") == [("8",)]

    in_world(tmp_path, test, 3)


def test_the_past_is_read_when_nobody_leads(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        clients = await world.clients(3)
        await _rows(clients[0])
        last = clients[2]
        await last.ask("SELECT sum(v) FROM t")
        shown, timestamp = await _last_read(last)
        await _closed_everywhere(world, timestamp)
        for node in world.nodes[:2]:
            await node.stop()
        # What it leads it leads until its leases end.
        with pytest.raises(CannotConnectNow):
            await _ask_on(last, "SELECT sum(v) FROM t")
        asked = f"SELECT sum(v) FROM t AS OF SYSTEM TIME {shown}"
        assert await last.ask(asked) == [("5050",)]
        await last.ask(f"BEGIN AS OF SYSTEM TIME {shown}")
        assert await last.ask("SELECT count(*) FROM t WHERE v > 50") == [("50",)]
        await last.ask("COMMIT")

    in_world(tmp_path, test, 3)


def test_the_present_is_read_near_where_that_is_wished(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        writer, reader, *_ = await world.clients(3)
        await _rows(writer)
        await reader.ask("SET dqe.read_replicas = 'nearest'")
        for number in range(5):
            await writer.ask(f"UPDATE t SET v = {number}")
            assert await reader.ask("SELECT min(v), max(v) FROM t") == [(f"{number}",) * 2]
        (line,) = await _replicas(reader, "SELECT sum(v) FROM t")
        assert line.startswith("Replicas Read on node 2: ")
        assert "having asked the leader" in line
        await reader.ask("BEGIN ISOLATION LEVEL SERIALIZABLE")
        await reader.ask("UPDATE t SET v = -1 WHERE k = 7")
        assert await reader.ask("SELECT min(v), max(v) FROM t") == [("-1", "4")]
        await reader.ask("COMMIT")
        await reader.ask("SET dqe.read_replicas = 'cheapest'")
        await reader.ask("ANALYZE t")
        assert await reader.ask("SELECT min(v), max(v) FROM t") == [("-1", "4")]
        (line,) = await _replicas(reader, "SELECT sum(v) FROM t")
        assert line.startswith("Replicas Read on node 2: ")

    in_world(tmp_path, test, 3)
