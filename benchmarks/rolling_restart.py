"""All nodes restarted in turn under load: no statement fails that one retry does not fix.

    python -m benchmarks.rolling_restart [--rounds 2] [--nodes 3]

Each node in turn is told to end (SIGTERM), as for an upgrade, comes back, and the next one is
taken once the cluster is whole. Clients hold to their nodes while these live and ask, through all
nodes: single rows read and written, transactions of several statements over several nodes, and
analytic queries. A statement, or a transaction as a whole, that fails is asked once more, on
another connection where that one was lost; a 57P03, by which nothing was begun, is no try: it is
asked again, a few times at most, and shown. Status 1 when the retry failed as well, when an error
did not say that another try may help, or when an answer was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from benchmarks import report
from benchmarks.clients import Answers, Client, StatementFailed, at_work, until_stopped
from dqe.local_cluster import LocalCluster, NodeProcess

TABLES = (
    "CREATE TABLE cells (k bigint PRIMARY KEY, v bigint) PARTITION BY HASH (k) PARTITIONS 6",
    "CREATE TABLE sums (k bigint PRIMARY KEY, v bigint) PARTITION BY HASH (k) PARTITIONS 3",
)
ROWS = 3000
CLIENTS_A_KIND = 3
PAUSE_S = 0.02
SHOWN = 30
EVEN_TIMEOUT_S = 30.0
ANALYTIC = (
    "SELECT k % 7, count(*), sum(v) FROM cells GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM cells c JOIN sums s ON c.k % 10 = s.k WHERE s.v IS NOT NULL",
    "SELECT k FROM cells ORDER BY v DESC, k LIMIT 10",
)
# The node, or the one that it asked, was on its way out or in.
REFUSED = "57P03"
MOST_REFUSALS = 3
REFUSED_PAUSE_S = 0.2


@dataclass(slots=True)
class Outcome:
    """What the clients saw. `failed` and `wrong` empty is as it should be."""

    answers: dict[str, Answers] = field(default_factory=dict)
    retried: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leaders: dict[int, int] = field(default_factory=dict)
    even_after_s: float | None = None
    longest_gap_s: float = 0.0


class Worker:
    """Asks one kind of thing over and over, each at most twice."""

    def __init__(self, kind: str, outcome: Outcome, client: Client) -> None:
        self._kind, self._outcome, self._client = kind, outcome, client
        outcome.answers.setdefault(kind, Answers())

    async def twice(self, work: Callable[[asyncpg.Connection], Awaitable[None]]) -> bool:
        """Whether it was done."""
        asked_s = time.monotonic()
        first: StatementFailed | None = None
        refusals = 0
        while True:
            try:
                await self._client.run(work)
            except StatementFailed as error:
                if not error.is_retryable:
                    self._outcome.failed.append(f"{self._kind}: {error}")
                    return False
                if error.sqlstate == REFUSED and refusals < MOST_REFUSALS:
                    refusals += 1
                    self._outcome.retried[f"{self._kind} {error.sqlstate}"] += 1
                    await asyncio.sleep(REFUSED_PAUSE_S)
                    continue
                if first is not None:
                    self._outcome.failed.append(f"{self._kind}: {first}; then: {error}")
                    return False
                first = error
                self._outcome.retried[f"{self._kind} {error.sqlstate}"] += 1
            else:
                self._outcome.answers[self._kind].note(asked_s)
                return True


class Setter(Worker):
    """Sets a row of its own to the next value and reads it back."""

    def __init__(self, outcome: Outcome, client: Client, key: int) -> None:
        super().__init__("single rows", outcome, client)
        self._key = key
        self._value = 0

    async def turn(self) -> None:
        self._value += 1
        if await self.twice(self._set):
            await self.twice(self._read)

    async def _set(self, session: asyncpg.Connection) -> None:
        await session.execute("UPDATE cells SET v = $2 WHERE k = $1", self._key, self._value)

    async def _read(self, session: asyncpg.Connection) -> None:
        found = await session.fetchval("SELECT v FROM cells WHERE k = $1", self._key)
        if found != self._value:
            self._outcome.wrong.append(f"row {self._key}: {found} instead of {self._value}")


class Mover(Worker):
    """Moves one between two rows of its own by a transaction; their sum stays what it was."""

    def __init__(self, outcome: Outcome, client: Client, keys: tuple[int, int]) -> None:
        super().__init__("transactions", outcome, client)
        self._keys = keys

    async def turn(self) -> None:
        await self.twice(self._move)

    async def _move(self, session: asyncpg.Connection) -> None:
        await session.execute("BEGIN")
        for key, change in zip(self._keys, (-1, 1), strict=True):
            await session.execute("UPDATE cells SET v = v + $2 WHERE k = $1", key, change)
        held = await session.fetchval("SELECT sum(v) FROM cells WHERE k IN ($1, $2)", *self._keys)
        await session.execute("COMMIT")
        if held != 0:
            self._outcome.wrong.append(f"rows {self._keys} sum up to {held}")


class Analyst(Worker):
    """Asks queries over all rows."""

    def __init__(self, outcome: Outcome, client: Client) -> None:
        super().__init__("analytic queries", outcome, client)
        self._turn = 0

    async def turn(self) -> None:
        self._turn += 1
        await self.twice(self._query)

    async def _query(self, session: asyncpg.Connection) -> None:
        found = await session.fetch(ANALYTIC[self._turn % len(ANALYTIC)])
        if not found:
            self._outcome.wrong.append("a query over all rows found none")


async def restart_all(cluster: LocalCluster, rounds: int, seed: int = 1) -> Outcome:
    """Restarts every node `rounds` times under load."""
    outcome, stop = Outcome(), asyncio.Event()
    first = Client(cluster, random.Random(seed))
    for table in TABLES:
        await first.ask(table)
    await first.ask(f"INSERT INTO cells SELECT g, 0 FROM generate_series(0, {ROWS - 1}) g")
    await first.ask("INSERT INTO sums SELECT g, g FROM generate_series(0, 9) g")
    clients: list[Client] = []
    workers: list[Setter | Mover | Analyst] = []
    for number in range(CLIENTS_A_KIND):
        at = cluster.nodes[number % len(cluster.nodes)]
        mine = [Client(cluster, random.Random(seed * 100 + number), at) for _ in range(3)]
        clients += mine
        workers.append(Setter(outcome, mine[0], number))
        workers.append(Mover(outcome, mine[1], (100 + number, 200 + number)))
        workers.append(Analyst(outcome, mine[2]))
    async with at_work(stop, *(until_stopped(stop, w.turn, PAUSE_S) for w in workers)):
        await asyncio.sleep(1)
        for node in cluster.nodes * rounds:
            await _restart(cluster, node, outcome)
    await _see_leaders_spread(first, outcome)
    for client in (first, *clients):
        await client.close()
    return outcome


async def _restart(cluster: LocalCluster, node: NodeProcess, outcome: Outcome) -> None:
    begin_s = time.monotonic()
    await asyncio.to_thread(cluster.restart_node, node)
    await asyncio.sleep(1)
    end_s = time.monotonic()
    gaps = [answers.longest_gap_s(begin_s, end_s) for answers in outcome.answers.values()]
    outcome.longest_gap_s = max(outcome.longest_gap_s, *gaps)


async def _see_leaders_spread(client: Client, outcome: Outcome) -> None:
    """The node that was restarted last leads nothing at first; the catalog's leader mends that."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < EVEN_TIMEOUT_S:
        outcome.leaders = await _leaders(client)
        if max(outcome.leaders.values()) - min(outcome.leaders.values()) <= 1:
            outcome.even_after_s = time.monotonic() - began_s
            return
        await asyncio.sleep(0.2)


