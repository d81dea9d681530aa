"""The messages of the Raft core, as they are and as they travel.

All are small immutable structs, encoded by msgspec as arrays with a one-character tag. Every
message names its group, its term and its sender; the receiver is known to whoever sends it
(`Envelope`) and needs no room on the wire.

`sent_at_s` is the *sender's* clock and only ever echoed: the lease of rule G1 runs from it.
`round` numbers the leader's read rounds (thesis 6.4) and is echoed too. Terms of pre-vote
messages are the term the candidate *would* take; they change nobody's term (thesis 9.6).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from cluster.raft.log import Entry, GroupId, NodeId, SnapshotMark


class VoteRequest(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v"):
    """RequestVote (paper 5.2, 5.4.1), or its rehearsal when `pre_vote` is set."""

    group_id: GroupId
    term: int
    sender: NodeId
    last_index: int
    last_term: int
    pre_vote: bool
    transfer: bool  # the leader asked for this election: leases do not hold it up (thesis 3.10)


class VoteReply(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="V"):
    """The answer; `term` is the requested one if granted, else the voter's own."""

    group_id: GroupId
    term: int
    sender: NodeId
    granted: bool
    pre_vote: bool


class Append(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """AppendEntries with entries, or without any to probe where the logs part (paper 5.3)."""

    group_id: GroupId
    term: int
    sender: NodeId
    previous_index: int
    previous_term: int
    entries: tuple[Entry, ...]
    commit: int
    sent_at_s: float
    round: int


class AppendReply(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="A"):
    """Accepted up to `index`, or `previous_index` refused.

    A refusal says where the follower's log may agree: at `hint_index`, whose term there is
    `hint_term` (paper 5.3, the optimisation at its end).
    """

    group_id: GroupId
    term: int
    sender: NodeId
    index: int
    accepted: bool
    hint_index: int
    hint_term: int
    sent_at_s: float
    round: int


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="h"):
    """I lead; this much is committed of what I know you to hold."""

    group_id: GroupId
    term: int
    sender: NodeId
    commit: int
    sent_at_s: float
    round: int
    urgent: bool = False  # somebody waits until that is applied there


class HeartbeatReply(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="H"):
    """I follow. A `snapshot_floor` above 0: my state machine lacks what my log no longer
    holds, and I take no entries before a snapshot of at least that index."""

    group_id: GroupId
    term: int
    sender: NodeId
    snapshot_floor: int
    sent_at_s: float
    round: int


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """A piece of a snapshot (InstallSnapshot, paper 7)."""

    group_id: GroupId
    term: int
    sender: NodeId
    mark: SnapshotMark
    offset_bytes: int
    data: bytes
    total_bytes: int
    snapshot_id: int = 0  # two snapshots at one mark need not have the same bytes


class SnapshotReply(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="S"):
    """All bytes below `offset_bytes` are here; `installed` once the state machine holds them."""

    group_id: GroupId
    term: int
    sender: NodeId
    index: int
    offset_bytes: int
    installed: bool


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="t"):
    """The leader has stopped serving: campaign at once (thesis 3.10)."""

    group_id: GroupId
    term: int
    sender: NodeId


Message: TypeAlias = (
    VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | SnapshotChunk
    | SnapshotReply
    | TimeoutNow
)


class Envelope(NamedTuple):
    """A message and the node it is for."""

    to: NodeId
    message: Message


class RaftFrame(msgspec.Struct, frozen=True, array_like=True):
    """The header of the notice that carries one node's messages to another, of many groups.

    Its body is `encode_messages` of them.
    """

    sender: NodeId


encode_messages = msgspec.msgpack.Encoder().encode
decode_messages = msgspec.msgpack.Decoder(tuple[Message, ...]).decode
