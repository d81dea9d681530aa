"""Casts for `planner.row_expressions`, and texts and parameters as plain values.

What a cast does is the same as in `planner.semantics.casts`, for the types that statements over
single rows use; every other cast raises `NotByRow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from planner.datum import Datum, datum_text
from planner.semantics import literals
from planner.semantics.environment import Environment
from planner.types import INTEGER_KINDS, TEXT_KINDS, Coercion, as_numeric, can_cast
from storage.row_closures import Code, NotByRow
from storage.types import NUMERIC, Kind, SqlType, numeric_shape

WIDE = 38  # a numeric may have so many digits
_WIDTHS = {Kind.INT2: 0, Kind.INT4: 1, Kind.INT8: 2}
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Typed:
    """An expression's type and code. `constant` is its plain value, where that is known.

    Of type UNKNOWN is what takes its type from its place: a `text` in quotes, a `parameter`, or
    with neither NULL.
    """

    type: SqlType
    code: Code = ("value", None)
    constant: Any = None
    text: str | None = None
    parameter: int | None = None


def constant(value: Any, sql_type: SqlType) -> Typed:
    """A plain value as an expression."""
    return Typed(sql_type, _constant_code(value), value)


def _constant_code(value: Any) -> Code:
    if isinstance(value, Decimal):
        return ("decimal", str(value))
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return ("large", str(value))
    if isinstance(value, pa.MonthDayNano):
        return ("interval", *value)
    return ("value", value)


# Texts and parameters.


def plain_of_text(text: str, sql_type: SqlType, environment: Environment) -> Any:
    """The plain value of a text in the type's input form; the literal's errors."""
    kind = sql_type.kind
    if kind is Kind.TEXT:
        return text
    node = literals.literal(text, sql_type, environment)
    return _plain(literals.constant_of(node), kind, text)


def _plain(value: Any, kind: Kind, text: str) -> Any:
    convert = _PLAIN.get(kind)
    if value is None or convert is None:
        raise NotByRow(f"constants of type {kind}")
    if kind is Kind.TIME and text.strip().startswith("24"):
        raise NotByRow("the end of a day")
    return convert(value)


def _microseconds(value: datetime) -> int:
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    past = aware - _EPOCH
    return (past.days * 86_400 + past.seconds) * 10**6 + past.microseconds


def _of_clock(value: time) -> int:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return seconds * 10**6 + value.microsecond


def _same(value: Any) -> Any:
    return value


_PLAIN: dict[Kind, Callable[[Any], Any]] = {
    **dict.fromkeys((*INTEGER_KINDS, Kind.BOOL, Kind.BYTEA, Kind.JSON, Kind.JSONB), _same),
    **dict.fromkeys((Kind.VARCHAR, Kind.BPCHAR, Kind.TEXT), _same),
    Kind.NUMERIC: _same,
    Kind.FLOAT8: float,
    Kind.DATE: lambda value: value.toordinal() - _EPOCH_DAY,
    Kind.TIME: _of_clock,
    Kind.TIMESTAMP: _microseconds,
    Kind.TIMESTAMPTZ: _microseconds,
    Kind.UUID: lambda value: UUID(value).int,
    Kind.INTERVAL: lambda parts: pa.MonthDayNano([parts[0], parts[1], parts[2] * 1000]),
}


def parameter_value(value: Datum, sql_type: SqlType, environment: Environment) -> Any:
    """A parameter's plain value; errors of its text, `NotByRow` for types without such values."""
    if value is None:
        return None
    kind = sql_type.kind
    exact = _EXACT.get(kind)
    if exact is not None and type(value) is exact:
        return value
    text = value if type(value) is str else datum_text(value)
    assert text is not None
    if kind in INTEGER_KINDS:
        if len(text) <= _SURE_DIGITS[kind] and text.isascii() and text.removeprefix("-").isdigit():
            return int(text)
        return literals.integer_of(text, sql_type)
    return plain_of_text(text, sql_type, environment)


# Whole numbers of no more characters are within the type.
_SURE_DIGITS = {Kind.INT2: 4, Kind.INT4: 9, Kind.INT8: 18}
# Python values from the wire that are plain already.
_EXACT: dict[Kind, type] = {
    Kind.BOOL: bool,
    Kind.FLOAT8: float,
    Kind.BYTEA: bytes,
    Kind.TEXT: str,
}


