"""The plan as EXPLAIN shows it: one `PlanNote` an operator, named as PostgreSQL names them.

Built beside the stages, while the operators are still known; `explain` and `explain_json` only
format. Properties use PostgreSQL's own EXPLAIN keys where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlglot import exp

from catalog.model import Durability
from planner.algebra import (
    Aggregate,
    AggregateStep,
    DistinctOn,
    Exchange,
    Filter,
    Item,
    Join,
    JoinKind,
    Limit,
    Node,
    OneRow,
    Opaque,
    Project,
    Scalar,
    SetKind,
    SetOperation,
    Shared,
    SharedScan,
    Sort,
    SortItem,
    SystemTableScan,
    TableExpression,
    TableScan,
    Window,
    walk,
)
from planner.algebra_scalars import equality, substitute
from planner.algebra_text import conjunction_text, readable, relation_name, seen
from planner.explain_words import bytes_text
from planner.optimizer.statistics import Estimator, width_of
from planner.plan import DIVISOR, ExchangeKind, PlanNote

Properties = dict[str, str | int | float | list[str]]

MAX_NESTING = 8
_EXCHANGES = {
    ExchangeKind.GATHER: "Gather",
    ExchangeKind.MERGE: "Gather Merge",
    ExchangeKind.BROADCAST: "Broadcast",
    ExchangeKind.HASH: "Repartition",
}
_JOIN_TYPES = {
    JoinKind.INNER: "Inner",
    JoinKind.LEFT: "Left",
    JoinKind.FULL: "Full",
    JoinKind.SEMI: "Semi",
    JoinKind.ANTI: "Anti",
    JoinKind.NULL_AWARE_ANTI: "Anti",
}


def explanation_of(
    node: Node,
    logical: Node,
    stage_of: Mapping[int, int],
    root_stage: int,
    estimator: Estimator,
) -> PlanNote:
    """The notes of a physical plan. `stage_of` gives for an exchange's id() its stage; the
    logical plan tells what the columns stand for that only the planner named."""
    words = _Words({**_definitions(node), **_definitions(logical)})
    return _Noter(stage_of, estimator, words).note(node, root_stage)


def _definitions(node: Node) -> dict[str, Scalar]:
    """What each computed column with a name of the planner's own is."""
    found: dict[str, Scalar] = {}
    for part in walk(node):
        items: tuple[Item, ...] = ()
        if isinstance(part, Project):
            items = part.items
        elif isinstance(part, Aggregate):
            items = (*part.keys, *part.aggregates)
        elif isinstance(part, Window):
            items = part.functions
        found.update(
            (i.name, i.scalar)
            for i in items
            if "~" in i.name and not i.is_plain and not isinstance(i.scalar.node, exp.Boolean)
        )
    return found


class _Words:
    """Scalars as text, with the planner's own columns written out."""

    def __init__(self, definitions: Mapping[str, Scalar]) -> None:
        self._definitions = definitions

    def scalar(self, scalar: Scalar) -> str:
        for _ in range(MAX_NESTING):
            known = {n: self._definitions[n] for n in scalar.columns if n in self._definitions}
            if not known:
                break
            scalar = substitute(scalar, known)
        return readable(scalar)

    def scalars(self, scalars: Iterable[Scalar]) -> list[str]:
        return [self.scalar(s) for s in scalars]

    def column(self, name: str) -> str:
        found = self._definitions.get(name)
        return self.scalar(found) if found is not None else name

    def condition(self, scalars: Iterable[Scalar]) -> str:
        return conjunction_text(self.scalars(scalars))

    def sort(self, key: SortItem) -> str:
        text = self.scalar(key.scalar) + (" DESC" if key.descending else "")
        if key.nulls_first is not key.descending:
            text += " NULLS FIRST" if key.nulls_first else " NULLS LAST"
        return text


