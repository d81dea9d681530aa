"""Dates, times and intervals as PostgreSQL's ISO output (manual 8.5.2), by the column.

DuckDB and PostgreSQL both have infinite dates; in Arrow they are the extreme integers.
Years before 1 are written with BC. Intervals use the style `postgres` (or `iso_8601`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
# From 0001-01-01 to 9999-12-31, where Arrow's cast writes what PostgreSQL writes.
_PLAIN_DAYS = (-719162, 2932896)
_MICROS_A_DAY = 86_400_000_000
_PLAIN_MICROS = (_PLAIN_DAYS[0] * _MICROS_A_DAY, (_PLAIN_DAYS[1] + 1) * _MICROS_A_DAY - 1)


def dates_as_text(column: pa.Array) -> pa.StringArray:
    """A date32 column as `YYYY-MM-DD`."""
    days = _integers(column, np.int32)
    odd = (days < _PLAIN_DAYS[0]) | (days > _PLAIN_DAYS[1])
    if not odd.any():
        return pc.cast(column, pa.string())
    safe = _typed(np.where(odd, 0, days).astype(np.int32), pa.date32(), column)
    return _replaced(pc.cast(safe, pa.string()), odd, days, _odd_date)


def timestamps_as_text(column: pa.Array) -> pa.StringArray:
    """A timestamp[us] column without zone as `YYYY-MM-DD HH:MM:SS[.ffffff]`."""
    micros = _integers(column, np.int64)
    odd = (micros < _PLAIN_MICROS[0]) | (micros > _PLAIN_MICROS[1])
    if not odd.any():
        return _trimmed_fraction(pc.cast(_plain(column, micros), pa.string()))
    safe = _typed(np.where(odd, 0, micros), pa.timestamp("us"), column)
    texts = _trimmed_fraction(pc.cast(safe, pa.string()))
    return _replaced(texts, odd, micros, _odd_timestamp)


def timestamptz_as_text(column: pa.Array, zone: str) -> pa.StringArray:
    """A timestamp[us] column with zone, shown in `zone` with its UTC offset."""
    micros = _integers(column, np.int64)
    odd = (micros < _PLAIN_MICROS[0] + _MICROS_A_DAY) | (micros > _PLAIN_MICROS[1] - _MICROS_A_DAY)
    safe = _typed(np.where(odd, 0, micros), pa.timestamp("us", "UTC"), column)
    local = pc.local_timestamp(safe.cast(pa.timestamp("us", arrow_zone(zone))))
    offsets_s = (_integers(local, np.int64) - np.where(odd, 0, micros)) // 1_000_000
    shown, which = np.unique(offsets_s, return_inverse=True)
    suffixes = pa.array([offset_text(int(s)) for s in shown], pa.string()).take(pa.array(which))
    texts = _trimmed_fraction(pc.cast(local, pa.string()))
    texts = pc.binary_join_element_wise(texts, suffixes, "")
    return _replaced(texts, odd, micros, lambda m: _odd_timestamp(m, "+00"))


def arrow_zone(zone: str) -> str:
    """A PostgreSQL TimeZone setting as Arrow's zone name."""
    return "UTC" if zone.upper() in ("UTC", "GMT", "Z", "ETC/UTC") else zone


