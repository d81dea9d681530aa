"""REFERENCES, of a column or behind FOREIGN KEY (...)."""

from __future__ import annotations

from catalog.model import ReferentialAction
from cluster.errors import FeatureNotSupported, SyntaxError_
from planner.parser.builder import names_in_parentheses, object_name
from planner.parser.tokens import Cursor
from planner.statements import ReferencesClause

_NO_ACTION = ReferentialAction.NO_ACTION


def references(cursor: Cursor) -> ReferencesClause:
    """Take REFERENCES t [(columns)] [MATCH ...] [ON DELETE ...] [ON UPDATE ...]."""
    cursor.expect("REFERENCES")
    target = object_name(cursor)
    columns = names_in_parentheses(cursor) if cursor.key == "(" else ()
    match_full = _match(cursor)
    actions = {"DELETE": _NO_ACTION, "UPDATE": _NO_ACTION}
    set_columns: tuple[str, ...] = ()
    given: list[str] = []
    while cursor.key == "ON" and cursor.peek() in actions and cursor.peek() not in given:
        cursor.expect("ON")
        event = cursor.expect_any("DELETE", "UPDATE")
        given.append(event)
        actions[event] = _action(cursor)
        if cursor.key == "(" and actions[event] in _SETTING:
            set_columns = _set_columns(cursor, event)
    deferrable, deferred = timing(cursor)
    return ReferencesClause(
        target,
        columns,
        match_full,
        actions["DELETE"],
        actions["UPDATE"],
        set_columns,
        deferrable,
        deferred,
    )


_TIMING = (
    ("NOT", "DEFERRABLE"),
    ("DEFERRABLE",),
    ("INITIALLY", "DEFERRED"),
    ("INITIALLY", "IMMEDIATE"),
)


def timing(cursor: Cursor) -> tuple[bool, bool]:
    """Take DEFERRABLE and INITIALLY, in any order: whether it can wait for the transaction's end,
    and does."""
    given: list[tuple[str, ...]] = []
    position = cursor.position
    while (found := next((words for words in _TIMING if cursor.accept(*words)), None)) is not None:
        given.append(found)
    never, deferrable, deferred, immediate = (words in given for words in _TIMING)
    if never and deferrable:
        raise SyntaxError_(
            "multiple DEFERRABLE/NOT DEFERRABLE clauses not allowed", position=position
        )
    if deferred and immediate:
        raise SyntaxError_(
            "multiple INITIALLY IMMEDIATE/DEFERRED clauses not allowed", position=position
        )
    if never and deferred:
        raise SyntaxError_(
            "constraint declared INITIALLY DEFERRED must be DEFERRABLE", position=position
        )
    return deferrable or deferred, deferred


_SETTING = (ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT)


def _match(cursor: Cursor) -> bool:
    if not cursor.accept("MATCH"):
        return False
    position = cursor.position
    word = cursor.expect_any("FULL", "SIMPLE", "PARTIAL")
    if word == "PARTIAL":
        raise FeatureNotSupported("MATCH PARTIAL not yet implemented", position=position)
    return word == "FULL"


def _action(cursor: Cursor) -> ReferentialAction:
    word = cursor.expect_any("NO", "RESTRICT", "CASCADE", "SET")
    if word == "NO":
        cursor.expect("ACTION")
        return _NO_ACTION
    if word == "SET":
        return ReferentialAction(f"set {cursor.expect_any('NULL', 'DEFAULT').lower()}")
    return ReferentialAction(word.lower())


def _set_columns(cursor: Cursor, event: str) -> tuple[str, ...]:
    if event == "UPDATE":
        raise FeatureNotSupported(
            "a column list with SET NULL is only supported for ON DELETE actions",
            position=cursor.position,
        )
    return names_in_parentheses(cursor)
