"""Where dqe may do otherwise than PostgreSQL while sessions meet, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schedule_sides import Outcome, Waits
from schedules import Message, Schedule


@dataclass(slots=True)
class Block:
    """A session's open transaction, and what it has sent there."""

    level: str
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Moment:
    """What both sides had come to when everybody was done or waited.

    `asked` are the messages under way before, `found` and `expected` the outcomes of those that
    are done now, in dqe and in PostgreSQL.
    """

    session: str
    asked: Mapping[str, Message]
    found: Mapping[str, Outcome]
    expected: Mapping[str, Outcome]
    waits: Waits
    postgres_waits: Waits
    schedule: Schedule
    blocks: Mapping[str, Block]

    def level(self, session: str) -> str:
        """The isolation level of its block, empty outside of one."""
        return self.blocks[session].level if session in self.blocks else ""

    def held_by(self, session: str) -> list[str]:
        """What those that dqe has the session wait for have sent in their blocks."""
        holders = self.waits.get(session, frozenset())
        return [
            text
            for holder in holders
            if holder in self.blocks
            for text in self.blocks[holder].texts
        ]


def lawful(moment: Moment) -> str | None:
    """Why the difference is none, or None."""
    for reason, holds in _REASONS.items():
        if holds(moment):
            return reason
    return None


def _deadlock(moment: Moment) -> bool:
    """Either side ends one of those that wait in the circle; which one is not said."""
    outcomes = (moment.found.values(), moment.expected.values())
    return all(any(outcome.state == "40P01" for outcome in side) for side in outcomes)


def _differing(moment: Moment) -> list[tuple[str, Outcome, Outcome]]:
    """Sessions with their unlike outcomes; one that waits has none, which is `_WAITS`."""
    pairs = [(s, moment.found.get(s, _WAITS), moment.expected.get(s, _WAITS)) for s in moment.asked]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _another_constraint(moment: Moment) -> bool:
    """Of several constraints that the rows of a statement break PostgreSQL, which goes row by
    row, names another."""
    return all(
        found.state[:2] == expected.state[:2] == "23" and not _is_single_insert(moment, session)
        for session, found, expected in _differing(moment)
    )


def _is_single_insert(moment: Moment, session: str) -> bool:
    text = moment.asked[session].text
    return text.startswith("insert") and "), (" not in text and "select" not in text


def _locks_of_those_who_wait(moment: Moment) -> bool:
    """A statement that waits for one of its rows has others of them locked already, in an order
    that is not said; nor is it who may overtake those who wait."""
    others = moment.asked.keys() - {moment.session}
    holders = moment.waits.get(moment.session, frozenset()) | moment.postgres_waits.get(
        moment.session, frozenset()
    )
    if _passes(moment.asked[moment.session]) and others:
        return True
    return bool(holders) and holders <= others


def _passes(message: Message) -> bool:
    return message.text.endswith(("skip locked", "nowait")) or "skip locked)" in message.text


def _refers_to_a_row_to_come(moment: Moment) -> bool:
    """Who refers to a row that another transaction adds waits for it; PostgreSQL says at once that
    it is not there."""
    return all(
        found is _WAITS and expected.state == "23503" and "insert or update" in expected.words
        for _, found, expected in _differing(moment)
    )


def _key_that_is_locked(moment: Moment) -> bool:
    """Who adds a key waits for whoever has its row locked; to PostgreSQL it is there, whatever
    becomes of it."""
    return all(
        found is _WAITS and (expected.state == "23505" or expected.tag == "INSERT 0 0")
        for _, found, expected in _differing(moment)
    )


def _serializable(moment: Moment) -> bool:
    """The two go by other rules: PostgreSQL by dangerous structures, dqe by what was read."""
    return all(
        "40001" in (found.state, expected.state) and moment.level(session) == "serializable"
        for session, found, expected in _differing(moment)
    )


