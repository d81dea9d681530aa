"""The catalog's leader keeps the members of the catalog's Raft group in step with its nodes.

Every node follows as a learner; voters go from one to three when three nodes live, and to five
from seven nodes on (S3). One change at a time, each committed before the next is thought of;
the next one is computed from the configuration as it then is, so a new leader just goes on.

`next_configuration` is the whole policy, pure. Left out: a voter that died for good is not
replaced here (the repair loop does that); a node that is not active any more is taken out.
"""

from __future__ import annotations

import asyncio
import logging

from catalog.liveness import Liveness
from catalog.model import Catalog, Node, NodeState
from catalog.placement import voters_among
from catalog.state import CatalogStateMachine
from cluster.errors import DqeError
from cluster.raft.group import RaftGroup
from cluster.raft.log import Configuration
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

TEND_S = 0.3
CHANGE_TIMEOUT_S = 5.0


def next_configuration(
    current: Configuration, nodes: list[Node], live: set[int]
) -> Configuration | None:
    """The next single change towards the members wanted, or None when there is none to make."""
    members = {int(node.id) for node in nodes if node.state is not NodeState.DEAD}
    for node_id in sorted(members):
        if node_id not in current.members:
            return current.with_learner(node_id)
    wanted = voters_among(len(members))
    if len(current.voters) < wanted:
        candidates = [n for n in current.learners if n in members and n in live]
        # From one voter to three only when both others answer: two voters fail together.
        if len(current.voters) + len(candidates) >= wanted:
            return current.with_voter(candidates[0])
    for node_id in current.learners:
        if node_id not in members:
            return current.without(node_id)
    return None


class Membership:
    """Runs the policy while this node leads the catalog."""

    def __init__(
        self, runtime: Runtime, group: RaftGroup, machine: CatalogStateMachine, liveness: Liveness
    ) -> None:
        self._runtime = runtime
        self._group = group
        self._machine = machine
        self._liveness = liveness
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._runtime.spawn(self._tend(), "catalog members")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _tend(self) -> None:
        while True:
            wanted = self._wanted()
            if wanted is not None:
                try:
                    await self._group.change_membership(wanted, deadline_s=CHANGE_TIMEOUT_S)
                    continue
                except DqeError as error:
                    # Not leader any more, or a change is under way: looked at again below.
                    logger.info("catalog members stay as they are for now: %s", error)
            await self._runtime.sleep(TEND_S)

    def _wanted(self) -> Configuration | None:
        catalog: Catalog = self._machine.state.catalog
        if not self._group.is_leader or not catalog.nodes:
            return None
        live = {int(node_id) for node_id in self._liveness.live_nodes()}
        return next_configuration(self._group.configuration, list(catalog.nodes.values()), live)
