"""Log replication (paper 5.3) and commitment (5.4.2), with heartbeats.

Leader: entries appended between two `ready` calls travel together, and messages follow each
other without waiting for answers (pipelining, thesis 10.2.1). The leader's own disk is one
more voter: its entries count for itself only once they are durable, and may be committed by
the others before. Follower: what it acknowledges is durable, which is why every acceptance
goes out after the write.

That something is committed is told with the next entries, or with the next heartbeat: a message
of its own, and its answer, would double what an entry costs, and nobody waits for a follower to
apply, as a rule. Where somebody does (`urgent_index`), it is told at once. A member that has not
been told counts as not quiet: an interval after the last entries it gets a heartbeat.

A refused message says where the logs may agree, so that finding out takes one message for
each *term* in which they differ (paper 5.3).
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.raft import membership, reads, snapshots, transfer
from cluster.raft.log import Entry, EntryKind, NodeId
from cluster.raft.log_view import entry_bytes
from cluster.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    SnapshotReply,
)
from cluster.raft.progress import Progress, ProgressState
from cluster.raft.state import RaftState, Role

# -- the leader's side ---------------------------------------------------------------------


def append_new(state: RaftState, kind: EntryKind, datas: Sequence[bytes]) -> int:
    """Add entries to the leader's log; returns the first one's index."""
    first_index = state.log.last_index + 1
    for index, data in enumerate(datas, first_index):
        state.log.append(Entry(state.term, index, kind, data))
    if kind is EntryKind.CONFIGURATION:
        state.urgent_index = state.log.last_index
        membership.adopt(state)
    return first_index


def broadcast_entries(state: RaftState) -> None:
    """Send every member what it lacks and may be sent."""
    for node_id, progress in list(state.progress.items()):
        _send_entries(state, node_id, progress)
        if _hears_now(state, progress):
            _send_heartbeat(state, node_id, progress, urgent=True)


def _hears_now(state: RaftState, progress: Progress) -> bool:
    """Whether the member is to be told of a commit before anything else is said to it."""
    told = progress.commit_sent
    return (
        told < min(progress.match_index, state.released)
        and (told < state.urgent_index or state.tells_at_once)
        and progress.state is ProgressState.REPLICATE
    )


def _send_entries(state: RaftState, node_id: NodeId, progress: Progress) -> None:
    while progress.next_index <= state.log.last_index and progress.may_send(state.settings):
        high = min(progress.next_index + state.settings.append_entries, state.log.last_index + 1)
        if not _send_append(state, node_id, progress, high):
            return


def _send_append(state: RaftState, node_id: NodeId, progress: Progress, high: int) -> bool:
    """Send entries from `next_index` below `high` (perhaps none); False if they are gone."""
    previous_index = progress.next_index - 1
    previous_term = state.log.term_at(previous_index)
    if previous_term is None:
        snapshots.begin(state, node_id)
        return False
    entries: tuple[Entry, ...] = ()
    if high > progress.next_index:
        entries = state.log.slice(progress.next_index, high, state.settings.append_bytes)
    message = Append(
        state.group_id,
        state.term,
        state.node_id,
        previous_index,
        previous_term,
        entries,
        state.released,
        state.now_s,
        state.read_round,
    )
    state.send(node_id, message)
    progress.told_commit(min(state.released, previous_index + len(entries)), state.now_s)
    if entries:
        progress.sent(entries[-1].index, sum(map(entry_bytes, entries)), state.now_s)
    return True


def broadcast_heartbeat(state: RaftState, *, quiet_too: bool = True) -> None:
    """Tell every member that this leader lives; `quiet_too`: also where beats say so, and where
    entries that have just been sent do."""
    interval_s = state.settings.heartbeat_interval_s
    due_s = state.now_s + interval_s
    for node_id, progress in state.progress.items():
        _cover_if_steady(state, node_id, progress)
        again_s = progress.sent_s + interval_s
        if quiet_too:
            _send_heartbeat(state, node_id, progress)
        elif again_s > state.now_s:
            due_s = min(due_s, again_s)
        elif not progress.is_quiet(state.log.last_index, state.released):
            _send_heartbeat(state, node_id, progress)
    state.heartbeat_due_s = due_s


def _cover_if_steady(state: RaftState, node_id: NodeId, progress: Progress) -> None:
    """Let beats stand for a member that has answered in this term, and follows the log."""
    if (
        state.beats is not None
        and progress.cover is None
        and progress.acked_sent_s is not None
        and progress.acked_sent_s > progress.uncovered_s
        and progress.state is ProgressState.REPLICATE
    ):
        progress.cover = state.beats(node_id).cover(state.group_id, state.term)


def is_quiet(state: RaftState) -> bool:
    """Whether beats say all there is to say to every member."""
    last_index, commit = state.log.last_index, state.released
    return all(progress.is_quiet(last_index, commit) for progress in state.progress.values())


def _send_heartbeat(
    state: RaftState, node_id: NodeId, progress: Progress, *, urgent: bool = False
) -> None:
    commit = min(progress.match_index, state.released)
    beat = Heartbeat(
        state.group_id, state.term, state.node_id, commit, state.now_s, state.read_round, urgent
    )
    progress.told_commit(commit, state.now_s)
    state.send(node_id, beat)


def on_append_reply(state: RaftState, reply: AppendReply) -> None:
    """A member took our entries, or says where to look."""
    progress = state.progress[reply.sender]
    progress.heard(reply.sent_at_s, reply.round)
    if reply.accepted:
        acknowledge(state, reply.sender, reply.index)
    else:
        _back_up(state, progress, reply)
    _after_answer(state)


def acknowledge(state: RaftState, node_id: NodeId, index: int) -> None:
    """That member durably holds everything up to `index`."""
    progress = state.progress[node_id]
    news = progress.acknowledged(index)
    if progress.state is not ProgressState.REPLICATE and _can_stream(state, progress):
        progress.become_replicate()
        snapshots.release_if_unused(state)
    if news:
        if node_id == state.transferee:
            transfer.send_word_if_caught_up(state)
        if progress.match_index > state.commit:
            advance_commit(state)


def _can_stream(state: RaftState, progress: Progress) -> bool:
    if progress.state is ProgressState.PROBE:
        return True
    return progress.match_index >= max(state.log.mark.index, progress.snapshot_floor)


def _back_up(state: RaftState, progress: Progress, reply: AppendReply) -> None:
    if progress.state is ProgressState.SNAPSHOT or reply.index <= progress.match_index:
        return
    if progress.state is ProgressState.PROBE and reply.index != progress.next_index - 1:
        return  # the answer to an older probe
    agreed = state.log.last_index_with_term_at_most(reply.hint_index, reply.hint_term)
    progress.become_probe(min(agreed + 1, reply.index))


def on_heartbeat_reply(state: RaftState, reply: HeartbeatReply) -> None:
    """A member follows; see whether it lacks something it should have by now."""
    progress = state.progress[reply.sender]
    progress.heard(reply.sent_at_s, reply.round)
    progress.snapshot_floor = reply.snapshot_floor
    if progress.state is ProgressState.SNAPSHOT:
        snapshots.resend_if_lost(state, reply.sender)
    elif reply.snapshot_floor > 0:
        snapshots.begin(state, reply.sender)
    elif progress.match_index < state.log.last_index:
        _nudge(state, reply.sender, progress)
    _after_answer(state)


def _nudge(state: RaftState, node_id: NodeId, progress: Progress) -> None:
    """Ask, at most once a heartbeat, whether a message to the member was lost."""
    if state.now_s < progress.nudged_s + state.settings.heartbeat_interval_s:
        return
    progress.nudged_s = state.now_s
    progress.probe_in_flight = False
    if progress.state is ProgressState.PROBE and progress.next_index <= state.log.last_index:
        _send_entries(state, node_id, progress)
    else:
        # An empty append; of a probe, too: a member that came to an idle group is asked
        # behind the log's end, where there are no entries to send.
        _send_append(state, node_id, progress, progress.next_index)


def on_snapshot_reply(state: RaftState, reply: SnapshotReply) -> None:
    """A member took a chunk, or has installed the snapshot."""
    if reply.installed:
        state.progress[reply.sender].snapshot_floor = 0
        acknowledge(state, reply.sender, reply.index)
        _after_answer(state)
    else:
        snapshots.on_progress(state, reply.sender, reply)


def _after_answer(state: RaftState) -> None:
    if state.role is Role.LEADER:
        reads.confirm(state)


def advance_commit(state: RaftState) -> None:
    """Commit what a majority of the voters holds, if it is of this term (paper 5.4.2)."""
    index = int(state.voters_agree_on(lambda voter: _durable_index(state, voter)))
    if index <= state.commit or state.log.term_at(index) != state.term:
        return
    state.commit = index
    state.release()
    membership.step_down_if_removed(state)


def _durable_index(state: RaftState, voter: NodeId) -> int:
    if voter == state.node_id:
        return state.log.persisted_index
    return state.progress[voter].match_index


# -- the follower's side -------------------------------------------------------------------


def on_append(state: RaftState, message: Append) -> None:
    """Take the leader's entries if the log agrees before them (paper 5.3)."""
    if state.awaits_snapshot or state.installing is not None:
        _reply_to_beat(state, message)  # see `snapshots`: no entries are taken now
        return
    previous_index, entries = message.previous_index, message.entries
    if previous_index < state.commit:  # what is committed here agrees and is skipped
        entries = entries[state.commit - previous_index :]
        previous_index = state.commit
    elif state.log.term_at(previous_index) != message.previous_term:
        _refuse(state, message)
        return
    _merge(state, entries)
    last_new_index = previous_index + len(entries)
    state.commit = max(state.commit, min(message.commit, last_new_index))
    state.send_after_write(
        message.sender,
        AppendReply(
            state.group_id,
            state.term,
            state.node_id,
            last_new_index,
            True,
            0,
            0,
            message.sent_at_s,
            message.round,
        ),
    )


