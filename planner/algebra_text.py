"""Scalars as people read them, for EXPLAIN."""

from __future__ import annotations

import re
from collections.abc import Sequence

from planner.algebra import Scalar
from planner.dialect import duckdb_sql

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_PLAIN = re.compile(r"[a-z_][a-z0-9_.~#]*\Z")


def readable(scalar: Scalar, alias: str | None = None) -> str:
    """The expression's text; without quotes that only our names need, and without `alias`."""

    def unquoted(found: re.Match[str]) -> str:
        name = found[1]
        if alias is not None and name.startswith(f"{alias}."):
            name = name[len(alias) + 1 :]
        return name if _PLAIN.match(name) else f'"{name}"'

    return _QUOTED.sub(unquoted, duckdb_sql(scalar.node))


def conjunction_text(texts: Sequence[str]) -> str:
    """The conjunction as PostgreSQL's EXPLAIN shows it."""
    if len(texts) == 1:
        return f"({texts[0]})"
    return "(" + " AND ".join(f"({text})" for text in texts) + ")"
