"""Whether tokens are an expression or a query by PostgreSQL's grammar, and where they end.

sqlglot builds the trees, but it accepts much that PostgreSQL refuses (`select a,, b`,
`join u on`, `order by 1 asc desc`), sometimes dropping what it did not understand. So every
expression and query is first walked by these functions: they build nothing, they advance the
cursor and raise PostgreSQL's syntax error at the token where PostgreSQL's parser would give up
(`src/backend/parser/gram.y` describes the language; this is a recursive descent with binding
powers for operators, not a translation of it). Statement parsers use the same functions to
know where an expression ends.

Left out: XML and SQL/JSON constructors, XMLTABLE, JSON_TABLE; they are syntax errors here.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.errors import FeatureNotSupported, SyntaxError_
from planner.parser import grammar_parts
from planner.parser.grammar_calls import window
from planner.parser.grammar_constructs import CONSTRUCTS
from planner.parser.grammar_expressions import expression, restricted_expression
from planner.parser.grammar_parts import (
    QUERY_STARTS,
    expression_list,
    name_list,
    order_by,
    parenthesised,
    qualified_name,
    query_in_parentheses,
)
from planner.parser.grammar_primaries import primary
from planner.parser.keywords import NOT_BARE_LABELS, words
from planner.parser.past import AS_OF_SYSTEM_TIME
from planner.parser.tokens import QUOTED, Cursor
from planner.parser.types import type_name

__all__ = [
    "expression",
    "expression_list",
    "from_list",
    "query",
    "restricted_expression",
    "select_list",
    "system_time",
    "with_list",
]


# ---------------------------------------------------------------------------------------
# Queries


def query(cursor: Cursor) -> None:
    """Take a SelectStmt: WITH, set operations, ORDER BY, LIMIT, locking."""
    with cursor.past.deeper():
        _same_level_query(cursor)


def _same_level_query(cursor: Cursor) -> None:
    if cursor.key == "WITH":
        with_list(cursor)
    _set_operation(cursor)
    _query_tail(cursor)


def with_list(cursor: Cursor) -> None:
    cursor.expect("WITH")
    cursor.accept("RECURSIVE")
    _common_table(cursor)
    while cursor.accept(","):
        _common_table(cursor)


def _common_table(cursor: Cursor) -> None:
    cursor.name()
    if cursor.accept("("):
        name_list(cursor)
        cursor.expect(")")
    cursor.expect("AS")
    cursor.accept("NOT")
    cursor.accept("MATERIALIZED")
    cursor.expect("(")
    if cursor.key in ("INSERT", "UPDATE", "DELETE", "MERGE"):
        raise FeatureNotSupported(
            "data-modifying statements in WITH are not supported",
            hint="Run them as statements of their own, in one transaction.",
            position=cursor.position,
        )
    query(cursor)
    cursor.expect(")")


def _set_operation(cursor: Cursor) -> None:
    _set_operand(cursor)
    while cursor.accept_any(("UNION", "INTERSECT", "EXCEPT")):
        cursor.accept_any(("ALL", "DISTINCT"))
        _set_operand(cursor)


def _set_operand(cursor: Cursor) -> None:
    if cursor.accept("("):
        _same_level_query(cursor)
        cursor.expect(")")
    elif cursor.accept("VALUES"):
        _value_rows(cursor)
    elif cursor.accept("TABLE"):
        cursor.past.reads(cursor.index)
        cursor.accept("ONLY")
        qualified_name(cursor)
    elif cursor.accept("SELECT"):
        _select(cursor)
    else:
        cursor.fail()


def _value_rows(cursor: Cursor) -> None:
    while True:
        cursor.expect("(")
        _value(cursor)
        while cursor.accept(","):
            _value(cursor)
        cursor.expect(")")
        if not cursor.accept(","):
            return


def _value(cursor: Cursor) -> None:
    if cursor.key != "DEFAULT":
        expression(cursor)
    elif cursor.default_allowed:
        cursor.advance()
    else:
        raise SyntaxError_("DEFAULT is not allowed in this context", position=cursor.position)


def _select(cursor: Cursor) -> None:
    """What follows the word SELECT; the select list may be empty, but not after DISTINCT."""
    if cursor.accept("DISTINCT"):
        if cursor.accept("ON"):
            cursor.expect("(")
            expression_list(cursor)
            cursor.expect(")")
        select_list(cursor)
    else:
        cursor.accept("ALL")
        if cursor.key not in _AFTER_SELECT_LIST:
            select_list(cursor)
    if cursor.accept("INTO"):
        raise SyntaxError_("SELECT ... INTO is not allowed here", position=cursor.position)
    if cursor.accept("FROM"):
        start = cursor.index
        from_list(cursor)
        cursor.past.reads(start, system_time(cursor))
    if cursor.accept("WHERE"):
        expression(cursor)
    if cursor.accept("GROUP BY"):
        if cursor.key == "DISTINCT":
            raise FeatureNotSupported(
                "GROUP BY DISTINCT is not supported", position=cursor.position
            )
        cursor.accept("ALL")
        _grouping(cursor)
        while cursor.accept(","):
            _grouping(cursor)
    if cursor.accept("HAVING"):
        expression(cursor)
    if cursor.accept("WINDOW"):
        _window_definitions(cursor)


_AFTER_SELECT_LIST = words(
    "FROM WHERE HAVING WINDOW UNION INTERSECT EXCEPT LIMIT OFFSET FETCH FOR INTO"
) | {"GROUP BY", "ORDER BY", ")", ";", ""}


def select_list(cursor: Cursor) -> None:
    _select_item(cursor)
    while cursor.accept(","):
        _select_item(cursor)


def _select_item(cursor: Cursor) -> None:
    if cursor.accept("*"):
        return
    expression(cursor)
    if cursor.accept("AS"):
        cursor.label()
    elif cursor.key == QUOTED or (cursor.at_word and cursor.key not in NOT_BARE_LABELS):
        cursor.take_name()


def _grouping(cursor: Cursor) -> None:
    if cursor.key in ("ROLLUP", "CUBE") and cursor.peek() == "(":
        cursor.advance()
        parenthesised(cursor)
    elif cursor.accept("GROUPING SETS"):
        cursor.expect("(")
        _grouping(cursor)
        while cursor.accept(","):
            _grouping(cursor)
        cursor.expect(")")
    elif not cursor.accept("(", ")"):
        expression(cursor)


def _window_definitions(cursor: Cursor) -> None:
    while True:
        cursor.name()
        cursor.expect("AS")
        window(cursor)
        if not cursor.accept(","):
            return


def _query_tail(cursor: Cursor) -> None:
    if cursor.key == "ORDER BY":
        order_by(cursor)
    taken: set[str] = set()
    while cursor.key in ("LIMIT", "OFFSET", "FETCH", "FOR") and cursor.key not in taken:
        word = cursor.key
        if word != "FOR":
            taken.add(word)
        if word in ("LIMIT", "FETCH"):
            taken |= {"LIMIT", "FETCH"}
        cursor.advance()
        _TAIL_CLAUSES[word](cursor)


def _limit(cursor: Cursor) -> None:
    if not cursor.accept("ALL"):
        expression(cursor)


def _offset(cursor: Cursor) -> None:
    expression(cursor)
    cursor.accept_any(("ROW", "ROWS"))


def _fetch(cursor: Cursor) -> None:
    cursor.expect_any("FIRST", "NEXT")
    if cursor.key not in ("ROW", "ROWS"):
        cursor.accept_any(("+", "-"))
        primary(cursor)
    cursor.expect_any("ROW", "ROWS")
    if cursor.accept("WITH"):
        cursor.expect("TIES")
    else:
        cursor.expect("ONLY")


def _locking(cursor: Cursor) -> None:
    if cursor.accept("NO"):
        cursor.expect("KEY", "UPDATE")
    elif cursor.accept("KEY"):
        cursor.expect("SHARE")
    else:
        cursor.expect_any("UPDATE", "SHARE", "READ")
    if cursor.accept("OF"):
        qualified_name(cursor)
        while cursor.accept(","):
            qualified_name(cursor)
    if cursor.accept("SKIP"):
        cursor.expect("LOCKED")
    else:
        cursor.accept("NOWAIT")


_TAIL_CLAUSES: dict[str, Callable[[Cursor], None]] = {
    "LIMIT": _limit,
    "OFFSET": _offset,
    "FETCH": _fetch,
    "FOR": _locking,
}


# ---------------------------------------------------------------------------------------
# FROM


def from_list(cursor: Cursor) -> None:
    _table_reference(cursor)
    while cursor.accept(","):
        _table_reference(cursor)


def system_time(cursor: Cursor) -> tuple[int, int] | None:
    """Take AS OF SYSTEM TIME, if it stands here; its first token and the one behind its last."""
    start = cursor.index
    if not cursor.accept(*AS_OF_SYSTEM_TIME):
        return None
    expression(cursor)
    return start, cursor.index


def _table_reference(cursor: Cursor) -> None:
    _table_primary(cursor)
    _joins(cursor)


def _joins(cursor: Cursor) -> None:
    while True:
        if cursor.accept("CROSS"):
            cursor.expect("JOIN")
            _table_primary(cursor)
        elif cursor.accept("NATURAL"):
            _join_word(cursor)
            _table_primary(cursor)
        elif cursor.key in _JOIN_STARTS:
            _join_word(cursor)
            _table_reference(cursor)
            _join_condition(cursor)
        else:
            return


_JOIN_STARTS = frozenset({"JOIN", "INNER", "LEFT", "RIGHT", "FULL"})


def _join_word(cursor: Cursor) -> None:
    if not cursor.accept("INNER") and cursor.accept_any(("LEFT", "RIGHT", "FULL")):
        cursor.accept("OUTER")
    cursor.expect("JOIN")


def _join_condition(cursor: Cursor) -> None:
    if cursor.accept("USING"):
        cursor.expect("(")
        name_list(cursor)
        cursor.expect(")")
        if not cursor.at(*AS_OF_SYSTEM_TIME) and cursor.accept("AS"):
            cursor.name()
        return
    cursor.expect("ON")
    expression(cursor)


def _table_primary(cursor: Cursor) -> None:
    lateral = cursor.accept("LATERAL")
    if cursor.key == "(":
        _parenthesised_table(cursor)
    elif cursor.accept("ROWS", "FROM", "("):
        _table_function(cursor)
        while cursor.accept(","):
            _table_function(cursor)
        cursor.expect(")")
        _ordinality(cursor)
        _table_alias(cursor, columns_typed=True)
    elif _call_ahead(cursor):
        _table_function(cursor)
        _ordinality(cursor)
        _table_alias(cursor, columns_typed=True)
    elif lateral:
        cursor.fail()
    else:
        _relation(cursor)


def _relation(cursor: Cursor) -> None:
    if cursor.accept("ONLY") and cursor.accept("("):
        qualified_name(cursor)
        cursor.expect(")")
    else:
        qualified_name(cursor)
        cursor.accept("*")
    _table_alias(cursor)
    if cursor.accept("TABLESAMPLE"):
        if not cursor.at_function_name:
            cursor.fail()
        _table_function(cursor)
        if cursor.accept("REPEATABLE"):
            parenthesised(cursor)


def _parenthesised_table(cursor: Cursor) -> None:
    """A subquery, or a join in parentheses (which may itself begin with a subquery)."""
    if cursor.peek() in QUERY_STARTS:
        cursor.advance()
        query(cursor)
        cursor.expect(")")
    else:
        start = cursor.index
        cursor.advance()
        if not (query_in_parentheses(cursor) and _whole_query(cursor)):
            cursor.move_to(start + 1)
            _table_reference(cursor)
            cursor.expect(")")
    _table_alias(cursor)


def _whole_query(cursor: Cursor) -> bool:
    try:
        query(cursor)
    except SyntaxError_:
        return False
    return cursor.accept(")")


def _call_ahead(cursor: Cursor) -> bool:
    """Whether a function call stands here: a possibly qualified name and a parenthesis."""
    if cursor.key in CONSTRUCTS and cursor.peek() == "(":
        return True
    index = cursor.index + 1
    while cursor.keys[index] == ".":
        index += 2
    return cursor.keys[index] == "(" and (cursor.at_function_name or index > cursor.index + 1)


def _table_function(cursor: Cursor) -> None:
    primary(cursor)


def _ordinality(cursor: Cursor) -> None:
    if cursor.accept("WITH"):
        cursor.expect("ORDINALITY")


def _table_alias(cursor: Cursor, columns_typed: bool = False) -> None:
    if cursor.at(*AS_OF_SYSTEM_TIME):
        return
    named = cursor.accept("AS")
    if cursor.at_column_name:
        cursor.name()
    elif not (named and columns_typed and cursor.key == "("):
        if named:
            cursor.fail()
        return
    if not cursor.accept("("):
        return
    _alias_column(cursor, columns_typed)
    while cursor.accept(","):
        _alias_column(cursor, columns_typed)
    cursor.expect(")")


def _alias_column(cursor: Cursor, columns_typed: bool) -> None:
    cursor.name()
    if columns_typed and cursor.key not in (",", ")"):
        type_name(cursor)


grammar_parts.query.define(query)
