"""Snapshots piece by piece: what is mixed up, lost, cut off or held back on the way."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.raft.core import RaftCore
from cluster.raft.log import (
    Configuration,
    Entry,
    EntryKind,
    GroupImage,
    HardState,
    SnapshotMark,
)
from cluster.raft.messages import (
    AppendReply,
    Envelope,
    Heartbeat,
    HeartbeatReply,
    Message,
    SnapshotChunk,
    SnapshotReply,
    VoteReply,
)
from cluster.raft.settings import RaftSettings
from cluster.raft.snapshot_data import (
    FileSink,
    FileSnapshot,
    MemorySnapshot,
    SnapshotPace,
    SnapshotSink,
)

GROUP = 7
MEMBERS = Configuration.of([1, 2, 3])
SETTINGS = RaftSettings(snapshot_chunk_bytes=4)


class Node:
    """A core whose disk is quick."""

    def __init__(
        self,
        node_id: int,
        entries: int = 0,
        *,
        settings: RaftSettings = SETTINGS,
        sink: type[SnapshotSink] = MemorySnapshot,
    ) -> None:
        self.now_s = 100.0
        log = [Entry(1, index, EntryKind.COMMAND, b"") for index in range(1, entries + 1)]
        self.core = RaftCore(
            GROUP,
            node_id,
            GroupImage(HardState(1 if log else 0), SnapshotMark(0, 0, MEMBERS), log),
            applied_index=0,
            fetch=lambda low, high: log[low - 1 : high - 1],
            settings=settings,
            random=Random(node_id),
            now_s=self.now_s,
            open_sink=sink,
        )
        self.wants_snapshot = 0
        self.installed: bytes | None = None

    def step(self, message: Message) -> list[Message]:
        self.core.step(message, self.now_s)
        return self.sent()

    def wait(self, duration_s: float) -> list[Message]:
        self.now_s += duration_s
        self.core.tick(self.now_s)
        return self.sent()

    def sent(self) -> list[Message]:
        out: list[Envelope] = []
        while (ready := self.core.ready()) is not None:
            out += ready.messages
            if ready.write is not None:
                self.core.persisted(ready.sequence, self.now_s)
            out += ready.after_write
            self.wants_snapshot = ready.snapshot_wanted or self.wants_snapshot
            if ready.snapshot is not None:
                data = ready.snapshot.data
                self.installed = data.read(0, data.size_bytes)
                self.core.snapshot_installed(self.now_s)
        told = [e for e in out if not (self.core.is_leader and e.to == 2)]
        return [envelope.message for envelope in told]


def leader(settings: RaftSettings = SETTINGS) -> Node:
    """Node 1 leads with a log that begins behind 2; node 3 has nothing and is told so."""
    node = Node(1, 2, settings=settings)
    node.wait(3.0)
    for pre_vote in (True, False):
        node.step(VoteReply(GROUP, 2, 2, True, pre_vote))
    node.step(AppendReply(GROUP, 2, 2, node.core.last_index, True, 0, 0, node.now_s, 0))
    assert node.core.is_leader
    while node.core.take_committed(100):
        pass
    node.core.compact(2)
    node.step(AppendReply(GROUP, 2, 3, 2, False, 0, 0, node.now_s, 0))
    assert node.wants_snapshot == 2
    return node


def chunks(messages: list[Message]) -> list[SnapshotChunk]:
    return [message for message in messages if isinstance(message, SnapshotChunk)]


def chunk(data: bytes, offset: int, total: int, snapshot_id: int) -> SnapshotChunk:
    mark = SnapshotMark(9, 4, MEMBERS)
    return SnapshotChunk(GROUP, 4, 2, mark, offset, data, total, snapshot_id)


def test_pieces_of_two_snapshots_at_one_mark_are_never_mixed() -> None:
    node = Node(1)
    node.step(chunk(b"abc", 0, 6, 1))
    replies = node.step(chunk(b"xyz", 3, 6, 2))
    assert node.installed is None
    assert [r.offset_bytes for r in replies if isinstance(r, SnapshotReply)] == [0]
    node.step(chunk(b"uvw", 0, 6, 2))
    node.step(chunk(b"xyz", 3, 6, 2))
    assert node.installed == b"uvwxyz"


def test_another_leader_goes_on_with_the_same_snapshot_id_only() -> None:
    node = Node(1)
    node.step(chunk(b"abc", 0, 6, 1))
    node.step(chunk(b"def", 3, 6, 1))
    assert node.installed == b"abcdef"


@given(st.binary(min_size=1, max_size=40), st.lists(st.booleans(), min_size=400, max_size=400))
def test_lost_pieces_are_sent_again(data: bytes, losses: list[bool]) -> None:
    source, target = leader(), Node(3)
    source.core.offer_snapshot(2, MemorySnapshot(data), source.now_s)
    chance = iter(losses)
    under_way = source.sent()
    for _ in range(200):
        answers: list[Message] = []
        for message in under_way:
            if not (isinstance(message, SnapshotChunk) and next(chance, False)):
                answers += target.step(message)
        under_way = []
        for answer in answers:
            under_way += source.step(answer)
        if target.installed is not None:
            break
        under_way += source.wait(0.7)
        # The other voter lives, too.
        source.step(HeartbeatReply(GROUP, 2, 2, 0, source.now_s, 0))
    assert target.installed == data


def test_no_piece_goes_out_ahead_of_the_pace() -> None:
    # Four bytes a piece, a quarter of a second ahead: two pieces, then one every second.
    node = leader(RaftSettings(snapshot_chunk_bytes=4, snapshot_bytes_per_s=4.0))
    node.core.offer_snapshot(2, MemorySnapshot(bytes(40)), node.now_s)
    sent = chunks(node.sent())
    assert [c.offset_bytes for c in sent] == [0]
    assert not chunks(node.step(SnapshotReply(GROUP, 2, 3, 2, 4, False)))
    assert node.core.next_due_s <= node.now_s + 0.75
    sent = []
    for _ in range(8):
        node.step(HeartbeatReply(GROUP, 2, 2, 0, node.now_s, 0))
        sent += chunks(node.wait(0.1))
    assert [c.offset_bytes for c in sent] == [4]


def test_a_snapshot_nobody_needs_is_closed(tmp_path: Path) -> None:
    node = leader()
    path = tmp_path / "outgoing"
    path.write_bytes(b"abc")
    node.core.offer_snapshot(2, FileSnapshot(path), node.now_s)
    assert chunks(node.sent())[0].data == b"abc"
    node.step(SnapshotReply(GROUP, 2, 3, 2, 3, True))
    assert not path.exists()


def test_a_deposed_leader_closes_its_snapshot(tmp_path: Path) -> None:
    node = leader()
    path = tmp_path / "outgoing"
    path.write_bytes(b"abc")
    node.core.offer_snapshot(2, FileSnapshot(path), node.now_s)
    node.step(Heartbeat(GROUP, 9, 2, 0, 1.0, 0))
    assert not path.exists()


def test_files_hold_what_was_added(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "incoming")
    sink.add(b"abc")
    sink.add(b"def")
    assert sink.received_bytes == 6
    data = sink.finish()
    assert (data.size_bytes, data.read(2, 3), data.read(4, 9)) == (6, b"cde", b"ef")
    data.close()
    assert not (tmp_path / "incoming").exists()


@pytest.mark.parametrize("ahead_s", [0.0, 0.5])
def test_the_pace_is_kept_over_any_time(ahead_s: float) -> None:
    pace, now_s, sent = SnapshotPace(100.0, ahead_s), 5.0, 0
    begun_s = now_s
    for _ in range(200):
        now_s = pace.due_s(now_s)
        pace.spend(7, now_s)
        sent += 7
        assert sent - 7 <= 100.0 * (now_s - begun_s + ahead_s) + 1e-6
    assert sent >= 100.0 * (now_s - begun_s)
