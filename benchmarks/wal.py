"""Appends a second and their latency on the disk this runs on.

`python -m benchmarks.wal [--directory DIR] [--json FILE]`: batches of one small entry and of
64, synced in place and on the log's thread, then the time to open what was written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from cluster.raft.log import Entry, EntryKind, GroupWrite, HardState
from cluster.runtime import ProductionRuntime, run_production
from storage.wal import WalSettings, WriteAheadLog

APPENDS = 1000
DATA = bytes(200)


def _batch(start: int, count: int) -> list[GroupWrite]:
    return [
        GroupWrite(group_id, HardState(1, 1, start), [Entry(1, start, EntryKind.COMMAND, DATA)])
        for group_id in range(1, count + 1)
    ]


async def _appends(
    runtime: ProductionRuntime, directory: str, groups: int, inline_sync_s: float
) -> dict[str, float]:
    settings = WalSettings(inline_sync_s=inline_sync_s)
    log = await WriteAheadLog.open(directory, runtime, settings=settings)
    times = []
    for index in range(1, APPENDS + 1):
        batch = _batch(index, groups)
        start = time.perf_counter()
        await log.append(batch)
        times.append(time.perf_counter() - start)
    await log.close()
    return {
        "median us": statistics.median(times) * 1e6,
        "p99 us": sorted(times)[-APPENDS // 100] * 1e6,
        "entries/s": APPENDS * groups / sum(times),
    }


async def _open(runtime: ProductionRuntime, directory: str) -> dict[str, float]:
    start = time.perf_counter()
    log = await WriteAheadLog.open(directory, runtime)
    count = sum(sum(1 for _ in image.entries) for image in log.load().values())
    took_s = time.perf_counter() - start
    size = log.size_bytes
    await log.close()
    return {"ms": took_s * 1e3, "entries/s": count / took_s, "MB": size / 1e6}


def measure(parent: Path | None) -> dict[str, dict[str, float]]:
    """All measures, each on a fresh log."""
    results: dict[str, dict[str, float]] = {}

    async def main(runtime: ProductionRuntime) -> None:
        for groups in (1, 64):
            for name, limit_s in (("in place", 1.0), ("on the thread", 0.0)):
                with tempfile.TemporaryDirectory(dir=parent) as directory:
                    key = f"append of {groups}, {name}"
                    results[key] = await _appends(runtime, directory, groups, limit_s)
                    results[f"open after {key}"] = await _open(runtime, directory)

    run_production(main)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    measured = measure(arguments.directory)
    for name, values in measured.items():
        row = "  ".join(f"{value:10,.0f} {unit}" for unit, value in values.items())
        print(f"{name:40} {row}")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1))
