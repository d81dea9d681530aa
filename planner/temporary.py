"""Temporary tables and views: those of one session.

They are kept like others, in a schema that is the session's own (`pg_temp_<node>_<number>`), comes
into being with the first of them, and is dropped when the session ends. Relation names without
a schema are looked up there first; `pg_temp` stands for it. A temporary table is made of one
tablet on the session's node unless its clauses say otherwise.

Left out: ON COMMIT DELETE ROWS and ON COMMIT DROP, until transactions can be undone.
"""

from __future__ import annotations

from catalog.model import TEMPORARY_SCHEMA_PREFIX
from planner.context import PlannerContext

ALIAS = "pg_temp"


def temporary_schema(context: PlannerContext) -> str:
    """The session's own; it exists once something is in it."""
    return context.session.get("temporary_schema", TEMPORARY_SCHEMA_PREFIX + "0")


def named_schema(context: PlannerContext, written: str) -> str:
    """The schema that a statement's word means."""
    return temporary_schema(context) if written == ALIAS else written


def with_temporary(context: PlannerContext, path: list[str]) -> list[str]:
    """A search path with the session's temporary schema first, unless it is listed."""
    own = temporary_schema(context)
    resolved = [own if name == ALIAS else name for name in path]
    return resolved if own in resolved else [own, *resolved]
