"""The macros and settings every node's DuckDB gets once: PostgreSQL's functions in its SQL.

A macro's argument is pasted wherever it is named, so what is dear to compute is named once
where that can be helped. Errors are raised with `error('[SQLSTATE] message')`, which
`planner.semantics.errors` turns into the right class. The names all begin with `pg_`; none is
one that DuckDB has itself. What a macro cannot do is in `planner.udfs`.
"""

from __future__ import annotations

from storage.types import Kind, SqlType, array_of, type_oid


def _type_names() -> str:
    """A CASE from type OIDs to names, as format_type gives them."""
    kinds = [k for k in Kind if k not in (Kind.ARRAY, Kind.ANY)]
    types = [SqlType(kind) for kind in kinds]
    arrays = [array_of(t) for t in types if type_oid(array_of(t))]
    whens = " ".join(f"WHEN {type_oid(t)} THEN '{t}'" for t in (*types, *arrays))
    return f"CASE o {whens} END"


_ZERO = "error('[22012] division by zero')"

_NUMBERS = {
    "pg_divide_float(a, b)": f"CASE WHEN b = 0 AND a IS NOT NULL THEN {_ZERO} ELSE a / b END",
    # The integer that a decimal is in units of its last digit.
    "pg_raw(a, unit)": "CAST(trunc(a) AS HUGEINT) * unit"
    " + CAST((a - trunc(a)) * CAST(unit AS DECIMAL(17, 0)) AS HUGEINT)",
    # Whole part and remainder first; the remainder is below the divisor, so it has room to
    # grow by 16 digits unless the divisor is huge, when a double is exact enough for 16.
    "pg_fraction(r, b)": "CASE WHEN abs(b) < 5000000000000000000000::HUGEINT"
    " THEN (r * 20000000000000000::HUGEINT + (CASE WHEN (r < 0) = (b < 0) THEN b ELSE -b END))"
    " // (b * 2)"
    " ELSE CAST(r::DOUBLE / b::DOUBLE * 1e16 AS HUGEINT) END",
    "pg_quotient(a, b)": "CAST(a // b AS DECIMAL(38, 16))"
    " + CAST(pg_fraction(a % b, b) AS DECIMAL(38, 0)) * 0.0000000000000001",
    "pg_divide_numeric(a, b, unit)": f"CASE WHEN b = 0 AND a IS NOT NULL THEN {_ZERO}"
    " ELSE CAST(pg_quotient(pg_raw(a, unit), pg_raw(b, unit)) AS DECIMAL(38, 16)) END",
    "pg_fraction_part(a)": "CAST((a - trunc(a)) * 10000000000000000::DECIMAL(17, 0) AS HUGEINT)",
    "pg_multiply_raw(aw, af, bw, bf)": "CAST(aw * bw AS DECIMAL(38, 16))"
    " + CAST(aw * bf + af * bw + (af * bf) // 10000000000000000::HUGEINT AS DECIMAL(38, 0))"
    " * 0.0000000000000001",
    "pg_multiply(a, b)": "CAST(pg_multiply_raw(CAST(trunc(a) AS HUGEINT), pg_fraction_part(a),"
    " CAST(trunc(b) AS HUGEINT), pg_fraction_part(b)) AS DECIMAL(38, 16))",
    "pg_power(a, b)": "CASE WHEN a = 0 AND b < 0 THEN"
    " error('[2201F] zero raised to a negative power is undefined')"
    " WHEN a < 0 AND b <> trunc(b) THEN"
    " error('[2201F] a negative number raised to a non-integer power yields a complex result')"
    " ELSE pow(a, b) END",
    "pg_sqrt(a)": "CASE WHEN a < 0 THEN"
    " error('[2201F] cannot take square root of a negative number') ELSE sqrt(a) END",
    "pg_ln(a)": "CASE WHEN a = 0 THEN error('[2201E] cannot take logarithm of zero')"
    " WHEN a < 0 THEN error('[2201E] cannot take logarithm of a negative number')"
    " ELSE ln(a) END",
    "pg_log10(a)": "CASE WHEN a = 0 THEN error('[2201E] cannot take logarithm of zero')"
    " WHEN a < 0 THEN error('[2201E] cannot take logarithm of a negative number')"
    " ELSE log10(a) END",
    "pg_log_base(b, a)": "pg_ln(a) / pg_ln(b)",
    "pg_round_even(a)": "round_even(a, 0)",
    "pg_round_digits(a, n)": "CASE WHEN n >= 16 THEN a"
    " WHEN n IS NOT NULL THEN CAST(round(a, coalesce(n, 0)) AS DECIMAL(38, 16)) END",
    "pg_trunc_digits(a, n)": "CASE WHEN n >= 16 THEN a"
    " WHEN n IS NOT NULL THEN CAST(trunc(a, coalesce(n, 0)) AS DECIMAL(38, 16)) END",
    "pg_float_to_numeric(a, digits)": "CASE WHEN isnan(a) OR isinf(a) THEN"
    " error('[0A000] NaN and infinity are not supported as numeric values')"
    " ELSE CAST(printf('%.' || digits || 'g', a::DOUBLE) AS DECIMAL(38, 16)) END",
    "pg_gcd(a, b)": "greatest_common_divisor(a, b)",
    "pg_lcm(a, b)": "least_common_multiple(a, b)",
    "pg_width_bucket(x, low, high, n)": "CASE WHEN x + low + high IS NULL THEN NULL"
    " WHEN n <= 0 THEN"
    " error('[2201G] count must be greater than zero')"
    " WHEN low = high THEN error('[2201G] lower bound cannot equal upper bound')"
    " WHEN low < high THEN CASE WHEN x < low THEN 0 WHEN x >= high THEN n + 1"
    " ELSE CAST(floor((x - low)::DOUBLE * n / (high - low)::DOUBLE) AS INTEGER) + 1 END"
    " ELSE CASE WHEN x > low THEN 0 WHEN x <= high THEN n + 1"
    " ELSE CAST(floor((low - x)::DOUBLE * n / (low - high)::DOUBLE) AS INTEGER) + 1 END END",
    "pg_to_hex4(a)": "lower(to_base(CASE WHEN a < 0 THEN a::BIGINT + 4294967296"
    " ELSE a::BIGINT END, 16))",
    "pg_to_hex8(a)": "lower(CASE WHEN a < 0 THEN hex(a) ELSE to_base(a, 16) END)",
    "pg_to_bin(a)": "CASE WHEN a < 0 THEN bin(a) ELSE to_base(a, 2) END",
    "pg_to_oct(a)": "to_base(a, 8)",
    "pg_factorial(a)": "factorial(CAST(a AS INTEGER))",
    # Bits that are shifted out are gone, as in C; DuckDB refuses them.
    "pg_low_bits(a, unit)": "(a % unit + unit) % unit",
    "pg_signed_bits(a, unit)": "CASE WHEN a >= unit // 2 THEN a - unit ELSE a END",
    "pg_shift_left(a, n, unit)": "pg_signed_bits(pg_low_bits("
    "a::HUGEINT * (1::HUGEINT << n::HUGEINT), unit), unit)",
    **{
        f"pg_{name}d(a)": (
            f"{name}(radians(a))" if not name.startswith("a") else f"degrees({name}(a))"
        )
        for name in ("sin", "cos", "tan", "asin", "acos", "atan")
    },
}

