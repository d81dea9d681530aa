"""Row code becomes Python functions: `row_function(code)(row, values)`.

`planner.row_expressions` turns expressions of SQL into *code*, nested tuples that a message can
carry; here each becomes a closure over those of its parts. `row` holds a row's plain values
(`storage.row_values`) at the places that the code names, `values` those of the statement's
parameters, number 0 being the transaction's start.

Strict operations give NULL for a NULL operand; AND, OR, CASE and their like look at their
operands only as far as they must, from left to right. Errors are PostgreSQL's: 22003, 22012,
22001, 22P02.

Numerics are Decimals that have the scale of their SQL type; an operation whose result would be
rounded says so in its code (`rescale`).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import pyarrow as pa

from cluster.errors import (
    DivisionByZero,
    InvalidTextRepresentation,
    NumericValueOutOfRange,
    StringDataRightTruncation,
)
from storage.decimals import EXACT
from storage.types import Kind, SqlType

Code: TypeAlias = tuple[Any, ...]
Row: TypeAlias = Sequence[Any]
RowFunction: TypeAlias = Callable[[Row, Sequence[Any]], Any]

_LIMITS = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
_NAMES = {"int2": "smallint", "int4": "integer", "int8": "bigint"}
_INTEGER = re.compile(r"\s*[+-]?\d+\s*")
_TIMESTAMP_INFINITY = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NotByRow(Exception):
    """This value is beyond what rows are computed with here; the statement goes the usual way."""


def row_function(code: Code) -> RowFunction:
    """The function that computes the code's value of a row."""
    return _MAKERS[code[0]](*code[1:])


def _column(place: int) -> RowFunction:
    def column(row: Row, _values: Sequence[Any]) -> Any:
        return row[place]

    return column


def _parameter(number: int) -> RowFunction:
    def parameter(_row: Row, values: Sequence[Any]) -> Any:
        return values[number]

    return parameter


def _value(value: Any) -> RowFunction:
    def constant(_row: Row, _values: Sequence[Any]) -> Any:
        return value

    return constant


def _decimal(text: str) -> RowFunction:
    return _value(Decimal(text))


def _large(text: str) -> RowFunction:
    return _value(int(text))


def _strict(left: Code, right: Code, function: Callable[[Any, Any], Any]) -> RowFunction:
    first, second = row_function(left), row_function(right)

    def compute(row: Row, values: Sequence[Any]) -> Any:
        a = first(row, values)
        b = second(row, values)
        return None if a is None or b is None else function(a, b)

    return compute


def _strict_one(inner: Code, function: Callable[[Any], Any]) -> RowFunction:
    operand = row_function(inner)

    def compute(row: Row, values: Sequence[Any]) -> Any:
        a = operand(row, values)
        return None if a is None else function(a)

    return compute


# Whole numbers.


def _integers(kind: str, name: str, left: Code, right: Code) -> RowFunction:
    limit, function = _LIMITS[kind], _INTEGER_OPERATIONS[name]

    def compute(a: int, b: int) -> int:
        result = function(a, b)
        if -limit <= result < limit:
            return result
        raise NumericValueOutOfRange(f"{_NAMES[kind]} out of range")

    return _strict(left, right, compute)


def _quotient(a: int, b: int) -> int:
    if not b:
        raise DivisionByZero("division by zero")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _remainder(a: int, b: int) -> int:
    if not b:
        raise DivisionByZero("division by zero")
    remainder = abs(a) % abs(b)
    return -remainder if a < 0 else remainder


_INTEGER_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _quotient,
    "%": _remainder,
}


def _in_range(kind: str, inner: Code) -> RowFunction:
    limit = _LIMITS[kind]

    def check(value: int) -> int:
        if -limit <= value < limit:
            return value
        raise NumericValueOutOfRange(f"{_NAMES[kind]} out of range")

    return _strict_one(inner, check)


# Numerics.


def _decimals(name: str, limit: int, left: Code, right: Code) -> RowFunction:
    """`limit`: how many digits before the point the result may have."""
    function, bound = _DECIMAL_OPERATIONS[name], Decimal(10) ** limit

    def compute(a: Decimal, b: Decimal) -> Decimal:
        result = function(a, b)
        if not result:
            return abs(result)
        if -bound < result < bound:
            return result
        raise NumericValueOutOfRange("numeric field overflow")

    return _strict(left, right, compute)


