"""to_char, to_date, to_timestamp, to_number, format() and other texts made in Python.

Templates are those of the manual, 9.8. A to_char of a timestamp whose template has only plain
fields becomes DuckDB's strftime at bind time (`plain_strftime`); the rest runs here, over the
value's text.
"""

from __future__ import annotations

import json
import re
from calendar import monthrange
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from cluster.errors import (
    DatetimeFieldOverflow,
    InvalidDatetimeFormat,
    InvalidParameterValue,
    InvalidTextRepresentation,
)
from planner.semantics.text_arrays import read_array
from storage.decimals import at_scale, shifted

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")

# Longest first, so that HH24 is not read as HH.
_FIELDS = sorted(
    [
        *("HH24", "HH12", "HH", "MI", "SSSSS", "SSSS", "SS", "MS", "US"),
        *("FF1", "FF2", "FF3", "FF4", "FF5", "FF6"),
        *("AM", "PM", "A.M.", "P.M.", "am", "pm", "a.m.", "p.m."),
        *("Y,YYY", "YYYY", "YYY", "YY", "Y", "IYYY", "IYY", "IY", "I"),
        *("BC", "AD", "bc", "ad", "B.C.", "A.D.", "CC", "Q", "J"),
        *("MONTH", "Month", "month", "MON", "Mon", "mon", "MM", "RM", "rm"),
        *("DAY", "Day", "day", "DY", "Dy", "dy", "DDD", "IDDD", "DD", "ID", "D"),
        *("WW", "IW", "W", "TZH", "TZM", "TZ", "tz", "OF"),
    ],
    key=len,
    reverse=True,
)
_TOKEN = re.compile(
    r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<fm>FM|fm)?(?P<field>'
    + "|".join(map(re.escape, _FIELDS))
    + r"|(?i:hh24|hh12|hh|mi|sssss|ss|ms|us|yyyy|yyy|yy|mm|ddd|dd|iyyy|iw|ww|q)"
    + r")(?P<th>TH|th)?|(?P<other>.)",
    re.DOTALL,
)
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
    for match in _TOKEN.finditer(template):
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
    for match in _TOKEN.finditer(template):
        if match["quoted"] is not None:
            out.append(match["quoted"].replace('\\"', '"'))
        elif match["other"] is not None:
            out.append(match["other"])
        else:
            text = _field_text(match["field"], values, fill=not match["fm"])
            if match["th"]:
                suffix = _ordinal(text)
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
        name = _MONTHS[values["month"] - 1] if is_month else _DAYS[values["iso_day"] - 1]
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


def _ordinal(text: str) -> str:
    number = int(text) if text.lstrip("-").isdigit() else 0
    if 10 <= abs(number) % 100 <= 20:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(abs(number) % 10, "th")


def parse_time(text: str, template: str) -> str:
    """to_date and to_timestamp: the timestamp's text."""
    found: dict[str, int] = {}
    at = 0
    rest = text
    for match in _TOKEN.finditer(template):
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
    names = _MONTHS if upper in ("MONTH", "MON") else _DAYS
    word = re.match(r"[A-Za-z]+", text[at:])
    shown = word.group() if word else text[at:]
    for index, name in enumerate(names, 1):
        if shown[:3].lower() == name[:3].lower() and len(shown) >= 3:
            if names is _MONTHS:
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


# Numbers


def number_to_char(text: str, template: str) -> str:
    """to_char of a number's text: 9 0 . , D G L S MI PL SG PR FM V TH EEEE RN."""
    fill = "FM" not in template.upper()
    plain = re.sub("FM", "", template, flags=re.IGNORECASE)
    if text in ("NaN", "Infinity", "-Infinity"):
        return text
    value = Decimal(text)
    if plain.upper().strip() == "RN":
        roman = _roman(int(value))
        return (roman if plain.isupper() else roman.lower()).rjust(15 if fill else 0)
    prefix, plain, suffix = _without_quotes(plain)
    if "EEEE" in plain.upper():
        return prefix + _scientific(value, plain) + suffix
    return prefix + _NumberWriter(plain, fill).write(value) + suffix


