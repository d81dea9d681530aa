"""Unique elements are put into a table, one or a few at a time, and the table is read whole.

- No element that was acknowledged is ever missing (promise 1), nor from any read that begins
  after the acknowledgement (promise 4).
- No element appears that was refused, twice, or by nobody.
- The elements of one statement, which lie on several tablets, are seen together or not at all
  (promise 2).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from dqe.simulation.client import Client
from dqe.simulation.errors import Violation
from dqe.simulation.workloads.shapes import by_hash, by_range


@dataclass(slots=True)
class _Batch:
    """The elements of one statement, and what is known of it."""

    number: int
    elements: tuple[int, ...]
    acknowledged: bool = False
    refused: bool = False


class Sets:
    """See the module."""

    tables = ("elements",)

    def __init__(self) -> None:
        self._batches: list[_Batch] = []
        self._next = 0
        self._reads = 0

    async def set_up(self, client: Client) -> None:
        await client.until_done(
            "CREATE TABLE IF NOT EXISTS elements (id bigint PRIMARY KEY, batch bigint) "
            + self._shape(client.chance)
        )

    def _shape(self, chance: random.Random) -> str:
        shapes = (by_hash(chance, "id", 3), by_range(chance, "id", 100), "REPLICATED")
        return chance.choice(shapes)

    async def step(self, client: Client) -> None:
        if client.chance.random() < 0.3:
            await self.look(client)
        else:
            await self._insert(client)

    async def _insert(self, client: Client) -> None:
        count = client.chance.choice((1, 1, 2, 4))
        elements = tuple(range(self._next, self._next + count))
        batch = _Batch(len(self._batches), elements)
        self._next += count
        self._batches.append(batch)
        rows = ", ".join(f"({element}, {batch.number})" for element in elements)
        asked = await client.try_to(f"INSERT INTO elements VALUES {rows}")
        batch.acknowledged = asked.answer is not None
        batch.refused = asked.refused

    async def look(self, client: Client) -> None:
        expected = [batch for batch in self._batches if batch.acknowledged]
        impossible = [batch for batch in self._batches if batch.refused]
        asked = await client.try_to("SELECT id, batch FROM elements")
        if asked.answer is not None:
            self._reads += 1
            self._compare(asked.answer.rows, expected, impossible)

    def _compare(
        self, rows: list[tuple[int, int]], expected: list[_Batch], impossible: list[_Batch]
    ) -> None:
        found: dict[int, list[int]] = {}
        for element, number in sorted(rows):
            found.setdefault(number, []).append(element)
        for number, elements in found.items():
            if number >= len(self._batches) or tuple(elements) != self._batches[number].elements:
                raise Violation(f"of statement {number} a read sees {elements} alone, or twice")
        for batch in expected:
            if batch.number not in found:
                raise Violation(f"elements {batch.elements} were acknowledged and are not there")
        for batch in impossible:
            if batch.number in found:
                raise Violation(f"elements {batch.elements} were refused and are there")

    async def check(self, client: Client) -> None:
        before = self._reads
        await self.look(client)
        if self._reads == before:
            raise Violation("the elements cannot be read")

    def summary(self) -> dict[str, int]:
        return {
            "statements": len(self._batches),
            "acknowledged": sum(batch.acknowledged for batch in self._batches),
            "reads": self._reads,
        }
