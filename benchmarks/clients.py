"""Clients that outlive the nodes they talk to, and the killing of nodes under them.

A client holds to its node while that lives and then goes to another one that runs. Of a statement
that failed it knows no more than PostgreSQL's protocol tells: a lost connection and 40003 leave
open whether it happened; with any other SQLSTATE it did not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import asyncpg

from dqe.local_cluster import LocalCluster, NodeProcess

T = TypeVar("T")
Work = Callable[[asyncpg.Connection], Awaitable[T]]

CONNECT_TIMEOUT_S = 5.0
# Longer than any deadline of a statement: what has no answer by then hangs.
ANSWER_TIMEOUT_S = 30.0
PAUSE_S = 0.02
OUTCOME_UNKNOWN = "40003"
CONNECTION_LOST = "08006"
# The last one is what asyncpg makes of a server's word of farewell to a session that is idle.
_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
)


class StatementFailed(Exception):
    """What was asked for has failed, with this SQLSTATE (08006: the connection was lost)."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(f"{sqlstate} {text}")
        self.sqlstate = sqlstate

    @property
    def may_have_happened(self) -> bool:
        return self.sqlstate in (OUTCOME_UNKNOWN, CONNECTION_LOST)

    @property
    def is_retryable(self) -> bool:
        """Whether the error says clearly that another try may succeed."""
        return self.sqlstate[:2] in ("08", "40") or self.sqlstate[:4] == "57P0"


class StatementHangs(Exception):
    """No answer came for much longer than any statement may take."""


class Client:
    """One session at a time, on `at` while that runs, or else on any node that does."""

    def __init__(
        self, cluster: LocalCluster, chance: random.Random, at: NodeProcess | None = None
    ) -> None:
        self._cluster = cluster
        self._chance = chance
        self._at = at
        self._session: asyncpg.Connection | None = None

    async def ask(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        async def fetch(session: asyncpg.Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in await session.fetch(sql, *arguments)]

        return await self.run(fetch)

    async def run(self, work: Work[T]) -> T:
        """What `work` returns; StatementFailed, and no session left, where that fails."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                if self._session is None or self._session.is_closed():
                    self._session = await self._connect()
                return await work(self._session)
        except TimeoutError as error:
            self._drop()
            raise StatementHangs(f"no answer for {ANSWER_TIMEOUT_S:.0f} s") from error
        except _LOST as error:
            self._drop()
            raise StatementFailed(CONNECTION_LOST, str(error)) from error
        except asyncpg.PostgresError as error:
            await self._roll_back()
            raise StatementFailed(str(error.sqlstate), str(error)) from error

    async def _connect(self) -> asyncpg.Connection:
        """To the first node that takes it, as drivers do that are given several hosts."""
        nodes = [node for node in self._cluster.nodes if node.runs]
        self._chance.shuffle(nodes)
        nodes.sort(key=lambda node: node is not self._at)
        error: Exception = ConnectionError("no node runs")
        for node in nodes:
            try:
                return await asyncpg.connect(node.url, timeout=CONNECT_TIMEOUT_S)
            except (TimeoutError, asyncpg.CannotConnectNowError, *_LOST) as refused:
                error = refused
        raise ConnectionError("no node takes a connection") from error

    async def _roll_back(self) -> None:
        """A block that has failed is left; a session that cannot be left is dropped."""
        assert self._session is not None
        if not self._session.is_in_transaction():
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._session.execute("ROLLBACK")
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError):
            self._drop()

    def _drop(self) -> None:
        if self._session is not None:
            self._session.terminate()
        self._session = None

    async def close(self) -> None:
        if self._session is not None:
            with contextlib.suppress(Exception):
                await self._session.close(timeout=CONNECT_TIMEOUT_S)


async def until_stopped(
    stop: asyncio.Event, turn: Callable[[], Awaitable[None]], pause_s: float = PAUSE_S
) -> None:
    """One turn after the other; what a statement failed with is the turn's own to note."""
    while not stop.is_set():
        await turn()
        await asyncio.sleep(pause_s)


@contextlib.asynccontextmanager
async def at_work(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> Any:
    """Runs the coroutines beside the block and stops them after it; the first error of any of
    them, or of the block, is raised."""
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)
        try:
            yield
        finally:
            stop.set()


async def kill_and_bring_back(cluster: LocalCluster, victim: NodeProcess, down_s: float) -> None:
    """`kill -9`, a time without it, and the cluster whole again."""
    await asyncio.to_thread(cluster.hold, victim)
    await asyncio.sleep(down_s)
    await asyncio.to_thread(cluster.release, victim)
    await asyncio.to_thread(cluster.wait_ready)


class Answers:
    """When answers came, and how long their askers waited for them."""

    def __init__(self) -> None:
        self._times_s: list[float] = []
        self.longest_wait_s = 0.0

    def __len__(self) -> int:
        return len(self._times_s)

    def note(self, asked_s: float) -> None:
        now_s = time.monotonic()
        self._times_s.append(now_s)
        self.longest_wait_s = max(self.longest_wait_s, now_s - asked_s)

    def longest_gap_s(self, begin_s: float, end_s: float) -> float:
        """The longest time between two answers to anybody."""
        within = [t for t in self._times_s if begin_s < t < end_s]
        return max(b - a for a, b in zip([begin_s, *within], [*within, end_s], strict=True))