def _without_quotes(template: str) -> tuple[str, str, str]:
    """Quoted text before and behind the number, and the template between."""
    match = re.fullmatch(r'((?:"[^"]*")*)(.*?)((?:"[^"]*")*)', template, re.DOTALL)
    assert match is not None
    return match[1].replace('"', ""), match[2], match[3].replace('"', "")


def _roman(value: int) -> str:
    if not 0 < value < 4000:
        return "#" * 15
    out = ""
    for worth, letters in (
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ):
        while value >= worth:
            out += letters
            value -= worth
    return out


def _scientific(value: Decimal, template: str) -> str:
    decimals = re.split(r"[.D]", template.upper().split("EEEE")[0] + ".")[1]
    digits = len(re.sub(r"[^90]", "", decimals))
    text = f"{value:.{digits}e}"
    mantissa, _, exponent = text.partition("e")
    sign, number = exponent[0] if exponent[0] in "+-" else "+", exponent.lstrip("+-")
    shown = f"{mantissa}e{sign}{number.zfill(2)}"
    return shown if value < 0 else " " + shown


class _NumberWriter:
    """One template for numbers, taken apart (PostgreSQL's NUM_processor in the small)."""

    def __init__(self, template: str, fill: bool) -> None:
        self.fill = fill
        upper = template.upper()
        self.ordinal = re.search("th", template, re.IGNORECASE)
        self.bracket = upper.endswith("PR")
        body = re.sub("TH|PR", "", upper)
        self.shift = 0
        if "V" in body:
            self.shift = len(re.sub("[^90]", "", body.split("V")[1]))
            body = body.replace("V", "")
        self.body = body
        whole, point, fraction = [*re.split("([.D])", body, maxsplit=1), "", ""][:3]
        self.whole, self.point, self.fraction = whole, point, fraction
        self.decimals = len(re.sub("[^90]", "", fraction))
        self.digits = len(re.sub("[^90]", "", whole))
        self.has_sign = bool(re.search("S|MI|PL|SG", body)) or self.bracket

    def write(self, value: Decimal) -> str:
        rounded = at_scale(shifted(value, self.shift), self.decimals).copy_abs()
        digits, _, decimals = format(rounded, "f").partition(".")
        negative = value < 0 and rounded != 0
        if len(digits) > self.digits and not (digits == "0" and self.digits == 0):
            number = re.sub("[90]", "#", self.whole) + ("." if self.point else "")
            number = re.sub("[GDS,MIPLSG ]", lambda m: "," if m.group() in "G," else "", number)
            number += "#" * self.decimals
        else:
            number = self._number(digits if rounded >= 1 or digits != "0" else "", decimals)
        return self._signed(number, negative)

    def _number(self, digits: str, decimals: str) -> str:
        padded = digits.rjust(self.digits)
        zero_from = next(
            (i for i, c in enumerate(re.sub("[^90]", "", self.whole)) if c == "0"), self.digits
        )
        if not digits and (zero_from >= self.digits) and not self.decimals:
            padded = "0".rjust(self.digits)
        out, at, started = [], 0, False
        for character in self.whole:
            if character in "90":
                digit = padded[at]
                if digit == " " and at >= zero_from:
                    digit = "0"
                started = started or digit != " "
                out.append(digit)
                at += 1
            elif character in ",G":
                out.append("," if started else " ")
            elif character == "L":
                out.append(" ")  # the currency sign of locale C
            elif character not in "SMIPLSG":
                out.append(character)
        text = "".join(out)
        if not self.fill:
            text = text.replace(" ", "")
        return text + self._fraction(decimals, bool(text.strip()))

    def _fraction(self, decimals: str, _has_whole: bool) -> str:
        if not self.point:
            return ""
        shown = decimals
        if not self.fill:
            zeros = re.sub("[^90]", "", self.fraction)
            keep = max((i + 1 for i, c in enumerate(zeros) if c == "0"), default=0)
            shown = decimals.rstrip("0")
            shown = decimals[: max(len(shown), keep)]
        return "." + shown

    def _signed(self, number: str, negative: bool) -> str:
        suffix = ""
        if self.ordinal and "." not in number and not negative:
            last = _ordinal(number.strip())
            suffix = last.upper() if self.ordinal.group().isupper() else last
        if self.bracket:
            stripped = number.lstrip()
            lead = number[: len(number) - len(stripped)]
            return f"{lead}<{stripped}>" if negative else (f" {number} " if self.fill else number)
        if "MI" in self.body:
            sign = "-" if negative else (" " if self.fill else "")
            return sign + number if self.body.startswith("MI") else number + sign
        if "SG" in self.body:
            sign = "-" if negative else "+"
            return sign + number if self.body.startswith("SG") else number + sign
        if "PL" in self.body:
            sign = " " if negative else "+"
            return sign + number if self.body.startswith("PL") else number + sign
        if "S" in self.body:
            sign = "-" if negative else "+"
            if self.body.endswith("S"):
                return number + sign
            stripped = number.lstrip()
            return number[: len(number) - len(stripped)] + sign + stripped
        stripped = number.lstrip()
        lead = number[: len(number) - len(stripped)]
        if negative:
            return lead + "-" + stripped + suffix
        return (" " if self.fill else "") + number + suffix


