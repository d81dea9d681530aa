"""Semi-join reduction: groups that a join will throw away are not computed.

A correlated aggregate becomes a join with an aggregate over a whole table (TPC-H Q2, Q17, Q20):

    part (few) JOIN (SELECT l_partkey, avg(...) FROM lineitem GROUP BY l_partkey) ON p_partkey = ...

Where a relation joined with the group key is much smaller than the keys there are, its keys are
sent ahead: the aggregate's input is semi-joined with a second scan of that relation under its
conditions. Only scans of base tables under total, stable conditions serve, since the second scan
must give the same rows as the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count

from sqlglot import exp

from planner.algebra import (
    Aggregate,
    Column,
    Filter,
    Join,
    JoinKind,
    Node,
    Project,
    Scalar,
    Scan,
    map_children,
)
from planner.algebra_scalars import (
    column_item,
    column_scalar,
    is_total,
    plain_column,
    scalar_of,
    substitute,
)
from planner.optimizer.join_order import Cluster, Element, cluster_of
from planner.optimizer.rules.equivalences import equal_classes
from planner.optimizer.statistics import Estimator, groups
from storage.types import BOOL

# The reducer must leave at most this share of the groups.
WORTHWHILE = 0.2
# Below so many input rows there is nothing to save.
FEW_ROWS = 10_000.0


def reduce_aggregates(node: Node, estimator: Estimator) -> Node:
    """The plan with the inputs of joined aggregates reduced."""
    return _Reducer(estimator).reduced(node)


class _Reducer:
    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._numbers = count(1)

    def reduced(self, node: Node) -> Node:
        cluster = cluster_of(node) if isinstance(node, Join | Filter) else None
        if cluster is None:
            return map_children(node, self.reduced)
        changed = {id(e.node): self._element(e, cluster) for e in cluster.elements}
        return _with_elements(node, changed)

    def _element(self, element: Element, cluster: Cluster) -> Node:
        node = self.reduced(element.node)
        if element.kind in (JoinKind.ANTI, JoinKind.NULL_AWARE_ANTI):
            return node
        aggregate = _aggregate_in(node)
        if aggregate is None or aggregate.sets:
            return node
        if self._estimator.profile(aggregate.child).rows < FEW_ROWS:
            return node
        for key, scan, column in self._reducers(element, aggregate, cluster):
            if self._saves(aggregate, key, scan):
                return _replaced(node, aggregate, self._semi_joined(aggregate, key, scan, column))
        return node

    def _reducers(
        self, element: Element, aggregate: Aggregate, cluster: Cluster
    ) -> Iterator[tuple[Scalar, Node, str]]:
        """A group key, a filtered scan whose column equals it, and that column's name."""
        members = [
            e
            for e in cluster.elements
            if e is not element and e.kind in (JoinKind.INNER, JoinKind.SEMI)
        ]
        conditions = list(cluster.conditions)
        for one in (element, *members):
            conditions += one.conditions
        classes = equal_classes(conditions)
        keys = {k.name: k.scalar for k in aggregate.keys}
        for names in classes:
            for name in names:
                if name not in keys:
                    continue
                for member in members:
                    scan = _filtered_scan(member.node)
                    found = sorted(member.columns.intersection(names))
                    if scan is not None and found:
                        yield keys[name], scan, found[0]

    def _saves(self, aggregate: Aggregate, key: Scalar, scan: Node) -> bool:
        plain = plain_column(key)
        if plain is None:
            return False
        existing = groups(self._estimator.profile(aggregate.child), [plain])
        return self._estimator.profile(scan).rows <= WORTHWHILE * existing

    def _semi_joined(self, aggregate: Aggregate, key: Scalar, scan: Node, name: str) -> Aggregate:
        copy, column = self._copy(scan, name)
        own = plain_column(key)
        assert own is not None
        subject = Column(own, key.type)
        equality = exp.EQ(this=column_scalar(subject).node, expression=column_scalar(column).node)
        condition = scalar_of(equality, BOOL)
        joined = Join(JoinKind.SEMI, aggregate.child, copy, (condition,))
        return replace(aggregate, child=joined)

    def _copy(self, node: Node, wanted: str) -> tuple[Node, Column]:
        """The filtered scan once more, with names of its own, and its one wanted column."""
        assert isinstance(node, Filter)
        scan = node.child
        assert isinstance(scan, Scan)
        alias = f"{scan.alias}#r{next(self._numbers)}"
        renamed = {
            column.name: Column(f"{alias}.{source.name}", column.type)
            for column, source in zip(scan.output, scan.sources, strict=True)
        }
        names = {old: column_scalar(new) for old, new in renamed.items()}
        copy = Scan(tuple(renamed.values()), scan.table, alias, scan.sources, scan.relation)
        filtered = Filter(copy, tuple(substitute(c, names) for c in node.conditions))
        column = renamed[wanted]
        return Project(filtered, (column_item(column),)), column


def _aggregate_in(node: Node) -> Aggregate | None:
    """The aggregate below conditions and projections."""
    while isinstance(node, Filter | Project):
        node = node.child
    return node if isinstance(node, Aggregate) else None


def _filtered_scan(node: Node) -> Filter | None:
    """The relation's filtered scan, where a copy of it gives the same rows."""
    while isinstance(node, Project) and all(i.is_plain for i in node.items):
        node = node.child
    if not isinstance(node, Filter) or not isinstance(node.child, Scan):
        return None
    return node if all(is_total(c) for c in node.conditions) else None


def _replaced(node: Node, old: Node, new: Node) -> Node:
    if node is old:
        return new
    return map_children(node, lambda child: _replaced(child, old, new))


def _with_elements(node: Node, changed: Mapping[int, Node]) -> Node:
    """The joins of a cluster over its changed relations."""
    found = changed.get(id(node))
    if found is not None:
        return found
    return map_children(node, lambda child: _with_elements(child, changed))