# Casts.


def cast(value: Typed, target: SqlType, how: Coercion) -> Typed:
    """A typed value as the target, as far as that place casts; `NotByRow` for all else."""
    source = value.type
    assert source.kind is not Kind.UNKNOWN
    if source == target:
        return value
    if source.kind is target.kind and _is_bare(target):
        return value
    if not can_cast(source, target, how):
        raise NotByRow(f"a cast of {source} to {target}")
    if target.kind in TEXT_KINDS:
        return _to_text(value, target, how)
    converted = _CASTS.get((_family(source.kind), _family(target.kind)))
    if converted is None:
        raise NotByRow(f"a cast of {source} to {target}")
    return Typed(target, converted(value, target))


def _is_bare(sql_type: SqlType) -> bool:
    return sql_type.length is None and sql_type.precision is None and sql_type.element is None


def _family(kind: Kind) -> str:
    if kind in INTEGER_KINDS:
        return "int"
    if kind in (Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR):
        return "text"
    return kind.value


def _between_integers(value: Typed, target: SqlType) -> Code:
    if _WIDTHS[value.type.kind] <= _WIDTHS[target.kind]:
        return value.code
    return ("in range", target.kind.value, value.code)


def _to_numeric(value: Typed, target: SqlType) -> Code:
    code: Code = ("to decimal", value.code)
    if target == NUMERIC:
        return code
    return ("rescale", *numeric_shape(target), code)


def _between_numerics(value: Typed, target: SqlType) -> Code:
    return ("rescale", *numeric_shape(target), value.code)


def _whole_from(name: str) -> Callable[[Typed, SqlType], Code]:
    def convert(value: Typed, target: SqlType) -> Code:
        return ("in range", target.kind.value, (name, value.code))

    return convert


_CASTS: dict[tuple[str, str], Callable[[Typed, SqlType], Code]] = {
    ("int", "int"): _between_integers,
    ("int", "numeric"): _to_numeric,
    ("int", "float8"): lambda value, _: ("to float", value.code),
    ("numeric", "numeric"): _between_numerics,
    ("numeric", "int"): _whole_from("decimal to whole"),
    ("numeric", "float8"): lambda value, _: ("to float", value.code),
    ("float8", "int"): _whole_from("float to whole"),
    ("bool", "int"): lambda value, _: ("bool to int", value.code),
    ("int", "bool"): lambda value, _: ("int to bool", value.code),
    ("text", "int"): lambda value, target: ("text to int", target.kind.value, value.code),
}


def _to_text(value: Typed, target: SqlType, how: Coercion) -> Typed:
    source = value.type
    if target.kind not in (Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR):
        raise NotByRow(f"a cast to {target}")
    if source.kind in (Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR):
        code = value.code
    elif source.kind in INTEGER_KINDS:
        code = ("to text", value.code)
    elif source.kind is Kind.BOOL:
        code = ("bool to text", value.code)
    else:
        raise NotByRow(f"{source} as text")
    if target.length is None and target.kind is not Kind.BPCHAR:
        return Typed(target, code)
    truncates = how is Coercion.EXPLICIT
    return Typed(target, ("fit", target.kind.value, target.length, truncates, code))


def numeric_operand(value: Typed) -> Typed:
    """A whole number or numeric as an operand of numeric arithmetic, with its narrowest shape."""
    if value.type.kind is Kind.NUMERIC:
        return value
    if value.constant is not None:
        number = Decimal(value.constant)
        return Typed(numeric_literal_type(number), ("decimal", str(number)), number)
    return Typed(as_numeric(value.type), ("to decimal", value.code))


def numeric_literal_type(number: Decimal) -> SqlType:
    """The shape of just the digits written."""
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    scale = max(-exponent, 0)
    whole = max(len(digits) + exponent, 1) if number else 1
    if whole + scale > WIDE or exponent > 0:
        raise NotByRow("a number of more than 38 digits")
    return SqlType(Kind.NUMERIC, precision=whole + scale, scale=scale)
