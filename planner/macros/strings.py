"""Functions of text and bytea: cutting, padding, quoting, patterns, encodings."""

from __future__ import annotations

STRINGS = {
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
