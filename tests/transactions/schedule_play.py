"""Plays a schedule on both sides and compares: who waits, what is answered, what is there at last.

After each message both sides go on until everybody is done or waits. The same sessions have to be
done then, with the same outcomes: tag, rows, SQLSTATE and message. Messages for a session that
waits, or whose block has failed, are passed over; what is left is sent at the end.

Where dqe may differ, `schedule_differences` says why, and the play ends there: the two histories
are not the same any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from postgres_support import Postgres
from psycopg.pq import TransactionStatus
from schedule_differences import Block, Moment, lawful
from schedule_sides import DqeSide, PostgresSide, Sessions
from schedule_tables import dropped
from schedules import Message, Schedule
from worlds import Client, World

_GOES_ON = ("rollback", "commit")
_LEVEL = re.compile(r"begin isolation level (read committed|repeatable read|serializable)")


@dataclass(slots=True)
class Played:
    """What came of a schedule: a difference, or why it ended early, or neither."""

    lines: list[str] = field(default_factory=list)
    difference: str = ""
    ended: str = ""

    def __str__(self) -> str:
        return "\n".join([*self.lines, self.difference or f"-- ended: {self.ended or 'all alike'}"])


class Play:
    """A schedule in both databases."""

    def __init__(self, world: World, postgres: Postgres, client: Client) -> None:
        self._world = world
        self._postgres = postgres
        self._client = client

    async def play(self, schedule: Schedule) -> Played:
        """Plays it on tables of its own, which are dropped in the end."""
        played = Played()
        sides = [Sessions(DqeSide(self._world)), Sessions(PostgresSide(self._postgres))]
        try:
            await self._make(schedule)
            await _Course(schedule, sides[0], sides[1], played).run()
        except TimeoutError as stuck:
            played.difference = f"stuck: {stuck}"
        finally:
            for side in sides:
                await side.close()
            await self._client.ask(dropped(schedule.tables))
            self._postgres.rows(dropped(schedule.tables))
        return played

    async def _make(self, schedule: Schedule) -> None:
        for table in schedule.tables:
            for text in table.in_postgres():
                self._postgres.rows(text)
            for text in table.in_dqe():
                await self._client.ask(text)


class _Course:
    """One play, from the first message to the last rows."""

    def __init__(
        self, schedule: Schedule, dqe: Sessions, postgres: Sessions, played: Played
    ) -> None:
        self._schedule = schedule
        self._dqe = dqe
        self._postgres = postgres
        self._played = played
        self._left = [list(script) for script in schedule.scripts]
        # What a session that waits has asked.
        self._asked: dict[str, Message] = {}
        self._blocks: dict[str, Block] = {}

    async def run(self) -> None:
        for place in range(len(self._left)):
            for side in (self._dqe, self._postgres):
                await side.open(str(place + 1))
        for session, message in self._messages():
            if not await self._step(session, message):
                return
        await self._compare_rows()

    def _messages(self) -> Iterator[tuple[str, Message]]:
        for place in self._schedule.order:
            if str(place + 1) not in self._asked and self._left[place]:
                yield from self._next(place)
        while any(self._left) or self._asked:
            free = [
                p for p, left in enumerate(self._left) if left and str(p + 1) not in self._asked
            ]
            if not free:
                return  # a session that waits for one that has nothing left to say
            yield from self._next(free[0])

    def _next(self, place: int) -> Iterator[tuple[str, Message]]:
        session, left = str(place + 1), self._left[place]
        while left:
            message = left.pop(0)
            failed = self._postgres.status(session) == TransactionStatus.INERROR
            if not failed or message.text.startswith(_GOES_ON):
                yield session, message
                return

    async def _step(self, session: str, message: Message) -> bool:
        """Whether both did alike."""
        self._asked[session] = message
        self._follow_block(session, message)
        for side in (self._dqe, self._postgres):
            side.start(session, message)
        theirs = await self._postgres.settle()
        found = await self._dqe.settle()
        moment = Moment(
            session,
            dict(self._asked),
            found,
            theirs,
            self._dqe.blockers,
            self._postgres.blockers,
            self._schedule,
            dict(self._blocks),
        )
        self._note(moment)
        if found == theirs:
            self._asked = {s: m for s, m in self._asked.items() if s not in found}
            return True
        self._played.ended = lawful(moment) or ""
        if not self._played.ended:
            self._played.difference = "-- differs"
        return False

    def _follow_block(self, session: str, message: Message) -> None:
        if begun := _LEVEL.match(message.text):
            self._blocks[session] = Block(begun.group(1))
        elif self._postgres.status(session) == TransactionStatus.IDLE:
            self._blocks.pop(session, None)
        if session in self._blocks:
            self._blocks[session].texts.append(message.text)

    def _note(self, moment: Moment) -> None:
        lines = self._played.lines
        lines.append(f"{moment.session}: {moment.asked[moment.session]}")
        for session in moment.asked:
            ours = str(moment.found.get(session, "waits"))
            theirs = str(moment.expected.get(session, "waits"))
            if ours == theirs:
                lines.append(f"   {session} {ours}")
            else:
                lines.append(f"   {session} dqe        {ours}")
                lines.append(f"   {session} PostgreSQL {theirs}")

    async def _compare_rows(self) -> None:
        for table in self._schedule.tables:
            found = await self._dqe.rows("1", Message(table.shown))
            expected = await self._postgres.rows("1", Message(table.shown))
            if found != expected:
                self._played.difference = f"{table.shown}\n  dqe {found}\n  PostgreSQL {expected}"
