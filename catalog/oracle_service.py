"""Drives the timestamp oracle on the catalog's leader, and answers `timestamps.take`.

When this node serves as leader, everything of former terms is applied here, the logged ceiling
included: the oracle starts above it. The driver raises the ceiling at once and keeps it ahead by a
timer, so that requests find it high enough; a burst that outruns it waits for the next raise.
The lease is checked *after* the numbers are taken (T1). A node that leads but cannot show its
lease says so with an error, and the asker looks for the leader again.

Every request carries the oldest snapshot in use on its node (T3). From these the same timer has
the horizon of history published (`catalog.horizon`), as an entry of the catalog's log that makes
no version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from catalog.codec import encode_envelope
from catalog.commands import AdvanceHorizon, AnyCommand, Envelope, RaiseCeiling
from catalog.horizon import HorizonKeeper, retention_ms
from catalog.model import NodeId, NodeState
from catalog.oracle import MAX_COUNT, TimestampOracle
from catalog.state import CatalogStateMachine
from catalog.timestamp_client import TakeTimestamps, TimestampsTaken
from cluster.errors import CannotConnectNow, ProgramLimitExceeded, StatementCompletionUnknown
from cluster.probes import Probe, reached
from cluster.raft.group import RaftGroup
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime

METHOD = "timestamps.take"
RAISE_TIMEOUT_S = 2.0
# Between looks at the ceiling while leading.
TEND_S = 0.3
# A taker waits for a raise of the ceiling in steps of this.
RETRY_S = 0.005


class OracleService:
    """One a voter node; serves only while its replica of the catalog leads."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        group: RaftGroup,
        machine: CatalogStateMachine,
        catalog_version: Callable[[], int],
    ) -> None:
        self._runtime = runtime
        self._machine = machine
        self._catalog_version = catalog_version
        self._oracle = TimestampOracle()
        self._horizon = HorizonKeeper()
        # How many keep the numbers for themselves now.
        self._shut = 0
        self._opened = asyncio.Event()
        self._raising: asyncio.Task[None] | None = None
        self._advancing: asyncio.Task[bool] | None = None
        self._tending: asyncio.Task[None] | None = None
        rpc.handle(METHOD, TakeTimestamps, self._serve)
        self.use(group)

    def use(self, group: RaftGroup) -> None:
        """The catalog goes on as this group."""
        self._group = group
        group.on_leadership(self._lead, self._follow)

    # Leadership.

    def _lead(self, term: int) -> None:
        self._oracle.start(self._machine.state.timestamp_ceiling)
        self._horizon.begin(self._runtime.monotonic())
        self._tending = self._runtime.spawn(self._tend(), "oracle")

    def _follow(self) -> None:
        self._oracle.stop()
        self._horizon.end()
        if self._tending is not None:
            self._tending.cancel()
            self._tending = None

    async def _tend(self) -> None:
        while True:
            self._raise_if_wanted()
            self._advance_if_wanted()
            await self._runtime.sleep(TEND_S)

    def close(self) -> None:
        """Stops serving."""
        self._follow()

    def _raise_if_wanted(self) -> None:
        if self._raising is not None and not self._raising.done():
            return
        ceiling = self._oracle.wanted_ceiling(self._runtime.wall_ms())
        if ceiling is not None:
            self._raising = self._runtime.spawn(self._raise(ceiling), "oracle ceiling")

    async def _raise(self, ceiling: int) -> None:
        if await self._log(RaiseCeiling(ceiling)):
            self._oracle.ceiling_logged(ceiling)

    def _advance_if_wanted(self) -> None:
        if self._advancing is not None and not self._advancing.done():
            return
        state = self._machine.state
        nodes = [n.id for n in state.catalog.nodes.values() if n.state is not NodeState.DEAD]
        kept_ms = retention_ms(state.catalog.settings)
        horizon = self._horizon.wanted(
            nodes, self._oracle.last, kept_ms, state.horizon, self._runtime.monotonic()
        )
        if horizon is not None:
            advance = self._log(AdvanceHorizon(horizon))
            self._advancing = self._runtime.spawn(advance, "horizon of history")

    async def _log(self, command: AnyCommand) -> bool:
        try:
            envelope = encode_envelope(Envelope("", command))
            await self._group.propose(envelope, deadline_s=RAISE_TIMEOUT_S)
        except (CannotConnectNow, StatementCompletionUnknown):
            # No longer leader, or no majority: the next look tries again if it still leads.
            return False
        return True

    # Requests.

    async def _serve(
        self, context: CallContext, request: TakeTimestamps, body: bytes | memoryview
    ) -> TimestampsTaken:
        return await self.take(request)

    async def take(self, request: TakeTimestamps) -> TimestampsTaken:
        """Numbers for one request; CannotConnectNow when this node does not lead."""
        if not 1 <= request.count <= MAX_COUNT:
            raise ProgramLimitExceeded(f"cannot take {request.count} timestamps at once")
        first = None
        while first is None:
            while self._shut:
                await self._opened.wait()
            first = self._draw_now(request.count)
            if first is None:
                await self._runtime.sleep(RETRY_S)
        if not self._group.lease_valid():
            reached(Probe.LEASE_LOST)
            raise _not_serving()
        self._horizon.hear(
            NodeId(request.node_id), request.oldest_snapshot, first, self._runtime.monotonic()
        )
        return TimestampsTaken(first, self._catalog_version())

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Nobody else gets a number for the block (`catalog.definition_service`)."""
        self._shut += 1
        self._opened.clear()
        try:
            yield
        finally:
            self._shut -= 1
            if not self._shut:
                self._opened.set()

    async def draw(self, count: int = 1) -> int:
        """The first of so many numbers, whoever is shut out; the lease is the caller's to
        check."""
        while (first := self._draw_now(count)) is None:
            await self._runtime.sleep(RETRY_S)
        return first

    def _draw_now(self, count: int) -> int | None:
        if not self._oracle.serving:
            raise _not_serving()
        first = self._oracle.take(count, self._runtime.wall_ms())
        if first is None:
            self._raise_if_wanted()
        return first


def _not_serving() -> CannotConnectNow:
    return CannotConnectNow("this node does not lead the catalog")
