"""Numerics of up to 38 digits keep every one of them, whichever way they take."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import Client, World, in_world

from cluster.errors import NumericValueOutOfRange
from dqe.wire.binary_values import numeric_binary
from dqe.wire.parameters import _numeric
from executor.copy_binary_read import read_numeric
from executor.copy_binary_write import write_numeric

LONG = "1234567890123456789012345678.0987654321"
NUMERICS = st.decimals(
    allow_nan=False, allow_infinity=False, min_value=-(10**27), max_value=10**27, places=10
)


@given(NUMERICS)
def test_bytes_and_back(value: Decimal) -> None:
    text = format(value, "f")
    assert Decimal(_numeric(numeric_binary(text))) == value
    assert read_numeric(write_numeric(value)) == value


async def same(client: Client, expression: str, expected: str) -> None:
    assert await client.ask(f"SELECT ({expression})::text") == [(expected,)], expression


def test_expressions(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await same(client, LONG, LONG)
        await same(client, f"-{LONG}", f"-{LONG}")
        await same(client, f"'{LONG}'::numeric(38, 10)", LONG)
        await same(client, f"'-{LONG}'::numeric(38, 9)", "-1234567890123456789012345678.098765432")
        await same(client, f"'{LONG}5'::numeric(38, 10)", LONG[:-1] + "2")
        nines = "9" * 38
        await same(client, f"'{nines}'::numeric(38, 0)", nines)
        for beyond in ("1e200", "-1e200", "99999999.995", "1e8"):
            await client.refused(f"SELECT '{beyond}'::numeric(10, 2)", NumericValueOutOfRange)
        await client.ask(
            "CREATE TABLE cut (n numeric(38, 0)) PARTITION BY RANGE (n) "
            f"(PARTITION low VALUES FROM (MINVALUE) TO ({nines}))"
        )
        shown = "to_char(1234567890123456789012345678.09, '" + "9" * 28 + ".99')"
        await same(client, shown, " 1234567890123456789012345678.09")

    in_world(tmp_path, test)


@pytest.mark.parametrize("method", ["row", "hybrid"])
def test_rows_by_key_and_by_index(tmp_path: Path, method: str) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask(
            "CREATE TABLE t (id int PRIMARY KEY, g int, n numeric(38, 10), d numeric(38, 10)"
            f" DEFAULT {LONG}) USING {method}"
        )
        await client.ask("CREATE INDEX ON t (g)")
        await client.ask(f"INSERT INTO t (id, g, n) VALUES (1, 1, {LONG})")
        await client.ask("INSERT INTO t (id, g, n) VALUES ($1, 1, $2)", ["2", f"-{LONG}"])
        assert await client.ask("SELECT n, d FROM t WHERE id = 1") == [(LONG, LONG)]
        assert await client.ask("SELECT n FROM t WHERE id = 2") == [(f"-{LONG}",)]
        await client.ask("UPDATE t SET n = n + 0.0000000001 WHERE id = 1")
        more = LONG[:-1] + "2"
        assert await client.ask(f"SELECT id FROM t WHERE id = 1 AND n = {more}") == [("1",)]
        assert await client.ask(f"SELECT id FROM t WHERE n > {LONG}") == [("1",)]
        assert await client.ask(f"SELECT id FROM t WHERE n < 1 - {LONG}") == [("2",)]
        whole = await client.ask("SELECT sum(n)::text FROM t WHERE g = 1")
        assert whole == [("0.0000000001",)]
        assert await client.ask("SELECT sum(n)::text FROM t") == whole
        await client.ask("UPDATE t SET n = -n WHERE id = 1")
        assert await client.ask("SELECT n FROM t WHERE id = 1") == [(f"-{more}",)]

    in_world(tmp_path, test)


def test_the_past_is_named_to_the_last_digit(tmp_path: Path) -> None:
    """A timestamp is shown as a number of 29 digits."""

    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask("CREATE TABLE t (id int PRIMARY KEY)")
        await client.ask("INSERT INTO t VALUES (1)")
        await client.ask("SELECT id FROM t")
        ((shown,),) = await client.ask("SHOW dqe.last_read_timestamp")
        assert shown is not None
        named = shown.partition(".")[0] + ".0000000123"
        for spelled in (named, f"'{named}'"):
            await client.ask(f"SELECT id FROM t AS OF SYSTEM TIME {spelled}")
            assert await client.ask("SHOW dqe.last_read_timestamp") == [(named,)]

    in_world(tmp_path, test)
