"""`dqe simulate`: whole clusters in this process, from seeds."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import typer

from cluster.probes import Probe
from dqe.simulation.errors import Violation
from dqe.simulation.log import simulated_logging
from dqe.simulation.run import WORKLOADS, Options, Report, simulate
from dqe.simulation.world import WORLDS


def run(
    seeds: range,
    minutes: float,
    workload: str,
    nodes: int,
    world: str | None,
    trace: Path | None,
    log: str,
) -> int:
    """Runs each seed; 1 when one found something, 2 for what cannot be run."""
    levels = logging.getLevelNamesMapping()
    wrong = (
        _unknown("workload", workload, WORKLOADS)
        or _unknown("world", world, WORLDS)
        or _unknown("log level", log.upper(), levels)
        or _unwritable(trace)
    )
    if wrong:
        typer.echo(wrong, err=True)
        return 2
    simulated_logging(levels[log.upper()])
    chosen = None if world is None else WORLDS[world]
    probes: Counter[Probe] = Counter()
    failed = simulated_s = cpu_s = 0.0
    for seed in seeds:
        report = _one(Options(seed, minutes, workload, nodes, chosen), trace)
        if report is None:
            failed += 1
            continue
        probes += report.probes
        simulated_s += report.simulated_s
        cpu_s += report.cpu_s
    typer.echo(f"{len(seeds) - failed:g} of {len(seeds)} seeds kept every promise")
    if cpu_s:
        typer.echo(
            f"{simulated_s:.0f} simulated seconds, {simulated_s / cpu_s:.1f} a second of CPU time"
        )
    for probe in Probe:
        typer.echo(f"{probes[probe]:8d}  {probe.value}")
    return 1 if failed else 0


def _unknown(kind: str, name: str | None, known: Collection[str]) -> str | None:
    if name is None or name in known:
        return None
    return f"no {kind} {name}; there are {', '.join(known)}"


def _unwritable(trace: Path | None) -> str | None:
    if trace is None:
        return None
    try:
        trace.open("w").close()
    except OSError as error:
        return f"the trace cannot be written: {error}"
    return None


def _one(options: Options, trace: Path | None) -> Report | None:
    try:
        if trace is None:
            report = simulate(options)
        else:
            with trace.open("w") as out:
                report = simulate(replace(options, trace=out))
    except Violation as error:
        typer.echo(f"seed {options.seed} FAILED: {error}")
        return None
    numbers = ", ".join(f"{count} {name}" for name, count in report.summary.items())
    typer.echo(
        f"seed {report.seed} {report.digest} {report.simulated_s:.0f} s in {report.cpu_s:.1f} s:"
        f" {numbers}"
    )
    return report
