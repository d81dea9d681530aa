"""Information functions: names of types, sizes, relations by their names."""

from __future__ import annotations

from storage.types import Kind, SqlType, array_of, type_oid


def _type_names() -> str:
    """A CASE from type OIDs to names, as format_type gives them."""
    kinds = [k for k in Kind if k not in (Kind.ARRAY, Kind.ANY)]
    types = [SqlType(kind) for kind in kinds]
    arrays = [array_of(t) for t in types if type_oid(array_of(t))]
    whens = " ".join(f"WHEN {type_oid(t)} THEN '{t}'" for t in (*types, *arrays))
    return f"CASE o {whens} END"


SYSTEM = {
    "pg_folded_name(s)": "CASE WHEN contains(s, '\"') THEN s ELSE lower(s) END",
    # `keys` are spellings of names: see planner.semantics.relation_names.
    "pg_oid_of_name(s, keys, oids)": "CASE WHEN s IS NULL THEN NULL"
    " WHEN regexp_full_match(s, '[0-9]+') THEN CAST(s AS BIGINT)"
    " WHEN list_contains(keys, pg_folded_name(s))"
    " THEN list_extract(oids, list_position(keys, pg_folded_name(s)))"
    " ELSE error('[42P01] relation \"' || s || '\" does not exist') END",
    "pg_serial_sequence(s, name, keys, sequences)": "list_extract(sequences,"
    " list_position(keys, pg_folded_name(s) || ' ' || name))",
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
