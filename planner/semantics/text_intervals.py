"""Reading and writing intervals: months, days and microseconds, as PostgreSQL keeps them.

Accepts the verbose form (`1 year 2 mons 3 days 04:05:06 ago`), ISO 8601 (`P1Y2M3DT4H5M6S`)
and SQL's (`1-2`, `3 4:05:06`), with a field restriction (`INTERVAL '90' DAY`).
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal

from cluster.errors import InvalidDatetimeFormat

Parts = tuple[int, int, int]

MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
# Unit -> (months, days, microseconds) of one.
_UNITS: dict[str, tuple[int, int, int]] = {}
for _names, _worth in (
    ("year years yr yrs y", (12, 0, 0)),
    ("month months mon mons", (1, 0, 0)),
    ("decade decades", (120, 0, 0)),
    ("century centuries c", (1200, 0, 0)),
    ("millennium millennia mil mils", (12000, 0, 0)),
    ("week weeks w", (0, 7, 0)),
    ("day days d", (0, 1, 0)),
    ("hour hours hr hrs h", (0, 0, 3600 * MICROS_PER_SECOND)),
    ("minute minutes min mins m", (0, 0, 60 * MICROS_PER_SECOND)),
    ("second seconds sec secs s", (0, 0, MICROS_PER_SECOND)),
    ("millisecond milliseconds ms msec msecs", (0, 0, 1000)),
    ("microsecond microseconds us usec usecs", (0, 0, 1)),
):
    for _name in _names.split():
        _UNITS[_name] = _worth

_TOKEN = re.compile(
    r"\s*(?:(?P<clock>[+-]?\d+:\d{1,2}(?::\d{1,2}(?:\.\d*)?)?)"
    r"|(?P<yearmonth>[+-]?\d+-\d+)"
    r"|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)"
    r"|(?P<word>[a-z]+)|(?P<at>@))",
    re.IGNORECASE,
)
_ISO = re.compile(
    r"P(?:(-?[\d.]+)Y)?(?:(-?[\d.]+)M)?(?:(-?[\d.]+)W)?(?:(-?[\d.]+)D)?"
    r"(?:T(?:(-?[\d.]+)H)?(?:(-?[\d.]+)M)?(?:(-?[\d.]+)S)?)?$"
)
_ISO_UNITS = ("year", "month", "week", "day", "hour", "minute", "second")


def read_interval(text: str, unit: str | None = None) -> Parts:
    """The parts of an interval's text; `unit` is what a bare number counts."""
    if text.strip().startswith("P") and len(text.strip()) > 1:
        return _read_iso(text)
    total = [0, 0, 0]
    negate = False
    tokens = _tokens(text)
    index = 0
    while index < len(tokens):
        kind, value = tokens[index]
        index += 1
        if kind == "clock":
            total[2] += _clock_micros(value)
        elif kind == "yearmonth":
            total[0] += _year_month(value)
        elif kind == "number":
            following = tokens[index] if index < len(tokens) else ("", "")
            name = following[1] if following[0] == "word" else None
            index += name is not None
            if name is None:
                name = "day" if following[0] == "clock" else (unit or "second")
            _add(total, Decimal(value), name, text)
        elif kind == "word" and value == "ago":
            negate = True
        elif kind != "at":
            raise _malformed(text)
    if not tokens:
        raise _malformed(text)
    sign = -1 if negate else 1
    return total[0] * sign, total[1] * sign, total[2] * sign


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens = []
    rest = text.strip()
    while rest:
        match = _TOKEN.match(rest)
        if match is None:
            raise _malformed(text)
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)].lower()))
        rest = rest[match.end() :].lstrip(" ,")
    return tokens


def _add(total: list[int], amount: Decimal, name: str, text: str) -> None:
    worth = _UNITS.get(name)
    if worth is None:
        raise _malformed(text)
    months, days, micros = worth
    if months:
        exact = amount * months
        total[0] += int(exact)
        # A part of a month becomes days of a 30-day month; of a year, whole months only.
        rest = Decimal(0) if months > 1 else (exact - int(exact)) * 30
        total[1] += int(rest)
        total[2] += _rounded((rest - int(rest)) * MICROS_PER_DAY)
    elif days:
        exact = amount * days
        total[1] += int(exact)
        total[2] += _rounded((exact - int(exact)) * MICROS_PER_DAY)
    else:
        total[2] += _rounded(amount * micros)


def _rounded(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_EVEN))


def _clock_micros(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    fields = text.lstrip("+-").split(":")
    hours, minutes = int(fields[0]), int(fields[1])
    seconds = Decimal(fields[2]) if len(fields) > 2 and fields[2] else Decimal(0)
    whole = (hours * 3600 + minutes * 60) * MICROS_PER_SECOND
    return sign * (whole + _rounded(seconds * MICROS_PER_SECOND))


def _year_month(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    years, months = text.lstrip("+-").split("-")
    return sign * (int(years) * 12 + int(months))


def _read_iso(text: str) -> Parts:
    match = _ISO.match(text.strip())
    if match is None:
        raise _malformed(text)
    total = [0, 0, 0]
    for unit, amount in zip(_ISO_UNITS, match.groups(), strict=True):
        if amount:
            _add(total, Decimal(amount), unit, text)
    return total[0], total[1], total[2]


def duckdb_interval(parts: Parts) -> str:
    """A text DuckDB reads as that interval."""
    return f"{parts[0]} months {parts[1]} days {parts[2]} microseconds"


def _malformed(text: str) -> InvalidDatetimeFormat:
    return InvalidDatetimeFormat(f'invalid input syntax for type interval: "{text}"')
