"""`parse`: a query string to its statements.

The whole string is parsed before anything runs, as in PostgreSQL: an error in the second
statement keeps the first from running. Parsed texts are cached, so statements are shared and
never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from cluster.errors import (
    FeatureNotSupported,
    InvalidParameterValue,
    ProgramLimitExceeded,
    SyntaxError_,
)
from planner.parser import (
    changes,
    copying,
    cursors,
    grammar,
    maintenance,
    objects,
    settings,
    transactions,
)
from planner.parser.alterations import alter_table
from planner.parser.builder import build_query, source
from planner.parser.comments import comment
from planner.parser.distribute import distribution
from planner.parser.indexes import alter_index, reindex
from planner.parser.keywords import words
from planner.parser.merge import merge
from planner.parser.past import AS_OF_SYSTEM_TIME
from planner.parser.sequences import alter_sequence
from planner.parser.system_time import no_time_here, refuse_time, time_taken
from planner.parser.tokens import END, Cursor, tokenize
from planner.parser.types import type_name
from planner.statements import Explain, Prepare, Query, Statement

CACHED_TEXTS = 512
# Longer texts (mostly INSERTs with many rows) are not sent twice; keeping them costs memory.
CACHED_TEXT_CHARACTERS = 16_384


def parse(sql: str) -> list[Statement]:
    """The statements of a query string, none for an empty one.

    Raises SyntaxError_ (42601) with PostgreSQL's words and position, FeatureNotSupported
    (0A000) for SQL that PostgreSQL has and dqe has not.
    """
    if len(sql) > CACHED_TEXT_CHARACTERS:
        return list(_parse(sql))
    return list(_cached(sql))


def _parse(sql: str) -> tuple[Statement, ...]:
    cursor = Cursor(sql, tokenize(sql))
    statements: list[Statement] = []
    try:
        while not cursor.at_end:
            if cursor.accept(";"):
                continue
            statements.append(_statement(cursor, cursor.index))
            refuse_time(cursor)
            if cursor.key not in (";", END):
                cursor.fail()
    except SyntaxError_:
        _refuse_time_at(cursor)
        raise
    except RecursionError:
        raise ProgramLimitExceeded(
            "stack depth limit exceeded", hint="The statement is nested too deeply."
        ) from None
    return tuple(statements)


_cached = lru_cache(maxsize=CACHED_TEXTS)(_parse)


def _statement(cursor: Cursor, start: int) -> Statement:
    reader = _READERS.get(cursor.key)
    if reader is None:
        if cursor.key in _REFUSED:
            raise FeatureNotSupported(f"{cursor.key} is not supported", position=cursor.position)
        cursor.fail()
    return reader(cursor, start)


def _refuse_time_at(cursor: Cursor) -> None:
    """Says what is wrong where AS OF SYSTEM TIME is what a statement's grammar stumbled over."""
    for index in range(max(cursor.index - 2, 0), cursor.index + 1):
        if tuple(cursor.keys[index : index + 4]) == AS_OF_SYSTEM_TIME:
            raise no_time_here(cursor, index) from None


def _query(cursor: Cursor, start: int) -> Statement:
    grammar.query(cursor)
    tree = build_query(cursor, cursor.slice(start))
    as_of = time_taken(cursor)
    fields = source(cursor, start)
    return distribution(tree, fields) or Query(**fields, tree=tree, as_of=as_of)


def _with(cursor: Cursor, start: int) -> Statement:
    """WITH in front of a query, or of a statement that changes rows."""
    grammar.with_list(cursor)
    reader = _CHANGES.get(cursor.key)
    if reader is not None:
        return reader(cursor, start)
    cursor.move_to(start)
    return _query(cursor, start)


def _alter(cursor: Cursor, start: int) -> Statement:
    cursor.expect("ALTER")
    if cursor.key == "TABLE":
        return alter_table(cursor, start)
    if cursor.key == "SEQUENCE":
        return alter_sequence(cursor, start)
    if cursor.key == "SYSTEM":
        return settings.alter_system(cursor, start)
    if cursor.key == "INDEX":
        return alter_index(cursor, start)
    if cursor.key == "SCHEMA":
        return objects.alter_schema(cursor, start)
    if not cursor.at_word:
        cursor.fail()
    raise FeatureNotSupported(f"ALTER {cursor.key} is not supported", position=cursor.position)


def _prepare(cursor: Cursor, start: int) -> Statement:
    """PREPARE name [(types)] AS statement."""
    cursor.expect("PREPARE")
    if cursor.key == "TRANSACTION" and cursor.peek() not in ("(", "AS"):
        return transactions.prepare_transaction(cursor, start)
    name = cursor.name()
    types = []
    if cursor.accept("("):
        types.append(type_name(cursor))
        while cursor.accept(","):
            types.append(type_name(cursor))
        cursor.expect(")")
    cursor.expect("AS")
    inner = _inner(cursor, _PREPARABLE)
    return Prepare(**source(cursor, start), name=name, types=tuple(types), statement=inner)


