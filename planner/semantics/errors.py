"""What DuckDB says when a query fails as it runs, as PostgreSQL would have said it.

Our macros raise `[SQLSTATE] message`; the rest is recognised by DuckDB's exception class and
words. Anything not recognised is an internal error with DuckDB's text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import duckdb

from cluster.errors import (
    CardinalityViolation,
    DatetimeFieldOverflow,
    DiskFull,
    DivisionByZero,
    DqeError,
    InternalError,
    InvalidArgumentForNtile,
    InvalidDatetimeFormat,
    InvalidPrecedingOrFollowingSize,
    InvalidRegularExpression,
    InvalidTextRepresentation,
    IoError,
    NullValueNotAllowed,
    NumericValueOutOfRange,
    OutOfMemory,
    QueryCanceled,
    error_from_fields,
)

_CODED = re.compile(r"\[([0-9A-Z]{5})\] (.*?)(?:\nLINE |\Z)", re.DOTALL)
_PREFIX = re.compile(r"^(?:[A-Z][A-Za-z]+ )+Error: ")

_INTEGER_TYPES = {"INT8": "smallint", "INT16": "smallint", "INT32": "integer", "INT64": "bigint"}
_DUCKDB_NAMES = {
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "HUGEINT": "numeric",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "BOOLEAN": "boolean",
    "BOOL": "boolean",
    "VARCHAR": "text",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
}


def translate_duckdb_error(error: BaseException) -> DqeError:
    """The error with the SQLSTATE and words PostgreSQL has for it."""
    if isinstance(error, DqeError):
        return error
    message = _PREFIX.sub("", str(error))
    coded = _CODED.search(message)
    if coded is not None:
        return error_from_fields({"sqlstate": coded[1], "message": coded[2].strip()})
    if isinstance(error, duckdb.InterruptException):
        return QueryCanceled("canceling statement due to user request")
    if isinstance(error, duckdb.OutOfMemoryException):
        if "disk" in message.lower() or "temp_directory" in message:
            return DiskFull("not enough disk space for temporary files", detail=message)
        return OutOfMemory("out of memory", detail=message)
    for pattern, build in _RULES:
        match = pattern.search(message)
        if match is not None:
            return build(match)
    if isinstance(error, duckdb.IOException):
        return IoError(message)
    return InternalError(message)


def _overflow(match: re.Match[str]) -> DqeError:
    name = _INTEGER_TYPES.get(match["type"])
    if name is None:
        return NumericValueOutOfRange("numeric field overflow", detail=match.string)
    return NumericValueOutOfRange(f"{name} out of range")


def _narrowed(match: re.Match[str]) -> DqeError:
    name = match["type"].upper()
    if name.startswith("DECIMAL"):
        return NumericValueOutOfRange("numeric field overflow")
    return NumericValueOutOfRange(f"{_DUCKDB_NAMES.get(name, name.lower())} out of range")


def _malformed(match: re.Match[str]) -> DqeError:
    return _bad_text(match["text"], match["type"])


def _bad_text(text: str, duckdb_name: str) -> DqeError:
    name = duckdb_name.upper()
    plain = "numeric" if name.startswith("DECIMAL") else _DUCKDB_NAMES.get(name, name.lower())
    message = f'invalid input syntax for type {plain}: "{text}"'
    if name.startswith(("DATE", "TIME", "INTERVAL")):
        return InvalidDatetimeFormat(message)
    return InvalidTextRepresentation(message)


def _bad_time(match: re.Match[str]) -> DqeError:
    if "out of range" in match.string:
        return DatetimeFieldOverflow(f'date/time field value out of range: "{match["text"]}"')
    return _bad_text(match["text"], match["type"])


_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], DqeError]]
_RULES: tuple[_Rule, ...] = (
    (re.compile("[Dd]ivision by zero"), lambda _m: DivisionByZero("division by zero")),
    (
        re.compile(
            r"Window \w+ (?P<side>PRECEDING|FOLLOWING) expression cannot be (?P<what>NULL|negative)"
        ),
        lambda m: _bad_offset(m["side"], m["what"]),
    ),
    (
        re.compile("Argument for ntile must be greater than zero"),
        lambda _m: InvalidArgumentForNtile("argument of ntile must be greater than zero"),
    ),
    (re.compile(r"Overflow in \w[\w ]* of (?P<type>INT\d+|\w+)"), _overflow),
    (re.compile(r"Failed to cast decimal value \S+ to type (?P<type>INT\d+)"), _overflow),
    (
        re.compile(r"Overflow on abs|Overflow in negation"),
        lambda _m: NumericValueOutOfRange("integer out of range"),
    ),
    (
        re.compile(
            r"Could not convert string ['\"](?P<text>.*?)['\"] to (?P<type>[A-Z0-9(), ]+)",
            re.DOTALL,
        ),
        _malformed,
    ),
    (
        re.compile(
            r"invalid (?P<type>date|time|timestamp|interval) field format: ['\"](?P<text>.*?)['\"]"
        ),
        _bad_time,
    ),
    (
        re.compile(
            r"(?P<type>date|time|timestamp) field value out of range: ['\"](?P<text>.*?)['\"]"
        ),
        _bad_time,
    ),
    (
        re.compile(r"[Cc]ould not cast value .*? to (?P<type>DECIMAL\([0-9, ]+\))"),
        _narrowed,
    ),
    (
        re.compile(
            r"can't be cast because the value is out of range for the destination type "
            r"(?P<type>\w+)"
        ),
        lambda m: _narrowed_internal(m["type"]),
    ),
    (
        re.compile(r"[Mm]ore than one row returned by a subquery"),
        lambda _m: CardinalityViolation(
            "more than one row returned by a subquery used as an expression"
        ),
    ),
    (
        re.compile(r"[Oo]ut of [Rr]ange|overflow|is out of range", re.IGNORECASE),
        lambda m: NumericValueOutOfRange("value out of range", detail=m.string),
    ),
    (
        re.compile(r"missing \)|invalid escape sequence|no argument for repetition|bad repetition"),
        lambda m: InvalidRegularExpression(f"invalid regular expression: {m.string}"),
    ),
)


def _bad_offset(side: str, what: str) -> DqeError:
    """An offset of a window's frame. DuckDB says on which side of the row, not of the frame."""
    end = "starting" if side == "PRECEDING" else "ending"
    if what == "NULL":
        return NullValueNotAllowed(f"frame {end} offset must not be null")
    return InvalidPrecedingOrFollowingSize(f"frame {end} offset must not be negative")


def _narrowed_internal(name: str) -> DqeError:
    found = _INTEGER_TYPES.get(name)
    if found is not None:
        return NumericValueOutOfRange(f"{found} out of range")
    if name.startswith("DECIMAL"):
        return NumericValueOutOfRange("numeric field overflow")
    return NumericValueOutOfRange("value out of range")