_TEXT_OUTPUT = {
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

_TEXT_INPUT = {
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

_STRINGS = {
    # A start before the text eats into the length (manual 9.4).
    # greatest() and least() ignore NULLs.
    "pg_substr(s, n)": "CASE WHEN n IS NOT NULL THEN substring(s, greatest(n, 1)) END",
    "pg_substr3(s, n, len)": "CASE WHEN len < 0 AND s IS NOT NULL AND n IS NOT NULL THEN"
    " error('[22011] negative substring length not allowed')"
    " WHEN n::BIGINT + len <= 1 THEN CASE WHEN s IS NOT NULL THEN '' END"
    " WHEN n::BIGINT + len IS NOT NULL THEN substring(s, greatest(n, 1),"
    " least(n::BIGINT + len, 2147483647) - greatest(n, 1)) END",
    "pg_bytea_substr(s, n)": "CASE WHEN n IS NOT NULL THEN"
    " unhex(substring(hex(s), greatest(n, 1) * 2 - 1)) END",
    "pg_bytea_substr3(s, n, len)": "unhex(pg_substr3(hex(s), n * 2 - 1, len * 2))",
    "pg_joined(l, separator)": "CASE WHEN list_count(l) > 0 THEN array_to_string(l, separator) END",
    "pg_lpad3(s, n, f)": "CASE WHEN n <= 0 THEN CASE WHEN s IS NOT NULL THEN '' END"
    " WHEN f = '' THEN left(s, n) ELSE lpad(s, n, f) END",
    "pg_lpad(s, n)": "pg_lpad3(s, n, ' ')",
    "pg_rpad3(s, n, f)": "CASE WHEN n <= 0 THEN CASE WHEN s IS NOT NULL THEN '' END"
    " WHEN f = '' THEN left(s, n) ELSE rpad(s, n, f) END",
    "pg_rpad(s, n)": "pg_rpad3(s, n, ' ')",
    "pg_ltrim(s)": "ltrim(s, ' ')",
    "pg_rtrim(s)": "rtrim(s, ' ')",
    "pg_btrim(s)": "trim(s, ' ')",
    "pg_repeat(s, n)": "CASE WHEN n IS NOT NULL THEN repeat(s, greatest(n, 0)) END",
    "pg_replace(s, a, b)": "CASE WHEN a = '' THEN s ELSE replace(s, a, b) END",
    "pg_position(a, s)": "strpos(s, a)",
    "pg_octet_length(s)": "strlen(s)",
    "pg_bit_length(s)": "strlen(s) * 8",
    "pg_bit_length_bytes(s)": "octet_length(s) * 8",
    "pg_ascii(s)": "CASE WHEN s = '' THEN 0 ELSE ord(s) END",
    "pg_chr(n)": "CASE WHEN n = 0 THEN error('[54000] null character not permitted')"
    " WHEN n < 0 THEN error('[22023] character number must be positive')"
    " WHEN n > 1114111 THEN error('[54000] requested character too large for encoding: ' || n)"
    " ELSE chr(n) END",
    "pg_split_part(s, d, n)": "CASE WHEN n = 0 AND s IS NOT NULL AND d IS NOT NULL THEN"
    " error('[22023] field position must not be zero')"
    " WHEN d = '' THEN CASE WHEN n IN (1, -1) THEN s WHEN s IS NOT NULL THEN '' END"
    " ELSE split_part(s, d, n) END",
    "pg_initcap(s)": "array_to_string(list_transform(regexp_extract_all(s,"
    " '[\\pL\\pN]+|[^\\pL\\pN]+'),"
    " lambda pg_w: upper(left(pg_w, 1)) || lower(substr(pg_w, 2))), '')",
    "pg_quote_ident(s)": "CASE WHEN regexp_full_match(s, '[a-z_][a-z0-9_$]*') AND s NOT IN"
    " (SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved')"
    " THEN s ELSE '\"' || replace(s, '\"', '\"\"') || '\"' END",
    "pg_folded_name(s)": "CASE WHEN contains(s, '\"') THEN s ELSE lower(s) END",
    # `keys` are spellings of names: see planner.semantics.relation_names.
    "pg_oid_of_name(s, keys, oids)": "CASE WHEN s IS NULL THEN NULL"
    " WHEN regexp_full_match(s, '[0-9]+') THEN CAST(s AS BIGINT)"
    " WHEN list_contains(keys, pg_folded_name(s))"
    " THEN list_extract(oids, list_position(keys, pg_folded_name(s)))"
    " ELSE error('[42P01] relation \"' || s || '\" does not exist') END",
    "pg_serial_sequence(s, name, keys, sequences)": "list_extract(sequences,"
    " list_position(keys, pg_folded_name(s) || ' ' || name))",
    "pg_quote_literal(s)": "CASE WHEN contains(s, '\\')"
    " THEN 'E''' || replace(replace(s, '\\', '\\\\'), '''', '''''') || ''''"
    " ELSE '''' || replace(s, '''', '''''') || '''' END",
    "pg_quote_nullable(s)": "coalesce(pg_quote_literal(s), 'NULL')",
    "pg_overlay4(s, r, n, len)": "pg_substr3(s, 1, (n - 1)::INTEGER) || r || pg_substr(s, n + len)",
    "pg_overlay(s, r, n)": "pg_overlay4(s, r, n, length(r))",
    "pg_substring_pattern(s, p)": "CASE WHEN regexp_matches(s, p, 's') THEN"
    " CASE WHEN regexp_matches(p, '\\((?:[^?]|\\?P)') THEN regexp_extract(s, p, 1, 's')"
    " ELSE regexp_extract(s, p, 0, 's') END END",
    "pg_replacement(r)": "replace(r, '\\&', '\\0')",
    "pg_regexp_replace(s, p, r)": "regexp_replace(s, p, pg_replacement(r), 's')",
    "pg_regexp_replace4(s, p, r, f)": "CASE WHEN contains(f, 'g') THEN"
    " CASE WHEN contains(f, 'i') THEN regexp_replace(s, p, pg_replacement(r), 'gis')"
    " ELSE regexp_replace(s, p, pg_replacement(r), 'gs') END"
    " WHEN contains(f, 'i') THEN regexp_replace(s, p, pg_replacement(r), 'is')"
    " ELSE regexp_replace(s, p, pg_replacement(r), 's') END",
    "pg_regexp_count(s, p)": "CAST(len(regexp_extract_all(s, p, 0, 's')) AS INTEGER)",
    "pg_regexp_count3(s, p, n)": "CAST(len(regexp_extract_all(substr(s, n), p, 0, 's'))"
    " AS INTEGER)",
    "pg_regexp_count4(s, p, n, f)": "CAST(CASE WHEN contains(f, 'i')"
    " THEN len(regexp_extract_all(substr(s, n), p, 0, 'is'))"
    " ELSE len(regexp_extract_all(substr(s, n), p, 0, 's')) END AS INTEGER)",
    "pg_regexp_instr(s, p)": "CAST(CASE WHEN regexp_matches(s, p, 's')"
    " THEN strpos(s, regexp_extract(s, p, 0, 's')) ELSE 0 END AS INTEGER)",
    "pg_regexp_like(s, p)": "regexp_matches(s, p, 's')",
    "pg_regexp_like3(s, p, f)": "CASE WHEN contains(f, 'i') THEN regexp_matches(s, p, 'is')"
    " ELSE regexp_matches(s, p, 's') END",
    "pg_regexp_substr(s, p)": "CASE WHEN regexp_matches(s, p, 's')"
    " THEN regexp_extract(s, p, 0, 's') END",
    "pg_string_to_array(s, d)": "CASE WHEN s = '' THEN CAST([] AS VARCHAR[])"
    " WHEN d IS NULL THEN regexp_extract_all(s, '.', 0, 's')"
    " WHEN d = '' THEN [s] ELSE string_split(s, d) END",
    "pg_string_to_array3(s, d, n)": "list_transform(pg_string_to_array(s, d),"
    " lambda pg_e: CASE WHEN pg_e = n THEN NULL ELSE pg_e END)",
    "pg_sha256(a)": "unhex(sha256(a))",
    "pg_encode(a, f)": "CASE lower(f) WHEN 'hex' THEN lower(hex(a)) WHEN 'base64' THEN"
    " pg_base64_lines(to_base64(a)) WHEN 'escape' THEN pg_escape_bytes(a)"
    " ELSE error('[22023] unrecognized encoding: \"' || f || '\"') END",
    "pg_base64_lines(s)": "regexp_replace(regexp_replace(s, '(.{76})', '\\1' || chr(10), 'g'),"
    " chr(10) || '$', '')",
    "pg_decode(s, f)": "CASE lower(f) WHEN 'hex' THEN unhex(s) WHEN 'base64' THEN"
    " from_base64(regexp_replace(s, '\\s', '', 'g')) WHEN 'escape' THEN encode(s)"
    " ELSE error('[22023] unrecognized encoding: \"' || f || '\"') END",
    "pg_escape_bytes(a)": "decode(a)",
    "pg_convert_from(a, e)": "decode(a)",
    "pg_convert_to(s, e)": "encode(s)",
    "pg_get_byte(a, n)": "CAST(('0x' || substring(hex(a), n * 2 + 1, 2)) AS INTEGER)",
    "pg_parse_ident(s)": "list_transform(string_split(s, '.'),"
    " lambda pg_e: CASE WHEN starts_with(pg_e, '\"') THEN trim(pg_e, '\"') ELSE lower(pg_e) END)",
}

_TIMES = {
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
    "pg_divide_interval(i, f)": f"CASE WHEN f = 0 AND i IS NOT NULL THEN {_ZERO}"
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

_ARRAYS = {
    "pg_any_true(a)": "CASE WHEN a IS NULL THEN NULL WHEN list_contains(a, true) THEN true"
    " WHEN list_count(a) < len(a) THEN NULL ELSE false END",
    "pg_all_true(a)": "CASE WHEN a IS NULL THEN NULL WHEN list_contains(a, false) THEN false"
    " WHEN list_count(a) < len(a) THEN NULL ELSE true END",
    "pg_subscript(a, i)": "CASE WHEN i > 0 THEN list_extract(a, i) END",
    "pg_slice(a, i, j)": "CASE WHEN a IS NULL OR i IS NULL OR j IS NULL THEN NULL"
    " WHEN j < greatest(i, 1) THEN list_slice(a, 2, 1) ELSE list_slice(a, greatest(i, 1), j) END",
    "pg_array_position(a, e)": "CASE WHEN e IS NULL"
    " THEN list_position(list_transform(a, lambda pg_e: pg_e IS NULL), true)"
    " ELSE CASE WHEN list_position(a, e) > 0 THEN list_position(a, e) END END",
    "pg_array_remove(a, e)": "list_filter(a, lambda pg_e: pg_e IS DISTINCT FROM e)",
    "pg_array_replace(a, e, r)": "list_transform(a,"
    " lambda pg_e: CASE WHEN pg_e IS NOT DISTINCT FROM e THEN r ELSE pg_e END)",
    "pg_array_fill(e, n)": "list_transform(range(list_extract(n, 1)), lambda pg_e: e)",
    "pg_array_join(a, d, n)": "CASE WHEN n IS NULL THEN array_to_string(a, d)"
    " ELSE array_to_string(list_transform(a, lambda pg_e: coalesce(pg_e, n)), d) END",
    "pg_join_texts(a, d)": "CASE WHEN a IS NOT NULL AND d IS NOT NULL"
    " THEN coalesce(array_to_string(a, d), '') END",
    "pg_array_length(a, d)": "CASE WHEN d = 1 AND len(a) > 0 THEN CAST(len(a) AS INTEGER) END",
    "pg_array_lower(a, d)": "CASE WHEN d = 1 AND len(a) > 0 THEN 1 END",
    "pg_array_ndims(a)": "CASE WHEN len(a) > 0 THEN 1 END",
    "pg_array_positions(a, e)": "CAST(list_filter(range(1, len(a) + 1),"
    " lambda pg_i: list_extract(a, pg_i) IS NOT DISTINCT FROM e) AS INTEGER[])",
    "pg_array_sort(a)": "list_sort(a, 'ASC', 'NULLS LAST')",
    "pg_trim_array(a, n)": "list_slice(a, 1, len(a) - n)",
    "pg_overlap_any(a, b)": "list_has_any(list_filter(a, lambda pg_e: pg_e IS NOT NULL),"
    " list_filter(b, lambda pg_e: pg_e IS NOT NULL))",
    "pg_array_dims(a)": "CASE WHEN len(a) > 0 THEN '[1:' || len(a) || ']' END",
    "pg_subscripts(a, d)": "CASE WHEN d = 1 THEN CAST(range(1, len(a) + 1) AS INTEGER[])"
    " ELSE [] END",
    "pg_contains_all(a, b)": "CASE WHEN a IS NULL OR b IS NULL THEN NULL"
    " ELSE list_count(b) = len(b) AND list_has_all(a, b) END",
    "pg_concat_arrays(a, b)": "CASE WHEN a IS NULL THEN b WHEN b IS NULL THEN a"
    " ELSE list_concat(a, b) END",
    "pg_append(a, e)": "list_concat(coalesce(a, []), [e])",
    "pg_prepend(e, a)": "list_concat([e], coalesce(a, []))",
    "pg_series(a, b, s)": "CASE WHEN s = 0 THEN error('[22023] step size cannot equal zero')"
    " ELSE generate_series(a, b, s) END",
    "pg_series_numeric(a, b, s)": "CASE WHEN s = 0 THEN"
    " error('[22023] step size cannot equal zero')"
    " WHEN (b - a) / s < 0 THEN CAST([] AS DECIMAL(38, 16)[])"
    " ELSE list_transform(range(CAST(floor((b - a)::DOUBLE / s::DOUBLE + 1e-12) AS BIGINT) + 1),"
    " lambda pg_e: CAST(a + CAST(pg_e AS DECIMAL(19, 0)) * CAST(s AS DECIMAL(19, 9))"
    " AS DECIMAL(38, 16))) END",
}

_OVER_UDFS = {
    "pg_regexp_match(s, p)": "pg_regexp_match3(s, p, '')",
    "pg_regexp_matches(s, p)": "pg_regexp_matches3(s, p, '')",
    "pg_json_key(j, k)": "json_extract(j, '$.\"' || replace(k, '\"', '\\\"') || '\"')",
    "pg_json_get_text_key(j, k)": "CASE WHEN json_type(j) = 'ARRAY'"
    " AND regexp_full_match(k, '-?[0-9]+') THEN json_extract(j, CAST(k AS BIGINT))"
    " ELSE pg_json_key(j, k) END",
    "pg_json_index(j, i)": "CASE WHEN json_type(j) = 'ARRAY'"
    " THEN json_extract(j, CAST(i AS BIGINT)) END",
    # PostgreSQL keeps a jsonb scalar as an array of one element, and shows it here.
    "pg_jsonb_index(j, i)": "CASE json_type(j) WHEN 'OBJECT' THEN NULL"
    " WHEN 'ARRAY' THEN json_extract(j, CAST(i AS BIGINT))"
    " ELSE CASE WHEN i IN (0, -1) THEN j END END",
    "pg_json_field(j, k)": "CASE WHEN json_type(j) = 'OBJECT' THEN pg_json_key(j, k) END",
    "pg_json_scalar_text(j)": "CASE json_type(j) WHEN 'NULL' THEN NULL"
    " WHEN 'VARCHAR' THEN json_extract_string(j, '$') ELSE CAST(j AS VARCHAR) END",
    "pg_jsonb_scalar_text(j)": "CASE json_type(j) WHEN 'NULL' THEN NULL"
    " WHEN 'VARCHAR' THEN json_extract_string(j, '$')"
    " WHEN 'OBJECT' THEN pg_jsonb_text(CAST(j AS VARCHAR))"
    " WHEN 'ARRAY' THEN pg_jsonb_text(CAST(j AS VARCHAR)) ELSE CAST(j AS VARCHAR) END",
    "pg_jsonb(a)": "CAST(pg_jsonb_text(a) AS JSON)",
    "pg_json_path(j, p)": "CAST(pg_json_at_path(CAST(j AS VARCHAR), p) AS JSON)",
    "pg_to_number(a, f)": "CAST(pg_to_number_text(a, f) AS DECIMAL(38, 16))",
    "pg_to_date(a, f)": "CAST(CAST(pg_parse_time_text(a, f) AS TIMESTAMP) AS DATE)",
    "pg_to_timestamp(a, f)": "CAST(pg_parse_time_text(a, f) AS TIMESTAMP)",
    "pg_jsonb_to_numeric(j)": "CASE WHEN json_type(j) IN ('UBIGINT', 'BIGINT', 'DOUBLE',"
    " 'HUGEINT') THEN CAST(CAST(j AS VARCHAR) AS DECIMAL(38, 16)) WHEN j IS NOT NULL THEN"
    " error('[22023] cannot cast jsonb ' || pg_json_kind(j) || ' to type numeric') END",
    "pg_jsonb_to_bool(j)": "CASE WHEN json_type(j) = 'BOOLEAN' THEN CAST(j AS VARCHAR) = 'true'"
    " WHEN j IS NOT NULL THEN"
    " error('[22023] cannot cast jsonb ' || pg_json_kind(j) || ' to type boolean') END",
    "pg_json_kind(j)": "CASE json_type(j) WHEN 'VARCHAR' THEN 'string' WHEN 'OBJECT' THEN 'object'"
    " WHEN 'ARRAY' THEN 'array' WHEN 'BOOLEAN' THEN 'boolean' WHEN 'NULL' THEN 'null'"
    " ELSE CASE WHEN j IS NOT NULL THEN 'number' END END",
    "pg_jsonb_has(j, k)": "CASE json_type(j) WHEN 'OBJECT' THEN list_contains(json_keys(j), k)"
    " WHEN 'ARRAY' THEN json_contains(j, to_json(k)) WHEN 'VARCHAR'"
    " THEN json_extract_string(j, '$') = k ELSE CASE WHEN j IS NOT NULL THEN false END END",
    "pg_jsonb_has_any(j, a)": "list_bool_or(list_transform(a, lambda pg_e: pg_jsonb_has(j, pg_e)))",
    "pg_jsonb_has_all(j, a)": "list_bool_and("
    "list_transform(a, lambda pg_e: pg_jsonb_has(j, pg_e)))",
    "pg_json_string(a)": "CAST(to_json(a) AS VARCHAR)",
    "pg_json_float(a)": "CASE WHEN a IN ('NaN', 'Infinity', '-Infinity') THEN '\"' || a || '\"'"
    " ELSE a END",
    "pg_json_timestamp(a)": "'\"' || regexp_replace(regexp_replace(a, ' ', 'T'),"
    " '([+-][0-9]{2})$', '\\1:00') || '\"'",
    "pg_json_spaced(a)": "pg_json_row(CAST(to_json(a) AS VARCHAR))",
    "pg_json_pair(k, v)": "CAST(to_json(k) AS VARCHAR) || ' : ' || v",
    "pg_brackets(a)": "'[' || a || ']'",
    "pg_braces(a)": "'{ ' || a || ' }'",
    "pg_is_json(a, kind)": "CASE WHEN a IS NULL THEN NULL WHEN NOT json_valid(a) THEN false"
    " WHEN kind = 'object' THEN json_type(a) = 'OBJECT'"
    " WHEN kind = 'array' THEN json_type(a) = 'ARRAY'"
    " WHEN kind = 'scalar' THEN json_type(a) NOT IN ('OBJECT', 'ARRAY') ELSE true END",
    "pg_json_elements(j)": "CASE WHEN json_type(j) = 'ARRAY' THEN CAST(j AS JSON[])"
    " WHEN j IS NOT NULL THEN error('[22023] cannot extract elements from '"
    " || CASE json_type(j) WHEN 'OBJECT' THEN 'an object' ELSE 'a scalar' END) END",
    "pg_json_elements_text(j)": "list_transform(pg_json_elements(j),"
    " lambda pg_e: pg_jsonb_scalar_text(pg_e))",
    "pg_jsonb_keys(j)": "json_keys(j)",
    "pg_options(o)": "list_transform(o, lambda pg_o: {option_name: split_part(pg_o, '=', 1),"
    " option_value: substr(pg_o, strpos(pg_o, '=') + 1)})",
    # A table's parts have no relations of their own.
    "pg_partition_tree(r)": "[{relid: r::UINTEGER, parentrelid: NULL::UINTEGER, isleaf: true,"
    " level: 0}]",
    "pg_json_each(j)": "list_transform(json_keys(j),"
    " lambda pg_e: {'key': pg_e, 'value': pg_json_key(j, pg_e)})",
    "pg_json_each_text(j)": "list_transform(json_keys(j),"
    " lambda pg_e: {'key': pg_e, 'value': pg_json_scalar_text(pg_json_key(j, pg_e))})",
    "pg_jsonb_each(j)": "list_transform(pg_jsonb_keys(j),"
    " lambda pg_e: {'key': pg_e, 'value': pg_json_key(j, pg_e)})",
    "pg_jsonb_each_text(j)": "list_transform(pg_jsonb_keys(j),"
    " lambda pg_e: {'key': pg_e, 'value': pg_jsonb_scalar_text(pg_json_key(j, pg_e))})",
    "pg_jsonb_array_length(j)": "CASE WHEN json_type(j) = 'ARRAY'"
    " THEN CAST(json_array_length(j) AS INTEGER) WHEN j IS NOT NULL THEN"
    " error('[22023] cannot get array length of a '"
    " || CASE json_type(j) WHEN 'OBJECT' THEN 'non-array' ELSE 'scalar' END) END",
}


_SYSTEM = {
    "pg_size_text(n)": "CASE WHEN abs(n) < 10240 THEN n || ' bytes'"
    " WHEN abs(n) < 10485248 THEN CAST(round(n / 1024.0) AS BIGINT) || ' kB'"
    " WHEN abs(n) < 10736893952 THEN CAST(round(n / 1048576.0) AS BIGINT) || ' MB'"
    " WHEN abs(n) < 10994579406848 THEN CAST(round(n / 1073741824.0) AS BIGINT) || ' GB'"
    " ELSE CAST(round(n / 1099511627776.0) AS BIGINT) || ' TB' END",
    "pg_value_size(a)": "CAST(strlen(CAST(a AS VARCHAR)) AS INTEGER)",
    "pg_type_text(o)": _type_names(),
    "pg_format_type(o, m)": "CASE WHEN o IS NULL THEN NULL WHEN m >= 4 AND o IN (1042, 1043)"
    " THEN pg_type_text(o) || '(' || (m - 4) || ')'"
    " WHEN m >= 4 AND o = 1700"
    " THEN 'numeric(' || ((m - 4) >> 16) || ',' || ((m - 4) & 2047) || ')'"
    " ELSE coalesce(pg_type_text(o), '???') END",
}


def _macro(head: str, body: str) -> str:
    return f"CREATE OR REPLACE MACRO {head} AS {body}"


def _setup() -> tuple[str, ...]:
    families = (_NUMBERS, _TEXT_OUTPUT, _TEXT_INPUT, _STRINGS, _TIMES, _ARRAYS, _SYSTEM)
    return tuple(_macro(head, body) for family in families for head, body in family.items())


# Run once on a node's DuckDB instance.
SETUP_SQL: tuple[str, ...] = _setup()
# Macros that call functions of `planner.udfs`, whose `register` runs them.
OVER_UDFS_SQL: tuple[str, ...] = tuple(_macro(head, body) for head, body in _OVER_UDFS.items())
