"""Transactions over several tablets, with crashes at every step, against the promise that they
are visible everywhere or nowhere."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from storage_doubles import METHODS, Bench, Defaults, SkippingRuntime, delete, insert, run, update

from cluster.errors import CannotConnectNow, DqeError, SerializationFailure
from cluster.raft.log import EntryKind
from storage import doubts, participant
from storage.entries import Commit, Confirmed, Decision, TabletEntry, decode_entry
from storage.fragments import AccessMethod, TabletId, Timestamp, TransactionId
from storage.tablet import Tablet

HOME, OTHERS = 1, (2, 3)
TABLETS = (HOME, *OTHERS)


async def commit_in_steps(
    bench: Bench,
    tablets: dict[TabletId, Tablet],
    transaction_id: TransactionId,
    three_phase: bool = False,
) -> AsyncIterator[str]:
    """What a coordinator does (rule C4), pausing behind every step."""
    for tablet_id in TABLETS:
        await tablets[tablet_id].lock(transaction_id)
        yield f"locked {tablet_id}"
    for tablet_id in TABLETS:
        await tablets[tablet_id].stage(transaction_id, insert((1, "a")))
        yield f"staged {tablet_id}"
    floor = bench.oracle.now()
    for tablet_id in OTHERS:
        await tablets[tablet_id].prepare(transaction_id, floor, HOME)
        yield f"prepared {tablet_id}"
    await tablets[HOME].mark_home(transaction_id, floor)
    yield "marked"
    commit_ts = bench.oracle.now()
    yield "drawn"
    if three_phase:
        for tablet_id in OTHERS:
            await tablets[tablet_id].precommit(transaction_id, commit_ts)
            yield f"precommitted {tablet_id}"
    await tablets[HOME].decide(transaction_id, commit_ts, OTHERS)
    yield "decided"
    for tablet_id in OTHERS:
        await tablets[tablet_id].commit(transaction_id, commit_ts)
        yield f"committed {tablet_id}"
        await tablets[HOME].confirm({tablet_id: [transaction_id]})
        yield f"confirmed {tablet_id}"


STEPS = [
    *(f"locked {t}" for t in TABLETS),
    *(f"staged {t}" for t in TABLETS),
    *(f"prepared {t}" for t in OTHERS),
    "marked",
    "drawn",
    "decided",
    *(f"{what} {t}" for t in OTHERS for what in ("committed", "confirmed")),
]


PRECOMMITTED = [f"precommitted {t}" for t in OTHERS]


async def open_all(bench: Bench) -> dict[TabletId, Tablet]:
    return {tablet_id: await bench.open(tablet_id) for tablet_id in TABLETS}


async def check_nothing_is_left(bench: Bench, tablets: dict[TabletId, Tablet]) -> None:
    for tablet in tablets.values():
        assert not tablet._participant.transactions
        assert not tablet._participant.unconfirmed()
        await asyncio.wait_for(bench.write(tablet, insert((99, "free"))), 5)


@pytest.fixture(autouse=True, params=METHODS)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AccessMethod:
    """Every test runs for each of the stores."""
    monkeypatch.setattr(Defaults, "method", request.param)
    found: AccessMethod = request.param
    return found


@pytest.mark.parametrize("checkpoint", [False, True], ids=["log", "checkpointed"])
@pytest.mark.parametrize("last", STEPS)
def test_a_crash_of_all_behind_any_step(tmp_path: Path, last: str, checkpoint: bool) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        async for step in commit_in_steps(bench, tablets, bench.begin()):
            if step == last:
                break
        if checkpoint:
            for tablet in tablets.values():
                await tablet.checkpoint()
        await bench.crash()
        tablets = await open_all(bench)
        await bench.settle(runtime)
        decided = STEPS.index(last) >= STEPS.index("decided")
        wanted = [(1, "a")] if decided else []
        for tablet in tablets.values():
            assert await bench.read(tablet) == wanted
        await check_nothing_is_left(bench, tablets)
        await bench.close()

    run(main)


@pytest.mark.parametrize("last", STEPS)
def test_a_coordinator_that_falls_silent_behind_any_step(tmp_path: Path, last: str) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        async for step in commit_in_steps(bench, tablets, bench.begin()):
            if step == last:
                break
        await bench.settle(runtime)
        decided = STEPS.index(last) >= STEPS.index("decided")
        for tablet in tablets.values():
            assert await bench.read(tablet) == ([(1, "a")] if decided else [])
        await check_nothing_is_left(bench, tablets)
        await bench.close()

    run(main)


@pytest.mark.parametrize("checkpoint", [False, True], ids=["log", "checkpointed"])
@pytest.mark.parametrize("last", [*PRECOMMITTED, "decided", "committed 2"])
def test_a_precommit_decides_nothing(tmp_path: Path, last: str, checkpoint: bool) -> None:
    """Three phases (rule C11): whoever dies, and when, only the home's log says how it ends."""

    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        async for step in commit_in_steps(bench, tablets, bench.begin(), three_phase=True):
            if step == last:
                break
        if checkpoint:
            for tablet in tablets.values():
                await tablet.checkpoint()
        await bench.crash()
        tablets = await open_all(bench)
        await bench.settle(runtime)
        wanted = [] if last in PRECOMMITTED else [(1, "a")]
        for tablet in tablets.values():
            assert await bench.read(tablet) == wanted
        await check_nothing_is_left(bench, tablets)
        await bench.close()

    run(main)


