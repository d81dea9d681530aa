"""The grammar of type names (PostgreSQL's Typename)."""

from __future__ import annotations

from planner.parser.tokens import NUMBER, QUOTED, Cursor
from planner.statements import TypeName

# Words that begin a type with a grammar of its own, mapped to the name `TypeName` carries.
_SIMPLE = {
    "BIGINT": "bigint", "BOOLEAN": "boolean", "DEC": "numeric", "DECIMAL": "numeric",
    "DOUBLE PRECISION": "double precision", "FLOAT": "float", "INT": "integer",
    "INTEGER": "integer", "NUMERIC": "numeric", "REAL": "real", "SMALLINT": "smallint",
}  # fmt: skip
_CHARACTER = {"CHAR", "CHARACTER", "NCHAR", "NATIONAL"}
_INTERVAL_FIELDS = frozenset({"YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"})


def type_name(cursor: Cursor) -> TypeName:
    """Take a type, its modifiers and array marks."""
    position = cursor.position
    if cursor.key == "SETOF":
        cursor.advance()
    name, modifiers = _element(cursor)
    return TypeName(name, modifiers, _array_marks(cursor), position)


def at_typed_literal(cursor: Cursor) -> bool:
    """Whether here stands a type with a grammar of its own (it may begin `type 'literal'`)."""
    return (
        cursor.key in _SIMPLE or cursor.key in _CHARACTER or cursor.key in _WITH_OWN_GRAMMAR
    )  # fmt: skip


def _element(cursor: Cursor) -> tuple[str, tuple[int, ...]]:
    key = cursor.key
    if key in _SIMPLE:
        cursor.advance()
        return _SIMPLE[key], _modifiers(cursor)
    if key in _WITH_OWN_GRAMMAR:
        return _WITH_OWN_GRAMMAR[key](cursor)
    if key in _CHARACTER:
        return _character(cursor)
    return _generic(cursor)


def _generic(cursor: Cursor) -> tuple[str, tuple[int, ...]]:
    if not cursor.at_function_name:
        cursor.fail()
    quoted = cursor.key == QUOTED
    name = cursor.take_name()
    if quoted and name == "char":
        name = '"char"'
    while cursor.accept("."):
        schema, name = name, cursor.label()
        if schema != "pg_catalog":
            name = f"{schema}.{name}"
    return name, _modifiers(cursor)


def _character(cursor: Cursor) -> tuple[str, tuple[int, ...]]:
    if cursor.accept("NATIONAL") and cursor.key not in _CHARACTER | {
        "CHAR VARYING",
        "CHARACTER VARYING",
    }:
        cursor.fail()
    if cursor.accept_any(("CHAR VARYING", "CHARACTER VARYING")):
        return "character varying", _modifiers(cursor)
    cursor.advance()
    if cursor.accept("VARYING"):
        return "character varying", _modifiers(cursor)
    return "character", _modifiers(cursor) or (1,)


def _varying(cursor: Cursor) -> tuple[str, tuple[int, ...]]:
    cursor.advance()
    return "character varying", _modifiers(cursor)


def _bit(cursor: Cursor) -> tuple[str, tuple[int, ...]]:
    cursor.advance()
    name = "bit varying" if cursor.accept("VARYING") else "bit"
    return name, _modifiers(cursor)


def _time(cursor: Cursor) -> tuple[str, tuple[int, ...]]:
    name = cursor.key.lower()
    cursor.advance()
    modifiers = _modifiers(cursor)
    if cursor.accept("WITH", "TIME", "ZONE"):
        return f"{name} with time zone", modifiers
    cursor.accept("WITHOUT", "TIME", "ZONE")
    return f"{name} without time zone", modifiers


def _interval(cursor: Cursor) -> tuple[str, tuple[int, ...]]:
    cursor.advance()
    modifiers = _modifiers(cursor)
    interval_fields(cursor)
    return "interval", modifiers


def interval_fields(cursor: Cursor) -> None:
    """Take `YEAR TO MONTH`, `SECOND(3)`..., when there."""
    if cursor.accept_any(_INTERVAL_FIELDS) is None:
        return
    if cursor.accept("TO") and cursor.accept_any(_INTERVAL_FIELDS) is None:
        cursor.fail()
    _modifiers(cursor)


_WITH_OWN_GRAMMAR = {
    "BIT": _bit,
    "CHAR VARYING": _varying,
    "CHARACTER VARYING": _varying,
    "VARCHAR": _varying,
    "INTERVAL": _interval,
    "TIME": _time,
    "TIMESTAMP": _time,
}


def _modifiers(cursor: Cursor) -> tuple[int, ...]:
    if cursor.key != "(" or cursor.peek() not in (NUMBER, "-"):
        return ()
    cursor.advance()
    modifiers = [_signed(cursor)]
    while cursor.accept(","):
        modifiers.append(_signed(cursor))
    cursor.expect(")")
    return tuple(modifiers)


def _signed(cursor: Cursor) -> int:
    return -cursor.integer() if cursor.accept("-") else cursor.integer()


def _array_marks(cursor: Cursor) -> int:
    dimensions = 0
    while cursor.key == "[":
        cursor.advance()
        if cursor.key == NUMBER:
            cursor.integer()
        cursor.expect("]")
        dimensions += 1
    if dimensions == 0 and cursor.accept("ARRAY"):
        dimensions = 1
        if cursor.accept("["):
            cursor.integer()
            cursor.expect("]")
    return dimensions
