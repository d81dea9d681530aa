"""From a bound query to its plan, step by step."""

from __future__ import annotations

from catalog.model import Table
from planner.algebra import Node, TableScan, walk
from planner.algebra_build import build
from planner.bound import BoundQuery
from planner.context import PlannerContext
from planner.nearness import nearest_nodes
from planner.optimizer.distribute import PhysicalPlan, cheapest_plan
from planner.optimizer.explanation import explanation_of
from planner.optimizer.reduction import reduce_aggregates
from planner.optimizer.rules import RULES
from planner.optimizer.rules.columns import prune_columns
from planner.optimizer.statistics import Estimator
from planner.plan import QueryPlan
from planner.stages import StageBuilder

# Which replicas answer queries of the present, and its values.
READ_REPLICAS = "dqe.read_replicas"
LED, NEAREST, CHEAPEST = "leader", "nearest", "cheapest"
# A replica that does not lead asks its leader how far to follow (rule R3): a small request, many
# at once, weighed as a sixth of a stage's start.
READ_INDEX_COST = 5_000.0


def plan_query(bound: BoundQuery, context: PlannerContext) -> QueryPlan:
    """The distributed plan of a bound query; every bound query has one."""
    logical = logical_plan(bound)
    estimator = Estimator(context.catalog)
    logical = reduce_aggregates(logical, estimator)
    plan = _physical(logical, context, estimator)
    # Exchanges carry only what their readers need.
    physical = prune_columns(plan.root)
    stages = StageBuilder(estimator)
    built = stages.build(physical, plan.where.nodes)
    rows = estimator.profile(physical).rows
    return QueryPlan(
        built,
        bound.columns,
        context.catalog.version,
        tuple(sorted({r.source.id for r in bound.relations if isinstance(r.source, Table)})),
        explanation_of(physical, logical, stages.stage_of, len(built), estimator),
        rows,
    )


def _physical(logical: Node, context: PlannerContext, estimator: Estimator) -> PhysicalPlan:
    """The plan over replicas where tablets are led, or over those that are near: for reads of the
    past always, for those of the present as `dqe.read_replicas` wishes."""
    wish = context.settings.get(READ_REPLICAS, LED)
    if context.nearest or wish == NEAREST:
        near = context.nearest or nearest_nodes(context.catalog, context.node_id)
        return cheapest_plan(logical, context, estimator, near)
    led = cheapest_plan(logical, context, estimator)
    if wish == LED:
        return led
    near = nearest_nodes(context.catalog, context.node_id)
    local = cheapest_plan(logical, context, estimator, near)
    local_cost = local.cost + READ_INDEX_COST * _asking(local.root, context)
    return local if local_cost < led.cost else led


def _asking(physical: Node, context: PlannerContext) -> int:
    """How many tablets are read where they are not led, as far as the catalog tells."""
    tablets = context.catalog.tablets
    places = [p for node in walk(physical) if isinstance(node, TableScan) for p in node.places]
    return len({p.tablet_id for p in places if p.node != tablets[p.tablet_id].serving[0]})


def logical_plan(bound: BoundQuery) -> Node:
    """The algebra of the query after all rules."""
    node = build(bound)
    for rule in RULES:
        node = rule(node)
    return node
