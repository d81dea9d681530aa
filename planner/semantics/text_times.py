"""Reading dates, times and timestamps as PostgreSQL's input functions do (DateStyle ISO, MDY).

What is left out: `allballs`, time zones in POSIX form, years before 1 or after 9999.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from cluster.errors import DatetimeFieldOverflow, InvalidDatetimeFormat, InvalidParameterValue

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# Hours east of Greenwich of the abbreviations met most.
_ABBREVIATIONS = {
    "z": 0.0,
    "utc": 0.0,
    "gmt": 0.0,
    "wet": 0.0,
    "est": -5.0,
    "edt": -4.0,
    "cst": -6.0,
    "cdt": -5.0,
    "mst": -7.0,
    "mdt": -6.0,
    "pst": -8.0,
    "pdt": -7.0,
    "cet": 1.0,
    "cest": 2.0,
    "eet": 2.0,
    "eest": 3.0,
    "msk": 3.0,
    "jst": 9.0,
    "bst": 1.0,
}
_TIME = re.compile(
    r"(?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?P<fraction>\.\d*)?)?"
    r"(?:\s*(?P<half>[ap]m)\b)?",
    re.IGNORECASE,
)
_COMPACT_TIME = re.compile(
    r"(?:[tT]|(?<=\d{8} ))(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})?(?P<fraction>\.\d*)?"
)
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>\d{2}))?(?::?(\d{2}))?$")
_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z_]*(?:/[A-Za-z0-9_+\-/]+)?$")
_DAY_AND_ZONE = re.compile(r"(.*\d) ((?![a-z]+ \d)[A-Za-z][A-Za-z_/+\-0-9]*)$")
_JULIAN = re.compile(r"(?:j|julian )(\d{1,8})$")
_JULIAN_DAY_BEFORE_YEAR_1 = 1_721_425
_DAY_OF_YEAR = re.compile(r"(\d{4})\.(\d{3})$")
_DATE_FORMS = (
    (re.compile(r"(\d{3,6})-(\d{1,2})-(\d{1,2})$"), "ymd"),
    (re.compile(r"(\d{4,6})[/. ](\d{1,2})[/. ](\d{1,2})$"), "ymd"),
    (re.compile(r"(\d{4}|\d{2})(\d{2})(\d{2})$"), "ymd"),
    (re.compile(r"(\d{1,2}) (\d{1,2}) (\d{1,4})$"), "mdy"),
    (re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{1,4})$"), "mdy"),
    (re.compile(r"(\d{1,2})[ -]([a-z]{3,9})[ ,-]+(\d{1,6})$"), "dmy"),
    (re.compile(r"([a-z]{3,9})[ -](\d{1,2})[ ,-]+(\d{1,6})$"), "mdy"),
    (re.compile(r"(\d{3,6})[ -]([a-z]{3,9})[ -](\d{1,2})$"), "ymd"),
    (re.compile(r"(\d{3,6}) (\d{1,2}) ([a-z]{3,9})$"), "ydm"),
)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a text says: `special` is infinity or -infinity; parts not given are None."""

    day: date | None = None
    clock: time | None = None
    zone: tzinfo | None = None
    special: str | None = None
    # 24:00:00 is the next day's midnight.
    carry_days: int = 0


@lru_cache(maxsize=256)
def zone_named(name: str) -> tzinfo:
    """The zone a user means: a name, an abbreviation or an offset; 22023 otherwise."""
    plain = name.strip()
    lowered = plain.lower()
    if lowered in _ABBREVIATIONS:
        return timezone(timedelta(hours=_ABBREVIATIONS[lowered]))
    offset = _OFFSET.match(plain)
    if offset:
        return _offset_zone(offset)
    try:
        return ZoneInfo(plain)
    except (KeyError, ValueError, OSError):
        raise InvalidParameterValue(f'time zone "{name}" not recognized') from None


def _offset_zone(match: re.Match[str]) -> tzinfo:
    delta = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"] or 0))
    return timezone(-delta if match["sign"] == "-" else delta)


def read_moment(text: str, type_name: str, now: Callable[[], datetime]) -> Moment:
    """The parts of a date, time or timestamp; `now` is asked for today, now and their like."""
    plain = " ".join(text.strip().split())
    special = _special(plain.lower(), now)
    if special is not None:
        return special
    rest, zone = _take_zone(plain, text, type_name)
    rest, clock, carry = _take_time(rest, text)
    rest = rest.strip(" T")
    word = _special(rest.lower(), now) if clock is not None else None
    if word is not None and word.day is not None:
        day: date | None = word.day  # "yesterday 12:00"
    else:
        day = _read_date(rest, text, type_name) if rest else None
    if day is None and clock is None:
        raise _malformed(text, type_name)
    return Moment(day, clock, zone, carry_days=carry)


