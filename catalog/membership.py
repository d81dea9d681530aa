"""The catalog's leader keeps the members of the catalog's Raft group in step with its nodes.

Every node follows as a learner; voters go from one to three when three nodes live, and to five
from seven nodes on (S3). A voter that is dead is replaced: the new one votes before the dead
one goes; where nobody can take its place it stays, and votes again when it comes back. A node
that is being decommissioned loses its vote and follows until it is forgotten. A leader on a
node that is being emptied hands over. One change at a time, each committed before the next is
thought of; the next one is computed from the configuration as it then is, so a new leader just
goes on. A node that was forgotten goes on following for `LINGER_S`, so that it hears of it.

`next_step` is the whole policy, pure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence, Set

from catalog.liveness import Liveness
from catalog.model import Catalog, Node, NodeId, NodeState
from catalog.placement import voters_among
from catalog.repair_members import Change, HandOver, Step, may_lose_vote
from catalog.state import CatalogStateMachine
from cluster.errors import DqeError
from cluster.raft.group import RaftGroup
from cluster.raft.log import Configuration
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

TEND_S = 0.3
CHANGE_TIMEOUT_S = 5.0
LINGER_S = 2.0

_VOTING_STATES = (NodeState.ACTIVE, NodeState.DRAINING)


def next_step(
    current: Configuration,
    nodes: Sequence[Node],
    live: Set[int],
    leader: int,
    lingering: Set[int] = frozenset(),
) -> Step | None:
    """The next step towards the members wanted, or None when there is none to make.

    `lingering` are learners that are not let go yet.
    """
    members = {int(node.id) for node in nodes if node.state is not NodeState.DEAD}
    for node_id in sorted(members):
        if node_id not in current.members:
            return Change(current.with_learner(node_id))
    step = _next_of_voters(current, nodes, live, leader)
    if step is not None:
        return step
    for node_id in current.learners:
        if node_id not in members and node_id not in lingering:
            return Change(current.without(node_id))
    return None


def _next_of_voters(
    current: Configuration, nodes: Sequence[Node], live: Set[int], leader: int
) -> Step | None:
    states = {int(node.id): node.state for node in nodes}
    # The dead count: a cluster does not want fewer voters because some have died.
    staying = [n for n, state in states.items() if state is not NodeState.DECOMMISSIONING]
    wanted = voters_among(len(staying))
    good = [n for n in current.voters if states.get(n) in _VOTING_STATES]
    candidates = [
        n for n in current.learners if n in live and states.get(n) is NodeState.ACTIVE
    ] or [n for n in current.learners if n in live and states.get(n) is NodeState.DRAINING]
    # From one voter to three only when both others answer: two voters fail together.
    enough = len(good) > 1 or len(good) + len(candidates) >= wanted
    if candidates and enough and len(good) < wanted:
        return Change(current.with_voter(candidates[0]))
    for node_id in current.voters:
        if states.get(node_id) is NodeState.DECOMMISSIONING:
            if node_id == leader:
                return _successor(good, states, live, leader)
            if may_lose_vote(current, node_id, live):
                return Change(current.with_learner(node_id))
        elif node_id not in good and len(good) >= wanted:
            return Change(current.without(node_id))
    if len(good) > wanted:
        spare = [n for n in good if n != leader and may_lose_vote(current, n, live)]
        if spare:
            demoted = max(spare, key=lambda n: (states[n] is NodeState.DRAINING, n))
            return Change(current.with_learner(demoted))
    if states.get(leader) is NodeState.DRAINING:
        return _successor(good, states, live, leader)
    return None


def _successor(
    voters: Sequence[int], states: dict[int, NodeState], live: Set[int], leader: int
) -> HandOver | None:
    """An active voter that answers; a draining one only where the leader has to go."""
    wanted = [NodeState.ACTIVE]
    if states.get(leader) is NodeState.DECOMMISSIONING:
        wanted.append(NodeState.DRAINING)
    for state in wanted:
        for node_id in voters:
            if node_id != leader and node_id in live and states[node_id] is state:
                return HandOver(NodeId(node_id))
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
        # Since when each forgotten node that still follows has been seen to.
        self._forgotten_s: dict[int, float] = {}

    def use(self, group: RaftGroup) -> None:
        """The catalog goes on as this group."""
        self._group = group

    def start(self) -> None:
        self._task = self._runtime.spawn(self._tend(), "catalog members")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _tend(self) -> None:
        while True:
            step = self._wanted()
            if step is not None:
                try:
                    await self._make(step)
                    continue
                except DqeError as error:
                    # Not leader any more, or a change is under way: looked at again below.
                    logger.info("catalog members stay as they are for now: %s", error)
            await self._runtime.sleep(TEND_S)

    async def _make(self, step: Step) -> None:
        if isinstance(step, HandOver):
            await self._group.transfer_leadership(step.node_id, deadline_s=CHANGE_TIMEOUT_S)
        else:
            await self._group.change_membership(step.configuration, deadline_s=CHANGE_TIMEOUT_S)

    def _wanted(self) -> Step | None:
        catalog: Catalog = self._machine.state.catalog
        if not self._group.is_leader or not catalog.nodes:
            return None
        live = {int(node_id) for node_id in self._liveness.live_nodes()}
        nodes = list(catalog.nodes.values())
        current = self._group.configuration
        return next_step(current, nodes, live, self._group.node_id, self._lingering(catalog))

    def _lingering(self, catalog: Catalog) -> Set[int]:
        """Forgotten nodes that may not have heard of it yet."""
        now_s = self._runtime.monotonic()
        follow = [n for n in self._group.configuration.learners if NodeId(n) not in catalog.nodes]
        self._forgotten_s = {n: self._forgotten_s.get(n, now_s) for n in follow}
        return {n for n, since_s in self._forgotten_s.items() if now_s - since_s < LINGER_S}
