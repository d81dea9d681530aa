"""The fields of a to_char template for dates and times (the manual, 9.8)."""

from __future__ import annotations

import re

MONTHS = (
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
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

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
TOKEN = re.compile(
    r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<fm>FM|fm)?(?P<field>'
    + "|".join(map(re.escape, _FIELDS))
    + r"|(?i:hh24|hh12|hh|mi|sssss|ss|ms|us|yyyy|yyy|yy|mm|ddd|dd|iyyy|iw|ww|q)"
    + r")(?P<th>TH|th)?|(?P<other>.)",
    re.DOTALL,
)


def ordinal(text: str) -> str:
    """What follows the number when it is counted with: st, nd, rd, th."""
    number = int(text) if text.lstrip("-").isdigit() else 0
    if 10 <= abs(number) % 100 <= 20:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(abs(number) % 10, "th")
