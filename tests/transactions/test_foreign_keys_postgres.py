"""Random statements over tables with foreign keys, in dqe and in a PostgreSQL: the same
statements fail, and the same rows are there afterwards.

Of several constraints that one statement breaks PostgreSQL, which goes row by row, may name
another: that it is one of constraints (class 23) is enough then.
"""

from __future__ import annotations

import random
from pathlib import Path

import psycopg
import pytest
from postgres_support import Postgres, running_postgres
from worlds import Client, World, in_world

from cluster.errors import DqeError

ACTIONS = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT")
COLUMNS = {"p": ("a", "b", "x"), "c": ("a", "n", "b"), "d": ("a", "n", "x"), "e": ("a", "n", "m")}
SHOWN = {"p": "a, b, x", "c": "a, n, b", "d": "a, n, x, w", "e": "a, n, m"}
STEPS = 35


def _definitions(rng: random.Random) -> list[tuple[str, str]]:
    """Tables as PostgreSQL takes them, and what dqe is told besides."""
    near = rng.random() < 0.5
    cut = " PARTITION BY HASH (a) PARTITIONS 3" if near else " REPLICATED"
    beside = " COLOCATE WITH p" if near else " PARTITION BY HASH (n) PARTITIONS 3"
    key = "a, n" if near else "n"

    def actions() -> str:
        return f"ON DELETE {rng.choice(ACTIONS)} ON UPDATE {rng.choice(ACTIONS)}"

    def kept() -> str:
        return f" USING {rng.choice(('columnar', 'row', 'hybrid'))}"

    match = rng.choice(["", " MATCH FULL"])
    p = "a int, b int DEFAULT 1, x int CHECK (x > -5), PRIMARY KEY (a, b), UNIQUE (a, x)"
    c = f"a int DEFAULT 1, n int, b int DEFAULT 1, FOREIGN KEY (a, b) REFERENCES p{match}"
    d = "a int, n int, x int DEFAULT 2, w int GENERATED ALWAYS AS (x + 1) STORED"
    e = f"a int, n int, m int, FOREIGN KEY (a, m) REFERENCES {'c' if near else 'p'} {actions()}"
    return [
        (f"CREATE TABLE p ({p})", cut + kept()),
        (f"CREATE TABLE c ({c} {actions()}, PRIMARY KEY ({key}))", beside + kept()),
        (
            f"CREATE TABLE d ({d}, FOREIGN KEY (a, x) REFERENCES p (a, x) {actions()},"
            f" PRIMARY KEY ({key}))",
            beside + kept(),
        ),
        (f"CREATE TABLE e ({e}, PRIMARY KEY ({key}))", beside + kept()),
    ]


def _statement(rng: random.Random) -> str:
    table = rng.choice("ppccde")
    columns = COLUMNS[table]

    def value(null: float) -> str:
        return "NULL" if rng.random() < null else str(rng.randrange(4))

    def row() -> str:
        return f"({', '.join(value(0.05) for _ in columns)})"

    listed, column, where = ", ".join(columns), rng.choice(columns), rng.choice(columns)
    condition = f"{table}.{where} {rng.choice(['=', '=', '<', '>='])} {value(0)}"
    made = rng.choice([value(0.1), f"{column} + 1", "DEFAULT", f"5 - {column}"])
    rows = ", ".join(row() for _ in range(rng.choice([1, 1, 2, 3])))
    computed = ", ".join(f"(g + {rng.randrange(5)}) % 5" for _ in columns)
    texts = [
        f"INSERT INTO {table} ({listed}) VALUES {rows}",
        f"INSERT INTO {table} ({listed}) VALUES {row()} ON CONFLICT DO NOTHING",
        f"UPDATE {table} SET {column} = {made} WHERE {condition}",
        f"DELETE FROM {table} WHERE {condition}",
        f"TRUNCATE {table}" + rng.choice(["", " CASCADE"]),
        f"INSERT INTO {table} ({listed}) SELECT {computed} FROM generate_series(1, 6) g",
    ]
    return rng.choices(texts, weights=[8, 2, 5, 4, 1, 1])[0]


def _next(rng: random.Random, *, in_block: bool) -> str:
    if not in_block:
        return "BEGIN" if rng.random() < 0.1 else _statement(rng)
    if rng.random() < 0.25:
        return rng.choice(["COMMIT", "ROLLBACK"])
    return rng.choice(["SAVEPOINT s", "ROLLBACK TO s"]) if rng.random() < 0.2 else _statement(rng)


async def _ask(client: Client, text: str) -> str | None:
    """The SQLSTATE, None for success."""
    try:
        await client.ask(text)
    except DqeError as error:
        return error.sqlstate
    return None


def _ask_postgres(postgres: Postgres, text: str) -> str | None:
    try:
        postgres.rows(text)
    except psycopg.Error as error:
        return error.sqlstate
    return None


async def _compare(client: Client, postgres: Postgres, seed: int) -> None:
    rng = random.Random(seed)
    said = [base + more for base, more in _definitions(rng)]
    for base, more in _definitions(random.Random(seed)):
        assert _ask_postgres(postgres, base) is None, base
        assert await _ask(client, base + more) is None, base + more
    for _ in range(STEPS):
        text = _next(rng, in_block=client.status != "I")
        said.append(text)
        theirs, mine = _ask_postgres(postgres, text), await _ask(client, text)
        same = mine == theirs or (mine or "")[:2] == (theirs or "")[:2] == "23"
        assert same, (seed, mine, theirs, said)
        if client.status != "E":
            for table, shown in SHOWN.items():
                query = f"SELECT {shown} FROM {table} ORDER BY {shown}"
                assert await client.ask(query) == postgres.rows(query), (seed, table, said)
    postgres.rows("ROLLBACK")
    await client.ask("ROLLBACK")
    for one in (postgres.rows, client.ask):
        found = one("DROP TABLE p, c, d, e")
        if not isinstance(found, list):
            await found


@pytest.mark.slow
def test_random_statements_end_as_in_postgresql(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        with running_postgres() as postgres:
            for seed in range(3):
                await _compare(await world.client(), postgres, seed)

    in_world(tmp_path, test)
