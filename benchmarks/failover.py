"""Nodes that are killed under single-row writes and reads: how long nobody answers, what is lost.

    python -m benchmarks.failover [--rounds 10] [--nodes 3] [--clients 4] [--down 2.5]

In each round every node is killed once (`kill -9`), stays away for `--down` seconds and comes back.
Half of the clients insert rows and change rows of their own to ever greater values, half read
what was acknowledged; each holds to its node while that lives. Status 1 when an acknowledged
write is lost, a refused one is there, a read was stale, or a statement hangs.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import report
from benchmarks.clients import (
    Answers,
    Client,
    StatementFailed,
    at_work,
    kill_and_bring_back,
    until_stopped,
)
from dqe.local_cluster import LocalCluster

TABLE = "CREATE TABLE steady (k bigint PRIMARY KEY, v bigint) PARTITION BY HASH (k) PARTITIONS 6"
KEYS_A_WRITER = 1_000_000
BACK_S = 1.0
RECENT = 200
SHOWN = 30


@dataclass(slots=True)
class Register:
    """What one row must hold: `sure`, or the value whose fate is unknown."""

    sure: int = 0
    unsure: int | None = None

    def explains(self, found: int | None) -> bool:
        return found == (self.sure or None) or (found is not None and found == self.unsure)


@dataclass(slots=True)
class Kill:
    """One death: the longest times without an answer until the next one."""

    node: int
    writes_s: float
    reads_s: float


@dataclass(slots=True)
class Load:
    """What the clients share."""

    rows: dict[int, Register] = field(default_factory=dict)
    recent: list[int] = field(default_factory=list)
    writes: Answers = field(default_factory=Answers)
    reads: Answers = field(default_factory=Answers)
    errors: Counter[str] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)

    def acknowledged(self, key: int, value: int) -> None:
        self.rows[key].sure = value
        self.recent = [*self.recent[-RECENT:], key]


class Writer:
    """Inserts a row, then changes one of its own, and so on. It leaves a row alone whose last
    change has an unknown fate."""

    def __init__(self, load: Load, client: Client, chance: random.Random, first_key: int) -> None:
        self._load, self._client, self._chance = load, client, chance
        self._next_key = first_key
        self._own: list[int] = []

    async def turn(self) -> None:
        asked_s = time.monotonic()
        insert = not self._own or self._chance.random() < 0.5
        if insert:
            key, value = self._next_key, 1
            self._next_key += 1
            self._load.rows[key] = Register()
            sql = "INSERT INTO steady (k, v) VALUES ($1, $2)"
        else:
            key = self._chance.choice(self._own)
            value = self._load.rows[key].sure + 1
            sql = "UPDATE steady SET v = $2 WHERE k = $1"
        try:
            await self._client.ask(sql, key, value)
        except StatementFailed as error:
            self._load.errors[f"write {error.sqlstate}"] += 1
            if error.may_have_happened:
                self._load.rows[key].unsure = value
                self._own = [own for own in self._own if own != key]
            return
        if insert:
            self._own.append(key)
        self._load.acknowledged(key, value)
        self._load.writes.note(asked_s)


class Reader:
    """Reads rows that were written lately, from any node: never older than acknowledged."""

    def __init__(self, load: Load, client: Client, chance: random.Random) -> None:
        self._load, self._client, self._chance = load, client, chance

    async def turn(self) -> None:
        if not self._load.recent:
            return
        key = self._chance.choice(self._load.recent)
        least, asked_s = self._load.rows[key].sure, time.monotonic()
        try:
            found = await self._client.ask("SELECT v FROM steady WHERE k = $1", key)
        except StatementFailed as error:
            self._load.errors[f"read {error.sqlstate}"] += 1
            return
        if not found or found[0][0] < least:
            self._load.stale.append(f"row {key}: {found} after {least} was acknowledged")
        self._load.reads.note(asked_s)


@dataclass(slots=True)
class Outcome:
    """Of one run; empty lists are as it should be."""

    kills: list[Kill]
    acknowledged: int
    reads: int
    longest_wait_s: float
    errors: dict[str, int]
    lost: list[str]
    stale: list[str]

    @property
    def longest_gap_s(self) -> float:
        return max(max(kill.writes_s, kill.reads_s) for kill in self.kills)


async def measure(cluster: LocalCluster, rounds: int, clients: int, down_s: float) -> Outcome:
    """Kills every node `rounds` times under load, and compares what is there with what was said."""
    load, stop = Load(), asyncio.Event()
    first = Client(cluster, random.Random(0))
    await first.ask(TABLE)
    people, turns = [], []
    for number in range(clients):
        chance = random.Random(number)
        people.append(Client(cluster, chance))
        if number % 2:
            turns.append(Reader(load, people[-1], chance).turn)
        else:
            turns.append(Writer(load, people[-1], chance, (number + 1) * KEYS_A_WRITER).turn)
    kills: list[Kill] = []
    async with at_work(stop, *(until_stopped(stop, turn) for turn in turns)):
        await asyncio.sleep(BACK_S)
        for victim in cluster.nodes * rounds:
            begin_s = time.monotonic()
            await kill_and_bring_back(cluster, victim, down_s)
            await asyncio.sleep(BACK_S)
            gaps = (a.longest_gap_s(begin_s, time.monotonic()) for a in (load.writes, load.reads))
            kills.append(Kill(victim.number, *gaps))
    found = dict(await first.ask("SELECT k, v FROM steady"))
    for client in (first, *people):
        await client.close()
    return Outcome(
        kills,
        len(load.writes),
        len(load.reads),
        max(load.writes.longest_wait_s, load.reads.longest_wait_s),
        dict(load.errors),
        compare(load.rows, found),
        load.stale,
    )


def compare(rows: dict[int, Register], found: dict[int, int]) -> list[str]:
    """Rows that hold what nothing explains: an acknowledged write lost, a refused one there."""
    return [
        f"row {key}: {found.get(key)} instead of {rows.get(key)}"
        for key in sorted(rows.keys() | found.keys())
        if not rows.get(key, Register()).explains(found.get(key))
    ]


def show(outcome: Outcome) -> None:
    """A line a node, the longest over all rounds and the median, and what went wrong."""
    lines = []
    for number in sorted({kill.node for kill in outcome.kills}):
        of_node = [kill for kill in outcome.kills if kill.node == number]
        cells = [f"node {number}, {len(of_node)} times"]
        for gaps in ([k.writes_s for k in of_node], [k.reads_s for k in of_node]):
            cells += [f"{sorted(gaps)[len(gaps) // 2]:.2f}", f"{max(gaps):.2f}"]
        lines.append(cells)
    header = ["killed", "no write, median s", "longest", "no read, median s", "longest"]
    report.print_table("no answer to anybody", header, lines)
    print(
        f"{outcome.acknowledged} writes acknowledged, {len(outcome.lost)} lost; {outcome.reads}"
        f" reads, {len(outcome.stale)} stale; longest wait of one statement"
        f" {outcome.longest_wait_s:.2f} s; errors {outcome.errors}"
    )
    for line in (*outcome.lost, *outcome.stale)[:SHOWN]:
        print(line, file=sys.stderr)


def main() -> int:
    """Runs the benchmark; status 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--down", type=float, default=2.5, help="seconds that a node stays away")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="dqe-failover-") as scratch,
        LocalCluster(arguments.nodes, Path(scratch)) as cluster,
    ):
        outcome = asyncio.run(measure(cluster, arguments.rounds, arguments.clients, arguments.down))
    show(outcome)
    content = {
        "kills": [[k.node, round(k.writes_s, 3), round(k.reads_s, 3)] for k in outcome.kills],
        "longest_gap_s": round(outcome.longest_gap_s, 3),
        "longest_wait_s": round(outcome.longest_wait_s, 3),
        "acknowledged": outcome.acknowledged,
        "lost": len(outcome.lost),
        "stale": len(outcome.stale),
        "errors": outcome.errors,
    }
    print(f"figures in {report.write_json('failover', content)}")
    return 1 if outcome.lost or outcome.stale else 0


if __name__ == "__main__":
    sys.exit(main())
