"""What tablets cost that nobody uses: CPU and memory of three nodes, before and with them.

`python -m benchmarks.idle_tablets [--tablets N] [--json FILE]` starts the nodes itself. Every
tablet has three replicas, so each node holds N and leads a third of them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from dqe.local_cluster import LocalCluster

PARTS_A_TABLE = 50
SETTLE_S = 90.0  # checkpoints of what was just made
WINDOW_S = 30.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the three nodes, each: percent of a core, and resident memory."""

    cpu_percent: tuple[float, ...]
    memory_mib: tuple[int, ...]


def cost(cluster: LocalCluster) -> Cost:
    """What the nodes use over a window of time."""
    before_s, before = time.monotonic(), _cpu_s(cluster)
    time.sleep(WINDOW_S)
    elapsed_s = time.monotonic() - before_s
    used = [after - b for after, b in zip(_cpu_s(cluster), before, strict=True)]
    return Cost(
        tuple(round(100 * seconds / elapsed_s, 1) for seconds in used),
        tuple(_resident_mib(pid) for pid in _pids(cluster)),
    )


def _pids(cluster: LocalCluster) -> list[int]:
    return [node.process.pid for node in cluster.nodes if node.process is not None]


def _cpu_s(cluster: LocalCluster) -> list[float]:
    ticks = os.sysconf("SC_CLK_TCK")
    found = []
    for pid in _pids(cluster):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        found.append((int(fields[11]) + int(fields[12])) / ticks)
    return found


def _resident_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def make_tablets(url: str, count: int) -> int:
    """Makes tables until there are so many tablets; how many there are."""
    with psycopg.connect(url, autocommit=True) as session:
        made, number = 0, 0
        while made < count:
            number += 1
            # Tables cut alike would share tablets.
            parts = min(PARTS_A_TABLE - number, count - made)
            session.execute(
                f"CREATE TABLE t{number} (k bigint PRIMARY KEY, v int)"
                f" PARTITION BY HASH (k) PARTITIONS {parts}".encode()
            )
            row = session.execute("SELECT count(*) FROM dqe.tablets").fetchone()
            assert row is not None
            made = int(row[0])
    return made


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tablets", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalCluster(3, Path(directory)) as cluster,
    ):
        time.sleep(SETTLE_S)
        empty = cost(cluster)
        made = make_tablets(cluster.url, arguments.tablets)
        time.sleep(SETTLE_S)
        idle = cost(cluster)
    for words, measured in (("no tablets", empty), (f"{made} tablets", idle)):
        print(f"{words}: CPU {measured.cpu_percent} %, memory {measured.memory_mib} MiB a node")
    if arguments.json is not None:
        results = {"tablets": made, "empty": _as_json(empty), "idle": _as_json(idle)}
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def _as_json(measured: Cost) -> dict[str, list[float]]:
    return {
        "cpu_percent": list(measured.cpu_percent),
        "memory_mib": [float(mib) for mib in measured.memory_mib],
    }


if __name__ == "__main__":
    main()
