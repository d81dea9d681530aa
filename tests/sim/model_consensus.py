"""A model of consensus: one log a tablet, one leader at a time, and all that Raft allows.

What Raft promises is taken for granted here (`tests/raft` has its own simulation), so that
transactions above it meet leaders that change at any moment, thousands of times a second:

- what was proposed to a leader that is deposed meanwhile is kept or lost, up to a point;
- a deposed leader may believe for a while that it leads, but its lease is over before another's
  begins;
- replicas apply when they come to it; a new leader serves once it has applied all there is.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from cluster.errors import CannotConnectNow, StatementCompletionUnknown
from cluster.raft.errors import not_leader
from cluster.raft.log import Entry, EntryKind
from cluster.runtime import Runtime

# The index and contents of a snapshot of another replica; None where there is none to be had.
Snapshot = Callable[[], Awaitable[tuple[int, Any] | None]]

COMMIT_S = 0.004
APPLY_S = 0.002


@dataclass(slots=True)
class _Proposal:
    replica: Replica
    data: bytes
    answer: asyncio.Future[object]


class Consensus:
    """One tablet's log; `leader` is the only one that can commit."""

    def __init__(self, tablet_id: int, chance: random.Random) -> None:
        self.tablet_id = tablet_id
        self.chance = chance
        self.log: list[Entry] = []
        self.term = 0
        self.leader: int | None = None
        # Sees each entry when it is committed.
        self.witness: Callable[[int, Entry], None] = lambda tablet_id, entry: None
        self.replicas: dict[int, Replica] = {}
        self.proposed: deque[_Proposal] = deque()
        # How far behind replicas that do not lead may be.
        self.lag_s = APPLY_S
        # Who gossip says leads.
        self.said_to_lead: int | None = None
        # How long a proposal is waited for, and until when nothing is committed, although its
        # leader leads: disks are slow, and heartbeats are answered.
        self.deadline_s = 2.0
        self.stalled_until_s = 0.0

    def append(self, kind: EntryKind, data: bytes) -> int:
        """Commits an entry; its index."""
        self.log.append(Entry(self.term, len(self.log) + 1, kind, data))
        self.witness(self.tablet_id, self.log[-1])
        for replica in self.replicas.values():
            replica.wake()
        return len(self.log)

    def commit_until(self, last: _Proposal) -> None:
        """A majority holds the leader's log up to that proposal."""
        while last in self.proposed:
            proposal = self.proposed.popleft()
            index = self.append(EntryKind.COMMAND, proposal.data)
            proposal.replica.waits_for(index, proposal.answer)

    def elect(self, node_id: int, *, told: bool) -> None:
        """Another leader; `told`: the one before knows at once, else some time later."""
        old = self.replicas.get(self.leader or 0)
        kept = self.chance.randrange(len(self.proposed) + 1)
        for _ in range(kept):
            self.commit_until(self.proposed[0])
        lost, self.proposed = list(self.proposed), deque()
        self.leader = None
        if old is not None:
            forget_s = 0.0 if told else self.chance.uniform(0.01, 1.5)
            old.depose(forget_s, [proposal.answer for proposal in lost])
        self.term += 1
        self.leader = node_id
        for replica in self.replicas.values():
            replica.hear_of_leader(node_id)
        self.replicas[node_id].begin(self.term, self.append(EntryKind.NOOP, b""))

    def lose(self, node_id: int) -> None:
        """The node has died."""
        self.replicas.pop(node_id, None)
        if self.leader == node_id:
            kept = self.chance.randrange(len(self.proposed) + 1)
            for _ in range(kept):
                self.commit_until(self.proposed[0])
            self.proposed.clear()
            self.leader = None

    def lose_tail(self, count: int) -> None:
        """So many entries are gone that were committed; nobody lives who had them."""
        assert not self.replicas
        set_up = 3  # the first leader's entry, the fragments and their rows
        del self.log[max(set_up, len(self.log) - count) :]


@dataclass(slots=True)
class _Callbacks:
    started: Callable[[int], None]
    stopped: Callable[[], None]


