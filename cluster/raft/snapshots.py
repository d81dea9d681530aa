"""Snapshots for members whose next entry is gone from the leader's log (paper 7).

The leader asks its driver for one snapshot, shared by all who need it, and streams it in
chunks, one on its way to each follower at a time, no faster than the node's pace allows; every
answer says how much has arrived, so a lost chunk is sent again, and a follower that was cut off
goes on where it was. The bytes lie in a file at both ends where the state is large
(`snapshot_data`). The follower gathers them, and then either its log already holds the mark's
entry, and nothing is lost by keeping the log, or the log starts anew behind the mark. Which
snapshot a chunk is of says its id: two at one mark need not have the same bytes.

Crash safety at the follower. The log is reset *before* the state machine is restored, so a
crash between the two leaves a state machine behind its log's mark. Such a replica *awaits a
snapshot*: it votes (its claim to the log only makes it stricter), but neither campaigns nor
takes entries, because an entry acknowledged without the state below it would count towards a
commit that this replica cannot help to recover. While a restore runs the same holds. A log
that holds the mark's entry is never reset: its entries may be needed by others' commits.

Left out: going on with another leader's snapshot, or after a restart; both begin anew.
"""

from __future__ import annotations

from cluster.raft.log import NodeId, SnapshotMark
from cluster.raft.messages import SnapshotChunk, SnapshotReply
from cluster.raft.progress import ProgressState
from cluster.raft.snapshot_data import SnapshotData
from cluster.raft.state import IncomingSnapshot, OutgoingSnapshot, RaftState

# -- the leader's side ---------------------------------------------------------------------


def begin(state: RaftState, node_id: NodeId) -> None:
    """Turn from entries to a snapshot for that member."""
    state.progress[node_id].become_snapshot()
    send_chunk(state, node_id)


def send_chunk(state: RaftState, node_id: NodeId) -> None:
    """Send the chunk the member needs next, or ask the driver for a snapshot first."""
    progress = state.progress[node_id]
    needed_index = max(progress.snapshot_floor, state.log.mark.index)
    snapshot = state.outgoing
    if snapshot is None or snapshot.mark.index < needed_index:
        state.snapshot_wanted_index = max(state.snapshot_wanted_index, needed_index, 1)
        return
    due_s = state.pace.due_s(state.now_s)
    if due_s > state.now_s:
        progress.chunk_due_s = due_s
        return
    offset = progress.chunk_offset_bytes
    data = snapshot.data.read(offset, state.settings.snapshot_chunk_bytes)
    state.pace.spend(len(data), state.now_s)
    progress.chunk_sent_s, progress.chunk_due_s = state.now_s, None
    chunk = SnapshotChunk(
        state.group_id,
        state.term,
        state.node_id,
        snapshot.mark,
        offset,
        data,
        snapshot.data.size_bytes,
        snapshot.snapshot_id,
    )
    state.send(node_id, chunk)


def send_due(state: RaftState) -> None:
    """Send the chunks that the node's pace held back until now."""
    for node_id, progress in state.progress.items():
        if progress.chunk_due_s is not None and progress.chunk_due_s <= state.now_s:
            progress.chunk_due_s = None
            if progress.state is ProgressState.SNAPSHOT:
                send_chunk(state, node_id)


def next_due_s(state: RaftState) -> float:
    """When `send_due` has something to do; never, if nothing is held back."""
    dues = [p.chunk_due_s for p in state.progress.values() if p.chunk_due_s is not None]
    return min(dues, default=float("inf"))


def offer(state: RaftState, snapshot: OutgoingSnapshot) -> None:
    """The driver's answer to `snapshot_wanted_index`."""
    if snapshot.mark.index < max(state.snapshot_wanted_index, state.log.mark.index):
        snapshot.data.close()
        return  # too old by now: the wish stands
    state.drop_outgoing()
    state.outgoing = snapshot
    state.snapshot_wanted_index = 0
    for node_id, progress in state.progress.items():
        if progress.state is ProgressState.SNAPSHOT:
            progress.chunk_offset_bytes = 0
            send_chunk(state, node_id)


