"""Indexes: what they find is what a scan finds; a unique one is never wrong, writers or not."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest
from short_ways import Watched
from worlds import Client, World, in_world

from cluster.errors import DqeError, UniqueViolation
from executor.index_queries import IndexQueries

COLUMNS = ("id", "a", "b", "n")


def _query(rng: random.Random) -> str:
    """Over one table, mostly of a shape that an index is for."""
    values = {"id": "{}", "a": "{}", "b": "'b{}'", "n": "{}"}
    chosen = rng.sample(COLUMNS, rng.randint(1, 2))
    parts = []
    for name in chosen:
        value = values[name].format(rng.randint(0, 9))
        sign = rng.choice(["=", "=", "=", "<", ">="])
        parts.append(f"{name} {sign} {value}")
    text = f"SELECT {rng.choice(['*', 'n, id', 'b'])} FROM t WHERE {' AND '.join(parts)}"
    if rng.random() < 0.5:
        order = [rng.choice(COLUMNS), "id"]
        direction = rng.choice(["", " DESC"])
        text += " ORDER BY " + ", ".join(name + direction for name in dict.fromkeys(order))
        text += rng.choice(["", " LIMIT 3"]) if order[1] == "id" else ""
    return text


@pytest.mark.parametrize("method", ["row", "hybrid"])
def test_an_index_finds_what_a_scan_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    watched = Watched(monkeypatch, IndexQueries)

    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask(
            "CREATE TABLE t (id int PRIMARY KEY, a int, b text, n int NOT NULL)"
            f" PARTITION BY HASH (id) PARTITIONS 3 USING {method}"
        )
        await client.ask("CREATE INDEX ON t (a, n, id); CREATE INDEX ON t (b)")
        await client.ask(
            "INSERT INTO t SELECT g, nullif(g % 10, 4), 'b' || g % 7, g * 7 % 10"
            " FROM generate_series(1, 60) g"
        )
        await client.ask("CREATE INDEX late ON t (n, id); DELETE FROM t WHERE id % 5 = 0")
        await client.ask("UPDATE t SET a = 3 WHERE n = 2")
        rng = random.Random(5)
        for _ in range(60):
            await watched.both_ways(client, _query(rng))
        assert watched.taken > 10

    in_world(tmp_path, test)


def test_changes_of_the_transaction_and_of_others_are_found(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await first.ask("CREATE TABLE t (id int PRIMARY KEY, a int) USING hybrid")
        await first.ask("CREATE INDEX ON t (a)")
        await first.ask("INSERT INTO t VALUES (1, 1), (2, 1)")
        await first.ask("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert len(await first.ask("SELECT id FROM t WHERE a = 1")) == 2
        await second.ask("DELETE FROM t WHERE id = 1")
        assert await second.ask("SELECT id FROM t WHERE a = 1") == [("2",)]
        assert len(await first.ask("SELECT id FROM t WHERE a = 1")) == 2
        await first.ask("UPDATE t SET a = 7 WHERE id = 2")
        assert await first.ask("SELECT id FROM t WHERE a = 7") == [("2",)]
        await first.ask("ROLLBACK")
        assert await first.ask("SELECT id FROM t WHERE a = 1") == [("2",)]

    in_world(tmp_path, test)


def test_explain_says_which_index(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask("CREATE TABLE t (id int PRIMARY KEY, a int, b int) USING hybrid")
        await client.ask("CREATE INDEX by_a ON t (a, b)")
        shown = [line for (line,) in await client.ask("EXPLAIN SELECT * FROM t WHERE a = 1")]
        assert any(line and line.startswith("Index Lookup on t") for line in shown)
        assert "  Index Name: by_a" in shown
        shown = [line for (line,) in await client.ask("EXPLAIN SELECT * FROM t WHERE b = 1")]
        assert any(line and line.startswith("Seq Scan on t") for line in shown)

    in_world(tmp_path, test)


@pytest.mark.parametrize("method", ["columnar", "row", "hybrid"])
def test_a_unique_index_is_made_beside_writers(tmp_path: Path, method: str) -> None:
    async def test(world: World) -> None:
        builder, *writers = await world.clients(4)
        await builder.ask(
            "CREATE TABLE t (id int, a int, b int) PARTITION BY HASH (a) PARTITIONS 2"
            f" USING {method}"
        )
        stop = asyncio.Event()
        writing = [asyncio.ensure_future(_write(c, s, stop)) for s, c in enumerate(writers)]
        made = False
        for _ in range(4):
            with contextlib.suppress(UniqueViolation):
                await builder.ask("CREATE UNIQUE INDEX u ON t (a, b)")
                made = True
                break
            await builder.ask("DELETE FROM t")
        stop.set()
        await asyncio.gather(*writing)
        repeated = "SELECT a, b FROM t GROUP BY a, b HAVING count(*) > 1"
        if not made:
            await builder.ask("DELETE FROM t; CREATE UNIQUE INDEX u ON t (a, b)")
        assert await builder.ask(repeated) == []
        await builder.ask("DELETE FROM t; INSERT INTO t VALUES (1, 1, 1)")
        await builder.refused("INSERT INTO t VALUES (2, 1, 1)", UniqueViolation)
        await builder.ask("DROP INDEX u")
        await builder.ask("INSERT INTO t VALUES (2, 1, 1)")

    in_world(tmp_path, test, 2)


async def _write(client: Client, seed: int, stop: asyncio.Event) -> None:
    rng = random.Random(seed)
    while not stop.is_set():
        rows = ", ".join(f"(1, {rng.randint(1, 30)}, {rng.randint(1, 30)})" for _ in range(2))
        with contextlib.suppress(DqeError):
            await client.ask(f"INSERT INTO t VALUES {rows}")


def test_a_block_keeps_to_its_own_unique_index(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask("CREATE TABLE t (a int, b int) PARTITION BY HASH (a) PARTITIONS 2")
        await client.ask("INSERT INTO t VALUES (1, 1)")
        await client.ask("BEGIN; CREATE UNIQUE INDEX u ON t (a, b)")
        await client.ask("INSERT INTO t VALUES (1, 2); SAVEPOINT s")
        refused = await client.refused("INSERT INTO t VALUES (1, 1)", UniqueViolation)
        assert refused.detail == "Key (a, b)=(1, 1) already exists."
        await client.ask("ROLLBACK TO s; COMMIT")
        await client.refused("INSERT INTO t VALUES (1, 2)", UniqueViolation)

    in_world(tmp_path, test)
