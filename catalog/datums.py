"""Values of key types: read from text, written in one canonical form, compared, put in Arrow.

Partition bounds are kept as canonical text, and statistics too. A **datum** here is the
Python value that stands for such a text and orders as PostgreSQL orders the type (text by the
C collation, which for UTF-8 is the order of code points):

    integers, oid       int
    numeric             Decimal, without trailing zeros
    float4, float8      float (NaN counts as infinity: above every bound)
    text kinds          str; char(n) without its padding
    bytea               bytes
    bool                bool
    date                int, days since 1970-01-01; infinities as DuckDB keeps them
    time                int, microseconds since midnight
    timestamp(tz)       int, microseconds since 1970-01-01 (UTC); infinities as DuckDB's
    uuid                int of 128 bits

Left out: types that cannot be a partition key (arrays, json, interval, ranges), and the looser
spellings of dates that PostgreSQL takes ('Jan 8'): the DDL planner evaluates those first. A
timestamptz without an offset is taken as UTC, since no session zone is known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import (
    DqeError,
    FeatureNotSupported,
    InvalidDatetimeFormat,
    InvalidTextRepresentation,
    NumericValueOutOfRange,
    StringDataRightTruncation,
)
from storage.decimals import EXACT, as_numeric
from storage.types import Kind, SqlType, arrow_type

Datum = int | float | str | bytes | Decimal

INTEGER_KINDS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8, Kind.OID})
TEXT_KINDS = frozenset({Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME})
TIMESTAMP_KINDS = frozenset({Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
FLOAT_KINDS = frozenset({Kind.FLOAT4, Kind.FLOAT8})
# Kinds whose datums are ints with nothing between n and n + 1.
DISCRETE_KINDS = (
    INTEGER_KINDS | TIMESTAMP_KINDS | frozenset({Kind.DATE, Kind.TIME, Kind.UUID, Kind.BOOL})
)
ORDERED_KINDS = DISCRETE_KINDS | TEXT_KINDS | FLOAT_KINDS | frozenset({Kind.NUMERIC, Kind.BYTEA})

DATE_INFINITY = 2**31 - 1
TIMESTAMP_INFINITY = 2**63 - 1
MICROSECONDS_A_DAY = 86_400_000_000

_EPOCH = datetime(1970, 1, 1)
_INTEGER_LIMITS = {
    Kind.INT2: (-(2**15), 2**15 - 1),
    Kind.INT4: (-(2**31), 2**31 - 1),
    Kind.INT8: (-(2**63), 2**63 - 1),
    Kind.OID: (0, 2**32 - 1),
}
# Enough for DECIMAL(38) whatever arithmetic rounds.


def datum_from_text(sql_type: SqlType, text: str) -> Datum:
    """Reads `text` as PostgreSQL's input function of the type would.

    Raises 22P02, 22003, 22007, 22001 as PostgreSQL does, and 0A000 for a type without datums.
    """
    reader = _READERS.get(sql_type.kind)
    if reader is None:
        raise FeatureNotSupported(f"type {sql_type} cannot be used in a partition bound")
    return reader(sql_type, text)


def text_of_datum(sql_type: SqlType, datum: Datum) -> str:
    """The canonical text: equal datums have equal texts, and reading it gives the datum."""
    kind = sql_type.kind
    if kind is Kind.BOOL:
        return "true" if datum else "false"
    if kind is Kind.NUMERIC:
        assert isinstance(datum, Decimal)
        return f"{datum:f}"
    if kind in FLOAT_KINDS:
        return _text_of_float(float(datum))
    if kind is Kind.BYTEA:
        assert isinstance(datum, bytes)
        return "\\x" + datum.hex()
    if kind in TEXT_KINDS:
        return str(datum)
    assert isinstance(datum, int)
    if kind is Kind.DATE:
        return _text_of_days(datum)
    if kind in TIMESTAMP_KINDS:
        return _text_of_microseconds(datum, "+00" if kind is Kind.TIMESTAMPTZ else "")
    if kind is Kind.TIME:
        return _text_of_time(datum)
    if kind is Kind.UUID:
        return str(UUID(int=datum))
    return str(datum)


def canonical_text(sql_type: SqlType, text: str) -> str:
    """The canonical form of what the user wrote; errors as in `datum_from_text`."""
    return text_of_datum(sql_type, datum_from_text(sql_type, text))


def datum_of(sql_type: SqlType, value: object) -> Datum:
    """The datum of a Python value, as parameters and Arrow give them; text is read as text.

    A number that an integer type cannot hold stays the number it is (for comparisons such as
    `k < 10.5`).
    """
    if isinstance(value, str):
        return datum_from_text(sql_type, value)
    converted = _datum_of_value(sql_type.kind, value)
    if converted is None:
        raise InvalidTextRepresentation(f"cannot use {value!r} as a value of type {sql_type}")
    return converted


def _datum_of_value(kind: Kind, value: object) -> Datum | None:
    if isinstance(value, bool):
        return value if kind is Kind.BOOL else None
    if isinstance(value, (int, float, Decimal)):
        return _datum_of_number(kind, value)
    if isinstance(value, UUID):
        return value.int if kind is Kind.UUID else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value) if kind is Kind.BYTEA else None
    if isinstance(value, datetime):
        return _datum_of_datetime(kind, value)
    if isinstance(value, date):
        days = value.toordinal() - _EPOCH.toordinal()
        if kind is Kind.DATE:
            return days
        return days * MICROSECONDS_A_DAY if kind in TIMESTAMP_KINDS else None
    if isinstance(value, time) and kind is Kind.TIME:
        return _microseconds_of_day(value)
    return None


def _datum_of_number(kind: Kind, value: int | float | Decimal) -> Datum | None:
    if kind in FLOAT_KINDS:
        return _plain_float(kind, float(value))
    if kind is Kind.NUMERIC:
        return _plain_decimal(Decimal(value))
    if kind in INTEGER_KINDS:
        return int(value) if _is_integral(value) else value
    return None


def _is_integral(value: int | float | Decimal) -> bool:
    if isinstance(value, int):
        return True
    number = Decimal(value)
    return number.is_finite() and number == number.to_integral_value()


def _datum_of_datetime(kind: Kind, value: datetime) -> int | None:
    if kind not in TIMESTAMP_KINDS:
        return None
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return (value - _EPOCH) // timedelta(microseconds=1)


def _microseconds_of_day(value: time) -> int:
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond


def arrow_array(sql_type: SqlType, datums: Sequence[Datum | None]) -> pa.Array:
    """The datums (None is NULL) in the Arrow form `comparable` gives to columns of the type."""
    kind = sql_type.kind
    if kind is Kind.UUID:
        values = [None if d is None else int(d).to_bytes(16, "big") for d in datums]
        return pa.array(values, type=pa.binary(16))
    target = arrow_type(sql_type)
    if kind is Kind.DATE:
        return pa.array(datums, type=pa.int32()).cast(target)
    if kind in TIMESTAMP_KINDS or kind is Kind.TIME:
        return pa.array(datums, type=pa.int64()).cast(target)
    return pa.array(datums, type=target)


def comparable(sql_type: SqlType, column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column of rows in the form in which Arrow compares it as the type orders."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = sql_type.kind
    if kind is Kind.UUID:
        return array if array.type == pa.binary(16) else array.cast(pa.binary(16))
    target = arrow_type(sql_type)
    if array.type != target:
        array = array.cast(target)
    if kind is Kind.BPCHAR:
        return pc.utf8_rtrim(array, characters=" ")
    if kind in FLOAT_KINDS:
        infinity = pa.scalar(float("inf"), type=target)
        return pc.if_else(pc.is_nan(array), infinity, array)
    return array


def datum_of_scalar(sql_type: SqlType, array: pa.Array, index: int) -> Datum | None:
    """The datum at `index` of an array made by `comparable`; None for NULL."""
    scalar = array[index]
    if not scalar.is_valid:
        return None
    kind = sql_type.kind
    if kind is Kind.UUID:
        return int.from_bytes(scalar.as_py(), "big")
    if kind is Kind.DATE:
        return int(scalar.cast(pa.int32()).as_py())
    if kind in TIMESTAMP_KINDS or kind is Kind.TIME:
        return int(scalar.cast(pa.int64()).as_py())
    return datum_of(sql_type, scalar.as_py()) if kind is Kind.NUMERIC else scalar.as_py()


# --- Readers -------------------------------------------------------------------------------


def _invalid(sql_type: SqlType, text: str) -> DqeError:
    # PostgreSQL names the type without its modifiers here.
    return InvalidTextRepresentation(
        f'invalid input syntax for type {SqlType(sql_type.kind)}: "{text}"'
    )


def _out_of_range(sql_type: SqlType, text: str) -> DqeError:
    return NumericValueOutOfRange(f'value "{text}" is out of range for type {sql_type}')


_INTEGER = re.compile(r"[+-]?[0-9]+")


def _read_integer(sql_type: SqlType, text: str) -> int:
    stripped = text.strip()
    if not _INTEGER.fullmatch(stripped):
        raise _invalid(sql_type, text)
    low, high = _INTEGER_LIMITS[sql_type.kind]
    value = int(stripped) if len(stripped) < 40 else high + 1
    if not low <= value <= high:
        raise _out_of_range(sql_type, text)
    return value


def _without_underscores(text: str) -> str:
    """Python reads `1_0` as a number; PostgreSQL's input functions before 16 do not."""
    return text.strip().replace("_", "?")


