"""What this node's tablets are told, once in a while, of the rest of the cluster.

- **Closed timestamps** (rule R4): every `CLOSE_EVERY_S` the leaders here close the newest
  timestamp that the oracle has issued, and each node that follows any of them gets one message
  with all of them. A replica that has them serves past reads without asking anybody. Every node
  asks the oracle for that: so it hears of the snapshots in use there, and its time is known there.
- **Coordinators that are gone**: a transaction that is not prepared holds its locks until its
  coordinator speaks no more for a lease's time. Where the coordinator's node is down, or has
  begun anew since it last spoke, nobody will speak again, and the tablet need not wait.

Both are late by a second or two and nothing rests on their coming. Left out: the closed
timestamps of nodes that lead thousands of busy tablets are sent whole each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import msgspec

from catalog.model import NodeId, TabletId
from catalog.service import CatalogService
from cluster.errors import CannotConnectNow, DqeError
from cluster.raft.group import RaftGroup
from cluster.raft.log import GroupId, tablet_of
from cluster.rpc import CallContext
from cluster.runtime import Runtime
from storage.closed import Closed
from storage.fragments import TransactionId
from storage.node import NodeStorage
from storage.transaction_ids import coordinator_bits, node_bits

logger = logging.getLogger(__name__)

CLOSED_METHOD = "tablet.closed"
CLOSE_EVERY_S = 2.0
# A node counts as gone for its transactions when it has not answered at so many looks.
LOOKS_MISSED = 2


class ClosedTablets(msgspec.Struct, frozen=True, array_like=True):
    """What a leader's node has closed, by group: another incarnation of the tablet has another
    log, and other timestamps."""

    closed: dict[GroupId, Closed]


class TabletWatch:
    """One a node; made with the tablets' manager, whose groups it looks at."""

    def __init__(
        self,
        runtime: Runtime,
        storage: NodeStorage,
        catalog: CatalogService,
        node_id: NodeId,
        groups: Mapping[TabletId, RaftGroup],
    ) -> None:
        self._runtime = runtime
        self._rpc = catalog.rpc
        self._storage = storage
        self._catalog = catalog
        self._book = catalog.book
        self._node_id = node_id
        self._groups = groups
        self._missed: dict[NodeId, int] = {}
        # The start of each node's process by its own word, and when another was noticed here.
        self._started_ms: dict[NodeId, int] = {}
        self._restarted_s: dict[NodeId, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        storage.is_orphan = self.is_orphan
        self._rpc.handle_notice(CLOSED_METHOD, ClosedTablets, self._on_closed)

    def start(self) -> None:
        """Begins to look and to tell."""
        self._tasks = [
            self._runtime.spawn(self._close_forever(), "closed timestamps"),
            self._runtime.spawn(self._look_forever(), "coordinators"),
        ]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    # --- Closed timestamps ---------------------------------------------------------------------

    async def _close_forever(self) -> None:
        while True:
            await self._runtime.sleep(CLOSE_EVERY_S)
            try:
                await self._close()
            except DqeError as error:
                # No timestamp to be had: followers ask their leaders meanwhile.
                logger.info("timestamps stay open for now: %s", error.message)

    async def _close(self) -> None:
        issued, _ = await self._catalog.timestamps.snapshot()
        for node_id, closed in self._closed_for(issued).items():
            address = self._book.address_of(node_id)
            if address is not None:
                self._tell(address, ClosedTablets(closed))

    def _closed_for(self, issued: int) -> dict[NodeId, dict[GroupId, Closed]]:
        messages: dict[NodeId, dict[GroupId, Closed]] = {}
        for tablet_id, group in self._groups.items():
            tablet = self._storage.tablets.get(tablet_id) if group.is_leader else None
            closed = tablet.close_timestamp(issued) if tablet is not None else None
            if closed is None:
                continue
            for member in group.configuration.members:
                if member != self._node_id:
                    messages.setdefault(NodeId(member), {})[group.group_id] = closed
        return messages

    def _tell(self, address: str, message: ClosedTablets) -> None:
        try:
            self._rpc.notify(address, CLOSED_METHOD, message)
        except CannotConnectNow:
            return  # this node is stopping

    def _on_closed(self, _: CallContext, message: ClosedTablets, body: bytes | memoryview) -> None:
        for group_id, closed in message.closed.items():
            tablet_id = TabletId(tablet_of(group_id))
            group = self._groups.get(tablet_id)
            tablet = self._storage.tablets.get(tablet_id)
            if tablet is not None and group is not None and group.group_id == group_id:
                tablet.closed.learn(closed)

    # --- Coordinators --------------------------------------------------------------------------

    async def _look_forever(self) -> None:
        while True:
            await self._runtime.sleep(1.0)
            self.look()

    def look(self) -> None:
        """Notes which nodes answer, and which have begun anew."""
        live = set(self._catalog.liveness.live_nodes())
        for node_id in self._catalog.current.nodes:
            missed = 0 if node_id in live else self._missed.get(node_id, 0) + 1
            self._missed[node_id] = missed
            announced = self._book.announcements.get(node_id)
            if announced is None:
                continue
            if self._started_ms.get(node_id, announced.started_ms) != announced.started_ms:
                self._restarted_s[node_id] = self._runtime.monotonic()
            self._started_ms[node_id] = announced.started_ms

    def is_orphan(self, transaction_id: TransactionId, spoken_for_s: float) -> bool:
        """Whether the coordinator, which last spoke for the transaction then, seems to be gone."""
        of_node = coordinator_bits(transaction_id)
        for node_id, missed in self._missed.items():
            if node_bits(node_id) == of_node:
                restarted_s = self._restarted_s.get(node_id, float("-inf"))
                return missed >= LOOKS_MISSED or spoken_for_s < restarted_s
        return False
