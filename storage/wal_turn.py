"""Who may change the log's files now: one at a time, first come first served.

`asyncio.Lock` is for coroutines. An append begins in the middle of the host's turn and ends in a
callback of the log's thread; a task for it would cost as much as the rest of what the loop does
for one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial


class Turn:
    """See the module. Coroutines say `async with`, others `take` and `leave`."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, begin: Callable[[], None]) -> None:
        """Calls `begin`, at once or when all before it have left; `leave` is to follow."""
        if self._is_taken:
            self._waiting.append(begin)
        else:
            self._is_taken = True
            begin()

    def leave(self) -> None:
        """Lets the next one in."""
        if self._waiting:
            self._waiting.popleft()()
        else:
            self._is_taken = False

    async def __aenter__(self) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.take(partial(self._give, given))
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self.leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def _give(self, given: asyncio.Future[None]) -> None:
        if given.done():
            self.leave()  # nobody waits for it any more
        else:
            given.set_result(None)
