"""The simulation of clusters is worth its seeds: planted bugs are seen.

A bug that gets through all its seeds fails the test: then the worlds have become too kind.
"""

from __future__ import annotations

import pytest
from planted_bugs import CLUSTER_BUGS, Planted

from dqe.simulation.errors import Violation
from dqe.simulation.run import Options, simulate
from dqe.simulation.world import WORLDS

MAX_SEEDS = 15


def parameters() -> list[object]:
    """The bugs, those seldom seen among the long tests."""
    return [
        pytest.param(
            bug,
            id=bug.plant.__name__,
            marks=pytest.mark.long if bug.is_rare else pytest.mark.slow,
        )
        for bug in CLUSTER_BUGS
    ]


@pytest.mark.parametrize("bug", parameters())
def test_a_planted_bug_is_seen(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    for seed in range(1, MAX_SEEDS + 1):
        options = Options(seed, bug.minutes, bug.workload, bug.nodes, WORLDS[bug.world])
        try:
            simulate(options)
        except Violation as violation:
            print(f"{bug.plant.__name__}: seed {seed}: {str(violation).splitlines()[0]}")
            return
    pytest.fail(f"{bug.plant.__name__} went unseen through {MAX_SEEDS} seeds")
