"""Joins: inner, outer and semi joins ordered together, or one join over given inputs."""

from __future__ import annotations

from planner.algebra import Join, JoinChoice, Node, names_of
from planner.algebra_scalars import split_equality
from planner.optimizer.alternatives import Alternative, gather, worth_keeping
from planner.optimizer.join_methods import JoinPlan, considered, join_plans, join_sides
from planner.optimizer.join_order import JoinOrder, cluster_of
from planner.optimizer.physical import Alternatives, PhysicalPlanner
from planner.optimizer.statistics import Size


def join(planner: PhysicalPlanner, node: Join) -> Alternatives:
    together = clustered(planner, node)
    if together is not None:
        return together
    left, right = planner.plan(node.left), planner.plan(node.right)
    if any(c.volatile for c in node.conditions):
        hub = planner.pinned_to or planner.coordinator
        left = [gather(a, planner.size(node.left), hub) for a in left]
        right = [gather(a, planner.size(node.right), hub) for a in right]
    return two_joined(planner, node, left, right, planner.size(node))


def clustered(planner: PhysicalPlanner, node: Node) -> Alternatives | None:
    """The joins from here down ordered together by cost; None where there is nothing to order."""
    cluster = cluster_of(node)
    if cluster is None:
        return None
    order = JoinOrder(cluster, planner.plan, planner.estimator, planner.places, planner.fresh_hash)
    profile, alternatives = order.alternatives()
    planner.estimator.note(node, profile)
    return alternatives


def two_joined(
    planner: PhysicalPlanner, node: Join, left: Alternatives, right: Alternatives, result: Size
) -> Alternatives:
    """The methods to do one join of these inputs."""
    mine, theirs = names_of(node.left), names_of(node.right)
    split = (split_equality(c, mine, theirs) for c in node.conditions)
    equalities = tuple(pair for pair in split if pair is not None)
    first, second = planner.size(node.left), planner.size(node.right)
    sides = join_sides(node.kind, first, second, result, equalities, planner.fresh_hash)
    plans = join_plans(sides, left, right, planner.places)

    def alternative(plan: JoinPlan) -> Alternative:
        def build() -> Node:
            others = considered(plans, plan)
            choice = JoinChoice(plan.method, plan.moved_bytes, others, result.rows)
            return Join(node.kind, plan.left.build(), plan.right.build(), node.conditions, choice)

        return Alternative(plan.distribution, plan.cost, build)

    return worth_keeping([alternative(plan) for plan in plans], result)
