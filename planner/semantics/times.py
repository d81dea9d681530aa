"""Functions and operators on dates, times and intervals.

DuckDB runs with TimeZone UTC everywhere; whatever depends on the session's zone names it.
Constants are folded where it lets partitions be pruned: `date '1998-12-01' - interval '90' day`
is a constant timestamp.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlglot import exp

from cluster.errors import FeatureNotSupported, InvalidParameterValue
from planner.bound import type_of
from planner.functions import Call, Catalogue
from planner.semantics import build, literals
from planner.semantics.rules import define, natural, table
from planner.semantics.text_times import zone_named
from storage.types import (
    DATE,
    FLOAT8,
    INT4,
    INTERVAL,
    NUMERIC,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    Kind,
    SqlType,
)

_TABLE = """
make_date(int4, int4, int4) -> date = pg_make_date
make_time(int4, int4, float8) -> time
make_timestamp(int4, int4, int4, int4, int4, float8) -> timestamp
justify_days(interval) -> interval = pg_justify_days
justify_hours(interval) -> interval = pg_justify_hours
justify_interval(interval) -> interval = pg_justify_interval
date_bin(interval, timestamp, timestamp) -> timestamp = time_bucket
date_bin(interval, timestamptz, timestamptz) -> timestamptz = time_bucket
isfinite(date) -> bool
isfinite(timestamp) -> bool
isfinite(timestamptz) -> bool
isfinite(interval) -> bool = pg_isfinite_interval
to_timestamp(float8) -> timestamptz = to_timestamp
to_date(text, text) -> date = pg_to_date
age(timestamp, timestamp) -> interval = pg_age
"""


def _day_plus(sign: int) -> Callable[[Call], exp.Expr]:
    def emit(call: Call) -> exp.Expr:
        day, count = call.arguments
        value, days = literals.constant_of(day), literals.constant_of(count)
        if isinstance(value, date) and isinstance(days, int):
            moved = value + timedelta(days=sign * days)
            return literals.literal(moved.isoformat(), DATE, call.casts.environment)
        node = exp.Add if sign > 0 else exp.Sub
        return build.binary(node, day, count, DATE)

    return emit


def _flipped(emit: Callable[[Call], exp.Expr]) -> Callable[[Call], exp.Expr]:
    def flipped(call: Call) -> exp.Expr:
        return emit(Call(call.arguments[::-1], call.type, call.casts))

    return flipped


def _moment_plus(sign: int) -> Callable[[Call], exp.Expr]:
    """date or timestamp +- interval, a timestamp."""

    def emit(call: Call) -> exp.Expr:
        moment, interval = call.arguments
        value, parts = literals.constant_of(moment), literals.constant_of(interval)
        zoned = type_of(moment).kind is Kind.TIMESTAMPTZ
        if value is not None and parts is not None and not zoned:
            shifted = shift(value, parts, sign)
            if shifted is not None:
                return literals.timestamp_constant(shifted)
        node = exp.Add if sign > 0 else exp.Sub
        if not zoned:
            return build.binary(node, moment, interval, TIMESTAMP)
        # Days and months count in the session's zone.
        local = call.casts.in_zone(moment, TIMESTAMP)
        return call.casts.in_zone(build.binary(node, local, interval, TIMESTAMP), TIMESTAMPTZ)

    return emit


def shift(value: date, parts: tuple[int, int, int], sign: int) -> datetime | None:
    """The moment moved by months, then days, then microseconds; None out of Python's range."""
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    months, days, micros = (sign * part for part in parts)
    index = moment.year * 12 + moment.month - 1 + months
    year, month = divmod(index, 12)
    if not 1 <= year <= 9999:
        return None
    last = calendar.monthrange(year, month + 1)[1]
    try:
        moved = moment.replace(year=year, month=month + 1, day=min(moment.day, last))
        return moved + timedelta(days=days, microseconds=micros)
    except OverflowError:
        return None


def _time_plus(sign: int) -> Callable[[Call], exp.Expr]:
    def emit(call: Call) -> exp.Expr:
        left, right = call.arguments
        return build.binary(exp.Add if sign > 0 else exp.Sub, left, right, TIME)

    return emit


