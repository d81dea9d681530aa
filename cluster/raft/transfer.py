"""Handing leadership over (thesis 3.10).

The leader stops serving (no lease, no proposals), brings the target up to date, then tells it
to campaign at once. The target's requests for votes carry a mark that sets aside the voters'
promises, so from the moment that word is *sent* the leader's lease is gone for the rest of
its term: the word may still arrive long after the leader has given up waiting (rule G1).
"""

from __future__ import annotations

from cluster.errors import ObjectNotInPrerequisiteState
from cluster.raft.log import NO_NODE, NodeId
from cluster.raft.messages import TimeoutNow
from cluster.raft.state import RaftState


def start(state: RaftState, target: NodeId) -> None:
    """Begin to hand over to a voter; given up after one election timeout."""
    if target not in state.configuration.voters:
        raise ObjectNotInPrerequisiteState(
            f"node {target} is no voter of tablet {state.group_id} and cannot lead it"
        )
    if target == state.node_id:
        return
    state.transferee = target
    state.transfer_due_s = state.now_s + state.settings.election_timeout_s
    send_word_if_caught_up(state)


def send_word_if_caught_up(state: RaftState) -> None:
    """Tell the target to campaign if it holds the whole log."""
    progress = state.progress.get(state.transferee)
    if progress is not None and progress.match_index == state.log.last_index:
        tell_to_campaign(state, state.transferee)


def tell_to_campaign(state: RaftState, target: NodeId) -> None:
    """Send the word, which ends this leader's lease for its term."""
    state.lease_forfeited = True
    state.send(target, TimeoutNow(state.group_id, state.term, state.node_id))


def give_up_if_due(state: RaftState) -> None:
    """Lead no more if the target has not taken over in time.

    This leader's users have stopped to serve and have forgotten what they had under way, and its
    lease is gone for the term: whoever leads next, this replica perhaps, does so in another one.
    """
    if state.transferee and state.now_s >= state.transfer_due_s:
        state.become_follower(state.term, NO_NODE)