def to_number(text: str, template: str) -> str:
    """to_number: the digits, point and sign that the template lets through."""
    negative = "-" in text or ("<" in text and "PR" in template.upper())
    upper = template.upper()
    grouping = "," in template or "G" in upper
    cleaned = text.replace(",", "") if grouping else text.split(",")[0]
    match = re.search(r"\d*\.?\d*", re.sub(r"[^0-9.]", "", cleaned))
    digits = match.group() if match else ""
    if not re.search(r"\d", digits):
        raise InvalidTextRepresentation(f'invalid input syntax for type numeric: "{text}"')
    if not re.search(r"[.D]", upper):
        digits = digits.split(".")[0] or "0"
    else:
        places = len(re.sub(r"[^90]", "", re.split(r"[.D]", upper, maxsplit=1)[1]))
        whole, _, fraction = digits.partition(".")
        digits = f"{whole or '0'}.{fraction[:places]}".rstrip(".")
    if "V" in upper:
        shift = len(re.sub("[^90]", "", upper.split("V")[1]))
        digits = format(shifted(Decimal(digits), -shift), "f")
    return ("-" if negative else "") + digits


# Other texts


_FORMAT = re.compile(r"%(?:(\d+)\$)?(-)?(\d+|\*(?:\d+\$)?)?([sIL%])|%")


def format_text(template: str, arguments: list[str | None]) -> str:
    """format(): %s, %I, %L, %%, positions and widths."""
    following = 0
    out, end = [], 0
    for match in _FORMAT.finditer(template):
        out.append(template[end : match.start()])
        end = match.end()
        kind = match[4]
        if kind == "%":
            out.append("%")
            continue
        if kind is None:
            raise InvalidParameterValue("unrecognized format() type specifier")
        width, left = match[3], bool(match[2])
        size = 0
        if width and width.startswith("*"):
            size, following = int(arguments[following] or 0), following + 1
        elif width:
            size = int(width)
        place = int(match[1]) - 1 if match[1] else following
        if place >= len(arguments):
            raise InvalidParameterValue("too few arguments for format()")
        following = place + 1
        text = _formatted(kind, arguments[place])
        out.append(text.ljust(abs(size)) if left or size < 0 else text.rjust(size))
    return "".join([*out, template[end:]])


def _formatted(kind: str, value: str | None) -> str:
    if kind == "s":
        return value or ""
    if kind == "L":
        return "NULL" if value is None else "'" + value.replace("'", "''") + "'"
    if value is None:
        raise InvalidParameterValue("null values cannot be formatted as an SQL identifier")
    if re.fullmatch(r"[a-z_][a-z0-9_$]*", value):
        return value
    return '"' + value.replace('"', '""') + '"'


def array_items(text: str) -> list[str | None]:
    """The elements of an array's text, each in its own text."""
    return [None if item is None else str(item) for item in read_array(text)]


def json_row(text: str) -> str:
    """A row or array that DuckDB wrote as JSON, spaced as PostgreSQL writes it."""
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
