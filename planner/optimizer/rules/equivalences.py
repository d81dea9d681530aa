"""What equalities between columns say of other columns.

Columns made equal by conditions form classes. A comparison of one member with constants holds
for every member of the same kind of type, and two members joined to a third are joined to each
other, which gives the join order more to choose from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlglot import exp

from planner.algebra import Column, Scalar
from planner.algebra_scalars import (
    COMPARISONS,
    column_scalar,
    equal_columns,
    scalar_of,
    substitute,
)
from storage.types import BOOL, SqlType

MAX_DERIVED = 64


def equal_classes(conditions: Iterable[Scalar]) -> list[dict[str, Column]]:
    """The classes of columns that the conditions make equal, each with two members or more."""
    classes: list[dict[str, Column]] = []
    for condition in conditions:
        if equal_columns(condition) is None:
            continue
        members = {
            c.name: Column(c.name, c.meta.get("type", BOOL))
            for c in condition.node.find_all(exp.Column)
        }
        touched = [k for k in classes if not k.keys().isdisjoint(members)]
        for known in touched:
            members = {**known, **members}
        classes = [k for k in classes if k not in touched]
        classes.append(members)
    return classes


def implied_by_equalities(conditions: Sequence[Scalar]) -> list[Scalar]:
    """Comparisons with constants carried over to equal columns, and missing equalities."""
    classes = equal_classes(conditions)
    if not classes:
        return []
    derived: list[Scalar] = []
    for condition in conditions:
        if len(condition.columns) != 1 or not _compares_with_constant(condition.node):
            continue
        (name,) = condition.columns
        for members in classes:
            own = members.get(name)
            for other in members.values() if own is not None else ():
                assert own is not None
                if other.name != name and _same_values(own.type, other.type):
                    derived.append(substitute(condition, {name: column_scalar(other)}))
    derived += missing_equalities(conditions)
    return derived[:MAX_DERIVED]


def missing_equalities(conditions: Sequence[Scalar]) -> list[Scalar]:
    """The equalities that follow from two others and are not there, at most `MAX_DERIVED`."""
    known = {frozenset(pair) for pair in map(equal_columns, conditions) if pair is not None}
    derived: list[Scalar] = []
    for members in equal_classes(conditions):
        columns = list(members.values())
        for index, left in enumerate(columns):
            for right in columns[index + 1 :]:
                if len(columns) > 2 and frozenset((left.name, right.name)) not in known:
                    node = exp.EQ(
                        this=column_scalar(left).node, expression=column_scalar(right).node
                    )
                    derived.append(scalar_of(node, BOOL))
    return derived[:MAX_DERIVED]


def _compares_with_constant(node: exp.Expr) -> bool:
    """A comparison, IN or BETWEEN of a bare column with constants."""
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, COMPARISONS):
        sides = (node.this, node.expression)
        return any(isinstance(s, exp.Column) for s in sides)
    return isinstance(node, exp.In | exp.Between) and isinstance(node.this, exp.Column)


def _same_values(left: SqlType, right: SqlType) -> bool:
    """Whether equal values of both types compare alike with any constant."""
    return left.kind is right.kind
