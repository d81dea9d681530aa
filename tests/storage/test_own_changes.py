"""A transaction of several commands on a tablet: what it sees itself, and what it takes back."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from storage_doubles import Bench, delete, insert, run, update

from cluster.errors import LeaderChanged, SerializationFailure, UniqueViolation
from cluster.runtime import ProductionRuntime
from storage import drafts, tablet_changes
from storage.drafts import NO_COMMAND
from storage.fragments import FragmentChange
from storage.snapshot import open_views, register_changes, relation_sql
from storage.tablet import Tablet


async def seen(
    bench: Bench, opened: Tablet, transaction: int, command: int
) -> list[tuple[Any, ...]]:
    """The rows as the transaction's statement of that number reads them, sorted."""
    at = bench.oracle.now()
    changes = await opened.own_changes(transaction, [12], command)
    tables = await opened.prepare_read([12], at, 10.0)
    reads = {(opened.tablet_id, 12): tables[12]}
    cursor, views = open_views(bench.duckdb, reads, at)
    with cursor:
        own = register_changes(cursor, reads, {opened.tablet_id: changes})
        names = tables[12].schema.names
        read = opened.tablet_id, 12
        sql = relation_sql(views[read], names, at, own.get(read))
        found = cursor.execute(f"SELECT * FROM {sql}").fetchall()
        counted = cursor.execute(
            f"SELECT count(*) FROM {relation_sql(views[read], (), at, own.get(read))}"
        ).fetchall()
    assert counted == [(len(found),)]
    return sorted(found)


