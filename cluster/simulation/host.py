"""One simulated machine's share of the loop: it can be stopped for a while, or for good.

Everything a machine does runs in a context that names it, whoever caused it. So the loop can
set aside what belongs to a machine that is paused (SIGSTOP: timers fall due, messages arrive,
nothing runs until it goes on, and then all of it in order), and throw away what belongs to one
that is dead: its code ends where it was last suspended, no `except` and no `finally` runs.

A dead machine's tasks are kept until the simulation ends. If they were given back while it
runs, Python would close their coroutines, and so run just that code.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

HOST: ContextVar[SimulatedHost | None] = ContextVar("simulated host", default=None)


class SimulatedHost:
    """One life of a machine, from a start to a crash."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.dead = False
        self._set_aside: list[asyncio.Handle] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._death_callbacks: list[Callable[[], object]] = []
        self._context = copy_context()
        self._context.run(HOST.set, self)

    @property
    def context(self) -> Context:
        """A context that names this host, for one callback or task."""
        return self._context.copy()

    @property
    def stopped(self) -> bool:
        """Whether callbacks of this host must not run now."""
        return self.paused or self.dead

    def hold(self, handle: asyncio.Handle) -> None:
        """Takes a callback that would run now; it runs at `resume`, if ever."""
        if not self.dead:
            self._set_aside.append(handle)

    def own(self, task: asyncio.Task[Any]) -> None:
        """Keeps a task as long as it runs; for the loop."""
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def pause(self) -> None:
        """Nothing of this host runs from here on."""
        self.paused = True

    def resume(self) -> list[asyncio.Handle]:
        """It goes on; the answer is what has become due, in order. For the loop."""
        self.paused = False
        due, self._set_aside = self._set_aside, []
        return due

    def on_death(self, callback: Callable[[], object]) -> None:
        """Calls back when the host dies, at once if it has."""
        if self.dead:
            callback()
        else:
            self._death_callbacks.append(callback)

    def die(self) -> None:
        """Nothing of this host ever runs again."""
        if self.dead:
            return
        self.dead = True
        self._set_aside.clear()
        callbacks, self._death_callbacks = self._death_callbacks, []
        for callback in callbacks:
            callback()

    def bury(self) -> None:
        """Closes what a dead host was doing; only once the simulation is over."""
        while self._tasks:
            task, _ = self._tasks.popitem()
            close_task(task)


def close_task(task: asyncio.Task[Any]) -> None:
    """Gives back a task that will never run again, without a word."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    # What its `finally` blocks run into is of no interest any more.
    with contextlib.suppress(BaseException):
        task.get_coro().close()
