"""Which rows single-row statements wait for, and which stay locked: those that are meant."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from storage_doubles import Bench, SkippingRuntime, insert, run
from test_tablet_rows import APPEND, DELETE, UPDATE, new, of

from cluster.errors import LockNotAvailable, SerializationFailure
from storage.fragments import Timestamp
from storage.locks import LockMode
from storage.row_programs import RowProgram
from storage.tablet import Tablet

pytestmark = pytest.mark.usefixtures("row_method")

IF_B = RowProgram(sets=((1, APPEND),), where=("compare", "=", ("column", 1), ("value", "b")))
LOCK = RowProgram(only_locks=True)
UPSERT = RowProgram(proposes=True, sets=((1, APPEND),))
KEEP = RowProgram(proposes=True)


def locked(tablet: Tablet, transaction_id: int) -> list[tuple[object, LockMode]]:
    held = tablet._participant.locks.rows_of(transaction_id)
    return [(resource[1], mode) for resource, mode in held if resource]


def test_rows_that_are_not_meant_are_not_kept_locked(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        base = await bench.write(tablet, insert((1, "a"), (2, "b")))
        one = bench.begin()
        for kept in (0, base):
            await tablet.change_rows(one, 12, of(UPDATE, 9), base=kept)
            await tablet.change_rows(one, 12, of(LOCK, 9), base=kept)
            await tablet.change_rows(one, 12, of(DELETE, 8), base=kept)
            await tablet.change_rows(one, 12, of(IF_B, 1), base=kept)
            assert locked(tablet, one) == []
        await tablet.change_rows(one, 12, of(UPDATE, 1), command=1)
        await tablet.change_rows(one, 12, of(IF_B, 1), command=2)
        assert locked(tablet, one) == [((1,), LockMode.FOR_UPDATE)]
        await tablet.change_rows(one, 12, of(LOCK, 2), command=3)
        await tablet.change_rows(one, 12, of(DELETE, 2), command=4)
        assert (2,) in [key for key, _ in locked(tablet, one)]
        await bench.close()

    run(main)


def test_rows_that_are_not_meant_are_not_waited_for(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a"), (2, "b")))
        one, two = bench.begin(), bench.begin()
        await tablet.change_rows(one, 12, new((5, "b")))
        await tablet.change_rows(one, 12, of(UPDATE, 1, 2))
        for works in (of(UPDATE, 5), of(IF_B, 1), of(IF_B, 5), of(LOCK, 5), of(DELETE, 6)):
            assert (await tablet.change_rows(two, 12, works)).changed == 0
        for works in (of(IF_B, 2), of(LOCK, 1), of(DELETE, 1), new((5, "x"))):
            with pytest.raises(LockNotAvailable):
                await tablet.change_rows(two, 12, works, deadline_s=0.01)
        await bench.close()

    run(main)


def test_what_is_about_to_commit_is_waited_for(tmp_path: Path) -> None:
    """Its client may know already that the row is there."""

    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a")))
        drawn: asyncio.Future[Timestamp] = asyncio.get_running_loop().create_future()

        async def draw() -> Timestamp:
            return await drawn

        one, two = bench.begin(), bench.begin()
        await tablet.change_rows(one, 12, new((5, "b")))
        committing = asyncio.ensure_future(tablet.write(one, bench.oracle.now(), draw))
        while not tablet._participant.pending_below(2**62):
            await asyncio.sleep(0)
        with pytest.raises(LockNotAvailable):
            await tablet.change_rows(two, 12, of(UPDATE, 5), deadline_s=0.01)
        waiting = asyncio.ensure_future(tablet.change_rows(two, 12, of(UPDATE, 5)))
        await asyncio.sleep(0)
        drawn.set_result(await bench.oracle.draw())
        await committing
        assert (await waiting).rows == [((5, "b"), (5, "b!"))]
        await bench.close()

    run(main)


def test_a_kept_snapshot_says_which_rows_are_meant(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        base = await bench.write(tablet, insert((1, "a"), (2, "b")))
        await tablet.write_rows(bench.begin(), 12, of(UPDATE, 1, text=""), bench.oracle.draw)
        await tablet.write_rows(bench.begin(), 12, of(UPDATE, 2), bench.oracle.draw)
        await tablet.write_rows(bench.begin(), 12, new((3, "b")), bench.oracle.draw)
        late = bench.begin()
        for row in (1, 3):
            assert (await tablet.change_rows(late, 12, of(IF_B, row), base=base)).changed == 0
        with pytest.raises(SerializationFailure):
            await tablet.change_rows(late, 12, of(IF_B, 2), base=base)
        await bench.close()

    run(main)


def test_on_conflict_locks_rows_as_it_changes_them(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a"), (2, "b")))
        one, two = bench.begin(), bench.begin()
        await tablet.change_rows(one, 12, new((1, "x"), (7, "x"), program=UPSERT))
        await tablet.change_rows(one, 12, new((2, "x"), (8, "x"), program=KEEP))
        assert locked(tablet, one) == [
            ((1,), LockMode.FOR_NO_KEY_UPDATE),
            ((7,), LockMode.FOR_UPDATE),
            ((8,), LockMode.FOR_UPDATE),
        ]
        await tablet.change_rows(two, 12, new((2, "y"), program=UPSERT))
        with pytest.raises(LockNotAvailable):
            await tablet.change_rows(two, 12, new((1, "y"), program=UPSERT), deadline_s=0.01)
        await bench.close()

    run(main)
