"""Transactions over several tablets, with crashes at every step, against the promise that they
are visible everywhere or nowhere."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from storage_doubles import insert, update
from three_tablets import HOME, OTHERS, PRECOMMITTED, STEPS, TABLETS, Three, in_three

from cluster.errors import CannotConnectNow, DqeError, SerializationFailure
from storage import doubts
from storage.entries import Decision, decode_entry
from storage.fragments import TabletId, Timestamp, TransactionId

pytestmark = pytest.mark.usefixtures("method")


@pytest.mark.parametrize("checkpoint", [False, True], ids=["log", "checkpointed"])
@pytest.mark.parametrize("last", STEPS)
def test_a_crash_of_all_behind_any_step(tmp_path: Path, last: str, checkpoint: bool) -> None:
    async def test(three: Three) -> None:
        await three.until(last)
        if checkpoint:
            await three.checkpoint()
        await three.crash()
        await three.settle(three.clock)
        decided = STEPS.index(last) >= STEPS.index("decided")
        wanted = [(1, "a")] if decided else []
        await three.check_rows(wanted)
        await three.check_nothing_is_left()

    in_three(tmp_path, test)


@pytest.mark.parametrize("last", STEPS)
def test_a_coordinator_that_falls_silent_behind_any_step(tmp_path: Path, last: str) -> None:
    async def test(three: Three) -> None:
        await three.until(last)
        await three.settle(three.clock)
        decided = STEPS.index(last) >= STEPS.index("decided")
        await three.check_rows([(1, "a")] if decided else [])
        await three.check_nothing_is_left()

    in_three(tmp_path, test)


@pytest.mark.parametrize("checkpoint", [False, True], ids=["log", "checkpointed"])
@pytest.mark.parametrize("last", [*PRECOMMITTED, "decided", "committed 2"])
def test_a_precommit_decides_nothing(tmp_path: Path, last: str, checkpoint: bool) -> None:
    """Three phases (rule C11): whoever dies, and when, only the home's log says how it ends."""

    async def test(three: Three) -> None:
        await three.until(last, three_phase=True)
        if checkpoint:
            await three.checkpoint()
        await three.crash()
        await three.settle(three.clock)
        wanted = [] if last in PRECOMMITTED else [(1, "a")]
        await three.check_rows(wanted)
        await three.check_nothing_is_left()

    in_three(tmp_path, test)


