"""EXPLAIN and EXPLAIN ANALYZE: the plan as text or JSON, with what its tasks really did.

A statement that changes rows is shown as its row source under a node that names the change.
ANALYZE of one carries it out, and tells the whole time only: rows and times a task are those
of queries. Times are always measured (TIMING OFF is refused).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from catalog.model import Durability
from cluster.errors import FeatureNotSupported
from executor import index_queries, joined_queries, writes
from executor.coordinator import QueryStatistics
from executor.execution import Execution, Result
from executor.locking_subqueries import locking_clause, unlocked
from executor.queries import plan_select
from executor.readings import Reading, reading_of
from executor.rows import columns_of, rows_result
from planner.ddl import plan_ddl
from planner.ddl_plan import CreateAndFill
from planner.explain import Actuals, TaskActuals, explain_json, explain_text
from planner.locking import locks_rows
from planner.plan import PlanNote, QueryPlan
from planner.statements import (
    CreateTableAs,
    Declare,
    Delete,
    Explain,
    Insert,
    Query,
    Statement,
    Update,
)
from planner.write_plan import DeletePlan, InsertPlan, UpdatePlan
from planner.writes import plan_delete, plan_insert, plan_update

COLUMNS = columns_of("QUERY PLAN")


@dataclass(slots=True)
class _Times:
    """Milliseconds; None is not measured or not asked for."""

    planning_ms: float | None = None
    execution_ms: float | None = None


async def run_explain(execution: Execution, statement: Explain) -> Result:
    """The plan; under ANALYZE the statement is run as well, its rows thrown away."""
    if statement.analyze and not statement.timing:
        raise FeatureNotSupported("EXPLAIN with TIMING OFF is not supported")
    clause = locking_clause(statement.statement)
    if statement.analyze and clause is not None:
        raise FeatureNotSupported(
            f"EXPLAIN ANALYZE of a statement with {clause} is not supported",
            hint=f"Leave ANALYZE or {clause} out.",
        )
    runtime = execution.services.runtime
    started_s = runtime.monotonic()
    plan = await _plan(
        execution,
        statement.statement,
        shown_as_json=statement.format == "json",
        analyzed=statement.analyze,
    )
    times = _Times((runtime.monotonic() - started_s) * 1000)
    actuals, reading = None, None
    if statement.analyze:
        statistics, times.execution_ms = await _analyze(execution, statement.statement, plan)
        if statistics is not None:
            actuals, reading = actuals_of(statistics), reading_of(execution.timestamp, statistics)
    if not (statement.analyze if statement.summary is None else statement.summary):
        times = _Times()
    lines = (
        [_json(plan, actuals, reading, times)]
        if statement.format == "json"
        else _text(statement, plan, actuals, reading, times)
    )
    return rows_result("EXPLAIN", COLUMNS, [(line,) for line in lines])


def _text(
    statement: Explain,
    plan: QueryPlan,
    actuals: Actuals | None,
    reading: Reading | None,
    times: _Times,
) -> list[str]:
    lines = explain_text(plan, actuals, costs=statement.costs, verbose=statement.verbose)
    if reading is not None:
        lines += reading.lines()
    if times.planning_ms is not None:
        lines.append(f"Planning Time: {times.planning_ms:.3f} ms")
    if times.execution_ms is not None:
        lines.append(f"Execution Time: {times.execution_ms:.3f} ms")
    return lines


def _json(plan: QueryPlan, actuals: Actuals | None, reading: Reading | None, times: _Times) -> str:
    documents = json.loads(explain_json(plan, actuals))
    if reading is not None:
        documents[0].update(reading.document())
    if times.planning_ms is not None:
        documents[0]["Planning Time"] = round(times.planning_ms, 3)
    if times.execution_ms is not None:
        documents[0]["Execution Time"] = round(times.execution_ms, 3)
    return json.dumps(documents, indent=2)


# -- planning ---------------------------------------------------------------------------------


async def _plan(
    execution: Execution, statement: Statement, *, shown_as_json: bool, analyzed: bool
) -> QueryPlan:
    """Under ANALYZE a query runs by its plan, where an index would do as well."""
    match statement:
        case Query() if locking_clause(statement) is not None:
            plan = await plan_select(execution, unlocked(statement))
            if not locks_rows(statement.tree):
                return plan
            note = PlanNote("LockRows", plan.root.id, children=(plan.explanation,))
            return replace(plan, explanation=note)
        case Query():
            plan = await plan_select(execution, statement)
            return (
                plan if analyzed else replace(plan, explanation=_short(execution, statement, plan))
            )
        case Declare():
            return await plan_select(execution, statement.query)
        case CreateTableAs():
            made = plan_ddl(statement, execution.context)
            if isinstance(made, CreateAndFill) and made.source is not None:
                return made.source
        case Insert() | Update() | Delete():
            return _change(execution, unlocked(statement), shown_as_json=shown_as_json)
    raise FeatureNotSupported("EXPLAIN takes SELECT, VALUES, INSERT, UPDATE, DELETE and CREATE AS")


def _short(execution: Execution, statement: Query, plan: QueryPlan) -> PlanNote:
    """What is shown of a query: the short way that it goes, where it goes one."""
    by_index = index_queries.explained(execution, statement, plan.explanation)
    joined = joined_queries.explained(execution, statement, plan.explanation)
    return by_index or joined or plan.explanation


def _change(
    execution: Execution, statement: Insert | Update | Delete, *, shown_as_json: bool
) -> QueryPlan:
    context = execution.context
    types, values = execution.parameter_types, execution.values
    plan: InsertPlan | UpdatePlan | DeletePlan
    match statement:
        case Insert():
            operation = "Insert"
            plan = plan_insert(statement, context, parameters=types, values=values)
        case Update():
            operation = "Update"
            plan = plan_update(statement, context, parameters=types, values=values)
        case Delete():
            operation = "Delete"
            plan = plan_delete(statement, context, parameters=types, values=values)
    source = plan.source
    named: dict[str, str | int | float | list[str]] = {
        "Relation Name": plan.table.name,
        "Schema": plan.table.schema,
        "Alias": plan.table.name,
    }
    if plan.table.durability is not Durability.QUORUM:
        named["Durability"] = plan.table.durability.value
    if shown_as_json:
        note = PlanNote("ModifyTable", source.root.id, {"Operation": operation, **named})
    else:
        note = PlanNote(operation, source.root.id, named)
    return replace(source, explanation=replace(note, children=(source.explanation,)))


# -- running ----------------------------------------------------------------------------------


async def _analyze(
    execution: Execution, statement: Statement, plan: QueryPlan
) -> tuple[QueryStatistics | None, float]:
    runtime = execution.services.runtime
    started_s = runtime.monotonic()
    match statement:
        case Query() | Declare():
            statistics = await _run(execution, plan)
            return statistics, statistics.elapsed_ms
        case Insert():
            result = await writes.run_insert(execution, statement)
        case Update():
            result = await writes.run_update(execution, statement)
        case Delete():
            result = await writes.run_delete(execution, statement)
        case _:
            raise FeatureNotSupported("EXPLAIN ANALYZE of this statement is not supported")
    await result.close()
    return None, (runtime.monotonic() - started_s) * 1000


async def _run(execution: Execution, plan: QueryPlan) -> QueryStatistics:
    run = await execution.run(plan)
    try:
        await _drain(run.batches())
    finally:
        await run.close()
    return run.statistics


async def _drain(batches: AsyncIterator[object]) -> None:
    async for _ in batches:
        pass


def actuals_of(statistics: QueryStatistics) -> Actuals:
    """The tasks' work, by stage."""
    by_stage: dict[int, list[TaskActuals]] = {}
    for task in statistics.tasks:
        by_stage.setdefault(task.stage_id, []).append(
            TaskActuals(
                node_id=task.node_id,
                rows=task.rows,
                bytes=task.bytes,
                milliseconds=task.elapsed_ms,
                sent_bytes=task.sent_bytes,
                spilled_bytes=task.spilled_bytes,
            )
        )
    return by_stage
