"""Changing the members, one voter at a time (thesis 4).

A configuration counts from the moment it is in a replica's log, committed or not (4.1), and
stops counting if it is truncated. Two majorities that differ by one voter always share one,
so no two leaders can be elected by an old and a new configuration, provided that

1. a leader has committed an entry of its own term before it appends a change. Without that,
   two leaders of different terms may each change a *different* voter of the same committed
   configuration (the mistake found in 2015, after the thesis);
2. the change before is committed, so that no two uncommitted changes stand in one log;
3. at most one voter differs. Learners count nowhere and may change freely.

Two rules are ours. A new voter has been a learner and is nearly caught up (4.2.1), or a
group of one or two would stop until it is. And a change that leaves a single voter is made by
that voter: a restarted single voter elects itself at once, which is safe only if nobody else
can have led, and held a lease, with that configuration in the log.

A leader that removes itself leads, uncounted, until the change is committed (4.2.2), then
steps down and tells the most advanced voter to campaign.
"""

from __future__ import annotations

from cluster.errors import ObjectNotInPrerequisiteState
from cluster.raft import transfer
from cluster.raft.log import NO_NODE, Configuration, NodeId
from cluster.raft.messages import Heartbeat
from cluster.raft.progress import Progress, ProgressState
from cluster.raft.state import RaftState, Role


def check_change(state: RaftState, new: Configuration) -> None:
    """Raise unless this leader may append that configuration now."""
    old = state.configuration
    added = set(new.voters) - set(old.voters)
    removed = set(old.voters) - set(new.voters)
    if not state.committed_own_entry():
        _refuse(state, "its leader has not committed an entry of its own term yet")
    if state.log.configuration_index > state.commit:
        _refuse(state, "an earlier change is still under way")
    if not new.voters or len(added) + len(removed) > 1:
        _refuse(state, "only one voter can be added or removed at a time")
    if len(new.voters) == 1 and new.voters != (state.node_id,):
        _refuse(state, "the last voter must lead it first; transfer leadership to it")
    for node_id in sorted(added):
        if not is_caught_up(state, node_id):
            _refuse(state, f"node {node_id} is no learner that has caught up")


def _refuse(state: RaftState, reason: str) -> None:
    raise ObjectNotInPrerequisiteState(
        f"the members of tablet {state.group_id} cannot change now: {reason}"
    )


def is_caught_up(state: RaftState, node_id: NodeId) -> bool:
    """Whether a member could become a voter without holding up commits for long."""
    if node_id == state.node_id:
        return True
    progress = state.progress.get(node_id)
    if progress is None or progress.state is not ProgressState.REPLICATE:
        return False
    return progress.match_index + state.settings.promotion_lag_entries >= state.log.last_index


def adopt(state: RaftState) -> None:
    """Replicate to exactly the members of the newest configuration in the leader's log."""
    assert state.role is Role.LEADER
    members = [node for node in state.configuration.members if node != state.node_id]
    for node_id in members:
        if node_id not in state.progress:
            state.progress[node_id] = Progress(state.log.last_index + 1)
    for node_id in [node for node in state.progress if node not in members]:
        state.progress.pop(node_id).uncover()
    if state.transferee not in state.configuration.voters:
        state.transferee = NO_NODE


def step_down_if_removed(state: RaftState) -> None:
    """End a leader whose own removal has just been committed."""
    if state.is_voter or state.log.configuration_index > state.commit:
        return
    for node_id, progress in state.progress.items():
        commit = min(progress.match_index, state.released)
        beat = Heartbeat(state.group_id, state.term, state.node_id, commit, state.now_s, 0)
        state.send(node_id, beat)
    successor = max(state.configuration.voters, key=lambda voter: state.progress[voter].match_index)
    transfer.tell_to_campaign(state, successor)
    state.become_follower(state.term, NO_NODE)
