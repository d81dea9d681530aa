"""Timing, tables and JSON, the same for every benchmark."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


def median_s(work: Callable[[], object], runs: int, warm_up: int = 1) -> float:
    """Median wall time of `runs` calls after `warm_up` uncounted ones, in seconds."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def spent_s(pids: Sequence[int]) -> float:
    """Processor time of these processes so far, to a hundredth of a second each."""
    total = 0
    for pid in pids:
        # Behind the name, which may hold anything: utime and stime are the 14th and 15th field.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(v) for v in values) / len(values))


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, show_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=max(100, Console().width)).print(table)


def write_json(name: str, content: dict[str, Any]) -> Path:
    """`benchmarks/results/<name>.json`, with the machine's cores beside the figures."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"cores": os.cpu_count(), **content}, indent=2) + "\n")
    return path
