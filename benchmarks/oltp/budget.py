"""Where the microseconds of a point select and of a block go: their budgets.

    python -m benchmarks.oltp.budget [--statements 5000]

Two nodes in this process hold a table of 10,000 rows. Messages are handed to the first one's wire
server as if they had come from a socket, so that the whole is what a statement costs a node beside
the kernel: once for rows that the node leads itself, once for rows of the other one (which then
has both ends of the RPC, and its sockets, in it). Below, the steps of the local one, each measured
by itself in a loop, and the statements of a block. All figures are processor time of the loop's
thread, the best of five rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import uvloop

from benchmarks import report
from benchmarks.oltp.wire_client import (
    WireClient,
    prepared,
    session_of,
    simple,
    two_nodes,
)
from catalog.bounds import ordinal_for
from dqe.commands.start import collect_rarely
from dqe.node import Node
from dqe.wire.messages import FrontendDecoder
from dqe.wire.pipelines import find_pipeline
from dqe.wire.quick_answers import quick_answer
from executor.lifted_literals import lifted
from executor.point_plans import Place, PointPlan
from executor.quick_statements import Answered
from executor.session import Session

ROWS = 10_000
ROUNDS = 5
_SQL = "SELECT v FROM points WHERE k = $1"
_TABLES = (
    "CREATE TABLE points (k bigint PRIMARY KEY, v int) USING row WITH (replicas = 1)",
    f"INSERT INTO points SELECT i, i FROM generate_series(0, {ROWS - 1}) i",
)
# A block that is rolled back: what its statements cost until they stand in the leader's draft.
BLOCK = {
    "begin": "BEGIN",
    "update": "UPDATE points SET v = v + $1 WHERE k = $2",
    "own": _SQL,
    "insert": "INSERT INTO points (k, v) VALUES ($1, $2)",
    "rollback": "ROLLBACK",
}


def main() -> int:
    """Runs it and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--statements", type=int, default=5000, help="of one round")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured = runner.run(_measured(arguments.statements))
    for title, found in measured.items():
        rows = [[name, f"{value:.1f}"] for name, value in found.items()]
        report.print_table(title, ["", "us"], rows)
    print(f"written to {report.write_json('oltp_budget', {'us': measured})}")
    return 0


async def _measured(count: int) -> dict[str, dict[str, float]]:
    async with two_nodes() as (first, second):
        session = session_of(first)
        for statement in _TABLES:
            for parsed in await session.parse(statement):
                await (await session.execute(parsed)).close()
        collect_rarely()
        here, there = _keys(first, range(ROWS)), _keys(second, range(ROWS))
        fresh = _keys(first, range(ROWS, 3 * ROWS))
        client = WireClient(first)
        await client.start({"s": _SQL, **BLOCK})
        found: dict[str, dict[str, float]] = {"One point select": {}}
        for place, keys in (("led here", here), ("led by the other node", there)):
            chosen = [[random.choice(keys)] for _ in range(count)]
            for name, packets in (
                ("prepared", [prepared("s", values) for values in chosen]),
                ("simple", [simple(_SQL, values) for values in chosen]),
            ):
                us = await _whole_us(client, packets)
                found["One point select"][f"{name}, {place}"] = us
        found["Its steps, read here"] = await _steps(session, first, here, count)
        for mode in ("prepared", "simple"):
            block = await _block_us(client, here, fresh, count // 10, mode)
            found[f"A block rolled back, {mode}, led here"] = block
        await client.close()
        await session.close()
        gc.unfreeze()
        return found


async def _block_us(
    client: WireClient, keys: Sequence[int], fresh: Sequence[int], count: int, mode: str
) -> dict[str, float]:
    best = dict.fromkeys(BLOCK, float("inf"))
    for _ in range(ROUNDS):
        spent_s = dict.fromkeys(BLOCK, 0.0)
        for _ in range(count):
            key, new = random.choice(keys), random.choice(fresh)
            values = {"update": [new % 1000, key], "own": [key], "insert": [new, key]}
            for name, sql in BLOCK.items():
                given = values.get(name, [])
                packet = prepared(name, given) if mode == "prepared" else simple(sql, given)
                spent_s[name] += await client.spent_s(packet)
        best = {name: min(best[name], spent_s[name]) for name in BLOCK}
    return {BLOCK[name]: value / count * 1e6 for name, value in best.items()}


def _keys(node: Node, among: range) -> list[int]:
    """Those keys whose rows the node leads."""
    catalog = node.parts.services.catalog.current
    (table,) = [table for table in catalog.tables.values() if table.name == "points"]
    tablets = [part.fragments[0].tablet_id for part in table.parts]
    led = [node.parts.tablets.leader_of(tablet) == node.node_id for tablet in tablets]
    return [key for key in among if led[ordinal_for(table, [key])]]


async def _whole_us(client: WireClient, packets: Sequence[bytes]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        best = min(best, sum([await client.spent_s(packet) for packet in packets]))
    return best / len(packets) * 1e6


async def _steps(session: Session, node: Node, keys: Sequence[int], count: int) -> dict[str, float]:
    (statement,) = await session.parse(_SQL)
    known = await session.prepare(statement)
    reads = node.parts.services.point_reads
    plan = session.quick.plan_of(known)
    assert isinstance(plan, PointPlan)
    assert reads is not None
    answer = quick_answer(plan, (0,))
    texts = [[str(random.choice(keys))] for _ in range(count)]
    places = [place for place in map(plan.find, texts) if isinstance(place, Place)]
    stored = [reads.read_here(p.tablet_id, p.fragment_id, p.keys) for p in places]
    rows = [row for found in stored if found is not None for row in found if row is not None]
    assert answer is not None
    assert len(rows) == count
    packets = [prepared("s", text) for text in texts]
    split = [FrontendDecoder().feed(packet) for packet in packets]
    decoder, store = FrontendDecoder(), node.parts.storage.tablets[places[0].tablet_id]._rows.store
    assert store is not None
    one = [place for place in places if place.tablet_id == places[0].tablet_id]
    names = {"s": known}
    return {
        "messages from bytes": _each_us(packets, decoder.feed),
        "Bind, Describe, Execute, Sync read together": _each_us(
            split, lambda m: find_pipeline(m[0], deque(m[1:]), names, {}, session.quick)
        ),
        "(or a text's literals put aside, and its plan)": _each_us(
            [_SQL.replace("$1", text) for (text,) in texts], session.quick.plan_of_text
        ),
        "(of that, the literals)": _each_us(
            [_SQL.replace("$1", text) for (text,) in texts], lifted
        ),
        "the key's value, part and tablet": _each_us(texts, plan.find),
        "the read at its leader: pending, store, lease": _each_us(
            places, lambda p: reads.read_here(p.tablet_id, p.fragment_id, p.keys)
        ),
        "(of that, SQLite)": _each_us(one, lambda p: store.get(p.fragment_id, p.keys[0])),
        "the answer's bytes": _each_us(
            rows, lambda row: answer.body(Answered("SELECT 1", [plan.answer(row, ()) or []]))
        ),
    }


def _each_us(items: Sequence[Any], work: Callable[[Any], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time()
        for item in items:
            work(item)
        best = min(best, time.thread_time() - began)
    return best / len(items) * 1e6


if __name__ == "__main__":
    sys.exit(main())
