"""Row stores on real files: killed processes, and log files that a power cut left torn.

What is reopened is the state as of some log entry, whole, not before what was promised to be
durable; and replaying the log from there ends where it would have ended.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from row_crash_child import changes, entry
from storage_doubles import Twin

from storage.row_files import wal_path
from storage.row_store import RowStore

ROOT = Path(__file__).parents[2]
CHILD = ROOT / "tests/storage/row_crash_child.py"
LAST = 200


def wanted(index: int, timestamp: int | None = None) -> list[tuple[int, str | None]]:
    """The rows as of a log entry."""
    twin = Twin()
    for i in range(2, index + 1):
        twin.commit(i, changes(i))
    return twin.at(index if timestamp is None else timestamp)


def rows(store: RowStore, timestamp: int) -> list[Any]:
    tables = store.tables(12)
    return sorted((tables.decode_row(row) for row in store.scan(12, timestamp)), key=repr)


def check(path: Path, at_least: int, last: int) -> int:
    """Opens the store, compares it with the log's prefix, replays; where it was reopened."""
    store = RowStore(7, path)
    index = store.position.applied_index
    assert at_least <= index <= last
    if index:
        assert rows(store, index) == wanted(index)
        earlier = max(index - 5, 1)
        assert rows(store, earlier) == wanted(index, earlier)
        saved = store.image_index
        assert store.image == (f"image {saved}".encode() if saved else b"")
        store.verify()
    for i in range(index + 1, last + 1):
        store.apply([entry(i)], i)
    assert rows(store, last) == wanted(last)
    store.close()
    return index


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 5])
def test_a_killed_process_loses_nothing_it_settled(tmp_path: Path, together: int) -> None:
    chance = random.Random(7)
    path = tmp_path / "7.rows"
    acknowledged = 0
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, str(CHILD), str(path), str(LAST), str(together)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/storage'}"},
        )
        assert child.stdout is not None
        for _ in range(chance.randrange(5, 50) // together + 1):
            line = child.stdout.readline()
            if not line:
                break
            acknowledged = max(acknowledged, int(line))
        child.kill()
        child.wait()
        child.stdout.close()
        copy = tmp_path / "copy.rows"
        for name in (path, wal_path(path)):
            if name.exists():
                shutil.copy(name, copy.with_name(name.name.replace(path.name, copy.name)))
        check(copy, acknowledged, LAST)
        for name in tmp_path.glob("copy.rows*"):
            name.unlink()
    assert acknowledged > 50


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, int, int, int]:
    """A store's two files with a synced part and more behind it: files, length synced, the
    index synced, the last index."""
    path = tmp_path_factory.mktemp("torn") / "7.rows"
    store = RowStore(7, path)
    for index in range(1, 40):
        store.apply([entry(index)], index)
    store.checkpoint(b"image 30", 30)
    store.copy_back()
    for index in range(40, 60):
        store.apply([entry(index)], index)
    store.checkpoint(b"image 59", 59)
    synced = wal_path(path).stat().st_size
    for index in range(60, 90):
        store.apply([entry(index)], index)
    files = path.read_bytes(), wal_path(path).read_bytes()
    store.close()
    return (*files, synced, 59, 89)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "flipped", "zeroed"])
def test_a_power_cut_leaves_a_prefix(
    tmp_path: Path, torn: tuple[bytes, bytes, int, int, int], damage: str
) -> None:
    main, log, synced, durable, last = torn
    chance = random.Random(damage)
    path = tmp_path / "7.rows"
    reopened = set()
    for _ in range(12):
        place = chance.randrange(synced, len(log))
        if damage == "truncated":
            left = log[:place]
        elif damage == "flipped":
            left = log[:place] + bytes([log[place] ^ (1 << chance.randrange(8))]) + log[place + 1 :]
        else:
            length = min(chance.randrange(1, 20_000), len(log) - place)
            left = log[:place] + bytes(length) + log[place + length :]
        path.write_bytes(main)
        wal_path(path).write_bytes(left)
        reopened.add(check(path, durable, last))
        for name in tmp_path.iterdir():
            name.unlink()
    assert len(reopened) > 3  # the damage did take entries away
    assert min(reopened) < last