def on_progress(state: RaftState, node_id: NodeId, reply: SnapshotReply) -> None:
    """The member has taken a chunk: send the next, unless it has them all."""
    progress, snapshot = state.progress[node_id], state.outgoing
    if progress.state is not ProgressState.SNAPSHOT or snapshot is None:
        return
    if reply.index != snapshot.mark.index:
        return
    moved = reply.offset_bytes != progress.chunk_offset_bytes
    progress.chunk_offset_bytes = reply.offset_bytes
    if moved and reply.offset_bytes < snapshot.data.size_bytes:
        send_chunk(state, node_id)


def resend_if_lost(state: RaftState, node_id: NodeId) -> None:
    """A member that answers heartbeats but not chunks has lost one."""
    if state.progress[node_id].chunk_due_s is not None:
        return
    sent_s = state.progress[node_id].chunk_sent_s
    if sent_s is None or state.now_s - sent_s >= state.settings.election_timeout_s:
        send_chunk(state, node_id)


def release_if_unused(state: RaftState) -> None:
    """Let go of the snapshot's bytes once nobody needs them."""
    if not any(p.state is ProgressState.SNAPSHOT for p in state.progress.values()):
        state.drop_outgoing()
        state.snapshot_wanted_index = 0


# -- the follower's side -------------------------------------------------------------------


def on_chunk(state: RaftState, chunk: SnapshotChunk) -> None:
    """Gather a chunk, install the snapshot with the last."""
    mark = chunk.mark
    if state.installing is not None:
        if state.installing.mark == mark:
            _reply(state, chunk, chunk.total_bytes)
        return
    if not state.awaits_snapshot and mark.index <= state.commit:
        if state.incoming is not None:
            state.incoming.sink.discard()
            state.incoming = None
        _reply_installed(state, chunk)
        return
    if mark.index < state.log.mark.index:
        return
    sink = _incoming_for(state, chunk).sink
    if chunk.offset_bytes == sink.received_bytes:
        sink.add(chunk.data)
    if sink.received_bytes < chunk.total_bytes:
        _reply(state, chunk, sink.received_bytes)
        return
    state.incoming = None
    if _install(state, mark, sink.finish()):
        _reply(state, chunk, chunk.total_bytes)
    else:
        _reply_installed(state, chunk)


def _incoming_for(state: RaftState, chunk: SnapshotChunk) -> IncomingSnapshot:
    known = state.incoming
    if known is None or (known.snapshot_id, known.mark) != (chunk.snapshot_id, chunk.mark):
        if known is not None:
            known.sink.discard()
        known = IncomingSnapshot(chunk.snapshot_id, chunk.mark, state.open_sink())
        state.incoming = known
    return known


def _install(state: RaftState, mark: SnapshotMark, data: SnapshotData) -> bool:
    """Take the whole snapshot; whether the driver must restore the state machine."""
    holds_mark = state.log.term_at(mark.index) == mark.term
    if not holds_mark:
        state.log.reset(mark)
    state.commit = max(state.commit, mark.index)
    if holds_mark and not state.awaits_snapshot:
        data.close()
        return False
    state.installing = OutgoingSnapshot(mark, data)
    return True


def installed(state: RaftState) -> None:
    """The driver's state machine holds the snapshot durably."""
    assert state.installing is not None, "no snapshot was being installed"
    mark = state.installing.mark
    state.installing = None
    state.awaits_snapshot = False
    state.delivered_index = mark.index
    if state.leader_id not in (0, state.node_id):
        state.send_after_write(
            state.leader_id,
            SnapshotReply(state.group_id, state.term, state.node_id, mark.index, 0, True),
        )


def _reply(state: RaftState, chunk: SnapshotChunk, offset_bytes: int) -> None:
    state.send(
        chunk.sender,
        SnapshotReply(
            state.group_id,
            state.term,
            state.node_id,
            chunk.mark.index,
            offset_bytes,
            False,
        ),
    )


def _reply_installed(state: RaftState, chunk: SnapshotChunk) -> None:
    state.send_after_write(
        chunk.sender,
        SnapshotReply(
            state.group_id,
            state.term,
            state.node_id,
            state.commit,
            chunk.total_bytes,
            True,
        ),
    )
