"""What each node can say where a majority is lost, of a tablet or of the catalog: how far its own
replica is."""

from __future__ import annotations

import msgspec

from catalog.catalog_incarnations import CatalogIncarnation
from catalog.model import TabletId
from catalog.oracle import CEILING_AHEAD_MS, timestamp_at
from catalog.service import CatalogService
from catalog.tablets import TabletManager
from cluster.errors import CannotConnectNow
from cluster.rpc import CallContext, RpcNode
from storage.node import NodeStorage

METHOD = "tablet.position"
CATALOG_METHOD = "catalog.position"


class AskPosition(msgspec.Struct, frozen=True):
    """Asks a node about its replica."""

    tablet_id: int


class Position(msgspec.Struct, frozen=True, order=True):
    """How far a replica's log is, and the newest commit its stores have. Later is more."""

    last_term: int
    last_index: int
    newest_commit_ts: int


class AskCatalogPosition(msgspec.Struct, frozen=True):
    """Asks a node about its copy of the catalog."""


class CatalogPosition(msgspec.Struct, frozen=True, order=True):
    """How far a copy of the catalog is, later is more; and what its node knows besides.

    `told_ts` is about when it was told of anything last; no timestamp above `newest_ts` was
    ever seen there.
    """

    incarnation: CatalogIncarnation
    last_term: int
    last_index: int
    leads: bool
    voters: tuple[int, ...]
    told_ts: int
    newest_ts: int


class RecoveryServer:
    """Answers for this node's replicas."""

    def __init__(
        self, rpc: RpcNode, storage: NodeStorage, tablets: TabletManager, catalog: CatalogService
    ) -> None:
        self._storage = storage
        self._tablets = tablets
        self._catalog = catalog
        rpc.handle(METHOD, AskPosition, self._serve)
        rpc.handle(CATALOG_METHOD, AskCatalogPosition, self._serve_catalog)

    async def _serve_catalog(
        self, context: CallContext, request: AskCatalogPosition, body: bytes | memoryview
    ) -> CatalogPosition:
        catalog, group = self._catalog, self._catalog.group
        if not group.has_caught_up:
            raise CannotConnectNow("the copy of the catalog on this node is not whole")
        commits = [tablet.newest_commit_ts for tablet in self._storage.tablets.values()]
        ceiling = catalog.timestamp_ceiling
        return CatalogPosition(
            catalog.incarnation,
            group.last_term,
            group.last_index,
            group.is_leader,
            group.configuration.voters,
            max(0, ceiling - timestamp_at(CEILING_AHEAD_MS)),
            max([ceiling, catalog.timestamps.newest, *commits]),
        )

    async def _serve(
        self, context: CallContext, request: AskPosition, body: bytes | memoryview
    ) -> Position:
        group = self._tablets.group(TabletId(request.tablet_id))
        if group is None:
            raise CannotConnectNow(f"tablet {request.tablet_id} is not on this node")
        newest = self._storage.tablet(request.tablet_id).newest_commit_ts
        return Position(group.last_term, group.last_index, newest)
