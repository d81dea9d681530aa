"""Dates, times and intervals: arithmetic, parts, truncation."""

from __future__ import annotations

from planner.macros.numbers import DIVISION_BY_ZERO

TIMES = {
    "pg_iso_text(t)": "strftime(t, '%Y-%m-%d %H:%M:%S.%f')",
    "pg_offset_iso(m)": "CASE WHEN m < 0 THEN '-' ELSE '+' END"
    " || lpad(CAST(abs(m) // 60 AS VARCHAR), 2, '0') || ':'"
    " || lpad(CAST(abs(m) % 60 AS VARCHAR), 2, '0')",
    "pg_interval_numbers(i)": "'@' || pg_months(i) || ' ' || datepart('day', i)"
    " || ' ' || pg_micros(i)",
    "pg_make_date(y, m, d)": "make_date(y::BIGINT, m::BIGINT, d::BIGINT)",
    "pg_time_to_interval(t)": "to_microseconds(epoch_us(t))",
    "pg_interval_to_time(i)": "TIME '00:00:00' + to_microseconds(pg_micros(i) % 86400000000)",
    "pg_time_difference(a, b)": "to_microseconds(epoch_us(a) - epoch_us(b))",
    # Whole days apart from the clock, as PostgreSQL justifies the hours of a difference.
    "pg_split_micros(u)": "to_days(CAST(u // 86400000000 AS INTEGER))"
    " + to_microseconds(u % 86400000000)",
    "pg_timestamp_difference(a, b)": "pg_split_micros(epoch_us(a) - epoch_us(b))",
    "pg_age(a, b)": "age(a, b)",
    "pg_negate_interval(i)": "-i",
    "pg_interval_of(m, d, u)": "to_months(CAST(m AS INTEGER)) + to_days(CAST(d AS INTEGER))"
    " + to_microseconds(CAST(u AS BIGINT))",
    # Fractions of months go to days, of days to microseconds (timestamp.c, interval_mul).
    "pg_spread_days(m, d, u, md, sec)": "pg_interval_of(trunc(m),"
    " trunc(d) + trunc(md) + trunc(sec / 86400),"
    " round_even(u + (sec - trunc(sec / 86400) * 86400) * 1000000, 0))",
    "pg_spread_months(m, d, u, md)": "pg_spread_days(m, d, u, md,"
    " round((d - trunc(d) + md - trunc(md)) * 86400, 6))",
    "pg_spread(m, d, u)": "pg_spread_months(m, d, u, round((m - trunc(m)) * 30, 6))",
    "pg_multiply_interval(i, f)": "pg_spread(pg_months(i)::DOUBLE * f,"
    " datepart('day', i)::DOUBLE * f, pg_micros(i)::DOUBLE * f)",
    "pg_divide_interval(i, f)": f"CASE WHEN f = 0 AND i IS NOT NULL THEN {DIVISION_BY_ZERO}"
    " ELSE pg_spread(pg_months(i)::DOUBLE / f, datepart('day', i)::DOUBLE / f,"
    " pg_micros(i)::DOUBLE / f) END",
    "pg_make_interval(y, mo, w, d, h, mi, s)": "pg_interval_of(y * 12 + mo, w * 7 + d,"
    " h::BIGINT * 3600000000 + mi::BIGINT * 60000000 + round_even(s * 1000000, 0)::BIGINT)",
    "pg_justify_hours(i)": "pg_interval_of(pg_months(i), datepart('day', i)"
    " + pg_micros(i) // 86400000000, pg_micros(i) % 86400000000)",
    "pg_justify_days(i)": "pg_interval_of(pg_months(i) + datepart('day', i) // 30,"
    " datepart('day', i) % 30, pg_micros(i))",
    "pg_justify_signed(t)": "pg_interval_of(t // 2592000000000, t % 2592000000000 // 86400000000,"
    " t % 86400000000)",
    "pg_justify_interval(i)": "pg_justify_signed(pg_months(i)::HUGEINT * 2592000000000"
    " + datepart('day', i)::HUGEINT * 86400000000 + pg_micros(i))",
    "pg_isfinite_interval(i)": "i IS NOT NULL",
    "pg_overlaps(a, b, c, d)": "(least(a, b) < greatest(c, d) AND least(c, d) < greatest(a, b))"
    " OR (least(a, b) = least(c, d))",
    **{
        f"pg_extract_{name}(t)": f"datepart('{name}', t)"
        for name in (
            "year",
            "month",
            "day",
            "quarter",
            "week",
            "dow",
            "isodow",
            "doy",
            "isoyear",
            "hour",
            "minute",
        )
    },
    "pg_extract_second(t)": "CAST(datepart('microseconds', t) AS DECIMAL(18, 0)) * 0.000001",
    "pg_extract_milliseconds(t)": "CAST(datepart('microseconds', t) AS DECIMAL(18, 0)) * 0.001",
    "pg_extract_microseconds(t)": "datepart('microseconds', t)",
    "pg_extract_epoch(t)": "CAST(datepart('epoch', t) AS DECIMAL(38, 6))",
    "pg_extract_julian(t)": "datepart('julian', t)",
    "pg_extract_decade(t)": "CAST(floor(datepart('year', t) / 10.0) AS BIGINT)",
    "pg_extract_century(t)": "datepart('century', t)",
    "pg_extract_millennium(t)": "datepart('millennium', t)",
    "pg_extract_timezone(t, zone)": "pg_offset_minutes(t, zone) * 60",
    "pg_extract_timezone_hour(t, zone)": "pg_offset_minutes(t, zone) // 60",
    "pg_extract_timezone_minute(t, zone)": "pg_offset_minutes(t, zone) % 60",
    "pg_trunc_decade(t)": "date_trunc('decade', t)",
    # PostgreSQL's centuries begin with the year 1.
    "pg_trunc_century(t)": "make_timestamp((datepart('year', t) - 1) // 100 * 100 + 1,"
    " 1, 1, 0, 0, 0)",
    "pg_trunc_millennium(t)": "make_timestamp((datepart('year', t) - 1) // 1000 * 1000 + 1,"
    " 1, 1, 0, 0, 0)",
}
