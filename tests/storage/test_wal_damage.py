"""Every byte of a small log torn or flipped: a clean prefix no shorter than what was known
durable, or a clear error; never an acknowledged entry silently lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import DataCorrupted, ObjectNotInPrerequisiteState
from cluster.raft.log import Configuration, Entry, EntryKind, GroupWrite, HardState, SnapshotMark
from cluster.simulation.disk import SimulatedDisk
from cluster.simulation.loop import run_simulation
from cluster.simulation.runtime import SimulatedRuntime
from storage.wal import WalSettings, WriteAheadLog
from storage.wal_format import RECORD_HEADER_BYTES

Image = dict[int, object]
Files = dict[str, bytes]
REFUSED = "refused"


def batch(index: int) -> list[GroupWrite]:
    def entry(term: int) -> Entry:
        return Entry(term, index, EntryKind.COMMAND, bytes([index, term]) * (7 * index % 40))

    return [
        GroupWrite(1, HardState(1, 1, index), [entry(1)]),
        GroupWrite(2, HardState(1, 2, index), [entry(2)]),
    ]


def image(log: WriteAheadLog) -> Image:
    return {
        group_id: (group.hard_state, group.snapshot, list(group.entries))
        for group_id, group in sorted(log.load().items())
    }


async def opened(disk: SimulatedDisk, segment_bytes: int) -> WriteAheadLog:
    wal_settings = WalSettings(segment_bytes=segment_bytes, inline_sync_s=0)
    return await WriteAheadLog.open(
        "/wal", SimulatedRuntime(1), disk, settings=wal_settings, on_failure=_unexpected
    )


def _unexpected(error: Exception) -> None:
    raise error


def files_of(disk: SimulatedDisk) -> Files:
    return {name: disk.contents(f"/wal/{name}") for name in disk.names("/wal")}


@dataclass
class History:
    """Files and images after each acknowledged batch, and the files after a clean end."""

    files: list[Files]
    images: list[Image]
    closed: Files


def history(count: int, segment_bytes: int, *, compact: bool = False) -> History:
    async def main() -> History:
        disk = SimulatedDisk(random.Random(1))
        log = await opened(disk, segment_bytes)
        files, images = [files_of(disk)], [image(log)]
        for index in range(1, count + 1):
            if compact and index % 3 == 0:
                for group_id in (1, 2):
                    mark = SnapshotMark(index - 2, group_id, Configuration((1,)))
                    log.compact(group_id, mark)
            await log.append(batch(index))
            if compact:
                await asyncio.sleep(1)
            files.append(files_of(disk))
            images.append(image(log))
        await log.close()
        return History(files, images, files_of(disk))

    return run_simulation(main())


def reopen(files: Files, segment_bytes: int) -> Image | str:
    """What the log says of these files; it must then take and keep another batch."""

    async def main() -> Image | str:
        disk = SimulatedDisk(random.Random(1))
        for name, data in files.items():
            disk.replace(f"/wal/{name}", data)
        try:
            log = await opened(disk, segment_bytes)
        except (DataCorrupted, ObjectNotInPrerequisiteState):
            return REFUSED
        found = image(log)
        await log.append([GroupWrite(9, HardState(8, 1, 0))])
        await log._runtime.stop()  # type: ignore[attr-defined]
        disk.crash()
        again = await opened(disk, segment_bytes)
        assert image(again) == {**found, 9: (HardState(8, 1, 0), SnapshotMark(), [])}
        return found

    return run_simulation(main())


SMALL = 400  # several segments
LARGE = 1 << 20  # one


@pytest.mark.parametrize("segment_bytes", [SMALL, LARGE])
def test_no_flipped_byte_of_a_closed_log_loses_anything(segment_bytes: int) -> None:
    past = history(5, segment_bytes)
    chance = random.Random(1)
    refused = 0
    for name, data in past.closed.items():
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= chance.randrange(1, 256)
            found = reopen({**past.closed, name: bytes(changed)}, segment_bytes)
            assert found in (REFUSED, past.images[-1]), f"{name} byte {at}"
            refused += found == REFUSED
    assert refused > 100


@pytest.mark.parametrize("segment_bytes", [SMALL, LARGE])
def test_flipped_byte_of_a_running_log_loses_at_most_the_last_batch(segment_bytes: int) -> None:
    past = history(5, segment_bytes)
    files = past.files[-1]
    for name, data in files.items():
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 0x40
            found = reopen({**files, name: bytes(changed)}, segment_bytes)
            # No later record knows the last batch to be durable, so damage to it looks torn.
            assert found in (REFUSED, *past.images[-2:]), f"{name} byte {at}"


@pytest.mark.parametrize("segment_bytes", [SMALL, LARGE])
@pytest.mark.parametrize("compact", [False, True])
def test_batch_torn_anywhere_leaves_all_acknowledged_before_it(
    segment_bytes: int, compact: bool
) -> None:
    past = history(5, segment_bytes, compact=compact)
    for step in range(1, len(past.files)):
        before, after = past.files[step - 1], past.files[step]
        # A step that also removed segments is cut before the removal.
        after = {**before, **after}
        last = max(after)
        kept = len(before.get(last, b""))
        for size in range(kept, len(after[last]) + 1, 2):
            torn = {**after, last: after[last][:size]}
            assert reopen(torn, segment_bytes) in _either(past, step, compact), f"{last} at {size}"
            hole = bytes(len(after[last]) - size)
            torn[last] = after[last][:size] + hole
            assert reopen(torn, segment_bytes) in _either(past, step, compact), f"hole at {size}"


def _either(past: History, step: int, compact: bool) -> Sequence[object]:
    if not compact:
        return past.images[step - 1], past.images[step]
    # Compaction before the batch shows in the image as soon as any record of it is whole.
    return [REFUSED if found is None else found for found in _compacted(past, step)]


def _compacted(past: History, step: int) -> list[Image]:
    before, after = past.images[step - 1], past.images[step]
    between: Image = {}
    for group_id, group in before.items():
        state, mark, entries = group  # type: ignore[misc]
        if group_id in after:
            new_mark = after[group_id][1]  # type: ignore[index]
            if new_mark.index > mark.index:
                mark = new_mark
                entries = [entry for entry in entries if entry.index > mark.index]
        between[group_id] = (state, mark, entries)
    return [before, between, after]


def test_log_cut_short_is_a_clean_prefix() -> None:
    past = history(6, LARGE)
    [(name, data)] = past.closed.items()
    prefixes = [{}, *past.images]
    shorter = 0
    for size in range(len(data)):
        found = reopen({name: data[:size]}, LARGE)
        assert found in prefixes
        assert prefixes.index(found) >= shorter  # type: ignore[arg-type]
        shorter = prefixes.index(found)  # type: ignore[arg-type]
    assert shorter == len(prefixes) - 1


def test_segment_that_is_missing_or_short_is_refused() -> None:
    past = history(6, SMALL)
    names = sorted(past.closed)
    assert len(names) >= 3
    for name in names[:-1]:
        rest = {other: data for other, data in past.closed.items() if other != name}
        assert reopen(rest, SMALL) == REFUSED, name
        for size in (0, 1, 39, 60, len(past.closed[name]) - 1):
            cut = {**past.closed, name: past.closed[name][:size]}
            assert reopen(cut, SMALL) == REFUSED, f"{name} at {size}"


def test_segments_of_two_logs_do_not_mix() -> None:
    past = history(6, SMALL)

    async def other() -> Files:
        disk = SimulatedDisk(random.Random(1))
        log = await WriteAheadLog.open(
            "/wal",
            SimulatedRuntime(2),
            disk,
            settings=WalSettings(segment_bytes=SMALL, inline_sync_s=0),
        )
        for index in range(1, 7):
            await log.append(batch(index))
        await log.close()
        return files_of(disk)

    foreign = run_simulation(other())
    for name in past.closed:
        assert reopen({**past.closed, name: foreign[name]}, SMALL) == REFUSED


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_is_seen_or_harmless(data: st.DataObject) -> None:
    """One place of a closed log of several segments, damaged in several ways.

    Damage that reaches from a batch over the mark behind it looks like a torn write: the
    batch's witness is gone with it. Only the last batch has no other.
    """
    past = history(6, SMALL)
    name = data.draw(st.sampled_from(sorted(past.closed)))
    contents = bytearray(past.closed[name])
    at = data.draw(st.integers(0, len(contents) - 1))
    kind = data.draw(st.sampled_from(["zero", "copy", "noise"]))
    size = data.draw(st.integers(1, 64))
    if kind == "zero":
        contents[at : at + size] = bytes(len(contents[at : at + size]))
    elif kind == "copy":
        source = data.draw(st.integers(0, len(contents) - 1))
        part = contents[source : source + size][: len(contents) - at]
        contents[at : at + len(part)] = part
    else:
        contents[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    found = reopen({**past.closed, name: bytes(contents)}, SMALL)
    reaches_mark = (
        name == max(past.closed)
        and contents[-RECORD_HEADER_BYTES:] != past.closed[name][-RECORD_HEADER_BYTES:]
    )
    allowed = past.images[-2:] if reaches_mark else past.images[-1:]
    assert found in (REFUSED, *allowed)


def test_valid_record_in_a_wrong_place_is_not_taken() -> None:
    """What a misdirected write or stale blocks behind the end would look like."""
    past = history(6, LARGE)
    [(name, data)] = past.closed.items()
    ends = [len(files[name]) for files in past.files]
    for start, end in pairwise(ends):
        assert reopen({name: data + data[start:end]}, LARGE) == past.images[-1]
        # Over another record of the same length: damage like any other.
        for other, other_end in pairwise(ends):
            if other != start and other_end - other == end - start:
                moved = data[:other] + data[start:end] + data[other_end:]
                assert reopen({name: moved}, LARGE) == REFUSED
