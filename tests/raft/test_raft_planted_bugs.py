"""The checker is worth its seeds: bugs known to break Raft, planted, are seen.

Each test plants one mistake into the core and runs seeds, in a world made for that kind of
trouble, until the simulation objects. A bug that gets through all its seeds fails the test:
then the world has become too kind. Bugs that need one particular history to show are planted
in `test_raft_histories`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from raft_simulation import Machine, Node, Simulation, Violation, run_seed
from raft_worlds import WORLDS

from cluster.raft import core, election, membership, replication, state
from cluster.raft.log import GroupWrite, HardState, MemoryLogStorage, SnapshotMark
from cluster.raft.log_view import LogView
from cluster.raft.messages import Append, Heartbeat, HeartbeatReply
from cluster.raft.progress import Progress, quorum_size
from cluster.raft.snapshot_data import SnapshotData

MAX_SEEDS = 300

Patch = Callable[[pytest.MonkeyPatch], None]


def answer_before_the_write(patch: pytest.MonkeyPatch) -> None:
    """Acknowledgements and votes go out before what they claim is durable."""
    patch.setattr(state.RaftState, "send_after_write", state.RaftState.send)
    patch.setattr(core.RaftCore, "_take_messages", lambda self: (_drain(self._state.messages), ()))


def _drain(queue: list[object]) -> tuple[object, ...]:
    taken = tuple(queue)
    queue.clear()
    return taken


def count_own_disk_early(patch: pytest.MonkeyPatch) -> None:
    """A leader counts itself before its own write is durable."""

    def durable(raft: state.RaftState, voter: int) -> int:
        if voter == raft.node_id:
            return raft.log.last_index
        return raft.progress[voter].match_index

    patch.setattr(replication, "_durable_index", durable)


def vote_for_older_logs(patch: pytest.MonkeyPatch) -> None:
    """A vote without the check that the candidate's log is up to date (paper 5.4.1)."""
    patch.setattr(election, "_is_up_to_date", lambda raft, request: True)


def lease_without_end(patch: pytest.MonkeyPatch) -> None:
    """A leader that believes in its lease for as long as it has not heard otherwise."""

    def holds(raft: state.RaftState) -> bool:
        return raft.role is state.Role.LEADER and raft.committed_own_entry()

    patch.setattr(state.RaftState, "holds_lease", holds)


def unchecked_member_changes(patch: pytest.MonkeyPatch) -> None:
    """Any configuration is appended at any time: several changes overlap (thesis 4.1)."""
    patch.setattr(membership, "check_change", lambda raft, new: None)


def snapshot_named_one_too_high(patch: pytest.MonkeyPatch) -> None:
    """Off by one at compaction: a snapshot claims the entry after its last."""
    original = core.RaftCore.offer_snapshot

    def offer(self: core.RaftCore, index: int, data: SnapshotData, now_s: float) -> None:
        original(self, min(index + 1, self.last_index), data, now_s)

    patch.setattr(core.RaftCore, "offer_snapshot", offer)


def compacted_one_too_far(patch: pytest.MonkeyPatch) -> None:
    """Off by one at compaction: the mark keeps the term of the entry before it."""
    original = LogView.compact

    def compact(self: LogView, index: int) -> SnapshotMark:
        term = self.term_at(index - 1)
        mark = original(self, index)
        self._run_terms[0] = term or 0
        return SnapshotMark(mark.index, mark.term, mark.configuration)

    patch.setattr(LogView, "compact", compact)


def acknowledge_beyond_the_message(patch: pytest.MonkeyPatch) -> None:
    """A follower's commit index runs to its log's end, not to what the leader confirmed."""
    original = replication.on_append

    def on_append(raft: state.RaftState, message: object) -> None:
        original(raft, message)  # type: ignore[arg-type]
        commit = min(message.commit, raft.log.last_index)  # type: ignore[attr-defined]
        raft.commit = max(raft.commit, commit)

    patch.setattr(replication, "on_append", on_append)


def window_never_checked(patch: pytest.MonkeyPatch) -> None:
    """A refused message moves `match_index` back up: matching is assumed, not confirmed."""
    original = Progress.become_probe

    def probe(self: Progress, next_index: int) -> None:
        original(self, next_index)
        self.match_index = max(self.match_index, next_index - 1)

    patch.setattr(Progress, "become_probe", probe)


