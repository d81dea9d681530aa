"""SIGINT and SIGTERM as something that a command in the foreground can wait for."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType


class StopSignal:
    """Set by SIGINT and SIGTERM, from the moment it is made. For the main thread.

    The handler takes no lock: it runs between any two steps of the main thread, which may hold
    the lock of whatever it waits on. So a flag is set, and a byte in a pipe ends the waiting.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if not self.is_set:
            self.is_set = True
            os.write(self._write, b"\0")

    def wait(self, timeout_s: float) -> bool:
        """Whether it is set, now or before the time is over."""
        if not self.is_set:
            select.select([self._read], [], [], timeout_s)
        return self.is_set
