"""Room for tasks, and what a node that stops says to those that come late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.errors import CannotConnectNow, ConfigurationLimitExceeded
from executor.stage_threads import StageThreads


def test_a_querys_tasks_are_admitted_together_or_not_at_all() -> None:
    threads = StageThreads(max_tasks=3)
    with threads.admit(2):
        with pytest.raises(ConfigurationLimitExceeded), threads.admit(2):
            pass
        assert threads.admitted == 2
    assert threads.admitted == 0
    threads.close()


def test_a_node_that_stops_sends_tasks_elsewhere() -> None:
    threads = StageThreads()
    unused: Any = None

    async def late() -> None:
        with threads.admit(1):
            threads.close()
            await threads.run(unused, unused)

    with pytest.raises(CannotConnectNow, match="stopping"):
        asyncio.run(late())
    with pytest.raises(CannotConnectNow, match="stopping"), threads.admit(1):
        pass
    assert threads.admitted == 0
