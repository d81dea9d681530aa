"""Finding a tablet's leader, and noticing that it has gone while a request is with it.

A search asks whoever is thought to lead; a replica that does not names the leader it follows,
and is believed once; else all replicas are asked in turn, those that answer first. A follower
that knows of no leader waits a moment for one (`storage.tablet`), so a search during an election
is a few questions, not hundreds.

A request to a leader that is paused, or cut off, would wait for its whole deadline although the
others have long elected another; and so would one to a leader that has lost its majority. So what
this node's own replica, and gossip, say is looked at while requests are out: one whose leader has
changed since it was sent, whose node is down, or whose tablet nobody says to lead for a while,
ends as *answer lost*: it may have been carried out.

All of this is hints (rule G4). Who leads is decided by terms, at the tablet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

from catalog.model import NodeId, Tablet, TabletId
from cluster.errors import AnswerLost, CannotConnectNow, DqeError, NotLeader
from cluster.raft.errors import OUT_OF_STEP_HINT
from cluster.runtime import Runtime

# Requests that are out are looked at this often.
LOOK_S = 0.25
# A replica that has led, and knows of no successor for so long, has lost its majority. Longer
# than gossip takes to tell of a new leader in a cluster of some nodes (docs/gossip.md).
DEPOSED_S = 5.0


class LeaderSearch:
    """Whom one request asks, one after the other."""

    def __init__(
        self, tablet: Tablet, hint: NodeId | None, is_live: Callable[[NodeId], bool]
    ) -> None:
        self._tablet = tablet
        self._is_live = is_live
        self._asked: list[NodeId] = []
        known = hint is not None and (hint in tablet.replicas or hint in tablet.leaving)
        self.candidate: NodeId = hint if known and hint is not None else self._replicas[0]

    @cached_property
    def _replicas(self) -> list[NodeId]:
        replicas = dict.fromkeys((*self._tablet.replicas, *self._tablet.leaving))
        return sorted(replicas, key=lambda node: not self._is_live(node))

    def refused(self, error: CannotConnectNow) -> bool:
        """The candidate does not serve; there is another. Whether to pause before it is asked."""
        self._asked.append(self.candidate)
        named = error.leader_id if isinstance(error, NotLeader) else None
        unasked = [node for node in self._replicas if node not in self._asked]
        if named in unasked:
            self.candidate = NodeId(named or 0)
            return False
        if unasked:
            self.candidate = unasked[0]
            return False
        self._asked = []
        self.candidate = NodeId(named) if named in self._replicas and named else self._replicas[0]
        return True


_MAJORITY_HINT = "A majority of the tablet's replicas must be up."
_ONLY_HINT = "The node that holds the only replica must be up."


def is_leaderless(error: DqeError) -> bool:
    """Whether a leader was looked for, for long, already, or cannot serve. Holds across nodes."""
    return error.hint in (_MAJORITY_HINT, _ONLY_HINT, OUT_OF_STEP_HINT)


def leaderless(tablet: Tablet, error: CannotConnectNow) -> CannotConnectNow:
    """What a client is told when nobody was found to lead the tablet."""
    if len(tablet.replicas) == 1:
        return type(error)(
            f"tablet {tablet.id} has no leader that can be reached",
            detail=f"Its only replica is on node {tablet.replicas[0]}: {error.message}.",
            hint=_ONLY_HINT,
        )
    nodes = ", ".join(map(str, sorted(tablet.replicas)))
    return CannotConnectNow(
        f"tablet {tablet.id} has no leader that can be reached",
        detail=f"Its replicas are on nodes {nodes}. The last one asked: {error.message}.",
        hint=_MAJORITY_HINT,
    )


def _stopped_leading(node_id: NodeId, tablet_id: TabletId) -> AnswerLost:
    return AnswerLost(f"node {node_id} stopped leading tablet {tablet_id} before it answered")


@dataclass(slots=True)
class _Out:
    """A request that is out; `leader` is who was thought to lead when it was sent."""

    tablet_id: TabletId
    node_id: NodeId
    leader: NodeId | None
    give_up: Callable[[], None]
    leaderless_since_s: float | None = None


class LeaderWatch:
    """The requests of one node that are out."""

    def __init__(
        self,
        runtime: Runtime,
        node_id: NodeId,
        leader_of: Callable[[TabletId], NodeId | None],
        is_live: Callable[[NodeId], bool],
        says_it_leads: Callable[[TabletId], NodeId | None],
    ) -> None:
        """`leader_of` is what the replica here knows, `says_it_leads` what gossip does."""
        self._runtime = runtime
        self._node_id = node_id
        self._leader_of = leader_of
        self._is_live = is_live
        self._says_it_leads = says_it_leads
        self._out: dict[int, _Out] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    def watched(self, tablet_id: TabletId, node_id: NodeId) -> _Watched:
        """The block is a request to that node; AnswerLost when its leadership has ended."""
        return _Watched(self, tablet_id, node_id)

    def watch(self, tablet_id: TabletId, node_id: NodeId, answer: asyncio.Future[Any]) -> int:
        """The same for one future, until `end`: AnswerLost becomes its answer."""

        def give_up() -> None:
            if not answer.done():
                answer.set_exception(_stopped_leading(node_id, tablet_id))

        return self.begin(tablet_id, node_id, give_up)

    def begin(self, tablet_id: TabletId, node_id: NodeId, give_up: Callable[[], None]) -> int:
        """A request is out, until `end` of the number; calls back, perhaps more than once, when
        the node's leadership has ended."""
        self._count += 1
        self._out[self._count] = _Out(tablet_id, node_id, self._leader_of(tablet_id), give_up)
        if self._task is None:
            self._task = self._runtime.spawn(self._look(), "leaders of tablets asked")
        return self._count

    def end(self, number: int) -> None:
        """The request has ended."""
        del self._out[number]

    async def _look(self) -> None:
        while self._out:
            await self._runtime.sleep(LOOK_S)
            for out in list(self._out.values()):
                if self._is_over(out):
                    out.give_up()
        self._task = None

    def _is_over(self, out: _Out) -> bool:
        leader = self._leader_of(out.tablet_id)
        if leader not in (None, out.leader, out.node_id):
            return True
        if not self._is_live(out.node_id):
            return True
        here = out.node_id == self._node_id
        if leader is not None or (not here and self._says_it_leads(out.tablet_id) is not None):
            out.leaderless_since_s = None
            return False
        now_s = self._runtime.monotonic()
        if out.leaderless_since_s is None:
            out.leaderless_since_s = now_s
        return now_s - out.leaderless_since_s >= DEPOSED_S


class _Watched:
    """A block of its task that ends with AnswerLost when its watch gives it up.

    As `asyncio.timeout` does it, without a timer: the task is cancelled, and takes that for what
    it is when it leaves the block.
    """

    __slots__ = ("_cancelling", "_given_up", "_node_id", "_number", "_tablet_id", "_task", "_watch")

    def __init__(self, watch: LeaderWatch, tablet_id: TabletId, node_id: NodeId) -> None:
        self._watch = watch
        self._tablet_id = tablet_id
        self._node_id = node_id
        self._given_up = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._number = self._watch.begin(self._tablet_id, self._node_id, self._give_up)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.end(self._number)
        if not self._given_up:
            return
        also_cancelled = self._task.uncancel() > self._cancelling
        if kind is asyncio.CancelledError and not also_cancelled:
            raise _stopped_leading(self._node_id, self._tablet_id) from None

    def _give_up(self) -> None:
        if not self._given_up:
            self._given_up = True
            self._task.cancel()
