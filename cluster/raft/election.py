"""Leader election (paper 5.2, 5.4.1), pre-vote (thesis 9.6) and the promises behind leases.

A voter that hears from a leader promises it not to vote for anybody for one election timeout
(check-quorum, thesis 6.4.1). The leader counts that promise from when it *sent* the message
(`RaftState.holds_lease`). A restarted voter has forgotten what it promised and so begins with
a promise to everyone (rule G1), except where nobody can hold one: in a group that has never
had a term, and where it is the only voter (see `membership` for why that is safe).

Only an election that the leader itself has asked for sets promises aside (`transfer`).

Pre-vote asks whether an election could be won before a term is spent on it, so a member that
was cut off, or removed, disturbs nobody when it comes back.
"""

from __future__ import annotations

from cluster.raft import membership, replication
from cluster.raft.log import NO_NODE, EntryKind, NodeId
from cluster.raft.messages import TimeoutNow, VoteReply, VoteRequest
from cluster.raft.progress import quorum_size
from cluster.raft.state import RaftState, Role


def begin(state: RaftState) -> None:
    """Set the promise and the first election of a replica that has just been opened."""
    never_had_a_term = state.term == 0
    if not (never_had_a_term or state.is_only_voter):
        state.promised_until_s = state.now_s + state.settings.election_timeout_s
    state.delay_election()
    if state.is_only_voter or (never_had_a_term and _goes_first(state)):
        state.election_due_s = state.now_s


def _goes_first(state: RaftState) -> bool:
    """One voter of a new group need not wait; which one spreads leaders over the nodes."""
    voters = state.configuration.voters
    if state.first_leader in voters:
        return state.first_leader == state.node_id
    return bool(voters) and voters[state.group_id % len(voters)] == state.node_id


def may_campaign(state: RaftState) -> bool:
    """Whether this replica could lead if it won."""
    return state.is_voter and not state.awaits_snapshot and state.installing is None


def campaign(state: RaftState, *, transfer: bool = False) -> None:
    """Try to become leader."""
    state.uncover()
    state.delay_election()
    if state.term == 0 and _goes_first(state):  # the others may not have opened theirs yet
        state.election_due_s = state.now_s + state.settings.heartbeat_interval_s
    if not may_campaign(state):
        return
    if state.is_only_voter or transfer:
        _campaign_for_real(state, transfer=transfer)
        return
    state.role = Role.PRE_CANDIDATE
    state.leader_id = NO_NODE
    state.votes = {state.node_id: True}
    _ask_for_votes(state, state.term + 1, pre_vote=True, transfer=False)


def _campaign_for_real(state: RaftState, *, transfer: bool) -> None:
    state.become_follower(state.term + 1, NO_NODE)
    state.role = Role.CANDIDATE
    state.vote = state.node_id
    state.votes = {state.node_id: True}
    if state.is_only_voter:
        # Its vote and its first entry become durable in one write, before anything is sent.
        become_leader(state)
    else:
        _ask_for_votes(state, state.term, pre_vote=False, transfer=transfer)


def _ask_for_votes(state: RaftState, term: int, *, pre_vote: bool, transfer: bool) -> None:
    log = state.log
    request = VoteRequest(
        state.group_id, term, state.node_id, log.last_index, log.last_term, pre_vote, transfer
    )
    for voter in state.configuration.voters:
        if voter != state.node_id:
            state.send_after_write(voter, request)


def on_vote_request(state: RaftState, request: VoteRequest) -> None:
    """Vote, for real or in rehearsal, unless a promise forbids it."""
    if not request.transfer and _bound_to_a_leader(state):
        return
    if request.pre_vote:
        granted = request.term > state.term and _is_up_to_date(state, request)
        state.send(request.sender, _reply(state, request, granted))
        return
    if request.term > state.term:
        state.become_follower(request.term, NO_NODE)
    granted = (
        request.term == state.term
        and state.vote in (NO_NODE, request.sender)
        and _is_up_to_date(state, request)
    )
    if granted:
        state.vote = request.sender
        state.delay_election()
    state.send_after_write(request.sender, _reply(state, request, granted))


def _bound_to_a_leader(state: RaftState) -> bool:
    if state.role is Role.LEADER:
        heard_s = state.quorum_heard_s(state.leader_since_s)
        return state.now_s < heard_s + state.settings.election_timeout_s
    return state.now_s < state.promise_s


def _is_up_to_date(state: RaftState, request: VoteRequest) -> bool:
    """Paper 5.4.1: the later last term wins, then the longer log."""
    mine = (state.log.last_term, state.log.last_index)
    return (request.last_term, request.last_index) >= mine


def _reply(state: RaftState, request: VoteRequest, granted: bool) -> VoteReply:
    term = request.term if granted else state.term
    return VoteReply(state.group_id, term, state.node_id, granted, request.pre_vote)


def on_vote_reply(state: RaftState, reply: VoteReply) -> None:
    """Count a vote of this campaign."""
    campaigning = Role.PRE_CANDIDATE if reply.pre_vote else Role.CANDIDATE
    asked_term = state.term + 1 if reply.pre_vote else state.term
    if state.role is not campaigning or (reply.granted and reply.term != asked_term):
        return
    state.votes.setdefault(reply.sender, reply.granted)
    voters = state.configuration.voters
    granted = sum(state.votes.get(voter, False) for voter in voters)
    refused = sum(not state.votes.get(voter, True) for voter in voters)
    if granted >= quorum_size(voters):
        if reply.pre_vote:
            _campaign_for_real(state, transfer=False)
        else:
            become_leader(state)
    elif refused > len(voters) - quorum_size(voters):
        state.become_follower(state.term, NO_NODE)


def become_leader(state: RaftState) -> None:
    """Start to lead: the term's first entry commits all before it (paper 8)."""
    state.role = Role.LEADER
    state.leader_id = state.node_id
    state.votes = {}
    state.progress = {}
    state.reads = []
    state.read_round = 0
    state.leader_since_s = state.now_s
    state.lease_forfeited = False
    state.term_start_index = state.urgent_index = state.log.last_index + 1
    membership.adopt(state)
    replication.append_new(state, EntryKind.NOOP, [b""])
    state.heartbeat_due_s = state.now_s + state.settings.heartbeat_interval_s


def on_timeout_now(state: RaftState, message: TimeoutNow) -> None:
    """The leader hands over."""
    if state.role is Role.FOLLOWER and state.leader_id in (NO_NODE, message.sender):
        campaign(state, transfer=True)


def on_leader_lost(state: RaftState, leader_id: NodeId) -> None:
    """The connection to that node broke: do not wait longer than the promise to it lasts.

    The promise itself stands, for the node may live and hold a lease. Members take their turns,
    so that their campaigns do not meet.
    """
    if state.role is not Role.FOLLOWER or state.leader_id != leader_id or not state.is_voter:
        return
    others = [voter for voter in state.configuration.voters if voter != leader_id]
    turn = (others.index(state.node_id) + state.group_id) % len(others)
    state.uncover()
    wait_s = state.settings.heartbeat_interval_s * (turn + state.random.random() / 2)
    due_s = max(state.promised_until_s, state.now_s) + wait_s
    state.election_due_s = min(state.election_due_s, due_s)


def check_quorum(state: RaftState) -> None:
    """Step down when no majority has answered for an election timeout (thesis 6.2)."""
    heard_s = state.quorum_heard_s(state.leader_since_s)
    if state.now_s >= heard_s + state.settings.election_timeout_s:
        state.become_follower(state.term, NO_NODE)
