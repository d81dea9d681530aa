"""Localisation: a table becomes the fragments that a query needs of it.

Horizontally, conditions on the partition columns keep parts out (`catalog.pruning`).
Vertically, a column group is read only where one of its columns is needed; several groups are
put together again on the key. Groups that lie on the same nodes part by part are joined where
they are, inside one `TableScan`; groups placed elsewhere are scans of their own, joined like
any two tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from catalog.model import Column as TableColumn
from catalog.model import (
    ColumnGroup,
    ColumnId,
    NodeId,
    Part,
    PartitionMethod,
    Table,
    TabletId,
)
from catalog.pruning import prune
from planner.algebra import (
    Column,
    GroupScan,
    Join,
    JoinKind,
    Node,
    PartPlace,
    Scalar,
    Scan,
    TableScan,
)
from planner.algebra_scalars import column_scalar, is_literal_boolean, scalar_of
from planner.algebra_text import readable
from planner.bound import column_labels
from planner.context import PlannerContext
from planner.localise_ranges import ranges_of
from planner.localise_restrictions import restrictions_of
from storage.read_sets import RowRange
from storage.types import BOOL


@dataclass(frozen=True, slots=True)
class _GroupColumns:
    """What is read of one column group."""

    group: ColumnGroup
    output: tuple[Column, ...]
    sources: tuple[TableColumn, ...]


def localise(
    scan: Scan,
    conditions: Sequence[Scalar],
    context: PlannerContext,
    nearest: tuple[NodeId, ...] = (),
) -> Node:
    """The scan over fragments; the conditions, which hold above it, keep parts out. With all nodes
    given, the nearest first, each tablet is read at its nearest replica."""
    parts, reason = _remaining_parts(scan, conditions)
    ranges = ranges_of(scan, conditions) if parts else ()
    wanted = _needed_groups(scan)
    scans = [
        _table_scan(scan, some, parts, reason, ranges, context, nearest)
        for some in _side_by_side(wanted, parts, scan.table, context, nearest)
    ]
    node: Node = scans[0]
    for other in scans[1:]:
        node = Join(JoinKind.INNER, node, other, _key_equalities(scan, scans[0], other))
    return node


def _remaining_parts(scan: Scan, conditions: Sequence[Scalar]) -> tuple[tuple[Part, ...], str]:
    table = scan.table
    if any(is_literal_boolean(c, False) for c in conditions):
        return (), "the condition is false"
    if not table.partition_columns:
        return table.parts, ""
    columns = {
        column.name: source
        for column, source in zip(scan.output, scan.sources, strict=True)
        if source.id in table.partition_columns
    }
    restrictions, used = restrictions_of(conditions, columns)
    if not restrictions:
        return table.parts, ""
    parts = prune(table, restrictions)
    if len(parts) == len(table.parts):
        return table.parts, ""
    return parts, " AND ".join(readable(c, scan.alias) for c in used)


def _needed_groups(scan: Scan) -> list[_GroupColumns]:
    """The groups that hold the scan's columns; key columns come with the first of them."""
    table = scan.table
    key = frozenset(table.key)
    pairs = list(zip(scan.output, scan.sources, strict=True))
    groups = [
        g for g in table.groups if any(s.id in g.columns for _, s in pairs if s.id not in key)
    ]
    groups = groups or [min(table.groups, key=lambda g: len(g.columns))]
    several = len(groups) > 1
    found: list[_GroupColumns] = []
    for position, group in enumerate(groups):
        own = [(c, s) for c, s in pairs if s.id in group.columns and s.id not in key]
        if several:
            own = [*_named_key(scan, position), *own]
        else:
            own = pairs
        found.append(_GroupColumns(group, tuple(c for c, _ in own), tuple(s for _, s in own)))
    return found


def _named_key(scan: Scan, position: int) -> Iterator[tuple[Column, TableColumn]]:
    """The key columns under names of their own in all groups but the first."""
    for column_id in scan.table.key:
        source = scan.table.column(column_id)
        yield Column(key_name(scan, source, position), source.type), source


