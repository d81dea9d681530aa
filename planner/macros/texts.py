"""Values to texts and texts to values, as PostgreSQL writes and reads each type."""

from __future__ import annotations

OUTPUT = {
    "pg_float_text(a)": "CASE WHEN isnan(a) THEN 'NaN'"
    " WHEN isinf(a) THEN CASE WHEN a > 0 THEN 'Infinity' ELSE '-Infinity' END"
    " WHEN abs(a) >= 1e15 AND abs(a) < 1e16"
    " THEN regexp_replace(printf('%.16e', a::DOUBLE), '\\.?0*e', 'e')"
    " ELSE regexp_replace(CAST(a AS VARCHAR), '\\.0$', '') END",
    "pg_numeric_text(a)": "CASE WHEN contains(CAST(a AS VARCHAR), '.')"
    " THEN rtrim(rtrim(CAST(a AS VARCHAR), '0'), '.') ELSE CAST(a AS VARCHAR) END",
    "pg_bool_letter(a)": "CASE WHEN a THEN 't' WHEN NOT a THEN 'f' END",
    "pg_bytea_text(a)": "'\\x' || lower(hex(a))",
    "pg_offset_minutes(t, zone)": "CAST(round(epoch(timezone(zone, t)"
    " - timezone('UTC', t)) / 60) AS INTEGER)",
    "pg_offset_text(m)": "CASE WHEN m < 0 THEN '-' ELSE '+' END"
    " || lpad(CAST(abs(m) // 60 AS VARCHAR), 2, '0')"
    " || CASE WHEN abs(m) % 60 = 0 THEN '' ELSE ':'"
    " || lpad(CAST(abs(m) % 60 AS VARCHAR), 2, '0') END",
    "pg_timestamptz_text(t, zone)": "CASE WHEN isfinite(t) THEN"
    " CAST(timezone(zone, t) AS VARCHAR) || pg_offset_text(pg_offset_minutes(t, zone))"
    " ELSE CAST(t AS VARCHAR) END",
    "pg_plural(n, one)": "CASE WHEN n = 0 THEN NULL"
    " ELSE CAST(n AS VARCHAR) || ' ' || one || CASE WHEN n = 1 THEN '' ELSE 's' END END",
    # The whole months, days and microseconds of an interval, unnormalised.
    "pg_months(i)": "(datepart('year', i) * 12 + datepart('month', i))",
    "pg_days(i)": "datepart('day', i)",
    "pg_micros(i)": "(datepart('hour', i) * 3600000000 + datepart('minute', i) * 60000000"
    " + datepart('microseconds', i))",
    "pg_clock_text(u)": "lpad(CAST(abs(u) // 3600000000 AS VARCHAR), 2, '0') || ':'"
    " || lpad(CAST(abs(u) // 60000000 % 60 AS VARCHAR), 2, '0') || ':'"
    " || lpad(CAST(abs(u) // 1000000 % 60 AS VARCHAR), 2, '0')"
    " || CASE WHEN abs(u) % 1000000 = 0 THEN ''"
    " ELSE '.' || rtrim(lpad(CAST(abs(u) % 1000000 AS VARCHAR), 6, '0'), '0') END",
    # A positive part behind a negative one carries its sign.
    "pg_signed(n, before, shown)": "CASE WHEN n > 0 AND before THEN '+' || shown ELSE shown END",
    "pg_interval_parts(y, m, d, u)": "CASE WHEN y = 0 AND m = 0 AND d = 0 AND u = 0"
    " THEN '00:00:00' ELSE concat_ws(' ', pg_plural(y, 'year'),"
    " pg_signed(m, y < 0, pg_plural(m, 'mon')),"
    " pg_signed(d, m < 0 OR (m = 0 AND y < 0), pg_plural(d, 'day')),"
    " CASE WHEN u = 0 THEN NULL WHEN u < 0 THEN '-' || pg_clock_text(u)"
    " WHEN d < 0 OR (d = 0 AND (m < 0 OR (m = 0 AND y < 0))) THEN '+' || pg_clock_text(u)"
    " ELSE pg_clock_text(u) END) END",
    "pg_interval_text(i)": "CASE WHEN i IS NOT NULL THEN pg_interval_parts("
    "datepart('year', i), datepart('month', i), datepart('day', i), pg_micros(i)) END",
    "pg_array_item(e)": "CASE WHEN e IS NULL THEN 'NULL' WHEN e = '' OR lower(e) = 'null'"
    " OR regexp_matches(e, '[{},\"\\\\\\s]')"
    " THEN '\"' || replace(replace(e, '\\', '\\\\'), '\"', '\\\"') || '\"' ELSE e END",
    "pg_array_text(a)": "CASE WHEN a IS NOT NULL THEN '{' || coalesce(array_to_string("
    "list_transform(a, lambda pg_e: pg_array_item(pg_e)), ','), '') || '}' END",
    "pg_record_item(e)": "CASE WHEN e IS NULL THEN '' WHEN e = ''"
    " OR regexp_matches(e, '[(),\"\\\\\\s]')"
    " THEN '\"' || replace(replace(e, '\\', '\\\\'), '\"', '\"\"') || '\"' ELSE e END",
    "pg_record_text(a)": "'(' || array_to_string(list_transform(a,"
    " lambda pg_e: pg_record_item(pg_e)), ',') || ')'",
}

