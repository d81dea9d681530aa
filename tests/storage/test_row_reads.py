"""Rows by key on a leader: what they see, what they wait for, and what they do not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from storage_doubles import Bench, delete, insert, run, update

from cluster.errors import ObjectNotInPrerequisiteState, SnapshotTooOld
from cluster.runtime import ProductionRuntime
from storage.fragments import FragmentChange, OwnChanges
from storage.locks import LockMode
from storage.tablet import Tablet

pytestmark = pytest.mark.usefixtures("row_method")


async def changing(bench: Bench, tablet: Tablet, change: FragmentChange) -> int:
    """A transaction that holds its rows' locks and has staged the change."""
    transaction_id = bench.begin()
    if change.delete_keys is not None:
        base = bench.oracle.now()
        await tablet.lock_rows(
            transaction_id, change.fragment_id, change.delete_keys, LockMode.FOR_UPDATE, base
        )
    await tablet.stage(transaction_id, change)
    await tablet.check(transaction_id)
    return transaction_id


def test_now_and_then(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        first = await bench.write(tablet, insert((1, "a"), (2, "b")))
        second = await bench.write(tablet, update((1, "A")), delete(2))
        asked = [(2,), (1,), (3,)]
        assert await tablet.read_rows(12, asked) == [None, (1, "A"), None]
        assert await tablet.read_rows(12, asked, first) == [(2, "b"), (1, "a"), None]
        assert await tablet.read_rows(12, asked, first - 1) == [None, None, None]
        assert await tablet.read_rows(12, asked, second) == [None, (1, "A"), None]
        await tablet.set_horizon(second)
        with pytest.raises(SnapshotTooOld, match="below the horizon"):
            await tablet.read_rows(12, asked, first)
        with pytest.raises(ObjectNotInPrerequisiteState):
            await tablet.read_rows(99, asked)
        await bench.close()

    run(main)


def test_a_read_waits_for_its_own_keys_alone(tmp_path: Path) -> None:
    """R2: it waits for every pending transaction on its rows, and for no other."""

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a"), (2, "b")))
        floor = bench.oracle.now()
        writer = await changing(bench, tablet, update((1, "A")))
        assert await tablet.read_rows(12, [(1,)]) == [(1, "a")]  # not about to commit yet
        await tablet.prepare(writer, floor, 99)
        assert await tablet.read_rows(12, [(2,), (3,)]) == [(2, "b"), None]
        assert await tablet.read_rows(12, [(1,)], floor) == [(1, "a")]  # it commits above
        now = asyncio.ensure_future(tablet.read_rows(12, [(2,), (1,)]))
        later = asyncio.ensure_future(tablet.read_rows(12, [(1,)], bench.oracle.now()))
        await asyncio.sleep(0.02)
        assert not now.done()
        assert not later.done()
        await tablet.commit(writer, floor + 1)
        assert await now == [(2, "b"), (1, "A")]
        assert await later == [(1, "A")]
        await bench.close()

    run(main)


def test_a_writer_without_row_locks_may_change_any_row(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a"), (2, "b")))
        writer = bench.begin()
        await tablet.lock(writer)
        await tablet.stage(writer, update((1, "A")))
        await tablet.prepare(writer, bench.oracle.now(), 99)
        reading = asyncio.ensure_future(tablet.read_rows(12, [(2,)]))
        await asyncio.sleep(0.02)
        assert not reading.done()
        await tablet.log_decided_abort(writer)
        assert await reading == [(2, "b")]
        await bench.close()

    run(main)


def test_own_changes_are_seen_by_their_transaction_alone(tmp_path: Path) -> None:
    """R5."""

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a"), (2, "b"), (3, "c")))
        at = bench.oracle.now()
        writer = bench.begin()
        await tablet.stage(writer, delete(1), 1)
        await tablet.stage(writer, update((2, "B")), 2)
        await tablet.stage(writer, insert((4, "d")), 2)
        asked = [(i,) for i in (1, 2, 3, 4)]
        before = [(1, "a"), (2, "b"), (3, "c"), None]
        behind = [None, (2, "B"), (3, "c"), (4, "d")]

        def own(command: int) -> OwnChanges:
            return OwnChanges(writer, command, (7,))

        assert await tablet.read_rows(12, asked, at) == before
        assert await tablet.read_rows(12, asked, at, own(3)) == behind
        assert await tablet.read_rows(12, asked, at, own(2)) == [None, *before[1:]]
        await tablet.stage(writer, FragmentChange(12, truncate=True), 3)
        await tablet.stage(writer, insert((3, "C")), 4)
        assert await tablet.read_rows(12, asked, at, own(5)) == [None, None, (3, "C"), None]
        await bench.close()

    run(main)


def test_the_lease_is_checked_behind_the_read(tmp_path: Path) -> None:
    """G1: what was read without a lease is read again behind a round to the followers."""

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a")))
        group = bench.groups[7]
        group.lease_lost_until = group.lease_asked + 2
        assert await tablet.read_rows(12, [(1,)]) == [(1, "a")]
        assert group.lease_asked == group.lease_lost_until + 1
        await bench.close()

    run(main)


def test_a_read_behind_a_large_load_brings_the_store_up(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        loader = bench.begin()
        for start in range(0, 9000, 1000):
            rows = [(i, "x" * 500) for i in range(start, start + 1000)]
            await tablet.stage(loader, insert(*rows))
        at = await tablet.write(loader, bench.oracle.now(), bench.oracle.draw)
        assert not tablet._rows.is_current([12], at)
        assert await tablet.read_rows(12, [(8999,)], at - 1) == [None]
        assert await tablet.read_rows(12, [(8999,)]) == [(8999, "x" * 500)]
        await bench.close()

    run(main)


def test_small_changes_are_there_when_they_are_acknowledged(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await tablet.read_rows(12, [(1,)])  # the definition is applied on a thread
        for i in range(5):
            await bench.write(tablet, insert((i, "a")))
            assert tablet._rows.is_current([12], bench.oracle.now())
        await bench.close()

    run(main)
