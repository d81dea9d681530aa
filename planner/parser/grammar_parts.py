"""Pieces that many rules of the grammar are made of: what is nested in them, lists, names.

Expressions hold queries, queries hold expressions, and calls and CASE hold both. So that modules
need not import each other in a circle, the three rules that all others hold are declared here,
ahead of the modules that define them.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.errors import SyntaxError_
from planner.parser import precedence
from planner.parser.tokens import Cursor

QUERY_STARTS = frozenset({"SELECT", "VALUES", "WITH", "TABLE"})


class ForwardRule:
    """A rule that other rules hold before the module that defines it is loaded."""

    __slots__ = ("_take",)

    def __init__(self) -> None:
        self._take: Callable[[Cursor], None] | None = None

    def define(self, take: Callable[[Cursor], None]) -> None:
        self._take = take

    def __call__(self, cursor: Cursor) -> None:
        assert self._take is not None
        self._take(cursor)


expression = ForwardRule()  # an a_expr; `grammar_expressions` defines it
restricted_expression = ForwardRule()  # a b_expr; defined there, too
query = ForwardRule()  # a SelectStmt; `grammar` defines it


def expression_list(cursor: Cursor) -> None:
    expression(cursor)
    while cursor.accept(","):
        expression(cursor)


def parenthesised(cursor: Cursor) -> None:
    cursor.advance()
    query_or(cursor, expression_list)
    cursor.expect(")")


def query_or(cursor: Cursor, otherwise: Callable[[Cursor], None]) -> None:
    """Take a query where one begins, else what the other function takes."""
    if cursor.key in QUERY_STARTS:
        query(cursor)
    elif cursor.key == "(" and query_in_parentheses(cursor):
        _query_or_operand(cursor, otherwise)
    else:
        otherwise(cursor)


def query_in_parentheses(cursor: Cursor) -> bool:
    index = cursor.index
    while cursor.keys[index] == "(":
        index += 1
    return cursor.keys[index] in QUERY_STARTS


def _query_or_operand(cursor: Cursor, otherwise: Callable[[Cursor], None]) -> None:
    """`((select 1) union select 2)` is a query, `((select 1) + 2)` an expression."""
    start = cursor.index
    try:
        query(cursor)
        if cursor.key == ")":
            return
    except SyntaxError_:
        pass
    cursor.move_to(start)
    otherwise(cursor)


def order_by(cursor: Cursor) -> None:
    cursor.expect("ORDER BY")
    while True:
        expression(cursor)
        if cursor.accept("USING"):
            if cursor.key not in precedence.SYMBOLS:
                cursor.fail()
            cursor.advance()
        else:
            cursor.accept_any(("ASC", "DESC"))
        if cursor.accept("NULLS"):
            cursor.expect_any("FIRST", "LAST")
        if not cursor.accept(","):
            return


def qualified_name(cursor: Cursor) -> None:
    cursor.name()
    while cursor.accept("."):
        cursor.label()


def name_list(cursor: Cursor) -> None:
    cursor.name()
    while cursor.accept(","):
        cursor.name()
