"""The simulation of clusters is worth its seeds: planted bugs are seen.

A bug that gets through all its seeds fails the test: then the worlds have become too kind.
"""

from __future__ import annotations

import pytest
from planted_bugs import CLUSTER_BUGS, Planted

from dqe.simulation.errors import Violation
from dqe.simulation.run import Options, simulate
from dqe.simulation.world import WORLDS

MAX_SEEDS = 12


def seeds_needed(bug: Planted) -> tuple[int, str]:
    """How many seeds it took to see the bug, which is planted, and what was seen."""
    for seed in range(1, MAX_SEEDS + 1):
        try:
            simulate(Options(seed, bug.minutes, bug.workload, bug.nodes, world=WORLDS[bug.world]))
        except Violation as violation:
            return seed, str(violation)
    pytest.fail(f"{bug.plant.__name__} went unseen through {MAX_SEEDS} seeds")


@pytest.mark.slow
@pytest.mark.parametrize("bug", CLUSTER_BUGS, ids=[bug.plant.__name__ for bug in CLUSTER_BUGS])
def test_a_planted_bug_is_seen(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    seed, seen = seeds_needed(bug)
    print(f"{bug.plant.__name__}: seed {seed}: {seen.splitlines()[0]}")
