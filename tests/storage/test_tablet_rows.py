"""Statements over single rows at a leader: locks, versions, own changes, one log entry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from storage_doubles import Bench, SkippingRuntime, fragment, insert, run

from cluster.errors import (
    LockNotAvailable,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    UniqueViolation,
)
from storage.entries import Write, decode_entry
from storage.fragments import OwnChanges
from storage.row_closures import NotByRow
from storage.row_programs import RowProgram, compiled, encode_program
from storage.row_tables import RowTables, StoredRow
from storage.tablet_row_locks import RowWork

pytestmark = pytest.mark.usefixtures("row_method")

APPEND = ("concat", ("column", 1), ("parameter", 1))


Works = Callable[[RowTables], list[RowWork]]


def of(program: RowProgram, *ids: int, text: str | None = "!") -> Works:
    """The program for rows of these ids, with a text for its parameter."""
    made = compiled(encode_program(program))

    def works(tables: RowTables) -> list[RowWork]:
        change = made.change(tables, (0, text))
        return [RowWork((i,), change, only_locks=made.only_locks) for i in ids]

    return works


def new(*rows: StoredRow, program: RowProgram | None = None) -> Works:
    made = compiled(encode_program(program or RowProgram()))

    def works(tables: RowTables) -> list[RowWork]:
        return [
            RowWork(
                row[:1],
                made.change(tables, (0, "!"), row),
                inserts=program is None,
                proposes=made.proposes,
                updates=made.updates,
            )
            for row in rows
        ]

    return works


UPDATE = RowProgram(sets=((1, APPEND),))
DELETE = RowProgram(deletes=True)


def test_a_statement_by_itself_is_one_entry(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a"), (2, "b")))
        before = len(bench.logs[7])
        changed = await tablet.write_rows(bench.begin(), 12, of(UPDATE, 1), bench.oracle.draw)
        assert changed.rows == [((1, "a"), (1, "a!"))]
        assert changed.commit_ts == bench.oracle.last
        (entry,) = bench.logs[7][before:]
        decoded, _ = decode_entry(entry.data)
        assert isinstance(decoded, Write)
        assert await bench.read(tablet) == [(1, "a!"), (2, "b")]
        assert await bench.read(tablet, changed.commit_ts - 1) == [(1, "a"), (2, "b")]
        assert await tablet.read_rows(12, [(1,)], changed.commit_ts - 1) == [(1, "a")]
        gone = await tablet.write_rows(bench.begin(), 12, of(DELETE, 2, 3), bench.oracle.draw)
        assert gone.changed == 1
        assert await bench.read(tablet) == [(1, "a!")]
        none = await tablet.write_rows(bench.begin(), 12, of(UPDATE, 9), bench.oracle.draw)
        assert (none.changed, none.commit_ts) == (0, 0)
        assert len(bench.logs[7]) == before + 2
        assert not tablet._participant.transactions
        await bench.close()

    run(main)


def test_what_it_wrote_comes_back_from_the_log(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await tablet.write_rows(bench.begin(), 12, new((1, "a"), (2, None)), bench.oracle.draw)
        await tablet.write_rows(bench.begin(), 12, of(UPDATE, 1, 2), bench.oracle.draw)
        await bench.crash()
        tablet = await bench.open()
        assert await bench.read(tablet) == [(1, "a!"), (2, None)]
        assert await tablet.read_rows(12, [(1,), (2,)]) == [(1, "a!"), (2, None)]
        await bench.close()

    run(main)


def test_keys_that_are_there_already(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        draw = bench.oracle.draw
        await tablet.write_rows(bench.begin(), 12, new((1, "a")), draw)
        for rows in ([(1, "x")], [(2, "x"), (2, "y")]):
            with pytest.raises(UniqueViolation) as caught:
                await tablet.write_rows(bench.begin(), 12, new(*rows), draw)
            assert caught.value.detail == f"Key (id)=({rows[0][0]}) already exists."
        nothing = RowProgram(proposes=True)
        done = await tablet.write_rows(bench.begin(), 12, new((1, "x"), program=nothing), draw)
        assert done.changed == 0
        excluded = ("concat", ("column", 1), ("column", 3))
        upsert = RowProgram(proposes=True, sets=((1, excluded),))
        await tablet.write_rows(bench.begin(), 12, new((1, "x"), (3, "z"), program=upsert), draw)
        assert await bench.read(tablet) == [(1, "ax"), (3, "z")]
        await bench.close()

    run(main)


def test_a_block_sees_its_own_rows_and_takes_them_back(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a")))
        mine = bench.begin()
        await tablet.change_rows(mine, 12, of(UPDATE, 1), command=1)
        await tablet.change_rows(mine, 12, of(UPDATE, 1), command=2)
        await tablet.change_rows(mine, 12, new((2, "b")), command=3)
        own = OwnChanges(mine, 4, (7,))
        assert await tablet.read_rows(12, [(1,), (2,)], own=own) == [(1, "a!!"), (2, "b")]
        assert await tablet.read_rows(12, [(1,), (2,)]) == [(1, "a"), None]
        await tablet.take_back(mine, 2)
        again = await tablet.change_rows(mine, 12, of(DELETE, 1, 2), command=4)
        assert again.rows == [((1, "a!"), None), (None, None)]
        await tablet.write(mine, bench.oracle.now(), bench.oracle.draw)
        assert await bench.read(tablet) == []
        await bench.close()

    run(main)


def test_what_was_made_for_a_former_definition_is_refused(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await tablet.alter([replace(fragment(), definition=5)], 2)
        await tablet.change_rows(bench.begin(), 12, new((1, "a")), definition=5)
        with pytest.raises(ObjectNotInPrerequisiteState):
            await tablet.change_rows(bench.begin(), 12, new((2, "b")), definition=4)
        with pytest.raises(ObjectNotInPrerequisiteState):
            await tablet.write_rows(
                bench.begin(), 12, new((3, "c")), bench.oracle.draw, definition=4
            )
        assert await bench.read(tablet) == []
        await bench.close()

    run(main)


def test_a_changed_row_is_a_conflict_where_the_snapshot_is_kept(tmp_path: Path) -> None:
    """I3, for rows that were changed and for rows that are gone; I2 without a base."""

    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        base = await bench.write(tablet, insert((1, "a"), (2, "b"), (3, "c")))
        draw = bench.oracle.draw
        await tablet.write_rows(bench.begin(), 12, of(UPDATE, 1), draw)
        await tablet.write_rows(bench.begin(), 12, of(DELETE, 2), draw)
        for row, what in ((1, "update"), (2, "delete")):
            late = bench.begin()
            with pytest.raises(SerializationFailure, match=f"concurrent {what}"):
                await tablet.change_rows(late, 12, of(UPDATE, row), base=base)
            await tablet.abort(late)
        assert (await tablet.change_rows(bench.begin(), 12, of(UPDATE, 3), base=base)).changed
        newest = await tablet.change_rows(bench.begin(), 12, of(UPDATE, 1))
        assert newest.rows == [((1, "a!"), (1, "a!!"))]
        await bench.close()

    run(main)


def test_the_row_is_computed_under_its_lock(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a")))
        first, second = bench.begin(), bench.begin()
        await tablet.change_rows(first, 12, of(UPDATE, 1, text="1"))
        waiting = asyncio.ensure_future(
            tablet.write_rows(second, 12, of(UPDATE, 1, text="2"), bench.oracle.draw)
        )
        with pytest.raises(LockNotAvailable):
            await tablet.write_rows(
                bench.begin(), 12, of(UPDATE, 1), bench.oracle.draw, deadline_s=0.01
            )
        assert not waiting.done()
        await tablet.write(first, bench.oracle.now(), bench.oracle.draw)
        await waiting
        assert await bench.read(tablet) == [(1, "a12")]
        await bench.close()

    run(main)


def test_nothing_is_left_of_one_that_was_given_up(tmp_path: Path) -> None:
    async def main(runtime: SkippingRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a")))
        holder = bench.begin()
        await tablet.change_rows(holder, 12, of(UPDATE, 1))
        waiting = asyncio.ensure_future(
            tablet.write_rows(bench.begin(), 12, of(UPDATE, 1), bench.oracle.draw)
        )
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        strict = RowProgram(sets=((1, ("value", None)),), not_null=(1,))
        with pytest.raises(NotByRow):
            await tablet.change_rows(holder, 12, of(strict, 1), command=1)
        await tablet.abort(holder)
        assert not tablet._participant.transactions
        changed = await tablet.write_rows(bench.begin(), 12, of(UPDATE, 1), bench.oracle.draw)
        assert changed.rows == [((1, "a"), (1, "a!"))]
        await bench.close()

    run(main)
