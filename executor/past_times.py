"""Times as users write them, and timestamps as the oracle hands them out.

A timestamp is shown as CockroachDB shows its own: nanoseconds since 1970, a point, and the ten
digits of a counter (`1763809200123000000.0000000005`). Written so it names exactly one of them;
any other time names the first of its millisecond.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from catalog.oracle import COUNTER_BITS, milliseconds_of, timestamp_at
from storage.fragments import Timestamp

# The setting that shows where the last query read.
LAST_READ = "dqe.last_read_timestamp"

_NS_A_MS = 1_000_000
_COUNTER_DIGITS = 10
_DURATION = re.compile(
    r"-(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h)(?:(?:\d+(?:\.\d*)?)[a-zµ]+)*"
)
_PIECE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT_US = {"ns": 0.001, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7, "h": 3.6e9}


def shown(timestamp: Timestamp) -> str:
    """The timestamp as a number that names it."""
    counter = timestamp & ((1 << COUNTER_BITS) - 1)
    return f"{milliseconds_of(timestamp) * _NS_A_MS}.{counter:0{_COUNTER_DIGITS}d}"


def shown_time(timestamp: Timestamp) -> str:
    """The same for people, in UTC."""
    moment = datetime.fromtimestamp(milliseconds_of(timestamp) / 1000, UTC)
    return moment.isoformat(" ", "milliseconds").replace("+00:00", "+00")


def numbered(text: str) -> Timestamp | None:
    """The timestamp that a number names; None for what is no such number."""
    whole, _, fraction = text.strip().partition(".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()):
        return None
    counter = int(Decimal(f"0.{fraction or 0}").scaleb(_COUNTER_DIGITS))
    if counter >> COUNTER_BITS:
        return None
    return timestamp_at(int(whole) // _NS_A_MS) | counter


def at_microsecond(since_1970_us: int) -> Timestamp:
    """The first timestamp of the millisecond with that microsecond."""
    return timestamp_at(since_1970_us // 1000)


def duration_us(text: str) -> int | None:
    """The microseconds of a negative duration such as `-1m30s`; None for any other text."""
    text = text.strip()
    if not _DURATION.fullmatch(text):
        return None
    pieces = _PIECE.findall(text)
    if "-" + "".join(number + unit for number, unit in pieces) != text:
        return None
    return -round(sum(float(number) * _UNIT_US[unit] for number, unit in pieces))
