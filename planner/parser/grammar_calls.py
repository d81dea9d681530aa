"""The grammar of calls: arguments, FILTER, WITHIN GROUP, OVER and window definitions."""

from __future__ import annotations

from planner.parser.grammar_parts import expression, expression_list, order_by
from planner.parser.tokens import Cursor


def call(cursor: Cursor) -> None:
    cursor.expect("(")
    if not cursor.accept("*"):
        _arguments(cursor)
    cursor.expect(")")
    if cursor.accept("WITHIN"):
        cursor.expect("GROUP", "(")
        order_by(cursor)
        cursor.expect(")")
    if cursor.accept("FILTER"):
        cursor.expect("(", "WHERE")
        expression(cursor)
        cursor.expect(")")
    if cursor.key in ("IGNORE", "RESPECT") and cursor.peek() == "NULLS":
        cursor.advance()
        cursor.advance()
    if cursor.accept("OVER"):
        if cursor.key == "(":
            window(cursor)
        else:
            cursor.name()


def _arguments(cursor: Cursor) -> None:
    if cursor.key == ")":
        return
    cursor.accept_any(("ALL", "DISTINCT"))
    _argument(cursor)
    while cursor.accept(","):
        _argument(cursor)
    if cursor.key == "ORDER BY":
        order_by(cursor)


def _argument(cursor: Cursor) -> None:
    cursor.accept("VARIADIC")
    if cursor.peek() in ("=>", ":=") and cursor.at_function_name:
        cursor.advance()
        cursor.advance()
    expression(cursor)


def window(cursor: Cursor) -> None:
    cursor.expect("(")
    if cursor.at_column_name and cursor.key not in ("RANGE", "ROWS", "GROUPS", "PARTITION"):
        cursor.name()
    if cursor.accept("PARTITION BY"):
        expression_list(cursor)
    if cursor.key == "ORDER BY":
        order_by(cursor)
    if cursor.accept_any(("RANGE", "ROWS", "GROUPS")):
        _frame(cursor)
    cursor.expect(")")


def _frame(cursor: Cursor) -> None:
    if cursor.accept("BETWEEN"):
        _frame_bound(cursor)
        cursor.expect("AND")
    _frame_bound(cursor)
    if cursor.accept("EXCLUDE"):
        if cursor.accept("CURRENT"):
            cursor.expect("ROW")
        elif cursor.accept("NO"):
            cursor.expect("OTHERS")
        else:
            cursor.expect_any("GROUP", "TIES")


def _frame_bound(cursor: Cursor) -> None:
    if cursor.accept("CURRENT", "ROW"):
        return
    if not cursor.accept("UNBOUNDED"):
        expression(cursor)
    cursor.expect_any("PRECEDING", "FOLLOWING")
