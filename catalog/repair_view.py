"""The catalog and who answers, as the planning of repair and balance looks at them.

One view serves one round of planning. It counts what each node holds and leads, and what is
planned in the round counts at once, so that ten repairs do not all go to the same idle node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set

from catalog.model import (
    Catalog,
    ColocationId,
    Node,
    NodeId,
    NodeState,
    PartitionMethod,
    Table,
    Tablet,
    TabletId,
)
from catalog.placement import allows, voters_for

DEFAULT_REPLICAS = 3


class RepairView:
    """See the module."""

    def __init__(self, catalog: Catalog, live: Set[NodeId]) -> None:
        self.catalog = catalog
        self.live = live
        self.tablets: dict[TabletId, Tablet] = dict(catalog.tablets)
        self._wanted: dict[TabletId, int] = {}
        self._replicated: set[TabletId] = set()
        for table in (*catalog.tables.values(), *catalog.recuts.values()):
            self._note_wishes(table)
        self.held: Counter[NodeId] = Counter()
        self.led: Counter[NodeId] = Counter()
        self.receiving: Counter[NodeId] = Counter()
        self._held_of: Counter[tuple[ColocationId, NodeId]] = Counter()
        for tablet in self.tablets.values():
            self._count(tablet, 1)

    def _note_wishes(self, table: Table) -> None:
        for part in table.parts:
            for fragment in part.fragments:
                tablet_id = fragment.tablet_id
                if table.method is PartitionMethod.REPLICATED:
                    self._replicated.add(tablet_id)
                self._wanted[tablet_id] = max(self._wanted.get(tablet_id, 1), table.replicas)

    def _count(self, tablet: Tablet, sign: int) -> None:
        for node_id in tablet.replicas:
            self.held[node_id] += sign
            self._held_of[tablet.colocation_id, node_id] += sign
        for node_id in tablet.joining:
            self.receiving[node_id] += sign
        self.led[tablet.replicas[0]] += sign

    def planned(self, tablet: Tablet) -> None:
        """Counts a tablet as it will be."""
        self._count(self.tablets[tablet.id], -1)
        self.tablets[tablet.id] = tablet
        self._count(tablet, 1)

    # What is wanted.

    def is_replicated(self, tablet: Tablet) -> bool:
        """Whether every node is to have a replica."""
        return tablet.id in self._replicated

    def wanted_replicas(self, tablet: Tablet) -> int:
        """How many replicas it is to have; of a replicated table's, as many as there can be."""
        if self.is_replicated(tablet):
            return sum(self.may_keep(tablet, node.id) for node in self.catalog.nodes.values())
        return self._wanted.get(tablet.id, 1)

    def voters_of(self, tablet: Tablet, replicas: int) -> int:
        """How many of that many replicas vote."""
        return voters_for(replicas, tablet.durability, everywhere=self.is_replicated(tablet))

    # Which nodes may.

    def node(self, node_id: NodeId) -> Node | None:
        return self.catalog.nodes.get(node_id)

    def is_permitted(self, tablet: Tablet, node: Node) -> bool:
        """Whether the placement rules let a replica lie there (residency)."""
        return tablet.placement is None or allows(tablet.placement, node)

    def may_keep(self, tablet: Tablet, node_id: NodeId) -> bool:
        """Whether a replica there is as good as any."""
        node = self.node(node_id)
        if node is None or node.state not in (NodeState.ACTIVE, NodeState.DRAINING):
            return False
        return self.is_permitted(tablet, node)

    def may_receive(self, tablet: Tablet, node: Node) -> bool:
        """Whether a new replica may go there now."""
        return (
            node.state is NodeState.ACTIVE
            and node.id in self.live
            and node.id not in tablet.replicas
            and self.is_permitted(tablet, node)
        )

    def candidates(self, tablet: Tablet, kept: Iterable[NodeId]) -> list[NodeId]:
        """Where a new replica may go, the best first: a zone of its own, then the emptiest."""
        places = Counter(self.place_of(node_id) for node_id in kept)

        def cost(node: Node) -> tuple[int, int, int, int]:
            return (
                places[self.place_of(node.id)],
                self._held_of[tablet.colocation_id, node.id],
                self.held[node.id],
                node.id,
            )

        nodes = (n for n in self.catalog.nodes.values() if self.may_receive(tablet, n))
        return [node.id for node in sorted(nodes, key=cost)]

    def place_of(self, node_id: NodeId) -> tuple[str | None, str | None]:
        """Region and zone: nodes of one place are taken to fail together."""
        node = self.node(node_id)
        return (node.region, node.zone) if node is not None else (None, None)

    def of_family(self, tablet: Tablet, node_id: NodeId) -> int:
        """How many tablets of the same tables the node holds."""
        return self._held_of[tablet.colocation_id, node_id]

    def has_quorum(self, tablet: Tablet) -> bool:
        """Whether a majority of those that vote now, as far as is known, answers.

        Who is about to join may not vote yet; who is about to leave may vote still.
        """
        voters = [n for n in tablet.replicas[: tablet.voters] if n not in tablet.joining]
        voters += tablet.leaving
        return 2 * sum(node_id in self.live for node_id in voters) > len(voters)
