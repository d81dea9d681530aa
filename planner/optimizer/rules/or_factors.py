"""Disjunctions: what every branch demands is taken out, what a branch demands of one relation
is demanded ahead.

`(a AND b) OR (a AND c)` becomes `a AND (b OR c)`, which gives TPC-H Q19 its join condition.
Where no branch leaves a relation free, `(x=1 AND y=2) OR (x=3 AND y=4)` also implies
`x=1 OR x=3`, which can be pushed to x's relation while the whole stays above (Q7).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from planner.algebra import Filter, Join, JoinKind, Node, Scalar, map_children, names_of
from planner.algebra_scalars import (
    all_of,
    any_of,
    columns_in,
    conjuncts,
    copy_tree,
    disjuncts,
    is_total,
    scalar_of,
)
from storage.types import BOOL

MAX_BRANCHES = 32


def factor_disjunctions(node: Node) -> Node:
    """The rule: over all filters and inner joins."""
    node = map_children(node, factor_disjunctions)
    if isinstance(node, Filter):
        conditions = _factored(node.conditions, _leaves(node.child))
        return node if conditions is node.conditions else Filter(node.child, conditions)
    if isinstance(node, Join) and node.kind in (JoinKind.INNER, JoinKind.SEMI):
        leaves = [names_of(node.left), names_of(node.right)]
        conditions = _factored(node.conditions, leaves)
        if conditions is not node.conditions:
            return Join(node.kind, node.left, node.right, conditions)
    return node


def _leaves(node: Node) -> list[frozenset[str]]:
    """The columns of each relation of a tree of inner joins."""
    if isinstance(node, Join) and node.kind is JoinKind.INNER:
        return _leaves(node.left) + _leaves(node.right)
    if isinstance(node, Filter):
        return _leaves(node.child)
    return [names_of(node)]


def _factored(
    conditions: tuple[Scalar, ...], leaves: Sequence[frozenset[str]]
) -> tuple[Scalar, ...]:
    if not any(isinstance(c.node, exp.Or) for c in conditions):
        return conditions
    result: list[Scalar] = []
    for condition in conditions:
        if isinstance(condition.node, exp.Or) and not condition.volatile:
            result += _split(condition, leaves)
        else:
            result.append(condition)
    return tuple(result)


def _split(condition: Scalar, leaves: Sequence[frozenset[str]]) -> list[Scalar]:
    branches = [list(conjuncts(b)) for b in disjuncts(condition.node)]
    if len(branches) > MAX_BRANCHES:
        return [condition]
    common = [t for t in branches[0] if all(t in branch for branch in branches[1:])]
    result = [scalar_of(copy_tree(t), BOOL) for t in common]
    if common:
        branches = [[t for t in branch if t not in common] for branch in branches]
        if not all(branches):
            # One branch demands nothing more: it decides.
            return result
        rest = any_of(_conjunction(b) for b in branches)
        assert rest is not None
        result.append(scalar_of(rest, BOOL))
    else:
        result.append(condition)
    for columns in leaves:
        implied = _implied(branches, columns)
        if implied is not None and implied.columns != result[-1].columns:
            result.append(implied)
    return result


def _conjunction(terms: Sequence[exp.Expr]) -> exp.Expr:
    combined = all_of(copy_tree(t) for t in terms)
    assert combined is not None
    return combined


def _implied(branches: Sequence[Sequence[exp.Expr]], columns: frozenset[str]) -> Scalar | None:
    """What all branches together demand of the relation with these columns."""
    demands: list[exp.Expr] = []
    for branch in branches:
        own = [t for t in branch if columns_in(t) and columns_in(t) <= columns]
        if not own:
            return None
        demands.append(_conjunction(own))
    combined = any_of(demands)
    assert combined is not None
    scalar = scalar_of(combined, BOOL)
    return scalar if is_total(scalar) else None
