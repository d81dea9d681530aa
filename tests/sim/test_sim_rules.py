"""Each rule of transactions is missed when it is left out: its plant is seen by the simulation.

A plant that gets through all its seeds fails the test: then the worlds have become too kind.
"""

from __future__ import annotations

import pytest
from rule_plants import RULES, Patch, Planted, closed_ahead
from rule_plants_more import home_always_aborts
from tablet_simulation import WORLDS, run_seed

from dqe.simulation.errors import Violation

MAX_SEEDS = 40


def parameters() -> list[object]:
    """The plants, those seldom seen among the long tests."""
    return [
        pytest.param(
            planted,
            id=planted.name,
            marks=pytest.mark.long if planted.is_rare else pytest.mark.slow,
        )
        for planted in RULES
    ]


@pytest.mark.parametrize("planted", parameters())
def test_a_rule_left_out_is_missed(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.plant(monkeypatch)
    for seed in range(1, MAX_SEEDS + 1):
        try:
            run_seed(seed, WORLDS[planted.world])
        except Violation as violation:
            print(f"{planted.name}: seed {seed}: {str(violation).splitlines()[0]}")
            return
    pytest.fail(f"{planted.name} went unseen through {MAX_SEEDS} seeds")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("allowed", "world"), [(closed_ahead, "followers"), (home_always_aborts, "in doubt")]
)
def test_what_a_rule_allows_harms_nobody(
    allowed: Patch, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rules are left out beside something that is right only because of them."""
    allowed(monkeypatch)
    run_seed(1, WORLDS[world])
