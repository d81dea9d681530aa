"""Linearizable reads without a log entry (thesis 6.4).

A read may be served at the commit index as of its request, once it is sure that no newer
leader had committed more by then. A lease makes that sure at once; without one, a round of
heartbeats sent *after* the request and answered by a majority. Reads that come while a round
is being prepared share it. A leader that has not yet committed an entry of its own term does
not know the commit index (paper 8): such reads wait.

Pending reads die with the leadership; the driver fails them when it sees that.
"""

from __future__ import annotations

from cluster.raft.log import NodeId
from cluster.raft.state import PendingRead, RaftState, ReadState


def request(state: RaftState, context: int) -> None:
    """Confirm the read now under the lease, or put it up for the next round."""
    if state.holds_lease():
        state.confirmed_reads.append(ReadState(context, state.released))
    else:
        state.reads.append(PendingRead(context))


def start_round(state: RaftState) -> bool:
    """Give the waiting reads a round; whether heartbeats must carry it out now."""
    if not state.released_own_entry():
        return False
    waiting = [read for read in state.reads if read.round == 0]
    if not waiting:
        return False
    state.read_round += 1
    for read in waiting:
        read.round, read.index = state.read_round, state.released
    return True


def confirm(state: RaftState) -> None:
    """Hand out the reads whose round a majority has answered."""
    if not state.reads:
        return

    def answered(voter: NodeId) -> float:
        if voter == state.node_id:
            return state.read_round
        return state.progress[voter].acked_round

    agreed = state.voters_agree_on(answered)
    for read in state.reads:
        if 0 < read.round <= agreed:
            state.confirmed_reads.append(ReadState(read.context, read.index))
    state.reads = [read for read in state.reads if not 0 < read.round <= agreed]
