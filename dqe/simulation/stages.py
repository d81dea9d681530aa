"""Query stages without threads.

A stage on a thread reads its inputs while they come. Here its statement runs in place and to
its end, so it starts only when all it reads has arrived; what it sends is queued without bound.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cluster.runtime import Runtime
from executor.inbox import TaskInputs
from executor.stage_runner import resolve
from executor.stage_task import StageTask
from executor.stage_threads import StageThreads

if TYPE_CHECKING:
    from storage.snapshot import StoreSnapshot


class InlineStages(StageThreads):
    """Runs tasks one at a time, each when it is complete."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime

    async def run(self, task: StageTask, snapshot: StoreSnapshot) -> None:
        for item in task.task.inputs:
            await _complete(task.inputs, item.exchange_id)
        # A failed query runs into its error here, and gives the snapshot back.
        await self._runtime.run_blocking(task.run, snapshot)


async def _complete(inputs: TaskInputs, exchange_id: int) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    inputs.when_complete(exchange_id, lambda: resolve(future))
    await future
