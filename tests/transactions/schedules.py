"""Random schedules: who of a few sessions sends what, and in which order.

A schedule is drawn from its seed alone. Each session has a script, one or two transactions or
statements by themselves; `order` says whose next message is sent when. Who waits then is passed
over, and goes on when others have ended (`schedule_play`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from schedule_statements import StatementMaker
from schedule_tables import Table, random_tables

RC, RR, SER = "read committed", "repeatable read", "serializable"
MIXES = ((RC,), (RC,), (RC,), (RR,), (RC, RR), (RC, RC, RR, SER), (SER,))
# Numbers that a client may as well send apart from the text.
_NUMBER = re.compile(r"(?<=[=+<>] )\d+\b")


@dataclass(frozen=True, slots=True)
class Message:
    """What a session sends: a simple query, or a statement of the extended protocol."""

    text: str
    extended: bool = False
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}  {list(self.parameters)}" if self.parameters else self.text


@dataclass(frozen=True, slots=True)
class Schedule:
    """`order` names sessions by their place in `scripts`."""

    seed: int
    tables: tuple[Table, ...]
    scripts: tuple[tuple[Message, ...], ...]
    order: tuple[int, ...]

    def without(self, session: int, places: range) -> Schedule:
        """The schedule without these messages of a session."""
        scripts = list(self.scripts)
        kept = [m for i, m in enumerate(scripts[session]) if i not in places]
        scripts[session] = tuple(kept)
        order: list[int] = []
        sent = 0
        for one in self.order:
            if one == session:
                sent += 1
            if one != session or sent - 1 not in places:
                order.append(one)
        return replace(self, scripts=tuple(scripts), order=tuple(order))


def random_schedule(seed: int, levels: Sequence[str] = ()) -> Schedule:
    """The schedule of a seed; `levels` in place of a drawn mix."""
    chance = random.Random(seed)
    tables = random_tables(chance)
    maker = StatementMaker(chance, tables)
    mix = chance.choice(MIXES)
    count = chance.choice((2, 2, 3, 3, 4))
    scripts = [_script(chance, maker, levels or mix) for _ in range(count)]
    order = [place for place, script in enumerate(scripts) for _ in script]
    chance.shuffle(order)
    return Schedule(seed, tables, tuple(tuple(script) for script in scripts), tuple(order))


def _script(chance: random.Random, maker: StatementMaker, levels: Sequence[str]) -> list[Message]:
    if chance.random() < 0.2:
        return [_sent(chance, maker.statement()) for _ in range(chance.randint(1, 3))]
    script = _block(chance, maker, chance.choice(levels))
    if chance.random() < 0.3:
        script += _block(chance, maker, chance.choice(levels))
    return script


def _block(chance: random.Random, maker: StatementMaker, level: str) -> list[Message]:
    """A transaction block."""
    read_only = " read only" if chance.random() < 0.04 else ""
    texts = [maker.statement() for _ in range(chance.randint(1, 4))]
    if chance.random() < 0.3:
        texts = _with_savepoint(chance, texts)
    if chance.random() < 0.05:
        table = chance.choice(maker.tables)
        texts += [f"declare d cursor for {table.shown}", "fetch 2 from d", "fetch all from d"]
    if chance.random() < 0.05:
        name = f"p{chance.randrange(10**6)}"
        texts.append(f"prepare {name} as {maker.statement()}")
        texts += [f"execute {name}", f"execute {name}"]
    ends = chance.choices(["commit", "rollback"], [5, 1])[0]
    begin = f"begin isolation level {level}{read_only}"
    if chance.random() < 0.05:
        texts[0] = f"{begin}; {texts[0]}"
    else:
        texts.insert(0, begin)
    return [*(_sent(chance, text) for text in texts), Message(ends)]


def _with_savepoint(chance: random.Random, texts: list[str]) -> list[str]:
    start = chance.randrange(len(texts))
    end = chance.randint(start + 1, len(texts))
    back = chance.choice(["rollback to a", "rollback to a", "release a"])
    return [*texts[:start], "savepoint a", *texts[start:end], back, *texts[end:]]


def _sent(chance: random.Random, text: str) -> Message:
    """The text, its numbers apart from it as clients' libraries do, or not."""
    if ";" in text or chance.random() < 0.6:
        return Message(text)
    if chance.random() < 0.5 or text.startswith(("prepare", "execute", "declare", "fetch")):
        return Message(text, extended=True)
    numbers: list[str] = []

    def apart(found: re.Match[str]) -> str:
        numbers.append(found.group())
        return f"${len(numbers)}"

    text = _NUMBER.sub(apart, text)
    return Message(text, extended=True, parameters=tuple(numbers))
