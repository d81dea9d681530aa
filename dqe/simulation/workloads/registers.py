"""Single rows read, written and compared-and-set by all clients through all nodes.

Each row is a register, and its history must be linearisable: a read sees the last write that
was acknowledged before it began, whatever nodes the two went through (promise 4).
"""

from __future__ import annotations

import math

from dqe.simulation.client import Asked, Client
from dqe.simulation.errors import Violation
from dqe.simulation.linearizability import Kind, Operation, linearizable
from dqe.simulation.workloads.shapes import by_hash

KEYS = 5


class Registers:
    """See the module. Values are unique, so that a read names the write it saw."""

    tables = ("registers",)

    def __init__(self) -> None:
        self._history: dict[int, list[Operation]] = {key: [] for key in range(KEYS)}
        self._last_seen = dict.fromkeys(range(KEYS), 0)
        self._next_value = 0
        self._unknown = 0

    async def set_up(self, client: Client) -> None:
        await client.until_done(
            "CREATE TABLE IF NOT EXISTS registers (id bigint PRIMARY KEY, value bigint) "
            + by_hash(client.chance, "id", 3)
        )
        rows = ", ".join(f"({key}, 0)" for key in self._history)
        await client.until_done(f"INSERT INTO registers VALUES {rows}")

    async def step(self, client: Client) -> None:
        key = client.chance.randrange(KEYS)
        choice = client.chance.random()
        if choice < 0.5:
            await self._read(client, key)
        elif choice < 0.85:
            await self._write(client, key)
        else:
            await self._compare_and_set(client, key)

    async def look(self, client: Client) -> None:
        await self._read(client, client.chance.randrange(KEYS))

    async def _read(self, client: Client, key: int) -> None:
        asked = await client.try_to(f"SELECT value FROM registers WHERE id = {key}")
        if asked.answer is None:
            return
        rows = asked.answer.rows
        if len(rows) != 1:
            raise Violation(f"register {key} has the rows {rows}")
        self._last_seen[key] = rows[0][0]
        self._note(key, Kind.READ, asked, result=rows[0][0])

    async def _write(self, client: Client, key: int) -> None:
        self._next_value += 1
        value = self._next_value
        asked = await client.try_to(f"UPDATE registers SET value = {value} WHERE id = {key}")
        self._note(key, Kind.WRITE, asked, value=value)

    async def _compare_and_set(self, client: Client, key: int) -> None:
        self._next_value += 1
        value, expected = self._next_value, self._last_seen[key]
        asked = await client.try_to(
            f"UPDATE registers SET value = {value} WHERE id = {key} AND value = {expected}"
        )
        made = None if asked.answer is None else int(asked.answer.tag == "UPDATE 1")
        self._note(key, Kind.COMPARE_AND_SET, asked, value=value, expected=expected, result=made)

    def _note(
        self,
        key: int,
        kind: Kind,
        asked: Asked,
        *,
        value: int = 0,
        expected: int = 0,
        result: int | None = None,
    ) -> None:
        if asked.refused:
            return
        self._unknown += asked.answer is None
        ended_s = math.inf if asked.answer is None else asked.ended_s
        operation = Operation(kind, asked.begun_s, ended_s, value, expected, result)
        self._history[key].append(operation)

    async def check(self, client: Client) -> None:
        for key in self._history:
            await self._read(client, key)
        for key, history in self._history.items():
            if not linearizable(history, 0):
                raise Violation(f"the history of register {key} is not linearisable")

    def summary(self) -> dict[str, int]:
        return {
            "operations": sum(map(len, self._history.values())),
            "of unknown fate": self._unknown,
        }
