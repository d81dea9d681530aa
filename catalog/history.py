"""Has the tablets led here log the published horizon, so that their replicas delete history.

Deletion is each replica's own, behind the log (`NodeStorage`). A tablet in which nothing can have
ended by the horizon is left alone, so an idle one logs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from catalog.model import TabletId
from catalog.service import CatalogService
from cluster.errors import DqeError
from cluster.raft.group import RaftGroup
from cluster.runtime import Runtime
from storage.node import NodeStorage
from storage.tablet import Tablet

logger = logging.getLogger(__name__)

LOOK_S = 1.0
# Tablets that log it at once.
AT_ONCE = 16


class HistoryKeeper:
    """One a node; made with the tablets' manager, whose groups it looks at."""

    def __init__(
        self,
        runtime: Runtime,
        storage: NodeStorage,
        catalog: CatalogService,
        groups: Mapping[TabletId, RaftGroup],
    ) -> None:
        self._runtime = runtime
        self._storage = storage
        self._catalog = catalog
        self._groups = groups
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._runtime.spawn(self._keep_forever(), "history")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _keep_forever(self) -> None:
        while True:
            await self._runtime.sleep(LOOK_S)
            await self.advance(self._catalog.horizon)

    async def advance(self, horizon: int) -> None:
        """Has every tablet that may have history below the horizon log it."""
        behind = [
            tablet
            for tablet_id, group in self._groups.items()
            if group.is_leader
            and (tablet := self._storage.tablets.get(tablet_id)) is not None
            and tablet.horizon < horizon
            and tablet.may_have_history(horizon)
        ]
        for start in range(0, len(behind), AT_ONCE):
            batch = behind[start : start + AT_ONCE]
            await asyncio.gather(*(self._log(tablet, horizon) for tablet in batch))

    async def _log(self, tablet: Tablet, horizon: int) -> None:
        try:
            await tablet.set_horizon(horizon)
        except DqeError as error:
            # Whoever leads at the next look does it.
            logger.info("tablet %s keeps its history for now: %s", tablet.tablet_id, error.message)
