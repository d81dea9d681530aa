"""All functions and operators, gathered once from their families."""

from __future__ import annotations

from planner.functions import Catalogue
from planner.semantics import (
    aggregates,
    arrays,
    characters,
    jsonb,
    numbers,
    relation_names,
    sets,
    strings,
    system,
    system_constants,
    times,
    windows,
)

FAMILIES = (
    numbers,
    strings,
    characters,
    times,
    arrays,
    jsonb,
    aggregates,
    windows,
    sets,
    system,
    system_constants,
    relation_names,
)


def _gathered() -> Catalogue:
    catalogue = Catalogue()
    for family in FAMILIES:
        family.register(catalogue)
    return catalogue


CATALOGUE = _gathered()
