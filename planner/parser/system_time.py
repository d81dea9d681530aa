"""AS OF SYSTEM TIME: the expression that a statement or a transaction carries, or the refusal.

Where the clause may stand in a query `past` knows; who may carry one is settled here.
"""

from __future__ import annotations

from sqlglot import exp

from cluster.errors import FeatureNotSupported
from planner.parser import grammar
from planner.parser.builder import build_select_list, query
from planner.parser.past import AS_OF_SYSTEM_TIME
from planner.parser.tokens import Cursor
from planner.statements import SourceExpression


def query_at(cursor: Cursor) -> tuple[exp.Query, SourceExpression | None]:
    """Take a query that may say AS OF SYSTEM TIME; its tree, and the time it asks for."""
    return query(cursor), time_taken(cursor)


def time_taken(cursor: Cursor) -> SourceExpression | None:
    """The time that the query just taken asks for."""
    outermost, clauses, bare = cursor.past.take()
    if not clauses:
        return None
    if not outermost or bare is not None:
        raise FeatureNotSupported(
            "AS OF SYSTEM TIME must be provided on a top-level statement",
            hint="A statement reads at one time: write the clause behind the outermost FROM,"
            " and behind that of each part of a UNION, INTERSECT or EXCEPT.",
            position=cursor.tokens[clauses[0][0]].start + 1,
        )
    texts = [_keys(cursor, clause) for clause in clauses]
    for clause, text in zip(clauses, texts, strict=True):
        if text != texts[0]:
            raise FeatureNotSupported(
                "cannot specify AS OF SYSTEM TIME with different timestamps",
                hint="Read one of them first, and compare with what was read.",
                position=cursor.tokens[clause[0]].start + 1,
            )
    return _time(cursor, clauses[0])


def _keys(cursor: Cursor, clause: tuple[int, int]) -> list[str]:
    return [token.text for token in cursor.tokens[clause[0] : clause[1]]]


def system_time(cursor: Cursor) -> SourceExpression | None:
    """Take AS OF SYSTEM TIME among the modes of a transaction."""
    clause = grammar.system_time(cursor)
    return None if clause is None else _time(cursor, clause)


def _time(cursor: Cursor, clause: tuple[int, int]) -> SourceExpression:
    tokens = cursor.tokens[clause[0] + len(AS_OF_SYSTEM_TIME) : clause[1]]
    tree = build_select_list(cursor, tokens)[0]
    text = cursor.sql[tokens[0].start : tokens[-1].end + 1]
    return SourceExpression(tree, text, tokens[0].start + 1)


def refuse_time(cursor: Cursor) -> None:
    """Raises 0A000 where the statement just taken asks for a time and cannot be given one."""
    _, clauses, _ = cursor.past.take()
    if clauses:
        raise no_time_here(cursor, clauses[0][0])


def no_time_here(cursor: Cursor, index: int) -> FeatureNotSupported:
    """The error for a clause, at that token, of a statement that is no query."""
    return FeatureNotSupported(
        "AS OF SYSTEM TIME is only for statements that read",
        hint="SELECT, COPY (SELECT ...) TO, DECLARE CURSOR and EXPLAIN of these take it, and"
        " BEGIN for a whole transaction. To write what was read, fetch it first.",
        position=cursor.tokens[index].start + 1,
    )
