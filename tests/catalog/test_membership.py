"""Who votes on the catalog: any cluster, any deaths (the policy alone)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.membership import next_step
from catalog.model import Node, NodeId, NodeState
from catalog.placement import voters_among
from catalog.repair_members import HandOver
from cluster.raft.log import Configuration

ACTIVE, DRAINING = NodeState.ACTIVE, NodeState.DRAINING
LEAVING, DEAD = NodeState.DECOMMISSIONING, NodeState.DEAD


def nodes(*states: NodeState) -> list[Node]:
    return [Node(NodeId(n), f"h{n}:1", f"h{n}:2", state=s) for n, s in enumerate(states, 1)]


def follow(
    current: Configuration, members: list[Node], live: set[int], leader: int = 1
) -> tuple[Configuration, int]:
    """Where it ends, and who leads there; every step keeps a majority that lives."""
    for _ in range(100):
        step = next_step(current, members, live, leader)
        if step is None:
            return current, leader
        if isinstance(step, HandOver):
            leader = step.node_id
            assert leader in current.voters
            continue
        after = step.configuration
        assert len(set(current.voters) ^ set(after.voters)) <= 1
        assert 2 * sum(n in live for n in after.voters) > len(after.voters)
        assert leader in after.voters
        current = after
    raise AssertionError("no end")


def test_voters_grow_with_the_cluster() -> None:
    for count, voters in ((1, 1), (2, 1), (3, 3), (6, 3), (7, 5), (9, 5)):
        end, _ = follow(Configuration.of([1]), nodes(*[ACTIVE] * count), set(range(1, count + 1)))
        assert end == Configuration.of(range(1, voters + 1), range(voters + 1, count + 1))


def test_dead_voter_is_replaced_before_it_goes() -> None:
    start = Configuration.of([1, 2, 3], [4, 5])
    members = nodes(ACTIVE, DEAD, ACTIVE, ACTIVE, ACTIVE)
    first = next_step(start, members, {1, 3, 4, 5}, 1)
    assert first is not None
    assert not isinstance(first, HandOver)
    assert first.configuration == Configuration.of([1, 2, 3, 4], [5])
    end, _ = follow(start, members, {1, 3, 4, 5})
    assert end == Configuration.of([1, 3, 4], [5])


def test_dead_voter_that_nobody_can_replace_stays() -> None:
    start = Configuration.of([1, 2, 3])
    assert next_step(start, nodes(ACTIVE, DEAD, ACTIVE), {1, 3}, 1) is None


def test_silent_voter_that_is_not_dead_stays() -> None:
    start = Configuration.of([1, 2, 3], [4])
    assert next_step(start, nodes(*[ACTIVE] * 4), {1, 3, 4}, 1) is None


def test_two_nodes_have_one_voter_until_a_third_lives() -> None:
    start = Configuration.of([1], [2, 3])
    assert next_step(start, nodes(*[ACTIVE] * 3), {1, 2}, 1) is None


def test_decommissioned_leader_hands_over_and_then_only_follows() -> None:
    members = nodes(LEAVING, ACTIVE, ACTIVE, ACTIVE)
    end, leader = follow(Configuration.of([1, 2, 3], [4]), members, {1, 2, 3, 4})
    assert end == Configuration.of([2, 3, 4], [1])
    assert leader == 2
    forgotten, _ = follow(end, members[1:], {2, 3, 4}, 2)
    assert forgotten == Configuration.of([2, 3, 4])


def test_forgotten_node_follows_until_it_has_heard_of_it() -> None:
    current = Configuration.of([1, 2, 3], [4])
    assert next_step(current, nodes(*[ACTIVE] * 3), {1, 2, 3}, 1, {4}) is None
    end, _ = follow(current, nodes(*[ACTIVE] * 3), {1, 2, 3})
    assert end == Configuration.of([1, 2, 3])


def test_draining_leader_hands_over_and_votes_on() -> None:
    end, leader = follow(Configuration.of([1, 2, 3]), nodes(DRAINING, ACTIVE, ACTIVE), {1, 2, 3})
    assert (end, leader) == (Configuration.of([1, 2, 3]), 2)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_cluster_ends_with_the_voters_it_can_have(data: st.DataObject) -> None:
    states = data.draw(st.lists(st.sampled_from(list(NodeState)), min_size=1, max_size=10))
    members = nodes(*states)
    ids = [int(node.id) for node in members]
    voters = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=5, unique=True))
    majority = len(voters) // 2 + 1
    dead = {i for i, state in zip(ids, states, strict=True) if state is DEAD}
    alive = [n for n in voters if n not in dead]
    if len(alive) < majority:
        return
    silent = set(data.draw(st.lists(st.sampled_from(ids), max_size=3)))
    live = (set(ids) - dead - silent) | set(alive[:majority])
    end, leader = follow(Configuration.of(voters), members, live, alive[0])
    may_vote = [n for n, s in zip(ids, states, strict=True) if s in (ACTIVE, DRAINING)]
    wanted = voters_among(sum(s is not LEAVING for s in states))
    good = [n for n in end.voters if n in may_vote]
    assert len(good) <= max(wanted, 1)
    assert set(ids) - dead <= set(end.members)
    if len(good) == wanted and states[leader - 1] in (ACTIVE, DRAINING):
        assert len(end.voters) == wanted
