"""The threads that tasks run on.

All tasks of a query must run at once: a task without a thread is a consumer that does not
read or a producer that does not send, and the others would wait for it for ever. So a node
admits a query's tasks together or refuses them together (53400), and there is a thread for
every task admitted. Idle threads are used again. A node that stops admits nothing more (57P03:
the coordinator asks elsewhere).

Where there are no threads (in a simulation) a subclass runs a task in place once all that it
reads has arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.errors import CannotConnectNow, ConfigurationLimitExceeded
from executor.stage_task import StageTask

if TYPE_CHECKING:
    from storage.snapshot import StoreSnapshot

# A waiting thread costs some 100 KB; DuckDB's own threads do most of the work.
MAX_TASKS = 1024


class StageThreads:
    """Admits tasks and runs them. Used from the event loop only."""

    def __init__(self, max_tasks: int = MAX_TASKS) -> None:
        self._max_tasks = max_tasks
        self._admitted = 0
        self._closed = False
        self._pool = ThreadPoolExecutor(max_tasks, thread_name_prefix="stage")

    @property
    def admitted(self) -> int:
        """Tasks that have or will have a thread now."""
        return self._admitted

    @contextmanager
    def admit(self, tasks: int) -> Iterator[None]:
        """Takes room for that many tasks for the length of the block, or refuses."""
        self._refuse_when_closed()
        if self._admitted + tasks > self._max_tasks:
            raise ConfigurationLimitExceeded(
                "too many query stages are running on this node",
                detail=f"{self._admitted} are running, {tasks} more were asked for, "
                f"the limit is {self._max_tasks}.",
            )
        self._admitted += tasks
        try:
            yield
        finally:
            self._admitted -= tasks

    async def run(self, task: StageTask, snapshot: StoreSnapshot) -> None:
        """Runs one admitted task. A cancelled caller must still wait for the thread to end."""
        self._refuse_when_closed()
        await asyncio.get_running_loop().run_in_executor(self._pool, task.run, snapshot)

    def close(self) -> None:
        """Lets the threads end; tasks still running end with their queries."""
        self._closed = True
        self._pool.shutdown(wait=False)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise CannotConnectNow("node is stopping")
