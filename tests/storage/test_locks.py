"""The tablet lock: who waits, who is granted, in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.locks import LockMode, TabletLock

SHARED, EXCLUSIVE = LockMode.SHARED, LockMode.EXCLUSIVE


def test_readers_share_and_writers_wait_in_turn() -> None:
    lock = TabletLock()
    assert lock.request(1, SHARED)
    assert lock.request(2, SHARED)
    assert not lock.request(3, EXCLUSIVE)
    assert not lock.request(4, SHARED)  # behind 3: nobody starves
    assert lock.release(1) == []
    assert lock.release(2) == [3]
    assert lock.release(3) == [4]


def test_more_is_asked_for_at_the_front() -> None:
    lock = TabletLock()
    assert lock.request(1, SHARED)
    assert lock.request(2, SHARED)
    assert not lock.request(3, EXCLUSIVE)
    assert not lock.request(1, EXCLUSIVE)
    assert lock.release(2) == [1]
    assert lock.mode(1) is EXCLUSIVE
    assert lock.request(1, SHARED)  # what it has is enough
    assert lock.release(1) == [3]


def test_giving_up_while_waiting_lets_others_on() -> None:
    lock = TabletLock()
    assert lock.request(1, SHARED)
    assert not lock.request(2, EXCLUSIVE)
    assert not lock.request(3, SHARED)
    assert lock.release(2) == [3]
    assert lock.waiting == ()


REQUESTS = st.tuples(st.integers(1, 5), st.sampled_from([SHARED, EXCLUSIVE, None]))


@given(st.lists(REQUESTS, max_size=60))
def test_an_exclusive_holder_is_alone_and_nobody_is_forgotten(
    steps: list[tuple[int, LockMode | None]],
) -> None:
    lock = TabletLock()
    wanted: dict[int, LockMode] = {}
    for transaction_id, mode in steps:
        if mode is None:
            lock.release(transaction_id)
            wanted.pop(transaction_id, None)
        elif transaction_id not in lock.waiting:
            lock.request(transaction_id, mode)
            if wanted.get(transaction_id) is not EXCLUSIVE:
                wanted[transaction_id] = mode
        holders = {t: lock.mode(t) for t in wanted if lock.mode(t) is not None}
        assert list(holders.values()).count(EXCLUSIVE) == 0 or len(holders) == 1
        for holder in wanted:
            assert holder in holders or holder in lock.waiting
        # The first in line waits for a reason.
        if lock.waiting:
            first = lock.waiting[0]
            others = [m for t, m in holders.items() if t != first]
            assert EXCLUSIVE in others or (others and wanted[first] is EXCLUSIVE)
