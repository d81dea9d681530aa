"""The runtime of one simulated node, or of all of them.

Every node of a simulation shares the loop and so the true time; each may have its own skew of
the wall clock, a monotonic clock that began elsewhere and runs a little faster or slower, and
its own stream of chance, drawn from the seed and the node's name.

With a host, what the node starts belongs to that host, which may be paused or die. Without one
`stop` is a crash: every task the node started is cancelled without a word to the others. Code
in `finally` blocks then still runs, as it does not in a real crash, so whatever must not
survive (unsynced writes, sockets) is dropped by the simulated disk and network before.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar, TypeVarTuple

from cluster.runtime import Done, TaskKeeper, Worker
from cluster.simulation.host import SimulatedHost

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# The simulated wall clock starts here: 2026-01-01 UTC.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
# A blocking call takes up to this long of simulated time.
BLOCKING_S = 0.002


class SimulatedWorker:
    """Runs calls in place, one after the other, after a little simulated time."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime
        self._turn = asyncio.Lock()

    def begin(self, function: Callable[[], T], done: Done[T]) -> None:
        self._runtime.spawn(self._tell(function, done), "worker")

    async def _tell(self, function: Callable[[], T], done: Done[T]) -> None:
        try:
            result = await self.run(function)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            done(None, error)
        else:
            done(result, None)

    def start(self, function: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        return self._runtime.spawn(self.run(function, *args), "worker")

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        async with self._turn:
            return await self._runtime.run_blocking(function, *args)

    def close(self) -> None:
        return


class SimulatedRuntime:
    """`cluster.runtime.Runtime` on a simulated loop; use it inside the loop only."""

    def __init__(
        self,
        seed: int | str,
        name: str = "",
        *,
        wall_skew_s: float = 0.0,
        clock_start_s: float = 0.0,
        clock_rate: float = 1.0,
        host: SimulatedHost | None = None,
    ) -> None:
        self._random = random.Random(f"{seed}/{name}")
        self.wall_skew_s = wall_skew_s
        # A blocking call takes up to this long; a slow disk is a node on which it is more.
        self.blocking_s = BLOCKING_S
        self._clock_start_s = clock_start_s
        self._clock_rate = clock_rate
        self._host = host
        self._tasks = TaskKeeper()
        self._stopped = False

    @property
    def random(self) -> random.Random:
        return self._random

    def quick_random(self) -> Random:
        return Random(self._random.getrandbits(128))

    @property
    def failures(self) -> deque[tuple[str, BaseException]]:
        """Name and exception of background tasks that failed."""
        return self._tasks.failures

    def monotonic(self) -> float:
        return self._clock_start_s + self._clock_rate * asyncio.get_running_loop().time()

    def now(self) -> datetime:
        true_s = asyncio.get_running_loop().time()
        return EPOCH + timedelta(seconds=true_s + self.wall_skew_s)

    def wall_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        if self._host is None:
            task = self._tasks.start(coroutine, name)
        else:
            task = self._host.context.run(self._tasks.start, coroutine, name)
        if self._stopped:
            task.cancel()
        return task

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.Handle:
        loop = asyncio.get_running_loop()
        return loop.call_soon(self._unless_stopped, callback, *args, context=self._context)

    def call_later(
        self, delay_s: float, callback: Callable[[*Ts], object], *args: *Ts
    ) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        true_s = delay_s / self._clock_rate
        return loop.call_later(true_s, self._unless_stopped, callback, *args, context=self._context)

    @property
    def _context(self) -> Context | None:
        return None if self._host is None else self._host.context

    def _unless_stopped(self, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        if not self._stopped:
            callback(*args)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / self._clock_rate)

    async def run_blocking(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        await asyncio.sleep(self._random.random() * self.blocking_s)
        return function(*args)

    def worker(self, name: str) -> Worker:
        return SimulatedWorker(self)

    async def stop(self) -> None:
        """The node is gone: its tasks are cancelled, its timers say nothing any more."""
        self._stopped = True
        await self._tasks.cancel_all()
