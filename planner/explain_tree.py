"""EXPLAIN as text: PostgreSQL's tree, cut into stages.

    Limit  (rows=10 width=28)
      ->  Sort  (rows=1200 width=28)
            Sort Key: revenue DESC
            ->  Gather  (rows=1200 width=28 size=33 kB)
                  Stage 1 on nodes 1, 2, 3
                  ->  Partial HashAggregate  (rows=1200 width=28)
                        ...

The line `Stage ...` stands where another stage begins. With actuals (EXPLAIN ANALYZE) it tells
what the stage really put out, and in what time, node by node where there are several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.explain_words import bytes_text, nodes_text
from planner.plan import PlanNote, QueryPlan, Stage

# Shown in the first line of a node, or by its name, and not as properties.
_IN_HEADLINE = frozenset(
    {
        "Plan Rows",
        "Plan Width",
        "Plan Bytes",
        "Relation Name",
        "Schema",
        "Alias",
        "Strategy",
        "Partial Mode",
        "Join Type",
        "Exchange",
        "CTE Name",
        "Count",
        "Offset",
        "Command",
    }
)


@dataclass(frozen=True, slots=True)
class TaskActuals:
    """What a stage did on one node: rows and bytes it put out, and how long it ran."""

    node_id: int
    rows: int
    bytes: int
    milliseconds: float
    sent_bytes: int = 0
    spilled_bytes: int = 0


# By stage id; a stage that did not run is missing.
Actuals = Mapping[int, Sequence[TaskActuals]]


def explain_text(
    plan: QueryPlan,
    actuals: Actuals | None = None,
    *,
    costs: bool = True,
    verbose: bool = False,
    total_milliseconds: float | None = None,
) -> list[str]:
    """The lines of EXPLAIN; VERBOSE adds the SQL of each stage."""
    writer = _TextWriter(plan, actuals, costs)
    writer.stage(plan.root, "")
    writer.node(plan.explanation, "", "")
    if verbose:
        for stage in plan.stages:
            writer.lines.append(f"Stage {stage.id} SQL: {stage.sql}")
    if total_milliseconds is not None:
        writer.lines.append(f"Execution Time: {total_milliseconds:.3f} ms")
    return writer.lines


class _TextWriter:
    def __init__(self, plan: QueryPlan, actuals: Actuals | None, costs: bool) -> None:
        self._stages = {stage.id: stage for stage in plan.stages}
        self._actuals = actuals
        self._costs = costs
        self.lines: list[str] = []

    def stage(self, stage: Stage, indent: str) -> None:
        """The line that opens a stage."""
        self.lines.append(f"{indent}Stage {stage.id} on {nodes_text(stage.nodes)}")
        if self._actuals is None:
            return
        tasks = self._actuals.get(stage.id, ())
        self.lines[-1] += f"  ({actual_text(tasks)})"
        if len(tasks) > 1:
            for task in tasks:
                self.lines.append(f"{indent}  Node {task.node_id}: {actual_text([task])}")

    def node(self, note: PlanNote, arrow: str, indent: str) -> None:
        """A node, its properties, and what is below it."""
        self.lines.append(f"{arrow}{headline(note)}{self._sizes(note)}")
        deeper = indent + "  "
        for key, value in note.properties.items():
            if key not in _IN_HEADLINE:
                shown = ", ".join(value) if isinstance(value, list) else value
                self.lines.append(f"{deeper}{key}: {shown}")
        for child in note.children:
            if child.stage_id != note.stage_id:
                self.stage(self._stages[child.stage_id], deeper)
            self.node(child, f"{deeper}->  ", f"{deeper}    ")

    def _sizes(self, note: PlanNote) -> str:
        if not self._costs:
            return ""
        rows = note.properties.get("Plan Rows", 0)
        text = f"rows={rows} width={note.properties.get('Plan Width', 0)}"
        moved = note.properties.get("Plan Bytes")
        if isinstance(moved, int | float):
            text += f" size={bytes_text(moved)}"
        return f"  ({text})"


def headline(note: PlanNote) -> str:
    """The node's name with what PostgreSQL puts into it."""
    properties = note.properties
    name = note.node_type
    if name == "Aggregate":
        hashed = "HashAggregate" if properties.get("Strategy") == "Hashed" else "Aggregate"
        mode = properties.get("Partial Mode")
        name = hashed if mode == "Simple" else f"{mode} {hashed}"
    elif "Join Type" in properties:
        kind = properties["Join Type"]
        stem = "Hash" if name == "Hash Join" else "Nested Loop"
        if kind == "Inner":
            name = "Hash Join" if stem == "Hash" else stem
        else:
            name = f"{stem} {kind} Join"
    elif "Relation Name" in properties:
        relation, alias = properties["Relation Name"], properties["Alias"]
        name += f" on {relation}" + (f" {alias}" if alias != relation else "")
    elif "CTE Name" in properties:
        name += f" on {properties['CTE Name']}"
    elif "Command" in properties:
        name += f" {properties['Command']}"
    return name


def actual_text(tasks: Sequence[TaskActuals]) -> str:
    """What tasks of one stage did together; the time is that of the slowest."""
    if not tasks:
        return "never executed"
    rows = sum(t.rows for t in tasks)
    slowest = max(t.milliseconds for t in tasks)
    text = f"actual rows={rows} size={bytes_text(sum(t.bytes for t in tasks))}"
    sent = sum(t.sent_bytes for t in tasks)
    if sent:
        text += f" sent={bytes_text(sent)}"
    spilled = sum(t.spilled_bytes for t in tasks)
    if spilled:
        text += f" spilled={bytes_text(spilled)}"
    return f"{text} time={slowest:.3f} ms"