def _read_numeric(sql_type: SqlType, text: str) -> Decimal:
    try:
        value = EXACT.create_decimal(_without_underscores(text))
    except InvalidOperation:
        raise _invalid(sql_type, text) from None
    if not value.is_finite():
        raise FeatureNotSupported(f'cannot use "{text.strip()}" as a partition bound')
    if sql_type.precision is None:
        return _plain_decimal(value)
    scale = sql_type.scale or 0
    rounded = as_numeric(value, sql_type.precision, scale)
    if rounded is None:
        raise NumericValueOutOfRange(
            "numeric field overflow",
            detail=f"A field with precision {sql_type.precision}, scale {scale} must round to an"
            f" absolute value less than 10^{sql_type.precision - scale}.",
        )
    return _plain_decimal(rounded)


def _plain_decimal(value: Decimal) -> Decimal:
    """Without trailing zeros and without an exponent above zero; no negative zero."""
    if value == 0:
        return Decimal(0)
    value = value.normalize(EXACT)
    _, _, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    return value.quantize(Decimal(1), context=EXACT) if exponent > 0 else value


def _read_float(sql_type: SqlType, text: str) -> float:
    try:
        value = float(_without_underscores(text))
    except ValueError:
        raise _invalid(sql_type, text) from None
    if value != value:
        raise FeatureNotSupported("cannot use NaN as a partition bound")
    return _plain_float(sql_type.kind, value)


