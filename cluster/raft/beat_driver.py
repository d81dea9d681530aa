"""Sends and receives the beats of `beats` for one node, and watches for silence.

One task, once a heartbeat interval: a beat to every node where this one leads groups that are
covered, whatever their number. When replies or beats have stayed away for too long, the groups
concerned speak for themselves again. A node that was itself held up judges nobody by that: what
was sent to it meanwhile may still wait to be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from cluster.errors import CannotConnectNow, ProtocolViolation
from cluster.raft.beats import (
    SILENT_BEATS,
    Beat,
    BeatReceiver,
    BeatReply,
    BeatSender,
    decode_listed,
)
from cluster.raft.group import RaftGroup
from cluster.raft.log import GroupId, NodeId
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime

BEAT_METHOD = "raft.beat"
REPLY_METHOD = "raft.beat_reply"


class BeatDriver:
    """See the module. `schedule` gives a group its place among the host's timers again."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        node_id: NodeId,
        address_of: Callable[[NodeId], str | None],
        interval_s: float,
        groups: Mapping[GroupId, RaftGroup],
        schedule: Callable[[RaftGroup], None],
    ) -> None:
        self._runtime = runtime
        self._rpc = rpc
        self._node_id = node_id
        self._address_of = address_of
        self._interval_s = interval_s
        self._groups = groups
        self._schedule = schedule
        self._incarnation = runtime.random.getrandbits(62) + 1
        self._senders: dict[NodeId, BeatSender] = {}
        self._receivers: dict[NodeId, BeatReceiver] = {}
        self._task: asyncio.Task[None] | None = None
        self.beats = 0  # sent, for the metrics
        rpc.handle_notice(BEAT_METHOD, Beat, self._on_beat)
        rpc.handle_notice(REPLY_METHOD, BeatReply, self._on_reply)

    def start(self) -> None:
        """Begin to beat."""
        self._task = self._runtime.spawn(self._beat_forever(), "raft beats")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def sender(self, node_id: NodeId) -> BeatSender:
        """What this node leads at that peer."""
        found = self._senders.get(node_id)
        if found is None:
            found = self._senders[node_id] = BeatSender(self._node_id, self._incarnation)
        return found

    async def _beat_forever(self) -> None:
        before_s = self._runtime.monotonic()
        while True:
            await self._runtime.sleep(self._interval_s)
            now_s = self._runtime.monotonic()
            if now_s - before_s < 2 * self._interval_s:
                self._judge_silence(now_s)
            before_s = now_s
            for node_id, sender in self._senders.items():
                if sender.covers_any:
                    self._send(node_id, sender, now_s)

    def _send(self, node_id: NodeId, sender: BeatSender, now_s: float) -> None:
        beat, body = sender.beat(now_s)
        self._notify(node_id, BEAT_METHOD, beat, body)
        self.beats += 1

    def _notify(
        self, node_id: NodeId, method: str, header: Beat | BeatReply, body: bytes = b""
    ) -> None:
        address = self._address_of(node_id)
        if address is None:
            return
        try:
            self._rpc.notify(address, method, header, body)
        except CannotConnectNow:
            return  # this node is stopping

    def _judge_silence(self, now_s: float) -> None:
        for node_id, sender in self._senders.items():
            if sender.is_silent(now_s, self._interval_s):
                for group_id in sender.groups:
                    self._speak_for_itself(node_id, group_id, now_s)
        for receiver in self._receivers.values():
            if now_s - receiver.heard_s > SILENT_BEATS * self._interval_s:
                self._let_go(receiver, now_s)

    def _speak_for_itself(self, node_id: NodeId, group_id: GroupId, now_s: float) -> None:
        group = self._groups.get(group_id)
        if group is not None:
            group.uncover(node_id, now_s)
            self._schedule(group)

    def _let_go(self, receiver: BeatReceiver, now_s: float) -> None:
        group_ids = receiver.groups
        receiver.forget()
        for group_id in group_ids:
            self._leave(group_id, now_s)

    def _leave(self, group_id: GroupId, now_s: float) -> None:
        group = self._groups.get(group_id)
        if group is not None:
            group.leave_beats(now_s)
            self._schedule(group)

    def lost(self, node_id: NodeId, now_s: float) -> None:
        """The connection to that node broke: its groups have timers of their own again."""
        receiver = self._receivers.get(node_id)
        if receiver is not None:
            self._let_go(receiver, now_s)

    def _on_beat(self, _context: CallContext, beat: Beat, body: bytes | memoryview) -> None:
        receiver = self._receivers.get(beat.sender)
        if receiver is None:
            receiver = self._receivers[beat.sender] = BeatReceiver(self._node_id)
        try:
            listed = decode_listed(body) if beat.listed else ()
        except msgspec.DecodeError as error:
            raise ProtocolViolation(
                f"the groups that node {beat.sender} leads cannot be read", detail=str(error)
            ) from error
        now_s = self._runtime.monotonic()

        def agree(group_id: GroupId, term: int) -> bool:
            group = self._groups.get(group_id)
            return group is not None and group.follow_by_beats(beat.sender, term, receiver)

        reply = receiver.received(
            beat, listed, now_s, agree, lambda group_id: self._leave(group_id, now_s)
        )
        self._notify(beat.sender, REPLY_METHOD, reply)

    def _on_reply(self, _context: CallContext, reply: BeatReply, _: bytes | memoryview) -> None:
        sender = self._senders.get(reply.sender)
        if sender is not None:
            now_s = self._runtime.monotonic()
            sender.answered(reply, lambda g: self._speak_for_itself(reply.sender, g, now_s))
