"""The division rule against a real PostgreSQL, over seeded pairs of every size and scale."""

from __future__ import annotations

import random
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest
from postgres_support import running_postgres

from executor.numeric_division import divide, divide_columns

PAIRS = 3000


@pytest.mark.slow
def test_quotients_are_those_of_a_real_server() -> None:
    with running_postgres() as server, psycopg.connect(server.uri_of("postgres")) as connection:
        check_pairs(connection)
        check_averages(connection)


def check_pairs(connection: psycopg.Connection[tuple[str, ...]]) -> None:
    chance = random.Random(18)
    pairs = [(number(chance), number(chance, nonzero=True)) for _ in range(PAIRS)]
    rows = connection.execute(
        "select (a::numeric / b::numeric)::text from unnest(%s::text[], %s::text[]) "
        "with ordinality t(a, b, n) order by n",
        ([top for top, _ in pairs], [bottom for _, bottom in pairs]),
    ).fetchall()
    for (top, bottom), (expected,) in zip(pairs, rows, strict=True):
        assert divide(*unscaled(top), *unscaled(bottom)) == expected, (top, bottom)


def check_averages(connection: psycopg.Connection[tuple[str, ...]]) -> None:
    chance = random.Random(19)
    values = [f"{chance.randrange(-(10**8), 10**8) / 100:.2f}" for _ in range(2000)]
    rows = connection.execute(
        "select sum(v)::text, count(v), avg(v)::text from "
        "(select n %% 97 as g, v::numeric(12,2) from unnest(%s::text[]) with ordinality t(v, n)) s "
        "group by g",
        (values,),
    ).fetchall()
    sums = pa.array([Decimal(total) for total, _, _ in rows], pa.decimal128(38, 2))
    counts = pa.array([count for _, count, _ in rows], pa.int64())
    assert divide_columns(sums, counts).to_pylist() == [average for _, _, average in rows]


def number(chance: random.Random, *, nonzero: bool = False) -> str:
    digits = chance.randrange(1, 25)
    value = chance.randrange(1 if nonzero else 0, 10**digits)
    scale = chance.choice([0, 0, 1, 2, 5, 10])
    sign = chance.choice(["", "-"])
    return sign + f"{Decimal(value).scaleb(-scale):f}"


def unscaled(text: str) -> tuple[int, int]:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction), len(fraction)
