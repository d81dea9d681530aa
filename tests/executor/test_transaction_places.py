"""One transaction at one tablet whose leader changes: what is taken again, what is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pyarrow as pa
import pytest

from cluster.errors import (
    AnswerLost,
    DqeError,
    LeaderChanged,
    SerializationFailure,
    UniqueViolation,
    error_from_fields,
)
from cluster.simulation.loop import run_simulation
from cluster.simulation.runtime import SimulatedRuntime
from executor import transaction_places
from executor.transaction_places import (
    HOLDERS_FIRST_S,
    KeptCheck,
    KeptLock,
    KeptRows,
    TabletPlace,
)
from storage.fragments import FragmentChange
from storage.lock_driver import RowsLocked
from storage.locks import LockMode

KEYS = pa.record_batch({"c1": [1, 2]})


class Leader:
    """A tablet's leaders, one after the other; `move` is the end of one and the next's start."""

    def __init__(self) -> None:
        self.knows = True
        self.calls: list[str] = []
        self.fails: dict[str, DqeError] = {}
        self.changed: tuple[int, ...] = ()
        self.gate: asyncio.Event | None = None

    def move(self) -> None:
        self.knows = False
        self.calls.clear()

    async def _call(self, name: str, *, begins: bool = False) -> None:
        await asyncio.sleep(0)
        if not (self.knows or begins):
            raise LeaderChanged("a tablet changed its leader")
        if error := self.fails.pop(name, None):
            raise error
        self.knows = True
        self.calls.append(name)

    async def begin_again(self, *_: object) -> None:
        await self._call("begin", begins=True)

    async def has_come_along(self, *_: object) -> None:
        await self._call("whole")

    async def lock(self, tablet: int, id: int, mode: str, *more: object) -> int:
        await self._call(f"lock {mode} {more[3:]}")
        return 70

    async def lock_rows(self, *asked: Any) -> RowsLocked:
        if self.gate is not None:
            await self.gate.wait()
        await self._call(f"rows as of {asked[5]}")
        return RowsLocked(self.changed, as_of=80)

    async def stage(self, tablet: int, id: int, change: FragmentChange, *more: object) -> None:
        await self._call(f"stage {change.fragment_id}")

    async def take_back(self, tablet: int, id: int, command: int, *_: object) -> None:
        await self._call(f"take back {command}" if command < 100 else "word")

    async def check(self, *_: object, deferred: object = ()) -> None:
        await self._call("check")


def play(scenario: Callable[[TabletPlace, Leader, SimulatedRuntime], Awaitable[None]]) -> None:
    async def main() -> None:
        runtime = SimulatedRuntime(1, "n1")
        leader = Leader()
        await scenario(TabletPlace(runtime, cast("Any", leader), 5, 7), leader, runtime)

    run_simulation(main())


def change(fragment_id: int, rows: int = 1) -> FragmentChange:
    return FragmentChange(fragment_id, insert_rows=pa.record_batch({"c1": range(rows)}))


async def take(place: TabletPlace, leader: Leader) -> None:
    """A lock of the tablet, of rows, a change and a check, each of a command of its own."""
    await place.ask(
        lambda: leader.lock(5, 7, "row exclusive"), lambda t: [KeptLock(1, "row exclusive", t)]
    )
    await place.ask(
        lambda: leader.lock_rows(5, 7, 3, KEYS, "for update", 60),
        lambda found: [KeptRows(2, 3, KEYS, LockMode.FOR_UPDATE, found.as_of)],
    )
    await place.stage(3, change(3))
    await place.ask(lambda: leader.check(), lambda _: [KeptCheck(4, 0)])


def test_everything_comes_along_and_the_call_is_repeated() -> None:
    async def scenario(place: TabletPlace, leader: Leader, _: SimulatedRuntime) -> None:
        await take(place, leader)
        leader.move()
        await place.stage(5, change(4))
        assert leader.calls == [
            "begin",
            "stage 3",
            "lock row exclusive (None,)",
            "rows as of 80",
            "check",
            "whole",
            "stage 4",
        ]
        leader.move()
        await place.speak(1.0)
        assert leader.calls[1:3] == ["stage 3", "stage 4"]
        assert leader.calls[-1] == "word"

    play(scenario)


def test_a_lock_against_writers_asks_for_commits_since() -> None:
    async def scenario(place: TabletPlace, leader: Leader, _: SimulatedRuntime) -> None:
        await place.ask(
            lambda: leader.lock(5, 7, "exclusive"), lambda t: [KeptLock(1, "exclusive", t)]
        )
        leader.move()
        await place.speak(1.0)
        assert "lock exclusive (70,)" in leader.calls

    play(scenario)


def test_what_was_taken_back_does_not_come_along() -> None:
    async def scenario(place: TabletPlace, leader: Leader, _: SimulatedRuntime) -> None:
        await take(place, leader)
        await place.take_back(3)
        leader.move()
        await place.speak(1.0)
        assert leader.calls == [
            "begin",
            "lock row exclusive (None,)",
            "rows as of 80",
            "whole",
            "word",
        ]

    play(scenario)


@pytest.mark.parametrize("taken", [True, False], ids=["a key", "a row"])
def test_what_others_have_changed_ends_it_for_good(taken: bool) -> None:
    async def scenario(place: TabletPlace, leader: Leader, _: SimulatedRuntime) -> None:
        await take(place, leader)
        leader.move()
        if taken:
            leader.fails["check"] = UniqueViolation("duplicate key")
        else:
            leader.changed = (1,)
        for _turn in range(2):
            with pytest.raises(SerializationFailure):
                await place.stage(5, change(4))
            leader.changed = ()
        assert "stage 4" not in leader.calls

    play(scenario)


def test_one_that_was_stopped_half_way_is_begun_again_before_anything_else() -> None:
    async def scenario(place: TabletPlace, leader: Leader, _: SimulatedRuntime) -> None:
        await take(place, leader)
        leader.move()
        leader.gate = asyncio.Event()
        statement = asyncio.ensure_future(place.stage(5, change(4)))
        for _turn in range(20):
            await asyncio.sleep(0)
        statement.cancel()
        await asyncio.gather(statement, return_exceptions=True)
        assert leader.knows, "the leader has part of it by now"
        leader.gate = None
        leader.calls.clear()
        await place.take_back(5)
        assert leader.calls[0] == "begin"
        assert leader.calls[-2:] == ["whole", "take back 5"]

    play(scenario)


def test_calls_at_once_begin_it_again_once() -> None:
    async def scenario(place: TabletPlace, leader: Leader, _: SimulatedRuntime) -> None:
        await take(place, leader)
        leader.move()
        await asyncio.gather(*(place.speak(1.0) for _ in range(5)))
        assert leader.calls.count("begin") == 1
        assert leader.calls.count("word") == 5

    play(scenario)


def test_a_lost_answer_is_the_callers_unless_the_leader_has_moved() -> None:
    async def scenario(place: TabletPlace, leader: Leader, _: SimulatedRuntime) -> None:
        await take(place, leader)
        leader.fails["stage 4"] = AnswerLost("no answer")
        with pytest.raises(AnswerLost):
            await place.stage(5, change(4))

        async def lost() -> None:
            if "begin" not in leader.calls:
                leader.move()
                raise AnswerLost("no answer")
            leader.calls.append("asked again")

        await place.ask(lost)
        assert (leader.calls[0], leader.calls[-1]) == ("begin", "asked again")

    play(scenario)


@pytest.mark.parametrize(
    ("took_s", "told", "waits_s"),
    [(0.01, True, HOLDERS_FIRST_S), (0.5, False, HOLDERS_FIRST_S), (0.01, False, 0.0)],
    ids=["the leader says so", "it took long", "it did not wait"],
)
def test_who_waited_for_a_lock_lets_its_holder_come_first(
    took_s: float, told: bool, waits_s: float
) -> None:
    async def scenario(place: TabletPlace, leader: Leader, runtime: SimulatedRuntime) -> None:
        async def refused() -> None:
            await runtime.sleep(took_s)
            if "begin" not in leader.calls:
                leader.move()
                ended = LeaderChanged("a tablet changed its leader", waited=told)
                raise error_from_fields(ended.to_fields())

        began_s = runtime.monotonic()
        await place.ask(refused, waits=True)
        assert runtime.monotonic() - began_s == pytest.approx(2 * took_s + waits_s)

    play(scenario)


def test_more_than_is_kept_does_not_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_places, "CHUNK_BYTES", 100)

    async def scenario(place: TabletPlace, leader: Leader, _: SimulatedRuntime) -> None:
        await place.stage(1, change(3, rows=50))
        leader.move()
        with pytest.raises(SerializationFailure):
            await place.stage(2, change(4))
        assert leader.calls == []

    play(scenario)
