"""SET and SHOW of settings, ALTER SYSTEM, RESET, DISCARD, UNLISTEN."""

from __future__ import annotations

from cluster.errors import FeatureNotSupported
from planner.parser.builder import (
    source,
)
from planner.parser.tokens import NUMBER, STRING, Cursor
from planner.parser.transactions import set_constraints, set_transaction
from planner.statements import (
    AlterSystem,
    Discard,
    Reset,
    SetVariable,
    Show,
    Statement,
    Unlisten,
)


def set_statement(cursor: Cursor, start: int) -> Statement:
    """SET [SESSION | LOCAL] name {TO | =} value; SET TIME ZONE; SET TRANSACTION..."""
    cursor.expect("SET")
    if cursor.accept("CONSTRAINTS"):
        return set_constraints(cursor, start)
    if cursor.accept("SESSION", "CHARACTERISTICS"):
        cursor.expect("AS", "TRANSACTION")
        return set_transaction(cursor, start, session=True)
    if cursor.key == "TRANSACTION":
        cursor.advance()
        return set_transaction(cursor, start, session=False)
    local = cursor.key == "LOCAL" and cursor.peek() not in ("TO", "=")
    if local or (cursor.key == "SESSION" and cursor.peek() not in ("TO", "=")):
        cursor.advance()
    if cursor.accept("TRANSACTION"):
        return set_transaction(cursor, start, session=False)
    name, value = _setting(cursor)
    return SetVariable(**source(cursor, start), name=name, value=value, local=local)


def _setting(cursor: Cursor) -> tuple[str, str | None]:
    """The name and value of SET, special forms included."""
    if cursor.accept("TIME", "ZONE"):
        return "timezone", _zone(cursor)
    if cursor.accept("NAMES"):
        if cursor.key == STRING:
            return "client_encoding", cursor.string()
        cursor.accept("DEFAULT")
        return "client_encoding", None
    if cursor.key in ("ROLE", "AUTHORIZATION", "XML"):
        raise FeatureNotSupported(f"SET {cursor.key} is not supported", position=cursor.position)
    if cursor.accept("SCHEMA"):
        return "search_path", cursor.string()
    name = setting_name(cursor)
    cursor.expect_any("TO", "=")
    if cursor.accept("DEFAULT"):
        return name, None
    values = [_setting_value(cursor)]
    while cursor.accept(","):
        values.append(_setting_value(cursor))
    return name, ", ".join(values)


def setting_name(cursor: Cursor) -> str:
    """A setting's name, dotted perhaps; settings are not case-sensitive."""
    name = cursor.name()
    while cursor.accept("."):
        name += "." + cursor.label()
    return name.lower()


def _setting_value(cursor: Cursor) -> str:
    if cursor.key == STRING:
        return cursor.string()
    if cursor.key == NUMBER or cursor.key in ("+", "-"):
        return _number_text(cursor)
    if cursor.key in ("TRUE", "FALSE", "ON"):
        return cursor.label()
    return cursor.non_reserved()


def _number_text(cursor: Cursor) -> str:
    sign = "-" if cursor.key == "-" else ""
    cursor.accept_any(("+", "-"))
    if cursor.key != NUMBER:
        cursor.fail()
    text = cursor.token.text
    cursor.advance()
    return sign + text


def option_word(cursor: Cursor) -> str:
    """The value of an option in parentheses: a number, a text or a word."""
    if cursor.key == NUMBER:
        return _number_text(cursor)
    if cursor.key == STRING:
        return cursor.string()
    return cursor.label()


def _zone(cursor: Cursor) -> str | None:
    if cursor.accept_any(("LOCAL", "DEFAULT")):
        return None
    if cursor.accept("INTERVAL"):
        text = cursor.string()
        if cursor.accept("HOUR"):
            cursor.expect("TO", "MINUTE")
        return text
    return _setting_value(cursor)


def alter_system(cursor: Cursor, start: int) -> Statement:
    """ALTER SYSTEM {SET name {TO | =} {value | DEFAULT} | RESET {name | ALL}}."""
    cursor.expect("SYSTEM")
    name: str | None
    if cursor.accept("SET"):
        name, value = _setting(cursor)
    else:
        cursor.expect("RESET")
        name, value = None if cursor.accept("ALL") else setting_name(cursor), None
    return AlterSystem(**source(cursor, start), name=name, value=value)


def show(cursor: Cursor, start: int) -> Statement:
    """SHOW name | ALL | TIME ZONE | TRANSACTION ISOLATION LEVEL | SESSION AUTHORIZATION."""
    cursor.expect("SHOW")
    return Show(name=_shown(cursor), **source(cursor, start))


def _shown(cursor: Cursor) -> str:
    if cursor.accept("ALL"):
        return "all"
    if cursor.accept("TIME", "ZONE"):
        return "timezone"
    if cursor.accept("TRANSACTION", "ISOLATION", "LEVEL"):
        return "transaction_isolation"
    if cursor.accept("SESSION", "AUTHORIZATION"):
        return "session_authorization"
    return setting_name(cursor)


def reset(cursor: Cursor, start: int) -> Statement:
    """RESET name | ALL."""
    cursor.expect("RESET")
    return Reset(name=_shown(cursor), **source(cursor, start))


def discard(cursor: Cursor, start: int) -> Statement:
    cursor.expect("DISCARD")
    what = cursor.expect_any("ALL", "PLANS", "SEQUENCES", "TEMP", "TEMPORARY")
    return Discard(what="TEMP" if what == "TEMPORARY" else what, **source(cursor, start))


def unlisten(cursor: Cursor, start: int) -> Statement:
    """UNLISTEN channel | *."""
    cursor.expect("UNLISTEN")
    if not cursor.accept("*"):
        cursor.name()
    return Unlisten(**source(cursor, start))
