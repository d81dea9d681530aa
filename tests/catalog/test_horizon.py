"""How far history may go, whatever nodes tell and whoever leads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.horizon import PROTECTED_S, HorizonKeeper, check_retention, retention_ms
from catalog.model import NodeId
from catalog.oracle import timestamp_at
from cluster.errors import InvalidParameterValue

ONE, TWO = NodeId(1), NodeId(2)
KEPT_MS = 10_000


def _heard(*oldest: int, at_ms: int = 1_000_000) -> HorizonKeeper:
    keeper = HorizonKeeper()
    keeper.begin(0.0)
    for node_id, snapshot in enumerate(oldest, 1):
        keeper.hear(NodeId(node_id), snapshot, timestamp_at(at_ms), 0.0)
    return keeper


def _wanted(
    keeper: HorizonKeeper, at_ms: int, published: int = 0, now_s: float = 1.0
) -> int | None:
    return keeper.wanted((ONE, TWO), timestamp_at(at_ms), KEPT_MS, published, now_s)


def test_history_is_kept_for_the_retention() -> None:
    assert _wanted(_heard(0, 0), 1_000_000) == timestamp_at(990_000)


def test_the_oldest_snapshot_holds_it_back() -> None:
    old = timestamp_at(500_000)
    assert _wanted(_heard(0, old), 1_000_000) == old
    assert _wanted(_heard(old, 0), 1_000_000, published=old) is None


def test_what_began_after_a_node_spoke_holds_it_back() -> None:
    """Within a short retention a node may have begun to read, and not have said so yet."""
    keeper = _heard(0, 0, at_ms=1_000_000)
    assert _wanted(keeper, 1_030_000, now_s=30.0) == timestamp_at(1_000_000)


def test_a_silent_node_loses_its_protection() -> None:
    old = timestamp_at(500_000)
    keeper = _heard(old, 0)
    keeper.hear(TWO, 0, timestamp_at(2_000_000), PROTECTED_S)
    assert _wanted(keeper, 2_000_000, now_s=PROTECTED_S) == old
    assert _wanted(keeper, 2_000_000, now_s=PROTECTED_S + 1) == timestamp_at(1_990_000)


def test_a_new_leader_waits_to_be_told() -> None:
    keeper = _heard(0, 0)
    keeper.begin(100.0)
    keeper.hear(ONE, 0, timestamp_at(1_000_000), 100.0)
    assert _wanted(keeper, 1_000_000, now_s=101.0) is None
    keeper.hear(TWO, timestamp_at(600_000), timestamp_at(1_000_000), 102.0)
    assert _wanted(keeper, 1_000_000, now_s=102.0) == timestamp_at(600_000)
    keeper.end()
    assert _wanted(keeper, 1_000_000, now_s=102.0) is None


def test_it_moves_in_steps() -> None:
    keeper = _heard(0, 0, at_ms=10_000_000)
    assert _wanted(keeper, 1_000_000, published=timestamp_at(989_500)) is None
    assert _wanted(keeper, 1_000_000, published=timestamp_at(989_000)) == timestamp_at(990_000)


@given(
    st.lists(st.tuples(st.sampled_from((ONE, TWO)), st.booleans(), st.integers(0, 20)), max_size=40)
)
def test_no_published_horizon_is_above_what_a_node_reads(
    steps: list[tuple[NodeId, bool, int]],
) -> None:
    """A plain model: nodes that speak, draw and hold snapshots, and let them go."""
    keeper = HorizonKeeper()
    keeper.begin(0.0)
    now_ms, published, counter = 1_000_000, 0, 0
    held: dict[NodeId, int] = {}
    for node_id, holds, passed_s in steps:
        now_ms, counter = now_ms + passed_s * 1000, counter + 1
        given_now = timestamp_at(now_ms) + counter
        keeper.hear(node_id, held.get(node_id, 0), given_now, now_ms / 1000)
        if holds:
            held.setdefault(node_id, given_now)
        else:
            held.pop(node_id, None)
        speaking = {ONE, TWO}
        found = keeper.wanted(sorted(speaking), given_now, 1000, published, now_ms / 1000)
        published = max(published, found or 0)
        silent = now_ms / 1000 - PROTECTED_S
        for reader, snapshot in list(held.items()):
            if published > snapshot:
                assert keeper._heard[reader][1] < silent
                del held[reader]  # its reads are refused from here on


def test_the_retention_is_a_duration() -> None:
    assert retention_ms({}) == 600_000
    assert retention_ms({"dqe.history_retention": check_retention("90")}) == 90_000
    assert check_retention(" 2 h ") == "2 h"
    for text in ("soon", "10 ms", "-1h"):
        with pytest.raises(InvalidParameterValue):
            check_retention(text)
