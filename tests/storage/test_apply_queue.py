"""What waits for a store: who needs it, how long it may wait, how much of it there may be; and
the transaction of a row store that stays open."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from storage_doubles import Bench, Defaults, SkippingRuntime, insert, run, update

from cluster.errors import IoError
from storage.applier import LONGEST_AGE_S, PATIENT_AGE_S
from storage.apply_queue import ApplyQueue, QueueBudget, Queued
from storage.fragments import AccessMethod
from storage.operations import HorizonOperation
from storage.tablet import Tablet


@pytest.fixture(autouse=True)
def hybrid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Defaults, "method", AccessMethod.HYBRID)


def queued(index: int, timestamp: int = 0, *fragments: int, memory_bytes: int = 0) -> Queued:
    return Queued(
        index,
        lambda: HorizonOperation(0),
        memory_bytes,
        timestamp,
        frozenset(fragments),
        memory_bytes,
    )


def needed(entries: list[Queued], fragments: list[int], timestamp: int) -> bool:
    """The same by a look at every entry."""
    return any(
        e.fragments is None or (e.timestamp <= timestamp and not e.fragments.isdisjoint(fragments))
        for e in entries
    )


def test_who_needs_the_queue_is_known_without_looking_through_it() -> None:
    chance = random.Random(3)
    queue, entries = ApplyQueue(), list[Queued]()
    for index in range(1, 600):
        entry = queued(
            index, chance.randrange(1, 50), *chance.sample(range(6), chance.randrange(3))
        )
        if chance.random() < 0.02:
            entry = Queued(index, entry.make, 1)  # of every fragment
        queue.push(entry)
        entries.append(entry)
        if chance.random() < 0.2:
            count = chance.randrange(len(entries) + 1)
            queue.take(count)
            taken, entries = entries[:count], entries[count:]
            if chance.random() < 0.3:
                queue.put_back(taken)
                entries = [*taken, *entries]
        wanted, timestamp = chance.sample(range(6), 2), chance.randrange(0, 52)
        assert queue.needed_by(wanted, timestamp) == needed(entries, wanted, timestamp)
        assert queue.entries() == entries
        assert queue.size_bytes == sum(e.size_bytes for e in entries)


def test_what_all_queues_hold_is_bounded_and_the_longest_goes() -> None:
    budget = QueueBudget(limit_bytes=1000)
    queues = [ApplyQueue() for _ in range(3)]
    applied: list[int] = []

    def apply(place: int) -> Callable[[], None]:
        def now() -> None:
            applied.append(place)
            queues[place].clear()

        return now

    for place, queue in enumerate(queues):
        budget.join(queue, apply(place))
    for index in range(1, 200):
        place = (0, 1, 1, 2)[index % 4]
        queues[place].push(queued(index, memory_bytes=30))
        budget.pushed(30)
        assert sum(queue.memory_bytes for queue in queues) <= 1000
    assert applied[0] == 1
    assert 0 in applied
    budget.leave(queues[1])
    del applied[:]
    queues[1].push(queued(1000, memory_bytes=5000))
    queues[2].push(queued(1000, memory_bytes=2000))
    budget.pushed(2000)
    assert applied == [2]


class StillRuntime(SkippingRuntime):
    """One whose timers go off when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[tuple[float, Callable[..., Any]]] = []

    def call_later(self, delay_s: float, callback: Callable[..., Any], *arguments: Any) -> Any:
        handle = super().call_later(1e6, callback, *arguments)
        self.timers.append((delay_s, handle._run))  # type: ignore[attr-defined]
        return handle


def test_a_queue_that_nobody_reads_waits_longer_each_time(tmp_path: Path) -> None:
    async def main(_: SkippingRuntime) -> None:
        runtime = StillRuntime()
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.read(tablet)
        applier = tablet._applier
        waited = []
        for number in range(7):
            await bench.write(tablet, insert((number, "a")))
            waited.append(applier._timer_due_s - _now())
            await applier._apply_in_background()
            assert not applier.has_queued
        steps = [PATIENT_AGE_S * 2**n for n in range(7)]
        assert waited == pytest.approx([min(step, LONGEST_AGE_S) for step in steps], abs=3)
        await bench.write(tablet, insert((10, "b")))
        assert applier.has_queued
        assert len(await bench.read(tablet)) == 8  # a read applies what is left (rule L5)
        assert not applier.has_queued
        await bench.write(tablet, insert((11, "c")))
        assert applier._timer_due_s - _now() == pytest.approx(PATIENT_AGE_S, abs=3)
        await bench.close()
        await runtime.close()

    run(main)


