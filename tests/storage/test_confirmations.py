"""Confirmations (rule C6): a home keeps a decision until its participants have committed."""

from __future__ import annotations

from pathlib import Path

import pytest
from storage_doubles import delete, insert
from three_tablets import HOME, OTHERS, TABLETS, Three, in_three

from storage import doubts, participant
from storage.entries import Commit, Confirmed, decode_entry
from storage.fragments import Timestamp, TransactionId

pytestmark = pytest.mark.usefixtures("method")


async def decide_many(
    three: Three, count: int, *, told: bool = True
) -> list[tuple[TransactionId, Timestamp]]:
    """Transactions that the home has decided; their coordinator has `told` the participants, and
    nobody has told the home so."""
    decided = []
    for _ in range(count):
        transaction_id = await three.until("decided")
        decided.append((transaction_id, three.oracle.last))
        for tablet_id in OTHERS if told else ():
            await three.tablets[tablet_id].commit(*decided[-1])
        for tablet_id in TABLETS if told else ():
            await three.write(three.tablets[tablet_id], delete(1))
    return decided


def confirmations(three: Three) -> list[Confirmed]:
    return [entry for entry in three.logged(HOME) if isinstance(entry, Confirmed)]


def test_participants_confirm_many_decisions_at_once(tmp_path: Path) -> None:
    """Whoever was told by the coordinator says so, without a word in its own log; the home notes
    it in an entry for what is said while the one before is on its way."""

    async def test(three: Three) -> None:
        decided = tuple(t for t, _ in await decide_many(three, 5))
        assert tuple(three.tablets[HOME]._participant.unconfirmed()) == decided
        lengths = [len(three.logs[tablet_id]) for tablet_id in OTHERS]
        await three.settle(three.clock)
        noted = confirmations(three)
        assert len(noted) <= len(OTHERS)
        said = sorted(of_tablet for entry in noted for of_tablet in entry.by_tablet)
        assert said == [(tablet_id, decided) for tablet_id in OTHERS]
        assert [len(three.logs[tablet_id]) for tablet_id in OTHERS] == lengths
        await three.crash()
        await three.check_nothing_is_left()

    in_three(tmp_path, test)


def test_only_what_a_participant_has_committed_is_confirmed(tmp_path: Path) -> None:
    """One that cannot log its commit confirms nothing, and keeps no other from its end."""

    async def test(three: Three) -> None:
        [(transaction_id, commit_ts)] = await decide_many(three, 1, told=False)
        first, silent = OTHERS
        three.groups[silent].refuse = lambda data: isinstance(decode_entry(data)[0], Commit)
        assert await three.tablets[silent].commit_all([(transaction_id, commit_ts)]) == []
        await three.settle(three.clock)
        assert three.tablets[HOME]._participant.unconfirmed() == {
            transaction_id: (commit_ts, (silent,))
        }
        assert await three.read(three.tablets[first]) == [(1, "a")]
        three.groups[silent].refuse = lambda _: False
        await three.settle(three.clock)
        assert await three.read(three.tablets[silent]) == [(1, "a")]
        await three.check_nothing_is_left()

    in_three(tmp_path, test)


def test_a_participant_that_was_told_otherwise_confirms_nothing(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        decided = await decide_many(three, 2)
        (first, first_ts), (second, second_ts) = decided
        found = await three.tablets[OTHERS[0]].commit_all(
            [(first, first_ts + 1), (second, second_ts)]
        )
        assert found == [second]

    in_three(tmp_path, test)


def test_a_round_is_bounded_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubts, "TOLD_AT_ONCE", 4)  # two transactions, two participants each

    async def test(three: Three) -> None:
        decided = [t for t, _ in await decide_many(three, 5)]
        three.tablets[HOME].tick()
        for left in (decided[2:], decided[4:], []):
            three.clock.skipped_s += doubts.IN_DOUBT_S
            three.tablets[HOME].tick()
            await three.quiet()
            assert list(three.tablets[HOME]._participant.unconfirmed()) == left

    in_three(tmp_path, test)


def test_what_a_participant_has_forgotten_is_confirmed(tmp_path: Path) -> None:
    """Outcomes are kept for ten minutes, decisions until they are confirmed: a participant that
    hears of one again after that knows, from its log, that it has ended as its home decided."""

    async def test(three: Three) -> None:
        [(transaction_id, _)] = await decide_many(three, 1)
        three.oracle.last += (participant.OUTCOME_RETENTION_MS + 1) << 18
        for tablet_id in TABLETS:
            await three.write(three.tablets[tablet_id], insert((2, "later")))
        assert three.tablets[OTHERS[0]]._participant.outcome(transaction_id) is None
        assert three.tablets[HOME]._participant.outcome(transaction_id) is not None
        await three.settle(three.clock)
        await three.check_rows([(2, "later")])
        await three.check_nothing_is_left()

    in_three(tmp_path, test)
