"""One statement's messages taken together: (Parse,) Bind, (Describe,) Execute, Sync; or a Query.

Drivers send these at once, in one packet, for every execution of a prepared statement. For a
short statement (`backend.QuickStatements`) the messages cost more than the row, one after the
other; where they have all come, and are of just this shape, they are read in one pass here and
answered by one write. Nothing changes before the answer is there: a pipeline that is declined at
any point is handled message by message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import DqeError
from dqe.wire.backend import Prepared, QuickPlan, QuickStatements
from dqe.wire.messages import BIND_COMPLETE, PARSE_COMPLETE, FrontendMessage
from dqe.wire.portals import bind_portal, read_bind
from dqe.wire.quick_answers import QuickAnswer, quick_answer

PARSE, BIND, SYNC, QUERY = ord("P"), ord("B"), ord("S"), ord("Q")
_DESCRIBE = FrontendMessage(ord("D"), b"P\0")
_EXECUTE = FrontendMessage(ord("E"), b"\0\0\0\0\0")


@dataclass(slots=True)
class Pipeline:
    """What was found; `length` messages behind the first one belong to it."""

    plan: QuickPlan
    parameters: Sequence[Any]
    answer: QuickAnswer
    # What goes before the rows.
    head: bytes
    length: int
    # The statement that Parse makes the unnamed one.
    parsed: Prepared | None = None
    # It is a Query; else its error is told behind `head`, and not before Sync's answer.
    is_text: bool = False


def text_pipeline(first: FrontendMessage, quick: QuickStatements) -> Pipeline | None:
    """What a Query message asks for, if that is a short statement."""
    if not first.body.endswith(b"\0"):
        return None
    try:
        found = quick.plan_of_text(first.body[:-1].decode())
    except UnicodeDecodeError:
        return None  # to be refused in its turn
    answer = None if found is None else quick_answer(found[0], ())
    if found is None or answer is None:
        return None
    return Pipeline(found[0], found[1], answer, answer.shown, 0, is_text=True)


def find_pipeline(
    first: FrontendMessage,
    ahead: deque[FrontendMessage],
    statements: Mapping[str, Prepared],
    parsed: Mapping[bytes, Prepared],
    quick: QuickStatements,
) -> Pipeline | None:
    """The pipeline that begins with this message; `ahead` are those that have come behind it,
    `parsed` statements by their Parse message."""
    bind, place, again = first, 0, None
    if first.type == PARSE:
        again = parsed.get(first.body)
        if again is None or not ahead:
            return None
        bind, place = ahead[0], 1
    described = len(ahead) > place and ahead[place] == _DESCRIBE
    place += described
    if len(ahead) < place + 2 or bind.type != BIND:
        return None
    if ahead[place] != _EXECUTE or ahead[place + 1].type != SYNC:
        return None
    try:
        request = read_bind(bind.body)
        if request.portal or (again is not None and request.statement):
            return None
        prepared = again if again is not None else statements.get(request.statement)
        if prepared is None or prepared.statement is None:
            return None
        plan = quick.plan_of(prepared)
        if plan is None:
            return None
        portal = bind_portal(request, prepared)
    except DqeError:
        return None  # to be raised again, in its turn
    answer = quick_answer(plan, portal.formats)
    if answer is None:
        return None
    head = BIND_COMPLETE if again is None else PARSE_COMPLETE + BIND_COMPLETE
    if described:
        head += answer.description
    return Pipeline(plan, portal.parameters, answer, head, place + 2, again)