def test_a_participant_in_doubt_holds_its_lock_and_its_readers(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        transaction_id = bench.begin()
        async for step in commit_in_steps(bench, tablets, transaction_id):
            if step == "decided":
                break
        bench.peers.down.update(TABLETS)
        await bench.crash()
        tablets = await open_all(bench)
        await bench.settle(runtime)
        participant = tablets[OTHERS[0]]
        with pytest.raises(DqeError, match="lock timeout"):
            await participant.lock(bench.begin(), deadline_s=0.01)
        with pytest.raises(CannotConnectNow, match="could not be read"):
            await participant.prepare_read([12], bench.oracle.now(), 0.05)
        bench.peers.down.clear()
        await bench.settle(runtime)
        assert await bench.read(participant) == [(1, "a")]
        await check_nothing_is_left(bench, tablets)
        await bench.close()

    run(main)


def test_what_is_prepared_is_not_given_up_by_silence(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        transaction_id = bench.begin()
        steps = commit_in_steps(bench, tablets, transaction_id)
        async for step in steps:
            if step == "drawn":
                break
        # The coordinator is slow, not dead: its home hears from it, the others do not.
        runtime.skipped_s += 60.0
        tablets[HOME]._participant.touch(transaction_id, runtime.monotonic())
        for tablet in tablets.values():
            tablet.tick()
        async for _ in steps:
            pass
        for tablet in tablets.values():
            assert await bench.read(tablet) == [(1, "a")]
        await bench.close()

    run(main)


def test_the_first_outcome_at_the_home_wins(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        transaction_id = bench.begin()
        steps = commit_in_steps(bench, tablets, transaction_id)
        async for step in steps:
            if step == "drawn":
                break
        await tablets[HOME].abort(transaction_id)
        with pytest.raises(SerializationFailure):
            async for _ in steps:
                pass
        await bench.settle(runtime)
        for tablet in tablets.values():
            assert await bench.read(tablet) == []
        await check_nothing_is_left(bench, tablets)
        await bench.close()

    run(main)


def test_asking_twice_changes_nothing(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        transaction_id = bench.begin()
        commit_ts: Timestamp = 0
        async for step in commit_in_steps(bench, tablets, transaction_id):
            if step.startswith("prepared"):
                for other in OTHERS:
                    if tablets[other]._participant.prepared():
                        await tablets[other].prepare(transaction_id, 1, HOME)
            if step == "decided":
                commit_ts = bench.oracle.last
                await tablets[OTHERS[0]].commit(transaction_id, commit_ts)
                await tablets[OTHERS[0]].commit(transaction_id, commit_ts)
                await tablets[OTHERS[0]].abort(transaction_id)
        for tablet in tablets.values():
            assert await bench.read(tablet) == [(1, "a")]
            assert await bench.read(tablet, commit_ts - 1) == []
        await bench.close()

    run(main)


async def prepared_everywhere(
    bench: Bench, tablets: dict[TabletId, Tablet]
) -> tuple[TransactionId, Timestamp]:
    """A transaction that has only its home left to ask, and its floor."""
    transaction_id = bench.begin()
    for tablet in tablets.values():
        await tablet.lock(transaction_id)
        await tablet.stage(transaction_id, insert((1, "a")))
    floor = bench.oracle.now()
    for tablet_id in OTHERS:
        await tablets[tablet_id].prepare(transaction_id, floor, HOME)
    return transaction_id, floor


def test_a_home_marks_draws_and_decides_in_one_request(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        transaction_id, floor = await prepared_everywhere(bench, tablets)

        async def draw() -> Timestamp:
            # Whoever reads at what was issued before the draw waits (rule C1).
            assert tablets[HOME]._participant.pending_below(bench.oracle.last + 1)
            return bench.oracle.now()

        commit_ts = await tablets[HOME].write(transaction_id, floor, draw, TABLETS)
        last = logged(bench, HOME)[-1]
        assert isinstance(last, Decision)
        assert (last.commit_ts, last.participants) == (commit_ts, OTHERS)
        await bench.crash()
        tablets = await open_all(bench)
        await bench.settle(runtime)
        for tablet in tablets.values():
            assert await bench.read(tablet) == [(1, "a")]
            assert await bench.read(tablet, commit_ts - 1) == []
        await check_nothing_is_left(bench, tablets)
        await bench.close()

    run(main)


@pytest.mark.parametrize("how", ["no timestamp", "refused"])
def test_a_home_that_cannot_decide_ends_it_everywhere(tmp_path: Path, how: str) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        transaction_id, floor = await prepared_everywhere(bench, tablets)

        async def draw() -> Timestamp:
            if how == "no timestamp":
                raise CannotConnectNow("no timestamp could be had")
            return bench.oracle.now()

        if how == "refused":
            bench.groups[HOME].refuse = lambda data: isinstance(decode_entry(data)[0], Decision)
        with pytest.raises(CannotConnectNow):
            await tablets[HOME].write(transaction_id, floor, draw, TABLETS)
        await bench.settle(runtime)
        for tablet in tablets.values():
            assert await bench.read(tablet) == []
        await check_nothing_is_left(bench, tablets)
        await bench.close()

    run(main)


def test_a_new_leader_soon_asks_for_what_it_inherits(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        async for step in commit_in_steps(bench, tablets, bench.begin()):
            if step == "decided":
                break
        await bench.crash()
        tablets = await open_all(bench)
        for _ in range(2):
            for tablet_id in OTHERS:
                tablets[tablet_id].tick()
                while tablets[tablet_id]._doubts.settling:
                    await asyncio.sleep(0.001)
            runtime.skipped_s += doubts.INHERITED_S
        for tablet_id in OTHERS:
            assert await bench.read(tablets[tablet_id]) == [(1, "a")]
        await bench.close()

    run(main)


def test_who_leads_no_more_passes_a_commit_on(tmp_path: Path) -> None:
    """A coordinator tells whom it takes for the leader, and waits for no answer."""

    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        transaction_id = bench.begin()
        async for step in commit_in_steps(bench, tablets, transaction_id):
            if step == "decided":
                break
        commit_ts, (first, second) = bench.oracle.last, OTHERS
        passed_on: list[object] = []

        async def tell(tablet_id: TabletId, commits: Sequence[object]) -> Sequence[TransactionId]:
            passed_on.append((tablet_id, commits))
            return ()

        bench.peers.tell_commits = tell  # type: ignore[method-assign]
        bench.groups[second].stop()
        for tablet_id in OTHERS:
            tablets[tablet_id].learn_commit(transaction_id, commit_ts)
        while tablets[first]._participant.prepared() or not passed_on:
            await asyncio.sleep(0.001)
        assert passed_on == [(second, [(transaction_id, commit_ts)])]
        assert await bench.read(tablets[first]) == [(1, "a")]
        await bench.close()

    run(main)


# Confirmations (rule C6).


async def decide_many(
    bench: Bench, tablets: dict[TabletId, Tablet], count: int, *, told: bool = True
) -> list[tuple[TransactionId, Timestamp]]:
    """Transactions that the home has decided; their coordinator has `told` the participants, and
    nobody has told the home so."""
    decided = []
    for _ in range(count):
        transaction_id = bench.begin()
        async for step in commit_in_steps(bench, tablets, transaction_id):
            if step == "decided":
                break
        decided.append((transaction_id, bench.oracle.last))
        for tablet_id in OTHERS if told else ():
            await tablets[tablet_id].commit(*decided[-1])
        for tablet_id in TABLETS if told else ():
            await bench.write(tablets[tablet_id], delete(1))
    return decided


def logged(bench: Bench, tablet_id: TabletId) -> list[TabletEntry]:
    entries = [entry for entry in bench.logs[tablet_id] if entry.kind is EntryKind.COMMAND]
    return [decode_entry(entry.data)[0] for entry in entries]


def confirmations(bench: Bench) -> list[Confirmed]:
    return [entry for entry in logged(bench, HOME) if isinstance(entry, Confirmed)]


def test_participants_confirm_many_decisions_at_once(tmp_path: Path) -> None:
    """Whoever was told by the coordinator says so, without a word in its own log; the home notes
    it in an entry for what is said while the one before is on its way."""

    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        decided = tuple(t for t, _ in await decide_many(bench, tablets, 5))
        assert tuple(tablets[HOME]._participant.unconfirmed()) == decided
        lengths = [len(bench.logs[tablet_id]) for tablet_id in OTHERS]
        await bench.settle(runtime)
        noted = confirmations(bench)
        assert len(noted) <= len(OTHERS)
        said = sorted(of_tablet for entry in noted for of_tablet in entry.by_tablet)
        assert said == [(tablet_id, decided) for tablet_id in OTHERS]
        assert [len(bench.logs[tablet_id]) for tablet_id in OTHERS] == lengths
        await bench.crash()
        await check_nothing_is_left(bench, await open_all(bench))
        await bench.close()

    run(main)


def test_only_what_a_participant_has_committed_is_confirmed(tmp_path: Path) -> None:
    """One that cannot log its commit confirms nothing, and keeps no other from its end."""

    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        [(transaction_id, commit_ts)] = await decide_many(bench, tablets, 1, told=False)
        first, silent = OTHERS
        bench.groups[silent].refuse = lambda data: isinstance(decode_entry(data)[0], Commit)
        assert await tablets[silent].commit_all([(transaction_id, commit_ts)]) == []
        await bench.settle(runtime)
        assert tablets[HOME]._participant.unconfirmed() == {transaction_id: (commit_ts, (silent,))}
        assert await bench.read(tablets[first]) == [(1, "a")]
        bench.groups[silent].refuse = lambda _: False
        await bench.settle(runtime)
        assert await bench.read(tablets[silent]) == [(1, "a")]
        await check_nothing_is_left(bench, tablets)
        await bench.close()

    run(main)


def test_a_participant_that_was_told_otherwise_confirms_nothing(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        decided = await decide_many(bench, tablets, 2)
        (first, first_ts), (second, second_ts) = decided
        found = await tablets[OTHERS[0]].commit_all([(first, first_ts + 1), (second, second_ts)])
        assert found == [second]
        await bench.close()

    run(main)


def test_a_round_is_bounded_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubts, "TOLD_AT_ONCE", 4)  # two transactions, two participants each

    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        decided = [t for t, _ in await decide_many(bench, tablets, 5)]
        tablets[HOME].tick()
        for left in (decided[2:], decided[4:], []):
            runtime.skipped_s += doubts.IN_DOUBT_S
            tablets[HOME].tick()
            while tablets[HOME]._doubts.settling:
                await asyncio.sleep(0.001)
            assert list(tablets[HOME]._participant.unconfirmed()) == left
        await bench.close()

    run(main)


def test_what_a_participant_has_forgotten_is_confirmed(tmp_path: Path) -> None:
    """Outcomes are kept for ten minutes, decisions until they are confirmed: a participant that
    hears of one again after that knows, from its log, that it has ended as its home decided."""

    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablets = await open_all(bench)
        [(transaction_id, _)] = await decide_many(bench, tablets, 1)
        bench.oracle.last += (participant.OUTCOME_RETENTION_MS + 1) << 18
        for tablet_id in TABLETS:
            await bench.write(tablets[tablet_id], insert((2, "later")))
        assert tablets[OTHERS[0]]._participant.outcome(transaction_id) is None
        assert tablets[HOME]._participant.outcome(transaction_id) is not None
        await bench.settle(runtime)
        for tablet in tablets.values():
            assert await bench.read(tablet) == [(2, "later")]
        await check_nothing_is_left(bench, tablets)
        await bench.close()

    run(main)


ACCOUNTS = 4
START = 100


async def read_all(bench: Bench, tablets: dict[TabletId, Tablet], at: Timestamp) -> dict[int, int]:
    found = await asyncio.gather(*(bench.read(t, at) for t in tablets.values()))
    return {key: int(value) for rows in found for key, value in rows}


class Bank:
    """Money moves between accounts on three tablets; every snapshot must sum to the same."""

    def __init__(self, bench: Bench, tablets: dict[TabletId, Tablet], seed: int) -> None:
        self.bench = bench
        self.tablets = tablets
        self.random = random.Random(seed)
        self.acknowledged = 0
        self.sums = 0

    async def open_accounts(self) -> None:
        for tablet_id, tablet in self.tablets.items():
            accounts = [(tablet_id * 10 + i, str(START)) for i in range(ACCOUNTS)]
            await self.bench.write(tablet, insert(*accounts))

    async def move_forever(self) -> None:
        while True:
            transaction_id = self.bench.begin()
            source, target = self.random.sample(TABLETS, 2)
            try:
                await self._move(transaction_id, source, target)
                self.acknowledged += 1
            except DqeError:
                for tablet_id in (source, target):
                    await self.tablets[tablet_id].abort(transaction_id)

    async def _move(self, transaction_id: TransactionId, source: int, target: int) -> None:
        bench, tablets = self.bench, self.tablets
        for tablet_id in sorted((source, target)):
            await tablets[tablet_id].lock(transaction_id)
        snapshot = bench.oracle.now()
        for tablet_id, amount in ((source, -1), (target, 1)):
            accounts = dict(await bench.read(tablets[tablet_id], snapshot))
            account = tablet_id * 10 + self.random.randrange(ACCOUNTS)
            changed = (account, str(int(accounts[account]) + amount))
            await tablets[tablet_id].stage(transaction_id, update(changed))
        floor = bench.oracle.now()
        await tablets[target].prepare(transaction_id, floor, source)
        if self.random.random() < 0.1:
            raise SerializationFailure("the client changed its mind")
        await tablets[source].mark_home(transaction_id, floor)
        commit_ts = bench.oracle.now()
        await tablets[source].decide(transaction_id, commit_ts, [target])
        if self.random.random() < 0.7:  # else the home must tell it
            await tablets[target].commit(transaction_id, commit_ts)

    async def sum_forever(self) -> None:
        while True:
            await self.check(self.bench.oracle.now())
            self.sums += 1

    async def check(self, at: Timestamp) -> None:
        accounts = await read_all(self.bench, self.tablets, at)
        assert sum(accounts.values()) == START * ACCOUNTS * len(TABLETS), accounts


@pytest.mark.parametrize("seed", range(4))
def test_money_is_never_made_or_lost(tmp_path: Path, seed: int) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        bank = Bank(bench, await open_all(bench), seed)
        await bank.open_accounts()
        for _ in range(3):
            work = [asyncio.ensure_future(bank.move_forever()) for _ in range(3)]
            work.append(asyncio.ensure_future(bank.sum_forever()))
            stop_at = bank.acknowledged + bank.random.randrange(5, 15)
            while bank.acknowledged < stop_at:
                await asyncio.sleep(0.002)
                runtime.skipped_s += 1.0
                for tablet in bank.tablets.values():
                    tablet.tick()
                failed = [w for w in work if w.done()]
                assert not failed, failed[0].exception()
                if bank.random.random() < 0.1:
                    await bank.tablets[bank.random.choice(TABLETS)].checkpoint()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            last = bench.oracle.last
            await bench.crash()
            bank.tablets = await open_all(bench)
            await bench.settle(runtime)
            await bank.check(bench.oracle.now())
            await bank.check(last)
        assert bank.sums > 3
        await bench.close()

    run(main)
