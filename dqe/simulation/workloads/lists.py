"""Transactions of several statements read lists and append to them, at every isolation level.

What they read tells in which order they took effect; it must be without the circles that their
levels forbid, and agree with real time over all nodes (`dqe.simulation.dependencies`). Lists are
rows on several tablets, so most transactions commit in two phases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dqe.simulation.client import Client, Ended
from dqe.simulation.dependencies import (
    Append,
    Fate,
    Level,
    Read,
    Transaction,
    Values,
    find_anomaly,
)
from dqe.simulation.errors import Violation
from dqe.simulation.workloads.shapes import by_hash

LISTS = 6
MAX_STATEMENTS = 4

Operations = list[Append | Read]


class Lists:
    """See the module."""

    tables = ("lists",)

    def __init__(self) -> None:
        self._history: list[Transaction] = []
        self._next_value = 0

    async def set_up(self, client: Client) -> None:
        await client.until_done(
            "CREATE TABLE IF NOT EXISTS lists (id bigint PRIMARY KEY, items text) "
            + by_hash(client.chance, "id", 3)
        )
        rows = ", ".join(f"({number}, '')" for number in range(LISTS))
        await client.until_done(f"INSERT INTO lists VALUES {rows}")

    async def step(self, client: Client) -> None:
        level = client.chance.choice(list(Level))
        count = client.chance.randrange(1, MAX_STATEMENTS + 1)
        operations: Operations = []

        async def body() -> None:
            for _ in range(count):
                if client.chance.random() < 0.5:
                    await self._read(client, operations)
                else:
                    await self._append(client, operations)

        ended = await client.transact(body, f"BEGIN ISOLATION LEVEL {level}")
        self._note(client, level, operations, ended)

    async def look(self, client: Client) -> None:
        """All lists in one statement."""
        operations: Operations = []
        asked = await client.try_to("SELECT id, items FROM lists ORDER BY id")
        if asked.answer is not None:
            operations += _reads(asked.answer.rows)
            ended = Ended(asked.begun_s, asked.ended_s, committed=True, refused=False)
            self._note(client, Level.REPEATABLE_READ, operations, ended)

    async def _read(self, client: Client, operations: Operations) -> None:
        count = client.chance.choice((1, 1, 2, 3))
        wanted = client.chance.sample(range(LISTS), count)
        condition = f"= {wanted[0]}" if count == 1 else f"IN ({', '.join(map(str, wanted))})"
        lock = client.chance.choice(("", "", "", " FOR UPDATE"))
        answer = await client.ask(f"SELECT id, items FROM lists WHERE id {condition}{lock}")
        if len(answer.rows) != count:
            raise Violation(f"of the lists {wanted} a read found {answer.rows}")
        operations += _reads(answer.rows)

    async def _append(self, client: Client, operations: Operations) -> None:
        self._next_value += 1
        key, value = client.chance.randrange(LISTS), self._next_value
        # Asked for, it may happen, whether or not an answer comes.
        operations.append(Append(key, value))
        answer = await client.ask(f"UPDATE lists SET items = items || ',{value}' WHERE id = {key}")
        if answer.tag != "UPDATE 1":
            raise Violation(f"list {key} was appended to with {answer.tag}")

    def _note(self, client: Client, level: Level, operations: Operations, ended: Ended) -> None:
        fate = Fate.COMMITTED if ended.committed else Fate.UNKNOWN
        fate = Fate.ABORTED if ended.refused else fate
        ended_s = ended.ended_s if ended.committed else math.inf
        name = f"{client.name}/{len(self._history)}"
        self._history.append(
            Transaction(name, level, tuple(operations), fate, ended.begun_s, ended_s)
        )

    async def check(self, client: Client) -> None:
        answer = await client.until_done("SELECT id, items FROM lists ORDER BY id")
        final = {read.key: read.values for read in _reads(answer.rows)}
        if sorted(final) != list(range(LISTS)):
            raise Violation(f"the lists are {answer.rows}")
        anomaly = find_anomaly(self._history, final)
        if anomaly is not None:
            raise Violation(f"{anomaly.name}: {anomaly.text}")

    def summary(self) -> dict[str, int]:
        fates = [transaction.fate for transaction in self._history]
        return {fate.value: fates.count(fate) for fate in Fate}


def _reads(rows: Sequence[tuple[int, str]]) -> list[Read]:
    return [Read(key, _values(items)) for key, items in rows]


def _values(items: str) -> Values:
    return tuple(int(item) for item in items.split(",") if item)
