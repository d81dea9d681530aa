"""The grammar of primaries: constants, parameters, names, and what stands in parentheses."""

from __future__ import annotations

from cluster.errors import SyntaxError_
from planner.parser.grammar_calls import call
from planner.parser.grammar_constructs import CONSTRUCTS, at_construct
from planner.parser.grammar_parts import parenthesised
from planner.parser.keywords import VALUE_FUNCTIONS
from planner.parser.tokens import NUMBER, QUOTED, STRING, Cursor
from planner.parser.types import at_typed_literal, interval_fields, type_name


def primary(cursor: Cursor) -> None:
    """Take a c_expr, without subscripts and field selections."""
    key = cursor.key
    if key == STRING:
        cursor.string()
    elif key == NUMBER:
        _number(cursor)
    elif key == "$":
        _parameter(cursor)
    elif key == "(":
        parenthesised(cursor)
    elif at_construct(cursor):
        CONSTRUCTS[key](cursor)
    elif key in VALUE_FUNCTIONS:
        _value_function(cursor)
    elif at_typed_literal(cursor):
        _typed_literal(cursor)
    else:
        _name_or_call(cursor)


def _number(cursor: Cursor) -> None:
    """A number; letters right behind it are PostgreSQL's "trailing junk"."""
    end = cursor.token.end + 1
    cursor.advance()
    if end < len(cursor.sql) and (cursor.sql[end].isalpha() or cursor.sql[end] == "_"):
        token = cursor.tokens[cursor.index - 1]
        text = cursor.sql[token.start : cursor.token.end + 1]
        raise SyntaxError_(
            f'trailing junk after numeric literal at or near "{text}"', position=token.start + 1
        )


def _parameter(cursor: Cursor) -> None:
    dollar = cursor.token.end
    if cursor.peek() != NUMBER or cursor.tokens[cursor.index + 1].start != dollar + 1:
        cursor.fail()
    cursor.advance()
    cursor.integer()


def _typed_literal(cursor: Cursor) -> None:
    """`interval '1' day`, `timestamp '...'`; such words name no column."""
    is_interval = cursor.key == "INTERVAL"
    type_name(cursor)
    cursor.string()
    if is_interval:
        interval_fields(cursor)


def _value_function(cursor: Cursor) -> None:
    if cursor.accept("CURRENT_SCHEMA", "(", ")"):
        return  # the one that may also be written as a call
    cursor.advance()
    if cursor.key == "(" and cursor.peek() == NUMBER:
        cursor.advance()
        cursor.integer()
        cursor.expect(")")


def _name_or_call(cursor: Cursor) -> None:
    """A column, a function call, or a literal of a named type: `jsonb '{}'`."""
    if not (cursor.at_column_name or cursor.at_function_name):
        cursor.fail()
    may_be_column = cursor.at_column_name
    cursor.advance()
    while cursor.key == ".":
        cursor.advance()
        if cursor.accept("*"):
            return
        if not (cursor.key == QUOTED or cursor.at_word):
            cursor.fail()
        cursor.advance()
    if cursor.key == "(":
        call(cursor)
    elif cursor.key == STRING:
        cursor.string()
    elif not may_be_column:
        cursor.fail()
