"""Plans are used again where nothing they depend on has changed, and only there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mini_cluster import MiniCluster, in_cluster
from sqlglot import exp

from catalog.model import Catalog, NodeId
from executor import queries
from executor.formatting.text import text_columns
from executor.plan_cache import LARGEST_TEXT_CHARACTERS, PlanCache
from executor.session import Session
from planner.context import PlannerContext
from planner.datum import Datum
from planner.optimizer import plan_query
from storage.types import NUMERIC

NOW = datetime(2024, 1, 1, tzinfo=UTC)
CONTEXT = PlannerContext(
    Catalog(),
    NodeId(1),
    NOW,
    NOW,
    settings={"timezone": "UTC", "search_path": "public"},
    session={"user": "ann", "temporary_schema": "pg_temp_1_1"},
)
TREE = exp.select("1")


class Planner:
    """Counts what it is asked; its plans are numbers."""

    def __init__(self, looks_at: Callable[[PlannerContext], object] = lambda _: None) -> None:
        self._looks_at = looks_at
        self.made = 0
        self.cache = PlanCache(plans_kept=3)

    def plan(
        self,
        context: PlannerContext = CONTEXT,
        *,
        text: str = "select 1",
        tree: exp.Expr = TREE,
        value: Datum = None,
    ) -> Any:
        return self.cache.plan(tree, text, (NUMERIC,), (value,), context, self._make).plan

    def _make(self, context: PlannerContext) -> Any:
        self._looks_at(context)
        self.made += 1
        return self.made


def test_the_same_statement_is_planned_once() -> None:
    planner = Planner()
    assert [planner.plan() for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1.0"), Decimal("1.00")),
        (0.0, -0.0),
        (1, True),
        (None, ""),
        ("a", "b"),
    ],
)
def test_values_written_otherwise_have_plans_of_their_own(one: Datum, other: Datum) -> None:
    planner = Planner()
    assert planner.plan(value=one) != planner.plan(value=other)


def test_a_statement_changed_behind_its_text_is_another() -> None:
    planner = Planner()
    assert planner.plan() != planner.plan(tree=exp.select("2"))


def test_what_a_plan_looked_at_must_be_the_same() -> None:
    planner = Planner(lambda context: context.settings.get("timezone"))
    assert planner.plan() == 1
    assert planner.plan(replace(CONTEXT, settings={"timezone": "Asia/Tokyo"})) == 2
    assert planner.plan(replace(CONTEXT, settings={})) == 3


def test_what_a_plan_did_not_look_at_may_differ() -> None:
    planner = Planner(lambda context: context.settings.get("timezone"))
    settings = {**CONTEXT.settings, "search_path": "elsewhere"}
    session = {**CONTEXT.session, "user": "bob"}
    later = datetime(2025, 1, 1, tzinfo=UTC)
    assert planner.plan() == 1
    assert planner.plan(replace(CONTEXT, settings=settings, session=session, now=later)) == 1


def test_a_setting_that_was_missed_must_be_missing() -> None:
    planner = Planner(lambda context: context.settings.get("dqe.unset"))
    assert planner.plan() == 1
    assert planner.plan(replace(CONTEXT, settings={"dqe.unset": "x"})) == 2


def test_who_looks_through_all_settings_depends_on_all() -> None:
    planner = Planner(lambda context: dict(context.settings))
    assert planner.plan() == 1
    assert planner.plan(replace(CONTEXT, settings={**CONTEXT.settings, "search_path": "x"})) == 2


@pytest.mark.parametrize("clock", ["now", "statement_now"])
def test_a_plan_that_read_the_clock_is_not_kept(clock: str) -> None:
    planner = Planner(lambda context: getattr(context, clock))
    assert [planner.plan(), planner.plan()] == [1, 2]


def test_temporary_schemas_matter_once_they_exist() -> None:
    planner = Planner(lambda context: context.session.get("temporary_schema"))
    other = replace(CONTEXT, session={**CONTEXT.session, "temporary_schema": "pg_temp_1_2"})
    assert [planner.plan(), planner.plan(other)] == [1, 1]
    catalog = replace(CONTEXT.catalog, schemas=("pg_temp_1_2",))
    first, second = replace(CONTEXT, catalog=catalog), replace(other, catalog=catalog)
    assert [planner.plan(first), planner.plan(second)] == [2, 3]


def test_another_catalog_empties_the_cache() -> None:
    planner = Planner()
    assert planner.plan() == 1
    assert planner.plan(replace(CONTEXT, catalog=Catalog())) == 2


def test_plans_depend_on_who_answers() -> None:
    planner = Planner()
    assert planner.plan() != planner.plan(replace(CONTEXT, live_nodes=(NodeId(2),)))


def test_the_cache_is_bounded() -> None:
    planner = Planner()
    for number in range(4):
        planner.plan(text=f"select {number}")
    assert planner.plan(text="select 3") == 4
    assert planner.plan(text="select 0") == 5
    long = "x" * (LARGEST_TEXT_CHARACTERS + 1)
    assert planner.plan(text=long) != planner.plan(text=long)


def test_sessions_plan_a_text_once_and_see_their_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[object] = []

    def counted(*arguments: Any) -> Any:
        planned.append(arguments)
        return plan_query(*arguments)

    monkeypatch.setattr(queries, "plan_query", counted)

    async def ask(session: Session, sql: str) -> list[str | None]:
        [statement] = await session.parse(sql)
        result = await session.execute(statement)
        found: list[str | None] = []
        if result.columns is not None:
            async for batch in result.batches():
                types = [column.type for column in result.columns]
                found += text_columns(batch, types)[0].to_pylist()
        await result.close()
        return found

    async def run(cluster: MiniCluster) -> None:
        one, two = cluster.session(), cluster.session()
        text = "select timestamptz '2024-01-01 00:00'::text from generate_series(1, 2)"
        assert await ask(one, text) == ["2024-01-01 00:00:00+00"] * 2
        assert await ask(two, text) == ["2024-01-01 00:00:00+00"] * 2
        assert len(planned) == 1
        await ask(two, "set timezone = 'Asia/Tokyo'")
        assert await ask(two, text) == ["2024-01-01 00:00:00+09"] * 2
        before = len(planned)
        first, second = await ask(one, "select now()::text"), await ask(one, "select now()::text")
        assert len(planned) == before + 2
        assert first != second

    in_cluster(tmp_path, run, count=2, functions=True)
