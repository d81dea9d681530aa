"""to_char of timestamps and intervals.

A template with only plain fields becomes DuckDB's strftime at bind time (`plain_strftime`); the
rest runs here, over the value's text.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from planner.semantics.time_templates import DAYS, MONTHS, TOKEN, ordinal

_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")

_STRFTIME = {
    "YYYY": "%Y",
    "MM": "%m",
    "DD": "%d",
    "HH24": "%H",
    "HH12": "%I",
    "HH": "%I",
    "MI": "%M",
    "SS": "%S",
    "MS": "%g",
    "US": "%f",
    "Mon": "%b",
    "Dy": "%a",
    "DDD": "%j",
    "AM": "%p",
    "PM": "%p",
    "IYYY": "%G",
    "IW": "%V",
}
_PLAIN_NUMBERS = {k: v for k, v in _STRFTIME.items() if v not in ("%b", "%a", "%p")}


def plain_strftime(template: str) -> str | None:
    """DuckDB's strftime template of the same meaning; None where there is none."""
    parts = []
    for match in TOKEN.finditer(template):
        if match["other"]:
            parts.append(match["other"].replace("%", "%%"))
        elif match["field"] and not match["fm"] and not match["th"]:
            # Names keep the case of their field; numbers may be written in either.
            known = _STRFTIME.get(match["field"]) or _PLAIN_NUMBERS.get(match["field"].upper())
            if known is None:
                return None
            parts.append(known)
        else:
            return None
    return "".join(parts)


def time_to_char(moment: str, template: str) -> str:
    """to_char of a timestamp's text; an interval's comes as `months days microseconds`."""
    if moment.startswith("@"):
        values = _interval_values(moment)
    else:
        values = _moment_values(datetime.fromisoformat(moment))
    out = []
    for match in TOKEN.finditer(template):
        if match["quoted"] is not None:
            out.append(match["quoted"].replace('\\"', '"'))
        elif match["other"] is not None:
            out.append(match["other"])
        else:
            text = _field_text(match["field"], values, fill=not match["fm"])
            if match["th"]:
                suffix = ordinal(text)
                text += suffix.upper() if match["th"] == "TH" else suffix
            out.append(text)
    return "".join(out)


Values = dict[str, Any]


def _moment_values(moment: datetime) -> Values:
    iso = moment.isocalendar()
    return {
        "moment": moment,
        "year": moment.year,
        "month": moment.month,
        "day": moment.day,
        "hour": moment.hour,
        "minute": moment.minute,
        "second": moment.second,
        "micros": moment.microsecond,
        "iso_year": iso[0],
        "iso_week": iso[1],
        "iso_day": iso[2],
        "day_of_year": moment.timetuple().tm_yday,
    }


