"""Whole clusters under faults from seeds, and that a seed is always the same run.

A failure's message ends with the command that replays it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from dqe.simulation.run import WORKLOADS, Options, simulate


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("seed", range(1, 4))
def test_every_promise_is_kept(seed: int, workload: str) -> None:
    report = simulate(Options(seed, 0.5, workload))
    assert report.summary["replicas compared"] > 3


@pytest.mark.slow
def test_a_seed_is_the_same_run_to_the_byte() -> None:
    # In processes whose strings, and so whose sets, hash differently.
    digests = [_digest_with_hash_seed(hash_seed) for hash_seed in ("0", "1")]
    assert digests[0] == digests[1]


def _digest_with_hash_seed(hash_seed: str) -> str:
    program = (
        "from dqe.simulation.run import Options, simulate\nprint(simulate(Options(3, 0.3)).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
