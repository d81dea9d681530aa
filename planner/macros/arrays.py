"""Arrays and series; an array is DuckDB's list, counted from 1."""

from __future__ import annotations

ARRAYS = {
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
