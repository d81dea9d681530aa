"""Values of a Bind message as text, the form in which the planner takes them.

Text values stay as they are. Binary values (the `*_recv` functions) become the canonical text
of their type; one that does not fit its type is 22P03.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal

from cluster.errors import FeatureNotSupported, InvalidBinaryRepresentation
from dqe.wire.messages import decode_text
from executor.formatting.numbers import float_text
from executor.formatting.times import interval_text
from storage.decimals import shifted
from storage.types import Kind, SqlType, type_from_oid

_EPOCH = date(2000, 1, 1)
_MICROS_A_DAY = 86_400_000_000
_NUMERIC_SIGNS = {0x0000: 1, 0x4000: -1}
_NUMERIC_SPECIAL = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}


def parameter_text(raw: bytes | None, sql_type: SqlType, binary: bool) -> str | None:
    """One bound value as text, None for NULL."""
    if raw is None:
        return None
    if not binary:
        return decode_text(raw)
    decode = _DECODERS.get(sql_type.kind)
    if decode is None:
        if sql_type.kind is Kind.ARRAY:
            return _array(raw)
        raise FeatureNotSupported(f"no binary input for type {sql_type}")
    try:
        return decode(raw)
    except (struct.error, ValueError, OverflowError, IndexError):
        raise InvalidBinaryRepresentation(
            f"incorrect binary data format for type {sql_type}"
        ) from None


def _integer(shape: str) -> Callable[[bytes], str]:
    unpacker = struct.Struct(shape)

    def decode(raw: bytes) -> str:
        return str(unpacker.unpack(raw)[0])

    return decode


def _boolean(raw: bytes) -> str:
    return "true" if struct.unpack("!?", raw)[0] else "false"


def _float4(raw: bytes) -> str:
    return float_text(struct.unpack("!f", raw)[0])


def _float8(raw: bytes) -> str:
    return float_text(struct.unpack("!d", raw)[0])


def _numeric(raw: bytes) -> str:
    count, weight, sign, scale = struct.unpack_from("!hhHh", raw)
    if sign in _NUMERIC_SPECIAL:
        return _NUMERIC_SPECIAL[sign]
    if sign not in _NUMERIC_SIGNS:
        raise ValueError("sign")
    digits = struct.unpack(f"!{count}h", raw[8:])
    total = 0
    for digit in digits:
        total = total * 10_000 + digit
    value = shifted(Decimal(_NUMERIC_SIGNS[sign] * total), 4 * (weight + 1 - count))
    return _fixed_scale(value, scale)


def _fixed_scale(value: Decimal, scale: int) -> str:
    whole, _, fraction = format(value, "f").partition(".")
    return whole if scale == 0 else f"{whole}.{fraction[:scale].ljust(scale, '0')}"


def _date(raw: bytes) -> str:
    return _date_text(struct.unpack("!i", raw)[0])


def _date_text(days: int) -> str:
    if days == 2**31 - 1:
        return "infinity"
    if days == -(2**31):
        return "-infinity"
    return (_EPOCH + timedelta(days=days)).isoformat()


def _time(raw: bytes) -> str:
    return _clock(struct.unpack("!q", raw)[0])


def _clock(micros: int) -> str:
    return interval_text(0, 0, micros)


def _timestamp(raw: bytes) -> str:
    micros = struct.unpack("!q", raw)[0]
    if micros in (2**63 - 1, -(2**63)):
        return "infinity" if micros > 0 else "-infinity"
    days, rest = divmod(micros, _MICROS_A_DAY)
    return f"{_date_text(days)} {_clock(rest)}"


def _timestamptz(raw: bytes) -> str:
    text = _timestamp(raw)
    return text if text.endswith("infinity") else text + "+00"


def _interval(raw: bytes) -> str:
    micros, days, months = struct.unpack("!qii", raw)
    return interval_text(months, days, micros)


def _uuid(raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw))


def _bytea(raw: bytes) -> str:
    return "\\x" + raw.hex()


def _jsonb(raw: bytes) -> str:
    if raw[0] != 1:
        raise ValueError("version")
    return decode_text(raw[1:])


def _array(raw: bytes) -> str:
    """`array_recv`: the elements by their own type, written as an array literal."""
    try:
        dimensions, _, element_oid = struct.unpack_from("!iiI", raw)
        lengths = [struct.unpack_from("!i", raw, 12 + 8 * d)[0] for d in range(dimensions)]
        element = type_from_oid(element_oid)
        if element is None or dimensions > 6:
            raise InvalidBinaryRepresentation("wrong element type")
        elements, position = [], 12 + 8 * dimensions
        total = 1 if lengths else 0
        for length in lengths:
            total *= length
        for _ in range(total):
            size = struct.unpack_from("!i", raw, position)[0]
            position += 4
            if size < 0:
                elements.append("NULL")
                continue
            value = parameter_text(raw[position : position + size], element, binary=True)
            elements.append(_quoted(value or ""))
            position += size
    except (struct.error, ValueError):
        raise InvalidBinaryRepresentation("insufficient data left in message") from None
    return _nested_literal(elements, lengths)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _nested_literal(elements: list[str], lengths: list[int]) -> str:
    if not lengths:
        return "{}"
    for length in reversed(lengths):
        if length == 0:
            return "{}"
        elements = [
            "{" + ",".join(elements[i : i + length]) + "}" for i in range(0, len(elements), length)
        ]
    return elements[0]


_DECODERS: dict[Kind, Callable[[bytes], str]] = {
    Kind.BOOL: _boolean,
    Kind.INT2: _integer("!h"),
    Kind.INT4: _integer("!i"),
    Kind.INT8: _integer("!q"),
    Kind.OID: _integer("!I"),
    Kind.REGCLASS: _integer("!I"),
    Kind.REGTYPE: _integer("!I"),
    Kind.REGPROC: _integer("!I"),
    Kind.FLOAT4: _float4,
    Kind.FLOAT8: _float8,
    Kind.NUMERIC: _numeric,
    Kind.TEXT: decode_text,
    Kind.VARCHAR: decode_text,
    Kind.BPCHAR: decode_text,
    Kind.NAME: decode_text,
    Kind.CHAR: decode_text,
    Kind.JSON: decode_text,
    Kind.UNKNOWN: decode_text,
    Kind.ANY: decode_text,
    Kind.BYTEA: _bytea,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMPTZ: _timestamptz,
    Kind.INTERVAL: _interval,
    Kind.UUID: _uuid,
    Kind.JSONB: _jsonb,
}
