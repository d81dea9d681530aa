"""A cluster for the planning of repair: the real catalog, groups as bare configurations.

`World.round` lets the plan decide once and every tablet's leader go as far as it can; what the
promises of `catalog.repair_plan` forbid is asserted at every step on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.commands import (
    AddNode,
    AnyCommand,
    ConfirmReplicas,
    CreateCluster,
    CreateTable,
    Envelope,
    ForgetNode,
    MoveReplicas,
    SetNodeState,
)
from catalog.definition import (
    ColumnDefinition,
    SchemeDefinition,
    TableDefinition,
    UniqueDefinition,
)
from catalog.model import (
    Catalog,
    NodeId,
    NodeState,
    PartitionMethod,
    Placement,
    Tablet,
    TabletId,
)
from catalog.placement import allows
from catalog.repair_members import HandOver, confirmed, next_step
from catalog.repair_plan import RepairLimits, next_changes
from catalog.state import CatalogState
from cluster.errors import DqeError
from cluster.raft.log import Configuration
from storage.types import INT8


@dataclass(frozen=True)
class Place:
    region: str
    zone: str


class World:
    """See the module."""

    def __init__(self, places: list[Place]) -> None:
        self.state = CatalogState()
        self._commands = 0
        self.groups: dict[TabletId, Configuration] = {}
        self.leaders: dict[TabletId, NodeId] = {}
        self.down: set[NodeId] = set()
        first = places[0]
        self.run(CreateCluster("c", "h1:1", "h1:2", first.region, first.zone))
        for place in places[1:]:
            self.add_node(place)

    @property
    def catalog(self) -> Catalog:
        return self.state.catalog

    @property
    def live(self) -> frozenset[NodeId]:
        return frozenset(n for n in self.catalog.nodes if n not in self.down)

    def run(self, command: AnyCommand) -> None:
        self._commands += 1
        outcome = self.state.apply_envelope(Envelope(f"c{self._commands}", command))
        if isinstance(outcome, DqeError):
            raise outcome

    def add_node(self, place: Place) -> NodeId:
        number = self.catalog.next_node_id
        self.run(AddNode(f"h{number}:1", f"h{number}:2", place.region, place.zone))
        return NodeId(number)

    def table(
        self,
        name: str,
        parts: int = 4,
        replicas: int | None = None,
        region: str | None = None,
        *,
        replicated: bool = False,
    ) -> None:
        scheme = SchemeDefinition(
            method=PartitionMethod.REPLICATED if replicated else PartitionMethod.HASH,
            part_count=None if replicated else parts,
            replicas=None if replicated else replicas,
            placement=Placement(region=region) if region else None,
        )
        columns = (ColumnDefinition("k", INT8),)
        key = UniqueDefinition(("k",))
        self.run(CreateTable(TableDefinition("public", name, columns, key, scheme=scheme)))
        self._found_groups()

    def _found_groups(self) -> None:
        for tablet in self.catalog.tablets.values():
            if tablet.id not in self.groups:
                self.groups[tablet.id] = Configuration.of(
                    tablet.founders, tablet.replicas[tablet.voters :]
                )
                self.leaders[tablet.id] = tablet.replicas[0]

    def kill(self, node_id: NodeId) -> None:
        """It falls silent, and the catalog has noticed."""
        self.down.add(node_id)
        self.run(SetNodeState(node_id, NodeState.DEAD))

    def revive(self, node_id: NodeId) -> None:
        self.down.discard(node_id)
        self.run(SetNodeState(node_id, NodeState.ACTIVE))

    # Rounds.

    def settle(self, rounds: int = 400) -> int:
        """Rounds until nothing is left to do; fails when that does not come."""
        for number in range(rounds):
            if not self.round():
                return number
        raise AssertionError("repair does not come to an end")

    def round(self) -> bool:
        changes = next_changes(self.catalog, self.live, RepairLimits())
        for change in changes:
            if isinstance(change, MoveReplicas):
                self._check_move(change)
            if isinstance(change, ForgetNode):
                assert all(change.node_id not in c.members for c in self.groups.values())
            self.run(change)
        stepped = [self._follow(tablet) for tablet in list(self.catalog.tablets.values())]
        return bool(changes) or any(stepped)

    def _check_move(self, move: MoveReplicas) -> None:
        tablet = self.catalog.tablets[move.tablet_id]
        assert move.before == tablet.replicas
        for node_id in set(move.replicas) - set(tablet.replicas):
            node = self.catalog.nodes[node_id]
            assert node.state is NodeState.ACTIVE
            assert tablet.placement is None or allows(tablet.placement, node)

    def _leader(self, tablet: Tablet) -> NodeId | None:
        """The leader, a new one if it is down; None without a majority."""
        group = self.groups[tablet.id]
        voters = [NodeId(n) for n in group.voters if n in self.live]
        if 2 * len(voters) <= len(group.voters):
            return None
        if self.leaders[tablet.id] not in voters:
            self.leaders[tablet.id] = voters[0]
        return self.leaders[tablet.id]

    def _follow(self, tablet: Tablet) -> bool:
        stepped = False
        while (leader := self._leader(tablet)) is not None:
            group = self.groups[tablet.id]
            step = next_step(group, tablet, leader, self.live, lambda n: n in self.live)
            if step is None:
                break
            stepped = True
            if isinstance(step, HandOver):
                self.leaders[tablet.id] = step.node_id
                continue
            self._check_step(tablet, group, step.configuration)
            self.groups[tablet.id] = step.configuration
        if leader is not None and (news := confirmed(self.groups[tablet.id], tablet)) is not None:
            self.run(ConfirmReplicas(tablet.id, news.joined, news.left))
            stepped = True
        return stepped

    def _check_step(self, tablet: Tablet, before: Configuration, after: Configuration) -> None:
        assert len(set(before.voters) ^ set(after.voters)) <= 1
        live_voters = [n for n in after.voters if n in self.live]
        assert 2 * len(live_voters) > len(after.voters), "a step lost the majority"
        for node_id in set(after.members) - set(before.members):
            node = self.catalog.nodes[NodeId(node_id)]
            assert tablet.placement is None or allows(tablet.placement, node)
