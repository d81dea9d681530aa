"""One switch that stops everything a query does on a node, with the error that stopped it.

Threads that wait and cursors that run register a **waker**; `fail` sets the error and calls
all wakers, from whatever thread. The first error stays: what follows from it is not news.

Invariants:
- a waker registered after the switch is thrown is called at once, so nobody can begin to wait
  and miss it;
- no waker is called, or still being called, once its block is left: what it wakes (a cursor of
  DuckDB) may be gone then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.errors import DqeError


class _Waker:
    """A waker for as long as it is wanted."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call
        # Its own: what one waker waits for must not keep another block from being left.
        self._lock = threading.RLock()

    def call(self) -> None:
        with self._lock:
            if self._call is not None:
                self._call()

    def drop(self) -> None:
        with self._lock:
            self._call = None


class Cancellation:
    """Thread-safe; wakers must not block and must not raise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: DqeError | None = None
        self._wakers: dict[int, _Waker] = {}
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
            waker.call()

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
            waker.call()

    @contextmanager
    def waking(self, waker: Callable[[], object]) -> Iterator[None]:
        """Registers the waker for the length of the block."""
        registered = _Waker(waker)
        with self._lock:
            waker_id = self._next_id
            self._next_id += 1
            self._wakers[waker_id] = registered
            failed = self._error is not None
        try:
            if failed:
                registered.call()
            yield
        finally:
            with self._lock:
                del self._wakers[waker_id]
            registered.drop()
