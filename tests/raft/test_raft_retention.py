"""What of a group's log is kept for members that lag: sizes beside a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.raft.retention import AppliedSizes
from cluster.raft.settings import MIB

LONGEST = 8 * MIB


@given(
    st.lists(st.integers(1, 3 * MIB), max_size=60),
    st.integers(0, LONGEST),
)
def test_what_is_kept_is_what_was_asked_for_and_little_more(sizes: list[int], asked: int) -> None:
    noted = AppliedSizes(LONGEST)
    for index, size in enumerate(sizes, 1):
        noted.applied(index, size)
    before = noted.index_before(asked)
    kept = sum(sizes[before:])
    assert 0 <= before <= len(sizes)
    if before:
        assert kept >= asked
        # A sample is a mebibyte at least, and one entry beyond it at most.
        assert kept <= asked + 3 * MIB + 2 * MIB
    else:
        assert kept <= asked + 3 * MIB + 2 * MIB


def test_the_memory_is_bounded() -> None:
    noted = AppliedSizes(LONGEST)
    for index in range(1, 1000):
        noted.applied(index, MIB)
    assert len(noted._indexes) <= LONGEST // MIB + 2
