"""One switch that stops everything a query does on a node, with the error that stopped it.

Threads that wait and cursors that run register a **waker**; `fail` sets the error and calls
all wakers, from whatever thread. The first error stays: what follows from it is not news.

Invariant: a waker registered after the switch is thrown is called at once, so nobody can
begin to wait and miss it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.errors import DqeError


class Cancellation:
    """Thread-safe; wakers must not block and must not raise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: DqeError | None = None
        self._wakers: dict[int, Callable[[], object]] = {}
        self._next_id = 0

    @property
    def error(self) -> DqeError | None:
        """What stopped the query, or None."""
        return self._error

    def fail(self, error: DqeError) -> None:
        """Stops everything, unless it was stopped before."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            wakers = list(self._wakers.values())
        for waker in wakers:
            waker()

    def check(self) -> None:
        """Raises the error when there is one."""
        if self._error is not None:
            raise self._error

    def wake(self) -> None:
        """Calls the wakers again, for those that may have missed it (an interrupt that came
        just before the statement it was meant for)."""
        with self._lock:
            wakers = list(self._wakers.values())
        for waker in wakers:
            waker()

    @contextmanager
    def waking(self, waker: Callable[[], object]) -> Iterator[None]:
        """Registers the waker for the length of the block."""
        with self._lock:
            waker_id = self._next_id
            self._next_id += 1
            self._wakers[waker_id] = waker
            failed = self._error is not None
        try:
            if failed:
                waker()
            yield
        finally:
            with self._lock:
                del self._wakers[waker_id]