def _inner(cursor: Cursor, allowed: frozenset[str]) -> Statement:
    if cursor.key not in allowed:
        cursor.fail()
    return _statement(cursor, cursor.index)


_PREPARABLE = frozenset(
    {"SELECT", "VALUES", "TABLE", "WITH", "(", "INSERT", "UPDATE", "DELETE", "MERGE"}
)
_EXPLAINABLE = _PREPARABLE | {"CREATE", "EXECUTE", "DECLARE"}


# ---------------------------------------------------------------------------------------
# EXPLAIN


def _explain(cursor: Cursor, start: int) -> Statement:
    """EXPLAIN (options) statement; EXPLAIN [ANALYZE] [VERBOSE] statement."""
    cursor.expect("EXPLAIN")
    options: dict[str, str] = {}
    if cursor.key == "(" and _options_ahead(cursor):
        options = _explain_options(cursor)
    else:
        if cursor.accept_any(("ANALYZE", "ANALYSE")):
            options["analyze"] = "true"
        if cursor.accept("VERBOSE"):
            options["verbose"] = "true"
    statement = _inner(cursor, _EXPLAINABLE)
    flags = {name: _flag(name, value) for name, value in options.items() if name != "format"}
    return Explain(
        **source(cursor, start),
        statement=statement,
        analyze=flags.get("analyze", False),
        verbose=flags.get("verbose", False),
        costs=flags.get("costs", True),
        timing=flags.get("timing", True),
        summary=flags.get("summary"),
        format=options.get("format", "text"),
    )


def _options_ahead(cursor: Cursor) -> bool:
    """EXPLAIN (SELECT ...) has a query in its parentheses, EXPLAIN (ANALYZE) options."""
    return cursor.peek() not in ("SELECT", "VALUES", "WITH", "TABLE", "(")


# Accepted, and without effect: what they would print is not measured or always printed.
_WITHOUT_EFFECT = frozenset({"buffers", "wal", "settings", "memory"})
_EXPLAIN_FLAGS = frozenset({"analyze", "verbose", "costs", "timing", "summary"}) | _WITHOUT_EFFECT


def _explain_options(cursor: Cursor) -> dict[str, str]:
    options: dict[str, str] = {}
    cursor.expect("(")
    while True:
        position = cursor.position
        name = "analyze" if cursor.key in ("ANALYZE", "ANALYSE") else None
        name = cursor.label() if name is None else (cursor.label() and name)
        value = "true" if cursor.key in (",", ")") else settings.option_word(cursor).lower()
        if name == "format":
            if value not in ("text", "json"):
                raise FeatureNotSupported(
                    f'EXPLAIN format "{value}" is not supported',
                    hint="The formats are text and json.",
                    position=position,
                )
        elif name not in _EXPLAIN_FLAGS:
            raise FeatureNotSupported(
                f'EXPLAIN option "{name}" is not supported', position=position
            )
        options[name] = value
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return options


def _flag(name: str, value: str) -> bool:
    if value in ("true", "on", "1", "yes"):
        return True
    if value in ("false", "off", "0", "no"):
        return False
    raise InvalidParameterValue(f"{name} requires a Boolean value")


_CHANGES: dict[str, Callable[[Cursor, int], Statement]] = {
    "INSERT": changes.insert,
    "UPDATE": changes.update,
    "DELETE": changes.delete,
    "MERGE": merge,
}

_READERS: dict[str, Callable[[Cursor, int], Statement]] = {
    "SELECT": _query,
    "VALUES": _query,
    "TABLE": _query,
    "(": _query,
    "WITH": _with,
    **_CHANGES,
    "TRUNCATE": changes.truncate,
    "COPY": copying.copy,
    "CREATE": objects.create,
    "DROP": objects.drop,
    "ALTER": _alter,
    "COMMENT": comment,
    "REINDEX": reindex,
    "EXPLAIN": _explain,
    "ANALYZE": maintenance.analyze,
    "ANALYSE": maintenance.analyze,
    "VACUUM": maintenance.vacuum,
    "SET": settings.set_statement,
    "SHOW": settings.show,
    "RESET": settings.reset,
    "DISCARD": settings.discard,
    "UNLISTEN": settings.unlisten,
    "BEGIN": transactions.begin,
    "START": transactions.begin,
    "COMMIT": transactions.commit,
    "END": transactions.commit,
    "ROLLBACK": transactions.rollback,
    "ABORT": transactions.rollback,
    "LOCK": transactions.lock,
    "SAVEPOINT": transactions.savepoint,
    "RELEASE": transactions.release,
    "PREPARE": _prepare,
    "EXECUTE": cursors.execute,
    "DEALLOCATE": cursors.deallocate,
    "DECLARE": cursors.declare,
    "FETCH": cursors.fetch,
    "MOVE": cursors.fetch,
    "CLOSE": cursors.close,
}

# Statements that PostgreSQL has and dqe has not.
_REFUSED = words(
    """CALL CHECKPOINT CLUSTER DO GRANT IMPORT LISTEN LOAD NOTIFY REASSIGN
    REFRESH REVOKE SECURITY"""
)
