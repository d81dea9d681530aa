"""All Raft replicas of one node: one log, one frame a peer, one timer.

    RPC notice -> RaftHost -> RaftGroup.step -> (dirty) -> RaftGroup.drive -> writer, outbox

Whatever happens to a group marks it dirty; once in a turn of the loop, and when an append has
become durable, the host drives the dirty ones and then flushes the outbox, so that all their
messages to a peer share a frame and all their writes an append. Time is one task: it sleeps a
tick and wakes the groups whose timers are due, from a heap in which each group has one place.

Groups that have nothing to say say nothing: one beat a pair of nodes stands for all their
heartbeats (`beat_driver`), and they have no place in the timers.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Set

import msgspec

from cluster.errors import CannotConnectNow, DataCorrupted, DuplicateObject, ProtocolViolation
from cluster.raft.beat_driver import BeatDriver
from cluster.raft.core import RaftCore
from cluster.raft.group import HostServices, RaftGroup
from cluster.raft.leaving import hand_over_all
from cluster.raft.log import (
    NO_NODE,
    Configuration,
    Entry,
    GroupId,
    GroupImage,
    GroupWrite,
    HardState,
    LogStorage,
    NodeId,
    SnapshotMark,
    tablet_of,
)
from cluster.raft.messages import Message, RaftFrame, VoteRequest, decode_messages
from cluster.raft.outbox import METHOD, Outbox
from cluster.raft.settings import RaftSettings
from cluster.raft.snapshot_data import Machine, SnapshotPace, snapshots_of
from cluster.raft.writer import LogWriter, log_failure
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

READ_INDEX_METHOD = "raft.read_index"

# Timers are looked at this often: this share of a heartbeat interval.
TICK_SHARE = 0.25
# Groups whose first candidate asked before they were opened here; the oldest are forgotten.
MAX_EARLY_GROUPS = 4096


class ReadIndexRequest(msgspec.Struct, frozen=True):
    """Asks the leader of a group for a read index."""

    group_id: GroupId


class ReadIndexReply(msgspec.Struct, frozen=True):
    """The index the asking replica must have applied."""

    index: int


class RaftHost:
    """See the module. `address_of` says where a node listens, None if that is not known.

    `on_fatal` is called once when the log has failed: the process must then end (rule L1).
    """

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        log: LogStorage,
        node_id: NodeId,
        address_of: Callable[[NodeId], str | None],
        *,
        settings: RaftSettings | None = None,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.node_id = node_id
        self.settings = settings or RaftSettings()
        self._runtime = runtime
        self._random = runtime.quick_random()  # drawn from at every message of a leader
        self._rpc = rpc
        self._log = log
        self._address_of = address_of
        self._on_fatal = on_fatal
        self._images: dict[GroupId, GroupImage] = {}
        self._groups: dict[GroupId, RaftGroup] = {}
        self._dirty: list[RaftGroup] = []
        self._timers: list[tuple[float, GroupId]] = []
        self._timer_task: asyncio.Task[None] | None = None
        self._closed = False
        self._log_is_lost = False
        self._unknown_group: Callable[[GroupId, NodeId], None] | None = None
        self._early: dict[GroupId, VoteRequest] = {}
        self.writer = LogWriter(log, self._log_failed, self._drive)
        self._pace = SnapshotPace(self.settings.snapshot_bytes_per_s)
        self.outbox = Outbox(rpc, node_id, address_of)
        self._services = HostServices(
            runtime,
            self.settings,
            log,
            self.writer,
            self.outbox,
            self._mark_dirty,
            self._ask_leader,
        )
        self._beats = BeatDriver(
            runtime,
            rpc,
            node_id,
            address_of,
            self.settings.heartbeat_interval_s,
            self._groups,
            self._schedule,
        )
        rpc.handle_notice(METHOD, RaftFrame, self._on_frame)
        rpc.handle(READ_INDEX_METHOD, ReadIndexRequest, self._on_read_index)
        rpc.on_lost(self._on_lost)

    # -- life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the log; then groups can be opened."""
        self._images = self._log.load()
        self._timer_task = self._runtime.spawn(self._keep_time(), "raft timers")
        self._beats.start()

    async def hand_over(self, live: Set[NodeId], *, deadline_s: float) -> None:
        """Have others lead what is led here, of those that answer; before this node stops."""
        groups = list(self._groups.values())
        await hand_over_all(groups, self.node_id, live, deadline_s=deadline_s)

    async def close(self) -> None:
        """Stop all groups, in the middle of whatever they do; what is queued is written."""
        self._closed = True
        if self._timer_task is not None:
            self._timer_task.cancel()
            await asyncio.gather(self._timer_task, return_exceptions=True)
        await self._beats.close()
        groups = list(self._groups.values())
        self._groups.clear()
        for group in groups:
            group.close(CannotConnectNow(f"node {self.node_id} is shutting down"))
        for group in groups:
            await group.finished()
        await self.writer.close()

    @property
    def logged_groups(self) -> tuple[GroupId, ...]:
        """The groups the log holds that have not been opened."""
        return tuple(sorted(self._images))

    def groups_of(self, tablet_id: int) -> list[GroupId]:
        """Every incarnation of a tablet that is open here or in the log, the oldest first."""
        return sorted(g for g in {*self._images, *self._groups} if tablet_of(g) == tablet_id)

    def logged(self, group_id: GroupId) -> GroupImage:
        """What the log holds of a group that is not open."""
        return self._images[group_id]

    async def found_group(self, group_id: GroupId, mark: SnapshotMark, term: int) -> None:
        """Make a group in the log that begins behind `mark`, whose state the machine has."""
        write = GroupWrite(group_id, HardState(term), (), mark)
        await self.writer.write(write)
        self._images[group_id] = GroupImage(HardState(term), mark, ())

    def group(self, group_id: GroupId) -> RaftGroup | None:
        """An open group."""
        return self._groups.get(group_id)

    def led_groups(self) -> list[int]:
        """The tablets whose groups this node leads and serves."""
        return [tablet_of(g) for g, group in self._groups.items() if group.is_leader]

    def on_unknown_group(self, callback: Callable[[GroupId, NodeId], None]) -> None:
        """Be told when a node writes to a group that is not open here; it is asked again."""
        self._unknown_group = callback

    async def open_group(
        self,
        group_id: GroupId,
        machine: Machine,
        bootstrap: Configuration | None,
        first_leader: NodeId = NO_NODE,
        *,
        is_prompt: bool = False,
    ) -> RaftGroup:
        """Open the replica in the log; if there is none, a new one.

        A new group's first members all open it with the same `bootstrap`; a replica that
        joins later has None and waits to be contacted. A replica that the log holds goes on
        from there, whatever `bootstrap` says. In a new group `first_leader` campaigns at once.
        `is_prompt`, the same on all members: followers apply what is committed as it happens,
        and not when somebody asks them, or a few tenths of a second later.
        """
        if group_id in self._groups:
            raise DuplicateObject(f"tablet {group_id} is already open on node {self.node_id}")
        image = self._images.pop(group_id, None)
        if image is None:
            image = await self._create(group_id, bootstrap)
        assert machine.applied_index == machine.durable_index, (
            "a machine opens at its durable index"
        )

        def fetch(low: int, high: int) -> list[Entry]:
            return self._read_back(group_id, low, high)

        core = RaftCore(
            group_id,
            self.node_id,
            image,
            applied_index=machine.durable_index,
            fetch=fetch,
            settings=self.settings,
            random=self._random,
            now_s=self._runtime.monotonic(),
            first_leader=first_leader,
            open_sink=snapshots_of(machine).receive_snapshot,
            pace=self._pace,
            beats=self._beats.sender,
            tells_at_once=is_prompt,
        )
        group = RaftGroup(self._services, self.node_id, core, machine, is_prompt=is_prompt)
        self._groups[group_id] = group
        if core.next_due_s <= self._runtime.monotonic():
            group.tick(self._runtime.monotonic())
        early = self._early.pop(group_id, None)
        if early is not None:
            group.step(early, self._runtime.monotonic())
        self._mark_dirty(group)
        return group

    def _read_back(self, group_id: GroupId, low: int, high: int) -> list[Entry]:
        """Entries that were durable once. If they cannot be had the log is damaged: the node
        stops, since it does not hold what it has acknowledged (rule L1)."""
        try:
            return self._log.entries(group_id, low, high)
        except (DataCorrupted, OSError) as error:
            if not self._log_is_lost:
                self._log_is_lost = True
                self._log_failed(error)
            raise

    async def _create(self, group_id: GroupId, bootstrap: Configuration | None) -> GroupImage:
        mark = SnapshotMark(0, 0, bootstrap or Configuration())
        await self.writer.write(GroupWrite(group_id, HardState(), (), mark))
        return GroupImage(HardState(), mark, ())

    async def close_group(self, group_id: GroupId) -> None:
        """Close a group and keep its log, for `open_group` to go on from with a new machine."""
        group = self._groups.pop(group_id, None)
        if group is None:
            return
        group.close(CannotConnectNow(f"tablet {group_id} is being opened anew here"))
        await group.finished()
        await self.writer.rest()
        self._images[group_id] = self._log.load()[group_id]

    async def drop_group(self, group_id: GroupId) -> None:
        """Close a group and forget its log; the state machine's files are the caller's."""
        self._images.pop(group_id, None)
        group = self._groups.pop(group_id, None)
        if group is not None:
            group.close(CannotConnectNow(f"tablet {group_id} is no longer on node {self.node_id}"))
            await group.finished()
        self.writer.forget(group_id)
        await self.writer.rest()
        self._log.drop(group_id)

    def _log_failed(self, error: BaseException) -> None:
        failure = log_failure(error)
        for group in self._groups.values():
            group.close(failure)
        if self._on_fatal is not None:
            self._on_fatal(error)

    # -- driving ---------------------------------------------------------------------------

    def _mark_dirty(self, group: RaftGroup) -> None:
        if group.dirty:
            return
        group.dirty = True
        if not self._dirty:
            self._runtime.call_soon(self._drive)
        self._dirty.append(group)

    def _drive(self) -> None:
        dirty, self._dirty = self._dirty, []
        for group in dirty:
            group.dirty = False
            group.drive()
            self._schedule(group)
        self.outbox.flush()
        self.writer.begin()

    def _schedule(self, group: RaftGroup) -> None:
        """Give the group its place in the heap; later timers keep the earlier place."""
        if group.scheduled_s <= group.earliest_due_s:
            return
        due_s = group.next_due_s
        if due_s < group.scheduled_s:
            group.scheduled_s = due_s
            heapq.heappush(self._timers, (due_s, group.group_id))

    async def _keep_time(self) -> None:
        tick_s = self.settings.heartbeat_interval_s * TICK_SHARE
        while True:
            await self._runtime.sleep(tick_s)
            self._wake_due(self._runtime.monotonic())

    def _wake_due(self, now_s: float) -> None:
        while self._timers and self._timers[0][0] <= now_s:
            due_s, group_id = heapq.heappop(self._timers)
            group = self._groups.get(group_id)
            if group is None or group.scheduled_s != due_s:
                continue  # closed, or it has an earlier place
            group.scheduled_s = float("inf")
            if group.next_due_s <= now_s:
                group.tick(now_s)
            else:
                self._schedule(group)

    # -- the network -----------------------------------------------------------------------

    def _on_frame(self, _context: CallContext, frame: RaftFrame, body: bytes | memoryview) -> None:
        try:
            messages = decode_messages(body)
        except msgspec.DecodeError as error:
            raise ProtocolViolation(
                f"raft messages from node {frame.sender} cannot be read", detail=str(error)
            ) from error
        now_s = self._runtime.monotonic()
        for message in messages:
            group = self._groups.get(message.group_id)
            if group is not None:
                group.step(message, now_s)
            elif not self._closed:
                self._keep_early(message)
                if self._unknown_group is not None:
                    self._unknown_group(message.group_id, frame.sender)

    def _keep_early(self, message: Message) -> None:
        """A new group's first candidate may ask before this node has opened the group."""
        if isinstance(message, VoteRequest):
            self._early[message.group_id] = message
            if len(self._early) > MAX_EARLY_GROUPS:
                del self._early[next(iter(self._early))]

    def _on_lost(self, address: str) -> None:
        """A connection to that address broke: the groups its node leads look for another."""
        leaders = {group.leader_id for group in self._groups.values()} - {None, self.node_id}
        lost = {node for node in leaders if node and self._address_of(node) == address}
        if not lost:
            return
        now_s = self._runtime.monotonic()
        for node_id in sorted(lost):
            self._beats.lost(node_id, now_s)
        for group in self._groups.values():
            if group.leader_id in lost:
                group.leader_lost(now_s)
                self._schedule(group)

    async def _on_read_index(
        self, context: CallContext, request: ReadIndexRequest, _body: bytes | memoryview
    ) -> ReadIndexReply:
        group = self._groups.get(request.group_id)
        if group is None:
            raise CannotConnectNow(f"tablet {request.group_id} is not on node {self.node_id}")
        return ReadIndexReply(await group.read_index(deadline_s=context.remaining_s()))

    async def _ask_leader(self, node_id: NodeId, group_id: GroupId, deadline_s: float) -> int:
        address = self._address_of(node_id)
        if address is None:
            raise CannotConnectNow(f"the address of node {node_id} is not known")
        reply = await self._rpc.call(
            address,
            READ_INDEX_METHOD,
            ReadIndexRequest(group_id),
            ReadIndexReply,
            deadline_s=deadline_s,
        )
        return reply.header.index
