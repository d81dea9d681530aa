"""Rows are counted up, one or two at a time.

A counter is never below what was acknowledged before the read began, never above what had been
asked for when the read ended, and never goes back from one read to one that begins later.
"""

from __future__ import annotations

from dqe.simulation.client import Client
from dqe.simulation.errors import Violation
from dqe.simulation.workloads.shapes import by_hash

KEYS = 4


class Counters:
    """See the module."""

    tables = ("counters",)

    def __init__(self) -> None:
        self._acknowledged = [0] * KEYS
        self._possible = [0] * KEYS
        self._seen = [0] * KEYS
        self._reads = 0

    async def set_up(self, client: Client) -> None:
        await client.until_done(
            "CREATE TABLE IF NOT EXISTS counters (id bigint PRIMARY KEY, n bigint) "
            + by_hash(client.chance, "id", 2)
        )
        rows = ", ".join(f"({key}, 0)" for key in range(KEYS))
        await client.until_done(f"INSERT INTO counters VALUES {rows}")

    async def step(self, client: Client) -> None:
        if client.chance.random() < 0.4:
            await self.look(client)
        else:
            await self._count(client)

    async def _count(self, client: Client) -> None:
        keys = client.chance.sample(range(KEYS), client.chance.choice((1, 2)))
        for key in keys:
            self._possible[key] += 1
        asked = await client.try_to(
            f"UPDATE counters SET n = n + 1 WHERE id IN ({', '.join(map(str, keys))})"
        )
        for key in keys:
            self._acknowledged[key] += asked.answer is not None
            self._possible[key] -= asked.refused
        if asked.answer is not None and asked.answer.tag != f"UPDATE {len(keys)}":
            raise Violation(f"counters {keys} were counted up with {asked.answer.tag}")

    async def look(self, client: Client) -> None:
        least = [max(both) for both in zip(self._acknowledged, self._seen, strict=True)]
        asked = await client.try_to("SELECT id, n FROM counters ORDER BY id")
        if asked.answer is None:
            return
        self._reads += 1
        values = dict(asked.answer.rows)
        if sorted(values) != list(range(KEYS)):
            raise Violation(f"the counters are {values}")
        for key, value in values.items():
            if not least[key] <= value <= self._possible[key]:
                raise Violation(
                    f"counter {key} is {value}, not from {least[key]} to {self._possible[key]}"
                )
            self._seen[key] = max(self._seen[key], value)

    async def check(self, client: Client) -> None:
        before = self._reads
        await self.look(client)
        if self._reads == before:
            raise Violation("the counters cannot be read")

    def summary(self) -> dict[str, int]:
        return {"counted": sum(self._acknowledged), "reads": self._reads}
