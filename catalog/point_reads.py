"""Rows by key from wherever their tablet is led, by the shortest way there is.

    read_here   the leader is this node's replica: the row store is read in place
    ask         it is another node's: one frame out, one back, no task at either end

Both read the newest rows (rule R2), or those of a timestamp (R1), under a transaction's own changes
where it has some there (R5), and give None wherever anything must be waited for, found out
or tried again: a transaction about to commit, a lease in doubt, a leader that is not known, a
connection that is not there. `TabletClient.read_stored` is the way that does all that, and gives
the same rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from catalog.leader_search import LeaderWatch
from catalog.model import NodeId, TabletId
from catalog.service import CatalogService
from catalog.tablet_requests import ReadRows, Rows
from catalog.tablets import TabletManager
from cluster.errors import CannotConnectNow
from cluster.rpc import RpcNode
from cluster.rpc_frames import Frame
from storage.fragments import Timestamp, TransactionId
from storage.node import NodeStorage
from storage.row_tables import StoredKey, StoredRow

METHOD = "tablet.ReadRows"
DEADLINE_S = 15.0


class PointReads:
    """One a node."""

    def __init__(
        self,
        rpc: RpcNode,
        storage: NodeStorage,
        catalog: CatalogService,
        tablets: TabletManager,
        watch: LeaderWatch,
        node_id: NodeId,
    ) -> None:
        self._rpc = rpc
        self._storage = storage
        self._catalog = catalog
        self._tablets = tablets
        self._node_id = node_id
        self._watch = watch
        # What gossip said of tablets without a replica here, as long as it is right.
        self._told: dict[TabletId, NodeId] = {}

    def read_here(
        self,
        tablet_id: TabletId,
        fragment_id: int,
        keys: Sequence[StoredKey],
        own: tuple[TransactionId, int] | None = None,
        timestamp: Timestamp | None = None,
    ) -> Sequence[StoredRow | None] | None:
        """The rows, where this node leads the tablet, with what the commands of a transaction
        before that number have changed. Raises 55000 where the tablet has the fragment no more,
        XX001 where its store is damaged."""
        tablet = self._storage.tablets.get(tablet_id)
        if tablet is None or tablet_id in self._storage.fenced:
            return None
        return tablet.read_stored_now(fragment_id, keys, own, timestamp)

    def ask(
        self,
        tablet_id: TabletId,
        fragment_id: int,
        keys: tuple[StoredKey, ...],
        own: tuple[TransactionId, int] | None = None,
        timestamp: Timestamp | None = None,
    ) -> Asked | None:
        """A request for the rows on its way to the leader. Raises CannotConnectNow."""
        leader = self._leader(tablet_id)
        if leader is None or leader == self._node_id:
            return None
        address = self._catalog.address_of(leader)
        request = ReadRows(tablet_id, fragment_id, keys, timestamp, *(own or ()))
        answer = self._rpc.ask(address, METHOD, request, deadline_s=DEADLINE_S)
        if answer is None:
            return None
        return Asked(self._rpc, self._watch, self._told, tablet_id, leader, answer)

    def _leader(self, tablet_id: TabletId) -> NodeId | None:
        """Who is thought to lead, as this node's replica or gossip has it: a hint (rule G4)."""
        known = self._tablets.leader_of(tablet_id) or self._told.get(tablet_id)
        if known is not None:
            return known
        known = self._catalog.liveness.leader_of(tablet_id)
        if known is not None:
            self._told[tablet_id] = known
            return known
        tablet = self._catalog.current.tablets.get(tablet_id)
        if tablet is None or len(tablet.replicas) != 1:
            return None
        return tablet.replicas[0]


class Asked:
    """One request that is out. `answer` may be given another end by who waits for it."""

    __slots__ = ("_leader", "_rpc", "_tablet_id", "_told", "_watch", "answer")

    def __init__(
        self,
        rpc: RpcNode,
        watch: LeaderWatch,
        told: dict[TabletId, NodeId],
        tablet_id: TabletId,
        leader: NodeId,
        answer: asyncio.Future[Frame],
    ) -> None:
        self._rpc = rpc
        self._watch = watch
        self._told = told
        self._tablet_id = tablet_id
        self._leader = leader
        self.answer = answer

    async def rows(self) -> Sequence[StoredRow | None]:
        """The rows; raises what the leader raised, AnswerLost, or what `answer` was given."""
        number = self._watch.watch(self._tablet_id, self._leader, self.answer)
        try:
            await self.answer
        except CannotConnectNow:
            return self._rows()  # raises it
        finally:
            self._watch.end(number)
        return self._rows()

    def then(self, done: Callable[[Callable[[], Sequence[StoredRow | None]]], None]) -> None:
        """The same without a task that waits: calls back with what gives the rows, or raises."""
        number = self._watch.watch(self._tablet_id, self._leader, self.answer)

        def answered(_: asyncio.Future[Frame]) -> None:
            self._watch.end(number)
            done(self._rows)

        self.answer.add_done_callback(answered)

    def _rows(self) -> Sequence[StoredRow | None]:
        try:
            return self._rpc.answer_of(self.answer.result(), Rows).rows
        except CannotConnectNow:
            self._told.pop(self._tablet_id, None)
            raise
