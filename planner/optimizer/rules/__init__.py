"""The rules that rewrite the algebra before places are chosen, in the order they are applied.

    or_factors     what every branch of a disjunction demands is taken out
    pushdown       predicates go down; outer joins become inner; constants cross equalities
                   (`equivalences`)
    limits         LIMIT and top-N go below what keeps their rows
    columns        columns nobody reads are dropped

A rule takes an operator tree and gives one with the same answer. Join order and the split of
aggregates depend on where rows lie and are in `optimizer.join_order` and `aggregates`.
"""

from __future__ import annotations

from collections.abc import Callable

from planner.algebra import Node
from planner.optimizer.rules.columns import prune_columns
from planner.optimizer.rules.limits import push_limits
from planner.optimizer.rules.or_factors import factor_disjunctions
from planner.optimizer.rules.pushdown import push_predicates

Rule = Callable[[Node], Node]

RULES: tuple[Rule, ...] = (factor_disjunctions, push_predicates, push_limits, prune_columns)
