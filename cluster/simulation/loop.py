"""An event loop whose clock is a number.

When callbacks are ready they run; when none is, the clock jumps to the next timer. There are
no file descriptors and no threads, so the order of everything follows from the order of
calls. A loop with nothing ready, no timer and an unfinished main task is a deadlock, and says
so instead of hanging.

A callback belongs to the machine that its context names (`host`), and runs only while that
machine does.

Python's own loop is subclassed for what tasks, futures and timeouts ask of it; how it turns is
written anew, without selectors, in `_run_once`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, NoReturn, TypeVar

from cluster.simulation.host import HOST, SimulatedHost

T = TypeVar("T")

# A simulation that runs this far has a timer loop without progress.
MAX_TIME_S = 10 * 365 * 86400.0
# Adding a delay to the time may round to just before the timer it was taken from; this much
# early counts as due.
RESOLUTION_S = 1e-9
# Cancelled timers are cleared away when there are so many, and half of all.
MIN_CANCELLED_TIMERS = 100


class SimulationDeadlock(RuntimeError):
    """Nothing is ready, no timer is set, and the main task has not ended."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Virtual time from 0; `time()` moves only while nothing is ready."""

    # Of the base class.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _timer_cancelled_count: int
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._clock_resolution = RESOLUTION_S
        self.turns = 0

    def time(self) -> float:
        return self._now_s

    def resume(self, host: SimulatedHost) -> None:
        """Lets a paused host go on, with what has become due meanwhile."""
        self._ready.extend(host.resume())

    def create_task(
        self,
        coro: Any,
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        task = super().create_task(coro, name=name, context=context)
        host = HOST.get() if context is None else context.get(HOST)
        if host is not None:
            host.own(task)
        return task

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        self._clear_cancelled()
        if not ready:
            self._advance()
        due_s = self._now_s + RESOLUTION_S
        while scheduled and scheduled[0]._when < due_s:  # type: ignore[attr-defined]
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            ready.append(timer)
        self.turns += 1
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            host = handle._context.get(HOST)  # type: ignore[attr-defined]
            if host is not None and (host.paused or host.dead):
                host.hold(handle)
            else:
                handle._run()

    def _advance(self) -> None:
        if self._scheduled:
            self._now_s = max(self._now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
            if self._now_s > MAX_TIME_S:
                raise SimulationDeadlock("simulated time ran away")
        elif not self._stopping:
            raise SimulationDeadlock("every task waits and no timer is set")

    def _clear_cancelled(self) -> None:
        scheduled = self._scheduled
        if self._timer_cancelled_count > MIN_CANCELLED_TIMERS and (
            self._timer_cancelled_count * 2 > len(scheduled)
        ):
            kept = [timer for timer in scheduled if not timer._cancelled]
            for timer in scheduled:
                if timer._cancelled:
                    timer._scheduled = False  # type: ignore[attr-defined]
            heapq.heapify(kept)
            scheduled[:] = kept
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]

    def _write_to_self(self) -> None:
        """Called to wake the loop from another thread; here there is none."""

    def run_in_executor(  # type: ignore[override]  # it never returns, whatever it is given
        self, executor: Any, func: Any, *args: Any
    ) -> NoReturn:
        raise RuntimeError("a simulated loop has no threads; use the runtime's run_blocking")


def run_simulation(main: Coroutine[Any, Any, T], loop: SimulatedLoop | None = None) -> T:
    """Runs the coroutine on a simulated loop until it ends, then cancels what is left."""
    with asyncio.Runner(loop_factory=lambda: loop or SimulatedLoop()) as runner:
        return runner.run(main)
