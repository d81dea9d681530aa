"""Literals: a text and a type become a constant of that type, or PostgreSQL's error for it.

The constant's value stays beside the node in `meta["constant"]` (date, naive datetime, parts
of an interval, int, Decimal, bool, str), so that rules can fold what is known at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from sqlglot import exp

from cluster.errors import (
    FeatureNotSupported,
    InvalidTextRepresentation,
    NumericValueOutOfRange,
    StringDataRightTruncation,
)
from planner.semantics import build
from planner.semantics.environment import Environment
from planner.semantics.text_arrays import Elements, read_array
from planner.semantics.text_intervals import Parts, duckdb_interval, read_interval
from planner.semantics.text_json import normal_form, read_json
from planner.semantics.text_times import aware_utc, read_moment, timestamp_of
from storage.decimals import as_numeric
from storage.types import (
    BOOL,
    BYTEA,
    DATE,
    INTERVAL,
    MAX_NUMERIC_PRECISION,
    NUMERIC,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    Kind,
    SqlType,
)
from storage.types import UUID as UUID_TYPE

INTEGER_RANGES = {
    Kind.INT2: (-(2**15), 2**15 - 1),
    Kind.INT4: (-(2**31), 2**31 - 1),
    Kind.INT8: (-(2**63), 2**63 - 1),
    Kind.OID: (0, 2**32 - 1),
}
_INTEGER = re.compile(r"\s*[+-]?(\d+(_\d+)*|0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+)\s*$")
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


def constant(node: exp.Expr, value: Any) -> exp.Expr:
    """Notes the value of a constant node."""
    node.meta["constant"] = value
    return node


def constant_of(node: exp.Expr) -> Any:
    """The value noted at a constant; None where the node is none (or NULL)."""
    if isinstance(node, exp.Paren):
        return constant_of(node.this)
    return node.meta.get("constant") if node._meta else None


def literal(text: str, sql_type: SqlType, environment: Environment) -> exp.Expr:
    """The constant that `text` means as a value of `sql_type`."""
    return _READERS[sql_type.kind](text, sql_type, environment)


def malformed(text: str, sql_type: SqlType) -> InvalidTextRepresentation:
    bare = SqlType(sql_type.kind)
    return InvalidTextRepresentation(f'invalid input syntax for type {bare}: "{text}"')


def boolean_of(text: str) -> bool:
    """PostgreSQL's boolean input: unique prefixes of true, yes, on, and their opposites."""
    word = text.strip().lower()
    if word and any(full.startswith(word) for full in _TRUE) and word != "o":
        return True
    if word and any(full.startswith(word) for full in _FALSE) and word != "o":
        return False
    raise malformed(text, BOOL)


def _read_bool(text: str, _type: SqlType, _environment: Environment) -> exp.Expr:
    value = boolean_of(text)
    return constant(build.boolean(value), value)


def integer_of(text: str, sql_type: SqlType) -> int:
    if not _INTEGER.match(text):
        raise malformed(text, sql_type)
    digits = text.strip().replace("_", "")
    value = int(digits, 0) if re.search(r"[xXoObB]", digits) else int(digits)
    low, high = INTEGER_RANGES[sql_type.kind]
    if not low <= value <= high:
        raise NumericValueOutOfRange(f'value "{text}" is out of range for type {sql_type}')
    return value


def _read_integer(text: str, sql_type: SqlType, _environment: Environment) -> exp.Expr:
    value = integer_of(text, sql_type)
    if sql_type.kind is Kind.OID:
        return constant(build.cast_as(build.integer(value), sql_type), value)
    return constant(build.integer(value, sql_type), value)


def _read_float(text: str, sql_type: SqlType, _environment: Environment) -> exp.Expr:
    try:
        if "_" in text:
            raise ValueError
        value = float(text)
    except ValueError:
        raise malformed(text, sql_type) from None
    spelled_infinite = "inf" in text.lower()
    if math.isinf(value) and not spelled_infinite:
        raise NumericValueOutOfRange(f'"{text}" is out of range for type {sql_type}')
    return constant(build.cast_as(build.text(text.strip()), sql_type), value)


def _read_numeric(text: str, sql_type: SqlType, _environment: Environment) -> exp.Expr:
    try:
        value = Decimal(text.strip().replace("_", ""))
    except InvalidOperation:
        raise malformed(text, sql_type) from None
    if not value.is_finite():
        raise FeatureNotSupported("NaN and infinity are not supported as numeric values")
    return numeric_constant(value) if sql_type == NUMERIC else rescaled(value, sql_type)