def _now() -> float:
    import asyncio

    return asyncio.get_running_loop().time()


def test_a_checkpoint_takes_in_what_waited_long(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        for number in range(20):
            await bench.write(tablet, insert((number, "a")))
        assert tablet._applier.has_queued
        await tablet.checkpoint()
        assert not tablet._applier.has_queued
        assert tablet.durable_index == tablet.applied_index
        await bench.crash()
        bench.logs[7] = bench.logs[7][: tablet.durable_index]  # compacted behind nothing
        tablet = await bench.open()
        assert len(await bench.read(tablet)) == 20
        await bench.close()

    run(main)


# The transaction that stays open.


async def _opened(runtime: SkippingRuntime, path: Path) -> tuple[Bench, Tablet]:
    bench = Bench(runtime, path)
    tablet = await bench.open()
    await bench.write(tablet, insert((1, "a"), (2, "b")))
    # The fragment's creation is slow, so a thread does it: nothing of it is left behind this.
    await tablet._rows.applier.flush()
    return bench, tablet


def _held(tablet: Tablet) -> list[tuple[Any, ...]]:
    """What another connection sees now."""
    store = tablet._rows.store
    assert store is not None
    scan = store.snapshot()
    try:
        return [tuple(row.values()) for batch in scan.rows(12) for row in batch.to_pylist()]
    finally:
        scan.close()


def test_small_changes_share_a_transaction_until_somebody_else_reads(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench, tablet = await _opened(runtime, tmp_path)
        for text in ("c", "d"):
            written = await bench.write(tablet, update((1, text)))
        store = tablet._rows.store
        assert store is not None
        assert store.get(12, (1,)) == (1, "d", written)  # on the loop, at once
        assert [row[1] for row in _held(tablet)] == ["a", "b"]
        scan = await tablet.row_scan(written)
        assert scan is not None
        assert [r["c2"] for batch in scan.rows(12) for r in batch.to_pylist()] == ["d", "b"]
        scan.close()
        await bench.close()

    run(main)


@pytest.mark.parametrize("how", ["checkpoint", "snapshot", "scan", "sizes"])
def test_a_thread_never_meets_an_open_transaction(tmp_path: Path, how: str) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench, tablet = await _opened(runtime, tmp_path)
        await bench.write(tablet, update((1, "c")))
        assert [row[1] for row in _held(tablet)] == ["a", "b"]
        if how == "checkpoint":
            await tablet.checkpoint()
        elif how == "snapshot":
            (await tablet.open_snapshot())[1].close()
        elif how == "scan":
            await tablet.scan()
        else:
            await tablet.sizes()
        assert [row[1] for row in _held(tablet)] == ["c", "b"]
        await bench.close()

    run(main)


class _Full:
    """A connection to a disk without room for a COMMIT."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.refuses = True

    def execute(self, sql: str, *arguments: Any) -> Any:
        if self.refuses and sql == "COMMIT":
            raise apsw.FullError("made by the test")
        return self._connection.execute(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_what_could_not_be_settled_is_taken_in_again(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench, tablet = await _opened(runtime, tmp_path)
        store = tablet._rows.store
        assert store is not None
        full = store._connection = _Full(store._connection)
        first = await bench.write(tablet, update((1, "c")))
        await bench.write(tablet, insert((3, "d")))
        assert store.get(12, (1,)) == (1, "c", first)
        with pytest.raises(IoError):
            tablet._rows.applier.settle()
        with pytest.raises(IoError):  # never again "a", which was over for a reader
            store.get(12, (1,))
        with pytest.raises(IoError):
            await tablet.row_scan(bench.oracle.now())
        full.refuses = False
        scan = await tablet.row_scan(bench.oracle.now())
        assert scan is not None
        assert [r["c2"] for batch in scan.rows(12) for r in batch.to_pylist()] == ["c", "b", "d"]
        scan.close()
        assert store.get(12, (1,)) == (1, "c", first)
        await bench.close()

    run(main)