def _decimal_remainder(a: Decimal, b: Decimal) -> Decimal:
    if not b:
        raise DivisionByZero("division by zero")
    return EXACT.remainder(a, b)


_DECIMAL_OPERATIONS: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "+": EXACT.add,
    "-": EXACT.subtract,
    "*": EXACT.multiply,
    "%": _decimal_remainder,
}


def _rescale(precision: int, scale: int, inner: Code) -> RowFunction:
    """Rounded half away from zero, as numeric(precision, scale)."""
    unit, bound = Decimal(1).scaleb(-scale), Decimal(10) ** (precision - scale)

    def rescale(value: Decimal) -> Decimal:
        rounded = value.quantize(unit, ROUND_HALF_UP, EXACT)
        if -bound < rounded < bound:
            return rounded if rounded else abs(rounded)
        limit = precision - scale
        raise NumericValueOutOfRange(
            "numeric field overflow",
            detail=f"A field with precision {precision}, scale {scale} must round to an"
            f" absolute value less than {f'10^{limit}' if limit else '1'}.",
        )

    return _strict_one(inner, rescale)


def _to_whole(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_UP))


# Floating point.


def _floats(name: str, left: Code, right: Code) -> RowFunction:
    function = _FLOAT_OPERATIONS[name]

    def compute(a: float, b: float) -> float:
        result = function(a, b)
        if math.isinf(result) and not math.isinf(a) and not math.isinf(b):
            raise NumericValueOutOfRange("value out of range: overflow")
        return result

    return _strict(left, right, compute)


def _float_quotient(a: float, b: float) -> float:
    if not b:
        raise DivisionByZero("division by zero")
    return a / b


_FLOAT_OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _float_quotient,
}


def _float_to_whole(value: float) -> int:
    if not math.isfinite(value):
        raise NumericValueOutOfRange("integer out of range")
    return round(value)


# Comparisons and truth.

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _compare(name: str, left: Code, right: Code) -> RowFunction:
    return _strict(left, right, _COMPARISONS[name])


def _compare_floats(name: str, left: Code, right: Code) -> RowFunction:
    """NaN equals itself and is above all."""
    function = _COMPARISONS[name]

    def compare(a: float, b: float) -> bool:
        return function((a != a, 0.0 if a != a else a), (b != b, 0.0 if b != b else b))

    return _strict(left, right, compare)


def _distinct(left: Code, right: Code) -> RowFunction:
    first, second = row_function(left), row_function(right)

    def compute(row: Row, values: Sequence[Any]) -> bool:
        a, b = first(row, values), second(row, values)
        return bool(a != b) if a is not None and b is not None else a is not b

    return compute


def _and(*parts: Code) -> RowFunction:
    functions = tuple(map(row_function, parts))

    def compute(row: Row, values: Sequence[Any]) -> bool | None:
        result: bool | None = True
        for function in functions:
            found = function(row, values)
            if found is None:
                result = None
            elif not found:
                return False
        return result

    return compute


def _or(*parts: Code) -> RowFunction:
    functions = tuple(map(row_function, parts))

    def compute(row: Row, values: Sequence[Any]) -> bool | None:
        result: bool | None = False
        for function in functions:
            found = function(row, values)
            if found is None:
                result = None
            elif found:
                return True
        return result

    return compute


def _is_null(inner: Code) -> RowFunction:
    function = row_function(inner)

    def compute(row: Row, values: Sequence[Any]) -> bool:
        return function(row, values) is None

    return compute


def _is(wanted: bool, inner: Code) -> RowFunction:
    function = row_function(inner)

    def compute(row: Row, values: Sequence[Any]) -> bool:
        return function(row, values) is wanted

    return compute


# Choices.


def _case(branches: Sequence[tuple[Code, Code]], default: Code) -> RowFunction:
    pairs = tuple((row_function(test), row_function(value)) for test, value in branches)
    otherwise = row_function(default)

    def compute(row: Row, values: Sequence[Any]) -> Any:
        for test, value in pairs:
            if test(row, values):
                return value(row, values)
        return otherwise(row, values)

    return compute