class _Noter:
    def __init__(self, stage_of: Mapping[int, int], estimator: Estimator, words: _Words) -> None:
        self._stage_of = stage_of
        self._estimator = estimator
        self._words = words

    def note(self, node: Node, stage: int) -> PlanNote:
        """The operator and all below it."""
        if isinstance(node, Filter):
            # As in PostgreSQL, a filter is a property of what it filters.
            inner = self.note(node.child, stage)
            key = "Filter" if "Join Type" not in inner.properties else "Join Filter"
            added = {**inner.properties, key: self._words.condition(node.conditions)}
            added["Plan Rows"] = round(self._estimator.profile(node).rows)
            return PlanNote(inner.node_type, inner.stage_id, added, inner.children)
        if isinstance(node, Project):
            return self._project(node, stage)
        node_type, properties = self._described(node)
        below = self._stage_of[id(node)] if isinstance(node, Exchange) else stage
        children = tuple(self.note(c, below) for c in node.children)
        return PlanNote(node_type, stage, {**properties, **self._sizes(node)}, children)

    def _project(self, node: Project, stage: int) -> PlanNote:
        inner = self.note(node.child, stage)
        computed = [i for i in node.items if _is_shown(i)]
        if not computed:
            return inner
        properties: Properties = {"Output": [self._output(i) for i in computed]}
        return PlanNote("Result", stage, {**properties, **self._sizes(node)}, (inner,))

    def _output(self, item: Item) -> str:
        """What is computed, under the name by which other operators show it."""
        text = self._words.scalar(item.scalar)
        name = item.name
        return text if "~" in name or name.startswith("?column?") else f"{name}: {text}"

    def _sizes(self, node: Node) -> Properties:
        rows = self._estimator.profile(node).rows
        if isinstance(node, Join) and node.choice is not None:
            rows = node.choice.rows
        width = sum(width_of(c.type) for c in node.columns)
        return {"Plan Rows": round(rows), "Plan Width": round(width)}

    def _described(self, node: Node) -> tuple[str, Properties]:
        match node:
            case TableScan():
                return "Seq Scan", _scan_properties(node)
            case SystemTableScan():
                name = f"{node.table.schema}.{node.table.name}"
                return "Seq Scan", {"Relation Name": name, "Alias": node.alias}
            case SharedScan():
                return "CTE Scan", {"CTE Name": _shown(node.name)}
            case Shared():
                return "Shared", {"Subplan Name": f"CTE {_shown(node.name)}"}
            case OneRow():
                return "Result", {}
            case TableExpression():
                return "Function Scan", {}
            case Join():
                return _join_properties(node, self._words)
            case Aggregate():
                return _aggregate_properties(node, self._words)
            case DistinctOn():
                return "Unique", {"Keys": self._words.scalars(node.keys)}
            case Window():
                return "WindowAgg", {
                    "Functions": self._words.scalars(f.scalar for f in node.functions)
                }
            case Sort():
                return "Sort", {"Sort Key": [self._words.sort(k) for k in node.keys]}
            case Limit():
                return "Limit", _limit_properties(node)
            case SetOperation():
                return _set_properties(node)
            case Exchange():
                return _EXCHANGES[node.kind], self._exchange_properties(node)
            case Opaque():
                return "Gathered Query", {"Reason": f"not distributed because of {node.reason}"}
        raise AssertionError(f"{type(node).__name__} has no place in a physical plan")

    def _exchange_properties(self, node: Exchange) -> Properties:
        properties: Properties = {"Exchange": self._stage_of[id(node)]}
        if node.keys:
            properties["Hash Key"] = [self._words.column(k) for k in node.keys]
        if node.sort:
            properties["Sort Key"] = [self._words.sort(k) for k in node.sort]
        width = sum(width_of(c.type) for c in node.output)
        properties["Plan Bytes"] = round(self._estimator.profile(node.child).rows * width)
        return properties


def _is_shown(item: Item) -> bool:
    """Whether the user has asked for what is computed: not for a divisor that goes with a
    dividend, nor for the mark of a row that was found."""
    node = seen(item.scalar.node)
    if isinstance(node, exp.Column) or item.name.endswith(DIVISOR):
        return False
    return not (isinstance(node, exp.Boolean) and "~" in item.name)


def _shown(name: str) -> str:
    return name.split("~")[0]


def _scan_properties(node: TableScan) -> Properties:
    table = node.scan.table
    properties: Properties = {"Relation Name": table.name, "Schema": table.schema}
    properties["Alias"] = relation_name(node.scan.alias)
    if node.replicated_on:
        properties["Fragments"] = "replicated, read on the stage's nodes"
    else:
        kept_out = len(table.parts) - len(node.places)
        text = f"{len(node.places)} of {len(table.parts)}"
        properties["Fragments"] = (
            f"{text} ({kept_out} kept out: {node.kept_out})" if kept_out else text
        )
    if table.durability is not Durability.QUORUM:
        properties["Durability"] = table.durability.value
    if len(table.groups) > 1:
        read = [g.group.name for g in node.groups]
        left_out = [g.name for g in table.groups if g.name not in read]
        text = ", ".join(read)
        properties["Column Groups"] = (
            f"{text} (left out: {', '.join(left_out)})" if left_out else text
        )
    return properties


def _join_properties(node: Join, words: _Words) -> tuple[str, Properties]:
    properties: Properties = {"Join Type": _JOIN_TYPES[node.kind]}
    equal = any(equality(c) is not None for c in node.conditions)
    if node.conditions:
        properties["Hash Cond" if equal else "Join Filter"] = words.condition(node.conditions)
    if node.choice is not None:
        moved = bytes_text(node.choice.moved_bytes)
        text = f"{node.choice.method}, moves {moved}"
        others = [f"{method} {bytes_text(amount)}" for method, amount in node.choice.considered]
        properties["Join Method"] = text + (f" (rather than {', '.join(others)})" if others else "")
    return ("Hash Join" if equal else "Nested Loop"), properties


def _aggregate_properties(node: Aggregate, words: _Words) -> tuple[str, Properties]:
    properties: Properties = {"Strategy": "Hashed" if node.keys else "Plain"}
    properties["Partial Mode"] = {
        AggregateStep.WHOLE: "Simple",
        AggregateStep.PARTIAL: "Partial",
        AggregateStep.FINAL: "Finalize",
    }[node.step]
    if node.keys:
        properties["Group Key"] = words.scalars(k.scalar for k in node.keys)
    if node.sets:
        properties["Grouping Sets"] = [
            "(" + ", ".join(words.scalar(node.keys[i].scalar) for i in one) + ")"
            for one in node.sets
        ]
    if node.aggregates:
        final = node.step is AggregateStep.FINAL
        # The final step shows the aggregate that was asked for, not the sum of partial ones.
        properties["Aggregates"] = [
            words.column(a.name) if final else words.scalar(a.scalar) for a in node.aggregates
        ]
    return "Aggregate", properties


def _limit_properties(node: Limit) -> Properties:
    properties: Properties = {}
    if node.count is not None:
        properties["Count"] = node.count
    if node.offset:
        properties["Offset"] = node.offset
    return properties


def _set_properties(node: SetOperation) -> tuple[str, Properties]:
    if node.kind is SetKind.UNION:
        return "Append", {}
    command = node.kind.value.capitalize() + (" All" if node.all else "")
    return "SetOp", {"Command": command}
