"""The catalog as a home of definitions: what becomes of a commit that nobody waits for."""

from __future__ import annotations

import asyncio
from typing import Any

from catalog.codec import Outcome
from catalog.definition_service import DefinitionService
from cluster.errors import StatementCompletionUnknown
from cluster.simulation.loop import run_simulation
from cluster.simulation.runtime import SimulatedRuntime


def test_a_commit_without_an_answer_that_nobody_waits_for_fails_no_task() -> None:
    """A leader is deposed in the middle of it, and whoever asked is gone."""

    async def lost(request: object) -> Outcome:
        await asyncio.sleep(1.0)
        raise StatementCompletionUnknown("the leader is none any more")

    async def main() -> None:
        runtime = SimulatedRuntime(1, "n1")
        service: Any = DefinitionService.__new__(DefinitionService)
        service._runtime, service._commit_here = runtime, lost
        asked = asyncio.create_task(service._serve_commit(None, None, b""))
        await asyncio.sleep(0.5)
        asked.cancel()
        await asyncio.sleep(1.0)
        assert asked.cancelled()
        assert not runtime.failures

    run_simulation(main())
