"""All functions and operators, gathered once from their families."""

from __future__ import annotations

from planner.functions import Catalogue
from planner.semantics import aggregates, numbers, sets, strings, times, windows

FAMILIES = (numbers, strings, times, aggregates, sets, windows)


def _gathered() -> Catalogue:
    catalogue = Catalogue()
    for family in FAMILIES:
        family.register(catalogue)
    return catalogue


CATALOGUE = _gathered()
