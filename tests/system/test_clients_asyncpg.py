"""asyncpg: introspection of types, arrays, COPY, cursors, pools."""

from __future__ import annotations

import asyncio
import datetime
import io
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg
import pytest

from dqe.local_cluster import LocalCluster

pytestmark = pytest.mark.cluster


def run(cluster: LocalCluster, work: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    async def connected() -> None:
        connection = await asyncpg.connect(cluster.url)
        try:
            await work(connection)
        finally:
            await connection.close()

    asyncio.run(connected())


def test_arrays_decode(cluster: LocalCluster) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        row = await connection.fetchrow(
            "select $1::int[] as a, array['x', 'y,z', null] as b, array[1.5, 2]::numeric[] as c, "
            "array[true, false] as d, array['2020-01-01'::date] as e, '{}'::uuid[] as f",
            [1, 2, None],
        )
        assert row is not None
        assert dict(row) == {
            "a": [1, 2, None],
            "b": ["x", "y,z", None],
            "c": [Decimal("1.5"), Decimal(2)],
            "d": [True, False],
            "e": [datetime.date(2020, 1, 1)],
            "f": [],
        }
        query = "select g from generate_series(1, 5) g where g = any ($1::int[])"
        assert [r["g"] for r in await connection.fetch(query, [1, 3])] == [1, 3]

    run(cluster, work)


def test_rows_in_and_out(cluster: LocalCluster, connection: psycopg.Connection[Any]) -> None:
    connection.execute("create table t (id int primary key, v text, a int[])")

    async def work(client: asyncpg.Connection) -> None:
        await client.executemany(
            "insert into t values ($1, $2, $3)", [(i, f"v{i}", [i, i + 1]) for i in range(20)]
        )
        records = [(100 + i, "c", None) for i in range(5)]
        assert await client.copy_records_to_table("t", records=records) == "COPY 5"
        csv = io.BytesIO(b'200,z,"{1,2}"\n')
        assert await client.copy_to_table("t", source=csv, format="csv") == "COPY 1"
        written = io.BytesIO()
        query = "select id, v from t order by id limit 2"
        assert await client.copy_from_query(query, output=written) == "COPY 2"
        assert written.getvalue() == b"0\tv0\n1\tv1\n"
        async with client.transaction(isolation="repeatable_read", readonly=True):
            found = [
                r["id"] async for r in client.cursor("select id from t order by id", prefetch=7)
            ]
        assert found == [*range(20), *range(100, 105), 200]
        prepared = await client.prepare("select v from t where id = $1")
        assert await prepared.fetchval(3) == "v3"
        with pytest.raises(asyncpg.UniqueViolationError) as caught:
            await client.execute("insert into t (id) values (1)")
        assert caught.value.detail == "Key (id)=(1) already exists."
        assert await client.fetchval("select count(*) from t") == 26

    run(cluster, work)


def test_a_kept_statement_is_prepared_anew_where_its_columns_change(
    cluster: LocalCluster, connection: psycopg.Connection[Any]
) -> None:
    """asyncpg does so by itself where it is told as PostgreSQL tells it."""

    async def work(client: asyncpg.Connection) -> None:
        for sql_type, value in (("int", 7), ("text", "seven"), ("numeric(6, 2)", Decimal("7.50"))):
            connection.execute("DROP TABLE IF EXISTS retyped")
            connection.execute(f"CREATE TABLE retyped (id int PRIMARY KEY, v {sql_type})")
            connection.execute("INSERT INTO retyped VALUES (1, %s)", (value,))
            for sql in ("SELECT v FROM retyped WHERE id = 1", "SELECT max(v) FROM retyped"):
                assert await client.fetchval(sql) == value

    run(cluster, work)


def test_a_statement_that_lasts_too_long_is_cancelled(cluster: LocalCluster) -> None:
    async def work(client: asyncpg.Connection) -> None:
        endless = "select count(*) from generate_series(1, 10000000) a, generate_series(1, 10000) b"
        with pytest.raises(asyncio.TimeoutError):
            await client.fetch(endless, timeout=0.3)
        assert await client.fetchval("select 1") == 1

    run(cluster, work)


def test_a_pool_resets_its_connections(cluster: LocalCluster) -> None:
    async def work() -> None:
        async with asyncpg.create_pool(cluster.url, min_size=1, max_size=3) as pool:
            await pool.execute("set search_path = 'elsewhere'")
            found = await asyncio.gather(*(pool.fetchval("select $1::int", i) for i in range(20)))
            assert found == list(range(20))
            assert await pool.fetchval("show search_path") == '"$user", public'

    asyncio.run(work())
