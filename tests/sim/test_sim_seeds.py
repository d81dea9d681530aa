"""Whole clusters under faults from seeds, and that a seed is always the same run.

A failure's message ends with the command that replays it. `make long` runs hours of simulated
time, and asks that every probe was reached.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections import Counter

import pytest
from typer.testing import CliRunner

from cluster.probes import Probe
from dqe.cli import app
from dqe.simulation.run import WORKLOADS, Options, simulate
from dqe.simulation.world import DRAWN, WORLDS

# World, workload, seeds.
SHORT_SWEEP = (
    ("power cuts", "registers", (1,)),
    ("torn tails", "sets", (1, 2)),
    ("cut off", "counters", (1,)),
    ("left behind", "bank", (1,)),
    ("full disks", "sets", (1,)),
)
# Each with all workloads.
LONG_SEEDS = 12
SOON_REACHED = {
    Probe.TORN_TAIL_CUT,
    Probe.LEADER_DEPOSED,
    Probe.LOG_COMPACTED,
    Probe.READ_WAITED,
}


@pytest.mark.slow
def test_every_promise_is_kept_in_every_world() -> None:
    probes: Counter[Probe] = Counter()
    for world, workload, seeds in SHORT_SWEEP:
        for seed in seeds:
            report = simulate(Options(seed, 0.15, workload, world=WORLDS[world]))
            assert report.summary["replicas compared"] >= 3
            probes += report.probes
    assert {world for world, _, _ in SHORT_SWEEP} == set(DRAWN)
    assert set(probes) >= SOON_REACHED


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_promise_is_kept_in_a_world_of_the_seed(workload: str) -> None:
    simulate(Options(1, 0.1, workload))


def test_a_failure_names_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def run(*arguments: object) -> int:
        asked.append(arguments)
        return 0

    monkeypatch.setattr("dqe.commands.simulate.run", run)
    options = Options(3, 0.25, "sets", 5, WORLDS["cut off"])
    program, *arguments = shlex.split(options.command)
    assert program == "dqe"
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert asked == [(range(3, 4), 0.25, "sets", 5, "cut off", None, "critical")]


@pytest.mark.parametrize(
    "nonsense",
    [["--workload", "none"], ["--world", "none"], ["--log", "none"], ["--trace", "/none/none"]],
)
def test_what_cannot_be_run_is_refused(nonsense: list[str]) -> None:
    refused = CliRunner().invoke(app, ["simulate", *nonsense])
    assert refused.exit_code == 2
    assert "none" in refused.stderr.lower()


@pytest.mark.slow
def test_a_seed_is_the_same_run_to_the_byte() -> None:
    # In processes whose strings, and so whose sets, hash differently.
    digests = [_digest_with_hash_seed(hash_seed) for hash_seed in ("0", "1")]
    assert digests[0] == digests[1]


def _digest_with_hash_seed(hash_seed: str) -> str:
    program = (
        "from dqe.simulation.run import Options, simulate\n"
        "print(simulate(Options(3, 0.1, 'transfers')).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.long
def test_a_long_sweep_keeps_every_promise_and_reaches_every_probe() -> None:
    probes: Counter[Probe] = Counter()
    for seed in range(1, LONG_SEEDS + 1):
        for workload in WORKLOADS:
            probes += simulate(Options(seed, 2.0, workload, nodes=3 + 2 * (seed % 2))).probes
    for world in WORLDS.values():
        for workload in ("sets", "transfers", "lists"):
            probes += simulate(Options(1, 1.0, workload, 5, world)).probes
    for seed in (1, 3):  # replicas that restart behind their own log are rare even there
        probes += simulate(Options(seed, 0.5, "sets", world=WORLDS["half taken in"])).probes
    assert [probe for probe in Probe if not probes[probe]] == []


@pytest.mark.long
@pytest.mark.parametrize("workload", ["sets", "transfers"])
def test_machines_come_back_as_new_nodes(workload: str) -> None:
    for seed in range(1, 6):
        simulate(Options(seed, 1.0, workload, 5, WORLDS["wiped"]))
