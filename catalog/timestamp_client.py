"""How a node asks the oracle: batched, never with an answer older than the question (T2, T3).

Everyone who wants a number joins the batch being gathered; a batch is sent when it has a waiter
and fewer than `MAX_IN_FLIGHT` requests are out. A waiter is answered only by the request that
carried its batch, which was sent after it began to wait: otherwise a commit acknowledged
between the older request and the wait could be missed by a snapshot that came later.

All snapshots of a batch share one number; every commit gets its own. Every request carries the
oldest snapshot still in use on this node, and every answer the version of the catalog.

A request whose answer is lost is sent again: numbers are cheap, and one that nobody got is
never used. Whom to ask is found through `Transport.leader`; a wrong or deposed leader answers
with an error and the client looks again until the waiter's deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from catalog.oracle import milliseconds_of
from cluster.errors import CannotConnectNow, DqeError
from cluster.runtime import Runtime

MAX_IN_FLIGHT = 4
REQUEST_TIMEOUT_S = 2.0
RETRY_PAUSE_S = 0.02
# Outlasts an election; a statement says soon that the catalog has no majority.
DEADLINE_S = 5.0


class TakeTimestamps(msgspec.Struct, frozen=True):
    """Asks for `count` consecutive numbers. `oldest_snapshot` is 0 when the node reads none."""

    count: int
    node_id: int
    oldest_snapshot: int


class TimestampsTaken(msgspec.Struct, frozen=True):
    """`first` and the numbers behind it are the asker's; none was given to anyone before."""

    first: int
    catalog_version: int


class OracleTransport(Protocol):
    """Carries a request to the node that is thought to lead the catalog."""

    async def take(self, request: TakeTimestamps, deadline_s: float) -> TimestampsTaken:
        """The answer; CannotConnectNow (NotLeader, AnswerLost) to be tried again."""
        ...


@dataclass(slots=True)
class _Batch:
    snapshots: list[asyncio.Future[tuple[int, int]]] = field(default_factory=list)
    commits: list[asyncio.Future[tuple[int, int]]] = field(default_factory=list)

    @property
    def waiters(self) -> list[asyncio.Future[tuple[int, int]]]:
        """Those who still wait; a cancelled caller's future is done."""
        return [waiter for waiter in (*self.snapshots, *self.commits) if not waiter.done()]

    @property
    def count(self) -> int:
        return len(self.commits) + (1 if self.snapshots else 0)


class TimestampClient:
    """One a node. `deadline_s` of each call bounds the wait (57P03 after it)."""

    def __init__(self, runtime: Runtime, node_id: int, transport: OracleTransport) -> None:
        self._runtime = runtime
        self._node_id = node_id
        self._transport = transport
        self._gathering = _Batch()
        self._in_flight = 0
        self._held: Counter[int] = Counter()
        self._newest = 0
        self._newest_s = 0.0

    async def snapshot(self, deadline_s: float = DEADLINE_S) -> tuple[int, int]:
        """A snapshot timestamp and the catalog version to plan with, at least.

        It is above every commit that was acknowledged before the call.
        """
        return await self._wait(self._gathering.snapshots, deadline_s)

    async def commit_timestamp(self, deadline_s: float = DEADLINE_S) -> int:
        """A number that no other transaction has, drawn after the call."""
        timestamp, _ = await self._wait(self._gathering.commits, deadline_s)
        return timestamp

    @contextlib.contextmanager
    def held(self, timestamp: int) -> Iterator[None]:
        """Keeps history at the snapshot from being pruned while the block runs."""
        self._held[timestamp] += 1
        try:
            yield
        finally:
            self._held[timestamp] -= 1
            if not self._held[timestamp]:
                del self._held[timestamp]

    @property
    def newest(self) -> int:
        """The highest number this node was given: whatever is not above it was issued (T4)."""
        return self._newest

    async def now_ms(self) -> int:
        """The oracle's time in milliseconds, or a little less; it is asked only the first time."""
        if not self._newest:
            await self.snapshot()
        passed_s = self._runtime.monotonic() - self._newest_s
        return milliseconds_of(self._newest) + int(passed_s * 1000)

    @property
    def oldest_snapshot(self) -> int:
        """The oldest snapshot in use here; 0 for none."""
        return min(self._held, default=0)

    async def _wait(
        self, queue: list[asyncio.Future[tuple[int, int]]], deadline_s: float
    ) -> tuple[int, int]:
        waiter: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        self._send_if_free()
        try:
            async with asyncio.timeout(deadline_s):
                return await waiter
        except TimeoutError:
            raise CannotConnectNow(
                "no timestamp could be had",
                detail=f"The catalog's leader did not answer within {deadline_s:g} s.",
                hint="A majority of the catalog's voter nodes must be up.",
            ) from None

    def _send_if_free(self) -> None:
        if self._in_flight < MAX_IN_FLIGHT and self._gathering.count:
            batch, self._gathering = self._gathering, _Batch()
            self._in_flight += 1
            self._runtime.spawn(self._ask(batch), "timestamps")

    def _note(self, number: int) -> None:
        if number > self._newest:
            self._newest, self._newest_s = number, self._runtime.monotonic()

    async def _ask(self, batch: _Batch) -> None:
        try:
            while batch.waiters:
                request = TakeTimestamps(batch.count, self._node_id, self.oldest_snapshot)
                try:
                    taken = await self._transport.take(request, REQUEST_TIMEOUT_S)
                except CannotConnectNow:
                    await self._runtime.sleep(RETRY_PAUSE_S)
                    continue
                self._note(taken.first + batch.count - 1)
                _deliver(batch, taken)
        except DqeError as error:
            for waiter in batch.waiters:
                waiter.set_exception(error)
        finally:
            self._in_flight -= 1
            self._send_if_free()


def _deliver(batch: _Batch, taken: TimestampsTaken) -> None:
    number = taken.first
    for waiter in batch.snapshots:
        if not waiter.done():
            waiter.set_result((number, taken.catalog_version))
    number += 1 if batch.snapshots else 0
    for offset, waiter in enumerate(batch.commits):
        if not waiter.done():
            waiter.set_result((number + offset, taken.catalog_version))
