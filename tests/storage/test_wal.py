"""The write-ahead log: what it keeps, gives back, forgets, and does when the disk fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cluster.disk import OsDisk
from cluster.errors import IoError, ObjectNotInPrerequisiteState
from cluster.raft.log import (
    Configuration,
    Entry,
    EntryKind,
    GroupWrite,
    HardState,
    MemoryLogStorage,
    SnapshotMark,
)
from cluster.runtime import ProductionRuntime
from cluster.simulation.disk import SimulatedDisk
from cluster.simulation.loop import run_simulation
from cluster.simulation.runtime import SimulatedRuntime
from storage.wal import WalSettings, WriteAheadLog


def entries(first: int, last: int, term: int = 1, size: int = 20) -> list[Entry]:
    return [
        Entry(term, index, EntryKind.COMMAND, index.to_bytes(4, "big") * (size // 4))
        for index in range(first, last + 1)
    ]


def mark(index: int, term: int = 1) -> SnapshotMark:
    return SnapshotMark(index, term, Configuration((1, 2, 3)))


def image(log: WriteAheadLog | MemoryLogStorage) -> dict[int, object]:
    return {
        group_id: (group.hard_state, group.snapshot, list(group.entries))
        for group_id, group in sorted(log.load().items())
    }


class Failures:
    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def __call__(self, error: Exception) -> None:
        self.errors.append(error)


async def open_simulated(
    disk: SimulatedDisk, *, segment_bytes: int = 1 << 20, seed: int = 1
) -> WriteAheadLog:
    settings = WalSettings(segment_bytes=segment_bytes, inline_sync_s=0)
    return await WriteAheadLog.open(
        "/wal", SimulatedRuntime(seed), disk, settings=settings, on_failure=Failures()
    )


async def crash(disk: SimulatedDisk, log: WriteAheadLog) -> None:
    """Power cut: the disk forgets what it may, and the process is no more."""
    disk.crash()
    await log._runtime.stop()  # type: ignore[attr-defined]


def simulate(test: Callable[[SimulatedDisk], Awaitable[None]], seed: int = 1) -> None:
    async def main() -> None:
        await test(SimulatedDisk(random.Random(seed)))

    run_simulation(main())


def test_real_files_give_back_what_was_written(tmp_path: Path) -> None:
    async def test() -> None:
        runtime = ProductionRuntime()
        log = await WriteAheadLog.open(tmp_path / "wal", runtime, on_failure=Failures())
        assert log.load() == {}
        for first in range(1, 200, 5):
            await log.append(
                [
                    GroupWrite(7, HardState(1, 2, first), entries(first, first + 4, size=4000)),
                    GroupWrite(8, None, entries(first, first + 4)),
                ]
            )
        await log.append([GroupWrite(9, HardState(3, 1, 0))])
        assert log.entries(7, 3, 12) == entries(3, 11, size=4000)
        before = image(log)
        await log.close()
        log = await WriteAheadLog.open(tmp_path / "wal", runtime, OsDisk())
        assert image(log) == before
        assert before[9] == (HardState(3, 1, 0), SnapshotMark(), [])
        assert len(log.load()[7].entries) == 200
        assert log.load()[7].entries[1:3] == entries(2, 3, size=4000)
        assert log.load()[7].entries[-1] == entries(200, 200, size=4000)[0]
        await log.close()
        await runtime.close()

    asyncio.run(test())


def test_rewritten_suffix_and_reset_by_snapshot() -> None:
    async def test(disk: SimulatedDisk) -> None:
        log = await open_simulated(disk)
        await log.append([GroupWrite(1, HardState(1, 1, 0), entries(1, 10))])
        await log.append([GroupWrite(1, HardState(2, 1, 0), entries(6, 7, term=2))])
        assert list(log.load()[1].entries) == entries(1, 5) + entries(6, 7, term=2)
        # Two writes of one group in one batch, the second cutting into the first.
        await log.append(
            [
                GroupWrite(1, None, entries(8, 12, term=2)),
                GroupWrite(1, None, entries(10, 10, term=3)),
            ]
        )
        expected = entries(1, 5) + entries(6, 9, term=2) + entries(10, 10, term=3)
        assert log.entries(1, 1, 11) == expected
        await log.append([GroupWrite(1, None, entries(51, 52, term=4), mark(50, 4))])
        await log.close()
        log = await open_simulated(disk)
        assert image(log) == {1: (HardState(2, 1, 0), mark(50, 4), entries(51, 52, term=4))}

    simulate(test)


def test_crash_keeps_all_that_was_acknowledged() -> None:
    async def test(disk: SimulatedDisk) -> None:
        log = await open_simulated(disk)
        for index in range(1, 30):
            await log.append([GroupWrite(1, HardState(1, 1, index), entries(index, index))])
        await crash(disk, log)
        log = await open_simulated(disk)
        assert image(log) == {1: (HardState(1, 1, 29), SnapshotMark(), entries(1, 29))}

    for seed in range(20):
        simulate(test, seed)


def test_compaction_removes_segments_and_survives() -> None:
    async def test(disk: SimulatedDisk) -> None:
        log = await open_simulated(disk, segment_bytes=3000)
        for index in range(1, 101):
            await log.append(
                [GroupWrite(1, HardState(1, 1, index), entries(index, index, size=200))]
            )
        await log.append([GroupWrite(2, HardState(1, 1, 1), entries(1, 1))])
        count = len(disk.names("/wal"))
        assert count > 5
        assert log.holding_groups() == [1]
        log.compact(1, mark(60))
        log.compact(1, mark(40))
        await asyncio.sleep(5)
        assert len(disk.names("/wal")) < count // 2 + 2
        assert log.size_bytes < 3000 * len(disk.names("/wal")) + 1000
        expected = {
            1: (HardState(1, 1, 100), mark(60), entries(61, 100, size=200)),
            2: (HardState(1, 1, 1), SnapshotMark(), entries(1, 1)),
        }
        assert image(log) == expected
        await crash(disk, log)
        log = await open_simulated(disk, segment_bytes=3000)
        assert image(log) == expected
        log.compact(1, mark(100))
        await log.append([GroupWrite(2, None, entries(2, 2))])
        await asyncio.sleep(5)
        await crash(disk, log)
        log = await open_simulated(disk, segment_bytes=3000)
        assert image(log)[1] == (HardState(1, 1, 100), mark(100), [])
        assert log.load()[2].entries[:] == entries(1, 2)

    simulate(test)


def test_dropped_group_stays_dropped_and_may_come_again() -> None:
    async def test(disk: SimulatedDisk) -> None:
        log = await open_simulated(disk)
        await log.append([GroupWrite(1, HardState(5, 1, 3), entries(1, 9))])
        writing = asyncio.ensure_future(log.append([GroupWrite(1, None, entries(10, 11))]))
        await asyncio.sleep(0)
        log.drop(1)
        await writing
        assert log.load() == {}
        await log.append([GroupWrite(2, HardState(1, 1, 0))])
        await crash(disk, log)
        log = await open_simulated(disk)
        assert list(log.load()) == [2]
        await log.append([GroupWrite(1, HardState(6, 1, 0), entries(1, 2, term=6))])
        log.drop(2)
        await log.close()
        log = await open_simulated(disk)
        assert image(log) == {1: (HardState(6, 1, 0), SnapshotMark(), entries(1, 2, term=6))}

    simulate(test)


def test_failed_sync_is_final() -> None:
    async def test(disk: SimulatedDisk) -> None:
        log = await open_simulated(disk)
        await log.append([GroupWrite(1, None, entries(1, 1))])
        disk.fail_next_sync = True
        with pytest.raises(IoError, match="write-ahead log has failed"):
            await log.append([GroupWrite(1, None, entries(2, 2))])
        syncs = disk.syncs
        with pytest.raises(IoError, match="write-ahead log has failed"):
            await log.append([GroupWrite(1, None, entries(3, 3))])
        assert disk.syncs == syncs
        assert len(log._on_failure.errors) == 1  # type: ignore[attr-defined]
        await log.close()
        assert disk.syncs == syncs

    simulate(test)


def test_failed_sync_in_place_is_final_too() -> None:
    async def main() -> None:
        disk, failures = SimulatedDisk(random.Random(1)), Failures()
        settings = WalSettings(inline_sync_s=1)
        log = await WriteAheadLog.open(
            "/wal", SimulatedRuntime(1), disk, settings=settings, on_failure=failures
        )
        await log.append([GroupWrite(1, None, entries(1, 1))])
        disk.fail_next_sync = True
        with pytest.raises(IoError):
            await log.append([GroupWrite(1, None, entries(2, 2))])
        assert len(failures.errors) == 1

    run_simulation(main())


def test_full_disk_fails_the_log() -> None:
    async def test(disk: SimulatedDisk) -> None:
        log = await open_simulated(disk)
        disk.capacity_bytes = disk.used_bytes() + 100
        with pytest.raises(IoError) as caught:
            await log.append([GroupWrite(1, None, entries(1, 100))])
        assert "no space left" in str(caught.value.detail)

    simulate(test)


def test_cancelled_append_is_finished_before_the_next() -> None:
    async def test(disk: SimulatedDisk) -> None:
        log = await open_simulated(disk)
        first = asyncio.ensure_future(log.append([GroupWrite(1, None, entries(1, 1))]))
        second = asyncio.ensure_future(log.append([GroupWrite(1, None, entries(2, 2))]))
        await asyncio.sleep(0)
        first.cancel()
        await second
        with pytest.raises(asyncio.CancelledError):
            await first
        await crash(disk, log)
        log = await open_simulated(disk)
        assert list(log.load()[1].entries) == entries(1, 2)

    simulate(test)


def test_log_of_another_format_is_refused() -> None:
    async def test(disk: SimulatedDisk) -> None:
        log = await open_simulated(disk)
        await log.close()
        name = f"/wal/{disk.names('/wal')[0]}"
        data = bytearray(disk.contents(name))
        data[8] = 99
        disk.replace(name, bytes(data))
        with pytest.raises(ObjectNotInPrerequisiteState, match="another version"):
            await open_simulated(disk)

    simulate(test)


@pytest.mark.parametrize("seed", range(30))
def test_against_the_plain_twin_over_crashes(seed: int) -> None:
    """Random operations and crashes: the log equals its twin, or the twin plus the batch that
    was being written."""

    async def main() -> None:
        chance = random.Random(seed)
        disk = SimulatedDisk(random.Random(seed + 1))
        twin = MemoryLogStorage()
        log = await open_simulated(disk, segment_bytes=2000, seed=seed)
        last: dict[int, int] = {}
        for _ in range(150):
            group_id = chance.randrange(1, 4)
            high = last.get(group_id, 0)
            low = twin.load()[group_id].snapshot.index if group_id in twin.load() else 0
            action = chance.random()
            if action < 0.6:
                first = chance.randint(max(low + 1, high - 3), high + 1)
                until = first + chance.randrange(5)
                write = GroupWrite(
                    group_id, HardState(1, 1, low), entries(first, until, size=chance.randrange(99))
                )
                last[group_id] = until
                if chance.random() < 0.1:
                    # Makes durable what was dropped and compacted before.
                    await log.append([])
                    # A task of the node's, which ends with it.
                    task = log._runtime.spawn(log.append([write]), "append")
                    await asyncio.sleep(chance.random() * 0.002)
                    done = task.done()
                    await crash(disk, log)
                    await asyncio.gather(task, return_exceptions=True)
                    log = await open_simulated(disk, segment_bytes=2000, seed=seed)
                    before = image(twin)
                    twin.append_now([write])
                    if image(log) != image(twin):
                        assert image(log) == before
                        assert not done, "an acknowledged append was lost"
                        await log.append([write])
                else:
                    await log.append([write])
                    twin.append_now([write])
            elif action < 0.8 and high > low:
                index = chance.randint(low + 1, high)
                twin.compact(group_id, mark(index))
                log.compact(group_id, mark(index))
                await asyncio.sleep(chance.choice([0, 0.5]))
            elif action < 0.85:
                twin.drop(group_id)
                log.drop(group_id)
                last.pop(group_id, None)
            elif action < 0.9:
                await log.append([])
                await crash(disk, log)
                log = await open_simulated(disk, segment_bytes=2000, seed=seed)
            assert image(log) == image(twin)

    run_simulation(main())
