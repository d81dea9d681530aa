"""What the rules may know of the session: time zone, clock of the transaction, catalog."""

from __future__ import annotations

from datetime import datetime, tzinfo
from functools import cached_property

from planner.context import PlannerContext
from planner.semantics.text_times import zone_named
from planner.temporary import temporary_schema, with_temporary


class Environment:
    """A statement's surroundings, worked out when first asked for."""

    def __init__(self, context: PlannerContext) -> None:
        self.context = context

    @cached_property
    def zone_name(self) -> str:
        """The session's time zone as DuckDB knows it."""
        return self.context.settings.get("timezone", "UTC")

    @cached_property
    def zone(self) -> tzinfo:
        return zone_named(self.zone_name)

    @cached_property
    def now(self) -> datetime:
        """The transaction's start in the session's zone."""
        return self.context.now.astimezone(self.zone)

    @cached_property
    def search_path(self) -> tuple[str, ...]:
        """Schemas in the order they are searched: the session's temporary one first, then
        pg_catalog unless it is listed."""
        setting = self.context.settings.get("search_path", '"$user", public')
        user = self.context.session.get("user", "")
        names = [name.strip().strip('"') for name in setting.split(",")]
        path = [user if name == "$user" else name for name in names if name]
        if "pg_catalog" not in path:
            path.insert(0, "pg_catalog")
        return tuple(with_temporary(self.context, path))

    @cached_property
    def visible_schemas(self) -> tuple[str, ...]:
        """The part of the search path that exists, as `current_schemas(false)` gives it."""
        known = self.context.catalog.schemas
        own = temporary_schema(self.context)
        return tuple(name for name in self.search_path if name in known and name != own)
