"""SERIALIZABLE transactions in dqe, and the same ones one after the other in PostgreSQL.

Those that were committed are sent to a PostgreSQL in the order that dqe says is theirs: who
changed something at its COMMIT, who did not at its first statement. Every statement has to be
answered alike, and the same rows have to be there at last. This needs no second opinion on what
conflicts: it holds for any way to keep transactions apart, by locks or by a look at the end.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from postgres_support import Postgres
from psycopg.pq import TransactionStatus
from schedule_sides import DqeSide, Outcome, PostgresSide, Sessions
from schedule_tables import dropped
from schedules import SER, Message, Schedule, random_schedule
from worlds import Client, World

_ENDS = ("commit", "rollback")
_CHANGES = ("INSERT", "UPDATE", "DELETE", "MERGE")


@dataclass(slots=True)
class _Block:
    """One transaction: what it sent and was answered; `place` is when it counts."""

    place: int
    said: list[tuple[Message, Outcome]] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        """Whether any of its statements may have changed a row."""
        return any(
            outcome.tag.startswith(_CHANGES) and not outcome.tag.endswith(" 0")
            for _, outcome in self.said
        )


def serial_schedule(seed: int) -> Schedule | None:
    """Blocks alone, at the highest level, without what asks for others' locks; None where numbers
    are drawn, which no order of transactions tells."""
    schedule = random_schedule(seed, (SER,))
    if any(table.generated_key for table in schedule.tables):
        return None
    scripts = [tuple(map(_patient, s)) if _is_block(s) else () for s in schedule.scripts]
    order = tuple(place for place in schedule.order if scripts[place])
    return replace(schedule, scripts=tuple(scripts), order=order)


def _is_block(script: Sequence[Message]) -> bool:
    return bool(script) and script[0].text.startswith("begin")


def _patient(message: Message) -> Message:
    return replace(message, text=message.text.replace(" nowait", "").replace(" skip locked", ""))


class SerialPlay:
    """A schedule in dqe, then its transactions in PostgreSQL."""

    def __init__(self, world: World, postgres: Postgres, client: Client) -> None:
        self._world = world
        self._postgres = postgres
        self._client = client

    async def play(self, schedule: Schedule) -> str:
        """What differs; empty where nothing does."""
        for table in schedule.tables:
            for text in table.in_dqe():
                await self._client.ask(text)
            for text in table.in_postgres():
                self._postgres.rows(text)
        try:
            committed, rows = await self._concurrent(schedule)
            return await self._one_by_one(schedule, committed, rows)
        finally:
            await self._client.ask(dropped(schedule.tables))
            self._postgres.rows(dropped(schedule.tables))

    async def _concurrent(self, schedule: Schedule) -> tuple[list[_Block], list[Outcome]]:
        sessions = Sessions(DqeSide(self._world))
        course = _Course(schedule, sessions)
        try:
            await course.run()
            shown = [await sessions.rows("1", Message(table.shown)) for table in schedule.tables]
        finally:
            await sessions.close()
        return sorted(course.committed, key=lambda block: block.place), shown

    async def _one_by_one(
        self, schedule: Schedule, committed: Sequence[_Block], rows: Sequence[Outcome]
    ) -> str:
        sessions = Sessions(PostgresSide(self._postgres))
        said: list[str] = []
        try:
            await sessions.open("1")
            for message, found in (one for block in committed for one in block.said):
                if found.state.startswith("40"):
                    continue  # taken back to a savepoint
                expected = await sessions.rows("1", message)
                said.append(f"{message}\n   {found}")
                if _looks_too_soon(found, expected):
                    return ""
                if not _same(found, expected):
                    return "\n".join([*said, f"   PostgreSQL {expected}"])
            for table, found in zip(schedule.tables, rows, strict=True):
                expected = await sessions.rows("1", Message(table.shown))
                if found != expected:
                    return "\n".join([*said, f"{table.shown}\n   {found}\n   {expected}"])
        finally:
            await sessions.close()
        return ""


def _looks_too_soon(found: Outcome, expected: Outcome) -> bool:
    """Unique constraints hold at the end of a statement; PostgreSQL looks at each row."""
    return not found.state and expected.state == "23505" and found.tag.startswith("UPDATE")


def _same(found: Outcome, expected: Outcome) -> bool:
    """One of several constraints that are broken is named."""
    return found == expected or found.state[:2] == expected.state[:2] == "23"


class _Course:
    """The schedule in dqe; how its transactions ended."""

    def __init__(self, schedule: Schedule, sessions: Sessions) -> None:
        self._schedule = schedule
        self._sessions = sessions
        self._left = [list(script) for script in schedule.scripts]
        self._asked: dict[str, Message] = {}
        self._open: dict[str, _Block] = {}
        self._step = 0
        self.committed: list[_Block] = []

    async def run(self) -> None:
        chance = random.Random(self._schedule.seed)
        for place in range(len(self._left)):
            await self._sessions.open(str(place + 1))
            control = chance.choice(("pessimistic", "pessimistic", "optimistic"))
            text = f"set dqe.concurrency_control = '{control}'"
            await self._sessions.rows(str(place + 1), Message(text))
        for place in self._schedule.order:
            await self._next(place)
        while free := [
            place
            for place, left in enumerate(self._left)
            if left and str(place + 1) not in self._asked
        ]:
            await self._next(free[0])

    async def _next(self, place: int) -> None:
        session, left = str(place + 1), self._left[place]
        if session in self._asked:
            return
        while left:
            message = left.pop(0)
            failed = self._sessions.status(session) == TransactionStatus.INERROR
            if not failed or message.text.startswith(_ENDS):
                await self._send(session, message)
                return

    async def _send(self, session: str, message: Message) -> None:
        self._step += 1
        if message.text.startswith("begin"):
            self._open[session] = _Block(0)
        block = self._open.get(session)
        if block is not None and not block.place and not _reads_nothing(message):
            block.place = self._step
        self._asked[session] = message
        self._sessions.start(session, message)
        for ended, outcome in (await self._sessions.settle()).items():
            self._note(ended, self._asked.pop(ended), outcome)

    def _note(self, session: str, message: Message, outcome: Outcome) -> None:
        block = self._open.get(session)
        if block is None:
            return
        block.said.append((message, outcome))
        if self._sessions.status(session) == TransactionStatus.IDLE:
            del self._open[session]
            if outcome.tag == "COMMIT":
                block.place = self._step if block.changes or not block.place else block.place
                self.committed.append(block)


def _reads_nothing(message: Message) -> bool:
    """Whether the message begins a block, or prepares something in it."""
    quiet = ("begin", "savepoint", "release", "prepare")
    return message.text.startswith(quiet) and ";" not in message.text
