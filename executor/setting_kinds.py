"""What values a setting takes, and how each is written: PostgreSQL's rules (manual 20.1.1).

A kind is a function from the text a user gave to the canonical text the session keeps and
SHOW prints. It raises 22023 for what is no value, and 0A000 for a value that PostgreSQL knows
and this server cannot honour; nothing is accepted and then ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytz

from cluster.errors import FeatureNotSupported, InvalidParameterValue

# (the setting's name as shown, the text given) -> the text kept
Kind = Callable[[str, str], str]

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_INT_MAX = 2**31 - 1


def invalid(name: str, value: str, hint: str | None = None) -> InvalidParameterValue:
    """22023 in PostgreSQL's words."""
    return InvalidParameterValue(f'invalid value for parameter "{name}": "{value}"', hint=hint)


def unsupported(name: str, value: str, hint: str | None = None) -> FeatureNotSupported:
    """0A000: a right value that this server cannot honour."""
    return FeatureNotSupported(f'"{value}" is not supported for parameter "{name}"', hint=hint)


def text(name: str, value: str) -> str:
    """Any text."""
    return value


def boolean(name: str, value: str) -> str:
    """on or off, from any unique prefix of PostgreSQL's words."""
    lowered = value.lower()
    if lowered and lowered != "o":
        if any(word.startswith(lowered) for word in _TRUE):
            return "on"
        if any(word.startswith(lowered) for word in _FALSE):
            return "off"
    raise InvalidParameterValue(f'parameter "{name}" requires a Boolean value')


def one_of(*words: str) -> Kind:
    """One of these words, in any case."""

    def check(name: str, value: str) -> str:
        if value.lower() in words:
            return value.lower()
        raise invalid(name, value, f"Available values: {', '.join(words)}.")

    return check


def only(kind: Kind, *values: str, hint: str | None = None) -> Kind:
    """A kind of which this server can honour these values alone."""

    def check(name: str, value: str) -> str:
        given = kind(name, value)
        if given not in values:
            raise unsupported(name, value, hint)
        return given

    return check


_MS_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))
_KB_UNITS = (("TB", 1 << 30), ("GB", 1 << 20), ("MB", 1 << 10), ("kB", 1))
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)\s*")


def integer(low: int, high: int) -> Kind:
    """A whole number between the bounds."""

    def check(name: str, value: str) -> str:
        return str(_number(name, value, low, high, ()))

    return check


def milliseconds(name: str, value: str) -> str:
    """A time, kept in the largest unit that takes it whole."""
    return _with_unit(_number(name, value, 0, _INT_MAX, _MS_UNITS), _MS_UNITS)


def kilobytes(name: str, value: str) -> str:
    """A size, kept in the largest unit that takes it whole."""
    return _with_unit(_number(name, value, 64, _INT_MAX, _KB_UNITS), _KB_UNITS)


def milliseconds_of(value: str) -> int:
    """The milliseconds of a text that `milliseconds` made."""
    return _number("", value, 0, _INT_MAX, _MS_UNITS)


def bytes_of(value: str) -> int:
    """The bytes of a text that `kilobytes` made."""
    return 1024 * _number("", value, 0, _INT_MAX, _KB_UNITS)


def _number(name: str, value: str, low: int, high: int, units: Sequence[tuple[str, int]]) -> int:
    match = _NUMBER.fullmatch(value)
    factors = dict(units)
    if match is None or (match.group(2) and match.group(2) not in factors):
        hint = f"Valid units for this parameter are {_listed(units)}." if units else None
        raise invalid(name, value, hint)
    number = round(float(match.group(1)) * factors.get(match.group(2), 1))
    if not low <= number <= high:
        unit = f" {units[-1][0]}" if units else ""
        raise InvalidParameterValue(
            f'{number}{unit} is outside the valid range for parameter "{name}" '
            f"({low}{unit} .. {high}{unit})"
        )
    return number


def _listed(units: Sequence[tuple[str, int]]) -> str:
    names = [f'"{unit}"' for unit, _ in reversed(units)]
    return ", ".join(names[:-1]) + f", and {names[-1]}"


