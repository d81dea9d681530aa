"""How long history is kept: the setting, who holds it back, and that it goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import (
    ActiveSqlTransaction,
    CantChangeRuntimeParam,
    DqeError,
    FeatureNotSupported,
    InvalidParameterValue,
    SnapshotTooOld,
    UndefinedObject,
)

pytestmark = pytest.mark.slow


async def _refused_soon(client: Client, sql: str) -> DqeError:
    """Asks until history is gone."""
    while True:
        try:
            await client.ask(sql)
        except SnapshotTooOld as error:
            return error
        await asyncio.sleep(0.1)


async def _history_rows(world: World) -> int:
    parts = world.nodes[0]._parts
    assert parts is not None
    sizes = await parts.storage.sizes()
    return sum(f.history_rows for size in sizes for f in size.fragments)


def test_old_history_goes_and_an_open_transaction_holds_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client, reader = await world.client(), await world.client()
        await client.ask("CREATE TABLE t (k int PRIMARY KEY, v int)")
        await client.ask("INSERT INTO t SELECT i, 0 FROM generate_series(1, 50) AS g(i)")
        await client.ask("SELECT count(*) FROM t")
        before = (await client.ask("SHOW dqe.last_read_timestamp"))[0][0]
        past = f"SELECT sum(v) FROM t AS OF SYSTEM TIME {before}"
        await reader.ask("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert await reader.ask("SELECT sum(v) FROM t") == [("0",)]
        await client.ask("ALTER SYSTEM SET dqe.history_retention = '1s'")
        for _ in range(3):
            await client.ask("UPDATE t SET v = v + 1")
        for _ in range(20):
            assert await reader.ask("SELECT sum(v), count(*) FROM t") == [("0", "50")]
            await asyncio.sleep(0.1)
        assert await _history_rows(world) > 0
        await reader.ask("COMMIT")
        while await _history_rows(world):
            await asyncio.sleep(0.1)
        found = await _refused_soon(client, past)
        assert "history is kept from" in found.message or "below the horizon" in found.message
        assert await client.ask("SELECT sum(v) FROM t") == [("150",)]
        await client.refused(f"BEGIN AS OF SYSTEM TIME {before}", SnapshotTooOld)

    in_world(tmp_path, test)


def test_the_retention_is_the_cluster_s(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client, other = await world.clients(2)
        assert await other.ask("SHOW dqe.history_retention") == [("10min",)]
        await client.ask("ALTER SYSTEM SET dqe.history_retention TO '2h'")
        assert client.tag == "ALTER SYSTEM"
        while await other.ask("SHOW dqe.history_retention") != [("2h",)]:
            await asyncio.sleep(0.05)
        shown = await client.ask("SHOW ALL")
        assert any(row[:2] == ("dqe.history_retention", "2h") for row in shown)
        await client.ask("ALTER SYSTEM RESET dqe.history_retention")
        assert await client.ask("SHOW dqe.history_retention") == [("10min",)]
        found = await client.refused("SET dqe.history_retention = '1min'", CantChangeRuntimeParam)
        assert found.hint is not None
        assert "ALTER SYSTEM" in found.hint
        for sql, error in (
            ("ALTER SYSTEM SET dqe.history_retention = '5ms'", InvalidParameterValue),
            ("ALTER SYSTEM SET work_mem = '8MB'", FeatureNotSupported),
            ("ALTER SYSTEM SET nothing = 1", UndefinedObject),
        ):
            await client.refused(sql, error)
        await client.ask("BEGIN")
        with pytest.raises(ActiveSqlTransaction):
            await client.ask("ALTER SYSTEM SET dqe.history_retention = '1min'")
        await client.ask("ROLLBACK")

    in_world(tmp_path, test, 2)