def _days_between(call: Call) -> exp.Expr:
    return build.cast_as(build.binary(exp.Sub, call.arguments[0], call.arguments[1], INT4), INT4)


def _difference(call: Call) -> exp.Expr:
    return build.call("pg_timestamp_difference", *call.arguments, type=INTERVAL)


def _date_time(call: Call) -> exp.Expr:
    left, right = call.arguments
    return build.binary(exp.Add, left, right, TIMESTAMP)


def _combined(sign: int) -> Callable[[Call], exp.Expr]:
    def emit(call: Call) -> exp.Expr:
        left, right = call.arguments
        return build.binary(exp.Add if sign > 0 else exp.Sub, left, right, INTERVAL)

    return emit


def _scaled(name: str) -> Callable[[Call], exp.Expr]:
    def emit(call: Call) -> exp.Expr:
        interval, factor = call.arguments
        if type_of(interval).kind is not Kind.INTERVAL:
            interval, factor = factor, interval
        return build.call(name, interval, factor, type=INTERVAL)

    return emit


def _between_times(call: Call) -> exp.Expr:
    return build.call("pg_time_difference", *call.arguments, type=INTERVAL)


# PostgreSQL's field names and their other spellings.
_FIELDS = {
    "years": "year",
    "months": "month",
    "mon": "month",
    "days": "day",
    "hours": "hour",
    "minutes": "minute",
    "min": "minute",
    "mins": "minute",
    "seconds": "second",
    "sec": "second",
    "secs": "second",
    "weeks": "week",
    "quarters": "quarter",
    "decades": "decade",
    "centuries": "century",
    "millennia": "millennium",
    "milliseconds": "milliseconds",
    "millisecond": "milliseconds",
    "microsecond": "microseconds",
}
_DATE_FIELDS = frozenset(
    (
        "century",
        "day",
        "decade",
        "dow",
        "doy",
        "epoch",
        "isodow",
        "isoyear",
        "julian",
        "millennium",
        "month",
        "quarter",
        "week",
        "year",
    )
)
_CLOCK_FIELDS = frozenset(["hour", "minute", "second", "milliseconds", "microseconds", "epoch"])
_FRACTIONAL = {"second": 6, "milliseconds": 3, "epoch": 6}
_ZONE_FIELDS = frozenset({"timezone", "timezone_hour", "timezone_minute"})


def extract(field: str, node: exp.Expr, call: Call) -> exp.Expr:
    """EXTRACT(field FROM node), a numeric."""
    name = _FIELDS.get(field.lower(), field.lower())
    source = type_of(node)
    known = _CLOCK_FIELDS if source.kind is Kind.TIME else _DATE_FIELDS | _CLOCK_FIELDS
    if source.kind is Kind.DATE and name in _CLOCK_FIELDS - _DATE_FIELDS:
        raise FeatureNotSupported(f'unit "{field.lower()}" not supported for type date')
    if name not in known | (_ZONE_FIELDS if source.kind is Kind.TIMESTAMPTZ else frozenset()):
        raise InvalidParameterValue(f'unit "{field.lower()}" not recognized for type {source}')
    if name in _ZONE_FIELDS:
        zone = build.text(call.casts.environment.zone_name)
        return _whole_numeric(build.call(f"pg_extract_{name}", node, zone, type=INT4))
    if source.kind is Kind.TIMESTAMPTZ and name != "epoch":
        node = call.casts.in_zone(node, TIMESTAMP)
    part = build.call(f"pg_extract_{name}", node, type=NUMERIC)
    if name in _FRACTIONAL and not (name == "epoch" and source.kind is Kind.DATE):
        scale = _FRACTIONAL[name]
        return build.cast_as(part, SqlType(Kind.NUMERIC, precision=18 + scale - 6, scale=scale))
    return _whole_numeric(part)


def _whole_numeric(node: exp.Expr) -> exp.Expr:
    return build.cast_as(node, SqlType(Kind.NUMERIC, precision=18, scale=0))


def _extract_call(call: Call) -> exp.Expr:
    field, node = call.arguments
    name = build.literal_text(field)
    if name is None:
        raise FeatureNotSupported("extract with a field that is not a constant")
    return extract(name, node, call)


def _date_part(call: Call) -> exp.Expr:
    return build.cast_as(_extract_call(call), FLOAT8)


