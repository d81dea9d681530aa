"""Histories that break a consensus without one of its rules, each played twice.

Once with the core as it is, which must come through, and once with the rule taken out, which
the checker must see. Chance alone meets these histories too seldom to rely on.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from raft_simulation import Node, Simulation, Violation
from raft_worlds import Mixture

from cluster.errors import ObjectNotInPrerequisiteState
from cluster.raft import core, election, membership, replication, transfer
from cluster.raft.core import RaftCore
from cluster.raft.log import HardState
from cluster.raft.state import RaftState, Role

QUIET_S = 0.3  # two election timeouts: every promise has lapsed


class Stage:
    """A world without chance: links and elections are as the history says."""

    def __init__(self, voters: int) -> None:
        self.world = Simulation(0, Mixture(voters, append_entries=1, delay_s=0.001, sync_s=0.0005))
        self.world.run_until(QUIET_S)  # the first leader is elected and known

    def node(self, node_id: int) -> Node:
        return self.world.nodes[node_id]

    def core(self, node_id: int) -> RaftCore:
        raft = self.node(node_id).core
        assert raft is not None
        return raft

    def state(self, node_id: int) -> RaftState:
        """To be changed by hand, for which no input stands."""
        self.core(node_id)._stirred = True
        return self.core(node_id)._state

    def leader(self) -> int:
        return next(n.id for n in self.world.nodes.values() if n.core and n.core.is_leader)

    def connect(self, *groups: tuple[int, ...]) -> None:
        """Cut all links but those inside these groups."""
        together = {(a, b) for group in groups for a in group for b in group}
        everyone = self.world.nodes
        self.world.cut = {(a, b) for a in everyone for b in everyone} - together

    def silence(self) -> None:
        """Nobody hears anybody until all promises have lapsed; leaders step down."""
        self.connect()
        self.world.run_until(self.world.now_s + QUIET_S)
        self.hold_back(*self.world.nodes)

    def hold_back(self, *node_ids: int) -> None:
        """These do not campaign by themselves for now."""
        for node_id in node_ids:
            if self.node(node_id).core is not None:
                self.state(node_id).election_due_s = float("inf")

    def run(self, duration_s: float = 0.1) -> None:
        self.world.run_until(self.world.now_s + duration_s)

    def until(self, condition: Callable[[], bool], within_s: float = 1.0) -> None:
        assert self.world.run_until(self.world.now_s + within_s, condition), "the history stalls"

    def answer(self, leader: int, follower: int) -> None:
        """Go on until the leader's lease is as young as it gets."""
        progress = self.core(leader)._state.progress[follower]
        heard_s = progress.acked_sent_s
        self.until(lambda: progress.acked_sent_s != heard_s)

    def campaign(self, node_id: int, term: int | None = None) -> None:
        """Ask for votes, in a new term unless told, as after campaigns nobody heard of."""
        node, state = self.node(node_id), self.state(node_id)
        running = [n.core for n in self.world.nodes.values() if n.core]
        state.become_follower(term - 1 if term else max(raft.term for raft in running), 0)
        state.now_s = node.local_s(self.world.now_s)
        election._campaign_for_real(state, transfer=False)
        self.world.settle(node)
        self.until(lambda: not node.writes)

    def win_unheard(self, node_id: int, *voters: int) -> None:
        """Become leader by these votes; not one of the leader's messages arrives."""
        self.connect((node_id, *voters))
        self.campaign(node_id)
        self.world.cut |= {(node_id, other) for other in self.world.nodes}
        self.until(lambda: self.core(node_id).role is Role.LEADER)

    def crash(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self.world.crash(self.node(node_id))

    def propose(self, node_id: int) -> None:
        self.world.propose(self.node(node_id), self.core(node_id))
        self.world.settle(self.node(node_id))


# -- the histories -------------------------------------------------------------------------


def two_votes_in_one_term() -> None:
    """A voter votes, restarts, and is asked again in the same term (paper 5.2)."""
    stage = Stage(voters=3)
    stage.silence()
    stage.win_unheard(1, 3)
    stage.connect()
    stage.crash(3)
    stage.world.restart(stage.node(3))
    stage.run(QUIET_S)
    stage.hold_back(2, 3)
    stage.connect((2, 3))
    stage.campaign(2, stage.core(1).term)
    stage.run()


def figure_8() -> None:
    """A majority comes to hold an entry of an old term; then another replaces it (5.4.2)."""
    stage = Stage(voters=5)
    stage.silence()
    stage.win_unheard(1, 2, 3)  # (a): 1 has an entry
    stage.silence()
    stage.win_unheard(5, 3, 4)  # (b): 5 has another at the same place
    stage.silence()
    stage.connect((1, 2, 3))  # (c): 1 leads again and brings its old entry to 2 and 3
    old_index = stage.core(1).last_index
    stage.campaign(1)
    stage.until(lambda: stage.core(3).last_index == old_index)
    stage.world.cut.add((1, 3))
    stage.until(lambda: stage.core(1).match_index(3) == old_index)
    stage.until(lambda: stage.core(1).match_index(2) >= old_index)
    stage.crash(1)
    stage.silence()  # (d): 5 leads again
    stage.connect((3, 4, 5))
    stage.campaign(5)
    stage.run()


def a_promise_forgotten() -> None:
    """A voter restarts just after it has kept a leader's lease alive (rule G1)."""
    stage = Stage(voters=3)
    leader = stage.leader()
    cut_off, voter = [node for node in stage.world.nodes if node != leader]
    stage.propose(leader)
    stage.run()
    stage.connect((leader, voter), (voter, cut_off))
    stage.run(QUIET_S)
    stage.answer(leader, voter)
    stage.crash(voter)
    stage.world.restart(stage.node(voter))
    stage.connect((voter, cut_off))
    take_over(stage, cut_off)


def an_answer_on_its_way() -> None:
    """A heartbeat's answer takes most of a lease's time to arrive (rule G1)."""
    stage = Stage(voters=3)
    leader = stage.leader()
    followers = [node for node in stage.world.nodes if node != leader]
    stage.propose(leader)
    stage.run()
    for follower in followers:
        stage.world.delays_s[follower, leader] = 0.09
    stage.run()
    stage.connect((followers[0], followers[1]))
    stage.run(0.148)
    take_over(stage, followers[0])


def a_leader_handing_over() -> None:
    """A leader has told another to campaign, and hears of nothing after (rule G1)."""
    stage = Stage(voters=3)
    leader = stage.leader()
    target, voter = [node for node in stage.world.nodes if node != leader]
    stage.propose(leader)
    stage.run()
    stage.core(leader).transfer_leadership(target, stage.node(leader).local_s(stage.world.now_s))
    stage.world.settle(stage.node(leader))
    stage.connect((target, voter))
    stage.until(lambda: stage.core(target).role is Role.LEADER)
    stage.propose(target)
    stage.run()


def take_over(stage: Stage, node_id: int) -> None:
    """Campaign in the regular way, pre-vote first, and acknowledge a write if elected."""
    node, state = stage.node(node_id), stage.state(node_id)
    for _ in range(8):
        state.now_s = node.local_s(stage.world.now_s)
        election.campaign(state)
        stage.world.settle(node)
        if stage.world.run_until(
            stage.world.now_s + 0.012, lambda: bool(state.role is Role.LEADER)
        ):
            stage.propose(node_id)
            stage.run()
            return


def two_leaders_change_different_voters() -> None:
    """The mistake of 2015: 1 adds a voter, 2 removes one, neither sees the other's change."""
    stage = Stage(voters=4)
    stage.silence()
    stage.connect((1, 2, 3, 4))
    stage.campaign(1)
    stage.run()
    stage.world.add_node(5, None)
    stage.connect((1, 2, 3, 4, 5))
    change(stage, 1, lambda members: members.with_learner(5))
    stage.run()
    stage.connect((1, 5))
    change(stage, 1, lambda members: members.with_voter(5))
    stage.until(lambda: stage.core(5).last_index == stage.core(1).last_index)
    stage.silence()
    stage.win_unheard(2, 3, 4)
    stage.connect((2, 3))
    change(stage, 2, lambda members: members.without(1))
    stage.run()
    stage.silence()
    stage.connect((1, 4, 5))
    stage.campaign(1)
    stage.run()


def change(stage: Stage, leader: int, new: Callable[..., core.Configuration]) -> None:
    """Propose a change; where the rules refuse it, the history just goes on."""
    raft = stage.core(leader)
    try:
        raft.propose_change(new(raft.configuration))
    except ObjectNotInPrerequisiteState:
        return
    stage.world.settle(stage.node(leader))


# -- the rules taken out -------------------------------------------------------------------


def forget_the_vote(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(core, "HardState", lambda term, vote, commit: HardState(term, 0, commit))


def commit_older_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    def advance(raft: RaftState) -> None:
        index = int(raft.voters_agree_on(lambda v: replication._durable_index(raft, v)))
        raft.commit = max(raft.commit, index)

    patch.setattr(replication, "advance_commit", advance)


def restart_without_promise(patch: pytest.MonkeyPatch) -> None:
    original = election.begin

    def begin(raft: RaftState) -> None:
        original(raft)
        raft.promised_until_s = raft.now_s

    patch.setattr(election, "begin", begin)


def lease_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    original = replication.on_heartbeat_reply

    def late(raft: RaftState, reply: core.HeartbeatReply) -> None:
        original(raft, reply)
        raft.progress[reply.sender].acked_sent_s = raft.now_s

    patch.setattr(replication, "on_heartbeat_reply", late)


def lease_kept_in_transfer(patch: pytest.MonkeyPatch) -> None:
    original = transfer.tell_to_campaign

    def tell(raft: RaftState, target: int) -> None:
        original(raft, target)
        raft.lease_forfeited = False
        raft.transferee = 0

    patch.setattr(transfer, "tell_to_campaign", tell)


def change_before_own_entry(patch: pytest.MonkeyPatch) -> None:
    original = membership.check_change

    def check(raft: RaftState, new: core.Configuration) -> None:
        kept, raft.term_start_index = raft.term_start_index, 0
        try:
            original(raft, new)
        finally:
            raft.term_start_index = kept

    patch.setattr(membership, "check_change", check)


HISTORIES = [
    (two_votes_in_one_term, forget_the_vote),
    (figure_8, commit_older_terms_by_counting),
    (a_promise_forgotten, restart_without_promise),
    (an_answer_on_its_way, lease_from_the_answer),
    (a_leader_handing_over, lease_kept_in_transfer),
    (two_leaders_change_different_voters, change_before_own_entry),
]
NAMES = [history.__name__ for history, _ in HISTORIES]


@pytest.mark.parametrize(("history", "bug"), HISTORIES, ids=NAMES)
def test_the_rules_come_through(history: Callable[[], None], bug: object) -> None:
    history()


@pytest.mark.parametrize(("history", "bug"), HISTORIES, ids=NAMES)
def test_without_its_rule_the_history_is_fatal(
    history: Callable[[], None],
    bug: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bug(monkeypatch)
    with pytest.raises(Violation):
        history()
