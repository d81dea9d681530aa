"""One heartbeat between two nodes for all the groups the one leads and the other follows (G2).

A heartbeat does two things: it promises the leader that nobody else is elected for a while (the
lease), and it tells the follower that the leader lives. For a thousand idle groups both are the
same question between the same two nodes, so one beat a pair answers it for all.

    leader node                                   follower node
    BeatSender: list of (group, term), version    BeatReceiver: what it agreed to of that list
      beat(version, sent_at) [+ the list] ------->
                                    <------------ reply(version, sent_at, refused groups)

What a beat may stand for is settled by a versioned list, sent again and again until a reply
names its version. A reply to version v, sent at t, tells the leader that every group that was
in its list by version v, and is not refused, follows it *in the listed term* and has promised
as if it had answered a heartbeat sent at t. The receiver takes a group out of what it agreed to
the moment its term or leader changes, before it answers any further beat, and names it in every
reply until a list without it comes: so a beat never renews the lease of a deposed leader.

Groups in a list are *covered*. A leader sends a covered member nothing of its own while there is
nothing to tell it; a covered follower has no election timer of its own. When beats or replies
stay away for `SILENT_BEATS` intervals, all groups of that pair go back to their own heartbeats
and timers, with the promises and leases they have.

Both ends are pure: no I/O, no clock. `beat_driver` sends and receives. An incarnation, drawn at
the start of the process, keeps lists and replies of different lives of a node apart.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cluster.raft.log import GroupId, NodeId

SILENT_BEATS = 5  # less than an election timeout of them

Listed = tuple[tuple[GroupId, int], ...]


class Beat(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """I lead the groups of that list. With `listed`, the list itself is in the body."""

    sender: NodeId
    incarnation: int
    version: int
    sent_at_s: float
    listed: bool


class BeatReply(msgspec.Struct, frozen=True, array_like=True):
    """So it is, but for `refused`; or, not `known`, that list never came."""

    sender: NodeId
    incarnation: int
    version: int
    sent_at_s: float
    known: bool
    refused: tuple[GroupId, ...] = ()


encode_listed = msgspec.msgpack.Encoder().encode
decode_listed = msgspec.msgpack.Decoder(Listed).decode


class Cover:
    """One group's share in a `BeatSender`, on the leader's side."""

    __slots__ = ("_sender", "_since_version", "group_id")

    def __init__(self, sender: BeatSender, group_id: GroupId, since_version: int) -> None:
        self._sender = sender
        self.group_id = group_id
        self._since_version = since_version

    @property
    def acked_sent_s(self) -> float | None:
        """When the newest answered beat was sent that stands for this group; None: none yet."""
        sender = self._sender
        return sender.acked_sent_s if sender.acked_version >= self._since_version else None

    def end(self) -> None:
        """The group leaves the list."""
        self._sender.uncover(self.group_id)


class BeatSender:
    """What this node leads at one peer."""

    def __init__(self, me: NodeId, incarnation: int) -> None:
        self._me = me
        self._incarnation = incarnation
        self._listed: dict[GroupId, int] = {}
        self._version = 0
        self._changed = False  # since the newest version was sent
        self.acked_version = 0
        self.acked_sent_s: float | None = None

    @property
    def covers_any(self) -> bool:
        """Whether there is a beat to send."""
        return bool(self._listed) or self._changed

    @property
    def groups(self) -> tuple[GroupId, ...]:
        """Those in the list."""
        return tuple(self._listed)

    def cover(self, group_id: GroupId, term: int) -> Cover:
        """Put a group into the list; counts from the reply to the next version on."""
        self._listed[group_id] = term
        self._changed = True
        return Cover(self, group_id, self._version + 1)

    def uncover(self, group_id: GroupId) -> None:
        """Take a group out of the list."""
        if self._listed.pop(group_id, None) is not None:
            self._changed = True

    def beat(self, now_s: float) -> tuple[Beat, bytes]:
        """The next beat and its body."""
        if self._changed:
            self._version += 1
            self._changed = False
        listed = self.acked_version != self._version
        body = encode_listed(tuple(self._listed.items())) if listed else b""
        return Beat(self._me, self._incarnation, self._version, now_s, listed), body

    def answered(self, reply: BeatReply, refuse: Callable[[GroupId], None]) -> None:
        """Take a reply; `refuse` is called with each group for which it does not hold, *before*
        it counts for any other."""
        if reply.incarnation != self._incarnation or reply.version > self._version:
            return
        for group_id in reply.refused if reply.known else tuple(self._listed):
            if group_id in self._listed:
                refuse(group_id)
                self.uncover(group_id)
        if not reply.known:
            self.acked_version = 0  # it has forgotten, so nothing it said of lists counts on
        elif self.acked_sent_s is None or reply.sent_at_s > self.acked_sent_s:
            self.acked_sent_s = reply.sent_at_s
            self.acked_version = reply.version

    def is_silent(self, now_s: float, interval_s: float) -> bool:
        """Whether replies have stayed away, so that covered groups speak for themselves."""
        heard_s = self.acked_sent_s
        return heard_s is not None and now_s - heard_s > SILENT_BEATS * interval_s


class BeatReceiver:
    """What one peer leads here. `heard_s` is when its newest beat for a known list came."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._incarnation = 0
        self._version = 0
        self._agreed: dict[GroupId, None] = {}
        self._refused: dict[GroupId, None] = {}
        self.heard_s = float("-inf")

    @property
    def groups(self) -> tuple[GroupId, ...]:
        """Those a beat stands for."""
        return tuple(self._agreed)

    def received(
        self,
        beat: Beat,
        listed: Listed,
        now_s: float,
        agree: Callable[[GroupId, int], bool],
        release: Callable[[GroupId], None],
    ) -> BeatReply:
        """Take a beat; `agree` says whether a group here follows the sender in that term, and
        from then on has the group tell `disagree` when it does so no longer; `release` tells a
        group that beats stand for it no more."""
        news = (beat.incarnation, beat.version) != (self._incarnation, self._version)
        if beat.listed and (news or not self.knows):
            late = beat.incarnation == self._incarnation and beat.version < self._version
            if not late:
                self._take_list(beat, listed, agree, release)
        known = self.knows and (beat.incarnation, beat.version) == (
            self._incarnation,
            self._version,
        )
        if known:
            self.heard_s = now_s
        return BeatReply(
            self._me,
            beat.incarnation,
            beat.version,
            beat.sent_at_s,
            known,
            tuple(self._refused) if known else (),
        )

    @property
    def knows(self) -> bool:
        """Whether a list is held at all."""
        return self._incarnation != 0

    def _take_list(
        self,
        beat: Beat,
        listed: Listed,
        agree: Callable[[GroupId, int], bool],
        release: Callable[[GroupId], None],
    ) -> None:
        before = self._agreed
        self._incarnation, self._version = beat.incarnation, beat.version
        self._agreed, self._refused = {}, {}
        for group_id, term in listed:
            (self._agreed if agree(group_id, term) else self._refused)[group_id] = None
        for group_id in before:
            if group_id not in self._agreed:
                release(group_id)

    def disagree(self, group_id: GroupId) -> None:
        """The group's term or leader is another now: no further reply stands for it."""
        if group_id in self._agreed:
            del self._agreed[group_id]
            self._refused[group_id] = None

    def forget(self) -> None:
        """Let go of the list: the next beat is answered as not known."""
        self._incarnation = self._version = 0
        self._agreed, self._refused = {}, {}