def vote_not_persisted(patch: pytest.MonkeyPatch) -> None:
    """The disk keeps the term of a vote, but not for whom it was.

    The silence of a restarted voter hides that: its second vote would come too late.
    """
    patch.setattr(state.RaftState, "promise_s", property(lambda raft: raft.now_s))
    original = MemoryLogStorage._write

    def write(self: MemoryLogStorage, write: GroupWrite) -> None:
        kept = HardState(write.hard_state.term, 0, write.hard_state.commit)
        original(self, GroupWrite(write.group_id, kept, write.entries, write.snapshot))

    patch.setattr(MemoryLogStorage, "_write", write)


def wiped_voter_under_its_old_identity(patch: pytest.MonkeyPatch) -> None:
    """A voter that lost its disk comes back as if it were still the one it was (rule G3)."""
    original = Simulation.restart

    def restart(self: Simulation, node: Node) -> None:
        if node.core is None and not self.calm and self.random.random() < 0.3:
            node.disk, node.machine = MemoryLogStorage(), Machine()
        original(self, node)

    patch.setattr(Simulation, "restart", restart)


def heartbeat_renews_a_deposed_leader(patch: pytest.MonkeyPatch) -> None:
    """A node that has moved on to a newer term still tells the old leader that it follows, as
    one that answered for all groups of a node at once would (rule G2)."""
    original = core.RaftCore._from_leader

    def from_leader(self: core.RaftCore, message: object) -> None:
        if isinstance(message, Heartbeat | Append) and message.term < self.term:
            raft = self._state
            raft.send(
                message.sender,
                HeartbeatReply(
                    raft.group_id, message.term, raft.node_id, 0, message.sent_at_s, message.round
                ),
            )
            return
        original(self, message)  # type: ignore[arg-type]

    patch.setattr(core.RaftCore, "_from_leader", from_leader)


def new_voter_counted_twice(patch: pytest.MonkeyPatch) -> None:
    """A change of members is applied once when it is logged and once more when committed: the
    voter it added counts double in every majority."""

    def agree(raft: state.RaftState, value: Callable[[int], float]) -> float:
        voters = raft.configuration.voters
        values = sorted((value(voter) for voter in (*voters, max(voters))), reverse=True)
        return values[quorum_size(voters) - 1]

    patch.setattr(state.RaftState, "voters_agree_on", agree)


def promise_not_kept(patch: pytest.MonkeyPatch) -> None:
    """A voter that follows a leader votes for whoever asks (rule G1)."""
    patch.setattr(election, "_bound_to_a_leader", lambda raft: False)


def promise_ends_with_the_connection(patch: pytest.MonkeyPatch) -> None:
    """Who hears that the connection to its leader broke campaigns, and votes, at once: but that
    leader may live, and hold a lease."""
    original = election.on_leader_lost

    def lost(raft: state.RaftState, leader_id: int) -> None:
        if raft.leader_id == leader_id:
            raft.promised_until_s = raft.now_s
        original(raft, leader_id)

    patch.setattr(election, "on_leader_lost", lost)


BUGS: list[tuple[Patch, str]] = [
    (answer_before_the_write, "slow disks"),
    (count_own_disk_early, "short logs"),
    (vote_for_older_logs, "short reigns"),
    (lease_without_end, "cut off"),
    (unchecked_member_changes, "moving house"),
    (snapshot_named_one_too_high, "short logs"),
    (compacted_one_too_far, "short logs"),
    (acknowledge_beyond_the_message, "short reigns"),
    (window_never_checked, "short logs"),
    (vote_not_persisted, "contested"),
    (wiped_voter_under_its_old_identity, "slow disks"),
    (heartbeat_renews_a_deposed_leader, "handovers"),
    (new_voter_counted_twice, "moving house"),
    (promise_not_kept, "promises"),
    (promise_ends_with_the_connection, "promises"),
]


@pytest.mark.parametrize(("plant", "world"), BUGS, ids=[bug.__name__ for bug, _ in BUGS])
def test_a_planted_bug_is_seen(plant: Patch, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(MAX_SEEDS):
        try:
            run_seed(seed, WORLDS[world])
        except Violation:
            return
    pytest.fail(f"{plant.__name__} went unseen through {MAX_SEEDS} seeds")
