"""to_date and to_timestamp: a text read by a template."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date, datetime, timedelta

from cluster.errors import (
    DatetimeFieldOverflow,
    InvalidDatetimeFormat,
)
from planner.semantics.time_templates import DAYS, MONTHS, TOKEN


def parse_time(text: str, template: str) -> str:
    """to_date and to_timestamp: the timestamp's text."""
    found: dict[str, int] = {}
    at = 0
    rest = text
    for match in TOKEN.finditer(template):
        if match["field"] is None:
            literal = match["quoted"] if match["quoted"] is not None else match["other"]
            at = _skip_literal(rest, at, literal)
        else:
            at = _take_field(rest, at, match["field"], template[match.end() :], found)
    return _assembled(found, text)


def _skip_literal(text: str, at: int, literal: str) -> int:
    for character in literal:
        if character.isspace() or not character.isalnum():
            while at < len(text) and (text[at].isspace() or not text[at].isalnum()):
                if text[at] in "+-" and not character.isspace() and character not in "+-/.,:":
                    break
                at += 1
        elif at < len(text):
            at += 1
    return at


_WIDTHS = {"YYYY": 4, "YYY": 3, "YY": 2, "Y": 1, "DDD": 3, "MS": 3, "US": 6, "IYYY": 4, "J": 7}


def _take_field(text: str, at: int, field: str, following: str, found: dict[str, int]) -> int:
    upper = field.upper()
    while at < len(text) and text[at].isspace():
        at += 1
    if upper in ("MONTH", "MON", "DAY", "DY"):
        return _take_name(text, at, upper, found)
    if upper in ("AM", "PM", "A.M.", "P.M."):
        match = re.match(r"[AaPp]\.?[Mm]\.?", text[at:])
        if match:
            found["half"] = 1 if match.group()[0] in "pP" else 0
            at += match.end()
        return at
    width = _WIDTHS.get(upper, 2)
    adjoining = following[:1].isalpha() or following[:1].isdigit()
    pattern = rf"[+-]?\d{{1,{width}}}" if adjoining or upper != "YYYY" else r"[+-]?\d+"
    match = re.match(pattern, text[at:])
    if match is None:
        if at >= len(text):
            return at
        raise InvalidDatetimeFormat(
            f'invalid value "{text[at : at + width]}" for "{field}"',
            detail="Value must be an integer.",
        )
    digits = match.group()
    if upper in ("MS", "US"):
        micros = digits.ljust(3, "0") + "000" if upper == "MS" else digits.ljust(6, "0")
        found["US"] = int(micros)
    elif upper == "YY":
        year = int(digits)
        found["YYYY"] = year + (2000 if year < 70 else 1900)
    else:
        found[upper] = int(digits)
    return at + match.end()


def _take_name(text: str, at: int, upper: str, found: dict[str, int]) -> int:
    names = MONTHS if upper in ("MONTH", "MON") else DAYS
    word = re.match(r"[A-Za-z]+", text[at:])
    shown = word.group() if word else text[at:]
    for index, name in enumerate(names, 1):
        if shown[:3].lower() == name[:3].lower() and len(shown) >= 3:
            if names is MONTHS:
                found["MM"] = index
            full = shown.lower() == name.lower()
            return at + (len(shown) if full else 3)
    raise InvalidDatetimeFormat(
        f'invalid value "{shown}" for "{upper}"',
        detail="The given value did not match any of the allowed values for this field.",
    )


def _assembled(found: dict[str, int], text: str) -> str:
    year, month, day = found.get("YYYY", 1), found.get("MM", 1), found.get("DD", 1)
    hour = found.get("HH24", 0)
    for name in ("HH12", "HH"):
        if name in found:
            hour = found[name] % 12 if "half" in found else found[name]
            hour += 12 * found.get("half", 0)
    try:
        if "J" in found:
            base = date.fromordinal(found["J"] - 1721425)
        elif "DDD" in found:
            base = date(year, 1, 1) + timedelta(days=found["DDD"] - 1)
        else:
            base = date(year, month, day)
        if day > monthrange(base.year, base.month)[1]:
            raise ValueError
        clock = timedelta(
            hours=hour,
            minutes=found.get("MI", 0),
            seconds=found.get("SS", found.get("SSSS", found.get("SSSSS", 0))),
            microseconds=found.get("US", 0),
        )
        if hour > 23 or found.get("MI", 0) > 59 or found.get("SS", 0) > 59:
            raise ValueError
    except ValueError:
        raise DatetimeFieldOverflow(f'date/time field value out of range: "{text}"') from None
    return (datetime(base.year, base.month, base.day) + clock).isoformat(" ")
