"""A catalog of three nodes to plan statements against, changed by their own plans."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from catalog.commands import (
    AddNode,
    AnyCommand,
    CommandResult,
    CreateCluster,
    Envelope,
    FinishRecut,
)
from catalog.model import Catalog, NodeId, Table
from catalog.state import CatalogState
from cluster.errors import DqeError
from planner.context import PlannerContext
from planner.ddl import plan_ddl
from planner.ddl_plan import ChangeCatalog, DdlPlan
from planner.parser import parse

NOW = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)


class Definitions:
    """Plans definitions and applies those that are commands alone."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.state = CatalogState()
        self.settings = dict(settings or {})
        self._count = 0
        self.apply(CreateCluster("c", "h1:1", "h1:2", region="eu"))
        self.apply(AddNode("h2:1", "h2:2", region="us"))
        self.apply(AddNode("h3:1", "h3:2", region="eu"))

    @property
    def catalog(self) -> Catalog:
        return self.state.catalog

    @property
    def context(self) -> PlannerContext:
        return PlannerContext(
            self.catalog, NodeId(1), NOW, NOW, self.settings, {"user": "u", "database": "dqe"}
        )

    def apply(self, command: AnyCommand) -> CommandResult:
        """Applies a command, to its end."""
        self._count += 1
        outcome = self.state.apply_envelope(Envelope(f"c{self._count}", command))
        if isinstance(outcome, DqeError):
            raise outcome
        for table_id in list(self.catalog.recuts):  # as if there were no rows to copy
            version = self.catalog.tables[table_id].schema_version
            self.apply(FinishRecut(table_id, version))
        return outcome

    def plan(self, sql: str) -> DdlPlan:
        (statement,) = parse(sql)
        return plan_ddl(statement, self.context)

    def run(self, sql: str) -> list[str]:
        """Runs statements that are commands alone; all notices."""
        notices: list[str] = []
        for statement in parse(sql):
            plan = plan_ddl(statement, self.context)
            assert isinstance(plan, ChangeCatalog), plan
            notices += plan.notices
            for command in plan.commands:
                assert isinstance(command, AnyCommand)
                notices += self.apply(command).notices
        return notices

    def table(self, name: str) -> Table:
        found = self.catalog.find_table(name)
        assert found is not None
        return found