def _plain_float(kind: Kind, value: float) -> float:
    if value != value:
        return float("inf")
    if kind is Kind.FLOAT4:
        value = float(np.float32(value))
    return 0.0 if value == 0 else value


def _text_of_float(value: float) -> str:
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value).removesuffix(".0")


def _read_text(sql_type: SqlType, text: str) -> str:
    if sql_type.kind is Kind.BPCHAR:
        text = text.rstrip(" ")
    if sql_type.length is not None and len(text) > sql_type.length:
        if text[sql_type.length :].strip(" "):
            raise StringDataRightTruncation(f"value too long for type {sql_type}")
        text = text[: sql_type.length]
    return text


_HEX = re.compile(r"\\x((?:[0-9a-fA-F]{2}\s*)*)")


def _read_bytes(sql_type: SqlType, text: str) -> bytes:
    found = _HEX.fullmatch(text)
    if found:
        return bytes.fromhex(found.group(1))
    if "\\" in text or not text.isascii():
        raise _invalid(sql_type, text)
    return text.encode()


_BOOLEANS = (("true", True), ("false", False), ("yes", True), ("no", False))


def _read_bool(sql_type: SqlType, text: str) -> bool:
    word = text.strip().lower()
    if word in ("on", "1"):
        return True
    if word in ("of", "off", "0"):
        return False
    for full, value in _BOOLEANS:
        if word and full.startswith(word):
            return value
    raise _invalid(sql_type, text)


_UUID = re.compile(r"\{?([0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}\}?")


def _read_uuid(sql_type: SqlType, text: str) -> int:
    if not _UUID.fullmatch(text) or text.startswith("{") != text.endswith("}"):
        raise _invalid(sql_type, text)
    return int(text.strip("{}").replace("-", ""), 16)


_DATE_PART = r"(?P<year>[0-9]{4,7})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})"
_TIME_PART = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:\.(?P<part>[0-9]{1,9}))?)?"
)
_ZONE_PART = r"\s*(?P<zone>[Zz]|UTC|[+-][0-9]{1,2}(?::?[0-9]{2})?)?"
_TIME = re.compile(_TIME_PART)
_TIMESTAMP = re.compile(
    _DATE_PART + r"(?:[T\s]\s*" + _TIME_PART + _ZONE_PART + r")?(?P<era>\s+BC)?"
)
_COMPACT_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")


def _bad_time(sql_type: SqlType, text: str) -> DqeError:
    return InvalidDatetimeFormat(
        f'invalid input syntax for type {SqlType(sql_type.kind)}: "{text}"'
    )


def _infinity(text: str, infinity: int) -> int | None:
    word = text.strip().lower()
    if word == "infinity":
        return infinity
    return -infinity if word == "-infinity" else None


def _read_date(sql_type: SqlType, text: str) -> int:
    infinite = _infinity(text, DATE_INFINITY)
    if infinite is not None:
        return infinite
    found = _TIMESTAMP.fullmatch(_with_dashes(text))
    if found is None:
        raise _bad_time(sql_type, text)
    return _days_of_match(sql_type, text, found)


