"""Short ways through a statement beside the usual one: both must tell a client the same.

A short way is an `answer` that gives None for what it leaves to the usual way (`PointWrites`,
`IndexQueries`). `Watched` counts what it answers and turns it off; `Twins` are tables that differ
in name alone, one changed by the short way, the other by the usual one; a `Maker` draws statements.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from worlds import Client, Row, in_order

from cluster.errors import DqeError


class Watched:
    """Counts the statements that the short way has answered; with `off` it answers none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, short_way: type[Any]) -> None:
        self.off = False
        self.taken = 0
        usual = short_way.answer

        async def answer(way: Any, *given: Any) -> Any:
            if self.off:
                return None
            found = await usual(way, *given)
            self.taken += found is not None
            return found

        monkeypatch.setattr(short_way, "answer", answer)

    @contextmanager
    def the_usual_way(self) -> Iterator[None]:
        self.off = True
        try:
            yield
        finally:
            self.off = False

    async def both_ways(self, client: Client, text: str, *, ties: bool = False) -> None:
        """Asks both ways for the same rows; with `ties` the order asked for does not tell all."""
        mine = await client.ask(text)
        with self.the_usual_way():
            theirs = await client.ask(text)
        order = "" if ties else text
        assert in_order(order, mine) == in_order(order, theirs), text


Outcome = tuple[str, list[Row] | None]


@dataclass(frozen=True, slots=True)
class Twins:
    """Tables `{t}...` made twice, for "one" and for "two"; `told` is what counts of an error."""

    client: Client
    watched: Watched
    told: Callable[[DqeError], str]

    async def end_alike(self, texts: Sequence[str], states: Sequence[str]) -> None:
        """The texts have the same outcomes, and the queries of the state the same rows."""
        found = [await self._outcome(text.format(t="one")) for text in texts]
        with self.watched.the_usual_way():
            wanted = [await self._outcome(text.format(t="two")) for text in texts]
        assert found == wanted, texts
        for query in states:
            state = await self.client.ask(query.format(t="one"))
            assert state == await self.client.ask(query.format(t="two")), texts

    async def _outcome(self, sql: str) -> Outcome:
        try:
            rows = await self.client.ask(sql)
        except DqeError as error:
            return self.told(error).replace("two", "one"), None
        return self.client.tag, in_order("", rows)


class Maker:
    """Draws from a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def pick(self, *choices: str) -> str:
        return self.chance.choice(choices)

    def block(self, statement: Callable[[], str], *ends: str) -> list[str]:
        """One to three statements, alone or in a block that ends so; "s" is a savepoint in it."""
        level = self.pick("", "", "repeatable read", "serializable", "read committed")
        texts = [statement() for _ in range(self.chance.randint(1, 3))]
        if not level:
            return texts
        end = self.pick(*ends)
        if any("to s" in other for other in ends):
            texts.insert(self.chance.randrange(len(texts)), "savepoint s")
        return [f"begin isolation level {level}", *texts, *end.split("; ")]