def offset_text(offset_s: int) -> str:
    """A UTC offset as PostgreSQL appends it: `+02`, `-03:30`, `+00:53:28`."""
    sign = "-" if offset_s < 0 else "+"
    minutes, seconds = divmod(abs(offset_s), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{sign}{hours:02d}"
    if minutes or seconds:
        text += f":{minutes:02d}"
    return text + (f":{seconds:02d}" if seconds else "")


def times_as_text(column: pa.Array) -> pa.StringArray:
    """A time64[us] column as `HH:MM:SS[.ffffff]`; 24:00:00 is a time in PostgreSQL, too."""
    micros = _integers(column, np.int64)
    odd = micros >= _MICROS_A_DAY
    safe = _typed(np.where(odd, 0, micros), pa.time64("us"), column)
    texts = _trimmed_fraction(pc.cast(safe, pa.string()))
    return _replaced(texts, odd, micros, lambda _: "24:00:00")


def interval_parts(column: pa.Array) -> tuple[npt.NDArray[np.int64], ...]:
    """Months, days and microseconds of a month_day_nano column; 0 where NULL."""
    record = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")])
    raw = np.frombuffer(column.buffers()[1] or b"", record)
    raw = raw[column.offset : column.offset + len(column)]
    valid = ~_nulls(column)
    return (
        np.where(valid, raw["months"], 0).astype(np.int64),
        np.where(valid, raw["days"], 0).astype(np.int64),
        np.where(valid, raw["nanos"] // 1000, 0).astype(np.int64),
    )


def intervals_as_text(column: pa.Array, style: str = "postgres") -> pa.StringArray:
    """A month_day_nano column; `style` is IntervalStyle: postgres or iso_8601."""
    write = iso_interval_text if style == "iso_8601" else interval_text
    months, days, micros = interval_parts(column)
    values = zip(months.tolist(), days.tolist(), micros.tolist(), strict=True)
    texts = [write(*v) for v in values]
    return pa.array(texts, pa.string(), mask=_nulls(column))


def interval_text(months: int, days: int, micros: int) -> str:
    """An interval as IntervalStyle `postgres` writes it: `1 year 2 mons -3 days +04:05:06`."""
    years, months = _divide(months, 12)
    parts: list[str] = []
    negative_before = False
    for value, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if value:
            sign = "+" if negative_before and value > 0 else ""
            parts.append(f"{sign}{value} {unit}{'' if value == 1 else 's'}")
            negative_before = value < 0
    if micros or not parts:
        sign = "-" if micros < 0 else "+" if negative_before else ""
        parts.append(sign + _clock(abs(micros)))
    return " ".join(parts)


def iso_interval_text(months: int, days: int, micros: int) -> str:
    """An interval as IntervalStyle `iso_8601` writes it: `P1Y2M-3DT4H5M6S`."""
    years, months = _divide(months, 12)
    date = "".join(f"{v}{u}" for v, u in ((years, "Y"), (months, "M"), (days, "D")) if v)
    hours, rest = _divide(micros, 3_600_000_000)
    minutes, rest = _divide(rest, 60_000_000)
    clock = "".join(f"{v}{u}" for v, u in ((hours, "H"), (minutes, "M")) if v)
    if rest:
        sign = "-" if rest < 0 else ""
        clock += f"{sign}{_seconds(abs(rest), pad=False)}S"
    if not date and not clock:
        return "PT0S"
    return "P" + date + ("T" + clock if clock else "")


def _divide(value: int, by: int) -> tuple[int, int]:
    """Quotient and remainder, both with the sign of `value`."""
    quotient, remainder = divmod(abs(value), by)
    return (-quotient, -remainder) if value < 0 else (quotient, remainder)


def _clock(micros: int) -> str:
    seconds, micros_left = divmod(micros, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{_seconds(seconds * 1_000_000 + micros_left, pad=True)}"


def _seconds(micros: int, *, pad: bool) -> str:
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{seconds:02d}" if pad else str(seconds)
    return text + (f".{fraction:06d}".rstrip("0") if fraction else "")


def _trimmed_fraction(texts: pa.StringArray) -> pa.StringArray:
    """Without the zeros behind the last digit of the fraction, which Arrow always writes."""
    has_fraction = pc.fill_null(pc.match_substring(texts, "."), False)
    trimmed = pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")
    return pc.if_else(has_fraction, trimmed, texts)


def _odd_date(days: int) -> str:
    if days >= _INT32_MAX:
        return "infinity"
    if days <= -_INT32_MAX:
        return "-infinity"
    year, month, day = _civil(days)
    return f"{year:04d}-{month:02d}-{day:02d}" if year > 0 else _before_christ(year, month, day)


def _odd_timestamp(micros: int, suffix: str = "") -> str:
    if micros >= _INT64_MAX:
        return "infinity"
    if micros <= -_INT64_MAX:
        return "-infinity"
    days, rest = divmod(micros, _MICROS_A_DAY)
    year, month, day = _civil(days)
    clock = _clock(rest) + suffix
    if year > 0:
        return f"{year:04d}-{month:02d}-{day:02d} {clock}"
    return f"{1 - year:04d}-{month:02d}-{day:02d} {clock} BC"


def _before_christ(year: int, month: int, day: int) -> str:
    return f"{1 - year:04d}-{month:02d}-{day:02d} BC"


def _civil(days: int) -> tuple[int, int, int]:
    """Proleptic Gregorian date of a day number, for years Python's date does not reach."""
    cycles, day_of_cycle = divmod(days + 719468, 146097)
    year_of_cycle = (
        day_of_cycle - day_of_cycle // 1460 + day_of_cycle // 36524 - day_of_cycle // 146096
    ) // 365
    day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle // 4 - year_of_cycle // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return cycles * 400 + year_of_cycle + (1 if month <= 2 else 0), month, day


def _nulls(column: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_null(column).to_numpy(zero_copy_only=False))


def _integers(column: pa.Array, dtype: type[np.signedinteger]) -> npt.NDArray[np.int64]:
    """The column's integers as int64, 0 where NULL."""
    raw = np.frombuffer(column.buffers()[1] or b"", dtype)
    values = raw[column.offset : column.offset + len(column)].astype(np.int64)
    return np.where(_nulls(column), 0, values) if column.null_count else values


def _typed(values: npt.NDArray[np.signedinteger], to: pa.DataType, like: pa.Array) -> pa.Array:
    """Integers as a temporal array with the NULLs of `like`."""
    return pa.array(values, mask=_nulls(like)).cast(to)


def _plain(column: pa.Array, micros: npt.NDArray[np.int64]) -> pa.Array:
    if column.type == pa.timestamp("us"):
        return column
    return _typed(micros, pa.timestamp("us"), column)


def _replaced(
    texts: pa.StringArray,
    odd: npt.NDArray[np.bool_],
    values: npt.NDArray[np.int64],
    spell: object,
) -> pa.StringArray:
    if not odd.any():
        return texts
    assert callable(spell)
    spelled = pa.array([spell(v) for v in values[odd].tolist()], pa.string())
    return pc.replace_with_mask(texts, pa.array(odd), spelled)
