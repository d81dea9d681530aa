"""Read indexes for a replica that may not lead, by asking the leader (rule R3).

Callers that wait while a question is on its way share the *next* one: the answer to the present
one may be older than their call. While the leader is moving it is asked again, for as long as
anybody wants to know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from cluster.errors import CannotConnectNow, DqeError
from cluster.raft.settings import RaftSettings
from cluster.raft.waiters import in_time
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)


class RemoteReads:
    """One replica's. `ask` asks whoever leads now, within so many seconds."""

    def __init__(
        self,
        runtime: Runtime,
        settings: RaftSettings,
        name: str,
        ask: Callable[[float], Awaitable[int]],
    ) -> None:
        self._runtime = runtime
        self._settings = settings
        self._name = name
        self._ask = ask
        self._waiting: list[asyncio.Future[int]] = []
        self._asking = False
        self._closed: DqeError | None = None

    async def index(self, deadline_s: float) -> int:
        """A read index of after this call; CannotConnectNow where nobody gives one in time, and
        what else the leader raises."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if not self._asking:
            self._asking = True
            self._runtime.spawn(self._ask_for_all(), f"read index of {self._name}")
        return await in_time(
            future, deadline_s, f"the leader of {self._name} did not answer in time"
        )

    async def _ask_for_all(self) -> None:
        try:
            while self._waiting:
                await self._ask_for_those_waiting()
        finally:
            self._asking = False

    async def _ask_for_those_waiting(self) -> None:
        waiting, self._waiting = [f for f in self._waiting if not f.done()], []
        if not waiting:
            return
        try:
            index = await self._ask(self._settings.election_timeout_s)
        except CannotConnectNow:
            self._waiting = waiting + self._waiting
            if self._closed is not None:
                self.close(self._closed)
            else:
                await self._runtime.sleep(self._settings.heartbeat_interval_s / 2)
            return
        except Exception as error:
            if not isinstance(error, DqeError):
                logger.exception("asking for a read index of %s failed", self._name)
            _fail(waiting, error)
            return
        for future in waiting:
            if not future.done():
                future.set_result(index)

    def close(self, error: DqeError) -> None:
        """Nothing is to be read here any more: who waits, now or later, gets that error."""
        self._closed = error
        waiting, self._waiting = self._waiting, []
        _fail(waiting, error)


def _fail(waiting: Iterable[asyncio.Future[int]], error: Exception) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(error)
