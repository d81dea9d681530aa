"""A tablet alone: commits, unique keys, locks, reads at any time, restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from storage_doubles import Bench, delete, fragment, insert, rows, run, update

from cluster.errors import (
    CannotConnectNow,
    LockNotAvailable,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    StatementCompletionUnknown,
    UniqueViolation,
)
from cluster.runtime import ProductionRuntime
from storage.fragments import FragmentChange


def test_rows_appear_at_their_commit_and_the_past_stays(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        before = bench.oracle.now()
        first = await bench.write(tablet, insert((1, "a"), (2, "b")))
        second = await bench.write(tablet, update((1, "A")), delete(2))
        third = await bench.write(tablet, FragmentChange(12, truncate=True), insert((9, "z")))
        assert await bench.read(tablet, before) == []
        assert await bench.read(tablet, first) == [(1, "a"), (2, "b")]
        assert await bench.read(tablet, second) == [(1, "A")]
        assert await bench.read(tablet, third) == [(9, "z")]
        assert await bench.read(tablet) == [(9, "z")]
        await bench.close()

    run(main)