def test_a_participant_in_doubt_holds_its_lock_and_its_readers(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        await three.until("decided")
        three.peers.down.update(TABLETS)
        await three.crash()
        await three.settle(three.clock)
        participant = three.tablets[OTHERS[0]]
        with pytest.raises(DqeError, match="lock timeout"):
            await participant.lock(three.begin(), deadline_s=0.01)
        with pytest.raises(CannotConnectNow, match="could not be read"):
            await participant.prepare_read([12], three.oracle.now(), 0.05)
        three.peers.down.clear()
        await three.settle(three.clock)
        assert await three.read(participant) == [(1, "a")]
        await three.check_nothing_is_left()

    in_three(tmp_path, test)


def test_what_is_prepared_is_not_given_up_by_silence(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        transaction_id = three.begin()
        steps = three.commit_in_steps(transaction_id)
        async for step in steps:
            if step == "drawn":
                break
        # The coordinator is slow, not dead: its home hears from it, the others do not.
        three.clock.skipped_s += 60.0
        three.tablets[HOME]._participant.touch(transaction_id, three.clock.monotonic())
        for tablet in three.tablets.values():
            tablet.tick()
        async for _ in steps:
            pass
        await three.check_rows([(1, "a")])

    in_three(tmp_path, test)


def test_the_first_outcome_at_the_home_wins(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        transaction_id = three.begin()
        steps = three.commit_in_steps(transaction_id)
        async for step in steps:
            if step == "drawn":
                break
        await three.tablets[HOME].abort(transaction_id)
        with pytest.raises(SerializationFailure):
            async for _ in steps:
                pass
        await three.settle(three.clock)
        await three.check_rows([])
        await three.check_nothing_is_left()

    in_three(tmp_path, test)


def test_asking_twice_changes_nothing(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        transaction_id = three.begin()
        commit_ts: Timestamp = 0
        async for step in three.commit_in_steps(transaction_id):
            if step.startswith("prepared"):
                for other in OTHERS:
                    if three.tablets[other]._participant.prepared():
                        await three.tablets[other].prepare(transaction_id, 1, HOME)
            if step == "decided":
                commit_ts = three.oracle.last
                await three.tablets[OTHERS[0]].commit(transaction_id, commit_ts)
                await three.tablets[OTHERS[0]].commit(transaction_id, commit_ts)
                await three.tablets[OTHERS[0]].abort(transaction_id)
        await three.check_rows([(1, "a")])
        await three.check_rows([], commit_ts - 1)

    in_three(tmp_path, test)


async def prepared_everywhere(three: Three) -> tuple[TransactionId, Timestamp]:
    """A transaction that has only its home left to ask, and its floor."""
    transaction_id = three.begin()
    for tablet in three.tablets.values():
        await tablet.lock(transaction_id)
        await tablet.stage(transaction_id, insert((1, "a")))
    floor = three.oracle.now()
    for tablet_id in OTHERS:
        await three.tablets[tablet_id].prepare(transaction_id, floor, HOME)
    return transaction_id, floor


def test_a_home_marks_draws_and_decides_in_one_request(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        transaction_id, floor = await prepared_everywhere(three)

        async def draw() -> Timestamp:
            # Whoever reads at what was issued before the draw waits (rule C1).
            assert three.tablets[HOME]._participant.pending_below(three.oracle.last + 1)
            return three.oracle.now()

        commit_ts = await three.tablets[HOME].write(transaction_id, floor, draw, TABLETS)
        last = three.logged(HOME)[-1]
        assert isinstance(last, Decision)
        assert (last.commit_ts, last.participants) == (commit_ts, OTHERS)
        await three.crash()
        await three.settle(three.clock)
        await three.check_rows([(1, "a")])
        await three.check_rows([], commit_ts - 1)
        await three.check_nothing_is_left()

    in_three(tmp_path, test)


@pytest.mark.parametrize("how", ["no timestamp", "refused"])
def test_a_home_that_cannot_decide_ends_it_everywhere(tmp_path: Path, how: str) -> None:
    async def test(three: Three) -> None:
        transaction_id, floor = await prepared_everywhere(three)

        async def draw() -> Timestamp:
            if how == "no timestamp":
                raise CannotConnectNow("no timestamp could be had")
            return three.oracle.now()

        if how == "refused":
            three.groups[HOME].refuse = lambda data: isinstance(decode_entry(data)[0], Decision)
        with pytest.raises(CannotConnectNow):
            await three.tablets[HOME].write(transaction_id, floor, draw, TABLETS)
        await three.settle(three.clock)
        await three.check_rows([])
        await three.check_nothing_is_left()

    in_three(tmp_path, test)


def test_a_new_leader_soon_asks_for_what_it_inherits(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        await three.until("decided")
        await three.crash()
        for _ in range(2):
            for tablet_id in OTHERS:
                three.tablets[tablet_id].tick()
                await three.quiet()
            three.clock.skipped_s += doubts.INHERITED_S
        for tablet_id in OTHERS:
            assert await three.read(three.tablets[tablet_id]) == [(1, "a")]

    in_three(tmp_path, test)


def test_who_leads_no_more_passes_a_commit_on(tmp_path: Path) -> None:
    """A coordinator tells whom it takes for the leader, and waits for no answer."""

    async def test(three: Three) -> None:
        transaction_id = await three.until("decided")
        commit_ts, (first, second) = three.oracle.last, OTHERS
        passed_on: list[object] = []

        async def tell(tablet_id: TabletId, commits: Sequence[object]) -> Sequence[TransactionId]:
            passed_on.append((tablet_id, commits))
            return ()

        three.peers.tell_commits = tell  # type: ignore[method-assign]
        three.groups[second].stop()
        for tablet_id in OTHERS:
            three.tablets[tablet_id].learn_commit(transaction_id, commit_ts)
        while three.tablets[first]._participant.prepared() or not passed_on:
            await asyncio.sleep(0.001)
        assert passed_on == [(second, [(transaction_id, commit_ts)])]
        assert await three.read(three.tablets[first]) == [(1, "a")]

    in_three(tmp_path, test)


ACCOUNTS = 4
START = 100


class Bank:
    """Money moves between accounts on three tablets; every snapshot must sum to the same."""

    def __init__(self, three: Three, seed: int) -> None:
        self.three = three
        self.random = random.Random(seed)
        self.acknowledged = 0
        self.sums = 0

    async def open_accounts(self) -> None:
        for tablet_id, tablet in self.three.tablets.items():
            accounts = [(tablet_id * 10 + i, str(START)) for i in range(ACCOUNTS)]
            await self.three.write(tablet, insert(*accounts))

    async def move_forever(self) -> None:
        while True:
            transaction_id = self.three.begin()
            source, target = self.random.sample(TABLETS, 2)
            try:
                await self._move(transaction_id, source, target)
                self.acknowledged += 1
            except DqeError:
                for tablet_id in (source, target):
                    await self.three.tablets[tablet_id].abort(transaction_id)

    async def _move(self, transaction_id: TransactionId, source: int, target: int) -> None:
        three, tablets = self.three, self.three.tablets
        for tablet_id in sorted((source, target)):
            await tablets[tablet_id].lock(transaction_id)
        snapshot = three.oracle.now()
        for tablet_id, amount in ((source, -1), (target, 1)):
            accounts = dict(await three.read(tablets[tablet_id], snapshot))
            account = tablet_id * 10 + self.random.randrange(ACCOUNTS)
            changed = (account, str(int(accounts[account]) + amount))
            await tablets[tablet_id].stage(transaction_id, update(changed))
        floor = three.oracle.now()
        await tablets[target].prepare(transaction_id, floor, source)
        if self.random.random() < 0.1:
            raise SerializationFailure("the client changed its mind")
        await tablets[source].mark_home(transaction_id, floor)
        commit_ts = three.oracle.now()
        await tablets[source].decide(transaction_id, commit_ts, [target])
        if self.random.random() < 0.7:  # else the home must tell it
            await tablets[target].commit(transaction_id, commit_ts)

    async def sum_forever(self) -> None:
        while True:
            await self.check(self.three.oracle.now())
            self.sums += 1

    async def check(self, at: Timestamp) -> None:
        tablets = self.three.tablets.values()
        found = await asyncio.gather(*(self.three.read(tablet, at) for tablet in tablets))
        accounts = {key: int(value) for rows in found for key, value in rows}
        assert sum(accounts.values()) == START * ACCOUNTS * len(TABLETS), accounts


@pytest.mark.parametrize("seed", range(4))
def test_money_is_never_made_or_lost(tmp_path: Path, seed: int) -> None:
    async def test(three: Three) -> None:
        bank = Bank(three, seed)
        await bank.open_accounts()
        for _ in range(3):
            work = [asyncio.ensure_future(bank.move_forever()) for _ in range(3)]
            work.append(asyncio.ensure_future(bank.sum_forever()))
            stop_at = bank.acknowledged + bank.random.randrange(5, 15)
            while bank.acknowledged < stop_at:
                await asyncio.sleep(0.002)
                three.clock.skipped_s += 1.0
                for tablet in three.tablets.values():
                    tablet.tick()
                failed = [w for w in work if w.done()]
                assert not failed, failed[0].exception()
                if bank.random.random() < 0.1:
                    await three.tablets[bank.random.choice(TABLETS)].checkpoint()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            last = three.oracle.last
            await three.crash()
            await three.settle(three.clock)
            await bank.check(three.oracle.now())
            await bank.check(last)
        assert bank.sums > 3

    in_three(tmp_path, test)
