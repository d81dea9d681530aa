"""Rows are given numbers by a sequence (rule S4).

No number comes twice, and they come in order: what was asked for when a number had been
acknowledged gets a higher one. Numbers may be missing. Rows that were acknowledged stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from dqe.simulation.client import Client
from dqe.simulation.errors import Violation
from dqe.simulation.workloads.shapes import by_hash


@dataclass(frozen=True, slots=True)
class _Given:
    """A number and the row that got it, by the highest one acknowledged when it was asked for."""

    number: int
    row: int
    above: int


class Numbers:
    """See the module."""

    tables = ("numbered",)

    def __init__(self) -> None:
        self._given: dict[int, _Given] = {}
        self._highest = 0
        self._rows = 0
        self._reads = 0

    async def set_up(self, client: Client) -> None:
        await client.until_done(
            "CREATE TABLE IF NOT EXISTS numbered"
            " (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bigint) "
            + by_hash(client.chance, "id", 2)
        )

    async def step(self, client: Client) -> None:
        if client.chance.random() < 0.2:
            await self.look(client)
        else:
            await self._insert(client)

    async def _insert(self, client: Client) -> None:
        self._rows += 1
        row, above = self._rows, self._highest
        asked = await client.try_to(f"INSERT INTO numbered (name) VALUES ({row}) RETURNING id")
        if asked.answer is None:
            return
        given = _Given(asked.answer.rows[0][0], row, above)
        if given.number in self._given:
            raise Violation(f"{given} has a number that {self._given[given.number]} has")
        if given.number <= above:
            raise Violation(f"{given} has a number from before")
        self._given[given.number] = given
        self._highest = max(self._highest, given.number)

    async def look(self, client: Client) -> None:
        expected = list(self._given.values())
        asked = await client.try_to("SELECT id, name FROM numbered")
        if asked.answer is None:
            return
        self._reads += 1
        found = dict(asked.answer.rows)
        for given in expected:
            if found.get(given.number) != given.row:
                raise Violation(f"{given} was acknowledged, and there is {found.get(given.number)}")

    async def check(self, client: Client) -> None:
        before = self._reads
        await self.look(client)
        if self._reads == before:
            raise Violation("the rows cannot be read")

    def summary(self) -> dict[str, int]:
        return {"rows": self._rows, "acknowledged": len(self._given), "reads": self._reads}
