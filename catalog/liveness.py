"""Simple pings between all nodes: who answers, where they are, which catalog they hold.

Every node calls every other one it knows each `PING_S`. What is learnt are hints (G4): the
planner prefers nodes that answer, DDL does not wait for those that do not, the leader's
membership loop promotes only those that do. Nothing is decided by them alone.

Left out: the cost grows with the square of the number of nodes; gossip replaces it (issue of
its own), behind the same three questions: `is_live`, `live_nodes`, `version_of`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from catalog.addresses import AddressBook, Announcement, Announcements
from catalog.model import NodeId
from cluster.errors import DqeError
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime

METHOD = "catalog.ping"
PING_S = 0.5
PING_TIMEOUT_S = 1.0
LIVE_FOR_S = 2.5
# Sizes are measured and told this seldom.
SIZES_S = 5.0


class Ping(msgspec.Struct, frozen=True):
    """A node's own state, and the addresses it knows. Asked and answered alike.

    `tablet_bytes` is what its replicas occupy, left out of most pings.
    """

    node_id: int
    catalog_version: int
    known: Announcements
    tablet_bytes: dict[int, int] | None = None


class Liveness:
    """This node's view of the others."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        book: AddressBook,
        node_id: int,
        catalog_version: Callable[[], int],
        seeds: tuple[str, ...] = (),
    ) -> None:
        self._runtime = runtime
        self._rpc = rpc
        self._book = book
        self._node_id = node_id
        self._catalog_version = catalog_version
        self._seeds = seeds
        self._heard_s: dict[int, float] = {}
        self._started_s = runtime.monotonic()
        self._versions: dict[int, int] = {}
        self._sizes: dict[int, dict[int, int]] = {}
        self._sizes_told_s = 0.0
        # Set by the node: what its own replicas occupy, in bytes by tablet.
        self.measure_tablets: Callable[[], dict[int, int]] = dict
        self._tasks: list[asyncio.Task[None]] = []
        rpc.handle(METHOD, Ping, self._serve)

    def start(self, own_address: str) -> None:
        """Announces this node and begins to ping."""
        self._book.learn({self._node_id: Announcement(own_address, self._runtime.wall_ms())})
        self._tasks.append(self._runtime.spawn(self._ping_forever(), "pings"))

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def is_live(self, node_id: int) -> bool:
        """Whether the node was heard of lately; this node always is."""
        if node_id == self._node_id:
            return True
        heard_s = self._heard_s.get(node_id)
        return heard_s is not None and self._runtime.monotonic() - heard_s <= LIVE_FOR_S

    def live_nodes(self) -> tuple[NodeId, ...]:
        """Those that are live, by id."""
        ids = sorted({self._node_id, *self._heard_s})
        return tuple(NodeId(node_id) for node_id in ids if self.is_live(node_id))

    def silent_s(self, node_id: int) -> float:
        """For how long the node has not been heard of; 0 while it is live.

        Of a node never heard of, since this node began to listen.
        """
        if self.is_live(node_id):
            return 0.0
        since_s = self._heard_s.get(node_id, self._started_s)
        return self._runtime.monotonic() - since_s

    def version_of(self, node_id: int) -> int:
        """The catalog version the node said it holds; 0 when it never did."""
        return self._versions.get(node_id, 0)

    def tablet_bytes(self, node_id: int) -> Mapping[int, int]:
        """What the node's replicas occupied lately, by tablet; empty when not known."""
        return self._sizes.get(node_id, {})

    async def _ping_forever(self) -> None:
        while True:
            self._measure()
            for address in self._targets():
                self._runtime.spawn(self._ping(address), "ping")
            await self._book.keep()
            await self._runtime.sleep(PING_S)

    def _measure(self) -> None:
        now_s = self._runtime.monotonic()
        if now_s - self._sizes_told_s >= SIZES_S or self._node_id not in self._sizes:
            self._sizes_told_s = now_s
            self._sizes[self._node_id] = self.measure_tablets()

    def _targets(self) -> list[str]:
        known = self._book.announcements
        others = [known[node_id].address for node_id in sorted(known) if node_id != self._node_id]
        # Seeds are asked only while some node has not been heard of: they may be outdated.
        silent = any(not self.is_live(node_id) for node_id in known)
        seeds = self._seeds if silent or not others else ()
        own = self._rpc.address
        return list(dict.fromkeys(a for a in (*others, *seeds) if a and a != own))

    async def _ping(self, address: str) -> None:
        try:
            reply = await self._rpc.call(
                address, METHOD, self._own_ping(), Ping, deadline_s=PING_TIMEOUT_S
            )
        except DqeError:
            # A node that is down, restarting, or of another cluster: it is just not heard.
            return
        self._hear(reply.header)

    def _own_ping(self) -> Ping:
        fresh = self._runtime.monotonic() - self._sizes_told_s < PING_S
        return Ping(
            self._node_id,
            self._catalog_version(),
            dict(self._book.announcements),
            self._sizes.get(self._node_id) if fresh else None,
        )

    async def _serve(self, context: CallContext, ping: Ping, body: bytes | memoryview) -> Ping:
        self._hear(ping)
        return self._own_ping()

    def _hear(self, ping: Ping) -> None:
        self._heard_s[ping.node_id] = self._runtime.monotonic()
        self._versions[ping.node_id] = ping.catalog_version
        if ping.tablet_bytes is not None:
            self._sizes[ping.node_id] = ping.tablet_bytes
        self._book.learn(ping.known)
