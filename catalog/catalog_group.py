"""The catalog's Raft group on this node: opened at the start, and again for a later incarnation.

What uses the group is told of each one (`on_group`), so that clients stay connected when the
catalog goes on without its lost majority (`catalog.catalog_incarnations`). One change at a time;
a node that is asked to go on alone does so only for the incarnation that the asker knew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from catalog.catalog_incarnations import (
    CatalogIncarnation,
    begin_incarnation,
    close_and_end,
    keep_incarnation,
    known_incarnation,
)
from catalog.state import CatalogStateMachine
from cluster.errors import DqeError, ObjectNotInPrerequisiteState
from cluster.raft.group import RaftGroup
from cluster.raft.host import RaftHost
from cluster.raft.log import Configuration
from cluster.raft.state_machine import DurableSnapshots, SnapshotStore
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

GO_ON_METHOD = "catalog.go_on_alone"
# What an operator says who gives up what the lost majority may have known.
WORD = "accept data loss"
LOOK_S = 0.02


class GoOnAlone(msgspec.Struct, frozen=True):
    """Asks a node to have the catalog go on with its copy, behind the incarnation `after`.

    `word` is the operator's; `lost` are the nodes given up; no timestamp above `ceiling` was
    handed out.
    """

    word: str
    after: CatalogIncarnation
    lost: tuple[int, ...]
    ceiling: int


class GoneOnAlone(msgspec.Struct, frozen=True):
    """The version of the catalog from which it goes on."""

    version: int


class CatalogGroup:
    """One a node."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        host: RaftHost,
        machine: CatalogStateMachine,
        snapshots: SnapshotStore,
        incarnations: SnapshotStore,
        node_id: int,
        on_group: Callable[[RaftGroup], None],
        is_live: Callable[[int], bool],
    ) -> None:
        """`snapshots` keeps the copy of the catalog, `incarnations` which one it is of."""
        self._runtime = runtime
        self._host = host
        self._machine = machine
        self._durable = DurableSnapshots(machine, snapshots)
        self._incarnations = incarnations
        self._node_id = node_id
        self._on_group = on_group
        self._is_live = is_live
        self._changing = asyncio.Lock()
        self._group: RaftGroup | None = None
        self.incarnation = known_incarnation(incarnations)
        rpc.handle(GO_ON_METHOD, GoOnAlone, self._serve_go_on)

    async def open(self, bootstrap: Configuration | None, newest: CatalogIncarnation) -> None:
        """Opens the newest incarnation that anybody knows of; `bootstrap` founds the first."""
        await self._durable.open()
        async with self._changing:
            await self._begin(max(self.incarnation, newest), bootstrap)

    def hear(self, incarnation: CatalogIncarnation) -> None:
        """Another node follows that one."""
        if incarnation > self.incarnation and self._group is not None:
            self._runtime.spawn(self._follow(incarnation), "catalog of another incarnation")

    async def _follow(self, incarnation: CatalogIncarnation) -> None:
        async with self._changing:
            if incarnation > self.incarnation:
                await self._begin(incarnation)

    async def _serve_go_on(
        self, context: CallContext, request: GoOnAlone, body: bytes | memoryview
    ) -> GoneOnAlone:
        # Once begun it is carried through, whether or not somebody waits for it.
        refusal = await asyncio.shield(
            self._runtime.spawn(self._go_on_alone(request), "catalog goes on")
        )
        if refusal is not None:
            raise refusal
        while not self._leads:
            await self._runtime.sleep(LOOK_S)
        return GoneOnAlone(self._machine.state.catalog.version)

    @property
    def _leads(self) -> bool:
        return self._group is not None and self._group.is_leader

    async def _go_on_alone(self, request: GoOnAlone) -> DqeError | None:
        """What kept it from that."""
        async with self._changing:
            after = self.incarnation
            asked = request.after.number + self._node_id
            if after.founder == self._node_id and after.number == asked:
                return None  # asked again
            refusal = self._refusal(request)
            if refusal is not None:
                return ObjectNotInPrerequisiteState(
                    f"the catalog does not go on with node {self._node_id}: {refusal}"
                )
            end = await close_and_end(self._host, after.group_id)
            lost = tuple(sorted(request.lost))
            await self._begin(after.after(self._node_id, end, lost, request.ceiling))
            return None

    def _refusal(self, request: GoOnAlone) -> str | None:
        group = self._group
        if request.word != WORD:
            return "that is not the operator's word"
        if request.after != self.incarnation or group is None:
            return "it follows another incarnation"
        if group.leader_id is not None and self._is_live(group.leader_id):
            return f"node {group.leader_id} leads it"
        return None if group.has_caught_up else "its copy is not whole"

    async def _begin(
        self, incarnation: CatalogIncarnation, bootstrap: Configuration | None = None
    ) -> None:
        if incarnation != self.incarnation:
            await keep_incarnation(self._incarnations, incarnation)
            self.incarnation = incarnation
        await begin_incarnation(
            self._host, self._machine, self._durable, incarnation, self._node_id
        )
        self._group = await self._host.open_group(
            incarnation.group_id,
            self._durable,
            bootstrap if incarnation.founder == 0 else None,
            is_prompt=True,
        )
        self._on_group(self._group)