def _interval_values(text: str) -> Values:
    months, days, micros = (int(part) for part in text[1:].split())
    seconds, rest = divmod(abs(micros), 1_000_000)
    sign = -1 if micros < 0 else 1
    return {
        "moment": None,
        "year": months // 12 if months >= 0 else -(-months // 12),
        "month": abs(months) % 12,
        "day": days,
        "hour": sign * (seconds // 3600),
        "minute": seconds // 60 % 60,
        "second": seconds % 60,
        "micros": rest,
        "iso_year": months // 12,
        "iso_week": 0,
        "iso_day": 1,
        "day_of_year": days,
    }


def _field_text(field: str, values: Values, *, fill: bool) -> str:
    upper = field.upper()
    number = _NUMBER_FIELDS.get(upper)
    if number is not None:
        compute, width = number
        value = compute(values)
        return str(value).zfill(width + (value < 0)) if fill else str(value)
    name = _name_text(field, upper, values, fill=fill)
    if name is not None:
        return name
    return _zone_or_era(field, upper, values)


_NUMBER_FIELDS: dict[str, tuple[Any, int]] = {
    "HH24": (lambda v: v["hour"], 2),
    "HH12": (lambda v: (v["hour"] - 1) % 12 + 1, 2),
    "HH": (lambda v: (v["hour"] - 1) % 12 + 1, 2),
    "MI": (lambda v: v["minute"], 2),
    "SS": (lambda v: v["second"], 2),
    "SSSS": (lambda v: v["hour"] * 3600 + v["minute"] * 60 + v["second"], 1),
    "SSSSS": (lambda v: v["hour"] * 3600 + v["minute"] * 60 + v["second"], 1),
    "MS": (lambda v: v["micros"] // 1000, 3),
    "US": (lambda v: v["micros"], 6),
    **{f"FF{n}": (lambda v, n=n: v["micros"] // 10 ** (6 - n), n) for n in range(1, 7)},
    "YYYY": (lambda v: v["year"], 4),
    "YYY": (lambda v: v["year"] % 1000, 3),
    "YY": (lambda v: v["year"] % 100, 2),
    "Y": (lambda v: v["year"] % 10, 1),
    "IYYY": (lambda v: v["iso_year"], 4),
    "IYY": (lambda v: v["iso_year"] % 1000, 3),
    "IY": (lambda v: v["iso_year"] % 100, 2),
    "I": (lambda v: v["iso_year"] % 10, 1),
    "CC": (lambda v: (v["year"] + 99) // 100, 2),
    "Q": (lambda v: (v["month"] - 1) // 3 + 1, 1),
    "J": (lambda v: v["moment"].toordinal() + 1721425, 1),
    "MM": (lambda v: v["month"], 2),
    "DD": (lambda v: v["day"], 2),
    "DDD": (lambda v: v["day_of_year"], 3),
    "IDDD": (lambda v: (v["iso_week"] - 1) * 7 + v["iso_day"], 3),
    "D": (lambda v: v["iso_day"] % 7 + 1, 1),
    "ID": (lambda v: v["iso_day"], 1),
    "W": (lambda v: (v["day"] - 1) // 7 + 1, 1),
    "WW": (lambda v: (v["day_of_year"] - 1) // 7 + 1, 2),
    "IW": (lambda v: v["iso_week"], 2),
}


def _name_text(field: str, upper: str, values: Values, *, fill: bool) -> str | None:
    if upper in ("MONTH", "MON", "DAY", "DY"):
        is_month, is_full = upper[0] == "M", upper in ("MONTH", "DAY")
        name = MONTHS[values["month"] - 1] if is_month else DAYS[values["iso_day"] - 1]
        return _cased(name if is_full else name[:3], field, 9 if is_full and fill else 0)
    if upper == "RM":
        text = _ROMAN[values["month"] - 1]
        return (text if field == "RM" else text.lower()).ljust(4 if fill else 0)
    if upper == "Y,YYY":
        return f"{values['year']:,}"
    return None


def _cased(name: str, field: str, width: int) -> str:
    if field.isupper():
        name = name.upper()
    elif field.islower():
        name = name.lower()
    return name.ljust(width)


def _zone_or_era(field: str, upper: str, values: Values) -> str:
    if upper in ("AM", "PM", "A.M.", "P.M."):
        text = "PM" if values["hour"] % 24 >= 12 else "AM"
        text = ".".join(text) + "." if "." in field else text
        return text if field.isupper() else text.lower()
    if upper in ("BC", "AD", "B.C.", "A.D."):
        text = "A.D." if "." in field else "AD"
        return text if field.isupper() else text.lower()
    moment = values["moment"]
    offset = moment.utcoffset() if moment is not None else None
    minutes = int(offset.total_seconds() // 60) if offset is not None else 0
    hours, rest = divmod(abs(minutes), 60)
    sign = "-" if minutes < 0 else "+"
    match upper:
        case "TZH":
            return f"{sign}{hours:02d}"
        case "TZM":
            return f"{rest:02d}"
        case "OF":
            return f"{sign}{hours:02d}" + (f":{rest:02d}" if rest else "")
    name = (moment.tzname() or "") if moment is not None else ""
    return name.upper() if field == "TZ" else name.lower()
