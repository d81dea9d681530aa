"""Those who wait at one replica for its state machine, or for a read index.

Each is a future in a plain structure, without a task of its own: who waits gives it up by
cancelling it, and it is passed over then.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable

from cluster.errors import CannotConnectNow, DqeError
from cluster.raft.state import ReadState


async def in_time(future: asyncio.Future[int], deadline_s: float, why: str) -> int:
    """The future's result; CannotConnectNow, which says why, where it has none in time."""
    try:
        async with asyncio.timeout(deadline_s):
            return await future
    except TimeoutError:
        raise CannotConnectNow(why) from None


class AppliedWaiters:
    """Who waits until an entry is applied, the lowest entry first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, asyncio.Future[int]]] = []
        self._count = 0  # of equal indexes, the first comer's is first

    def add(self, index: int) -> asyncio.Future[int]:
        """A future that is done, with what is applied then, once that entry is."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._heap, (index, self._count, future))
        return future

    def applied(self, index: int) -> None:
        """Everything up to there is applied."""
        while self._heap and self._heap[0][0] <= index:
            future = heapq.heappop(self._heap)[2]
            if not future.done():
                future.set_result(index)

    def fail(self, error: DqeError) -> None:
        """Nothing will be applied here any more."""
        waiting, self._heap = self._heap, []
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(error)


class IndexWaiters:
    """Who waits for a read index of the core's, by the context the core was given."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def new_context(self) -> int:
        """A number for the core."""
        self._count += 1
        return self._count

    def add(self, context: int) -> asyncio.Future[int]:
        """The index to come; `forget` it in the end."""
        future = self._waiting[context] = asyncio.get_running_loop().create_future()
        return future

    def forget(self, context: int) -> None:
        """Nobody waits for it any more."""
        self._waiting.pop(context, None)

    def confirmed(self, reads: Iterable[ReadState]) -> None:
        """The core has confirmed these."""
        for read in reads:
            future = self._waiting.pop(read.context, None)
            if future is not None and not future.done():
                future.set_result(read.index)

    def fail(self, error: DqeError) -> None:
        """What is pending will never be answered."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)
