"""What tablets cost that nobody uses: CPU and memory of three nodes, before and with them.

    python -m benchmarks.idle_tablets [--tablets 1000] [--settle 60] [--window 30] [--json FILE]

It starts the nodes itself. Every tablet has three replicas, so each node holds N and leads a third
of them. They are measured when they have just been made, and again after all nodes were restarted,
when nobody has touched them since: what DuckDB keeps of a file that it has written is gone then.
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


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the three nodes, each: percent of a core, and resident memory."""

    cpu_percent: tuple[float, ...]
    memory_mib: tuple[int, ...]


def cost(cluster: LocalCluster, settle_s: float, window_s: float) -> Cost:
    """What the nodes use over a window of time, once they have come to rest."""
    time.sleep(settle_s)
    before_s, before = time.monotonic(), _cpu_s(cluster)
    time.sleep(window_s)
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tablets", type=int, default=1000)
    parser.add_argument("--settle", type=float, default=60, help="seconds, for checkpoints")
    parser.add_argument("--window", type=float, default=30, help="seconds")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    times = (arguments.settle, arguments.window)
    measured: dict[str, Cost] = {}
    with (
        tempfile.TemporaryDirectory(prefix="dqe-idle-") as directory,
        LocalCluster(3, Path(directory)) as cluster,
    ):
        measured["no tablets"] = cost(cluster, *times)
        began_s = time.monotonic()
        made = make_tablets(cluster.url, arguments.tablets)
        print(f"{made} tablets were made in {time.monotonic() - began_s:.0f} s", flush=True)
        measured[f"{made} tablets"] = cost(cluster, *times)
        began_s = time.monotonic()
        cluster.restart()
        print(f"all nodes were back after {time.monotonic() - began_s:.0f} s", flush=True)
        measured[f"{made} tablets, after a restart"] = cost(cluster, *times)
    for words, found in measured.items():
        print(f"{words}: CPU {found.cpu_percent} %, memory {found.memory_mib} MiB a node")
    if arguments.json is not None:
        results = {words: _as_json(found) for words, found in measured.items()}
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def _as_json(measured: Cost) -> dict[str, list[float]]:
    return {
        "cpu_percent": list(measured.cpu_percent),
        "memory_mib": [float(mib) for mib in measured.memory_mib],
    }


if __name__ == "__main__":
    main()