def key_name(scan: Scan, source: TableColumn, position: int) -> str:
    name = f"{scan.alias}.{column_labels(scan.table)[source.id]}".replace("\x00", "~")
    return name if position == 0 else f"{name}~{position}"


def _side_by_side(
    wanted: Sequence[_GroupColumns],
    parts: tuple[Part, ...],
    table: Table,
    context: PlannerContext,
    nearest: tuple[NodeId, ...],
) -> list[list[_GroupColumns]]:
    """The groups, those together whose fragments lie on the same nodes part by part."""
    if len(wanted) == 1 or table.method is PartitionMethod.REPLICATED:
        return [list(wanted)]
    together: dict[tuple[NodeId, ...], list[_GroupColumns]] = {}
    for columns in wanted:
        nodes = tuple(
            node_for(part.fragments[_position(table, columns.group)].tablet_id, context, nearest)
            for part in parts
        )
        together.setdefault(nodes, []).append(columns)
    return list(together.values())


def _position(table: Table, group: ColumnGroup) -> int:
    return table.groups.index(group)


def _table_scan(
    scan: Scan,
    columns: Sequence[_GroupColumns],
    parts: tuple[Part, ...],
    reason: str,
    ranges: tuple[RowRange, ...],
    context: PlannerContext,
    nearest: tuple[NodeId, ...],
) -> TableScan:
    table = scan.table
    first = _position(table, columns[0].group)
    output = tuple(c for group in columns for c in group.output)
    sources = tuple(s for group in columns for s in group.sources)
    replicated = table.method is PartitionMethod.REPLICATED
    # A replicated table has many nodes to choose from, later.
    places = tuple(
        PartPlace(
            part, tablet, context.node_id if replicated else node_for(tablet, context, nearest)
        )
        for part in parts
        for tablet in (part.fragments[first].tablet_id,)
    )
    return TableScan(
        output,
        Scan(output, table, scan.alias, sources, scan.relation),
        tuple(GroupScan(c.group, c.output, c.sources) for c in columns),
        tuple(
            tuple(
                column.name
                for column, source in zip(c.output, c.sources, strict=True)
                if source.id in table.key
            )
            for c in columns
        )
        if len(columns) > 1
        else (),
        places,
        copies_of(places[0].tablet_id, context) if replicated and places else (),
        reason,
        1.0 if parts else 0.0,
        ranges,
    )


def _key_equalities(scan: Scan, left: TableScan, right: TableScan) -> tuple[Scalar, ...]:
    conditions: list[Scalar] = []
    for column_id in scan.table.key:
        sides = [_column_of(side, column_id) for side in (left, right)]
        node = exp.EQ(this=column_scalar(sides[0]).node, expression=column_scalar(sides[1]).node)
        conditions.append(scalar_of(node, BOOL))
    return tuple(conditions)


def _column_of(scan: TableScan, column_id: ColumnId) -> Column:
    pairs = zip(scan.scan.output, scan.scan.sources, strict=True)
    return next(column for column, source in pairs if source.id == column_id)


def node_for(
    tablet_id: TabletId, context: PlannerContext, nearest: tuple[NodeId, ...] = ()
) -> NodeId:
    """The node asked for a tablet: of its replicas that live the nearest, where that is wanted, or
    the preferred one; else the preferred one."""
    replicas = context.catalog.tablets[tablet_id].serving
    live = [n for n in replicas if n in context.live_nodes]
    if nearest:
        return min(live or replicas, key=nearest.index)
    return live[0] if live else replicas[0]


def copies_of(tablet_id: TabletId, context: PlannerContext) -> tuple[NodeId, ...]:
    """The nodes that have a copy of a replicated tablet and live, sorted."""
    replicas = context.catalog.tablets[tablet_id].serving
    live = [n for n in replicas if not context.live_nodes or n in context.live_nodes]
    return tuple(sorted(live or replicas))