def _checked_at_the_end(moment: Moment) -> bool:
    """Unique constraints hold at the end of a statement; PostgreSQL looks at each row."""
    return all(
        expected.state == "23505"
        and not found.state
        and not moment.asked[session].text.startswith("insert")
        for session, found, expected in _differing(moment)
    )


def _conflicts_of_the_snapshot(moment: Moment) -> bool:
    """Above READ COMMITTED the rows that ON CONFLICT meets are those of the snapshot."""
    return all(
        "on conflict" in moment.asked[session].text
        and moment.level(session) in ("repeatable read", "serializable")
        for session, _, _ in _differing(moment)
    )


def _locks_of_on_conflict(moment: Moment) -> bool:
    """ON CONFLICT locks more than its rows where it is planned: tablets, where constraints
    other than the key decide; in columnar tables rows FOR UPDATE."""
    for session, found, _ in _differing(moment):
        texts = [moment.asked[session].text, *moment.held_by(session)]
        coarse = [text for text in texts if "on conflict" in text and _is_planned(moment, text)]
        if found is not _WAITS or not coarse:
            return False
    return True


def _is_planned(moment: Moment, text: str) -> bool:
    table = next(t for t in moment.schedule.tables if f"insert into {t.name} " in text)
    return "select" in text or table.method == "columnar" or bool(table.tied)


def _added_again(moment: Moment) -> bool:
    """A row is known by its key: one that was deleted and added again counts as changed."""
    block = moment.blocks.get(moment.session)
    texts = [] if block is None else block.texts
    adds = any("insert" in text for text in texts)
    takes = any("delete" in text or "set id" in text for text in texts)
    resumed = all(session != moment.session for session, _, _ in _differing(moment))
    return adds and takes and resumed


def _locks_of_the_table(moment: Moment) -> bool:
    """PostgreSQL locks tables where a statement is prepared, or changes nothing; dqe takes SELECT
    FOR UPDATE for a change of rows where it is planned, which LOCK TABLE IN SHARE MODE and up
    waits for."""
    asked = moment.asked[moment.session].text
    if "lock table" in asked and moment.found.get(moment.session, _WAITS).tag == "LOCK TABLE":
        return True
    for session, found, expected in _differing(moment):
        texts = [moment.asked[session].text, *moment.held_by(session)]
        holders = moment.postgres_waits.get(session, frozenset())
        theirs = [t for h in holders if h in moment.blocks for t in moment.blocks[h].texts]
        prepared = any(t.startswith("prepare") for t in (texts[0], *theirs))
        locking = any(" update" in t and t.startswith("select") for t in texts)
        locked = any(t.startswith("lock table") for t in texts)
        if not (expected is _WAITS and prepared) and not (found is _WAITS and locking and locked):
            return False
    return True


def _tables_locked_by_parts(moment: Moment) -> bool:
    """LOCK TABLE locks the table's tablets: where it waits for one of them it holds others, which
    a transaction may come to that has locked the table in PostgreSQL."""
    locking = any(t.startswith("lock table") for b in moment.blocks.values() for t in b.texts)
    return locking and all(
        found is _WAITS or found.state == "40P01" for _, found, _ in _differing(moment)
    )


_WAITS = Outcome("waits")
_REASONS = {
    "another victim of a deadlock": _deadlock,
    "another of several constraints": _another_constraint,
    "locks of a statement that waits": _locks_of_those_who_wait,
    "a reference to a row to come": _refers_to_a_row_to_come,
    "a new key that is locked": _key_that_is_locked,
    "serializable": _serializable,
    "checked at the end of the statement": _checked_at_the_end,
    "ON CONFLICT goes by the snapshot": _conflicts_of_the_snapshot,
    "ON CONFLICT locks more": _locks_of_on_conflict,
    "a row that was added again": _added_again,
    "locks of the table": _locks_of_the_table,
    "tables locked by parts": _tables_locked_by_parts,
}