def numeric_constant(number: Decimal | int) -> exp.Expr:
    """A numeric of just the digits written."""
    value = Decimal(number)
    plain = format(value.copy_abs(), "f")
    whole, _, fraction = plain.partition(".")
    whole = whole.lstrip("0")
    if len(whole) + len(fraction) > MAX_NUMERIC_PRECISION:
        if len(whole) > 22:
            raise NumericValueOutOfRange("numeric with more than 38 digits is not supported")
        fraction = fraction[: MAX_NUMERIC_PRECISION - len(whole)]
    # DuckDB counts the zero of 0.05 as a digit; a type of the same shape says it for both.
    precision = max(len(whole), 1) + len(fraction)
    sql_type = SqlType(Kind.NUMERIC, precision=min(precision, 38), scale=len(fraction))
    digits = (whole or "0") + ("." + fraction if fraction else "")
    node: exp.Expr = build.typed(exp.Literal.number(digits), sql_type)
    if not fraction:
        node = build.cast_as(build.text(digits), sql_type)
    if value < 0:
        node = build.unary(exp.Neg, node, sql_type)
    return constant(node, Decimal(digits).copy_sign(value))


def rescaled(value: Decimal, sql_type: SqlType) -> exp.Expr:
    """The value as numeric(p, s): rounded half away from zero; 22003 where it does not fit."""
    assert sql_type.precision is not None
    scale = sql_type.scale or 0
    exact = as_numeric(value, sql_type.precision, scale)
    if exact is None:
        limit = sql_type.precision - scale
        raise NumericValueOutOfRange(
            "numeric field overflow",
            detail=f"A field with precision {sql_type.precision}, scale {scale} must round to "
            f"an absolute value less than {'1' if limit == 0 else f'10^{limit}'}.",
        )
    return constant(build.cast_as(build.text(format(exact, f".{scale}f")), sql_type), exact)


def _read_text(text: str, sql_type: SqlType, _environment: Environment) -> exp.Expr:
    value = fitted_text(text, sql_type, truncate=True)
    return constant(build.text(value, sql_type), value)


def fitted_text(text: str, sql_type: SqlType, *, truncate: bool) -> str:
    """The text as varchar(n) or char(n) keeps it; 22001 where only blanks may be lost."""
    length = 1 if sql_type.kind is Kind.CHAR else sql_type.length
    if length is not None and len(text) > length:
        if not truncate and text[length:].strip(" "):
            raise StringDataRightTruncation(f"value too long for type {sql_type}")
        text = text[:length]
    # char(n) is held without its padding, which output adds (`casts`).
    return text.rstrip(" ") if sql_type.kind is Kind.BPCHAR else text


