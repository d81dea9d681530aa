"""Read indexes asked of the leader: who waits hears what became of the question."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from cluster.errors import CannotConnectNow, DqeError, InternalError
from cluster.raft.remote_reads import RemoteReads
from cluster.raft.settings import RaftSettings
from cluster.simulation.loop import run_simulation
from cluster.simulation.runtime import SimulatedRuntime

# Far beyond what the errors below may take, in simulated time.
DEADLINE_S = 1000.0


def _reads(ask: Callable[[float], Awaitable[int]]) -> RemoteReads:
    return RemoteReads(SimulatedRuntime(1, "n1"), RaftSettings(), "tablet 7", ask)


async def _asked_after(reads: RemoteReads, first_question: asyncio.Event) -> int:
    await first_question.wait()
    return await reads.index(DEADLINE_S)


@pytest.mark.parametrize("error", [InternalError("no such state"), ValueError("a fault of ours")])
def test_an_error_of_the_leader_ends_the_wait_of_those_who_asked(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        begun, answers = asyncio.Event(), iter([error, 12])

        async def ask(_: float) -> int:
            begun.set()
            await asyncio.sleep(0.01)
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        reads = _reads(ask)
        async with asyncio.timeout(DEADLINE_S / 2):
            together = asyncio.gather(
                reads.index(DEADLINE_S), reads.index(DEADLINE_S), return_exceptions=True
            )
            later = asyncio.ensure_future(_asked_after(reads, begun))
            assert await together == [error, error]
            assert await later == 12, "who came meanwhile gets the answer to the next question"

    with caplog.at_level(logging.ERROR, logger="cluster.raft.remote_reads"):
        run_simulation(story())
    is_ours = not isinstance(error, DqeError)
    assert bool(caplog.records) == is_ours, "only what no leader says is told to the log"


def test_a_leader_that_moves_is_asked_again() -> None:
    async def story() -> None:
        answers = iter([None, None, 5])

        async def ask(_: float) -> int:
            answer = next(answers)
            if answer is None:
                raise CannotConnectNow("no leader yet")
            return answer

        assert await _reads(ask).index(DEADLINE_S) == 5

    run_simulation(story())
