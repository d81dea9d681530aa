"""The core keeps its promises over many seeds, and a seed is the whole bug report.

Replay a failing seed with the command it prints; see `raft_simulation` for what is checked.
"""

from __future__ import annotations

from collections import Counter

import pytest
from raft_simulation import Simulation, run_seed
from raft_worlds import WORLDS

SEEDS_A_BATCH = 30
BATCHES = 10  # 300 seeds

# Each of these must be met somewhere in the sweep, or the world has become too kind.
# A seed from which on each of them is met within a few.
FIRST_SEED = 240
RARE_PATHS = {
    "change of members",
    "confirmed read",
    "lease read",
    "lost a write",
    "restarted behind its log",
    "snapshot installed",
    "transfer",
}


def batches() -> list[object]:
    """`make check` runs the first two."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (n >= 2)) for n in range(BATCHES)]


@pytest.mark.parametrize("batch", batches())
def test_no_seed_breaks_a_promise(batch: int) -> None:
    for seed in range(batch * SEEDS_A_BATCH, (batch + 1) * SEEDS_A_BATCH):
        run_seed(seed)


def test_the_rare_paths_are_met() -> None:
    probes: Counter[str] = Counter()
    for seed, world in enumerate(list(WORLDS.values()) * 3, start=FIRST_SEED):
        probes.update(run_seed(seed, world).probes)
    assert set(probes) >= RARE_PATHS


def test_a_seed_replays_exactly() -> None:
    first, second = Simulation(5), Simulation(5)
    first.run()
    second.run()
    assert first.event_count == second.event_count
    assert first.committed == second.committed
    assert first.applied == second.applied


@pytest.mark.long
def test_thousands_of_seeds() -> None:
    for seed in range(10_000, 14_000):
        run_seed(seed)