def _special(word: str, now: Callable[[], datetime]) -> Moment | None:
    match word:
        case "infinity" | "+infinity" | "inf":
            return Moment(special="infinity")
        case "-infinity" | "-inf":
            return Moment(special="-infinity")
        case "epoch":
            return Moment(date(1970, 1, 1), time(), UTC)
        case "now":
            moment = now()
            return Moment(moment.date(), moment.time(), moment.tzinfo)
        case "today":
            return Moment(now().date(), time())
        case "tomorrow":
            return Moment(now().date() + timedelta(days=1), time())
        case "yesterday":
            return Moment(now().date() - timedelta(days=1), time())
    return None


def _take_zone(plain: str, text: str, type_name: str) -> tuple[str, tzinfo | None]:
    clock = _TIME.search(plain) or _COMPACT_TIME.search(plain)
    if clock is None:
        return _take_zone_of_day(plain)
    tail = plain[clock.end() :].strip()
    if not tail or re.match(r"[a-z]{3,9}[ -]\d|\d", tail, re.IGNORECASE):
        return plain, None
    try:
        if _OFFSET.match(tail) or _ZONE_NAME.match(tail):
            return plain[: clock.end()], zone_named(tail)
    except InvalidParameterValue:
        raise _malformed(text, type_name) from None
    raise _malformed(text, type_name)


def _take_zone_of_day(plain: str) -> tuple[str, tzinfo | None]:
    """The zone of a text without a time, such as `2020-01-01 UTC`."""
    match = _DAY_AND_ZONE.match(plain)
    if match is None or match[2].lower()[:3] in _MONTHS:
        return plain, None
    try:
        return match[1], zone_named(match[2])
    except InvalidParameterValue:
        return plain, None


def _take_time(plain: str, text: str) -> tuple[str, time | None, int]:
    match = _TIME.search(plain) or _COMPACT_TIME.search(plain)
    if match is None:
        return plain, None, 0
    rest = plain[: match.start()] + " " + plain[match.end() :]
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    half = match.groupdict().get("half")
    if half:
        if not 1 <= hour <= 12:
            raise DatetimeFieldOverflow(f'date/time field value out of range: "{text}"')
        hour = hour % 12 + (12 if half.lower() == "pm" else 0)
    micros = round(float(match["fraction"] or 0) * 1_000_000) if match["fraction"] != "." else 0
    total = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micros)
    if minute > 59 or second > 60 or total > timedelta(hours=24):
        raise DatetimeFieldOverflow(f'date/time field value out of range: "{text}"')
    clock = (datetime.min + (total - timedelta(days=total.days))).time()
    return rest, clock, total.days


def _read_date(plain: str, text: str, type_name: str) -> date:
    lowered = plain.lower().strip(", ")
    for day_name in _DAYS:
        lowered = re.sub(rf"^{day_name}[a-z]*[, ]+", "", lowered)
    counted = _counted_day(lowered)
    if counted is not None:
        return counted
    for form, order in _DATE_FORMS:
        match = form.match(lowered)
        if match:
            return _date_of(dict(zip(order, match.groups(), strict=True)), text, type_name)
    raise _malformed(text, type_name)


def _counted_day(lowered: str) -> date | None:
    """A Julian day, or a year with the number of the day in it."""
    julian = _JULIAN.match(lowered)
    if julian and 0 < int(julian[1]) - _JULIAN_DAY_BEFORE_YEAR_1 <= date.max.toordinal():
        return date.fromordinal(int(julian[1]) - _JULIAN_DAY_BEFORE_YEAR_1)
    numbered = _DAY_OF_YEAR.match(lowered)
    if numbered and 1 <= int(numbered[2]) <= 366 and int(numbered[1]) > 0:
        return date(int(numbered[1]), 1, 1) + timedelta(days=int(numbered[2]) - 1)
    return None


def _date_of(parts: dict[str, str], text: str, type_name: str) -> date:
    month_text = parts["m"]
    if month_text.isdigit():
        month = int(month_text)
    elif month_text[:3] in _MONTHS:
        month = _MONTHS.index(month_text[:3]) + 1
    else:
        raise _malformed(text, type_name)
    year = int(parts["y"])
    if len(parts["y"]) <= 2:
        year += 2000 if year < 70 else 1900
    try:
        return date(year, month, int(parts["d"]))
    except ValueError:
        raise DatetimeFieldOverflow(f'date/time field value out of range: "{text}"') from None


def _malformed(text: str, type_name: str) -> InvalidDatetimeFormat:
    return InvalidDatetimeFormat(f'invalid input syntax for type {type_name}: "{text}"')


def timestamp_of(moment: Moment) -> datetime:
    """Day and clock together, without zone."""
    assert moment.day is not None
    return datetime.combine(moment.day, moment.clock or time()) + timedelta(days=moment.carry_days)


def aware_utc(moment: Moment, session_zone: tzinfo) -> datetime:
    """The instant in UTC; a text without zone is in the session's."""
    local = timestamp_of(moment).replace(tzinfo=moment.zone or session_zone)
    return local.astimezone(UTC)
