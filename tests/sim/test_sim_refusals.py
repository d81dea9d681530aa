"""Tablets that cannot be written, or led: statements end soon, and say which tablet and why."""

from __future__ import annotations

import asyncio

import pytest
from repair_story import Story, tell

from catalog.tablet_calls import LEADERLESS_S
from dqe.simulation.client import Client, Refused
from dqe.simulation.machine import SimulatedMachine

pytestmark = pytest.mark.slow

PARTED = "CREATE TABLE t (k bigint PRIMARY KEY, v int) PARTITION BY HASH (k) PARTITIONS 3 WITH"
FILL = "INSERT INTO t SELECT g, g FROM generate_series(1, 30) g"
KEYS = range(100, 112)


async def refused(story: Story, at: SimulatedMachine, sql: str) -> tuple[str, float]:
    """What the error says, and how many seconds it took, for one who waits however long."""
    client = Client(story.cluster, "patient")
    client._patience_s = 200.0
    begun_s = asyncio.get_running_loop().time()
    with pytest.raises(Refused) as caught:
        await client.ask(sql, at)
    return str(caught.value), asyncio.get_running_loop().time() - begun_s


def test_sync_table_says_at_once_which_node_is_missing_whoever_led_it() -> None:
    async def happens(story: Story) -> None:
        await story.ask(f"{PARTED} (durability = 'sync')")
        await story.until(story.is_whole, 60, "all replicas are there")
        await story.ask(FILL)
        first, *_, last = story.cluster.machines
        gone = story.node_id(last)
        last.end("for long")
        await asyncio.sleep(6)
        # Some of the tablets have another leader now, which does not serve yet.
        writes = [f"INSERT INTO t VALUES ({k}, 1)" for k in KEYS]
        for sql in (*writes, "UPDATE t SET v = 2", "SELECT count(*) FROM t"):
            word, took_s = await refused(story, first, sql)
            assert f"takes no writes while its replica on node {gone} does not answer" in word
            assert took_s < 2
        await story.ask("ALTER TABLE t SET (durability = 'quorum')")
        await story.ask(writes[0])
        assert await story.ask("SELECT count(*) FROM t") == [(31,)]

    tell(3, happens)


def test_what_was_not_sent_to_a_dead_node_did_not_happen() -> None:
    """A machine without power refuses no connection: nobody answers at all."""

    async def happens(story: Story) -> None:
        await story.ask(f"{PARTED} (replicas = 2, nodes = '1,2')")
        await story.until(story.is_whole, 60, "all replicas are there")
        await story.ask(FILL)
        alive = next(m for m in story.cluster.machines if story.node_id(m) == 1)
        next(m for m in story.cluster.machines if story.node_id(m) == 2).end("for good")
        await asyncio.sleep(30)
        key = KEYS[0]
        for sql in (
            f"INSERT INTO t VALUES ({key}, 1)",
            f"UPDATE t SET v = v + 1 WHERE k = {key}",
            f"SELECT v FROM t WHERE k = {key}",
            f"SELECT v FROM t WHERE k IN ({key}, {key + 1})",
            "DELETE FROM t WHERE v = 5",
        ):
            word, took_s = await refused(story, alive, sql)
            assert word.startswith("57P03 tablet")
            assert "Its replicas are on nodes 1, 2" in word
            # Whichever ways the statement has, the leader is waited for once.
            assert took_s < 2 * LEADERLESS_S

    tell(4, happens)
