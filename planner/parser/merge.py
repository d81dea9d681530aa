"""MERGE."""

from __future__ import annotations

from sqlglot import exp

from cluster.errors import SyntaxError_
from planner.parser import grammar
from planner.parser.builder import (
    build_query,
    build_row_source,
    expression,
    names_in_parentheses,
    object_name,
    source,
)
from planner.parser.changes import assignment_list, returning_list
from planner.parser.tokens import Cursor
from planner.statements import Merge, MergeAction, MergeClause, MergeState, Statement


def merge(cursor: Cursor, start: int) -> Statement:
    """MERGE INTO t [[AS] a] USING source ON condition WHEN ... THEN ... [RETURNING ...]."""
    with_tokens = cursor.slice(start)
    cursor.expect("MERGE", "INTO")
    cursor.accept("ONLY")
    table = object_name(cursor)
    cursor.accept("*")
    alias = None
    if cursor.accept("AS") or (cursor.at_column_name and cursor.key != "USING"):
        alias = cursor.name()
    cursor.expect("USING")
    from_start = cursor.index
    grammar.from_list(cursor)
    from_tokens = cursor.slice(from_start)
    cursor.expect("ON")
    on_start = cursor.index
    grammar.expression(cursor)
    rows = build_row_source(cursor, with_tokens, from_tokens, cursor.slice(on_start))
    clauses = []
    while cursor.key == "WHEN":
        clauses.append(_clause(cursor))
    if not clauses:
        cursor.fail()
    _check_reachable(clauses)
    returning = returning_list(cursor)
    return Merge(
        **source(cursor, start),
        table=table,
        alias=alias,
        source=rows,
        clauses=tuple(clauses),
        returning=returning,
    )


def _clause(cursor: Cursor) -> MergeClause:
    cursor.expect("WHEN")
    state = _state(cursor)
    condition = expression(cursor) if cursor.accept("AND") else None
    cursor.expect("THEN")
    position = cursor.position
    word = cursor.expect_any("UPDATE", "DELETE", "INSERT", "DO")
    if (word == "INSERT") != (state is MergeState.NO_TARGET) and word != "DO":
        raise SyntaxError_(f'syntax error at or near "{word}"', position=position)
    if word == "UPDATE":
        cursor.expect("SET")
        assignments = assignment_list(cursor)
        return MergeClause(state, condition, MergeAction.UPDATE, position, assignments)
    if word == "INSERT":
        return _insert(cursor, state, condition, position)
    if word == "DO":
        cursor.expect("NOTHING")
        return MergeClause(state, condition, MergeAction.NOTHING, position)
    return MergeClause(state, condition, MergeAction.DELETE, position)


def _state(cursor: Cursor) -> MergeState:
    negated = cursor.accept("NOT")
    cursor.expect("MATCHED")
    if not negated:
        return MergeState.MATCHED
    if cursor.accept("BY") and cursor.expect_any("SOURCE", "TARGET") == "SOURCE":
        return MergeState.NO_SOURCE
    return MergeState.NO_TARGET


def _insert(
    cursor: Cursor, state: MergeState, condition: exp.Expr | None, position: int
) -> MergeClause:
    columns = names_in_parentheses(cursor) if cursor.key == "(" else None
    overriding = None
    if cursor.accept("OVERRIDING"):
        overriding = cursor.expect_any("SYSTEM", "USER").lower()
        cursor.expect("VALUE")
    values = None
    if not cursor.accept("DEFAULT", "VALUES"):
        start = cursor.index
        if cursor.key != "VALUES":
            cursor.fail()
        cursor.default_allowed = True
        grammar.query(cursor)
        cursor.default_allowed = False
        values = build_query(cursor, cursor.slice(start))
    return MergeClause(
        state, condition, MergeAction.INSERT, position, (), columns, values, overriding
    )


def _check_reachable(clauses: list[MergeClause]) -> None:
    """42601 for a clause behind one of its kind without a condition."""
    always: set[MergeState] = set()
    for clause in clauses:
        if clause.state in always:
            raise SyntaxError_("unreachable WHEN clause specified after unconditional WHEN clause")
        if clause.condition is None:
            always.add(clause.state)
