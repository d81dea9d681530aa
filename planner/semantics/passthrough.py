"""Functions that only DuckDB knows. They pass through, with a type only DuckDB can tell."""

from __future__ import annotations

from functools import lru_cache

import duckdb

# Readers of files and settings have no business in a query of the cluster.
_REFUSED_PREFIXES = ("read_", "pragma_", "duckdb_", "parquet_", "glob", "getenv", "query")


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
            "WHERE function_type IN ('scalar', 'macro')"
        ).fetchall()
    return frozenset(name for (name,) in rows if not name.startswith(_REFUSED_PREFIXES))


def duckdb_has(name: str) -> bool:
    """Whether DuckDB has a scalar function of that name that a user may call."""
    return name in _names()
