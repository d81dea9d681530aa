"""From a bound query to its plan, step by step."""

from __future__ import annotations

from catalog.model import Table
from planner.algebra import Node
from planner.algebra_build import build
from planner.bound import BoundQuery
from planner.context import PlannerContext
from planner.optimizer.distribute import Distributor
from planner.optimizer.explanation import explanation_of
from planner.optimizer.reduction import reduce_aggregates
from planner.optimizer.rules import RULES
from planner.optimizer.rules.columns import prune_columns
from planner.optimizer.statistics import Estimator
from planner.plan import QueryPlan
from planner.stages import StageBuilder


def plan_query(bound: BoundQuery, context: PlannerContext) -> QueryPlan:
    """The distributed plan of a bound query; every bound query has one."""
    logical = logical_plan(bound)
    estimator = Estimator(context.catalog)
    logical = reduce_aggregates(logical, estimator)
    physical, where = Distributor(context, estimator).physical(logical)
    # Exchanges carry only what their readers need.
    physical = prune_columns(physical)
    stages = StageBuilder(estimator)
    built = stages.build(physical, where.nodes)
    rows = estimator.profile(physical).rows
    return QueryPlan(
        built,
        bound.columns,
        context.catalog.version,
        tuple(sorted({r.source.id for r in bound.relations if isinstance(r.source, Table)})),
        explanation_of(physical, logical, stages.stage_of, len(built), estimator),
        rows,
    )


def logical_plan(bound: BoundQuery) -> Node:
    """The algebra of the query after all rules."""
    node = build(bound)
    for rule in RULES:
        node = rule(node)
    return node
