"""One replica of one group, driven: what the floors above hold of Raft.

The core says what to do (`core`), this carries it out: writes go to the node's one log
writer, messages to its outbox, committed entries to the state machine. An idle group is nothing
but memory and a place in the host's timer heap.

    RaftGroup       what the floors above ask; role; the core's instructions   here
      Proposals     who waits for the outcome of an entry                      `proposals`
      AppliedWaiters, IndexWaiters   who waits for what is applied, or to read `waiters`
      RemoteReads   read indexes from the leader elsewhere                     `remote_reads`
      Applying      the state machine and the one task on it                   `applying`
      LogCutter     how much of the log is kept                                `retention`

Order of things on a leader for one proposal: the entry goes to the followers and to the log
in the same turn of the loop; it is durable here or there in any order; once a majority has it
and it is durable here it is applied; then its proposer is answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cluster.errors import (
    CannotConnectNow,
    DqeError,
    InternalError,
    ObjectNotInPrerequisiteState,
    ProgramLimitExceeded,
)
from cluster.raft import retention
from cluster.raft.applying import Applying
from cluster.raft.beats import BeatReceiver
from cluster.raft.core import RaftCore, Ready
from cluster.raft.errors import not_leader
from cluster.raft.log import Configuration, Entry, GroupId, LogStorage, NodeId
from cluster.raft.messages import Envelope, Message
from cluster.raft.outbox import Outbox
from cluster.raft.proposals import Proposals
from cluster.raft.remote_reads import RemoteReads
from cluster.raft.settings import MIB, RaftSettings
from cluster.raft.snapshot_data import Machine
from cluster.raft.waiters import AppliedWaiters, IndexWaiters, in_time
from cluster.raft.writer import LogWriter
from cluster.runtime import Runtime

# One entry; larger changes come in several (rule L6). A frame holds it with room to spare.
MAX_ENTRY_BYTES = 16 * MIB
# Where every voter must hold an entry (`sync`), one that dies now would let its proposer wait out
# the whole deadline: the fate is unknown after this.
IN_STEP_WAIT_S = 5.0


class AskLeader(Protocol):
    """Asks another node for a read index; the host does it by RPC."""

    async def __call__(self, node_id: NodeId, group_id: GroupId, deadline_s: float) -> int: ...


@dataclass(frozen=True, slots=True)
class HostServices:
    """What a host lends to its groups."""

    runtime: Runtime
    settings: RaftSettings
    log: LogStorage
    writer: LogWriter
    outbox: Outbox
    mark_dirty: Callable[[RaftGroup], None]  # call `drive` later in this turn of the loop
    ask_leader: AskLeader


class RaftGroup:
    """See the module. All times in `deadline_s` are seconds from the call.

    Errors of all waiting calls: `NotLeader` (the request did not happen, ask elsewhere),
    `CannotConnectNow` (it did not happen, nobody could answer in time) and, of `propose` and
    `change_membership` only, `StatementCompletionUnknown` (it may have happened, or yet may).
    """

    def __init__(
        self,
        services: HostServices,
        node_id: NodeId,
        core: RaftCore,
        machine: Machine,
        *,
        is_prompt: bool = False,
    ) -> None:
        self._services = services
        self._core = core
        self._machine = machine
        self.node_id = node_id
        self.group_id = core.group_id
        self.scheduled_s = float("inf")  # the host's: when its timer heap looks at this group
        self.dirty = False  # the host's: `drive` is due

        self._persisted_sequence = 0
        self._held: deque[tuple[int, tuple[Envelope, ...]]] = deque()
        self._proposals = Proposals(self.group_id, node_id)
        self._index_waiters = IndexWaiters()
        self._applied_waiters = AppliedWaiters()
        runtime, settings = services.runtime, services.settings
        self._remote_reads = RemoteReads(
            runtime, settings, f"tablet {self.group_id}", self._ask_once
        )
        self._applying = Applying(
            runtime, settings, core, machine, self._proposals, self, is_prompt=is_prompt
        )
        self._cutter = retention.LogCutter(core, services.log)

        self._role_changed = asyncio.Event()
        self._serving_term: int | None = None
        self._started: list[Callable[[int], None]] = []
        self._stopped: list[Callable[[], None]] = []
        self._closed: DqeError | None = None

    # -- what it is now --------------------------------------------------------------------

    @property
    def leader_id(self) -> NodeId | None:
        """Where the leader is, as far as this replica knows; a hint."""
        return self._core.leader_id

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads *and serves*: its term's first entry is applied here."""
        return self._serving_term is not None

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def configuration(self) -> Configuration:
        """The members, as of the newest configuration in this replica's log."""
        return self._core.configuration

    @property
    def applied_index(self) -> int:
        """The last entry the state machine has applied."""
        return self._applying.applied_index

    @property
    def commit_index(self) -> int:
        return self._core.commit_index

    @property
    def last_index(self) -> int:
        return self._core.last_index

    @property
    def last_term(self) -> int:
        """The term of the last entry of the log here."""
        return self._core.term_at(self._core.last_index) or 0

    @property
    def has_caught_up(self) -> bool:
        """Whether it waits for no snapshot and has applied what it knows to be committed."""
        core = self._core
        return not core.awaits_snapshot and self.applied_index >= core.commit_index

    def match_index(self, node_id: NodeId) -> int:
        """What a member durably holds, as the leader knows it; 0 elsewhere."""
        return self._core.match_index(node_id)

    def is_caught_up(self, node_id: NodeId) -> bool:
        """Whether that member could become a voter, or the leader, now; at the leader only."""
        return self._core.is_caught_up(node_id)

    @property
    def members_committed(self) -> bool:
        """Whether `configuration` is committed, as far as this replica knows."""
        return self._core.configuration_index <= self._core.commit_index

    def out_of_step(self) -> CannotConnectNow | None:
        """Why this leader, serving or not, can have nothing applied now: the group is `sync`, and
        a voter is silent. None where that is not so."""
        return self._core.out_of_step()

    def lease_valid(self) -> bool:
        """Whether no other replica can have led until now; ask *after* the read (rule G1)."""
        return self.is_leader and self._core.holds_lease(self._now_s())

    def on_leadership(self, started: Callable[[int], None], stopped: Callable[[], None]) -> None:
        """Be told when this replica starts to serve as leader in a term, and stops to.

        `started` comes once the term's first entry is applied (rule C2); `stopped` before a
        transfer's word is sent (rule G1). Both are called in place and must not fail.
        """
        self._started.append(started)
        self._stopped.append(stopped)
        if self._serving_term is not None:
            started(self._serving_term)

    # -- writing ---------------------------------------------------------------------------

    async def propose(self, data: bytes, *, deadline_s: float) -> object:
        """Replicate a command and apply it; returns what `apply` returned for it here."""
        if not self._proposals.has_room:
            expires_s = self._now_s() + deadline_s
            await self._proposals.wait_for_room(deadline_s)
            deadline_s = expires_s - self._now_s()
        return await self.propose_now(data, deadline_s=deadline_s)

    def propose_now(self, data: bytes, *, deadline_s: float) -> asyncio.Future[object]:
        """The same without waiting: the outcome to come, whose errors somebody must take.

        Raises what says that it did not happen; it waits for no room.
        """
        if len(data) > MAX_ENTRY_BYTES:
            raise ProgramLimitExceeded(
                f"one change of tablet {self.group_id} has {len(data)} bytes, "
                f"more than the {MAX_ENTRY_BYTES} allowed"
            )
        self._require_open()
        index = self._core.propose([data])
        if self.configuration.sync:
            deadline_s = min(deadline_s, IN_STEP_WAIT_S)
        return self._outcome(index, len(data), deadline_s)

    def _outcome(self, index: int, size_bytes: int, deadline_s: float) -> asyncio.Future[object]:
        self._services.mark_dirty(self)
        expires_s = self._now_s() + deadline_s
        return self._proposals.add(index, self._core.term, size_bytes, expires_s)

    async def change_membership(self, configuration: Configuration, *, deadline_s: float) -> None:
        """Make that the group's members; returns once it is committed and applied here.

        Raises ObjectNotInPrerequisiteState where the change is not allowed now: more than one
        voter differs, a change is under way, a new voter is no caught-up learner.
        """
        self._require_open()
        index = self._core.propose_change(configuration)
        await self._outcome(index, 0, deadline_s)

    async def add_voter(self, node_id: NodeId, *, deadline_s: float) -> None:
        """Let a node learn the log, then make it a voter once it has nearly caught up."""
        expires_s = self._now_s() + deadline_s
        members = self.configuration
        if node_id in members.voters:
            return
        if node_id not in members.learners:
            learning = members.with_learner(node_id)
            await self.change_membership(learning, deadline_s=deadline_s)
        while not self._core.is_caught_up(node_id):
            self._require_leader()
            if self._now_s() >= expires_s:
                raise CannotConnectNow(
                    f"node {node_id} has not caught up with tablet {self.group_id} in time"
                )
            await self._services.runtime.sleep(self._services.settings.heartbeat_interval_s)
        voting = self.configuration.with_voter(node_id)
        await self.change_membership(voting, deadline_s=expires_s - self._now_s())

    async def transfer_leadership(self, node_id: NodeId, *, deadline_s: float) -> None:
        """Hand leadership to a voter; returns when this replica no longer leads.

        One that has not taken over in time may be followed by any other, in a term of its own.
        """
        self._require_open()
        expires_s = self._now_s() + deadline_s
        self._core.transfer_leadership(node_id, self._now_s())
        self._notice_role()  # its users stop serving before the word goes out
        self._services.mark_dirty(self)
        while self._core.is_leader and node_id != self.node_id:
            if self._core.is_serving or self._now_s() >= expires_s:
                raise ObjectNotInPrerequisiteState(
                    f"node {node_id} did not take over tablet {self.group_id} in time"
                )
            await self._services.runtime.sleep(self._services.settings.heartbeat_interval_s / 4)

    # -- reading ---------------------------------------------------------------------------

    async def read_barrier(self, *, deadline_s: float) -> int:
        """Make this leader's state fresh for a linearizable read; the index it waited for.

        Everything committed before the call is applied here when it returns. Under a lease
        that costs nothing, without one a round of heartbeats.
        """
        expires_s = self._now_s() + deadline_s
        index = await self._read_index(deadline_s)
        await self.wait_applied(index, deadline_s=expires_s - self._now_s())
        return index

    async def _read_index(self, deadline_s: float) -> int:
        self._require_open()
        if self.is_leader:
            index = self._core.commit_index
            if self._core.holds_lease(self._now_s()):
                return index
        context = self._index_waiters.new_context()
        self._core.read_index(context, self._now_s())
        future = self._index_waiters.add(context)
        self._services.mark_dirty(self)
        why = f"no majority of tablet {self.group_id} answered its leader in time"
        try:
            return await in_time(future, deadline_s, why)
        finally:
            self._index_waiters.forget(context)

    async def read_index(self, *, deadline_s: float) -> int:
        """The index a fresh read elsewhere must apply up to; at the leader only (rule R3)."""
        index = await self._read_index(deadline_s)
        self.tell_commit()
        return index

    def tell_commit(self) -> None:
        """Have followers apply what is committed at once: somebody there is about to wait for it.

        Else they hear of it with the next entries, or within a heartbeat's interval, and apply it
        when more has gathered.
        """
        if self._closed is None and self._core.is_leader:
            self._core.tell_commit()
            self._services.mark_dirty(self)

    def hasten(self, index: int) -> None:
        """Somebody here waits for that entry: once it is committed it is applied at once."""
        if self._closed is None and index > self.applied_index:
            self._applying.want(index)
            self._services.mark_dirty(self)

    async def remote_read_index(self, *, deadline_s: float) -> int:
        """At any replica: ask the leader for a read index and apply up to it here."""
        expires_s = self._now_s() + deadline_s
        self._require_open()
        index = await self._remote_reads.index(deadline_s)
        await self.wait_applied(index, deadline_s=expires_s - self._now_s())
        return index

    async def _ask_once(self, deadline_s: float) -> int:
        leader_id = self._core.leader_id
        if leader_id is None:
            raise not_leader(self.group_id, self.node_id, None)
        if leader_id == self.node_id:
            return await self._read_index(deadline_s)
        return await self._services.ask_leader(leader_id, self.group_id, deadline_s)

    async def wait_applied(self, index: int, *, deadline_s: float) -> None:
        """Wait until the state machine here has applied that entry."""
        if self.applied_index >= index:
            return
        self._require_open()
        future = self._applied_waiters.add(index)
        self.hasten(index)
        try:
            async with asyncio.timeout(deadline_s):
                await future
        except TimeoutError:
            raise CannotConnectNow(
                f"node {self.node_id} has applied tablet {self.group_id} only up to "
                f"{self.applied_index}, not {index}"
            ) from None

    @property
    def leads(self) -> bool:
        """Whether it is the leader of its term, serving or not yet."""
        return self._core.is_leader

    async def wait_role_change(self, *, deadline_s: float) -> bool:
        """Wait until leadership here or the known leader changes; False if it did not."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._role_changed.wait()
        except TimeoutError:
            return False
        return True

    def _require_open(self) -> None:
        if self._closed is not None:
            raise self._closed

    def _require_leader(self) -> None:
        self._require_open()
        if not self._core.is_leader:
            raise not_leader(self.group_id, self.node_id, self._core.leader_id)

    def _now_s(self) -> float:
        return self._services.runtime.monotonic()

    # -- the host's side -------------------------------------------------------------------

    @property
    def next_due_s(self) -> float:
        """When `tick` is due."""
        if self._closed is not None:
            return float("inf")
        return self._due_s(self._core.next_due_s)

    @property
    def earliest_due_s(self) -> float:
        """A time not after that."""
        return self._due_s(self._core.earliest_due_s)

    def _due_s(self, core_due_s: float) -> float:
        due_s, apply_due_s = self._proposals.due_s, self._applying.due_s
        if core_due_s < due_s:
            due_s = core_due_s
        return due_s if apply_due_s is None or apply_due_s > due_s else apply_due_s

    def tick(self, now_s: float) -> None:
        """Let time pass."""
        if self._closed is None:
            self._core.tick(now_s)
            self._proposals.expire(now_s)
            self._services.mark_dirty(self)

    def leader_lost(self, now_s: float) -> None:
        """The connection to the leader's node broke."""
        if self._closed is None and self._core.leader_id is not None:
            self._core.leader_lost(self._core.leader_id, now_s)

    def follow_by_beats(self, leader_id: NodeId, term: int, source: BeatReceiver) -> bool:
        """See `RaftCore.follow_by_beats`."""
        return self._closed is None and self._core.follow_by_beats(leader_id, term, source)

    def leave_beats(self, now_s: float) -> None:
        """See `RaftCore.leave_beats`."""
        self._core.leave_beats(now_s)

    def uncover(self, node_id: NodeId, now_s: float) -> None:
        """See `RaftCore.uncover`."""
        self._core.uncover(node_id, now_s)

    def step(self, message: Message, now_s: float) -> None:
        """Take a message of another replica."""
        if self._closed is None:
            self._core.step(message, now_s)
            self._services.mark_dirty(self)

    def drive(self) -> None:
        """Carry out what the core asks for."""
        if self._closed is not None:
            return
        while (ready := self._core.ready()) is not None:
            self._carry_out(ready)
        self._notice_role()
        self._applying.start()

    def _carry_out(self, ready: Ready) -> None:
        self._services.outbox.put(ready.messages)
        if ready.write is not None:
            self._services.writer.submit(ready.write, partial(self._written, ready.sequence))
        if ready.after_write:
            if self._persisted_sequence >= ready.sequence:
                self._services.outbox.put(ready.after_write)
            else:
                self._held.append((ready.sequence, ready.after_write))
        if ready.reads:
            self._index_waiters.confirmed(ready.reads)
        if ready.snapshot is not None:
            self._applying.restore(ready.sequence, ready.snapshot)
        if ready.snapshot_wanted is not None:
            self._applying.want_snapshot(ready.snapshot_wanted)

    def _written(self, sequence: int) -> None:
        if self._closed is not None:
            return
        self._persisted_sequence = sequence
        self._applying.persisted(sequence)
        self._core.persisted(sequence, self._now_s())
        while self._held and self._held[0][0] <= sequence:
            self._services.outbox.put(self._held.popleft()[1])
        self._services.mark_dirty(self)

    def _notice_role(self) -> None:
        core = self._core
        if self._serving_term is None and not (self._index_waiters or core.is_leader):
            return
        if self._index_waiters and not core.is_leader:
            self._index_waiters.fail(not_leader(self.group_id, self.node_id, core.leader_id))
        ready_to_serve = core.is_serving and self.applied_index >= core.term_start_index
        serving_term = core.term if ready_to_serve else None
        if serving_term == self._serving_term:
            return
        if self._serving_term is not None:
            self._serving_term = None
            for stopped in self._stopped:
                stopped()
        if serving_term is not None:
            self._serving_term = serving_term
            for started in self._started:
                started(serving_term)
        self._role_changed.set()
        self._role_changed = asyncio.Event()

    # -- what becomes of the state machine (`applying.Replica`) ----------------------------

    def applied(self, entries: Sequence[Entry], results: Sequence[object]) -> None:
        """See `Replica`; who has proposed them is answered."""
        self._moved()
        self._proposals.applied(entries, results)
        self._cutter.applied(entries)
        self.compact_log(retention.COMPACT_AT_ENTRIES)

    def restored(self, index: int) -> None:
        """See `Replica`."""
        self._moved()
        self._proposals.skipped_to(index)
        self.stirred()

    def stirred(self) -> None:
        """See `Replica`."""
        self._services.mark_dirty(self)

    def failed(self, error: Exception) -> None:
        """See `Replica`; this replica is no more."""
        self.close(
            InternalError(
                f"the replica of tablet {self.group_id} on node {self.node_id} has stopped",
                detail=str(error),
            )
        )

    def _moved(self) -> None:
        self._applied_waiters.applied(self.applied_index)
        self._notice_role()

    def compact_log(self, least_entries: int = 1) -> None:
        """Cut the log up to what the state machine holds durably, unless too little would go.

        Called after each apply; a machine calls it when its durable index has moved, and when
        this group holds up the removal of segments. Followers that lag keep entries for
        themselves, up to bounds (`retention`).
        """
        if self._closed is not None:
            return
        self._cutter.cut(self.applied_index, self._machine.durable_index, least_entries)

    # -- the end ---------------------------------------------------------------------------

    def close(self, error: DqeError) -> None:
        """Stop at once; everybody who waits gets `error`, or that the outcome is unknown."""
        if self._closed is not None:
            return
        self._closed = error
        self._core.close()
        self._applying.close()
        self._proposals.fail_all(error.message)
        self._index_waiters.fail(error)
        self._remote_reads.close(error)
        self._applied_waiters.fail(error)
        if self._serving_term is not None:
            self._serving_term = None
            for stopped in self._stopped:
                stopped()

    async def finished(self) -> None:
        """Wait until the work under way when it was closed has ended."""
        await self._applying.finished()
