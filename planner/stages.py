"""From the physical plan to stages: cuts the operator tree at its exchanges.

What lies between two exchanges is one stage, one SQL statement (`stages_sql`). Stages are
numbered from the leaves up, each with the exchange of its number behind it; the last is the
root, whose rows go to the client.
"""

from __future__ import annotations

from collections.abc import Sequence

from catalog.model import NodeId, Part
from planner.algebra import (
    Column,
    Exchange,
    GroupScan,
    Node,
    SystemTableScan,
    TableScan,
)
from planner.algebra_scalars import plain_column
from planner.optimizer.statistics import Estimator
from planner.plan import Exchange as PlannedExchange
from planner.plan import (
    ExchangeKind,
    Scan,
    ScanColumn,
    ScanFragment,
    SortKey,
    Stage,
    StageColumn,
    StageInput,
    SystemScan,
)
from planner.stages_sql import StageText


class StageBuilder:
    """Builds the stages of one plan. `stage_of` tells for an exchange which stage feeds it."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._stages: list[Stage] = []
        self._scans = 0
        self.stage_of: dict[int, int] = {}

    def build(self, root: Node, nodes: tuple[NodeId, ...]) -> tuple[Stage, ...]:
        """All stages, in dependency order, the root last."""
        self._add(root, nodes, root.columns, ExchangeKind.RESULT, (), ())
        return tuple(self._stages)

    def next_scan(self) -> int:
        self._scans += 1
        return self._scans

    def feed(self, exchange: Exchange) -> int:
        """The id of the exchange, with the stage that fills it."""
        sort = tuple(
            SortKey(plain_column(k.scalar) or "", k.descending, k.nulls_first)
            for k in exchange.sort
        )
        number = self._add(
            exchange.child, exchange.nodes, exchange.output, exchange.kind, exchange.keys, sort
        )
        self.stage_of[id(exchange)] = number
        return number

    def _add(
        self,
        node: Node,
        nodes: tuple[NodeId, ...],
        output: Sequence[Column],
        kind: ExchangeKind,
        keys: tuple[str, ...],
        sort: tuple[SortKey, ...],
    ) -> int:
        sources = _Sources(self, nodes)
        sql = StageText(sources).select(node, output)
        number = len(self._stages) + 1
        stage = Stage(
            number,
            sql,
            nodes,
            tuple(sources.scans),
            tuple(sources.system_scans),
            tuple(sources.inputs),
            tuple(StageColumn(c.name, c.type) for c in output),
            PlannedExchange(number, kind, keys, sort),
            self._estimator.profile(node).rows,
        )
        self._stages.append(stage)
        return number


class _Sources:
    """What one stage reads, collected while its SQL is written."""

    def __init__(self, builder: StageBuilder, nodes: tuple[NodeId, ...]) -> None:
        self._builder = builder
        self._nodes = nodes
        self.scans: list[Scan] = []
        self.system_scans: list[SystemScan] = []
        self.inputs: list[StageInput] = []

    def exchange(self, node: Exchange) -> str:
        """The table name under which the stage reads the exchange."""
        number = self._builder.feed(node)
        columns = tuple(StageColumn(c.name, c.type) for c in node.output)
        # Kept rows have a known count, without which DuckDB may reorder joins for the worse.
        kept = node.rescannable or node.kind is ExchangeKind.BROADCAST
        self.inputs.append(StageInput(number, columns, kept))
        return f"@input:{number}"

    def scan(self, node: TableScan, group: GroupScan) -> str:
        """The table name under which the stage reads a column group's fragments."""
        number = self._builder.next_scan()
        table = node.scan.table
        position = table.groups.index(group.group)
        self.scans.append(
            Scan(
                number,
                table.id,
                tuple(
                    ScanColumn(column.name, f"c{source.id}", source.type)
                    for column, source in zip(group.output, group.sources, strict=True)
                ),
                self._fragments(node, position),
                node.scan.relation,
                node.ranges,
            )
        )
        return f"@scan:{number}"

    def _fragments(self, node: TableScan, position: int) -> tuple[tuple[ScanFragment, ...], ...]:
        if node.replicated_on:
            copies = tuple(_fragment(place.part, position) for place in node.places)
            return tuple(copies for _ in self._nodes)
        by_node: dict[NodeId, list[ScanFragment]] = {n: [] for n in self._nodes}
        for place in node.places:
            # A part on no node of the stage meets nothing there (see join_methods).
            if place.node in by_node:
                by_node[place.node].append(_fragment(place.part, position))
        return tuple(tuple(by_node[n]) for n in self._nodes)

    def system_scan(self, node: SystemTableScan) -> str:
        number = self._builder.next_scan()
        columns = tuple(
            ScanColumn(column.name, source, column.type)
            for column, source in zip(node.output, node.sources, strict=True)
        )
        table = node.table
        self.system_scans.append(SystemScan(number, table.schema, table.name, columns))
        return f"@scan:{number}"


def _fragment(part: Part, position: int) -> ScanFragment:
    fragment = part.fragments[position]
    return ScanFragment(fragment.id, fragment.tablet_id)
