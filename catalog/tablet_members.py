"""Has the groups that are led here take the members, and the leader, that the catalog names.

`repair_members` says the next step, this carries it out: one task a group at most, so that a
group whose majority is gone holds up no other. When the group is as the catalog wants it, the
leader says so (`ConfirmReplicas`), and nodes that left drop their replicas.

A leader that the catalog would rather not have lead hands over only after `STEADY_S` of the
same wish, so that a node that comes and goes does not drag leaders along; at once where its
own node is being emptied. A hand-over that failed is not tried again for as long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from catalog.commands import ConfirmReplicas
from catalog.model import NodeId, NodeState, Tablet, TabletId
from catalog.repair_members import (
    Change,
    Confirmed,
    HandOver,
    confirmed,
    is_reached,
    next_step,
    preferred_leader,
)
from catalog.service import CatalogService
from cluster.errors import DqeError
from cluster.raft.group import RaftGroup
from cluster.raft.log import Configuration
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

CHANGE_TIMEOUT_S = 5.0
STEADY_S = 5.0

Step = Change | HandOver | Confirmed


class MemberTender:
    """One a node; `tend` is called again and again for each replica here."""

    def __init__(
        self,
        runtime: Runtime,
        catalog: CatalogService,
        node_id: NodeId,
        on_step: Callable[[], None],
    ) -> None:
        """`on_step` is called when a step was made: there may be another."""
        self._runtime = runtime
        self._catalog = catalog
        self._node_id = node_id
        self._on_step = on_step
        self._under_way: dict[TabletId, asyncio.Task[None]] = {}
        # The hand-over wished for, and from when on it may be made.
        self._wishes: dict[TabletId, tuple[NodeId, float]] = {}
        # Groups that are as wished, whoever answers: thousands are looked at twice a second.
        self._at_rest: dict[TabletId, tuple[Tablet, Configuration]] = {}

    def tend(self, tablet: Tablet, group: RaftGroup) -> None:
        """Starts the next step of a group that is led here, if there is one."""
        # One that leads and cannot serve may be waiting for just this change (`sync`).
        if not group.leads or tablet.id in self._under_way:
            return
        rest = self._at_rest.get(tablet.id)
        if rest is not None and rest[0] is tablet and rest[1] is group.configuration:
            return
        step = self._next(tablet, group)
        if step is not None:
            name = f"members of tablet {tablet.id}"
            self._under_way[tablet.id] = self._runtime.spawn(self._make(step, tablet, group), name)
        elif is_reached(group.configuration, tablet) and tablet.replicas[0] == self._node_id:
            self._at_rest[tablet.id] = (tablet, group.configuration)

    def _next(self, tablet: Tablet, group: RaftGroup) -> Step | None:
        live = frozenset(self._catalog.liveness.live_nodes())
        current = group.configuration
        step = next_step(current, tablet, self._node_id, live, group.is_caught_up)
        if step is not None:
            return step
        if group.members_committed and (news := confirmed(current, tablet)) is not None:
            return news
        wish = preferred_leader(current, tablet, self._node_id, live, group.is_caught_up)
        return self._when_steady(tablet.id, wish)

    def _when_steady(self, tablet_id: TabletId, wish: HandOver | None) -> HandOver | None:
        if wish is None:
            self._wishes.pop(tablet_id, None)
            return None
        now_s = self._runtime.monotonic()
        known = self._wishes.get(tablet_id)
        if known is None or known[0] != wish.node_id:
            wait_s = 0.0 if self._is_being_emptied() else STEADY_S
            known = self._wishes[tablet_id] = (wish.node_id, now_s + wait_s)
        return wish if now_s >= known[1] else None

    def _is_being_emptied(self) -> bool:
        me = self._catalog.current.nodes.get(self._node_id)
        return me is None or me.state in (NodeState.DRAINING, NodeState.DECOMMISSIONING)

    async def _make(self, step: Step, tablet: Tablet, group: RaftGroup) -> None:
        try:
            if isinstance(step, Change):
                await group.change_membership(step.configuration, deadline_s=CHANGE_TIMEOUT_S)
            elif isinstance(step, HandOver):
                await self._hand_over(step, tablet, group)
            else:
                command = ConfirmReplicas(tablet.id, step.joined, step.left)
                done = await self._catalog.execute(command, CHANGE_TIMEOUT_S)
                logger.info("tablet %d: %s confirmed at %d", tablet.id, step, done.version)
        except DqeError as error:
            # Not leader any more, or a majority is gone: looked at again in the next round.
            logger.info("members of tablet %d stay for now: %s", tablet.id, error)
            await self._runtime.sleep(1.0)
        finally:
            del self._under_way[tablet.id]
        self._on_step()

    async def _hand_over(self, step: HandOver, tablet: Tablet, group: RaftGroup) -> None:
        self._wishes[tablet.id] = (step.node_id, self._runtime.monotonic() + STEADY_S)
        await group.transfer_leadership(step.node_id, deadline_s=CHANGE_TIMEOUT_S)
