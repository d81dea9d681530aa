"""JSON, and whatever else calls functions of `planner.udfs`."""

from __future__ import annotations

OVER_UDFS = {
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
