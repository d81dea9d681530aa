"""Random tables, cuts and queries: dqe answers as one PostgreSQL holding all the rows would.

A seed makes three to five tables of random types, cut at random, filled by INSERT and COPY; then
queries, views, prepared statements, expressions that fail, and changes of the rows, each through
a random node. Rows, types, tags, order and SQLSTATE are compared (`differential_engines`). A
failing seed prints its queries and the command that runs it again; `DIFFERENTIAL_SHRINK=1` makes
them smaller first.

The same rows are asked again when the tables are cut anew, and on a cluster of one node.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from differential_engines import Engine, difference
from differential_queries import QueryMaker
from differential_shrink import shrink
from differential_world import World, check_seed, world
from postgres_support import running_postgres

from dqe.local_cluster import LocalCluster

pytestmark = pytest.mark.cluster

QUERIES_A_SEED = 40
REPORTED = 5


@pytest.fixture(scope="module")
def postgres() -> Iterator[Engine]:
    """PostgreSQL with texts in the order of their bytes, as dqe has them."""
    with running_postgres() as server:
        server.rows("create database differential template template0 locale 'C' encoding 'UTF8'")
        engine = Engine(server.uri_of("differential"))
        yield engine
        engine.close()


@pytest.fixture(scope="module")
def nodes(cluster: LocalCluster) -> Iterator[list[Engine]]:
    engines = [Engine(node.url) for node in cluster.nodes]
    yield engines
    for engine in engines:
        engine.close()


def answers_alike(seed: int, nodes: list[Engine], postgres: Engine, queries: int) -> None:
    wrong: list[str] = []
    with world(seed, nodes, postgres) as made:
        check_seed(made, queries, wrong.append)
        shown = [_smaller(made, text) for text in wrong[:REPORTED]]
        tables = "\n".join([t.ddl(cut=True) for t in made.tables] + list(made.views.values()))
    again = f"DIFFERENTIAL_SEED={seed} .venv/bin/pytest {__file__} -k one_seed"
    assert not wrong, "\n\n".join([*shown, tables, f"again: {again}"])


def _smaller(made: World, text: str) -> str:
    """The report, of a smaller query where that is asked for and the query says it all."""
    sql = text.rpartition("\n")[2]
    if "DIFFERENTIAL_SHRINK" not in os.environ or not sql.startswith(("select", "with", "(")):
        return text

    def report(candidate: str) -> str | None:
        wanted = made.postgres.ask(candidate)
        if wanted.sqlstate:
            return None  # smaller, but no query any more
        return difference(made.nodes[0].ask(candidate), wanted, ())

    kind = text[:12]
    found = shrink(sql, lambda candidate: (report(candidate) or "")[:12] == kind)
    return f"{text}\nsmaller: {found}\n{report(found)}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_queries(seed: int, nodes: list[Engine], postgres: Engine) -> None:
    answers_alike(seed, nodes, postgres, QUERIES_A_SEED)


@pytest.mark.slow
def test_however_the_rows_are_cut(nodes: list[Engine], postgres: Engine) -> None:
    with world(1000, nodes, postgres) as made:
        maker = QueryMaker(made.chance, made.tables)
        queries = list(made.queries(maker, 15, views=False))
        for _ in range(3):
            for query in queries:
                assert not made.check(query)
            made.cut_again()


@pytest.mark.slow
def test_on_one_node(tmp_path: Path, postgres: Engine) -> None:
    with LocalCluster(1, tmp_path) as alone:
        engine = Engine(alone.url)
        try:
            answers_alike(2000, [engine], postgres, QUERIES_A_SEED)
        finally:
            engine.close()


@pytest.mark.skipif("DIFFERENTIAL_SEED" not in os.environ, reason="runs one seed again")
def test_one_seed(nodes: list[Engine], postgres: Engine) -> None:
    answers_alike(int(os.environ["DIFFERENTIAL_SEED"]), nodes, postgres, QUERIES_A_SEED)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3000, 3300))
def test_many_random_queries(seed: int, nodes: list[Engine], postgres: Engine) -> None:
    answers_alike(seed, nodes, postgres, QUERIES_A_SEED)