def _with_dashes(text: str) -> str:
    stripped = text.strip()
    compact = _COMPACT_DATE.fullmatch(stripped)
    return "-".join(compact.groups()) if compact else stripped


def _days_of_match(sql_type: SqlType, text: str, found: re.Match[str]) -> int:
    year, month, day = (int(found[name]) for name in ("year", "month", "day"))
    if found["era"]:
        year = 1 - year
    if not 1 <= month <= 12 or not 1 <= day <= _days_in_month(year, month):
        raise InvalidDatetimeFormat(f'date/time field value out of range: "{text}"')
    return _days_from_civil(year, month, day)


def _read_timestamp(sql_type: SqlType, text: str) -> int:
    infinite = _infinity(text, TIMESTAMP_INFINITY)
    if infinite is not None:
        return infinite
    found = _TIMESTAMP.fullmatch(_with_dashes(text))
    if found is None:
        raise _bad_time(sql_type, text)
    microseconds = _days_of_match(sql_type, text, found) * MICROSECONDS_A_DAY
    if found["hour"] is not None:
        microseconds += _microseconds_of_match(sql_type, text, found)
    if sql_type.kind is Kind.TIMESTAMPTZ:
        microseconds -= _offset_of_zone(found["zone"])
    return microseconds


def _read_time(sql_type: SqlType, text: str) -> int:
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise _bad_time(sql_type, text)
    return _microseconds_of_match(sql_type, text, found)


def _microseconds_of_match(sql_type: SqlType, text: str, found: re.Match[str]) -> int:
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    if hour > 24 or minute > 59 or second > 60:
        raise InvalidDatetimeFormat(f'date/time field value out of range: "{text}"')
    fraction = round(int((found["part"] or "0").ljust(9, "0")) / 1000)
    return ((hour * 60 + minute) * 60 + second) * 10**6 + fraction


def _offset_of_zone(zone: str | None) -> int:
    """East of Greenwich, in microseconds."""
    if zone is None or zone in ("Z", "z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "")
    hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > 2 else (digits, "0")
    offset = (int(hours) * 60 + int(minutes)) * 60 * 10**6
    return -offset if zone[0] == "-" else offset


def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar, for any year.

    Years start in March here, so that the leap day is the last of its year.
    """
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


def _civil_from_days(days: int) -> tuple[int, int, int]:
    """The inverse of `_days_from_civil`."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    leap_days = day_of_era // 1460 - day_of_era // 36_524 + day_of_era // 146_096
    year_of_era = (day_of_era - leap_days) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    return era * 400 + year_of_era + (month <= 2), month, day


def _date_and_era(days: int) -> tuple[str, str]:
    year, month, day = _civil_from_days(days)
    shown, era = (year, "") if year > 0 else (1 - year, " BC")
    return f"{shown:04d}-{month:02d}-{day:02d}", era


def _text_of_days(days: int) -> str:
    if abs(days) == DATE_INFINITY:
        return "infinity" if days > 0 else "-infinity"
    text, era = _date_and_era(days)
    return text + era


def _text_of_time(microseconds: int) -> str:
    seconds, part = divmod(microseconds, 10**6)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    fraction = f".{part:06d}".rstrip("0") if part else ""
    return f"{hour:02d}:{minute:02d}:{second:02d}{fraction}"


def _text_of_microseconds(microseconds: int, zone: str) -> str:
    if abs(microseconds) == TIMESTAMP_INFINITY:
        return "infinity" if microseconds > 0 else "-infinity"
    days, rest = divmod(microseconds, MICROSECONDS_A_DAY)
    text, era = _date_and_era(days)
    return f"{text} {_text_of_time(rest)}{zone}{era}"


_READERS: dict[Kind, Callable[[SqlType, str], Datum]] = {
    Kind.INT2: _read_integer,
    Kind.INT4: _read_integer,
    Kind.INT8: _read_integer,
    Kind.OID: _read_integer,
    Kind.NUMERIC: _read_numeric,
    Kind.FLOAT4: _read_float,
    Kind.FLOAT8: _read_float,
    Kind.TEXT: _read_text,
    Kind.VARCHAR: _read_text,
    Kind.BPCHAR: _read_text,
    Kind.NAME: _read_text,
    Kind.BYTEA: _read_bytes,
    Kind.BOOL: _read_bool,
    Kind.UUID: _read_uuid,
    Kind.DATE: _read_date,
    Kind.TIME: _read_time,
    Kind.TIMESTAMP: _read_timestamp,
    Kind.TIMESTAMPTZ: _read_timestamp,
}