def _with_unit(number: int, units: Sequence[tuple[str, int]]) -> str:
    if number == 0:
        return "0"
    for unit, factor in units:
        if number % factor == 0:
            return f"{number // factor}{unit}"
    raise AssertionError("the smallest unit takes every number")


_ZONES = {name.lower(): name for name in pytz.all_timezones}
_OFFSET = re.compile(r"(?:<[+-]?\d+(?::\d+)?>)?([+-]?)(\d{1,2})(?::?(\d{2}))?")


def time_zone(name: str, value: str) -> str:
    """A zone of the IANA database, or whole hours from UTC.

    A number counts hours east of UTC (manual 20.11.2); in the POSIX form, `<+02>-02`, west.
    """
    lowered = value.strip().lower()
    if lowered in ("utc", "gmt", "z", "zulu", "etc/utc"):
        return "UTC" if lowered != "gmt" else "GMT"
    if lowered in _ZONES:
        return _ZONES[lowered]
    match = _OFFSET.fullmatch(lowered)
    if match is None:
        raise invalid(name, value)
    sign, hours, minutes = match.groups()
    if int(minutes or 0) != 0 or int(hours) > 12:
        raise unsupported(name, value, "Use the name of a time zone.")
    west = (sign == "-") != lowered.startswith("<")
    return "UTC" if int(hours) == 0 else f"Etc/GMT{'+' if west else '-'}{int(hours)}"


_DATE_STYLES = ("iso", "sql", "postgres", "german")
_DATE_ORDERS = {
    "mdy": "MDY",
    "us": "MDY",
    "noneuro": "MDY",
    "dmy": "DMY",
    "euro": "DMY",
    "european": "DMY",
    "ymd": "YMD",
}


def date_style(name: str, value: str) -> str:
    """Output style and input order; only `ISO, MDY` can be honoured."""
    for word in value.split(","):
        folded = word.strip().strip('"').lower()
        if folded in ("iso", "default", "mdy", "us", "noneuro", "noneuropean"):
            continue
        if folded in _DATE_STYLES or folded in _DATE_ORDERS:
            raise unsupported(name, value, "The date style is always ISO, MDY.")
        raise invalid(name, value)
    return "ISO, MDY"


_UTF8_NAMES = ("utf8", "utf-8", "unicode")
_OTHER_ENCODINGS = re.compile(
    r"sql_?ascii|latin-?\d+|iso[-_]?8859[-_]?\d+|win-?\d+|windows-?\d+|euc[-_]?\w+|sjis|big5|gbk"
    r"|gb18030|uhc|johab|koi8[-_]?\w*|mule_internal|shift_jis\w*"
)


def encoding(name: str, value: str) -> str:
    """The client's encoding: UTF8."""
    lowered = value.strip().strip("'\"").lower()
    if lowered in _UTF8_NAMES:
        return "UTF8"
    if _OTHER_ENCODINGS.fullmatch(lowered):
        raise unsupported(name, value, "Clients of this server speak UTF8.")
    raise invalid(name, value)


def search_path(name: str, value: str) -> str:
    """A list of schema names, which need not exist."""
    if value.strip() in ("", '""'):
        return '""' if value.strip() else ""
    for item in split_names(value):
        if item is None:
            raise InvalidParameterValue(
                f'invalid value for parameter "{name}": "{value}"',
                detail="List syntax is invalid.",
            )
    return value


_NAMES = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s,"]+))\s*(,|$)')


def split_names(value: str) -> list[str | None]:
    """The identifiers of a list, folded; None stands where it is no list."""
    names: list[str | None] = []
    position = 0
    while position < len(value):
        match = _NAMES.match(value, position)
        if match is None:
            return [*names, None]
        quoted, bare, end = match.groups()
        names.append(quoted.replace('""', '"') if quoted is not None else bare.lower())
        position = match.end()
        if end == "," and position == len(value):
            return [*names, None]
    return names
