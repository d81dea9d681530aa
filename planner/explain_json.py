"""EXPLAIN (FORMAT JSON), with PostgreSQL's keys first, so that plan viewers open it.

Viewers want costs and, for ANALYZE, actual rows, times and loops on every node. Costs here are
rows put out below and at a node, in PostgreSQL's unit of a tuple's work. Actuals are measured
a stage: its topmost node has the stage's, the nodes below it in the stage their share unknown,
which is shown as the stage's time and the planned rows. Ours are `Stage`, `Nodes`, `Fragments`,
`Column Groups`, `Join Method`, `Exchange`, `Plan Bytes`, `Tasks` and, at the top, `Stages`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeAlias

from planner.explain_tree import Actuals, TaskActuals
from planner.plan import PlanNote, QueryPlan, Stage

Json: TypeAlias = "str | int | float | list[Json] | dict[str, Json]"

CPU_TUPLE_COST = 0.01


def explain_json(
    plan: QueryPlan, actuals: Actuals | None = None, *, total_milliseconds: float | None = None
) -> str:
    """The document of EXPLAIN (FORMAT JSON)."""
    stages = {stage.id: stage for stage in plan.stages}
    document: dict[str, Json] = {"Plan": _node(plan.explanation, stages, actuals, None)[0]}
    document["Stages"] = [_stage(stage, actuals) for stage in plan.stages]
    if total_milliseconds is not None:
        document["Execution Time"] = round(total_milliseconds, 3)
    return json.dumps([document], indent=2)


def _node(
    note: PlanNote, stages: dict[int, Stage], actuals: Actuals | None, above: int | None
) -> tuple[dict[str, Json], float]:
    """The node as viewers read it, and its cost."""
    made = [_node(c, stages, actuals, note.stage_id) for c in note.children]
    children = [child for child, _ in made]
    below = sum(cost for _, cost in made)
    own: dict[str, Json] = {"Node Type": note.node_type}
    if above is not None:
        own["Parent Relationship"] = "Outer"
    own["Parallel Aware"] = False
    own["Startup Cost"] = round(below, 2)
    cost = below + max(_number(note, "Plan Rows"), 1.0) * CPU_TUPLE_COST
    own["Total Cost"] = round(cost, 2)
    own.update(_sizes_first(note))
    stage = stages[note.stage_id]
    own["Stage"] = stage.id
    own["Nodes"] = [int(n) for n in stage.nodes]
    if actuals is not None:
        own.update(_actual(note, actuals.get(stage.id, ()), topmost=note.stage_id != above))
    if children:
        for position, child in enumerate(children):
            child["Parent Relationship"] = "Outer" if position == 0 else "Inner"
        own["Plans"] = list(children)
    return own, cost


def _sizes_first(note: PlanNote) -> dict[str, Json]:
    first = {k: v for k, v in note.properties.items() if k in ("Plan Rows", "Plan Width")}
    rest = {k: v for k, v in note.properties.items() if k not in first}
    return {k: list(v) if isinstance(v, list) else v for k, v in (first | rest).items()}


def _number(note: PlanNote, key: str) -> float:
    value = note.properties.get(key, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def _actual(note: PlanNote, tasks: Sequence[TaskActuals], *, topmost: bool) -> dict[str, Json]:
    slowest = max((t.milliseconds for t in tasks), default=0.0)
    rows = sum(t.rows for t in tasks) if topmost else int(_number(note, "Plan Rows"))
    return {
        "Actual Startup Time": 0.0,
        "Actual Total Time": round(slowest, 3),
        "Actual Rows": rows,
        "Actual Loops": 1 if tasks else 0,
    }


def _stage(stage: Stage, actuals: Actuals | None) -> dict[str, Json]:
    described: dict[str, Json] = {
        "Stage": stage.id,
        "Nodes": [int(n) for n in stage.nodes],
        "Exchange": stage.exchange.kind.value,
        "Plan Rows": round(stage.estimated_rows),
        "Inputs": [i.exchange_id for i in stage.inputs],
        "SQL": stage.sql,
    }
    if stage.exchange.keys:
        described["Hash Key"] = list(stage.exchange.keys)
    if actuals is not None:
        described["Tasks"] = [
            {
                "Node": task.node_id,
                "Actual Rows": task.rows,
                "Actual Bytes": task.bytes,
                "Sent Bytes": task.sent_bytes,
                "Spilled Bytes": task.spilled_bytes,
                "Actual Total Time": round(task.milliseconds, 3),
            }
            for task in actuals.get(stage.id, ())
        ]
    return described