_TRUNC_FIELDS = frozenset(
    {"century", "day", "decade", "hour", "microseconds", "millennium", "milliseconds", "minute"}
    | {"month", "quarter", "second", "week", "year"}
)


def _date_trunc(call: Call) -> exp.Expr:
    unit, node = call.arguments[:2]
    name = build.literal_text(unit)
    if name is not None:
        name = _FIELDS.get(name.lower(), name.lower())
        if name not in _TRUNC_FIELDS:
            raise InvalidParameterValue(f'unit "{name}" not recognized for type {type_of(node)}')
        unit = build.text(name)
    macro = f"pg_trunc_{name}" if name in ("century", "millennium", "decade") else "date_trunc"
    arguments = [unit] if macro == "date_trunc" else []
    if type_of(node).kind is not Kind.TIMESTAMPTZ:
        result = build.call(macro, *arguments, node, type=call.type)
        return build.cast_as(result, call.type)
    zone = (
        call.arguments[2]
        if len(call.arguments) > 2
        else build.text(call.casts.environment.zone_name)
    )
    local = build.call("timezone", zone, node, type=TIMESTAMP)
    truncated = build.call(macro, *arguments, local, type=TIMESTAMP)
    return build.call("timezone", zone.copy(), truncated, type=TIMESTAMPTZ)


def _make_timestamptz(call: Call) -> exp.Expr:
    local = build.call("make_timestamp", *call.arguments[:6], type=TIMESTAMP)
    if len(call.arguments) > 6:
        return build.call("timezone", call.arguments[6], local, type=TIMESTAMPTZ)
    return call.casts.in_zone(local, TIMESTAMPTZ)


def _age_today(call: Call) -> exp.Expr:
    today = call.casts.environment.now.date()
    return build.call(
        "pg_age",
        literals.timestamp_constant(datetime(today.year, today.month, today.day)),
        call.arguments[0],
        type=INTERVAL,
    )


def _age_zoned(call: Call) -> exp.Expr:
    local = [call.casts.in_zone(a, TIMESTAMP) for a in call.arguments]
    return build.call("pg_age", *local, type=INTERVAL)


def at_time_zone(call: Call) -> exp.Expr:
    """timezone(zone, x): timestamp to timestamptz and back."""
    zone, node = call.arguments
    if type_of(zone).kind is Kind.INTERVAL:
        sign = exp.Sub if type_of(node).kind is Kind.TIMESTAMP else exp.Add
        utc = build.call("timezone", build.text("UTC"), node, type=call.type)
        if sign is exp.Sub:
            return build.binary(sign, utc, zone, call.type)
        return build.binary(sign, utc, zone, call.type)
    name = build.literal_text(zone)
    if name is not None:
        return _at_named_zone(name, node, call)
    return build.call("timezone", zone, node, type=call.type)


def _at_named_zone(name: str, node: exp.Expr, call: Call) -> exp.Expr:
    zone = zone_named(name)
    if isinstance(zone, ZoneInfo):
        return build.call("timezone", build.text(zone.key), node, type=call.type)
    offset = zone.utcoffset(None) or timedelta()
    micros = int(offset.total_seconds() * 1_000_000)
    utc = build.call("timezone", build.text("UTC"), node, type=call.type)
    parts = literals.interval_constant((0, 0, abs(micros)))
    # A text in POSIX form counts west of Greenwich; an abbreviation, east.
    is_posix = name.strip()[0] in "+-0123456789"
    east = (micros > 0) is not is_posix
    to_local = call.type.kind is Kind.TIMESTAMP
    if not micros:
        return utc
    return build.binary(exp.Add if east == to_local else exp.Sub, utc, parts, call.type)


def overlaps(call: Call) -> exp.Expr:
    """(a, b) OVERLAPS (c, d): half-open periods whose ends may be given in any order."""
    return build.call("pg_overlaps", *call.arguments, type=call.type)


def _to_timestamp(call: Call) -> exp.Expr:
    local = build.call("pg_to_timestamp", *call.arguments, type=TIMESTAMP)
    return call.casts.in_zone(local, TIMESTAMPTZ)


