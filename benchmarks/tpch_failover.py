"""TPC-H's 22 queries while nodes die: the right answer or a clear error that says "again".

    python -m benchmarks.tpch_failover [--scale 0.1] [--seconds 120] [--fragmentation hash]
                                       [--clients 2] [--nodes 3] [--data DIRECTORY]

The clients ask the queries in turn, each through a node that runs, while nodes are killed
(`kill -9`) and come back, each in turn. Answers are compared with those of one DuckDB process.
Right: the same rows, or an error of class 40, 08 or 57P0x; a client that is told so asks again, and
what it is told then counts, too. Status 1 when an answer was wrong, an error another one, or a
statement had no answer at all.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import report, tpch_command
from benchmarks.clients import (
    Answers,
    Client,
    StatementFailed,
    StatementHangs,
    at_work,
    kill_and_bring_back,
    until_stopped,
)
from benchmarks.peers import load_duckdb
from benchmarks.tpch import Rows, differs, load, normalised
from benchmarks.tpch_data import QUERY_NUMBERS, query
from dqe.local_cluster import LocalCluster
from dqe.tpch import generate

BETWEEN_KILLS_S = 2.0
DOWN_S = 2.0


@dataclass(slots=True)
class Outcome:
    """What the clients were told."""

    kills: int = 0
    right: Answers = field(default_factory=Answers)
    retryable: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Analyst:
    """Asks one query after the other."""

    def __init__(
        self, outcome: Outcome, client: Client, answers: dict[int, Rows], first: int
    ) -> None:
        self._outcome, self._client, self._answers = outcome, client, answers
        self._turn = first

    async def turn(self) -> None:
        number = list(self._answers)[self._turn % len(self._answers)]
        asked_s = time.monotonic()
        try:
            rows = await self._client.ask(query(number))
        except StatementFailed as error:
            # The same query again.
            self._outcome.retryable[error.sqlstate] += 1
            if not error.is_retryable:
                self._outcome.wrong.append(f"query {number}: {error}")
        except StatementHangs as error:
            self._outcome.wrong.append(f"query {number}: {error}")
        else:
            self._turn += 1
            self._outcome.right.note(asked_s)
            if reason := differs(normalised(rows), self._answers[number]):
                self._outcome.wrong.append(f"query {number}: {reason}")


def duckdb_answers(files: dict[str, Path], threads: int = 1) -> dict[int, Rows]:
    """What each query must answer."""
    engine = load_duckdb(files, threads=threads)
    return {n: normalised(engine.sql(_plain(n)).fetchall()) for n in QUERY_NUMBERS}


def _plain(number: int) -> str:
    return query(number).rstrip().rstrip(";")


async def ask_while_nodes_die(
    cluster: LocalCluster, answers: dict[int, Any], *, seconds: float, clients: int, seed: int = 1
) -> Outcome:
    """At least one death of each node, and as many more as there is time for."""
    outcome, stop = Outcome(), asyncio.Event()
    people = [Client(cluster, random.Random(seed * 100 + n)) for n in range(clients)]
    turns = [
        Analyst(outcome, client, answers, n * len(answers) // clients).turn
        for n, client in enumerate(people)
    ]
    ends_s = time.monotonic() + seconds
    async with at_work(stop, *(until_stopped(stop, turn) for turn in turns)):
        while time.monotonic() < ends_s or outcome.kills < len(cluster.nodes):
            await asyncio.sleep(BETWEEN_KILLS_S)
            victim = cluster.nodes[outcome.kills % len(cluster.nodes)]
            outcome.kills += 1
            await kill_and_bring_back(cluster, victim, DOWN_S)
    for client in people:
        await client.close()
    return outcome


def main() -> int:
    """Runs the benchmark; status 1 when a promise was broken."""
    parser = tpch_command.parser(__doc__, scale=0.1)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dqe-tpch-failover-") as scratch:
        files = generate(arguments.scale, tpch_command.rows_directory(arguments, scratch))
        answers = duckdb_answers(files)
        with LocalCluster(arguments.nodes, Path(scratch) / "cluster") as cluster:
            with psycopg.connect(cluster.url, autocommit=True) as connection:
                load(connection, files, arguments.fragmentation)
            outcome = asyncio.run(
                ask_while_nodes_die(
                    cluster, answers, seconds=arguments.seconds, clients=arguments.clients
                )
            )
    print(
        f"{outcome.kills} kills, {len(outcome.right)} answers, {len(outcome.wrong)} wrong;"
        f" longest wait {outcome.right.longest_wait_s:.2f} s;"
        f" told to try again: {dict(outcome.retryable)}"
    )
    for line in outcome.wrong:
        print(line, file=sys.stderr)
    content = {
        "scale": arguments.scale,
        "kills": outcome.kills,
        "answers": len(outcome.right),
        "wrong": outcome.wrong,
        "longest_wait_s": round(outcome.right.longest_wait_s, 2),
        "told_to_try_again": dict(outcome.retryable),
    }
    print(f"figures in {report.write_json('tpch_failover', content)}")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
