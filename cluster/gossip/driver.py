"""Gossip over a node's RPC: a tick every half second, packets as notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cluster.errors import CannotConnectNow
from cluster.gossip.messages import Packet
from cluster.gossip.protocol import Event, Gossip
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime

METHOD = "gossip"


class GossipDriver:
    """Drives one `Gossip` from `start` to `close`; what comes before `start` is dropped.

    `before_tick` is called before each tick, for the node to say what is new of itself;
    `on_event` for each event.
    """

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        before_tick: Callable[[], Awaitable[None]],
        on_event: Callable[[Event], None],
    ) -> None:
        self._runtime = runtime
        self._rpc = rpc
        self._before_tick = before_tick
        self._on_event = on_event
        self._gossip: Gossip | None = None
        self._task: asyncio.Task[None] | None = None
        rpc.handle_notice(METHOD, Packet, self._receive)

    def start(self, gossip: Gossip) -> None:
        self._gossip = gossip
        self._task = self._runtime.spawn(self._tick_forever(gossip), "gossip")

    def close(self) -> None:
        self._gossip = None
        if self._task is not None:
            self._task.cancel()

    async def _tick_forever(self, gossip: Gossip) -> None:
        while True:
            await self._before_tick()
            gossip.tick(self._runtime.monotonic())
            self._carry_out(gossip)
            await self._runtime.sleep(gossip.settings.tick_s)

    def _receive(self, _: CallContext, packet: Packet, body: bytes | memoryview) -> None:
        if self._gossip is not None:
            self._gossip.receive(packet, self._runtime.monotonic())
            self._carry_out(self._gossip)

    def _carry_out(self, gossip: Gossip) -> None:
        for address, packet in gossip.take_packets():
            try:
                # Packets say whom they are meant for, and who answers is news.
                self._rpc.notify(address, METHOD, packet, any_node=True)
            except CannotConnectNow:
                return  # this node is stopping
        for event in gossip.take_events():
            self._on_event(event)
