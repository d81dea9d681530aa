"""Messages of all groups to one peer travel together: one frame a peer and turn of the loop.

Raft lives with loss, so nothing is kept: a peer without a known address, or one that the RPC
layer cannot reach now, loses the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.errors import CannotConnectNow
from cluster.raft.log import NodeId
from cluster.raft.log_view import entry_bytes
from cluster.raft.messages import (
    Append,
    Envelope,
    Message,
    RaftFrame,
    SnapshotChunk,
    encode_messages,
)
from cluster.rpc import RpcNode

METHOD = "raft.messages"

# A frame takes messages until it is this large, so it is at most this and one message more.
MAX_FRAME_BYTES = 4 * 1024 * 1024
MESSAGE_OVERHEAD_BYTES = 64


def message_bytes(message: Message) -> int:
    """About what a message takes in a frame."""
    if isinstance(message, Append):
        return MESSAGE_OVERHEAD_BYTES + sum(map(entry_bytes, message.entries))
    if isinstance(message, SnapshotChunk):
        return MESSAGE_OVERHEAD_BYTES + len(message.data)
    return MESSAGE_OVERHEAD_BYTES


class Outbox:
    """Gathers envelopes until `flush`."""

    def __init__(
        self, rpc: RpcNode, node_id: NodeId, address_of: Callable[[NodeId], str | None]
    ) -> None:
        self._rpc = rpc
        self._header = RaftFrame(node_id)
        self._address_of = address_of
        self._waiting: dict[NodeId, list[Message]] = {}
        self.frames = 0  # sent, for the metrics
        self.messages = 0

    def put(self, envelopes: Sequence[Envelope]) -> None:
        """Add messages for the next `flush`."""
        for to, message in envelopes:
            self._waiting.setdefault(to, []).append(message)

    def flush(self) -> None:
        """Send all that has gathered."""
        waiting, self._waiting = self._waiting, {}
        for to, messages in waiting.items():
            address = self._address_of(to)
            if address is not None:
                self._send(address, messages)

    def _send(self, address: str, messages: list[Message]) -> None:
        if len(messages) == 1:
            self._notify(address, (messages[0],))
            return
        start = size = 0
        for position, message in enumerate(messages):
            size += message_bytes(message)
            if size >= MAX_FRAME_BYTES or position == len(messages) - 1:
                chosen = tuple(messages[start : position + 1])
                self._notify(address, chosen)
                start, size = position + 1, 0

    def _notify(self, address: str, messages: tuple[Message, ...]) -> None:
        try:
            self._rpc.notify(address, METHOD, self._header, encode_messages(messages))
        except CannotConnectNow:
            return  # this node is stopping
        self.frames += 1
        self.messages += len(messages)