INPUT = {
    "pg_bad_text(a, type)": "error('[22P02] invalid input syntax for type ' || type || ': \"'"
    " || a || '\"')",
    **{
        f"pg_text_to_{kind}(a)": "CASE WHEN regexp_full_match(a, '\\s*[+-]?[0-9]+\\s*')"
        f" THEN CAST(a AS {duckdb}) WHEN a IS NOT NULL THEN pg_bad_text(a, '{name}') END"
        for kind, duckdb, name in (
            ("int2", "SMALLINT", "smallint"),
            ("int4", "INTEGER", "integer"),
            ("int8", "BIGINT", "bigint"),
        )
    },
    **{
        f"pg_text_to_{kind}(a)": "CASE WHEN regexp_full_match(lower(trim(a)),"
        " '[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)(e[+-]?[0-9]+)?|nan|[+-]?inf(inity)?')"
        f" THEN CAST(trim(a) AS {duckdb}) WHEN a IS NOT NULL THEN pg_bad_text(a, '{name}') END"
        for kind, duckdb, name in (
            ("float4", "FLOAT", "real"),
            ("float8", "DOUBLE", "double precision"),
        )
    },
    "pg_text_to_numeric(a)": "CASE WHEN regexp_full_match(trim(a),"
    " '[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?') THEN CAST(trim(a) AS DECIMAL(38, 16))"
    " WHEN a IS NOT NULL THEN pg_bad_text(a, 'numeric') END",
    "pg_bool_word(a, w)": "CASE WHEN w IN ('t', 'tr', 'tru', 'true', 'y', 'ye', 'yes', 'on', '1')"
    " THEN true WHEN w IN ('f', 'fa', 'fal', 'fals', 'false', 'n', 'no', 'of', 'off', '0')"
    " THEN false WHEN a IS NOT NULL THEN pg_bad_text(a, 'boolean') END",
    "pg_text_to_bool(a)": "pg_bool_word(a, lower(trim(a)))",
    "pg_text_to_bytea(a)": "CASE WHEN starts_with(a, '\\x') THEN unhex(substr(a, 3))"
    " ELSE encode(a) END",
    "pg_text_to_json(a)": "CASE WHEN json_valid(a) THEN CAST(a AS JSON)"
    " WHEN a IS NOT NULL THEN error('[22P02] invalid input syntax for type json') END",
    "pg_text_to_interval(a)": "CAST(a AS INTERVAL)",
    "pg_text_to_uuid(a)": "CASE WHEN regexp_full_match(a,"
    " '\\{?[0-9a-fA-F]{4}-?([0-9a-fA-F]{4}-?){6}[0-9a-fA-F]{4}\\}?')"
    " THEN CAST(regexp_replace(a, '[-{}]', '', 'g') AS UUID)"
    " WHEN a IS NOT NULL THEN pg_bad_text(a, 'uuid') END",
    "pg_text_to_timestamptz(a, zone)": "CASE WHEN regexp_matches(trim(a),"
    " '(:|[0-9]{2}\\.[0-9]+)[0-9]*\\s*([+-][0-9:]+|[A-Za-z].*)$')"
    " THEN CAST(a AS TIMESTAMPTZ) ELSE timezone(zone, CAST(a AS TIMESTAMP)) END",
    "pg_trim_blanks(a)": "rtrim(a, ' ')",
    "pg_pad(a, n)": "CASE WHEN length(a) >= n THEN a ELSE rpad(a, n, ' ') END",
    "pg_pad_each(a, n)": "list_transform(a, lambda pg_e: pg_pad(pg_e, n))",
    "pg_fit_text(a, n, type)": "CASE WHEN length(a) <= n THEN a"
    " WHEN length(rtrim(a, ' ')) <= n THEN left(a, n)"
    " WHEN a IS NOT NULL THEN error('[22001] value too long for type ' || type) END",
}
