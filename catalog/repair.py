"""The repair loop: the catalog's leader has replicas rebuilt, moved and evened out.

    who answers --> how long each node has been silent --> nodes die and live (catalog's log)
    catalog + who answers --> `repair_plan.next_changes` --> commands --> tablets' leaders

Only the leader of the catalog runs it. How long a node has been silent is measured from the
moment this node began to lead, so a new leader first gives everybody `dead_after` again; and a
leader that hears from less than half of the nodes declares nobody dead, since it may be the one
that is cut off.

`dead_after` is a setting of the cluster (`DEAD_AFTER`, by default five minutes).
"""

from __future__ import annotations

import asyncio
import logging

from catalog.commands import AnyCommand, SetClusterSetting
from catalog.model import Catalog, NodeId, NodeState
from catalog.repair_plan import RepairLimits, next_changes, node_changes
from catalog.repair_settings import DEAD_AFTER, dead_after_s
from catalog.service import CatalogService
from cluster.errors import DqeError
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

ROUND_S = 1.0
EXECUTE_TIMEOUT_S = 5.0


async def set_dead_after(runtime: Runtime, catalog: CatalogService, text: str) -> None:
    """Sets the cluster's setting, however long that takes; `text` has been checked."""
    while catalog.current.settings.get(DEAD_AFTER) != text:
        try:
            await catalog.execute(SetClusterSetting(DEAD_AFTER, text))
        except DqeError as error:
            logger.info("%s is not set yet: %s", DEAD_AFTER, error)
            await runtime.sleep(ROUND_S)


class Repairer:
    """One a node; idle unless the node leads the catalog."""

    def __init__(
        self, runtime: Runtime, catalog: CatalogService, limits: RepairLimits | None = None
    ) -> None:
        self._runtime = runtime
        self._catalog = catalog
        self._limits = limits or RepairLimits()
        self._heard_s: dict[NodeId, float] = {}
        # Of the last round's plan, if it was to do nothing.
        self._at_rest: tuple[Catalog, frozenset[NodeId]] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look after the cluster."""
        self._task = self._runtime.spawn(self._run(), "repair")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._runtime.sleep(ROUND_S)
            if not self._catalog.group.is_leader or not self._catalog.current.cluster_id:
                self._heard_s = {}
                continue
            try:
                await self._round()
            except DqeError as error:
                # Not leader any more, or the plan was outrun: the next round looks again.
                logger.info("repair waits: %s", error)
            except Exception:  # the driver loop: without it nothing would ever be repaired
                logger.exception("repair failed")

    async def _round(self) -> None:
        catalog = self._catalog.current
        live = frozenset(self._catalog.liveness.live_nodes())
        silent_s = self._silence(catalog, live)
        changes = node_changes(catalog, silent_s, dead_after_s(catalog.settings))
        # What follows from them is planned from the catalog as it then is.
        for change in changes or self._plan(catalog, live):
            await self._execute(change)

    def _plan(self, catalog: Catalog, live: frozenset[NodeId]) -> list[AnyCommand]:
        """What to do; looked for only when what it follows from has changed."""
        if self._at_rest is not None and self._at_rest[0] is catalog and self._at_rest[1] == live:
            return []
        changes = next_changes(catalog, live, self._limits)
        self._at_rest = None if changes else (catalog, live)
        return changes

    def _silence(self, catalog: Catalog, live: frozenset[NodeId]) -> dict[NodeId, float]:
        """For how long each node has been silent here, as far as that can be held against it."""
        now_s = self._runtime.monotonic()
        for node_id in catalog.nodes:
            if node_id in live or node_id not in self._heard_s:
                self._heard_s[node_id] = now_s
        expected = [n.id for n in catalog.nodes.values() if n.state is not NodeState.DEAD]
        silent_s = {n: now_s - self._heard_s[n] for n in expected if n not in live}
        if 2 * len(silent_s) > len(expected):
            silent_s = {}
        return silent_s | {n: 0.0 for n in catalog.nodes if n in live}

    async def _execute(self, change: AnyCommand) -> None:
        logger.info("repair: %s", change)
        try:
            await self._catalog.execute(change, EXECUTE_TIMEOUT_S)
        except DqeError as error:
            # Somebody changed the same thing meanwhile; the others still count.
            logger.info("repair: %s was not done: %s", type(change).__name__, error)
