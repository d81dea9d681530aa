"""The end of a transaction: the machine's instructions, and its driver over pretended tablets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from cluster.errors import (
    CannotConnectNow,
    DqeError,
    LeaderChanged,
    SerializationFailure,
    StatementCompletionUnknown,
    UniqueViolation,
)
from cluster.runtime import ProductionRuntime, run_production
from executor.transaction import (
    Abort,
    Answer,
    Commit,
    Decided,
    Drawn,
    DrawTimestamp,
    Failed,
    Marked,
    Precommitted,
    SendAbort,
    SendCommit,
    SendDecide,
    SendMarkHome,
    SendPrecommit,
    SendPrepare,
    SendWrite,
    State,
    TransactionMachine,
    Validated,
    ValidateReads,
)
from executor.transaction_driver import Transaction
from executor.writes_ids import UniqueIds
from storage.fragments import FragmentChange
from storage.lock_driver import RowsLocked
from storage.open_checks import Deferred

LOST = StatementCompletionUnknown("the answer was lost")
MOVED = LeaderChanged("a tablet changed its leader")
REFUSED = SerializationFailure("could not serialize access")


# ---------------------------------------------------------------------------------------
# The machine


def test_one_tablet_commits_in_one_write() -> None:
    machine = TransactionMachine()
    assert machine.step(Commit((5,), 90)) == [SendWrite(5, 90)]
    assert machine.step(Decided(100)) == [Answer(100)]
    assert machine.state is State.COMMITTED


def test_the_home_draws_and_decides_when_every_other_participant_has_prepared() -> None:
    machine = TransactionMachine()
    prepares = [SendPrepare(2, 90, 1), SendPrepare(3, 90, 1)]
    assert machine.step(Commit((1, 2, 3), 90)) == prepares
    assert machine.step(Marked(3)) == []
    assert machine.step(Marked(3)) == []
    assert machine.step(Marked(2)) == [SendWrite(1, 90, (2, 3))]
    assert machine.step(Decided(100)) == [Answer(100), SendCommit(2, 100), SendCommit(3, 100)]


@pytest.mark.parametrize(
    "commit",
    [
        Commit((1, 2, 3), 90, draws_apart=True),
        Commit((1, 2, 3), 90, validates=True),
        Commit((1, 2, 3), 90, three_phase=True),
    ],
)
def test_no_timestamp_is_drawn_apart_before_every_participant_has_marked(commit: Commit) -> None:
    machine = TransactionMachine()
    prepares = [SendPrepare(2, 90, 1), SendPrepare(3, 90, 1)]
    assert machine.step(commit) == [*prepares, SendMarkHome(1, 90)]
    for tablet in (1, 3, 3):
        assert machine.step(Marked(tablet)) == []
    assert machine.step(Marked(2)) == [DrawTimestamp()]


def test_where_nothing_comes_between_the_home_decides_what_was_drawn_apart() -> None:
    machine = TransactionMachine()
    machine.step(Commit((1, 2, 3), 90, draws_apart=True))
    assert machine.step(Marked(1)) == []
    assert machine.step(Marked(3)) == []
    assert machine.step(Marked(3)) == []
    assert machine.step(Marked(2)) == [DrawTimestamp()]
    assert machine.step(Drawn(100)) == [SendDecide(1, 100, (2, 3))]
    assert machine.step(Decided(100)) == [Answer(100), SendCommit(2, 100), SendCommit(3, 100)]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("failed", [Failed(2, REFUSED), Failed(1, LOST), Failed(2, LOST)])
def test_what_fails_before_the_decision_aborts_everywhere(failed: Failed, apart: bool) -> None:
    machine = TransactionMachine()
    machine.step(Commit((1, 2), 90, draws_apart=apart))
    assert machine.step(failed) == [SendAbort(1), SendAbort(2), Answer(None, failed.error)]
    assert machine.step(Marked(1)) == []
    assert machine.step(Marked(2)) == []


def test_reads_are_validated_between_drawing_and_deciding() -> None:
    machine = TransactionMachine()
    assert machine.step(Commit((1,), 90, validates=True)) == [SendMarkHome(1, 90)]
    assert machine.step(Marked(1)) == [DrawTimestamp()]
    assert machine.step(Drawn(100)) == [ValidateReads(100)]
    assert machine.step(Validated()) == [SendDecide(1, 100, ())]
    assert machine.step(Decided(100)) == [Answer(100)]


def test_reads_that_do_not_stand_abort() -> None:
    machine = TransactionMachine()
    for event in (Commit((1, 2), 90, validates=True), Marked(1), Marked(2), Drawn(100)):
        machine.step(event)
    assert machine.step(Failed(None, REFUSED)) == [
        SendAbort(1),
        SendAbort(2),
        Answer(None, REFUSED),
    ]
    assert machine.step(Validated()) == []


def test_in_three_phases_all_know_of_the_timestamp_before_it_is_decided() -> None:
    machine = TransactionMachine()
    machine.step(Commit((1, 2, 3), 90, three_phase=True))
    for tablet in (1, 2, 3):
        last = machine.step(Marked(tablet))
    assert last == [DrawTimestamp()]
    assert machine.step(Drawn(100)) == [SendPrecommit(2, 100), SendPrecommit(3, 100)]
    assert machine.step(Precommitted(3)) == []
    assert machine.step(Precommitted(3)) == []
    assert machine.step(Precommitted(2)) == [SendDecide(1, 100, (2, 3))]
    assert machine.step(Decided(100)) == [Answer(100), SendCommit(2, 100), SendCommit(3, 100)]


def test_a_participant_that_does_not_precommit_aborts_all() -> None:
    machine = TransactionMachine()
    for event in (Commit((1, 2), 90, three_phase=True), Marked(1), Marked(2), Drawn(100)):
        machine.step(event)
    assert machine.step(Failed(2, LOST)) == [SendAbort(1), SendAbort(2), Answer(None, LOST)]
    assert machine.step(Precommitted(2)) == []


def test_with_one_tablet_nobody_needs_to_precommit() -> None:
    machine = TransactionMachine()
    assert machine.step(Commit((5,), 90, three_phase=True)) == [SendWrite(5, 90)]
    machine = TransactionMachine()
    for event in (Commit((1,), 90, validates=True, three_phase=True), Marked(1), Drawn(100)):
        machine.step(event)
    assert machine.step(Validated()) == [SendDecide(1, 100, ())]


def test_a_home_that_lost_its_mark_is_marked_again_before_a_timestamp_is_drawn() -> None:
    machine = TransactionMachine()
    for event in (Commit((1, 2), 90, draws_apart=True), Marked(1), Marked(2), Drawn(100)):
        machine.step(event)
    for drawn in (101, 102, 103):
        assert machine.step(Failed(1, MOVED)) == [SendMarkHome(1, 90)]
        assert machine.step(Marked(1)) == [DrawTimestamp()]
        assert machine.step(Drawn(drawn)) == [SendDecide(1, drawn, (2,))]
    assert machine.step(Failed(1, MOVED))[-1] == Answer(None, MOVED)


def test_an_oracle_that_does_not_answer_aborts() -> None:
    machine = TransactionMachine()
    for event in (Commit((1, 2), 90, draws_apart=True), Marked(1), Marked(2)):
        machine.step(event)
    error = CannotConnectNow("no timestamp could be had")
    assert machine.step(Failed(None, error))[-1] == Answer(None, error)


def decided(tablets: tuple[int, ...]) -> TransactionMachine:
    machine = TransactionMachine()
    machine.step(Commit(tablets, 90))
    for tablet in tablets[1:]:
        machine.step(Marked(tablet))
    return machine


@pytest.mark.parametrize("tablets", [(1,), (1, 2)])
def test_a_lost_decision_is_unknown_and_aborts_nothing(tablets: tuple[int, ...]) -> None:
    machine = decided(tablets)
    assert machine.step(Failed(1, LOST)) == [Answer(None, LOST)]
    assert machine.state is State.UNKNOWN
    machine = decided(tablets)
    (answer,) = machine.step(Abort(tablets, REFUSED))
    assert isinstance(answer, Answer)
    assert isinstance(answer.error, StatementCompletionUnknown)


@pytest.mark.parametrize("tablets", [(1,), (1, 2)])
def test_a_decision_that_the_home_refuses_aborts(tablets: tuple[int, ...]) -> None:
    machine = decided(tablets)
    aborts = [SendAbort(tablet) for tablet in tablets]
    assert machine.step(Failed(1, REFUSED)) == [*aborts, Answer(None, REFUSED)]


def test_a_participants_late_trouble_does_not_touch_the_decision() -> None:
    machine = decided((1, 2))
    assert machine.step(Failed(2, REFUSED)) == []
    assert machine.step(Decided(100))[0] == Answer(100)


def test_after_the_end_nothing_changes() -> None:
    machine = decided((1,))
    machine.step(Decided(100))
    assert machine.step(Abort((1,), REFUSED)) == []
    assert machine.step(Failed(1, REFUSED)) == []
    assert machine.state is State.COMMITTED


# ---------------------------------------------------------------------------------------
# The driver


@dataclass
class PretendedTablets:
    """Records what it is asked; `fails` maps a method and tablet to an error."""

    calls: list[tuple[object, ...]] = field(default_factory=list)
    fails: dict[tuple[str, int], DqeError] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    asynchronous: tuple[int, ...] = ()

    async def _call(self, name: str, tablet: int, *details: object) -> None:
        await asyncio.sleep(0)
        self.calls.append((name, tablet, *details))
        if (name, tablet) in self.fails:
            raise self.fails[name, tablet]

    async def lock(
        self,
        tablet_id: int,
        transaction_id: int,
        mode: str,
        deadline_s: float,
        command: int = 0,
        wait: bool = True,
        base: int | None = None,
    ) -> int:
        await self._call("lock", tablet_id, mode)
        return 80

    async def lock_rows(self, tablet_id: int, *_: object) -> RowsLocked:
        await self._call("lock_rows", tablet_id)
        return RowsLocked()

    async def stage(
        self,
        tablet_id: int,
        transaction_id: int,
        change: FragmentChange,
        deadline_s: float,
        command: int = 0,
        number: int = 0,
    ) -> None:
        if self.gate is not None:
            await self.gate.wait()
        assert change.insert_rows is not None
        await self._call("stage", tablet_id, change.insert_rows.column(0).to_pylist()[0])

    async def take_back(
        self,
        tablet_id: int,
        transaction_id: int,
        command: int,
        deadline_s: float,
        number: int = 0,
    ) -> None:
        await self._call("take_back", tablet_id, command)

    async def begin_again(
        self, tablet_id: int, transaction_id: int, number: int, deadline_s: float
    ) -> None:
        await self._call("begin_again", tablet_id, number)

    async def has_come_along(self, tablet_id: int, transaction_id: int, deadline_s: float) -> None:
        await self._call("has_come_along", tablet_id)

    def is_async(self, tablet_id: int) -> bool:
        return tablet_id in self.asynchronous

    def is_led_on(self, tablet_id: int, transaction_id: int) -> bool:
        return True

    async def check(
        self,
        tablet_id: int,
        transaction_id: int,
        base: int,
        command: int,
        deadline_s: float,
        locks: bool = True,
        anew: bool = False,
        deferred: Sequence[Deferred] = (),
    ) -> Sequence[Deferred]:
        await self._call("check", tablet_id, base)
        return ()

    async def write(
        self,
        tablet_id: int,
        transaction_id: int,
        floor: int,
        deadline_s: float,
        participants: Sequence[int] = (),
    ) -> int:
        await self._call("write", tablet_id, floor, *participants)
        return 100

    async def prepare(
        self,
        tablet_id: int,
        transaction_id: int,
        floor: int,
        home_tablet: int,
        deadline_s: float,
        validates: bool = False,
    ) -> None:
        await self._call("prepare", tablet_id, home_tablet)

    async def precommit(
        self, tablet_id: int, transaction_id: int, commit_ts: int, deadline_s: float
    ) -> None:
        await self._call("precommit", tablet_id, commit_ts)

    async def mark_home(
        self,
        tablet_id: int,
        transaction_id: int,
        floor: int,
        deadline_s: float,
        validates: bool = False,
    ) -> None:
        await self._call("mark_home", tablet_id)

    async def validate(
        self,
        tablet_id: int,
        transaction_id: int,
        fragment_ids: Sequence[int],
        base: int,
        commit_ts: int,
        deadline_s: float,
        keys: object = (),
    ) -> None:
        await self._call("validate", tablet_id, base, commit_ts)

    async def decide(
        self,
        tablet_id: int,
        transaction_id: int,
        commit_ts: int,
        participants: Sequence[int],
        deadline_s: float,
    ) -> int:
        await self._call("decide", tablet_id, commit_ts, tuple(participants))
        return commit_ts

    def announce(self, transaction_id: int, commit_ts: int, tablets: Sequence[int]) -> None:
        self.calls += [("commit", tablet_id, commit_ts) for tablet_id in tablets]

    async def abort(self, tablet_id: int, transaction_id: int, deadline_s: float) -> None:
        await self._call("abort", tablet_id)

    def names(self) -> list[object]:
        return [call[:2] for call in self.calls if call[0] != "stage"]


class PretendedOracle:
    async def commit_timestamp(self, deadline_s: float = 1.0) -> int:
        return 100


def change(value: int) -> FragmentChange:
    return FragmentChange(1, insert_rows=pa.record_batch([pa.array([value])], names=["c1"]))


def run(
    test: Callable[[Transaction, PretendedTablets], Awaitable[None]],
    tablets: PretendedTablets | None = None,
    in_flight_bytes: int = 1 << 20,
) -> PretendedTablets:
    tablets = tablets or PretendedTablets()

    async def main(runtime: ProductionRuntime) -> None:
        transaction = Transaction(runtime, tablets, PretendedOracle(), 7, in_flight_bytes)
        async with asyncio.timeout(10):
            await test(transaction, tablets)
            for _ in range(20):
                await asyncio.sleep(0)
        assert not runtime.failures

    run_production(main)
    return tablets


def test_several_tablets_are_locked_in_order_then_asked_at_once() -> None:
    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        for tablet in (3, 1, 2):
            await transaction.stage(tablet, change(tablet))
        assert await transaction.commit(90, checks=False) == 100

    calls = [call for call in run(test).calls if call[0] != "stage"]
    assert calls[:3] == [("lock", tablet, "row exclusive") for tablet in (1, 2, 3)]
    # The first that was written is the home, so that a token can name it before the end.
    assert calls[3:6] == [("prepare", 1, 3), ("prepare", 2, 3), ("write", 3, 90, 1, 2)]
    assert sorted(calls[6:], key=str) == [("commit", 1, 100), ("commit", 2, 100)]


@pytest.mark.parametrize(
    ("asynchronous", "home"), [((), 1), ((1,), 2), ((1, 2), 3), ((1, 2, 3), 1), ((3,), 1)]
)
def test_the_home_is_not_asynchronous_while_another_takes_part(
    asynchronous: tuple[int, ...], home: int
) -> None:
    """Rule C10: a decision that may be lost with a node is made only where all else may be."""

    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        for tablet in (1, 2, 3):
            await transaction.stage(tablet, change(tablet))
        assert transaction.home == home
        await transaction.commit(90, checks=False)

    calls = run(test, PretendedTablets(asynchronous=asynchronous)).calls
    assert [call[1] for call in calls if call[0] == "write"] == [home]


def test_keys_are_checked_before_the_end_begins() -> None:
    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        for tablet in (2, 1):
            await transaction.stage(tablet, change(tablet))
        assert await transaction.commit(90, checks=True) == 100

    expected = [("check", 1), ("check", 2), ("prepare", 1), ("write", 2)]
    assert run(test).names()[:4] == expected


def test_a_lock_that_was_taken_back_is_asked_for_again() -> None:
    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        await transaction.lock([1], command=1)
        await transaction.lock([1], command=2)
        await transaction.take_back(1)
        await transaction.lock([1], command=3)

    assert run(test).names() == [("lock", 1), ("take_back", 1), ("lock", 1)]


def test_locks_that_were_not_needed_are_given_back() -> None:
    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        await transaction.lock([2, 1])
        await transaction.stage(2, change(1))
        await transaction.commit(90, checks=False)

    expected = [("lock", 1), ("lock", 2), ("take_back", 1), ("write", 2), ("abort", 1)]
    assert run(test).names() == expected


def test_nothing_written_commits_without_a_word() -> None:
    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        await transaction.lock([1])
        assert await transaction.commit(90, checks=True) == 90

    assert run(test).names() == [("lock", 1), ("abort", 1)]


def test_changes_of_a_tablet_arrive_in_their_order() -> None:
    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        for value in range(50):
            await transaction.stage(value % 2, change(value))
        await transaction.drain()

    calls = run(test, in_flight_bytes=100).calls
    for tablet in (0, 1):
        assert [c[2] for c in calls if c[:2] == ("stage", tablet)] == list(range(tablet, 50, 2))


def test_who_is_ahead_waits() -> None:
    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        tablets.gate = asyncio.Event()
        await transaction.stage(1, change(1))
        ahead = asyncio.ensure_future(transaction.stage(1, change(2)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not ahead.done()
        tablets.gate.set()
        await ahead

    run(test, in_flight_bytes=1)


def test_a_change_that_fails_aborts_all_of_it() -> None:
    error = UniqueViolation("duplicate key")
    tablets = PretendedTablets(fails={("prepare", 2): error})

    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        await transaction.stage(1, change(1))
        await transaction.stage(2, change(2))
        with pytest.raises(UniqueViolation):
            await transaction.commit(90, checks=False)

    names = run(test, tablets).names()
    assert ("write", 1) not in names
    assert {("abort", 1), ("abort", 2)} <= set(names)


def test_a_statement_that_is_cancelled_does_not_leave_a_commit_half_done() -> None:
    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        await transaction.stage(1, change(1))
        await transaction.stage(2, change(2))
        await transaction.drain()
        committing = asyncio.ensure_future(transaction.commit(90, checks=False))
        await asyncio.sleep(0)
        while ("prepare", 2) not in tablets.names():
            await asyncio.sleep(0)
        committing.cancel()
        assert await committing == 100

    assert ("write", 1) in run(test).names()


def test_going_back_forgets_what_waits_and_what_failed() -> None:
    tablets = PretendedTablets(fails={("stage", 2): UniqueViolation("no such value")})

    async def test(transaction: Transaction, tablets: PretendedTablets) -> None:
        await transaction.stage(1, change(1), 1)
        await transaction.drain()
        for value in range(5):
            await transaction.stage(2, change(value), 2)
        with pytest.raises(UniqueViolation):
            await transaction.drain()
        await transaction.take_back(2)
        tablets.fails.clear()
        await transaction.stage(1, change(9), 3)
        await transaction.commit(90, checks=False)

    calls = run(test, tablets).calls
    assert [c for c in calls if c[0] == "take_back"] == [("take_back", t, 2) for t in (1, 2)]
    assert [c[1:] for c in calls if c[0] == "stage"] == [(1, 1), (2, 0), (1, 9)]


def test_ids_ascend_and_never_meet() -> None:
    async def main(runtime: ProductionRuntime) -> None:
        first, second = UniqueIds(runtime, 1), UniqueIds(runtime, 2)
        taken = [*first.take(10_000), first.next(), *first.take(3)]
        assert taken == sorted(taken)
        assert len({*taken, *second.take(10_000)}) == 20_004

    run_production(main)
