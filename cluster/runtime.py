"""Clock, chance, tasks and threads: the one door through which a node touches them.

A node that reads the clock or draws a random number wherever it likes can never be replayed.
So every component is handed a `Runtime`; `ProductionRuntime` here is backed by the machine,
`cluster.simulation.SimulatedRuntime` by a seed. The rule (checked by a test) is that no other
module of the product calls `time`, `random`, `uuid`, `datetime.now` or `asyncio.create_task`.

Invariants:
- `monotonic` counts the time a machine was suspended, because leases are measured by it.
- A task started by `spawn` is referenced until it ends, and an exception that ends it is
  logged and kept in `failures`; nothing fails in silence.
- A `Worker` runs its calls one after the other in the order they were given.

Left out: priorities among tasks, and any bound on their number; each component bounds its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from random import Random
from typing import Any, Protocol, TypeAlias, TypeVar, TypeVarTuple

import uvloop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

logger = logging.getLogger(__name__)

# Threads that `run_blocking` calls share. More wait in its queue, which has no bound: callers
# are bounded by what they admit.
BLOCKING_THREADS = 32
# Background tasks that failed are remembered for diagnosis, the newest ones only.
FAILURES_KEPT = 100


# What becomes of a call: its result, or None and the error.
Done: TypeAlias = Callable[[T | None, BaseException | None], object]


class Worker(Protocol):
    """One thread of its own: calls run in order, beside the loop and beside `run_blocking`."""

    def begin(self, function: Callable[[], T], done: Done[T]) -> None:
        """Calls `done` on the loop with the function's result, or None and its error."""
        ...

    def start(self, function: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """The function's result or error to come; it runs even where nobody waits any more."""
        ...

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """The function's result; raises what it raises."""
        ...

    def close(self) -> None:
        """Ends the thread once the calls already given are done."""
        ...


class Runtime(Protocol):
    """What a component may know of the world outside its messages and files."""

    @property
    def random(self) -> random.Random:
        """The only source of chance."""
        ...

    def quick_random(self) -> Random:
        """A source of one's own, begun from that one: it asks the kernel nothing, which `random`
        may for every number, but can be guessed, so it is not for secrets."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps back, counts suspended time."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970 by the machine's clock, which may step."""
        ...

    def now(self) -> datetime:
        """The machine's clock as an aware UTC datetime."""
        ...

    def uuid(self) -> uuid.UUID:
        """A random (version 4) UUID."""
        ...

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Starts a background task; if it fails, that is logged and kept."""
        ...

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.Handle:
        """Calls back in this turn of the loop or the next."""
        ...

    def call_later(
        self, delay_s: float, callback: Callable[[*Ts], object], *args: *Ts
    ) -> asyncio.TimerHandle:
        """Calls back after the delay, unless the handle is cancelled first."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Waits."""
        ...

    async def run_blocking(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs a call that blocks (files, DuckDB) off the loop, on shared threads."""
        ...

    def worker(self, name: str) -> Worker:
        """A new thread of one's own."""
        ...


class TaskKeeper:
    """Holds background tasks until they end and remembers how they failed."""

    def __init__(self) -> None:
        # A dict, not a set: iteration follows the order of starting, never addresses.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.failures: deque[tuple[str, BaseException]] = deque(maxlen=FAILURES_KEPT)

    def start(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Starts and holds the task."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            logger.error("background task %s failed", task.get_name(), exc_info=error)
            self.failures.append((task.get_name(), error))

    def running(self) -> list[str]:
        """Names of the tasks now held, oldest first."""
        return [task.get_name() for task in self._tasks]

    async def cancel_all(self) -> None:
        """Cancels every task but the caller's and waits until they have ended."""
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ThreadWorker:
    """A `Worker` on a real thread: a queue there, one wake of the loop back.

    An executor has a future, two locks and a semaphore more for each call, which is a third of
    what a small append to the log costs.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Callable[[], Any], Done[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, function: Callable[[], T], done: Done[T]) -> None:
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(
                target=self._work, args=(loop,), name=self._name, daemon=True
            )
            self._thread.start()
        self._calls.put((function, done))

    def start(self, function: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.begin(partial(function, *args), partial(_settle, future))
        return future

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        return await self.start(function, *args)

    def close(self) -> None:
        self._calls.put(None)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (call := self._calls.get()) is not None:
            function, done = call
            result, error = None, None
            try:
                result = function()
            except BaseException as caught:  # noqa: BLE001 - whoever waits gets it
                error = caught
            try:
                loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits for this, or anything behind it
            del call, function, done, result, error  # nothing outlives its call here


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return  # given up
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class ProductionRuntime:
    """The machine's own clock, entropy, loop and threads. Use it on one event loop only."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._tasks = TaskKeeper()
        self._pool = ThreadPoolExecutor(BLOCKING_THREADS, thread_name_prefix="blocking")
        self._clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    @property
    def random(self) -> random.Random:
        return self._random

    def quick_random(self) -> Random:
        return Random(self._random.getrandbits(128))

    @property
    def failures(self) -> deque[tuple[str, BaseException]]:
        """Name and exception of background tasks that failed, the newest ones."""
        return self._tasks.failures

    def monotonic(self) -> float:
        return time.clock_gettime(self._clock)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def now(self) -> datetime:
        return datetime.now(UTC)

    def uuid(self) -> uuid.UUID:
        return uuid.uuid4()

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        return self._tasks.start(coroutine, name)

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(callback, *args)

    def call_later(
        self, delay_s: float, callback: Callable[[*Ts], object], *args: *Ts
    ) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback, *args)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    async def run_blocking(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, function, *args)

    def worker(self, name: str) -> Worker:
        return ThreadWorker(name)

    async def close(self) -> None:
        """Cancels what still runs in the background and gives the threads back."""
        await self._tasks.cancel_all()
        self._pool.shutdown(wait=False, cancel_futures=True)


def run_production(main: Callable[[ProductionRuntime], Coroutine[Any, Any, T]]) -> T:
    """Runs `main` on a fresh uvloop with a runtime that is closed behind it."""

    async def run() -> T:
        runtime = ProductionRuntime()
        try:
            return await main(runtime)
        finally:
            await runtime.close()

    with asyncio.Runner(loop_factory=partial(uvloop.new_event_loop)) as runner:
        return runner.run(run())
