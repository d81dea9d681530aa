"""Where the microseconds of a point select go: its budget, step by step.

    python -m benchmarks.oltp.budget [--statements 5000]

Two nodes in this process hold a table of 10,000 rows. Messages are handed to the first one's wire
server as if they had come from a socket, so that the whole is what a statement costs a node beside
the kernel: once for rows that the node leads itself, once for rows of the other one (which then
has both ends of the RPC, and its sockets, in it). Below, the steps of the local one, each measured
by itself in a loop. All figures are processor time of the loop's thread, the best of five rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import struct
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks import report
from catalog.bounds import ordinal_for
from cluster.runtime import ProductionRuntime
from dqe.commands.start import collect_rarely
from dqe.configuration import NodeConfiguration
from dqe.local_cluster import HOST, free_port
from dqe.node import Node
from dqe.wire.messages import FrontendDecoder
from dqe.wire.pipelines import find_pipeline
from dqe.wire.quick_answers import quick_answer
from dqe.wire.transport import ClientTransport
from executor.lifted_literals import lifted
from executor.point_plans import Place, PointPlan
from executor.quick_statements import Answered
from executor.session import Session

ROWS = 10_000
ROUNDS = 5
_SQL = "SELECT v FROM points WHERE k = $1"
_STARTUP = struct.pack("!i", 196608) + b"user\0dqe\0database\0dqe\0\0"


class Sink:
    """The transport of a client that is not there: counts what is written."""

    def __init__(self) -> None:
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.writes += 1

    def get_extra_info(self, name: str) -> Any:
        return (HOST, 0) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""


def main() -> int:
    """Runs it and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--statements", type=int, default=5000, help="of one round")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        whole, steps = runner.run(_measured(arguments.statements))
    for title, found in (("One point select", whole), ("Its steps, read here", steps)):
        rows = [[name, f"{value:.1f}"] for name, value in found.items()]
        report.print_table(title, ["", "us"], rows)
    print(f"written to {report.write_json('oltp_budget', {'whole us': whole, 'steps us': steps})}")
    return 0


async def _measured(count: int) -> tuple[dict[str, float], dict[str, float]]:
    async with _nodes() as (first, second):
        session = await _session(first)
        for statement in (
            "CREATE TABLE points (k bigint PRIMARY KEY, v int) USING row WITH (replicas = 1)",
            f"INSERT INTO points SELECT i, i FROM generate_series(0, {ROWS - 1}) i",
        ):
            for parsed in await session.parse(statement):
                await (await session.execute(parsed)).close()
        collect_rarely()
        here, there = _keys(first), _keys(second)
        sink, transport = await _client(first)
        whole = {}
        for place, keys in (("led here", here), ("led by the other node", there)):
            for name, make in (("prepared", _prepared), ("simple", _simple)):
                messages = [make(random.choice(keys)) for _ in range(count)]
                whole[f"{name}, {place}"] = await _whole_us(sink, transport, messages)
        steps = await _steps(session, first, here, count)
        transport.connection_lost(None)
        await session.close()
        await asyncio.sleep(0)
        return whole, steps


@asynccontextmanager
async def _nodes() -> AsyncIterator[tuple[Node, Node]]:
    runtime = ProductionRuntime()
    with tempfile.TemporaryDirectory(prefix="dqe-budget-", ignore_cleanup_errors=True) as path:
        nodes: list[Node] = []
        try:
            for number in (1, 2):
                configuration = NodeConfiguration(
                    Path(path) / f"node{number}",
                    listen=f"{HOST}:{free_port()}",
                    pg=f"{HOST}:{free_port()}",
                    join=(nodes[0].rpc_address,) if nodes else (),
                    memory_limit_mib=256,
                    threads=1,
                )
                nodes.append(Node(configuration, runtime))
                await nodes[-1].start()
            yield nodes[0], nodes[1]
        finally:
            for node in reversed(nodes):
                await node.stop()
            await runtime.close()


async def _session(node: Node) -> Session:
    parts = node.parts
    return Session(parts.services, parts.coordinator, user="dqe")


def _keys(node: Node) -> list[int]:
    """Keys whose rows the node leads."""
    catalog = node.parts.services.catalog.current
    (table,) = [table for table in catalog.tables.values() if table.name == "points"]
    tablets = [part.fragments[0].tablet_id for part in table.parts]
    led = [node.parts.tablets.leader_of(tablet) == node.node_id for tablet in tablets]
    return [key for key in range(ROWS) if led[ordinal_for(table, [key])]]


async def _client(node: Node) -> tuple[Sink, ClientTransport]:
    sink = Sink()
    transport = ClientTransport(node._server._accept)  # type: ignore[attr-defined]
    transport.connection_made(cast(asyncio.Transport, sink))
    transport.data_received(struct.pack("!i", len(_STARTUP) + 4) + _STARTUP)
    await _written(sink, 1)
    parse = _message("P", b"s\0" + _SQL.encode() + b"\0\0\0")
    transport.data_received(parse + _message("S", b""))
    await _written(sink, 2)
    return sink, transport


async def _written(sink: Sink, count: int) -> None:
    while sink.writes < count:
        await asyncio.sleep(0.01)


def _message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def _prepared(key: int) -> bytes:
    """What libpq sends to execute a prepared statement."""
    text = str(key).encode()
    bind = b"\0s\0\0\0\0\1" + struct.pack("!i", len(text)) + text + b"\0\1\0\0"
    rest = (("D", b"P\0"), ("E", b"\0\0\0\0\0"), ("S", b""))
    return _message("B", bind) + b"".join(_message(*message) for message in rest)


def _simple(key: int) -> bytes:
    return _message("Q", _SQL.replace("$1", str(key)).encode() + b";\0")


async def _whole_us(sink: Sink, transport: ClientTransport, messages: Sequence[bytes]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time()
        for message in messages:
            before = sink.writes
            transport.data_received(message)
            while sink.writes == before:
                await asyncio.sleep(0)
        best = min(best, time.thread_time() - began)
    return best / len(messages) * 1e6


async def _steps(session: Session, node: Node, keys: Sequence[int], count: int) -> dict[str, float]:
    (statement,) = await session.parse(_SQL)
    prepared = await session.prepare(statement)
    reads = node.parts.services.point_reads
    plan = session.quick.plan_of(prepared)
    assert isinstance(plan, PointPlan)
    assert reads is not None
    answer = quick_answer(plan, (0,))
    texts = [[str(random.choice(keys))] for _ in range(count)]
    places = [place for place in map(plan.find, texts) if isinstance(place, Place)]
    stored = [reads.read_here(p.tablet_id, p.fragment_id, p.keys) for p in places]
    rows = [row for found in stored if found is not None for row in found if row is not None]
    assert answer is not None
    assert len(rows) == count
    packets = [_prepared(int(text)) for (text,) in texts]
    split = [FrontendDecoder().feed(packet) for packet in packets]
    decoder, store = FrontendDecoder(), node.parts.storage.tablets[places[0].tablet_id]._rows.store
    assert store is not None
    one = [place for place in places if place.tablet_id == places[0].tablet_id]
    names = {"s": prepared}
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
