"""The optimiser: from a bound query to a distributed plan.

In the order in which control flows through them:

    planning        `plan_query`: all the steps
    rules           rewrites of the algebra that need no knowledge of places
    constants       what constant expressions are worth
    selectivity     what share of rows conditions let through
    statistics      rows and bytes of each operator, from the catalog's statistics
    reduction       keys of a small relation sent ahead of an aggregate joined with it
    distribute      the cheapest physical plan of a query
    physical        what the operators of one such plan share
    operators       the ways to compute each operator
    join_order      the order of joins
    join_methods    the ways to do one join
    aggregates      aggregates in two steps
    alternatives    plans under comparison, their costs, the exchanges between them
    distribution    where rows lie, the property plans are compared by
    explanation     the plan's operators as EXPLAIN shows them
"""

from planner.optimizer.planning import plan_query

__all__ = ["plan_query"]
