"""An event loop whose clock is a number.

When callbacks are ready they run; when none is, the clock jumps to the next timer. There are
no file descriptors and no threads, so the order of everything follows from the order of
calls. A loop with nothing ready, no timer and an unfinished main task is a deadlock, and says
so instead of hanging.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

# A simulation that runs this far has a timer loop without progress.
MAX_TIME_S = 10 * 365 * 86400.0


class SimulationDeadlock(RuntimeError):
    """Nothing is ready, no timer is set, and the main task has not ended."""


class _VirtualSelector(selectors.BaseSelector):
    """Stands where the loop waits for I/O: here waiting is advancing the clock."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise SimulationDeadlock("every task waits and no timer is set")
        if timeout > 0:
            self._advance(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> NoReturn:
        raise RuntimeError("a simulated loop has no files")

    def unregister(self, fileobj: Any) -> NoReturn:
        raise RuntimeError("a simulated loop has no files")

    def get_map(self) -> Mapping[Any, Any]:
        return {}


class SimulatedLoop(asyncio.BaseEventLoop):
    """Virtual time from 0; `time()` moves only while nothing is ready."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._selector = _VirtualSelector(self._advance)
        # Adding a delay to the time may round to just before the timer it was taken from;
        # this much early counts as due.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._now_s

    def _advance(self, seconds: float) -> None:
        self._now_s += seconds
        if self._now_s > MAX_TIME_S:
            raise SimulationDeadlock("simulated time ran away")

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

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
