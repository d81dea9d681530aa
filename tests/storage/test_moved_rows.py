"""Rows that live on under another key or in another part are not taken for deleted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from storage_doubles import (
    METHODS,
    Bench,
    Defaults,
    SkippingRuntime,
    delete,
    insert,
    keys,
    run,
    update,
)

from storage import moved_rows, replica_log
from storage.fragments import AccessMethod, FragmentChange, Moved
from storage.lock_driver import Fate
from storage.locks import LockMode
from storage.moved_rows import MovedImage, MovedRows


@pytest.fixture(params=METHODS, autouse=True)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AccessMethod:
    monkeypatch.setattr(Defaults, "method", request.param)
    return AccessMethod(request.param)


def moved(*ids: int, to: Moved = Moved.TO_PART) -> FragmentChange:
    return FragmentChange(12, delete_keys=keys(*ids), moved=to)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("crash_at", ["prepared", "committed", "never"])
def test_what_moved_is_known_to_every_leader(
    tmp_path: Path, crash_at: str, checkpoint: bool
) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        home, tablet = await bench.open(1), await bench.open(2)

        async def crash() -> None:
            nonlocal home, tablet
            if checkpoint:
                await tablet.checkpoint()
            await bench.crash()
            home, tablet = await bench.open(1), await bench.open(2)

        await bench.write(tablet, insert(*((i, "a") for i in range(1, 6))))
        base = bench.oracle.now()
        mover = bench.begin()
        for change in (moved(1), moved(2, to=Moved.TO_KEY), delete(3), update((4, "b"))):
            await tablet.stage(mover, change)
        await home.stage(mover, insert((101, "a")))
        await tablet.prepare(mover, bench.oracle.now(), 1)
        await home.mark_home(mover, bench.oracle.now())
        commit_ts = bench.oracle.now()
        await home.decide(mover, commit_ts, (2,))
        if crash_at == "prepared":
            await crash()
            await bench.settle(runtime)
        else:
            await tablet.commit(mover, commit_ts)
        if crash_at == "committed":
            await crash()
        locked = await tablet.lock_rows(
            bench.begin(), 12, keys(1, 2, 3, 4, 5), LockMode.FOR_UPDATE, base
        )
        assert dict(zip(locked.changed, locked.fates, strict=True)) == {
            0: Fate.MOVED_PART,
            1: Fate.MOVED_KEY,
            2: Fate.DELETED,
            3: Fate.UPDATED,
        }
        await bench.close()

    run(main)


def test_a_move_that_was_taken_back_or_came_before_is_none(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(1)
        await bench.write(tablet, insert((1, "a"), (2, "a")))
        before = bench.oracle.now()
        transaction = bench.begin()
        await tablet.stage(transaction, moved(1), command=1)
        await tablet.take_back(transaction, 1)
        await tablet.stage(transaction, delete(1), command=2)
        await tablet.stage(transaction, moved(2), command=3)
        await tablet.write(transaction, bench.oracle.now(), bench.oracle.draw)
        await bench.write(tablet, insert((2, "b")))
        since = bench.oracle.now()
        reader = bench.begin()
        first = await tablet.lock_rows(reader, 12, keys(1, 2), LockMode.FOR_UPDATE, before)
        assert first.fates == (Fate.DELETED, Fate.MOVED_PART)
        assert not (await tablet.lock_rows(reader, 12, keys(2), LockMode.FOR_SHARE, since)).changed
        await bench.close()

    run(main)


def test_of_what_is_not_looked_into_any_row_that_is_gone_may_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_log, "LOOKED_INTO_BYTES", 0)

    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(1)
        await bench.write(tablet, insert((1, "a"), (2, "a"), (3, "a")))
        base = bench.oracle.now()
        await bench.write(tablet, moved(1))
        await bench.write(tablet, update((3, "b")))
        reader = bench.begin()
        locked = await tablet.lock_rows(reader, 12, keys(1, 2, 3), LockMode.FOR_UPDATE, base)
        assert (locked.changed, locked.fates) == ((0, 2), (Fate.MOVED_PART, Fate.UPDATED))
        await bench.close()

    run(main)


def test_those_that_moved_first_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved_rows, "KEYS_KEPT", 20)
    rows = MovedRows(MovedImage())
    rows.note(12, [(number,) for number in range(20)], Moved.TO_KEY, 100, 1)
    rows.note(12, [(0,)], Moved.TO_KEY, 101, 2)
    rows.note(12, [(20,)], Moved.TO_KEY, 102, 3)
    # Two at once, and not the one that moved again.
    known = [number for number in range(21) if rows.behind(12, (number,), 0)]
    assert known == [0, *range(3, 21)]
    rows.note(12, [(number,) for number in range(100, 160)], Moved.TO_KEY, 103, 4)
    known = [number for number in range(160) if rows.behind(12, (number,), 0)]
    assert known == list(range(140, 160))


def test_more_keys_than_are_kept_leave_their_fragment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved_rows, "KEYS_KEPT", 2)
    rows = MovedRows(MovedImage())
    assert not rows
    for number in range(4):
        rows.note(12, [(number,)], Moved.TO_KEY, 100 + number, number)
    image = msgspec.msgpack.encode(rows.image())
    for known in (rows, MovedRows(msgspec.msgpack.decode(image, type=MovedImage))):
        assert known.after(12, (3,), 102, is_gone=False) is Moved.TO_KEY
        assert known.after(12, (3,), 103, is_gone=True) is Moved.NOT
        assert known.after(12, (0,), 99, is_gone=True) is Moved.TO_PART
        assert known.after(12, (0,), 99, is_gone=False) is Moved.NOT
        assert known.after(12, (0,), 101, is_gone=True) is Moved.NOT
        assert known.behind(12, (3,), 2) is Moved.TO_KEY
        assert known.behind(12, (3,), 3) is Moved.NOT
    rows.forget(102, [12])
    assert rows.after(12, (3,), 0, is_gone=True) is Moved.TO_KEY
    assert rows.after(12, (2,), 0, is_gone=True) is Moved.NOT
    rows.forget(0, [13])
    assert not rows
