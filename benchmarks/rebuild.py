"""Two of five nodes die for good: how long until all replicas are there again, and are they equal.

    python -m benchmarks.rebuild [--nodes 5] [--rows 50000] [--dead-after 20] [--together]

The second node is killed once the first one's replicas are rebuilt. With `--together` both die at
once; then tablets that had two of their three replicas there have lost their majority: all else
is rebuilt, and `dqe recover all` brings these back by the operator's word. Clients go on writing
single rows meanwhile. At the end every row is compared with what was written, through every node
that is left, and `dqe check` compares the replicas. Status 1 where anything differs; of what was
written with `--together`, the last writes to tablets that lost their majority may be gone.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.clients import Client, StatementFailed, StatementHangs, at_work, until_stopped
from benchmarks.failover import KEYS_A_WRITER, Load, Writer, compare
from benchmarks.failover import TABLE as STEADY_TABLE
from dqe.commands import check, recover
from dqe.local_cluster import LocalCluster, NodeProcess

TABLE = (
    "CREATE TABLE kept (k bigint PRIMARY KEY, v text)"
    " PARTITION BY HASH (k) PARTITIONS 10 WITH (replicas = 3)"
)
TABLETS = "SELECT tablet_id, replicas FROM dqe.tablets WHERE tablet_id > 0"
LOST = "SELECT tablet_id FROM dqe.repairs WHERE trouble = 'no majority' ORDER BY 1"
LOST_NOTHING = "SELECT count(*) = 0 FROM dqe.repairs"
# A tablet without its majority lacks replicas as well.
OTHERS = (
    "SELECT count(*) FROM dqe.repairs"
    " WHERE tablet_id NOT IN (SELECT tablet_id FROM dqe.repairs WHERE trouble = 'no majority')"
)
CHECK = "SELECT count(*), coalesce(sum(k), 0), count(*) FILTER (WHERE v = 'value ' || k) FROM kept"
WRITERS = 2
TIMEOUT_S = 240.0
LOOK_S = 0.2


class NotRebuilt(Exception):
    """It did not come to that in time; the text says to what."""


@dataclass(slots=True)
class Death:
    """Of one or two nodes: the seconds from the kill until they were marked dead in the catalog,
    and until no tablet lacked a replica any more (or only those without a majority did)."""

    nodes: list[int]
    dead_s: float
    whole_s: float
    tablets: int


@dataclass(slots=True)
class Outcome:
    """Of one run; an empty list of differences is as it should be."""

    deaths: list[Death] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)
    recovered_s: float = 0.0
    acknowledged: int = 0
    # Rows written in the moment of a majority's death that went with it: the operator's word.
    given_up: set[str] = field(default_factory=set)
    differences: list[str] = field(default_factory=list)


class Story:
    """The cluster, what was written, and who is left."""

    def __init__(self, cluster: LocalCluster, rows: int, seed: int = 1) -> None:
        self.cluster = cluster
        self.outcome = Outcome()
        self._rows = rows
        self._chance = random.Random(seed)
        self._load = Load()
        self._client = Client(cluster, self._chance, cluster.nodes[0])

    async def run(self, victims: list[NodeProcess], together: bool) -> Outcome:
        """Fills two tables, and has the nodes die while one of them is written to."""
        await self._fill()
        stop = asyncio.Event()
        clients = [Client(self.cluster, random.Random(n)) for n in range(WRITERS)]
        turns = [
            Writer(self._load, client, random.Random(n), (n + 1) * KEYS_A_WRITER).turn
            for n, client in enumerate(clients)
        ]
        groups = [victims] if together else [[victim] for victim in victims]
        steady = (until_stopped(stop, self._noting_hangs(turn)) for turn in turns)
        async with at_work(stop, *steady):
            for group in groups:
                self.outcome.deaths.append(await self._death(group))
            await self._recover_lost()
        await self._compare()
        for client in (self._client, *clients):
            await client.close()
        self.outcome.acknowledged = len(self._load.writes)
        return self.outcome

    def _noting_hangs(self, turn: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """A statement without an answer is a difference, and no reason to look no further."""

        async def noting() -> None:
            try:
                await turn()
            except StatementHangs as error:
                self.outcome.differences.append(f"a write had {error}")

        return noting

    async def _fill(self) -> None:
        for sql in (TABLE, STEADY_TABLE):
            await self._client.ask(sql)
        await self._client.ask(
            f"INSERT INTO kept SELECT g, 'value ' || g FROM generate_series(1, {self._rows}) g"
        )
        await self._until(LOST_NOTHING, "all replicas are there")

    async def _death(self, group: list[NodeProcess]) -> Death:
        ids = [await self._id_of(node) for node in group]
        listed = ", ".join(map(str, ids))
        held = await self._client.ask(TABLETS)
        began_s = time.monotonic()
        for node in group:
            await asyncio.to_thread(self.cluster.hold, node)
        dead = f"SELECT count(*) = 0 FROM dqe.nodes WHERE node_id IN ({listed}) AND state <> 'dead'"
        await self._until(dead, f"nodes {listed} are dead")
        dead_s = time.monotonic() - began_s
        await self._until(f"SELECT ({OTHERS}) = 0", "the replicas are rebuilt")
        whole_s = time.monotonic() - began_s
        hit = sum(1 for _, replicas in held if set(replicas) & set(ids))
        return Death(ids, dead_s, whole_s, hit)

    async def _recover_lost(self) -> None:
        self.outcome.recovered = [tablet_id for (tablet_id,) in await self._ask(LOST)]
        if not self.outcome.recovered:
            return
        began_s = time.monotonic()
        url = self.cluster.nodes[0].url
        if await asyncio.to_thread(recover.run, recover.ALL, url, accept_data_loss=True) != 0:
            self.outcome.differences.append("what was lost could not be recovered")
        await self._until(LOST_NOTHING, "every tablet is whole")
        self.outcome.recovered_s = time.monotonic() - began_s

    async def _compare(self) -> None:
        differences = self.outcome.differences
        left = [node for node in self.cluster.nodes if node.runs]
        whole = (self._rows, self._rows * (self._rows + 1) // 2, self._rows)
        for node in left:
            client = Client(self.cluster, self._chance, node)
            [found] = await client.ask(CHECK)
            if found != whole:
                differences.append(f"node {node.number}: {found} instead of {whole}")
            rows = dict(await client.ask("SELECT k, v FROM steady"))
            lost = compare(self._load.rows, rows)
            if self.outcome.recovered:
                self.outcome.given_up.update(lost)
            else:
                differences += lost
            await client.close()
        if await asyncio.to_thread(check.run, left[0].url) != 0:
            differences.append("the replicas are not all equal")
        for tablet_id, replicas in await self._client.ask(TABLETS):
            if len(replicas) != 3:
                differences.append(f"tablet {tablet_id} has replicas on {replicas}")

    async def _id_of(self, node: NodeProcess) -> int:
        like = f"%:{node.pg_port}"
        [(found,)] = await self._ask("SELECT node_id FROM dqe.nodes WHERE pg_address LIKE $1", like)
        return int(found)

    async def _ask(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """The answer, however often it takes while leaders change."""
        ends_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return await self._client.ask(sql, *arguments)
            except StatementFailed:
                if time.monotonic() > ends_s:
                    raise
                await asyncio.sleep(LOOK_S)

    async def _until(self, sql: str, what: str) -> None:
        ends_s = time.monotonic() + TIMEOUT_S
        while await self._ask(sql) != [(True,)]:
            if time.monotonic() > ends_s:
                raise NotRebuilt(f"not within {TIMEOUT_S:.0f} s: {what}")
            await asyncio.sleep(LOOK_S)


def show(outcome: Outcome, dead_after_s: float) -> None:
    """A line a death, and what differs."""
    lines = [
        [
            ", ".join(map(str, death.nodes)),
            str(death.tablets),
            f"{death.dead_s:.1f}",
            f"{death.whole_s:.1f}",
            f"{death.whole_s - dead_after_s:.1f}",
        ]
        for death in outcome.deaths
    ]
    header = ["killed", "tablets hit", "dead after, s", "whole after, s", "less dead_after"]
    report.print_table("replicas rebuilt", header, lines)
    if outcome.recovered:
        print(
            f"tablets {outcome.recovered} had lost their majority: recovered by dqe recover all,"
            f" whole {outcome.recovered_s:.1f} s after it was asked"
        )
    print(
        f"{outcome.acknowledged} writes acknowledged meanwhile, {len(outcome.given_up)} given up"
        f" with a majority, {len(outcome.differences)} differences"
    )
    for line in outcome.differences:
        print(line, file=sys.stderr)


def main() -> int:
    """Runs the benchmark; status 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dead-after", type=int, default=20, help="seconds")
    parser.add_argument("--together", action="store_true", help="both die at once")
    arguments = parser.parse_args()
    dead_after = f"{arguments.dead_after}s"
    with (
        tempfile.TemporaryDirectory(prefix="dqe-rebuild-") as scratch,
        LocalCluster(arguments.nodes, Path(scratch), dead_after=dead_after) as cluster,
    ):
        story = Story(cluster, arguments.rows)
        outcome = asyncio.run(story.run(cluster.nodes[-2:], arguments.together))
    show(outcome, arguments.dead_after)
    content = {
        "dead_after_s": arguments.dead_after,
        "deaths": [
            [death.nodes, death.tablets, round(death.dead_s, 1), round(death.whole_s, 1)]
            for death in outcome.deaths
        ],
        "recovered": outcome.recovered,
        "recovered_s": round(outcome.recovered_s, 1),
        "acknowledged": outcome.acknowledged,
        "given_up": sorted(outcome.given_up),
        "differences": outcome.differences,
    }
    print(f"figures in {report.write_json('rebuild', content)}")
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main())