def register(catalogue: Catalogue) -> None:
    """Functions and operators on dates and times."""
    table(catalogue, _TABLE)
    _register_operators(catalogue)
    for kind in ("date", "time", "timestamp", "timestamptz", "interval"):
        define(catalogue, f"extract(text, {kind}) -> numeric", _extract_call)
        define(catalogue, f"date_part(text, {kind}) -> float8", _date_part)
    for kind in ("timestamptz", "timestamp", "interval"):
        define(catalogue, f"date_trunc(text, {kind}) -> {kind}", _date_trunc)
    define(catalogue, "date_trunc(text, timestamptz, text) -> timestamptz", _date_trunc)
    clock = "int4, int4, int4, int4, int4, float8"
    define(catalogue, f"make_timestamptz({clock}) -> timestamptz", _make_timestamptz)
    define(catalogue, f"make_timestamptz({clock}, text) -> timestamptz", _make_timestamptz)
    for count in range(8):
        types = ", ".join(["int4"] * min(count, 6) + ["float8"] * (count - 6))
        define(catalogue, f"make_interval({types}) -> interval", _make_interval)
    define(catalogue, "age(timestamptz, timestamptz) -> interval", _age_zoned)
    define(catalogue, "age(timestamp) -> interval", _age_today)
    define(catalogue, "to_timestamp(text, text) -> timestamptz", _to_timestamp)
    for zone in ("text", "interval"):
        define(catalogue, f"timezone({zone}, timestamp) -> timestamptz", at_time_zone)
        define(catalogue, f"timezone({zone}, timestamptz) -> timestamp", at_time_zone)
    for a, b in (("timestamp", "interval"), ("timestamptz", "interval")):
        for left in (a, b):
            for right in (a, b):
                types = f"{a}, {left}, {a}, {right}"
                define(catalogue, f"overlaps({types}) -> bool", overlaps)
    define(catalogue, "overlaps(time, time, time, time) -> bool", overlaps)


_INTERVAL_UNITS = ("years", "months", "weeks", "days", "hours", "mins", "secs")


def _make_interval(call: Call) -> exp.Expr:
    given = list(call.arguments)
    while len(given) < len(_INTERVAL_UNITS):
        given.append(build.integer(0))
    return build.call("pg_make_interval", *given, type=INTERVAL)


def _register_operators(catalogue: Catalogue) -> None:
    for sign, name in ((1, "+"), (-1, "-")):
        define(catalogue, f"{name}(date, int4) -> date", _day_plus(sign))
        define(catalogue, f"{name}(date, interval) -> timestamp", _moment_plus(sign))
        define(catalogue, f"{name}(timestamp, interval) -> timestamp", _moment_plus(sign))
        define(catalogue, f"{name}(timestamptz, interval) -> timestamptz", _moment_plus(sign))
        define(catalogue, f"{name}(time, interval) -> time", _time_plus(sign))
        define(catalogue, f"{name}(interval, interval) -> interval", _combined(sign))
    define(catalogue, "+(int4, date) -> date", _flipped(_day_plus(1)))
    define(catalogue, "+(interval, date) -> timestamp", _flipped(_moment_plus(1)))
    define(catalogue, "+(interval, timestamp) -> timestamp", _flipped(_moment_plus(1)))
    define(catalogue, "+(interval, timestamptz) -> timestamptz", _flipped(_moment_plus(1)))
    define(catalogue, "+(interval, time) -> time", _flipped(_time_plus(1)))
    define(catalogue, "+(date, time) -> timestamp", _date_time)
    define(catalogue, "+(time, date) -> timestamp", _flipped(_date_time))
    define(catalogue, "-(date, date) -> int4", _days_between)
    define(catalogue, "-(timestamp, timestamp) -> interval", _difference)
    define(catalogue, "-(timestamptz, timestamptz) -> interval", _difference)
    define(catalogue, "-(time, time) -> interval", _between_times)
    define(catalogue, "-(interval) -> interval", natural("pg_negate_interval"))
    define(catalogue, "*(interval, float8) -> interval", _scaled("pg_multiply_interval"))
    define(catalogue, "*(float8, interval) -> interval", _scaled("pg_multiply_interval"))
    define(catalogue, "/(interval, float8) -> interval", _scaled("pg_divide_interval"))
