"""Entries kept for later, in memory or in their transaction's file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from storage_doubles import fragment

from storage import entries
from storage.fragments import FragmentChange
from storage.staging import SMALL_ENTRY_BYTES, MemoryBudget, StagedEntry, Staging


def entry(transaction_id: int, sequence: int, data: bytes) -> StagedEntry:
    return StagedEntry(transaction_id, 1, sequence + 1, sequence, frozenset(), len(data), data)


def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    budget = MemoryBudget(20_000)
    staging = Staging(tmp_path / "staging", budget)
    datas = [bytes([i]) * (SMALL_ENTRY_BYTES + 1 + i) for i in range(10)]
    kept = [staging.keep(entry(i % 2, i, data)) for i, data in enumerate(datas)]
    assert [e.data is None for e in kept] == [False] * 4 + [True] * 6
    assert budget.used_bytes <= budget.limit_bytes
    assert [buffer.to_pybytes() for buffer in staging.load(kept)] == datas
    loaded = staging.load([e for e in kept if e.transaction_id == 1])
    staging.drop(1)
    # What was loaded outlives the file.
    assert [buffer.to_pybytes() for buffer in loaded] == datas[1::2]
    staging.drop(1)
    staging.close()
    assert budget.used_bytes == 0
    assert list((tmp_path / "staging").iterdir()) == []


def test_what_an_earlier_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "5.staged").write_bytes(b"old")
    Staging(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_small_entries_stay_in_memory_whatever_the_budget(tmp_path: Path) -> None:
    staging = Staging(tmp_path, MemoryBudget(0))
    assert staging.keep(entry(1, 0, b"x" * SMALL_ENTRY_BYTES)).data is not None


def test_entries_are_read_without_copies_or_surprises() -> None:
    rows = pa.record_batch({"c1": pa.array([1, 2], pa.int64()), "c2": ["a", None]})
    keys = rows.select(["c1"])
    changes = [
        FragmentChange(12, keys, rows, True),
        FragmentChange(99, None, rows),  # of a fragment that is gone
        FragmentChange(12, None, rows.slice(1)),
        FragmentChange(12, keys.slice(0, 0), None),
    ]
    headers, bodies = entries.encode_changes(changes)
    data = entries.encode_entry(entries.Write(1, 2, 3, 0, headers), bodies)
    decoded, buffers = entries.decode_entry(data)
    assert decoded == entries.Write(1, 2, 3, 0, headers)
    schemas = {12: fragment()}
    back = entries.decode_changes(headers, buffers, schemas.get)
    assert [c.truncate for c in back] == [True, False, False]
    assert back[0].delete_keys is not None
    assert back[0].delete_keys.equals(keys)
    assert back[0].insert_rows is not None
    assert back[0].insert_rows.equals(rows)
    assert back[1].insert_rows is not None
    assert back[1].insert_rows.to_pylist() == [{"c1": 2, "c2": None}]
    assert back[2].delete_keys is None
    assert entries.decode_entry(entries.encode_entry(entries.Abort(5, True)))[0] == entries.Abort(
        5, True
    )
