"""One group's way to the replicas that the catalog names: any start, any end, any silence."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from catalog.model import ColocationId, NodeId, Tablet, TabletId
from catalog.repair_members import (
    Change,
    Confirmed,
    HandOver,
    confirmed,
    is_reached,
    next_step,
    preferred_leader,
)
from cluster.raft.log import Configuration

NODES = [NodeId(n) for n in range(1, 8)]
EVERYONE = frozenset(NODES)


def tablet(replicas: list[int], voters: int | None = None, **others: object) -> Tablet:
    nodes = tuple(map(NodeId, replicas))
    return Tablet(TabletId(5), ColocationId(1), nodes, voters or len(nodes), **others)  # type: ignore[arg-type]


def everybody_caught_up(_: int) -> bool:
    return True


def follow(
    current: Configuration, record: Tablet, leader: NodeId, live: frozenset[NodeId]
) -> tuple[list[Configuration], NodeId]:
    """Every configuration on the way, and who leads at the end."""
    seen = [current]
    for _ in range(50):
        step = next_step(seen[-1], record, leader, live, everybody_caught_up)
        if step is None:
            return seen, leader
        if isinstance(step, HandOver):
            assert step.node_id in seen[-1].voters
            assert step.node_id in live
            leader = step.node_id
        else:
            seen.append(step.configuration)
    raise AssertionError("no end")


def test_replacement_votes_before_the_dead_voter_goes() -> None:
    record = tablet([1, 2, 4], leaving=(NodeId(3),), joining=(NodeId(4),))
    seen, leader = follow(Configuration.of([1, 2, 3]), record, NodeId(1), EVERYONE - {NodeId(3)})
    assert seen == [
        Configuration.of([1, 2, 3]),
        Configuration.of([1, 2, 3], [4]),
        Configuration.of([1, 2, 3, 4]),
        Configuration.of([1, 2, 4]),
    ]
    assert leader == 1


def test_learner_that_lags_gets_no_vote_and_nobody_loses_one() -> None:
    record = tablet([1, 2, 4], leaving=(NodeId(3),))
    current = Configuration.of([1, 2, 3], [4])
    assert next_step(current, record, NodeId(1), EVERYONE, lambda n: n != 4) is None


def test_single_replica_moves_with_its_leader() -> None:
    seen, leader = follow(
        Configuration.of([1]), tablet([2], leaving=(NodeId(1),)), NodeId(1), EVERYONE
    )
    assert leader == 2
    assert seen[-1] == Configuration.of([2])
    # The group that is left with one voter was led by it.
    assert Configuration.of([1, 2]) in seen


def test_vote_is_not_taken_from_a_live_node_when_too_few_others_live() -> None:
    current = Configuration.of([1, 2, 3, 4])
    record = tablet([1, 2, 4], leaving=(NodeId(3),))
    assert next_step(current, record, NodeId(1), frozenset({1, 3}), everybody_caught_up) is None


def test_confirmed_once_the_new_vote_and_the_old_do_not() -> None:
    record = tablet([1, 2, 4], joining=(NodeId(4),), leaving=(NodeId(3),))
    assert confirmed(Configuration.of([1, 2, 3], [4]), record) is None
    assert confirmed(Configuration.of([1, 2, 3, 4]), record) == Confirmed((NodeId(4),), ())
    assert confirmed(Configuration.of([1, 2, 4]), record) == Confirmed((NodeId(4),), (NodeId(3),))


def test_nothing_is_to_be_done_where_all_is_reached() -> None:
    record = tablet([2, 1, 3, 4], voters=3)
    current = Configuration.of([1, 2, 3], [4])
    assert is_reached(current, record)
    for live in (EVERYONE, frozenset({NodeId(2)})):
        assert next_step(current, record, NodeId(2), live, everybody_caught_up) is None
        assert preferred_leader(current, record, NodeId(2), live, everybody_caught_up) is None
    assert not is_reached(Configuration.of([1, 2, 3, 4]), record)
    assert not is_reached(current, tablet([2, 1, 3, 4], voters=3, leaving=(NodeId(5),)))
    assert not is_reached(current.with_sync(True), record)


def test_leader_stays_unless_another_is_named_before_it() -> None:
    current = Configuration.of([1, 2, 3])
    record = tablet([2, 1, 3])
    assert preferred_leader(current, record, NodeId(2), EVERYONE, everybody_caught_up) is None
    wish = preferred_leader(current, record, NodeId(1), EVERYONE, everybody_caught_up)
    assert wish == HandOver(NodeId(2))
    silent = EVERYONE - {NodeId(2)}
    assert preferred_leader(current, record, NodeId(1), silent, everybody_caught_up) is None


@st.composite
def ways(draw: st.DrawFn) -> tuple[Configuration, Tablet, NodeId, frozenset[NodeId]]:
    voters = draw(st.lists(st.sampled_from(NODES), min_size=1, max_size=5, unique=True))
    learners = draw(st.lists(st.sampled_from(NODES), max_size=2, unique=True))
    current = Configuration.of(voters, learners)
    replicas = draw(st.lists(st.sampled_from(NODES), min_size=1, max_size=5, unique=True))
    count = draw(st.integers(1, len(replicas)))
    majority = draw(
        st.lists(
            st.sampled_from(current.voters),
            min_size=len(current.voters) // 2 + 1,
            max_size=len(current.voters),
            unique=True,
        )
    )
    others = draw(st.lists(st.sampled_from(NODES), max_size=7, unique=True))
    leader = draw(st.sampled_from(majority))
    live = frozenset(map(NodeId, (*majority, *others)))
    return current, tablet([int(n) for n in replicas], count), NodeId(leader), live


@given(ways())
def test_any_way_is_safe(way: tuple[Configuration, Tablet, NodeId, frozenset[NodeId]]) -> None:
    current, record, leader, live = way
    seen, leader = follow(current, record, leader, live)
    fewest = min(len(current.voters), record.voters)
    for before, after in itertools.pairwise(seen):
        assert len(set(before.voters) ^ set(after.voters)) <= 1
        assert len(after.voters) >= fewest
        taken = set(before.voters) - set(after.voters)
        if taken & live:
            assert 2 * len(set(after.voters) & live) > len(after.voters)
    if record.replicas and set(record.replicas) <= live:
        assert set(seen[-1].voters) >= set(record.replicas[: record.voters])
        if len(live & set(seen[-1].voters)) == len(seen[-1].voters):
            assert seen[-1] == Configuration.of(
                record.replicas[: record.voters], record.replicas[record.voters :]
            )


def test_a_change_is_one_step_of_the_union() -> None:
    step = next_step(
        Configuration.of([1]), tablet([1, 2]), NodeId(1), EVERYONE, everybody_caught_up
    )
    assert step == Change(Configuration.of([1], [2]))
