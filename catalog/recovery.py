"""What each node can say for a tablet whose majority is lost: how far its own replica is."""

from __future__ import annotations

import msgspec

from catalog.model import TabletId
from catalog.tablets import TabletManager
from cluster.errors import CannotConnectNow
from cluster.rpc import CallContext, RpcNode
from storage.node import NodeStorage

METHOD = "tablet.position"


class AskPosition(msgspec.Struct, frozen=True):
    """Asks a node about its replica."""

    tablet_id: int


class Position(msgspec.Struct, frozen=True, order=True):
    """How far a replica's log is, and the newest commit its stores have. Later is more."""

    last_term: int
    last_index: int
    newest_commit_ts: int


class RecoveryServer:
    """Answers for this node's replicas."""

    def __init__(self, rpc: RpcNode, storage: NodeStorage, tablets: TabletManager) -> None:
        self._storage = storage
        self._tablets = tablets
        rpc.handle(METHOD, AskPosition, self._serve)

    async def _serve(
        self, context: CallContext, request: AskPosition, body: bytes | memoryview
    ) -> Position:
        group = self._tablets.group(TabletId(request.tablet_id))
        if group is None:
            raise CannotConnectNow(f"tablet {request.tablet_id} is not on this node")
        newest = self._storage.tablet(request.tablet_id).newest_commit_ts
        return Position(group.last_term, group.last_index, newest)
