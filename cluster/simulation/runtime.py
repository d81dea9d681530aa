"""The runtime of one simulated node, or of all of them.

Every node of a simulation shares the loop and so the true time; each may have its own skew of
the wall clock and its own stream of chance, drawn from the seed and the node's name.

`stop` is a crash: every task the node started is cancelled without a word to the others. Code
in `finally` blocks still runs, as it does not in a real crash, so whatever must not survive
(unsynced writes, sockets) is dropped by the simulated disk and network before.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

from cluster.runtime import TaskKeeper, Worker

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

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        async with self._turn:
            return await self._runtime.run_blocking(function, *args)

    def close(self) -> None:
        return


class SimulatedRuntime:
    """`cluster.runtime.Runtime` on a simulated loop; use it inside the loop only."""

    def __init__(self, seed: int | str, name: str = "", *, wall_skew_s: float = 0.0) -> None:
        self._random = random.Random(f"{seed}/{name}")
        self._wall_skew_s = wall_skew_s
        self._tasks = TaskKeeper()
        self._stopped = False

    @property
    def random(self) -> random.Random:
        return self._random

    @property
    def failures(self) -> deque[tuple[str, BaseException]]:
        """Name and exception of background tasks that failed."""
        return self._tasks.failures

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.monotonic() + self._wall_skew_s)

    def wall_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = self._tasks.start(coroutine, name)
        if self._stopped:
            task.cancel()
        return task

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(self._unless_stopped, callback, *args)

    def call_later(
        self, delay_s: float, callback: Callable[[*Ts], object], *args: *Ts
    ) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(delay_s, self._unless_stopped, callback, *args)

    def _unless_stopped(self, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        if not self._stopped:
            callback(*args)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    async def run_blocking(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        await asyncio.sleep(self._random.random() * BLOCKING_S)
        return function(*args)

    def worker(self, name: str) -> Worker:
        return SimulatedWorker(self)

    async def stop(self) -> None:
        """The node is gone: its tasks are cancelled, its timers say nothing any more."""
        self._stopped = True
        await self._tasks.cancel_all()