def _coalesce(*parts: Code) -> RowFunction:
    functions = tuple(map(row_function, parts))

    def compute(row: Row, values: Sequence[Any]) -> Any:
        for function in functions:
            found = function(row, values)
            if found is not None:
                return found
        return None

    return compute


def _extreme(choose: Callable[..., Any]) -> Callable[..., RowFunction]:
    def make(*parts: Code) -> RowFunction:
        functions = tuple(map(row_function, parts))

        def compute(row: Row, values: Sequence[Any]) -> Any:
            found = [f(row, values) for f in functions]
            known = [value for value in found if value is not None]
            return choose(known) if known else None

        return compute

    return make


# Text.


def _fit(kind: str, length: int | None, truncates: bool, inner: Code) -> RowFunction:
    """As varchar(n) or char(n) keeps it; char(n) without its padding."""
    sql_type = SqlType(Kind(kind), length=length)
    strips = sql_type.kind is Kind.BPCHAR

    def fit(text: str) -> str:
        if length is not None and len(text) > length:
            if not truncates and text[length:].strip(" "):
                raise StringDataRightTruncation(f"value too long for type {sql_type}")
            text = text[:length]
        return text.rstrip(" ") if strips else text

    return _strict_one(inner, fit)


def _ascii(function: Callable[[str], str]) -> Callable[[Code], RowFunction]:
    def checked(text: str) -> str:
        if not text.isascii():
            raise NotByRow("letters beyond ASCII")
        return function(text)

    return lambda inner: _strict_one(inner, checked)


def _text_to_int(kind: str, inner: Code) -> RowFunction:
    limit = _LIMITS[kind]

    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not text.isascii():
            name = _NAMES[kind]
            raise InvalidTextRepresentation(f'invalid input syntax for type {name}: "{text}"')
        value = int(text)
        if -limit <= value < limit:
            return value
        raise NumericValueOutOfRange(f'value "{text}" is out of range for type {_NAMES[kind]}')

    return _strict_one(inner, read)


# Time.


def _local(zone: str, inner: Code) -> RowFunction:
    """A timestamptz as the clocks of a time zone show it."""
    if zone.upper() == "UTC":
        return row_function(inner)
    place = ZoneInfo(zone)

    def convert(instant: int) -> int:
        if abs(instant) == _TIMESTAMP_INFINITY:
            return instant
        try:
            local = (_EPOCH + timedelta(microseconds=instant)).astimezone(place)
        except OverflowError:
            raise NotByRow("a time beyond Python's") from None
        return (local.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)

    return _strict_one(inner, convert)


def _one(function: Callable[[Any], Any]) -> Callable[[Code], RowFunction]:
    return lambda inner: _strict_one(inner, function)


_MAKERS: dict[str, Callable[..., RowFunction]] = {
    "column": _column,
    "parameter": _parameter,
    "value": _value,
    "decimal": _decimal,
    "large": _large,
    "interval": lambda *parts: _value(pa.MonthDayNano(list(parts))),
    "integers": _integers,
    "in range": _in_range,
    "decimals": _decimals,
    "floats": _floats,
    "negative": _one(operator.neg),
    "negative decimal": _one(EXACT.minus),
    "abs": _one(abs),
    "compare": _compare,
    "compare floats": _compare_floats,
    "distinct": _distinct,
    "and": _and,
    "or": _or,
    "not": _one(operator.not_),
    "is null": _is_null,
    "is": _is,
    "case": _case,
    "coalesce": _coalesce,
    "greatest": _extreme(max),
    "least": _extreme(min),
    "concat": lambda left, right: _strict(left, right, operator.add),
    "length": _one(len),
    "lower": _ascii(str.lower),
    "upper": _ascii(str.upper),
    "fit": _fit,
    "to decimal": _one(Decimal),
    "rescale": _rescale,
    "to float": _one(float),
    "decimal to whole": _one(_to_whole),
    "float to whole": _one(_float_to_whole),
    "to text": _one(str),
    "bool to text": _one(lambda value: "true" if value else "false"),
    "bool to int": _one(int),
    "int to bool": _one(bool),
    "text to int": _text_to_int,
    "local": _local,
}
