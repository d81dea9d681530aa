"""EXECUTE and DEALLOCATE, and cursors: DECLARE, FETCH, MOVE, CLOSE.

PREPARE itself holds a statement: see `entry`.
"""

from __future__ import annotations

from planner.parser import grammar
from planner.parser.builder import (
    build_query,
    expression,
    source,
)
from planner.parser.system_time import time_taken
from planner.parser.tokens import END, NUMBER, Cursor
from planner.statements import (
    CloseCursor,
    Deallocate,
    Declare,
    Execute,
    Fetch,
    FetchDirection,
    Query,
    Statement,
)


def execute(cursor: Cursor, start: int) -> Statement:
    """EXECUTE name [(arguments)]."""
    cursor.expect("EXECUTE")
    name = cursor.name()
    arguments = []
    if cursor.accept("("):
        arguments.append(expression(cursor))
        while cursor.accept(","):
            arguments.append(expression(cursor))
        cursor.expect(")")
    return Execute(**source(cursor, start), name=name, arguments=tuple(arguments))


def deallocate(cursor: Cursor, start: int) -> Statement:
    """DEALLOCATE [PREPARE] name | ALL."""
    cursor.expect("DEALLOCATE")
    if cursor.key == "PREPARE" and cursor.peek() not in (END, ";"):
        cursor.advance()
    name = None if cursor.accept("ALL") else cursor.name()
    return Deallocate(**source(cursor, start), name=name)


def declare(cursor: Cursor, start: int) -> Statement:
    """DECLARE name [BINARY] [[NO] SCROLL] CURSOR [WITH HOLD] FOR query."""
    cursor.expect("DECLARE")
    name = cursor.name()
    binary, scroll = False, None
    while cursor.key != "CURSOR":
        if cursor.accept("SCROLL"):
            scroll = True
        elif cursor.accept("BINARY"):
            binary = True
        elif not (cursor.accept("INSENSITIVE") or cursor.accept("ASENSITIVE")):
            cursor.expect("NO", "SCROLL")
            scroll = False
    cursor.expect("CURSOR")
    hold = cursor.accept("WITH", "HOLD")
    if not hold:
        cursor.accept("WITHOUT", "HOLD")
    cursor.expect("FOR")
    query_start = cursor.index
    grammar.query(cursor)
    tree = build_query(cursor, cursor.slice(query_start))
    as_of = time_taken(cursor)
    query = Query(**source(cursor, query_start), tree=tree, as_of=as_of)
    return Declare(
        **source(cursor, start), name=name, query=query, hold=hold, binary=binary, scroll=scroll
    )


def fetch(cursor: Cursor, start: int) -> Statement:
    """FETCH and MOVE: [direction] [FROM | IN] cursor."""
    move = cursor.expect_any("FETCH", "MOVE") == "MOVE"
    direction, count = _fetch_direction(cursor)
    cursor.accept_any(("FROM", "IN"))
    name = cursor.name()
    return Fetch(**source(cursor, start), cursor=name, direction=direction, count=count, move=move)


_NEAR = {"NEXT": 1, "PRIOR": -1}
_ENDS = {"FIRST": 1, "LAST": -1}


def _fetch_direction(cursor: Cursor) -> tuple[FetchDirection, int | None]:
    forward = FetchDirection.FORWARD
    if cursor.accept("ALL"):
        return forward, None
    if cursor.key in (NUMBER, "-", "+"):
        return forward, _signed(cursor)
    if cursor.peek() in (END, ";"):  # a cursor that is named like a direction
        return forward, 1
    if cursor.key in _NEAR:
        return forward, _NEAR[str(cursor.accept_any(tuple(_NEAR)))]
    if cursor.key in _ENDS:
        return FetchDirection.ABSOLUTE, _ENDS[str(cursor.accept_any(tuple(_ENDS)))]
    word = cursor.accept_any(("FORWARD", "BACKWARD", "ABSOLUTE", "RELATIVE"))
    if word is None:
        return forward, 1
    direction = FetchDirection(word.lower())
    if direction in (FetchDirection.ABSOLUTE, FetchDirection.RELATIVE):
        return direction, _signed(cursor)
    if cursor.accept("ALL"):
        return direction, None
    return direction, _signed(cursor) if cursor.key in (NUMBER, "-", "+") else 1


def _signed(cursor: Cursor) -> int:
    sign = -1 if cursor.accept_any(("-", "+")) == "-" else 1
    return sign * cursor.integer()


def close(cursor: Cursor, start: int) -> Statement:
    """CLOSE name | ALL."""
    cursor.expect("CLOSE")
    name = None if cursor.accept("ALL") else cursor.name()
    return CloseCursor(**source(cursor, start), name=name)
