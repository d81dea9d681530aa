"""Leaves: where the rows of tables lie, and of what is no table."""

from __future__ import annotations

from catalog.model import NodeId
from planner.algebra import Join, Node, Scalar, Scan, SharedScan, TableExpression, TableScan
from planner.localise import localise
from planner.optimizer.alternatives import Alternative, row_cost
from planner.optimizer.distribution import Distribution, Spread, single
from planner.optimizer.operators.joins import two_joined
from planner.optimizer.physical import Alternatives, PhysicalPlanner
from planner.optimizer.statistics import Profile


def scan(planner: PhysicalPlanner, node: Scan, conditions: tuple[Scalar, ...] = ()) -> Alternatives:
    """A table's fragments, without those that the conditions keep out."""
    found = localise(node, conditions, planner.context, planner.nearest)
    if isinstance(found, TableScan):
        return [_table_scan(planner, found)]
    return _groups_joined(planner, found)


def _table_scan(planner: PhysicalPlanner, node: TableScan) -> Alternative:
    whole = planner.profile(node.scan)
    planner.estimator.note(node, whole.with_rows(whole.rows * node.fraction))
    where = _places_of(node, planner.coordinator)
    cost = row_cost(planner.profile(node).rows, where)
    return Alternative(where, cost, lambda: node)


def _places_of(node: TableScan, coordinator: NodeId) -> Distribution:
    """Where a table's rows lie; a scan of no part at all is empty at the coordinator."""
    if node.replicated_on:
        return Distribution(Spread.REPLICATED, node.replicated_on)
    nodes = tuple(sorted({p.node for p in node.places})) or (coordinator,)
    table = node.scan.table
    names = {
        source.id: column.name
        for column, source in zip(node.scan.output, node.scan.sources, strict=True)
    }
    keys = tuple(
        frozenset((names[c],)) if c in names else frozenset[str]() for c in table.partition_columns
    )
    if not keys or not all(keys):
        spread = Spread.SINGLE if len(nodes) == 1 else Spread.SCATTERED
        return Distribution(spread, nodes)
    places = tuple((p.part.ordinal, p.node) for p in node.places)
    return Distribution(Spread.PARTS, nodes, keys, table.colocation_id, places)


def _groups_joined(planner: PhysicalPlanner, node: Node) -> Alternatives:
    """Column groups placed apart, joined on the key one after the other."""
    if isinstance(node, TableScan):
        return [_table_scan(planner, node)]
    assert isinstance(node, Join)
    left, right = _groups_joined(planner, node.left), _groups_joined(planner, node.right)
    first, second = planner.profile(node.left), planner.profile(node.right)
    result = Profile(first.rows, {**first.columns, **second.columns})
    planner.estimator.note(node, result)
    return two_joined(planner, node, left, right, result.size)


def on_coordinator(planner: PhysicalPlanner, node: Node) -> Alternatives:
    return [Alternative(single(planner.coordinator), 0.0, lambda: node)]


def anywhere(planner: PhysicalPlanner, node: Node) -> Alternatives:
    everywhere = tuple(sorted({*planner.nodes, planner.coordinator}))
    return [Alternative(Distribution(Spread.REPLICATED, everywhere), 0.0, lambda: node)]


def table_expression(planner: PhysicalPlanner, node: TableExpression) -> Alternatives:
    return on_coordinator(planner, node) if node.volatile else anywhere(planner, node)


def shared_scan(planner: PhysicalPlanner, node: SharedScan) -> Alternatives:
    assert planner.pinned_to is not None
    where = single(planner.pinned_to, frozenset((node.name,)))
    return [Alternative(where, 0.0, lambda: node)]