def _merge(state: RaftState, entries: Sequence[Entry]) -> None:
    """Add what is new, removing what conflicts; never more, since messages come late."""
    log = state.log
    for entry in entries:
        known_term = log.term_at(entry.index)
        if known_term == entry.term:
            continue
        if known_term is not None:
            assert entry.index > state.commit, "a committed entry would be overwritten"
            log.truncate_from(entry.index)
        log.append(entry)


def _refuse(state: RaftState, message: Append) -> None:
    hint_index = state.log.last_index_with_term_at_most(
        message.previous_index, message.previous_term
    )
    state.send(
        message.sender,
        AppendReply(
            state.group_id,
            state.term,
            state.node_id,
            message.previous_index,
            False,
            hint_index,
            state.log.term_at(hint_index) or 0,
            message.sent_at_s,
            message.round,
        ),
    )


def on_heartbeat(state: RaftState, message: Heartbeat) -> None:
    """Note the commit index, which the leader has cut to what this member holds."""
    state.commit = max(state.commit, min(message.commit, state.log.last_index))
    if message.urgent:
        state.awaited_index = max(state.awaited_index, state.commit)
    _reply_to_beat(state, message)


def _reply_to_beat(state: RaftState, message: Heartbeat | Append) -> None:
    floor = state.log.mark.index if state.awaits_snapshot and not state.installing else 0
    state.send(
        message.sender,
        HeartbeatReply(
            state.group_id,
            state.term,
            state.node_id,
            floor,
            message.sent_at_s,
            message.round,
        ),
    )
