"""The grammar of words with a syntax of their own: CASE, CAST, EXTRACT, TRIM and their like."""

from __future__ import annotations

from collections.abc import Callable

from planner.parser.grammar_parts import (
    expression,
    expression_list,
    query,
    restricted_expression,
)
from planner.parser.keywords import words
from planner.parser.tokens import STRING, Cursor
from planner.parser.types import type_name


def at_construct(cursor: Cursor) -> bool:
    """Whether a construct stands here, and not a column that has its name."""
    key = cursor.key
    return key in CONSTRUCTS and not (key in _ONLY_IF_CALLED and cursor.peek() != "(")


def _case(cursor: Cursor) -> None:
    cursor.advance()
    if cursor.key != "WHEN":
        expression(cursor)
    cursor.expect("WHEN")
    while True:
        expression(cursor)
        cursor.expect("THEN")
        expression(cursor)
        if not cursor.accept("WHEN"):
            break
    if cursor.accept("ELSE"):
        expression(cursor)
    cursor.expect("END")


def _cast(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    expression(cursor)
    cursor.expect("AS")
    type_name(cursor)
    cursor.expect(")")


def _exists(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    query(cursor)
    cursor.expect(")")


def _array(cursor: Cursor) -> None:
    cursor.advance()
    if cursor.accept("("):
        query(cursor)
        cursor.expect(")")
    else:
        _array_items(cursor)


def _array_items(cursor: Cursor) -> None:
    cursor.expect("[")
    if cursor.key == "[":
        _array_items(cursor)
        while cursor.accept(","):
            _array_items(cursor)
    elif cursor.key != "]":
        expression_list(cursor)
    cursor.expect("]")


def _row(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    if cursor.key != ")":
        expression_list(cursor)
    cursor.expect(")")


def _extract(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    if cursor.key == STRING:
        cursor.string()
    else:
        cursor.label()
    cursor.expect("FROM")
    expression(cursor)
    cursor.expect(")")


def _position(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    restricted_expression(cursor)
    cursor.expect("IN")
    restricted_expression(cursor)
    cursor.expect(")")


def _substring(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    expression(cursor)
    if cursor.key in ("FROM", "FOR"):
        for word in ("FROM", "FOR") if cursor.key == "FROM" else ("FOR", "FROM"):
            if cursor.accept(word):
                expression(cursor)
    elif cursor.accept("SIMILAR"):
        expression(cursor)
        cursor.expect("ESCAPE")
        expression(cursor)
    else:
        while cursor.accept(","):
            expression(cursor)
    cursor.expect(")")


def _trim(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    cursor.accept_any(("BOTH", "LEADING", "TRAILING"))
    if not cursor.accept("FROM"):
        expression(cursor)
        cursor.accept("FROM")
        if cursor.key not in (")", ","):
            expression(cursor)
    else:
        expression(cursor)
    while cursor.accept(","):
        expression(cursor)
    cursor.expect(")")


def _overlay(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    expression(cursor)
    if cursor.accept("PLACING"):
        expression(cursor)
        cursor.expect("FROM")
        expression(cursor)
        if cursor.accept("FOR"):
            expression(cursor)
    else:
        while cursor.accept(","):
            expression(cursor)
    cursor.expect(")")


def _listed(cursor: Cursor) -> None:
    """COALESCE, GREATEST, LEAST, NULLIF, GROUPING, NORMALIZE: a list that is not empty."""
    cursor.advance()
    cursor.expect("(")
    expression_list(cursor)
    cursor.expect(")")


CONSTRUCTS: dict[str, Callable[[Cursor], None]] = {
    "NULL": Cursor.advance,
    "TRUE": Cursor.advance,
    "FALSE": Cursor.advance,
    "CASE": _case,
    "CAST": _cast,
    "TREAT": _cast,
    "EXISTS": _exists,
    "ARRAY": _array,
    "ROW": _row,
    "EXTRACT": _extract,
    "POSITION": _position,
    "SUBSTRING": _substring,
    "TRIM": _trim,
    "OVERLAY": _overlay,
    "COALESCE": _listed,
    "GREATEST": _listed,
    "LEAST": _listed,
    "NULLIF": _listed,
    "GROUPING": _listed,
    "NORMALIZE": _listed,
}
# These may also be columns.
_ONLY_IF_CALLED = words(
    """ROW EXTRACT POSITION SUBSTRING TRIM OVERLAY COALESCE GREATEST LEAST NULLIF GROUPING NORMALIZE
    EXISTS TREAT"""
)
