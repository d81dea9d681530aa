"""The grammar of expressions, without building anything: see `grammar`.

A recursive descent with binding powers for operators (`precedence`), not a translation of
PostgreSQL's `gram.y`, which describes the language. A restricted expression is its b_expr.

Left out: XML and SQL/JSON constructors; they are syntax errors here.
"""

from __future__ import annotations

from planner.parser import grammar_parts
from planner.parser.grammar_parts import expression_list, qualified_name, query_or
from planner.parser.grammar_primaries import primary
from planner.parser.precedence import (
    AT,
    IS,
    NOT,
    NOT_ASSOCIATIVE,
    OTHER,
    PREFIX_SYMBOLS,
    RANGE,
    RANGE_WORDS,
    SIGN,
    SYMBOLS,
    WORDS,
)
from planner.parser.tokens import NUMBER, STRING, Cursor
from planner.parser.types import type_name


def expression(cursor: Cursor, power: int = 0) -> None:
    """Take an a_expr; `power` is what binds tighter outside of it."""
    _operand(cursor)
    _operators(cursor, power, restricted=False)


def restricted_expression(cursor: Cursor) -> None:
    """Take a b_expr: no AND, OR, NOT, LIKE, IN, BETWEEN or IS NULL outside parentheses."""
    _operand(cursor, restricted=True)
    _operators(cursor, IS, restricted=True)


def _operand(cursor: Cursor, restricted: bool = False) -> None:
    key = cursor.key
    if key == "NOT" and not restricted:
        cursor.advance()
        expression(cursor, NOT)
    elif key in ("+", "-"):
        cursor.advance()
        _operand(cursor, restricted)
        _operators(cursor, SIGN, restricted)
    elif key in PREFIX_SYMBOLS:
        cursor.advance()
        _operand(cursor, restricted)
        _operators(cursor, OTHER, restricted)
    else:
        primary(cursor)
        _suffixes(cursor, constant=key in (STRING, NUMBER))


def _operators(cursor: Cursor, power: int, restricted: bool) -> None:
    """Take binary and postfix operators that bind at least as tight as `power` demands."""
    barred: int | None = None
    while True:
        binding = _binding(cursor, restricted)
        if binding <= power:
            return
        if binding == barred:
            cursor.fail()
        barred = binding if binding in NOT_ASSOCIATIVE else None
        _take_operator(cursor, binding, restricted)


def _binding(cursor: Cursor, restricted: bool) -> int:
    """How tight the operator here binds; 0 when there is none."""
    key = cursor.key
    if _at_shift(cursor):
        return OTHER
    if key in SYMBOLS:
        return SYMBOLS[key]
    if restricted:
        return IS + 1 if key == "IS" and _is_distinct_ahead(cursor) else 0
    if key in WORDS:
        return WORDS[key]
    if key == "NOT" and cursor.peek() in RANGE_WORDS:
        return RANGE
    if key == "AT" and cursor.peek() in ("TIME", "LOCAL"):
        return AT
    if key == "OPERATOR" and cursor.peek() == "(":
        return OTHER
    return 0


def _take_operator(cursor: Cursor, binding: int, restricted: bool) -> None:
    key = cursor.key
    if key in SYMBOLS or key == "OPERATOR":
        _take_symbol(cursor, binding, restricted)
    elif key in ("AND", "OR", "OVERLAPS"):
        cursor.advance()
        expression(cursor, binding)
    elif key == "IS":
        cursor.advance()
        _is_test(cursor, restricted)
    elif key in ("ISNULL", "NOTNULL"):
        cursor.advance()
    elif key == "COLLATE":
        cursor.advance()
        qualified_name(cursor)
    elif key == "AT":
        cursor.advance()
        if not cursor.accept("LOCAL"):
            cursor.expect("TIME", "ZONE")
            expression(cursor, AT)
    else:
        cursor.accept("NOT")
        _range_test(cursor)


def _at_shift(cursor: Cursor) -> bool:
    """Whether `<<` or `>>` stands here: two tokens, since sqlglot reads nested types with them."""
    if cursor.key not in ("<", ">") or cursor.peek() != cursor.key:
        return False
    first, second = cursor.tokens[cursor.index : cursor.index + 2]
    return first.end + 1 == second.start


def _take_symbol(cursor: Cursor, binding: int, restricted: bool) -> None:
    if cursor.accept("OPERATOR"):
        cursor.expect("(")
        while cursor.at_column_name:
            cursor.name()
            cursor.expect(".")
        if cursor.key not in SYMBOLS:
            cursor.fail()
        cursor.advance()
        cursor.expect(")")
    else:
        negated, shift = cursor.key == "!", _at_shift(cursor)
        cursor.advance()
        if shift:
            cursor.advance()
        if negated and cursor.key in ("~", "~*", "~~", "~~*"):
            cursor.advance()
    if cursor.key in ("ANY", "SOME", "ALL") and not restricted:
        cursor.advance()
        cursor.expect("(")
        query_or(cursor, expression)
        cursor.expect(")")
    else:
        _operand(cursor, restricted)
        _operators(cursor, binding, restricted)


def _is_distinct_ahead(cursor: Cursor) -> bool:
    return cursor.peek() == "DISTINCT" or (cursor.peek() == "NOT" and cursor.peek(2) == "DISTINCT")


def _is_test(cursor: Cursor, restricted: bool) -> None:
    cursor.accept("NOT")
    if cursor.accept("DISTINCT"):
        cursor.expect("FROM")
        if restricted:
            restricted_expression(cursor)
        else:
            expression(cursor, IS)
        return
    if cursor.accept("JSON"):
        cursor.accept_any(("VALUE", "OBJECT", "ARRAY", "SCALAR"))
        return
    cursor.accept_any(("NFC", "NFD", "NFKC", "NFKD"))
    cursor.expect_any("NULL", "TRUE", "FALSE", "UNKNOWN", "DOCUMENT", "NORMALIZED")


def _range_test(cursor: Cursor) -> None:
    word = cursor.key
    cursor.advance()
    if word == "BETWEEN":
        cursor.accept_any(("SYMMETRIC", "ASYMMETRIC"))
        restricted_expression(cursor)
        cursor.expect("AND")
        expression(cursor, RANGE)
    elif word == "IN":
        cursor.expect("(")
        query_or(cursor, expression_list)
        cursor.expect(")")
    elif cursor.key in ("ANY", "SOME", "ALL"):
        cursor.advance()
        cursor.expect("(")
        query_or(cursor, expression)
        cursor.expect(")")
    else:
        expression(cursor, RANGE)
        if cursor.accept("ESCAPE"):
            expression(cursor, RANGE)


def _suffixes(cursor: Cursor, constant: bool) -> None:
    """Take casts, subscripts and field selections (of a constant only casts)."""
    while True:
        if cursor.accept("::"):
            type_name(cursor)
            constant = True
        elif constant:
            return
        elif cursor.accept("["):
            _subscript(cursor)
        elif cursor.key == "." and cursor.tokens[cursor.index - 1].text in (")", "]"):
            cursor.advance()
            if not cursor.accept("*"):
                cursor.label()
        else:
            return


def _subscript(cursor: Cursor) -> None:
    if cursor.key != ":":
        expression(cursor)
    if cursor.accept(":") and cursor.key != "]":
        expression(cursor)
    cursor.expect("]")


grammar_parts.expression.define(expression)
grammar_parts.restricted_expression.define(restricted_expression)
