"""The types of CREATE TABLE's columns."""

from __future__ import annotations

from cluster.errors import (
    DqeError,
    FeatureNotSupported,
    InvalidParameterValue,
    InvalidTableDefinition,
    UndefinedObject,
)
from planner.statements import TypeName
from planner.types import named_type, numeric_of
from storage.types import FLOAT4, Kind, SqlType, array_of

MAX_CHARACTERS = 10_485_760
_TIME_DIGITS = 6
_SERIAL = frozenset({"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"})
_PSEUDO = frozenset({Kind.RECORD, Kind.VOID, Kind.UNKNOWN, Kind.ANY})
_TIMES = frozenset({Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.INTERVAL})


def column_type(name: TypeName, column: str) -> SqlType:
    """The type of a column; 42704 when there is none of that name."""
    if name.name in _SERIAL:
        raise FeatureNotSupported(
            f"type {name.name} is not supported: there are no sequences yet",
            hint="Use integer or bigint and supply the value, or DEFAULT gen_random_uuid() with"
            " a uuid column.",
            position=name.position,
        )
    found = sql_type(name)
    if found.kind in _PSEUDO:
        raise InvalidTableDefinition(
            f'column "{column}" has pseudo-type {found}', position=name.position
        )
    return found


def sql_type(name: TypeName) -> SqlType:
    """The type a name means, with its modifiers."""
    try:
        found = _with_modifiers(_named(name.name), name.modifiers)
    except DqeError as error:
        error.position = error.position or name.position
        raise
    return array_of(found) if name.array_dimensions else found


def _named(name: str) -> SqlType:
    if name in ("character", '"char"'):
        # `character` alone is char(1); the parser says so by a modifier.
        return SqlType(Kind.BPCHAR) if name == "character" else named_type(name)
    if "." in name:
        raise UndefinedObject(f'type "{name}" does not exist')
    return named_type(name)


def _with_modifiers(found: SqlType, modifiers: tuple[int, ...]) -> SqlType:
    if not modifiers:
        return found
    if found.kind is Kind.NUMERIC and len(modifiers) <= 2:
        return numeric_of(modifiers[0], modifiers[1] if len(modifiers) == 2 else 0)
    if len(modifiers) != 1:
        raise InvalidParameterValue("invalid type modifier")
    (modifier,) = modifiers
    if found.kind in (Kind.VARCHAR, Kind.BPCHAR):
        return SqlType(found.kind, length=_length(found, modifier))
    if found.kind is Kind.FLOAT8:
        return _float(found, modifier)
    if found.kind in _TIMES:
        return _time(found, modifier)
    raise InvalidParameterValue(f'type modifier is not allowed for type "{found}"')


def _length(found: SqlType, length: int) -> int:
    word = "varchar" if found.kind is Kind.VARCHAR else "char"
    if length < 1:
        raise InvalidParameterValue(f"length for type {word} must be at least 1")
    if length > MAX_CHARACTERS:
        raise InvalidParameterValue(f"length for type {word} cannot exceed {MAX_CHARACTERS}")
    return length


def _float(found: SqlType, precision: int) -> SqlType:
    if not 1 <= precision <= 53:
        edge = "at least 1 bit" if precision < 1 else "less than 54 bits"
        raise InvalidParameterValue(f"precision for type float must be {edge}")
    return FLOAT4 if precision <= 24 else found


def _time(found: SqlType, digits: int) -> SqlType:
    if digits != _TIME_DIGITS:
        raise FeatureNotSupported(
            f"{found.kind}({digits}) is not supported",
            hint="Times are kept to the microsecond; leave the precision out.",
        )
    return found