def bytes_of(text: str) -> bytes:
    """bytea's input, hexadecimal or escape form."""
    if text.startswith("\\x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            raise InvalidTextRepresentation("invalid hexadecimal data") from None
    out = bytearray()
    at = 0
    raw = text.encode()
    while at < len(raw):
        if raw[at] != 0x5C:
            out.append(raw[at])
            at += 1
        elif raw[at : at + 2] == b"\\\\":
            out.append(0x5C)
            at += 2
        elif re.fullmatch(rb"\\[0-3][0-7]{2}", raw[at : at + 4]):
            out.append(int(raw[at + 1 : at + 4], 8))
            at += 4
        else:
            raise malformed(text, BYTEA)
    return bytes(out)


def _read_bytes(text: str, _type: SqlType, _environment: Environment) -> exp.Expr:
    return bytes_constant(bytes_of(text))


def bytes_constant(value: bytes) -> exp.Expr:
    return constant(build.call("unhex", build.text(value.hex()), type=BYTEA), value)


def _read_date(text: str, _type: SqlType, environment: Environment) -> exp.Expr:
    moment = read_moment(text, "date", lambda: environment.now)
    if moment.special or moment.day is None:
        return _special_time(moment.special, DATE, text)
    return constant(build.cast_as(build.text(moment.day.isoformat()), DATE), moment.day)


def _special_time(special: str | None, sql_type: SqlType, text: str) -> exp.Expr:
    if special is None:
        raise malformed(text, sql_type)
    return build.cast_as(build.text(special), sql_type)


def _read_time(text: str, _type: SqlType, environment: Environment) -> exp.Expr:
    moment = read_moment(text, "time", lambda: environment.now)
    if moment.clock is None:
        raise malformed(text, TIME)
    clock = "24:00:00" if moment.carry_days else moment.clock.isoformat()
    return constant(build.cast_as(build.text(clock), TIME), moment.clock)


def _read_timestamp(text: str, _type: SqlType, environment: Environment) -> exp.Expr:
    moment = read_moment(text, "timestamp", lambda: environment.now)
    if moment.special or moment.day is None:
        return _special_time(moment.special, TIMESTAMP, text)
    return timestamp_constant(timestamp_of(moment))


def timestamp_constant(value: datetime) -> exp.Expr:
    return constant(build.cast_as(build.text(value.isoformat(" ")), TIMESTAMP), value)


def _read_timestamptz(text: str, _type: SqlType, environment: Environment) -> exp.Expr:
    moment = read_moment(text, "timestamp with time zone", lambda: environment.now)
    if moment.special or moment.day is None:
        return _special_time(moment.special, TIMESTAMPTZ, text)
    return instant_constant(aware_utc(moment, environment.zone))


def instant_constant(value: datetime) -> exp.Expr:
    """A timestamptz; `value` is aware and in UTC."""
    spelled = value.replace(tzinfo=None).isoformat(" ") + "+00"
    return constant(build.cast_as(build.text(spelled), TIMESTAMPTZ), value)


def _read_interval(text: str, _type: SqlType, _environment: Environment) -> exp.Expr:
    return interval_constant(read_interval(text))


def interval_constant(parts: Parts) -> exp.Expr:
    return constant(build.cast_as(build.text(duckdb_interval(parts)), INTERVAL), parts)


# A hyphen may stand after any four digits.
_UUID = re.compile(r"\{?(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}\}?")


def _read_uuid(text: str, _type: SqlType, _environment: Environment) -> exp.Expr:
    plain = text.strip()
    if not _UUID.fullmatch(plain) or plain.startswith("{") != plain.endswith("}"):
        raise malformed(text, UUID_TYPE)
    value = str(UUID(plain.strip("{}").replace("-", "")))
    return constant(build.cast_as(build.text(value), UUID_TYPE), value)


def _read_json(text: str, sql_type: SqlType, _environment: Environment) -> exp.Expr:
    read_json(text)
    return constant(build.cast_as(build.text(text), sql_type), text)


def _read_jsonb(text: str, sql_type: SqlType, _environment: Environment) -> exp.Expr:
    value = normal_form(text)
    return constant(build.cast_as(build.text(value), sql_type), value)


def _read_array(text: str, sql_type: SqlType, environment: Environment) -> exp.Expr:
    return _array_node(read_array(text), sql_type, environment)


def _array_node(elements: Elements, sql_type: SqlType, environment: Environment) -> exp.Expr:
    assert sql_type.element is not None
    nodes: list[exp.Expr] = []
    for element in elements:
        if element is None:
            nodes.append(build.null(sql_type.element))
        elif isinstance(element, list):
            raise FeatureNotSupported("arrays of more than one dimension are not supported")
        else:
            nodes.append(literal(element, sql_type.element, environment))
    return build.cast_as(build.list_of(nodes, sql_type), sql_type)


def _unsupported(_text: str, sql_type: SqlType, _environment: Environment) -> exp.Expr:
    raise FeatureNotSupported(f"input of anonymous composite types is not implemented: {sql_type}")


def midnight(value: Any) -> bool:
    """Whether a constant is a timestamp at the start of a day."""
    return isinstance(value, datetime) and value.tzinfo is None and value.time() == time()


_Reader = Callable[[str, SqlType, Environment], exp.Expr]
_READERS: dict[Kind, _Reader] = {
    **dict.fromkeys(Kind, _unsupported),
    Kind.BOOL: _read_bool,
    **dict.fromkeys((Kind.INT2, Kind.INT4, Kind.INT8, Kind.OID), _read_integer),
    **dict.fromkeys((Kind.FLOAT4, Kind.FLOAT8), _read_float),
    Kind.NUMERIC: _read_numeric,
    **dict.fromkeys((Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME, Kind.CHAR), _read_text),
    **dict.fromkeys((Kind.UNKNOWN, Kind.ANY), _read_text),
    Kind.BYTEA: _read_bytes,
    Kind.DATE: _read_date,
    Kind.TIME: _read_time,
    Kind.TIMESTAMP: _read_timestamp,
    Kind.TIMESTAMPTZ: _read_timestamptz,
    Kind.INTERVAL: _read_interval,
    Kind.UUID: _read_uuid,
    Kind.JSON: _read_json,
    Kind.JSONB: _read_jsonb,
    Kind.ARRAY: _read_array,
}
