"""The locks of a tablet: who waits, who is granted, in which order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from storage.locks import CONFLICTS, ROW_MODES, TABLE_MODES, TABLET, LockMode, LockTable, Resource

SHARED, EXCLUSIVE = LockMode.ROW_EXCLUSIVE, LockMode.EXCLUSIVE
ROW: Resource = (12, (1,))

# PostgreSQL's manual, tables 13.2 and 13.3: which modes exclude which.
TABLE_CONFLICTS = (
    "       X",
    "      XX",
    "    XXXX",
    "   XXXXX",
    "  XX XXX",
    "  XXXXXX",
    " XXXXXXX",
    "XXXXXXXX",
)
ROW_CONFLICTS = ("   X", "  XX", " XXX", "XXXX")


@pytest.mark.parametrize(
    ("modes", "table"), [(TABLE_MODES, TABLE_CONFLICTS), (ROW_MODES, ROW_CONFLICTS)]
)
def test_modes_exclude_each_other_as_the_manual_says(
    modes: tuple[LockMode, ...], table: tuple[str, ...]
) -> None:
    for one, line in zip(modes, table, strict=True):
        for other, mark in zip(modes, line, strict=True):
            assert bool(CONFLICTS[one] & other.bit) == (mark == "X"), (one, other)
            locks = LockTable()
            assert locks.request(1, other).granted
            assert locks.request(2, one).granted == (mark != "X")


def test_sharers_share_and_others_wait_in_turn() -> None:
    locks = LockTable()
    assert locks.request(1, SHARED).granted
    assert locks.request(2, SHARED).granted
    third = locks.request(3, EXCLUSIVE)
    fourth = locks.request(4, SHARED)  # behind the third: nobody starves
    assert not third.granted
    assert not fourth.granted
    assert locks.release(1) == []
    assert locks.release(2) == [third]
    assert locks.release(3) == [fourth]


def test_rows_are_apart_from_each_other_and_from_the_tablet() -> None:
    locks = LockTable()
    assert locks.request(1, LockMode.FOR_UPDATE, ROW).granted
    assert locks.request(2, LockMode.FOR_UPDATE, (12, (2,))).granted
    assert locks.request(2, LockMode.FOR_UPDATE, (13, (1,))).granted
    assert locks.request(2, SHARED).granted
    assert not locks.request(2, LockMode.FOR_KEY_SHARE, ROW).granted


def test_more_is_asked_for_at_the_front() -> None:
    locks = LockTable()
    locks.request(1, SHARED)
    locks.request(2, SHARED)
    third = locks.request(3, EXCLUSIVE)
    more = locks.request(1, EXCLUSIVE)
    assert not more.granted
    assert locks.release(2) == [more]
    assert locks.holds(1, EXCLUSIVE)
    assert locks.request(1, SHARED).granted  # what it has is enough
    assert locks.release(1) == [third]


def test_giving_up_while_waiting_lets_others_on() -> None:
    locks = LockTable()
    locks.request(1, SHARED)
    second = locks.request(2, EXCLUSIVE)
    third = locks.request(3, SHARED)
    assert locks.cancel(second) == [third]
    assert locks.cancel(second) == []
    assert locks.waiting() == ()


def test_a_request_that_does_not_wait_leaves_nothing() -> None:
    locks = LockTable()
    locks.request(1, LockMode.FOR_UPDATE, ROW)
    assert not locks.request(2, LockMode.FOR_SHARE, ROW, wait=False).granted
    assert locks.waiting() == ()
    assert locks.release(1) == []
    assert locks.request(2, LockMode.FOR_SHARE, ROW, wait=False).granted


def test_going_back_gives_up_what_came_since() -> None:
    locks = LockTable()
    locks.request(1, LockMode.FOR_SHARE, ROW, command=1)
    locks.request(1, LockMode.FOR_UPDATE, ROW, command=2)
    locks.request(1, LockMode.FOR_UPDATE, (12, (2,)), command=3)
    sharing = locks.request(2, LockMode.FOR_SHARE, ROW)
    other = locks.request(2, LockMode.FOR_UPDATE, (12, (2,)))
    assert locks.release(1, since_command=3) == [other]
    assert locks.release(1, since_command=2) == [sharing]
    assert locks.holds(1, LockMode.FOR_SHARE, ROW)
    assert not locks.holds(1, LockMode.FOR_UPDATE, ROW)


def test_a_mode_is_weakened_to_another_or_none() -> None:
    locks = LockTable()
    locks.request(1, LockMode.FOR_UPDATE, ROW, command=1)
    sharing = locks.request(2, LockMode.FOR_KEY_SHARE, ROW)
    update = locks.request(3, LockMode.FOR_UPDATE, ROW)
    assert locks.weaken(1, LockMode.FOR_UPDATE, ROW, 2) == []
    assert locks.weaken(1, LockMode.FOR_UPDATE, ROW, 1, LockMode.FOR_NO_KEY_UPDATE) == [sharing]
    assert not locks.holds(1, LockMode.FOR_UPDATE, ROW)
    locks.request(1, LockMode.FOR_NO_KEY_UPDATE, ROW, command=2)
    assert locks.weaken(1, LockMode.FOR_NO_KEY_UPDATE, ROW, 1) == []
    assert locks.count_of(1) == 0
    assert locks.release(2) == [update]


def test_a_new_leader_holds_what_was_held() -> None:
    locks = LockTable()
    locks.request(9, EXCLUSIVE)
    locks.restore([], [(1, [(ROW, LockMode.FOR_UPDATE)]), (2, [])])
    assert locks.holds(1, LockMode.FOR_UPDATE, ROW)
    assert not locks.request(3, EXCLUSIVE).granted
    assert locks.request(4, SHARED, wait=False).granted is False  # behind the exclusive request
    assert not locks.request(4, LockMode.FOR_SHARE, ROW).granted
    assert locks.rows_of(1) == [(ROW, LockMode.FOR_UPDATE)]


RESOURCES = st.sampled_from([TABLET, ROW, (12, (2,))])
IDS = st.integers(1, 4)


class LocksAgainstAModel(RuleBasedStateMachine):
    """Beside a list of everything held and of everything wished for, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.locks = LockTable()
        self.held: list[tuple[int, Resource, LockMode, int]] = []
        self.wishes: list[object] = []

    def take(self, granted: list[object]) -> None:
        for request in granted:
            self.wishes.remove(request)
            self.hold(request)

    def hold(self, request: object) -> None:
        self.held.append((request.transaction_id, request.resource, request.mode, request.command))  # type: ignore[attr-defined]

    @rule(
        name=IDS,
        resource=RESOURCES,
        mode=st.sampled_from(LockMode),
        command=st.integers(1, 3),
        wait=st.booleans(),
    )
    def ask(self, name: int, resource: Resource, mode: LockMode, command: int, wait: bool) -> None:
        mode = mode if (mode in TABLE_MODES) == (resource == TABLET) else ROW_MODES[-1]
        mode = mode if resource != TABLET or mode in TABLE_MODES else LockMode.EXCLUSIVE
        known = self.locks.holds(name, mode, resource)
        request = self.locks.request(name, mode, resource, command=command, wait=wait)
        if request.granted and not known:
            self.hold(request)
        elif not request.granted and wait:
            self.wishes.append(request)

    @rule(name=IDS, since=st.none() | st.integers(1, 4))
    def give_up(self, name: int, since: int | None) -> None:
        def goes(owner: int, command: int) -> bool:
            return owner == name and (since is None or command >= since)

        granted = self.locks.release(name, since)
        self.held = [h for h in self.held if not goes(h[0], h[3])]
        self.wishes = [
            w
            for w in self.wishes
            if not goes(w.transaction_id, w.command)  # type: ignore[attr-defined]
        ]
        self.take(granted)  # type: ignore[arg-type]

    @rule(place=st.integers(0, 5))
    def stop_waiting(self, place: int) -> None:
        if place < len(self.wishes):
            request = self.wishes.pop(place)
            self.take(self.locks.cancel(request))  # type: ignore[arg-type]

    @invariant()
    def nobody_holds_what_another_excludes(self) -> None:
        for owner, resource, mode, _ in self.held:
            assert self.locks.holds(owner, mode, resource)
            for other, same, theirs, _ in self.held:
                if other != owner and same == resource:
                    assert not CONFLICTS[mode] & theirs.bit

    @invariant()
    def whoever_waits_waits_for_somebody(self) -> None:
        assert set(self.locks.waiting()) == set(self.wishes)
        waits = {request for request, _ in self.locks.edges()}
        assert waits == set(self.wishes)
        for request, other in self.locks.edges():
            theirs = [h for h in self.held if h[0] == other and h[1] == request.resource]
            wished = [
                w
                for w in self.wishes
                if w.transaction_id == other and w.resource == request.resource  # type: ignore[attr-defined]
            ]
            assert theirs or wished


TestLocksAgainstAModel = LocksAgainstAModel.TestCase
TestLocksAgainstAModel.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
