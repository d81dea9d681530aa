"""Prepared reads of rows by an index by the shortest way, beside the same ones planned in full.

The first node answers as it does; on the second one no statement is taken for a read by index.
Both must give every client the same: rows, columns, tags and errors, in blocks of each isolation
level with changes of their own, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from test_quick_reads import Answer, Two, answer, in_two
from worlds import World

from executor.index_answers import FEW_ROWS
from executor.index_queries import IndexQueries

pytestmark = pytest.mark.slow

Connection = psycopg.AsyncConnection[Any]
MANY = FEW_ROWS + 20
TABLE = (
    "CREATE TABLE l (w int, o int, k int, c char(4), v varchar(8), n numeric(6,2), b int8, s int2,"
    " f float8, o_k bool, d date, PRIMARY KEY (w, o, k))"
    " PARTITION BY HASH (w) PARTITIONS 3 USING hybrid"
)
FILLED = (
    "INSERT INTO l SELECT w, o, k, chr(96 + k), CASE WHEN k % 3 > 0 THEN 'v' || k END, k * 1.25,"
    " CASE WHEN k <> 2 THEN 10 * k END, k % 2, k / 4.0, k > 3, DATE '2024-01-01' + k"
    " FROM generate_series(1, 3) w, generate_series(1, 4) o, generate_series(1, 6) k"
)
WHERE = "FROM l WHERE w = %s AND o = %s"
READS = (
    f"SELECT k, c, v, n, b, s, f, o_k {WHERE} ORDER BY k",
    f"SELECT k {WHERE} ORDER BY k DESC LIMIT 2",
    f"SELECT k, c {WHERE} ORDER BY n DESC, k",
    f"SELECT c || '|', n + 1, b * 2 {WHERE} AND v = 'v4'",
    f"SELECT n * 2, s + 1 {WHERE} AND v = 'v4'",
    f"SELECT k, n {WHERE} AND v = 'v4'",
    f"SELECT sum(n) {WHERE}",
    f"SELECT coalesce(sum(n), 0) {WHERE}",
    f"SELECT count(*), count(v), min(v) {WHERE}",
    f"SELECT avg(n) {WHERE}",
    f"SELECT avg(s), sum(s), count(DISTINCT s) {WHERE}",
    f"SELECT sum(n) + 1 {WHERE} AND k < 3",
    f"SELECT k, d {WHERE} ORDER BY k",
    f"SELECT 6 / s {WHERE} AND k > 1",
)
# Without those that fail, and end their block.
SOUND = READS[:-1]
PLACES = ((1, 1), (2, 4), (3, 9), (None, 1))


class Counted:
    """How many reads by an index went the quick way."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        plain = IndexQueries.plain

        async def counted(queries: IndexQueries, *given: Any) -> Any:
            found = await plain(queries, *given)
            self.count += found is not None
            return found

        patch.setattr(IndexQueries, "plain", counted)


async def begin(world: World, clients: Two) -> None:
    slow: Any = world.nodes[1].parts.coordinator.indexes

    async def never(*_: Any) -> None:
        return None

    slow.answer, slow.answer_of = never, lambda *_: None
    (client,) = await world.clients(1)
    await client.ask(TABLE)
    await client.ask("CREATE INDEX l_by_v ON l (w, v)")
    await client.ask(FILLED)


async def compare(clients: Two) -> None:
    for sql in READS:
        for binary in (False, True):
            for place in PLACES:
                await clients.same(sql, place, prepare=True, binary=binary)


def test_rows_columns_and_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World, clients: Two) -> None:
        await begin(world, clients)
        counted = Counted(monkeypatch)
        await compare(clients)
        assert counted.count > 20
        one = "SELECT k, o FROM l WHERE w = %s AND v = %s ORDER BY o, k"
        assert len((await clients.same(one, (2, "v4"), prepare=True))[1]) == 4

    in_two(tmp_path, test)


async def _block(connection: Connection, other: Any, level: str) -> list[Answer]:
    """What a block reads beside another's change and behind its own."""
    await connection.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
    await connection.execute(b"SELECT sum(n) FROM l WHERE w = 3 AND o = 1")
    await other.ask("UPDATE l SET n = 99 WHERE w = 1 AND o = 1 AND k = 5")
    told = [await _told(connection, sql) for sql in SOUND]
    await connection.execute(b"DELETE FROM l WHERE w = 1 AND o = 1 AND k = 1")
    await connection.execute(b"INSERT INTO l (w, o, k, n) VALUES (1, 1, 9, 0.05)")
    told += [await _told(connection, sql) for sql in SOUND]
    await connection.execute(b"ROLLBACK")
    await other.ask("UPDATE l SET n = 6.25 WHERE w = 1 AND o = 1 AND k = 5")
    return told


async def _told(connection: Connection, sql: str) -> Answer:
    return await answer(connection, sql, (1, 1), prepare=True)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_blocks_with_changes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    async def test(world: World, clients: Two) -> None:
        await begin(world, clients)
        (other,) = await world.clients(1)
        counted = Counted(monkeypatch)
        quick = await _block(clients.quick, other, level)
        assert counted.count > 10
        assert quick == await _block(clients.slow, other, level)

    in_two(tmp_path, test)


def test_serializable_minds_the_range_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World, clients: Two) -> None:
        await begin(world, clients)
        (other,) = await world.clients(1)
        counted = Counted(monkeypatch)
        quick = clients.quick
        await quick.execute(b"BEGIN ISOLATION LEVEL SERIALIZABLE")
        await quick.execute(f"SELECT sum(n) {WHERE}".encode(), (1, 1), prepare=True)
        assert counted.count == 1
        await other.ask("INSERT INTO l (w, o, k, n) VALUES (1, 1, 77, 1)")
        await quick.execute(b"UPDATE l SET n = 0 WHERE w = 2 AND o = 1 AND k = 1")
        with pytest.raises(psycopg.errors.SerializationFailure):
            await quick.execute(b"COMMIT")

    in_two(tmp_path, test)


def test_a_query_that_shows_many_is_left_to_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World, clients: Two) -> None:
        await begin(world, clients)
        counted = Counted(monkeypatch)
        await clients.both(
            f"INSERT INTO l (w, o, k) SELECT 1, 50, k FROM generate_series(1, {MANY}) k"
            " ON CONFLICT DO NOTHING"
        )
        for place in ((1, 1), (1, 50), (1, 50), (1, 1)):
            await clients.same(READS[0], place, prepare=True)
        assert counted.count == 2

    in_two(tmp_path, test)