@dataclass(slots=True)
class Replica:
    """A `ReplicationGroup` over the model."""

    consensus: Consensus
    runtime: Runtime
    node_id: int
    machine: Any
    term: int = 0
    leader_id: int | None = None
    is_leader: bool = False
    applied: int = 0
    # It has been deposed and hears of nothing yet.
    cut_off: bool = False
    _begins_at: int | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _answers: dict[int, asyncio.Future[object]] = field(default_factory=dict)
    _callbacks: list[_Callbacks] = field(default_factory=list)

    def start(self, snapshot: Snapshot | None = None) -> None:
        """With the whole log to take in, or with a snapshot where one is had."""
        self.consensus.replicas[self.node_id] = self
        self.term, self.leader_id = self.consensus.term, self.consensus.leader
        self.runtime.spawn(self._follow(snapshot), f"log of {self.consensus.tablet_id}")

    # What the model tells it.

    def wake(self) -> None:
        self._news.set()

    def waits_for(self, index: int, answer: asyncio.Future[object]) -> None:
        self._answers[index] = answer

    def hear_of_leader(self, node_id: int) -> None:
        if not self.is_leader:
            self.leader_id = node_id

    def begin(self, term: int, index: int) -> None:
        """It leads from that entry of its own on."""
        self.term, self.leader_id, self._begins_at = term, self.node_id, index
        self.is_leader = self.cut_off = False
        self.wake()

    def depose(self, after_s: float, lost: list[asyncio.Future[object]]) -> None:
        self._begins_at = None
        term = self.term
        self.cut_off = after_s > 0

        def learn() -> None:
            self.cut_off = False
            self.wake()
            if self.term == term and self.is_leader:
                self.is_leader = False
                self.leader_id = self.consensus.leader
                for callbacks in self._callbacks:
                    callbacks.stopped()
            for answer in lost:
                if not answer.done():
                    answer.set_exception(self._lost())

        if after_s:
            self.runtime.call_later(after_s, learn)
        else:
            learn()

    def _lost(self) -> Exception:
        if self.consensus.chance.random() < 0.5:
            return not_leader(self.consensus.tablet_id, self.node_id, self.consensus.leader)
        return StatementCompletionUnknown("the proposal's fate was not known in time")

    async def _follow(self, snapshot: Snapshot | None) -> None:
        found = None if snapshot is None else await snapshot()
        if found is not None:
            index, data = found
            await self.machine.install_snapshot(index, data)
            self.applied = index
            if self._begins_at is not None and self._begins_at <= index:
                self._serve()
        await self._apply()

    async def _apply(self) -> None:
        consensus, chance = self.consensus, self.consensus.chance
        while True:
            self._news.clear()
            if self.cut_off or self.applied == len(consensus.log):
                await self._news.wait()
                continue
            lag_s = APPLY_S if self._leads else consensus.lag_s
            await self.runtime.sleep(chance.random() * lag_s)
            entries = consensus.log[self.applied : self.applied + chance.randrange(1, 8)]
            results = await self.machine.apply(entries)
            for entry, result in zip(entries, results, strict=True):
                self.applied = entry.index
                answer = self._answers.pop(entry.index, None)
                if answer is not None and not answer.done():
                    answer.set_result(result)
                if entry.index == self._begins_at:
                    self._serve()

    def _serve(self) -> None:
        self._begins_at = None
        self.is_leader = True
        for callbacks in self._callbacks:
            callbacks.started(self.term)

    # What its tablet asks.

    def on_leadership(self, started: Callable[[int], None], stopped: Callable[[], None]) -> None:
        self._callbacks.append(_Callbacks(started, stopped))

    async def propose(self, data: bytes, *, deadline_s: float) -> object:
        if not self.is_leader:
            raise not_leader(self.consensus.tablet_id, self.node_id, self.leader_id)
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self._leads:
            proposal = _Proposal(self, data, answer)
            self.consensus.proposed.append(proposal)
            delay_s = self.consensus.chance.random() * COMMIT_S
            self.runtime.call_later(delay_s, self._commit, proposal)
        try:
            async with asyncio.timeout(min(deadline_s, self.consensus.deadline_s)):
                result = await answer
        except TimeoutError:
            raise StatementCompletionUnknown("the proposal's fate was not known in time") from None
        if isinstance(result, Exception):
            raise result
        return result

    def _commit(self, proposal: _Proposal) -> None:
        consensus = self.consensus
        left_s = consensus.stalled_until_s - asyncio.get_running_loop().time()
        if left_s > 0:
            self.runtime.call_later(left_s, self._commit, proposal)
        else:
            consensus.commit_until(proposal)

    async def read_barrier(self, *, deadline_s: float) -> int:
        if not self.is_leader:
            raise not_leader(self.consensus.tablet_id, self.node_id, self.leader_id)
        index = len(self.consensus.log)
        await self.runtime.sleep(self.consensus.chance.random() * COMMIT_S)
        if not self._leads:
            raise CannotConnectNow(f"node {self.node_id} has lost its majority")
        while self.applied < index:
            await self.runtime.sleep(APPLY_S)
        return self.applied

    @property
    def _leads(self) -> bool:
        """Whether it really does."""
        return self.consensus.leader == self.node_id and self.consensus.term == self.term

    def lease_valid(self) -> bool:
        return self.is_leader and self._leads

    def compact_log(self) -> None:
        """The log is short."""

    def out_of_step(self) -> None:
        return None

    def tell_commit(self) -> None:
        """Every replica sees the one log."""

    def hasten(self, index: int) -> None:
        """Replicas here apply when they like."""