def test_a_command_sees_what_earlier_ones_did(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        opened = await bench.open()
        await bench.write(opened, insert((1, "a"), (2, "b")))
        mine = bench.begin()
        await opened.stage(mine, update((1, "A")), 1)
        await opened.stage(mine, insert((3, "c")), 2)
        await opened.stage(mine, delete(2), 3)
        assert await seen(bench, opened, mine, 1) == [(1, "a"), (2, "b")]
        assert await seen(bench, opened, mine, 2) == [(1, "A"), (2, "b")]
        assert await seen(bench, opened, mine, 3) == [(1, "A"), (2, "b"), (3, "c")]
        assert await seen(bench, opened, mine, 4) == [(1, "A"), (3, "c")]
        assert await bench.read(opened) == [(1, "a"), (2, "b")]
        await opened.stage(mine, FragmentChange(12, truncate=True), 5)
        assert await seen(bench, opened, mine, 6) == []
        await opened.stage(mine, insert((9, "z")), 6)
        assert await seen(bench, opened, mine, 7) == [(9, "z")]
        await opened.write(mine, bench.oracle.now(), bench.oracle.draw)
        assert await bench.read(opened) == [(9, "z")]
        await bench.close()

    run(main)


def test_own_rows_are_seen_over_the_past(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        opened = await bench.open()
        await bench.write(opened, insert((1, "a"), (2, "b")))
        before = bench.oracle.now()
        await bench.write(opened, update((1, "later")), insert((5, "later")))
        mine = bench.begin()
        await opened.stage(mine, insert((3, "c")), 1)
        changes = await opened.own_changes(mine, [12], 2)
        tables = await opened.prepare_read([12], bench.oracle.now(), 10.0)
        reads = {(7, 12): tables[12]}
        cursor, views = open_views(bench.duckdb, reads, before)
        with cursor:
            own = register_changes(cursor, reads, {7: changes})
            sql = relation_sql(views[7, 12], ("c2",), before, own[7, 12])
            found = cursor.execute(f"SELECT * FROM {sql} ORDER BY 1").fetchall()
        assert found == [("a",), ("b",), ("c",)]
        await bench.close()

    run(main)


def test_unique_keys_are_checked_over_all_commands(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        opened = await bench.open()
        await bench.write(opened, insert((1, "a")))
        mine = bench.begin()
        await opened.stage(mine, insert((2, "b")), 1)
        await opened.check(mine)
        await opened.stage(mine, insert((2, "again")), 2)
        with pytest.raises(UniqueViolation):
            await opened.check(mine)
        await opened.take_back(mine, 2)
        await opened.stage(mine, insert((1, "taken")), 3)
        with pytest.raises(UniqueViolation):
            await opened.check(mine)
        await opened.take_back(mine, 3)
        await opened.stage(mine, delete(1), 4)
        await opened.stage(mine, insert((1, "new")), 5)
        await opened.check(mine)
        await opened.write(mine, bench.oracle.now(), bench.oracle.draw)
        assert await bench.read(opened) == [(1, "new"), (2, "b")]
        await bench.close()

    run(main)


def test_one_that_comes_along_tells_its_changes_once_all_are_here(tmp_path: Path) -> None:
    """Rule C9: a statement that asks the new leader meanwhile waits."""

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        opened = await bench.open()
        mine = bench.begin()
        await opened.take_back(mine, 0, 1, is_whole=False)
        asked = asyncio.ensure_future(opened.own_changes(mine, [12], 5))
        await opened.stage(mine, insert((1, "a")), 1)
        await opened.take_back(mine, NO_COMMAND)  # a word for the lease says nothing of it
        await opened.stage(mine, insert((2, "b")), 2)
        assert not asked.done()
        await opened.take_back(mine, NO_COMMAND, is_whole=True)
        assert [change.insert_count for change in await asked] == [1, 1]
        await bench.close()

    run(main)


def test_who_has_locked_here_alone_has_changed_something_elsewhere(tmp_path: Path) -> None:
    """Its changes are with a leader before this one: it must not read as if there were none."""

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        opened = await bench.open()
        mine = bench.begin()
        await opened.lock(mine, "row exclusive")
        with pytest.raises(LeaderChanged):
            await opened.own_changes(mine, [12], 2)
        await opened.stage(mine, FragmentChange(12), 1)
        assert await opened.own_changes(mine, [12], 2) == []
        await bench.close()

    run(main)


def test_a_lapsed_transaction_does_not_read_as_if_it_had_changed_nothing(tmp_path: Path) -> None:
    async def main(runtime: Any) -> None:
        bench = Bench(runtime, tmp_path)
        opened = await bench.open()
        mine = bench.begin()
        await opened.stage(mine, insert((1, "a")), 1)
        runtime.skipped_s += 60
        opened.tick()
        with pytest.raises(SerializationFailure):
            await opened.own_changes(mine, [12], 2)
        with pytest.raises(SerializationFailure):
            await opened.take_back(mine, 1)
        await opened.take_back(bench.begin(), 1)  # has not begun here, and lost nothing
        await bench.close()

    run(main)


@pytest.mark.parametrize("seed", range(12))
def test_any_commands_and_savepoints_leave_what_a_plain_list_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Random changes and goings back, over chunks so small that most are logged, then a crash."""
    monkeypatch.setattr(tablet_changes, "CHUNK_BYTES", 60)
    monkeypatch.setattr(drafts, "CHUNK_BYTES", 60)
    dice = random.Random(seed)

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        opened = await bench.open()
        committed = dict.fromkeys(range(5), "old")
        await bench.write(opened, insert(*committed.items()))
        mine = bench.begin()
        states = [dict(committed)]  # before each command
        await opened.stage(mine, FragmentChange(12), 0)
        command = 0
        starts: list[int] = [0]
        for _ in range(dice.randrange(5, 25)):
            rows = dict(states[-1])
            if dice.random() < 0.2:
                place = dice.randrange(len(starts))
                await opened.take_back(mine, starts[place] + 1)
                states, starts = states[: place + 1], starts[: place + 1]
                continue
            command += 1
            for _ in range(dice.randrange(1, 4)):
                await opened.stage(mine, _change(dice, rows), command)
            states.append(rows)
            starts.append(command)
            assert await seen(bench, opened, mine, command + 1) == sorted(rows.items())
            assert await seen(bench, opened, mine, command) == sorted(states[-2].items())
        await opened.write(mine, bench.oracle.now(), bench.oracle.draw)
        assert sorted(await bench.read(opened)) == sorted(states[-1].items())
        await bench.crash()
        opened = await bench.open()
        assert sorted(await bench.read(opened)) == sorted(states[-1].items())
        await bench.close()

    run(main)


def _change(dice: random.Random, rows: dict[int, str]) -> FragmentChange:
    if dice.random() < 0.05:
        rows.clear()
        return FragmentChange(12, truncate=True)
    key = dice.randrange(12)
    if key not in rows:
        rows[key] = "new"
        return insert((key, "new"))
    if dice.random() < 0.5:
        del rows[key]
        return delete(key)
    rows[key] += "+"
    return update((key, rows[key]))


@pytest.mark.parametrize("seed", range(8))
def test_keys_are_checked_statement_by_statement_as_all_at_once(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        opened = await bench.open()
        rows = {1: "old", 2: "old"}
        await bench.write(opened, insert(*rows.items()))
        mine = bench.begin()
        for command in range(1, 40):
            change = dice.choice([insert, update, delete])
            keys = dice.sample(range(6), dice.randrange(1, 3))
            if change is insert:
                await opened.stage(mine, insert(*((key, "new") for key in keys)), command)
                if any(key in rows for key in keys):
                    with pytest.raises(UniqueViolation):
                        await opened.check(mine)
                    await opened.take_back(mine, command)
                    continue
                rows |= dict.fromkeys(keys, "new")
            else:
                known = [key for key in keys if key in rows]
                if not known:
                    continue
                if change is delete:
                    await opened.stage(mine, delete(*known), command)
                    rows = {key: v for key, v in rows.items() if key not in known}
                else:
                    await opened.stage(mine, update(*((key, "up") for key in known)), command)
                    rows |= dict.fromkeys(known, "up")
            await opened.check(mine)
        await opened.write(mine, bench.oracle.now(), bench.oracle.draw)
        assert await bench.read(opened) == sorted(rows.items())
        await bench.close()

    run(main)
