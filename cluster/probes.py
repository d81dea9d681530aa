"""Marks at rare paths, so that a sweep of simulations can show that it went there.

A simulation that never cut a torn tail has said nothing of cutting torn tails. Each rare path
has a name here, with the sentence that a report shows; code says `reached(Probe.X)` there. In
a running node that is one comparison; a simulation installs a counter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class Probe(Enum):
    """A rare path; the value says what happened."""

    STORE_REOPENED_BEHIND_CHECKPOINT = "a store reopened behind its last checkpoint"


_counter: Counter[Probe] | None = None


def reached(probe: Probe) -> None:
    """The path was taken."""
    if _counter is not None:
        _counter[probe] += 1


@contextmanager
def counting() -> Iterator[Counter[Probe]]:
    """Counts for the length of the block."""
    global _counter
    before, counter = _counter, Counter[Probe]()
    _counter = counter
    try:
        yield counter
    finally:
        _counter = before
