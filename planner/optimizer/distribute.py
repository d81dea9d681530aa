"""The physical plan: every operator's alternatives, from the leaves up, and the cheapest.

For each operator there are up to `MAX_ALTERNATIVES` ways to compute it, which differ in where
the rows then lie (`distribution`). An operator on top extends each way by what it needs: most
run wherever their input is; aggregates, windows, sorts and set operations want rows together
and place exchanges where they are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.model import NodeId
from planner.algebra import (
    Aggregate,
    DistinctOn,
    Filter,
    Join,
    Limit,
    Node,
    OneRow,
    Opaque,
    Project,
    Scan,
    SetOperation,
    Shared,
    SharedScan,
    Sort,
    SystemTableScan,
    TableExpression,
    Window,
)
from planner.context import PlannerContext
from planner.optimizer.alternatives import Alternative
from planner.optimizer.distribution import Distribution
from planner.optimizer.operators import (
    grouping,
    joins,
    leaves,
    ordering,
    rows,
    set_operations,
    sharing,
)
from planner.optimizer.physical import PhysicalPlanner, Ways
from planner.optimizer.statistics import Estimator

WAYS: dict[type[Node], Ways] = {
    Scan: leaves.scan,
    SystemTableScan: leaves.on_coordinator,
    OneRow: leaves.anywhere,
    TableExpression: leaves.table_expression,
    SharedScan: leaves.shared_scan,
    Filter: rows.filtered,
    Project: rows.project,
    Join: joins.join,
    Aggregate: grouping.aggregate,
    DistinctOn: grouping.distinct_on,
    Window: grouping.window,
    Sort: ordering.sort,
    Limit: ordering.limit,
    SetOperation: set_operations.set_operation,
    Shared: sharing.shared,
    Opaque: sharing.opaque,
}


@dataclass(frozen=True, slots=True)
class PhysicalPlan:
    """The operators with exchanges between them, where the rows end, what all of it costs."""

    root: Node
    where: Distribution
    cost: float


def cheapest_plan(
    node: Node,
    context: PlannerContext,
    estimator: Estimator,
    nearest: tuple[NodeId, ...] = (),
) -> PhysicalPlan:
    """The cheapest plan, in the order the statement asks for.

    Rows that lie on several nodes go to the client from there; ordered rows are always on one.
    """
    planner = PhysicalPlanner(context, estimator, WAYS, nearest)
    size = planner.size(node)

    def cost_at_coordinator(alternative: Alternative) -> float:
        at_home = alternative.distribution.nodes == (planner.coordinator,)
        return alternative.cost + (0.0 if at_home else size.bytes)

    chosen = min(planner.plan_one_copy(node), key=cost_at_coordinator)
    return PhysicalPlan(chosen.build(), chosen.distribution, cost_at_coordinator(chosen))
