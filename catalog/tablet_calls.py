"""A request reaches the leader of its tablet, wherever that is.

    TabletClient --(leader here)--> TabletServer method --> storage Tablet (`tablet_server`)
                 --(elsewhere)----> RPC --> the same method at the leader's node

A request that surely was not carried out (no connection, not the leader) is sent again, to
whoever leads by then, with the term of `tablet_requests` in it; but a tablet that nobody leads
for `LEADERLESS_S` is given up, whatever the deadline: a statement waits long for a lock, not for
a node that is down. One whose answer was lost is sent again only where whoever asks says so.

Built on this: `tablet_ends` (how transactions end), `tablet_peers` (reads, and what tablets ask
each other), `tablet_rpc` (statements, and all of it as `TabletClient`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
import pyarrow as pa

from catalog import tablet_requests as requests
from catalog.leader_search import LeaderSearch, LeaderWatch, is_leaderless, leaderless
from catalog.model import NodeId, Tablet, TabletId
from catalog.service import CatalogService
from catalog.tablet_requests import Done
from catalog.tablet_server import Handler, Request, TabletServer, method_name
from catalog.tablets import TabletManager
from cluster.errors import CannotConnectNow, ObjectNotInPrerequisiteState, Outcome
from cluster.rpc import RpcNode
from cluster.runtime import Runtime
from storage.fragments import FragmentChange, TransactionId

RETRY_PAUSE_S = 0.05
DEADLINE_S = 30.0
# Long enough for an election, with votes that split; too short for a node that starts again.
LEADERLESS_S = 5.0
# A node that seems down has so long to take a connection.
REACH_S = 1.0

R = TypeVar("R", bound=msgspec.Struct)


class TabletCalls:
    """See the module. One a node."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        catalog: CatalogService,
        tablets: TabletManager,
        server: TabletServer,
        node_id: NodeId,
    ) -> None:
        self._runtime = runtime
        self._rpc = rpc
        self._catalog = catalog
        self._tablets = tablets
        self._server = server
        self._node_id = node_id
        liveness = catalog.liveness
        self._watch = LeaderWatch(
            runtime, node_id, tablets.leader_of, liveness.is_live, liveness.leader_of
        )
        # Where a request was served last, and the term a transaction began with at a tablet.
        self._leaders: dict[TabletId, NodeId] = {}
        self._terms: dict[tuple[TransactionId, TabletId], int] = {}

    @property
    def watch(self) -> LeaderWatch:
        """Looks at requests that are out."""
        return self._watch

    async def _ask(
        self,
        request: Request,
        reply_type: type[R],
        here: Handler,
        deadline_s: float,
        *,
        again: bool = False,
        change: FragmentChange | None = None,
        take_body: Callable[[bytes | memoryview], None] | None = None,
        keys: pa.RecordBatch | None = None,
    ) -> R:
        """Sends the request to the leader, and `again` also after a lost answer."""
        ends_s = self._runtime.monotonic() + deadline_s
        failing_since_s: float | None = None
        tablet_id = TabletId(request.tablet_id)
        search: LeaderSearch | None = None
        while True:
            tablet = self._record(tablet_id)
            if search is None:
                hint = self._leaders.get(tablet_id) or self._tablets.leader_of(tablet_id)
                search = LeaderSearch(tablet, hint, self._catalog.liveness.is_live)
            left_s = max(ends_s - self._runtime.monotonic(), 0.001)
            node_id = search.candidate
            try:
                await self._reach(node_id, left_s)
                with self._watch.watched(tablet_id, node_id):
                    reply = await self._send(
                        node_id, request, reply_type, here, left_s, change, take_body, keys
                    )
            except CannotConnectNow as error:
                self._leaders.pop(tablet_id, None)
                now_s = self._runtime.monotonic()
                failing_since_s = now_s if failing_since_s is None else failing_since_s
                over = now_s - failing_since_s >= LEADERLESS_S or ends_s - now_s <= RETRY_PAUSE_S
                if is_leaderless(error) or (error.outcome is Outcome.UNKNOWN and not again):
                    raise
                if self._is_dropped(tablet_id):
                    raise _gone(tablet_id) from error
                if over:
                    raise leaderless(tablet, error) from error
                if search.refused(error):
                    await self._runtime.sleep(RETRY_PAUSE_S)
            else:
                self._leaders[tablet_id] = node_id
                return reply

    def _record(self, tablet_id: TabletId) -> Tablet:
        tablet = self._catalog.current.tablets.get(tablet_id)
        if tablet is None:
            raise _gone(tablet_id)
        return tablet

    async def _reach(self, node_id: NodeId, deadline_s: float) -> None:
        """Raises CannotConnectNow for a node that seems down and takes no connection: what is
        known not to have been sent was not carried out."""
        if not self._catalog.liveness.is_live(node_id):
            address = self._catalog.address_of(node_id)
            try:
                await self._rpc.reach(address, min(deadline_s, REACH_S))
            except CannotConnectNow as error:
                raise _naming(node_id, address, error) from error

    async def _send(
        self,
        node_id: NodeId,
        request: Request,
        reply_type: type[R],
        here: Handler,
        deadline_s: float,
        change: FragmentChange | None,
        take_body: Callable[[bytes | memoryview], None] | None,
        keys: pa.RecordBatch | None,
    ) -> R:
        if node_id == self._node_id:
            reply = await here(request, deadline_s)
            assert isinstance(reply, reply_type)
            return reply
        body = b"" if keys is None else requests.encode_keys(keys)
        if change is not None:
            assert isinstance(request, requests.Stage)
            length, body = requests.encode_change(change)
            request = msgspec.structs.replace(request, delete_bytes=length)
        address = self._catalog.address_of(node_id)
        try:
            answer = await self._rpc.call(
                address,
                method_name(type(request)),
                request,
                reply_type,
                body=body,
                deadline_s=deadline_s,
            )
        except CannotConnectNow as error:
            raise _naming(node_id, address, error) from error
        if take_body is not None:
            take_body(answer.body)
        return answer.header

    def _term(self, transaction_id: TransactionId, tablet_id: int) -> int:
        return self._terms.get((transaction_id, TabletId(tablet_id)), 0)

    def _begun(self, request: requests.TransactionRequest, done: Done) -> None:
        self._terms.setdefault((request.transaction_id, TabletId(request.tablet_id)), done.term)

    def _is_dropped(self, tablet_id: TabletId) -> bool:
        catalog = self._catalog.current
        return tablet_id not in catalog.tablets and tablet_id < catalog.next_id


def _gone(tablet_id: TabletId) -> ObjectNotInPrerequisiteState:
    return ObjectNotInPrerequisiteState(
        f"tablet {tablet_id} does not exist (any more)",
        hint="The table was changed while the statement was planned; run it again.",
    )


def _naming(node_id: NodeId, address: str, error: CannotConnectNow) -> CannotConnectNow:
    """The same error; where it speaks of an address, it names the node as users know it."""
    message = error.message.replace(f"node at {address}", f"node {node_id} at {address}")
    return type(error)(message, detail=error.detail, hint=error.hint)