async def _leaders(client: Client) -> dict[int, int]:
    """How many tablets each node leads."""
    found = await client.ask("SELECT node_id, leaders FROM dqe.nodes ORDER BY 1")
    return {int(node): int(count) for node, count in found}


def show(outcome: Outcome) -> None:
    """A line a kind, and what failed for good."""
    lines = [
        [kind, str(len(answers)), f"{answers.longest_wait_s:.2f}"]
        for kind, answers in outcome.answers.items()
    ]
    report.print_table("under rolling restarts", ["asked", "times", "longest wait, s"], lines)
    even = outcome.even_after_s
    print(
        f"asked a second time: {dict(sorted(outcome.retried.items()))}\nfailed for good:"
        f" {len(outcome.failed)}; longest time without an answer to any of a kind"
        f" {outcome.longest_gap_s:.2f} s\nleaders a node {outcome.leaders},"
        + (" not even" if even is None else f" even {even:.1f} s after the last restart")
    )
    for line in (*outcome.failed, *outcome.wrong)[:SHOWN]:
        print(line, file=sys.stderr)


def main() -> int:
    """Runs the benchmark; status 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--nodes", type=int, default=3)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="dqe-rolling-") as scratch,
        LocalCluster(arguments.nodes, Path(scratch)) as cluster,
    ):
        outcome = asyncio.run(restart_all(cluster, arguments.rounds))
    show(outcome)
    content = {
        "answers": {kind: len(answers) for kind, answers in outcome.answers.items()},
        "retried": dict(outcome.retried),
        "failed": outcome.failed,
        "wrong": outcome.wrong,
        "longest_gap_s": round(outcome.longest_gap_s, 3),
        "leaders": outcome.leaders,
        "leaders_even_after_s": outcome.even_after_s,
    }
    print(f"figures in {report.write_json('rolling_restart', content)}")
    return 1 if outcome.failed or outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
